"""The one request: what is asked, and whose answer it is. Cases are data; what istiod and Envoy do is cited beside the code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from helm_canary.core.model import Track
from helm_canary.probing import (
    Counted,
    Failed,
    Reply,
    Request,
    Server,
    UnaskableError,
    Verdict,
    cause,
    common_host,
    gateway_request,
    judge,
    paths_to_try,
    pod_to_ask,
    tls_mode,
)
from tests.adapters.recordings import shape

SHAPE = replace(shape(), namespace="shop", hosts=("shop.example.com",), gateways=("shop/web",), route="shop", ports=())
HOST = SHAPE.host
QUIET = Counted(healthy=2, sent=5, connect_failed=0)
REACHED, REFUSED = replace(QUIET, sent=6), replace(QUIET, connect_failed=3)
TRIED = replace(QUIET, sent=6, connect_failed=1)

ANSWERS = [
    # status, from a pod, counters after -> whose answer
    (200, True, QUIET, Verdict.SERVED), (302, True, QUIET, Verdict.SERVED),
    (404, True, QUIET, Verdict.APP), (401, True, QUIET, Verdict.APP), (500, True, None, Verdict.APP),
    (503, True, REFUSED, Verdict.APP),
    (404, False, QUIET, Verdict.NO_ROUTE), (404, False, None, Verdict.NO_ROUTE),
    (503, False, QUIET, Verdict.NO_WAY), (503, False, REFUSED, Verdict.NO_WAY), (502, False, QUIET, Verdict.NO_WAY),
    (503, False, None, Verdict.NO_WAY), (503, False, TRIED, Verdict.NO_WAY),
    # Envoy's headers are turned off in the mesh, or the pod ended the connection.
    (200, False, QUIET, Verdict.SERVED), (404, False, REACHED, Verdict.APP), (503, False, REACHED, Verdict.UNSURE),
    # What a gateway is told to answer: a redirect, a login, a limit, an app that takes its time.
    (301, False, QUIET, Verdict.POLICY), (401, False, QUIET, Verdict.POLICY), (403, False, QUIET, Verdict.POLICY),
    (429, False, QUIET, Verdict.POLICY), (504, False, QUIET, Verdict.POLICY),
    (0, False, QUIET, Verdict.SILENT), (0, False, None, Verdict.SILENT),
]  # fmt: skip


@pytest.mark.parametrize(("status", "from_pod", "after", "verdict"), ANSWERS)
def test_the_proxys_failures_are_told_from_the_apps_answers(
    status: int, from_pod: bool, after: Counted | None, verdict: Verdict
) -> None:
    """Only a 404 without a route and a 502 or 503 that reached no pod are failures of the release."""
    assert (
        judge(Reply(status=status, from_pod=from_pod, heard=bool(status)), QUIET if after else None, after) is verdict
    )


def test_one_reading_of_the_counters_says_nothing() -> None:
    """Without one from before, a count is no change."""
    assert judge(Reply(status=503, heard=True), None, REACHED) is Verdict.NO_WAY


HOSTS = [
    (["shop.example.com"], ["*"], "shop.example.com"),
    (["shop.example.com"], ["*.example.com"], "shop.example.com"),
    (["*.example.com"], ["shop.example.com"], "shop.example.com"),
    (["*.example.com"], ["*"], "helm-canary.example.com"),
    (["*"], ["*"], "helm-canary.invalid"),
    (["*"], ["*.example.com"], "helm-canary.example.com"),
    (["a.example.com", "b.example.com"], ["b.example.com"], "b.example.com"),
    (["shop.example.com"], ["other.example.com"], ""),
    (["shop.example.com"], ["*.example.org"], ""),
    (["example.com"], ["*.example.com"], ""),
    ([], ["*"], ""),
]


@pytest.mark.parametrize(("hosts", "served", "name"), HOSTS)
def test_a_name_is_chosen_that_both_sides_have(hosts: list[str], served: list[str], name: str) -> None:
    """The narrower of two hosts, and a name of its own below a wildcard."""
    assert common_host(hosts, served) == name


def server(protocol: str = "HTTP", number: int = 80, hosts: str = "*", **tls: object) -> dict[str, Any]:
    made = {"port": {"number": number, "name": "x", "protocol": protocol}, "hosts": hosts.split()}
    return made | ({"tls": tls} if tls else {})


ROUTE = [{"destination": {"host": HOST, "subset": track.value}} for track in Track]
TLS = server("HTTPS", 443, mode="SIMPLE", credentialName="x")
REDIRECT = server(httpsRedirect=True)
SERVERS = {
    "plain": ([server()], (80, False, "shop.example.com")),
    "TLS alone": ([TLS], (443, True, "shop.example.com")),
    "both": ([TLS, server()], (80, False, "shop.example.com")),
    "a redirect to TLS": ([REDIRECT, TLS], (443, True, "shop.example.com")),
    "another's beside ours": ([server(hosts="other.example.com"), TLS], (443, True, "shop.example.com")),
    "for our namespace": ([server(hosts="shop/*")], (80, False, "shop.example.com")),
    "for the Gateway's own": ([server(hosts="./*")], (80, False, "shop.example.com")),
    "for another namespace": ([server(hosts="other/*")], (80, False, "shop.example.com")),
    "none of ours": ([server(hosts="other.example.com")], (80, False, "shop.example.com")),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_serves_the_host_is_asked(name: str) -> None:
    """Plain HTTP before TLS; none that redirects. Where none serves the host, the gateway itself is to say so."""
    servers, expected = SERVERS[name]
    gateways = {"shop/web": {"spec": {"selector": {"istio": "x"}, "servers": servers}}}
    found, request = gateway_request({"spec": {"http": [{"route": ROUTE}]}}, gateways, SHAPE, ["/"])
    assert (found.number, request.tls, request.host) == expected


UNASKABLE = {
    "no Gateway": {},
    "a Gateway that is not there": {"shop/web": None},
    "passthrough": {"shop/web": {"spec": {"servers": [server("TLS", 443, mode="PASSTHROUGH")]}}},
    "client certificates": {"shop/web": {"spec": {"servers": [server("HTTPS", 443, mode="MUTUAL")]}}},
    "TCP": {"shop/web": {"spec": {"servers": [server("TCP", 9000)]}}},
    "a redirect alone": {"shop/web": {"spec": {"servers": [REDIRECT]}}},
}


@pytest.mark.parametrize("gateways", UNASKABLE.values(), ids=[*UNASKABLE])
def test_what_a_plain_get_cannot_reach_is_not_asked(gateways: dict[str, Any]) -> None:
    """That is a reason for a note."""
    with pytest.raises(UnaskableError):
        gateway_request({"spec": {"http": [{"route": ROUTE}]}}, gateways, SHAPE, ["/"])


OTHER = [{"destination": {"host": "other"}}]
PATHS = """
every path: {http: [{ours: true}], wanted: [/health, /], path: /health}
the probe's path is not routed: {http: [{match: [{uri: {prefix: /shop}}], ours: true}], wanted: [/health, /], path: /shop}
the root is: {http: [{match: [{uri: {exact: /}}], ours: true}], wanted: [/health, /], path: /}
an exact one: {http: [{match: [{uri: {exact: /login}}], ours: true}], wanted: [/health], path: /login}
with a query: {http: [{match: [{uri: {exact: /login}}], ours: true}], wanted: ["/login?a=b"], path: "/login?a=b"}
another's path first:
  {http: [{match: [{uri: {prefix: /health}}], ours: false}, {ours: true}], wanted: [/health, /], path: /}
a route for testers first:
  {http: [{match: [{headers: {x: {exact: y}}}], ours: false}, {ours: true}], wanted: [/health], path: /health}
for the mesh alone: {http: [{match: [{gateways: [mesh]}], ours: true}], wanted: [/], path: null}
only by header: {http: [{match: [{headers: {x: {exact: y}}}], ours: true}], wanted: [/], path: null}
only by pattern: {http: [{match: [{uri: {regex: "/a.*"}}], ours: true}], wanted: [/], path: null}
a fault that is meant: {http: [{fault: {abort: {httpStatus: 503}}, ours: true}], wanted: [/], path: null}
no route: {http: [], wanted: [/], path: null}
"""


@pytest.mark.parametrize("case", yaml.safe_load(PATHS).values(), ids=[*yaml.safe_load(PATHS)])
def test_a_path_is_asked_that_the_virtual_service_routes(case: dict[str, Any]) -> None:
    """A readiness probe's path is often not for the outside: a 404 for it would be no failure."""
    http = [{**rule, "route": ROUTE if rule["ours"] else OTHER} for rule in case["http"]]
    gateways = {"shop/web": {"spec": {"servers": [server()]}}}
    if case["path"] is None:
        with pytest.raises(UnaskableError):
            gateway_request({"spec": {"http": http}}, gateways, SHAPE, case["wanted"])
    else:
        assert gateway_request({"spec": {"http": http}}, gateways, SHAPE, case["wanted"])[1].path == case["path"]


def test_a_delegate_is_asked_by_a_path_of_its_own() -> None:
    """Which paths its roots hand on to it is not known."""
    http = [{"match": [{"uri": {"prefix": "/shop"}}], "route": ROUTE}, {"route": ROUTE}]
    gateways = {"shop/web": {"spec": {"servers": [server()]}}}
    request = gateway_request({"spec": {"http": http}}, gateways, replace(SHAPE, delegate=True), ["/health"])[1]
    assert request.path == "/shop"


PODS = """
number: {port: {targetPort: 9080}, expect: [9080, /, false]}
as the Service: {port: {}, expect: [9080, /, false]}
name: {port: {targetPort: web}, container: {ports: [{name: web, containerPort: 8080}]}, expect: [8080, /, false]}
probe at the same port:
  port: {targetPort: web}
  container: {ports: [{name: web, containerPort: 8080}], readinessProbe: {httpGet: {path: ready, port: 8080}}}
  expect: [8080, /ready, false]
probe at the port's name:
  port: {targetPort: 8080}
  container: {ports: [{name: web, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: web}}}
  expect: [8080, /ready, false]
probe at another port: {port: {}, container: {readinessProbe: {httpGet: {path: /ready, port: 8081}}}, expect: [9080, /, false]}
probe that speaks TLS:
  {port: {}, container: {readinessProbe: {httpGet: {path: /r, port: 9080, scheme: HTTPS}}}, expect: [9080, /r, true]}
exec probe: {port: {}, container: {readinessProbe: {exec: {command: [a]}}}, expect: [9080, /, false]}
TLS to the pods: {port: {}, mode: SIMPLE, expect: [9080, /, true]}
in the mesh: {port: {}, mode: ISTIO_MUTUAL, expect: [9080, /, false]}
no such name: {port: {targetPort: web}, expect: null}
gRPC: {port: {name: grpc-api}, expect: null}
HTTP/2 only: {port: {appProtocol: kubernetes.io/h2c}, expect: null}
client certificates: {port: {}, mode: MUTUAL, expect: null}
"""


@pytest.mark.parametrize("case", yaml.safe_load(PODS).values(), ids=[*yaml.safe_load(PODS)])
def test_a_pod_is_asked_at_the_services_port(case: dict[str, Any]) -> None:
    """With the path of a readiness probe only where that probe asks the same port."""
    pod = {"metadata": {"name": "shop-1"}, "spec": {"containers": [case.get("container", {})]}}
    service = {"spec": {"ports": [{"port": SHAPE.port, **case["port"]}]}}
    if case["expect"] is None:
        with pytest.raises(UnaskableError):
            pod_to_ask(pod, service, case.get("mode", ""), SHAPE)
    else:
        found = pod_to_ask(pod, service, case.get("mode", ""), SHAPE)
        assert [found.port, found.ready_path, found.tls] == case["expect"]


def test_the_port_that_the_routes_name_is_asked() -> None:
    """Of a Service with several."""
    service = {"spec": {"ports": [{"port": 9080, "targetPort": 1}, {"port": 9090, "targetPort": 2}]}}
    pod = {"metadata": {"name": "shop-1"}, "spec": {"containers": []}}
    assert pod_to_ask(pod, service, "", replace(SHAPE, ports=(9090,))).port == 2


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_sidecar_is_seen(where: str) -> None:
    """Also one that is an init container which stays."""
    pod = {"metadata": {"name": "shop-1"}, "spec": {"containers": [], where: [{"name": "istio-proxy"}]}}
    assert pod_to_ask(pod, {"spec": {"ports": [{"port": SHAPE.port}]}}, "", SHAPE).sidecar


def test_the_path_that_was_asked_for_is_the_only_one() -> None:
    """Without one: the readiness probe's, then the root."""
    assert paths_to_try("shop", "/ready") == ["/shop"]
    assert paths_to_try("", "/ready") == ["/ready", "/"]
    assert paths_to_try("", "/") == ["/"]


MODES = """
nothing: {spec: {}, mode: ""}
the rule's: {spec: {trafficPolicy: {tls: {mode: SIMPLE}}}, mode: SIMPLE}
the subset's:
  spec: {trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: production, trafficPolicy: {tls: {mode: DISABLE}}}]}
  mode: DISABLE
another subset's: {spec: {subsets: [{name: canary, trafficPolicy: {tls: {mode: DISABLE}}}]}, mode: ""}
the port's:
  {spec: {trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 9080}, tls: {mode: MUTUAL}}]}}, mode: MUTUAL}
another port's: {spec: {trafficPolicy: {portLevelSettings: [{port: {number: 1}, tls: {mode: MUTUAL}}]}}, mode: ""}
"""


@pytest.mark.parametrize("case", yaml.safe_load(MODES).values(), ids=[*yaml.safe_load(MODES)])
def test_how_proxies_speak_to_the_pods_is_read(case: dict[str, Any]) -> None:
    """The subset's policy goes before the rule's, a port's before the rest of it."""
    assert tls_mode({"spec": case["spec"]}, SHAPE, Track.PRODUCTION) == case["mode"]


SERVER = Server(gateway="shop/web", selector={}, number=80, tls=False, hosts=("*",))
FAILED = Failed(
    verdict=Verdict.NO_WAY, request=Request(host="shop.example.com", path="/"), reply=Reply(status=503), server=SERVER,
    shape=SHAPE, tls_mode="", sidecar=False, counted=QUIET, port=9080,
)  # fmt: skip
ELSEWHERE = replace(SERVER, hosts=("other.example.com",))
CAUSES = {
    "the mesh's TLS to pods without it": ({"tls_mode": "ISTIO_MUTUAL"}, "no sidecar"),
    "TLS to pods": ({"tls_mode": "SIMPLE"}, "speak TLS to the pods (SIMPLE)"),
    "no TLS to pods in the mesh": ({"tls_mode": "DISABLE", "sidecar": True}, "turns mutual TLS off"),
    "no endpoint": ({"counted": replace(QUIET, healthy=0)}, "knows no endpoint"),
    "nothing at the port": ({}, "port 9080 of production's pods"),
    "nothing is known": ({"counted": None}, "port 9080 of production's pods"),
    "the mesh's TLS to pods that have it": ({"tls_mode": "ISTIO_MUTUAL", "sidecar": True}, "port 9080 of production's"),
    "another host": ({"verdict": Verdict.NO_ROUTE, "server": ELSEWHERE}, "the Gateway shop/web for other.example.com"),
    "no route": ({"verdict": Verdict.NO_ROUTE}, "did not take the VirtualService shop/shop"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_failure_has_a_cause_and_an_advice(name: str) -> None:
    """Named from what is read, and the way on is to run stage 1 again."""
    changed, said = CAUSES[name]
    means, do_next = cause(replace(FAILED, **changed))  # type: ignore[arg-type]
    assert said in means
    assert do_next.endswith("then run `stage 1` again.")
