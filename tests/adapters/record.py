"""Records what the parsers are tested on: answers of a real cluster, trimmed. `python -m tests.adapters.record` does it anew."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from tests.cluster import Cluster, up

RECORDED = Path(__file__).parent / "recorded"
ROOT = Path(__file__).parents[2]
NAMESPACE = "recorded"
HOST = f"product-page-svc.{NAMESPACE}.svc.cluster.local"
QUICK: dict[str, Any] = {
    "productionDeployment": {"replicaCount": 2, "image": {"repository": "localhost/cli-app"}},
    "canaryDeployment": {"image": {"repository": "localhost/cli-app"}},
    "gateway": {"mesh": False, "hosts": ["recorded.example.com"]},
    "pod": {
        "preStopSleepSeconds": 0,
        "livenessProbe": None,
        "readinessProbe": {"periodSeconds": 1},
        "resources": {"requests": {"cpu": 0.05, "memory": "0.0625Gi"}, "limits": {"cpu": 1, "memory": "256Mi"}},
        "env": {"A": "1", "VERSION": "1.2.3", "FLAG": True},
        "securityContext": {"fsGroup": 1000650000},
    },
}


def save(name: str, content: object) -> None:
    path = RECORDED / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(f"{path.stat().st_size:>8} {name}")


class Recorder:
    """One namespace of the cluster; every method that has a `name` saves what it reads under it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.values = cluster, folder / "values.json"
        self.values.write_text(json.dumps(QUICK))

    def program(self, *words: str) -> None:
        place: tuple[str, ...] = ("--release", "productpage", "--namespace", NAMESPACE, "--drain", "1s")
        chart = ("--chart", str(ROOT / "charts/productpage"), "--values", str(self.values))
        command = (sys.executable, "-m", "helm_canary", words[0], *place, *chart, *words[1:])
        self.cluster.run(*command, timeout_s=120, env={"PYTHONPATH": str(ROOT / "src")})

    def helm(self, *words: str) -> None:
        place = ("--namespace", NAMESPACE, "--values", str(self.values))
        self.cluster.run(
            words[0], "upgrade", "--install", "productpage", ROOT / "charts/productpage", *place, *words[1:]
        )

    def kubectl(self, *words: str, check: bool = True) -> str:
        return self.cluster.kubectl("--namespace", NAMESPACE, *words, check=check)

    def objects(self, name: str, *kinds: str) -> None:
        """Objects as `Cluster.read` gets them."""
        wanted = ",".join(kinds)
        save(
            name, cast("dict[str, Any]", json.loads(self.kubectl("get", wanted, "-o", "json", "--show-managed-fields")))
        )

    def manifest(self, name: str) -> None:
        """What helm rendered for the newest revision."""
        self.cluster.run("true")
        save(name, self.cluster.run("helm", "get", "manifest", "productpage", "--namespace", NAMESPACE).stdout)

    def gateway(self, name: str) -> None:
        """Routes and clusters of one gateway, each with the lines that stand before the answer."""
        pods = self.cluster.kubectl(
            "-n", "istio-system", "get", "pods", "-l", "istio=ingressgateway", "-o", "name"
        ).split()
        ask = ("-n", "istio-system", "exec", pods[0], "-c", "istio-proxy", "--", "pilot-agent", "request", "GET")
        routes = self.cluster.kubectl(*ask, "config_dump?resource=dynamic_route_configs")
        clusters = self.cluster.kubectl(*ask, "clusters?format=json")
        save(f"routes-{name}.txt", _trimmed(routes, _only_our_routes))
        save(f"clusters-{name}.txt", _trimmed(clusters, _only_our_clusters))

    def secrets(self, name: str) -> None:
        save(name, json.loads(self.kubectl("get", "secrets", "-l", "owner=helm,name=small", "-o", "json")))


def _trimmed(text: str, trim: Any) -> str:
    at = text.index("\n{") + 1 if not text.startswith("{") else 0
    answer = json.loads(text[at:])
    trim(answer)
    return text[:at] + json.dumps(answer, indent=1) + "\n"


def _only_our_routes(answer: dict[str, Any]) -> None:
    for config in answer["configs"]:
        hosts = config["route_config"].get("virtual_hosts", [])
        config["route_config"]["virtual_hosts"] = [host for host in hosts if "recorded" in json.dumps(host["domains"])]


def _only_our_clusters(answer: dict[str, Any]) -> None:
    others = ("BlackHoleCluster", "prometheus_stats", f"outbound|9080||{HOST}")
    answer["cluster_statuses"] = [
        status
        for status in answer["cluster_statuses"]
        if status["name"] in others or status["name"].endswith(f"|{HOST}")
    ]


def main() -> None:
    cluster = up()
    for tag in ("83", "84"):
        cluster.image(f"localhost/cli-app:{tag}", START_DELAY_MS="0")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout_s=120)
    cluster.kubectl("create", "namespace", NAMESPACE)
    RECORDED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        _record(Recorder(cluster, Path(folder)), Path(folder))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _record(recorder: Recorder, folder: Path) -> None:
    kinds = ("deployments", "services", "virtualservices", "destinationrules", "gateways.networking.istio.io")
    recorder.program("stage", "1", "--tag", "83")
    recorder.gateway("100-0")
    recorder.objects("steady.json", *kinds)
    recorder.manifest("steady.yaml")
    recorder.program("stage", "2", "--tag", "84", "--set", "pod.env.A=null,pod.env.B=2")
    recorder.gateway("90-10")
    recorder.objects("canary-10.json", *kinds)
    recorder.manifest("canary-10.yaml")
    recorder.kubectl("rollout", "restart", "deployment/productpage")
    recorder.objects("restarted.json", "deployments")
    recorder.kubectl("set", "env", "deployment/productpage", "A-")
    recorder.objects("variable-removed.json", "deployments")
    recorder.kubectl("set", "env", "deployment/productpage", "A=1", "INJECTED=yes")
    recorder.objects("variable-added.json", "deployments")
    recorder.kubectl("set", "image", "deployment/productpage", "productpage=localhost/cli-app:84")
    recorder.objects("image-edited.json", "deployments")
    recorder.cluster.run("helm", "uninstall", "productpage", "--namespace", NAMESPACE)
    recorder.kubectl("wait", "--for=delete", "pods", "--all", "--timeout=60s", check=False)
    _record_helm_3(recorder)
    _record_storage(recorder, folder)


def _record_helm_3(recorder: Recorder) -> None:
    tags = "productionDeployment.image.tag=83,canaryDeployment.image.tag=83"
    recorder.helm("helm3", "--set-string", tags)
    recorder.objects("helm-3.json", "deployments", "virtualservices")
    recorder.manifest("helm-3.yaml")
    recorder.cluster.run("helm", "uninstall", "productpage", "--namespace", NAMESPACE)


def _record_storage(recorder: Recorder, folder: Path) -> None:
    """Two good revisions and one that failed, of a chart small enough to keep."""
    from tests.cli.charts import write_chart

    chart = write_chart(folder / "small")
    place = ("--namespace", NAMESPACE, "--server-side=true")
    for values in ("productionDeployment.image.tag=83", "productionDeployment.image.tag=84"):
        recorder.cluster.run("helm", "upgrade", "--install", "small", chart, *place, "--set-string", values)
    recorder.cluster.run(
        "helm", "upgrade", "small", chart, *place, "--set-string", "productionDeployment.weight=ninety", check=False
    )
    recorder.secrets("storage.json")


if __name__ == "__main__":
    main()
