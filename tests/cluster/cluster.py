"""Bringing the cluster up and using it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import binaries, configuration, daemons, images, network, packages, shell, teardown
from .places import GATEWAY_ADDRESS, GATEWAYS, NETNS, VOLATILE, Places, places
from .shell import ClusterError, locked, say

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping

PROGRAMS = (
    *("helm", "kubectl", "helm3", "envoy", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"),
    *("kube-proxy", "etcd", "pilot-discovery", "pilot-agent", "app", "load", "istio-validate"),
)
FILES = ("istio-crds.yaml", "envoy-bootstrap.json")
UP = "python -m tests.cluster up"
UP_LIMIT_S = 600
GATEWAY_LIMIT_S = 120
DEPLOYMENT = "deployment/istio-ingressgateway"


@dataclass(frozen=True)
class Cluster:
    """A running cluster. What must talk to it has to run inside its network: see `run` and `command`."""

    kubeconfig: Path
    netns: str
    bin: Path
    gateway_address: str = GATEWAY_ADDRESS

    def environment(self) -> dict[str, str]:
        """For a process that is started with `command`."""
        return daemons.environment(places())

    def command(self, *argv: str | Path) -> list[str]:
        """The same command, inside the cluster's network; start it with `environment()`."""
        return network.inside(*argv)

    def run(
        self,
        *argv: str | Path,
        timeout_s: float = 60,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end inside the cluster's network; `env` is added to `environment()`."""
        whole = {**self.environment(), **(env or {})}
        return shell.run(*self.command(*argv), timeout_s=timeout_s, check=check, stdin=stdin, env=whole)

    def kubectl(self, *argv: str | Path, timeout_s: float = 60, check: bool = True, stdin: str | None = None) -> str:
        """What kubectl prints."""
        return self.run("kubectl", *argv, timeout_s=timeout_s, check=check, stdin=stdin).stdout

    def image(self, reference: str, **env: str) -> None:
        """Make an image of app/ whose version is its tag; `env` are its settings (START_DELAY_MS="500", ...)."""
        content: dict[str, Path | bytes] = {"app": self.bin / "app", "version": images.tag_of(reference).encode()}
        images.load(places(), reference, content, ["/app"], env=env, user=images.NOBODY)

    def scale_gateways(self, number: int) -> None:
        """Returns when that many are Ready and those on their way out are gone."""
        self.kubectl("-n", "istio-system", "scale", DEPLOYMENT, f"--replicas={number}")
        limit = f"--timeout={GATEWAY_LIMIT_S}s"
        self.kubectl("-n", "istio-system", "rollout", "status", DEPLOYMENT, limit, timeout_s=GATEWAY_LIMIT_S + 10)
        pods = json.loads(self.kubectl("-n", "istio-system", "get", "pods", "-l", "istio=ingressgateway", "-o", "json"))
        leaving = [f"pod/{pod['metadata']['name']}" for pod in pods["items"] if "deletionTimestamp" in pod["metadata"]]
        if leaving:
            wait = ("wait", "--for=delete", limit, *leaving)
            self.kubectl("-n", "istio-system", *wait, timeout_s=GATEWAY_LIMIT_S + 10, check=False)

    def stop_daemon(self, name: str) -> None:
        """End a part of the cluster, for a test of what happens then; pods run on."""
        daemons.stop(places(), [_daemons()[name].name])

    def start_daemon(self, name: str) -> None:
        """Start it again; returns when it serves."""
        daemon = _daemons()[name]
        daemons.start(places(), daemon)
        daemons.wait_ready(places(), daemon)


def up() -> Cluster:
    """The running cluster; started, or repaired, where it is not."""
    packages.require()
    where = places()
    with locked(where.home / "lock" / "up", "bringing the cluster up or down", UP_LIMIT_S + binaries.COMPILE_LIMIT_S):
        _refuse_another_home(where)
        binaries.ensure(*PROGRAMS, *FILES)
        cluster = Cluster(where.kubeconfig, NETNS, where.bin)
        if teardown.anything_left(where) and not _same_boot(where):
            say("clearing what an earlier boot or an unfinished start left")
            teardown.clear(where)
        if _serving(cluster):
            return cluster
        say("starting the cluster (about 10 s)")
        _start(cluster, where)
    return cluster


def attach() -> Cluster:
    """The cluster as it is, with whatever is dead in it left dead."""
    where = places()
    if not where.kubeconfig.exists() or not network.mounted():
        raise ClusterError(
            "the cluster is down", "it was not started since the last boot", "python -m tests.cluster up"
        )
    return Cluster(where.kubeconfig, NETNS, where.bin)


def down() -> None:
    where = places()
    with locked(where.home / "lock" / "up", "bringing the cluster up or down", UP_LIMIT_S):
        _refuse_another_home(where)
        teardown.clear(where)


def status() -> tuple[bool, str]:
    """Does all of it run, and a line on each part."""
    where = places()
    if not where.kubeconfig.exists() or not network.mounted():
        return False, "the cluster is down"
    parts = {name: daemons.alive(where, daemon) for name, daemon in _daemons().items()}
    cluster = Cluster(where.kubeconfig, NETNS, where.bin)
    wanted, ready = _gateways(cluster)
    lines = [f"{name:12} {'runs' if runs else 'DEAD'}" for name, runs in parts.items()]
    lines += [
        f"{'gateways':12} {ready} of {wanted} ready at {cluster.gateway_address}",
        f"KUBECONFIG={where.kubeconfig}",
    ]
    return all(parts.values()) and ready == wanted > 0, "\n".join(lines)


def _daemons() -> dict[str, daemons.Daemon]:
    where = places()
    configured = configuration.files(where, _cni(), _snapshotter(where))
    stamp = hashlib.sha256(json.dumps(configured).encode()).hexdigest()[:16]
    return daemons.daemons(where, binaries.ensure(*PROGRAMS), stamp)


def _cni() -> Path:
    return packages.cni_folder() or packages.CNI_FOLDERS[0]


def _snapshotter(where: Places) -> str:
    where.run.mkdir(parents=True, exist_ok=True)
    return images.snapshotter(where)


def _serving(cluster: Cluster) -> bool:
    """A second start costs no more than this."""
    where = places()
    if not network.mounted() or not all(daemons.alive(where, daemon) for daemon in _daemons().values()):
        return False
    wanted, ready = _gateways(cluster)
    return ready == wanted >= GATEWAYS


def _gateways(cluster: Cluster) -> tuple[int, int]:
    template = "jsonpath={.spec.replicas} {.status.readyReplicas}"
    asked = ("-n", "istio-system", "get", DEPLOYMENT, "-o", template, "--request-timeout=5s")
    answer = [*cluster.kubectl(*asked, check=False).split(), "0", "0"]
    return int(answer[0]), int(answer[1])


def _refuse_another_home(where: Places) -> None:
    """There is one network and one bridge: a second cluster would take the addresses of the first."""
    owner = VOLATILE / "home"
    other = owner.read_text() if owner.exists() else str(where.home)
    if other != str(where.home):
        raise ClusterError(
            f"a cluster that keeps its things in {other} is there already",
            "it was started with another HELM_CANARY_CLUSTER_HOME or by another user",
            f"use that one, or end it: HELM_CANARY_CLUSTER_HOME={other} python -m tests.cluster down",
        )


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _same_boot(where: Places) -> bool:
    """Process ids, mounts and sockets of another boot mean nothing; nor do they where the namespace is gone."""
    noted = where.run / "boot"
    return network.mounted() and noted.exists() and noted.read_text() == _boot_id()


# --- starting ------------------------------------------------------------------------------------------------


def _start(cluster: Cluster, where: Places) -> None:
    for folder in (where.run / "cni", where.log, VOLATILE):
        folder.mkdir(parents=True, exist_ok=True)
    (VOLATILE / "home").write_text(str(where.home))
    teardown.note_kubelet_folder()
    network.create()
    (where.run / "boot").write_text(_boot_id())
    _delegate_groups()
    _write_files(where)
    parts = _daemons()
    # What does not need another is started beside it: the API server takes longest, and waits for etcd by itself.
    _launch(where, parts, "etcd", "apiserver", "containerd")
    daemons.wait_ready(where, parts["containerd"])
    images.load(where, configuration.PAUSE_IMAGE, {"app": where.bin / "app"}, ["/app", "pause"])
    proxy = _proxy_image(where)
    daemons.wait_ready(where, parts["apiserver"])
    _launch(where, parts, "controllers", "scheduler", "kubelet", "kube-proxy")
    _install_istio(cluster)
    _launch(where, parts, "istiod")
    daemons.wait_ready(where, parts["istiod"])
    for name in ("controllers", "scheduler", "kubelet", "kube-proxy"):
        daemons.wait_ready(where, parts[name])
    _deploy_gateways(cluster, proxy)


def _launch(where: Places, parts: Mapping[str, daemons.Daemon], *names: str) -> None:
    for name in names:
        daemons.start(where, parts[name])


def _write_files(where: Places) -> None:
    key, public = where.run / "sa.key", where.run / "sa.pub"
    if not public.exists():
        shell.run("openssl", "genrsa", "-out", key, "2048")
        shell.run("openssl", "rsa", "-in", key, "-pubout", "-out", public)
    for name, text in configuration.files(where, _cni(), _snapshotter(where)).items():
        (where.run / name).write_text(text)
        (where.run / name).chmod(0o600)


def _delegate_groups() -> None:
    """Inside a container with the new control groups, limits need a group without processes at the top.

    A group may have processes or hand controllers to its children, not both; a container's programs start in its
    topmost group. So they move one down, as every container engine inside a container does.
    """
    root = Path("/sys/fs/cgroup")
    controls = root / "cgroup.subtree_control"
    # The machine's own root has no cgroup.type, and may do both.
    if not (root / "cgroup.type").exists() or "memory" in controls.read_text().split():
        return
    (root / "init").mkdir(exist_ok=True)
    for pid in (root / "cgroup.procs").read_text().split():
        try:
            (root / "init/cgroup.procs").write_text(pid)
        except OSError:
            continue  # it has just ended
    offered = (root / "cgroup.controllers").read_text().split()
    controls.write_text(" ".join(f"+{name}" for name in offered))


def _install_istio(cluster: Cluster) -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n"
    cluster.kubectl("apply", "-f", "-", stdin=namespace)
    crds = binaries.ensure("istio-crds.yaml")["istio-crds.yaml"]
    # Server-side: the larger ones do not fit into the annotation that the other way needs.
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", crds)


def _proxy_image(where: Places) -> str:
    """Its tag names its content: two hundred megabytes are packed only when they have changed."""
    paths = binaries.ensure("envoy", "pilot-agent", "envoy-bootstrap.json")
    key = hashlib.sha256("".join(map(str, paths.values())).encode()).hexdigest()[:16]
    reference = f"localhost/helm-canary-proxy:{key}"
    if not images.present(reference):
        content: dict[str, Path | bytes] = {
            "usr/local/bin/pilot-agent": paths["pilot-agent"],
            "usr/local/bin/envoy": paths["envoy"],
            "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": paths["envoy-bootstrap.json"],
            **images.libraries(paths["envoy"]),
        }
        folders = ("etc/istio/proxy", "tmp", "var/run/secrets")
        images.load(where, reference, content, ["/usr/local/bin/pilot-agent"], folders=folders)
    return reference


def _deploy_gateways(cluster: Cluster, image: str) -> None:
    replicas = max(GATEWAYS, _gateways(cluster)[0])
    cluster.kubectl("apply", "-f", "-", stdin=configuration.gateway(image, replicas))
    # No cloud gives the Service an address here; kube-proxy serves whatever address stands in its status.
    address = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": cluster.gateway_address}]}}})
    patch = ("patch", "service", "istio-ingressgateway", "--subresource=status", "--type=merge", "-p", address)
    cluster.kubectl("-n", "istio-system", *patch)
    limit = f"--timeout={GATEWAY_LIMIT_S}s"
    cluster.kubectl("-n", "istio-system", "rollout", "status", DEPLOYMENT, limit, timeout_s=GATEWAY_LIMIT_S + 10)


def execute(argv: Iterable[str]) -> None:
    """Become that command, inside the cluster's network."""
    words = attach().command(*argv)
    os.execvpe(words[0], words, daemons.environment(places()))
