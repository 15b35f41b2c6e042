"""How requests reach a service: by what port, by which Gateway of which namespace, by a VirtualService that delegates to it.

Istio decides what holds, so it is asked: each way is walked under load, and each version gets its share of the answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, Traffic

from .conftest import QUICK, Lab
from .ledger import Ledger
from .service import Service, copy_chart
from .states import Release
from .test_refusals import check_refused
from .together import side_by_side
from .walk import Walk

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RPS = 100
OPTIONS = ("--drain", "5s", "--timeout", "90s")
HALF = Release("83", "84", (50, 100), canary_replicas=(2, 2))
WALK = Release("83", "84")
NAMED_HTTP = "    - name: http\n"


# --- ports ------------------------------------------------------------------------------------------------------------

METRICS = "    - name: metrics\n      port: 9090\n      targetPort: http\n"
# The first port of the Service, as the chart renders it then.
PORTS = {
    "web": "    - name: web\n",
    "kubernetes.io/ws": "    - name: x\n      appProtocol: kubernetes.io/ws\n",
    "http and metrics": METRICS + NAMED_HTTP,
}
# A gateway reads requests as HTTP whatever the Service port says.
NOT_HTTP = {
    "tcp": "    - name: tcp\n",
    "https": "    - name: https\n",
    "no name": "    - ",
    "redis": "    - name: redis\n",
}


def walk_half(lab: Lab, ledger: Ledger, folder: Path, ports: dict[str, str], name: str) -> None:
    (folder / name.replace("/", "-")).mkdir()
    block = ports[name]
    old = NAMED_HTTP if block.endswith("\n") else NAMED_HTTP + "      "
    chart = copy_chart(folder / name.replace("/", "-"), ("templates/service.yaml", old, block))
    service = lab.service(QUICK, options=OPTIONS).having(chart=chart)
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        walk = Walk(service, traffic, ledger, f"the Service port {name}", HALF)
        walk.stage(2)
        walk.rollback(2)
        walk.settle()
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_a_port_that_istio_sniffs_holds_the_weights(lab: Lab, ledger: Ledger, tmp_path: Path) -> None:
    """`web`, `kubernetes.io/ws` and a second port: accepted, half of the answers from each version, none lost."""
    side_by_side(PORTS, lambda name: walk_half(lab, ledger, tmp_path, PORTS, name))


@pytest.mark.matrix
def test_a_port_that_is_not_http_holds_them_on_gateways(lab: Lab, ledger: Ledger, tmp_path: Path) -> None:
    """`tcp`, `https`, `redis` and no name at all, behind gateways alone."""
    for name in NOT_HTTP:
        walk_half(lab, ledger, tmp_path, NOT_HTTP, name)


# --- Gateways of another namespace ------------------------------------------------------------------------------------


@contextmanager
def namespace(cluster: Cluster, name: str) -> Iterator[str]:
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def gateway(name: str, where: str, host: str) -> dict[str, Any]:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [host]}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": where},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }


def apply(cluster: Cluster, *things: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)}))


def walk_to_4_and_back(service: Service, ledger: Ledger, conditions: str) -> None:
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        walk = Walk(service, traffic, ledger, conditions, WALK)
        walk.stages((2, 3, 4))
        walk.rollback(4)
        walk.settle()


GATEWAY_NAME = '  name: {{ include "productpage.istioName" . }}\n'
ROUTE_GATEWAY = '    - {{ include "productpage.istioName" . }}\n'


def rendered_elsewhere(folder: Path, where: str) -> Path:
    """A chart whose Gateway goes into another namespace."""
    return copy_chart(
        folder,
        ("templates/gateway.yaml", GATEWAY_NAME, GATEWAY_NAME + f"  namespace: {where}\n"),
        ("templates/virtualservice.yaml", ROUTE_GATEWAY, ROUTE_GATEWAY.replace("- ", f"- {where}/")),
    )


@pytest.mark.matrix
def test_a_gateway_of_another_namespace_is_the_services(lab: Lab, ledger: Ledger, tmp_path: Path) -> None:
    """There already, or rendered by the chart into that namespace: proven through stages 2 to 4 and back, none lost."""

    def walk(kind: str) -> None:
        service = lab.service(QUICK, options=OPTIONS)
        with namespace(service.cluster, f"{service.namespace}-edge") as edge:
            if kind == "there already":
                apply(service.cluster, gateway("shared", edge, service.host))
                service = service.having(values={"gateway": {"enabled": False, "names": [f"{edge}/shared"]}})
            else:
                service = service.having(chart=rendered_elsewhere(tmp_path, edge))
            assert service.install("83").answer["proof"] == "proven"
            walk_to_4_and_back(service, ledger, f"a Gateway of another namespace, {kind}")
            lab.delete(service.namespace)

    side_by_side(("there already", "rendered by the chart"), walk)


@pytest.mark.matrix
def test_a_gateway_that_exists_nowhere_is_named_before_anything_is_written(fresh: Service) -> None:
    """No request would ever arrive: `plan` and `stage 1` say so, and nothing is installed. Created, stage 1 goes on."""
    service = fresh.having(values={"gateway": {"enabled": False, "names": ["shared", "edge/gone"]}})
    said = f"is bound to {fresh.namespace}/shared and edge/gone, and there is no such Gateway: no request arrives"

    for run in (service.plan(1, "83"), service.stage(1, "83")):
        check_refused(run, said) if run.answer.get("error") else pytest.fail(run.text)
    assert service.revision() == 0

    apply(service.cluster, gateway("shared", service.namespace, service.host))
    run = service.stage(1, "83").expect(0, "done")
    assert "names the Gateway edge/gone, which does not exist" in run.said
    assert run.answer["proof"] == "proven"


# --- delegates --------------------------------------------------------------------------------------------------------

HOSTS = '  hosts:\n    {{- include "productpage.hosts" . | trim | nindent 4 }}\n'
GATEWAYS = """\
  gateways:
    {{- if .Values.gateway.enabled }}
    - {{ include "productpage.istioName" . }}
    {{- end }}
    {{- range .Values.gateway.names }}
    - {{ . }}
    {{- end }}
    {{- if .Values.gateway.mesh }}
    - mesh
    {{- end }}
"""
ROUTE = "product-page-virtual-service"


def delegate_chart(folder: Path) -> Path:
    """A chart whose VirtualService has neither hosts nor Gateways: another one delegates to it."""
    folder.mkdir()
    return copy_chart(folder, ("templates/virtualservice.yaml", HOSTS + GATEWAYS, ""))


def root(service: Service, where: str) -> dict[str, Any]:
    to = {"name": ROUTE, "namespace": service.namespace}
    spec = {
        "hosts": [service.host],
        "gateways": ["shared"],
        "http": [{"match": [{"uri": {"prefix": "/"}}], "delegate": to}],
    }
    metadata = {"name": "root", "namespace": where}
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}


def test_a_delegate_is_followed_to_its_root(lab: Lab, ledger: Ledger, tmp_path: Path) -> None:
    """Its root, in another namespace or in the chart, gives it hosts and Gateways: proven, short drains, none lost."""

    def walk(kind: str) -> None:
        service = lab.service(QUICK, options=OPTIONS)
        with namespace(service.cluster, f"{service.namespace}-edge") as edge:
            things = (gateway("shared", edge, service.host), root(service, edge))
            chart = delegate_chart(tmp_path / edge)
            if kind == "in another namespace":
                apply(service.cluster, *things)
            else:
                (chart / "templates" / "root.yaml").write_text("\n---\n".join(map(json.dumps, things)))
            service = service.having(chart=chart)
            assert service.install("83").answer["proof"] == "proven"
            walk_to_4_and_back(service, ledger, f"a delegate, its root {kind}")
            assert service.verify("--requests", "20").expect(0).answer["status"] == {"200": 20}
            lab.delete(service.namespace)

    side_by_side(("in another namespace", "in the chart"), walk)


# --- no way in --------------------------------------------------------------------------------------------------------

SERVER_HOSTS = """\
      hosts:
        {{- if .Values.gateway.hosts }}
        {{- include "productpage.hosts" . | trim | nindent 8 }}
        {{- else }}
        - "*"
        {{- end }}
"""
NAMED_PORT = "            port:\n              number: {{ int $.Values.service.port }}\n"
ROUTE_YAML, SERVICE_YAML = "templates/virtualservice.yaml", "templates/service.yaml"
# What is changed in the chart -> why no request would arrive.
NO_WAY: dict[str, tuple[tuple[tuple[str, str, str], ...], str]] = {
    "a delegate without a root": (((ROUTE_YAML, HOSTS + GATEWAYS, ""),), "no VirtualService delegates to it"),
    "a Gateway of another host": (
        (("templates/gateway.yaml", SERVER_HOSTS, '      hosts: ["other.example.com"]\n'),),
        "no server takes HTTP requests for",
    ),
    "a Gateway for another namespace": (
        (("templates/gateway.yaml", SERVER_HOSTS, '      hosts: ["istio-system/*"]\n'),),
        "no server takes HTTP requests for",
    ),
    "a Gateway that does not exist": (
        ((ROUTE_YAML, ROUTE_GATEWAY, ROUTE_GATEWAY.replace("- ", "- edge/")),),
        "there is no such Gateway",
    ),
    "two ports, none named": (
        ((ROUTE_YAML, NAMED_PORT, ""), (SERVICE_YAML, NAMED_HTTP, METRICS + NAMED_HTTP)),
        "names no port of the Service",
    ),
    "a port that is not there": (
        ((ROUTE_YAML, "number: {{ int $.Values.service.port }}", "number: 9099"),),
        "sends to the port 9099, which the Service",
    ),
}


def test_where_no_request_arrives_nothing_is_installed(lab: Lab, tmp_path: Path) -> None:
    """Each is refused at stage 1 with its cause, nothing is written; and Istio does answer nothing where Helm installs it."""

    def check(name: str) -> None:
        changes, said = NO_WAY[name]
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        service = lab.service(QUICK).having(chart=copy_chart(folder, *changes))
        check_refused(service.stage(1, "83"), said)
        assert service.read("deployments,services,secrets") == []
        tags = "productionDeployment.image.tag=83,canaryDeployment.image.tag=83"
        chart = ("productpage", service.chart, "--namespace", service.namespace, "--values", service.values_file())
        service.cluster.run("helm", "install", *chart, "--set-string", tags, "--wait", timeout_s=90)
        with Traffic(service.cluster, service.host, rps=20) as traffic:
            time.sleep(2)
        (move,) = traffic.report()
        assert move.sent > 20
        assert move.lost == move.sent, move.by_status
        lab.delete(service.namespace)

    side_by_side(NO_WAY, check)
