"""What the gateways' answers say: recorded ones, and ones that were made worse."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.core.model import Split, Track
from helm_canary.errors import ToolError
from helm_canary.process import Completed, Connection, Processes
from helm_canary.proxies import Endpoints, GatewayPod, Proxies, first_json, parse_endpoints, parse_splits, subset_of
from tests.adapters.recordings import answer, shape, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHAPE = shape()
STEADY, SHIFTED = Split(production=100, canary=0), Split(production=90, canary=10)


def routes(dump: dict[str, Any]) -> list[Any]:
    hosts = dump["configs"][0]["route_config"]["virtual_hosts"]
    return list(hosts[0]["routes"])


@pytest.mark.parametrize(("name", "split"), [("routes-100-0.txt", STEADY), ("routes-90-10.txt", SHIFTED)])
def test_a_gateways_weights_are_read(name: str, split: Split) -> None:
    """A track with weight 0 is absent from the route, and that is the proof."""
    assert parse_splits(answer(name), SHAPE) == {split}


def test_a_proxy_in_the_middle_of_a_change_has_two_splits() -> None:
    """Old and new configuration side by side are both told, so that neither is taken for proven."""
    dump = answer("routes-100-0.txt")
    dump["configs"] += answer("routes-90-10.txt")["configs"]

    assert parse_splits(dump, SHAPE) == {STEADY, SHIFTED}


def test_several_routes_of_a_service_must_agree() -> None:
    """A second route of the same host with other weights is a second split."""
    dump, other = answer("routes-90-10.txt"), answer("routes-100-0.txt")
    dump["configs"][0]["route_config"]["virtual_hosts"][0]["routes"] += routes(other)

    assert parse_splits(dump, SHAPE) == {STEADY, SHIFTED}


OTHERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no configuration": lambda dump: dump.clear(),
    "no route configuration": lambda dump: dump["configs"][0].pop("route_config"),
    "no virtual host": lambda dump: dump["configs"][0]["route_config"].pop("virtual_hosts"),
    "no routes": lambda dump: dump["configs"][0]["route_config"]["virtual_hosts"][0].pop("routes"),
    "a redirect": lambda dump: routes(dump)[0].pop("route"),
    "a direct response": lambda dump: routes(dump)[0].update(route=None, direct_response={"status": 503}),
    "a route by header": lambda dump: routes(dump)[0].update(route={"cluster_header": "x"}),
    "no weighted clusters": lambda dump: routes(dump)[0]["route"].update(weighted_clusters=None),
}


@pytest.mark.parametrize("spoil", OTHERS.values(), ids=[*OTHERS])
def test_a_gateway_without_a_route_has_no_split(spoil: Callable[[dict[str, Any]], object]) -> None:
    """What is no weighted route to this service is no split; it is not taken for weight 0."""
    dump = answer("routes-90-10.txt")
    spoil(dump)

    assert parse_splits(dump, SHAPE) == frozenset()


def test_weights_without_a_number_are_zero() -> None:
    """Envoy leaves a 0 out, and wraps nothing else."""
    dump = answer("routes-90-10.txt")
    del routes(dump)[0]["route"]["weighted_clusters"]["clusters"][1]["weight"]

    assert parse_splits(dump, SHAPE) == {Split(production=90, canary=0)}


CLUSTERS = {
    "outbound|9080|production|product-page-svc.recorded.svc.cluster.local": Track.PRODUCTION,
    "outbound|9080|canary|product-page-svc.recorded.svc.cluster.local": Track.CANARY,
    "outbound|80|canary|product-page-svc.recorded.svc.cluster.local": Track.CANARY,
    "outbound|9080||product-page-svc.recorded.svc.cluster.local": None,
    "outbound|9080|next|product-page-svc.recorded.svc.cluster.local": None,
    "outbound|9080|canary|product-page-svc.other.svc.cluster.local": None,
    "inbound|9080|canary|product-page-svc.recorded.svc.cluster.local": None,
    "outbound|9080|canary|x|product-page-svc.recorded.svc.cluster.local": None,
    "BlackHoleCluster": None,
    "": None,
}


@pytest.mark.parametrize(("name", "track"), CLUSTERS.items())
def test_only_clusters_of_this_service_are_its_tracks(name: str, track: Track | None) -> None:
    """A cluster is a track's by its direction, subset and host; another service's canary is not ours."""
    assert subset_of(name, SHAPE) is track


# --- endpoints --------------------------------------------------------------------------------------------------------


def statuses(body: dict[str, Any], subset: str) -> list[Any]:
    (found,) = (one for one in body["cluster_statuses"] if f"|{subset}|" in one["name"])
    return list(found["host_statuses"])


def test_endpoints_of_both_tracks_are_counted() -> None:
    """Each track's own endpoints, not those of the whole Service."""
    found = parse_endpoints(answer("clusters-90-10.txt"), SHAPE)

    assert found == {
        Track.PRODUCTION: Endpoints(healthy=2, in_flight=0),
        Track.CANARY: Endpoints(healthy=2, in_flight=0),
    }


def test_a_track_without_pods_has_no_endpoints() -> None:
    """A subset that is known and empty has 0 endpoints; that is no answer of another kind."""
    assert parse_endpoints(answer("clusters-100-0.txt"), SHAPE)[Track.CANARY] == Endpoints(healthy=0, in_flight=0)


def test_a_missing_cluster_is_not_an_empty_one() -> None:
    """A gateway that was not sent a subset knows nothing of it."""
    body = answer("clusters-90-10.txt")
    body["cluster_statuses"] = [one for one in body["cluster_statuses"] if "|canary|" not in one["name"]]

    found = parse_endpoints(body, SHAPE)

    assert found[Track.CANARY] is None
    assert found[Track.PRODUCTION] is not None
    assert parse_endpoints({}, SHAPE) == {Track.PRODUCTION: None, Track.CANARY: None}


HEALTH: list[tuple[dict[str, Any], int]] = [
    ({"eds_health_status": "HEALTHY"}, 2),
    ({}, 2),
    ({"eds_health_status": "UNHEALTHY"}, 1),
    ({"eds_health_status": "DRAINING"}, 1),
    ({"eds_health_status": "TIMEOUT"}, 1),
    ({"eds_health_status": "DEGRADED"}, 1),
    ({"eds_health_status": "HEALTHY", "failed_outlier_check": True}, 1),
    ({"eds_health_status": "HEALTHY", "failed_active_health_check": True}, 1),
    ({"eds_health_status": "HEALTHY", "pending_dynamic_removal": True}, 1),
    ({"eds_health_status": "HEALTHY", "failed_outlier_check": False}, 2),
]


def with_port(body: dict[str, Any], port: int, healthy: dict[str, int]) -> None:
    """A second port of the Service: a cluster of each track, with so many of the pods of the first."""
    for subset, count in healthy.items():
        (first,) = (one for one in body["cluster_statuses"] if f"|9080|{subset}|" in one["name"])
        other = copy.deepcopy(first)
        other["name"] = first["name"].replace("9080", str(port))
        other["host_statuses"] = other["host_statuses"][:count]
        for host in other["host_statuses"]:
            host["address"]["socket_address"]["port_value"] = port
            next(stat for stat in host["stats"] if stat["name"] == "rq_active")["value"] = "5"
        body["cluster_statuses"].append(other)


# ports that the routes name, pods of the canary that the second port has -> pods of the canary that are known
TWO_PORTS: list[tuple[tuple[int, ...], int, int]] = [
    ((9080,), 2, 2),
    ((9080,), 0, 2),
    ((9080, 9090), 2, 2),
    ((9080, 9090), 1, 1),
    ((9090,), 1, 1),
    ((), 2, 2),
    ((), 1, 1),
    ((7,), 1, 1),
]


@pytest.mark.parametrize(("routed", "second", "known"), TWO_PORTS)
def test_a_pod_behind_two_ports_is_one(routed: tuple[int, ...], second: int, known: int) -> None:
    """Endpoints are counted where the routes send, the fewest of those ports; requests in flight on whatever port."""
    body = answer("clusters-90-10.txt")
    with_port(body, 9090, {"production": 2, "canary": second})

    found = parse_endpoints(body, replace(SHAPE, ports=routed))

    assert found[Track.PRODUCTION] == Endpoints(healthy=2, in_flight=10)
    assert found[Track.CANARY] == Endpoints(healthy=known, in_flight=5 * second)


def test_an_address_that_is_listed_twice_is_one() -> None:
    """A pod that a proxy has in two localities is one pod."""
    body = answer("clusters-90-10.txt")
    hosts = statuses(body, "canary")
    (status,) = (one for one in body["cluster_statuses"] if "|canary|" in one["name"])
    status["host_statuses"] = [hosts[0], copy.deepcopy(hosts[0])]

    assert parse_endpoints(body, SHAPE)[Track.CANARY] == Endpoints(healthy=1, in_flight=0)


@pytest.mark.parametrize(("health", "healthy"), HEALTH)
def test_only_healthy_endpoints_count(health: dict[str, Any], healthy: int) -> None:
    """An endpoint that is leaving, or was put out, is not one to send weight to."""
    body = answer("clusters-90-10.txt")
    statuses(body, "canary")[0]["health_status"] = health

    found = parse_endpoints(body, SHAPE)[Track.CANARY]

    assert found == Endpoints(healthy=healthy, in_flight=0)


def test_requests_in_flight_are_added_up_also_of_leaving_pods() -> None:
    """Requests in flight count wherever they are, above all at a pod that is not healthy any more."""
    body = answer("clusters-90-10.txt")
    for host, count in zip(statuses(body, "canary"), (3, 4), strict=True):
        host["health_status"] = {"eds_health_status": "DRAINING"}
        (active,) = (stat for stat in host["stats"] if stat["name"] == "rq_active")
        active["value"] = str(count)  # Envoy writes 64 bits as text

    assert parse_endpoints(body, SHAPE)[Track.CANARY] == Endpoints(healthy=0, in_flight=7)


# --- pilot-agent's output ---------------------------------------------------------------------------------------------

NOISE = [
    ("", ""),
    ("warn\tOS CA Cert could not be found for agent\n", ""),
    ("a line with { in it\nand {\"another\": 1}\n", ""),
    ('{"level":"warn","msg":"logs may be JSON"}\n{"level":"info"}\n', ""),
    ("", "\nbye\n"),
    ("\n\n", "\n\n"),
    ("\r\n", "\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), NOISE)
def test_the_answer_is_found_between_the_lines_around_it(before: str, after: str) -> None:
    """pilot-agent's own lines, JSON or not, are not the answer."""
    body = json.dumps({"cluster_statuses": [{"name": "x"}]}, indent=1)

    assert first_json(before + body + after) == {"cluster_statuses": [{"name": "x"}]}


@pytest.mark.parametrize("output", ["", "no answer\n", "[]", "  {}", "{", '{"configs": [', "warn\n{oops\n", "x {}"])
def test_what_is_no_answer_is_an_error(output: str) -> None:
    """An answer that is missing or cut off is none, and not an empty configuration."""
    with pytest.raises(ValueError):
        first_json(output)


def test_the_recorded_output_has_such_lines() -> None:
    """The recording is of the real thing, with pilot-agent's own line before it."""
    assert not text("routes-90-10.txt").startswith("{")


# --- asking ----------------------------------------------------------------------------------------------------------


@dataclass
class Kubectl(Processes):
    """Answers for kubectl, by a part of the command."""

    said: dict[str, Completed] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def run(self, arguments: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0, shown: bool = False,
            check: bool = True, once: bool = False, environment: Mapping[str, str] | None = None) -> Completed:  # fmt: skip
        command = " ".join(arguments)
        self.asked.append(command)
        return next(answer for part, answer in self.said.items() if part in command)


OK = replace(Completed(code=0, stdout="", stderr=""))
FORBIDDEN = Completed(code=1, stdout="", stderr='pods is forbidden: User "viewer" cannot list resource "pods"')


def listed(*names: str) -> Completed:
    found = [{"metadata": {"namespace": name.split("/")[0], "name": name.split("/")[1]}} for name in names]
    return replace(OK, stdout=json.dumps({"items": found}))


def proxies(said: dict[str, Completed]) -> tuple[Proxies, Kubectl]:
    kubectl = Kubectl(environment={}, said=said)
    made = Proxies(processes=kubectl, connection=Connection(namespace="shop"), shape=SHAPE)
    made.selectors = ("istio=ingressgateway",)
    return made, kubectl


def test_every_gateway_pod_is_asked_and_a_silent_one_is_told() -> None:
    """A pod that cannot be asked, answers nonsense or is cut off has no answer; the others' count all the same."""
    good = replace(OK, stdout=text("routes-90-10.txt"))
    made, _ = proxies({
        "--all-namespaces": listed("istio-system/a", "istio-system/b", "istio-ingress/c", "istio-system/d"),
        "exec a": good, "exec b": FORBIDDEN, "exec c": replace(OK, stdout="warn\n"),
        "exec d": replace(good, stdout=good.stdout[:200]),
    })  # fmt: skip

    answers = made.splits().splits

    assert {str(pod): found for pod, found in answers.items()} == {
        "istio-system/a": {SHIFTED}, "istio-system/b": None, "istio-ingress/c": None, "istio-system/d": None,
    }  # fmt: skip


def test_without_the_right_everywhere_the_usual_places_are_looked_at_once() -> None:
    """A refused list of all namespaces is not tried again; where pods may be listed they are found."""
    made, kubectl = proxies({
        "--all-namespaces": FORBIDDEN, "--namespace istio-system": listed("istio-system/a"), "--namespace": FORBIDDEN,
    })  # fmt: skip

    assert made.pods() == [GatewayPod(namespace="istio-system", name="a")] == made.pods()
    assert sum("--all-namespaces" in command for command in kubectl.asked) == 1


@pytest.mark.parametrize(
    "own", [FORBIDDEN, listed()], ids=["not even in its own namespace", "but in its own namespace"]
)
def test_gateways_that_may_not_be_seen_are_not_absent_ones(own: Completed) -> None:
    """Where no pod is found and a namespace may not be listed, it cannot be said that there is no gateway."""
    made, _ = proxies({"--all-namespaces": FORBIDDEN, "--namespace recorded": own, "--namespace": FORBIDDEN})

    with pytest.raises(ToolError, match="not allowed to list"):
        made.pods()


def test_another_failure_is_no_missing_right() -> None:
    """A server that cannot be reached is an error at once."""
    made, _ = proxies({"--all-namespaces": Completed(code=1, stdout="", stderr="connection refused")})

    with pytest.raises(ToolError, match="cannot be listed"):
        made.pods()


def test_the_selectors_are_those_of_every_gateway_named() -> None:
    """Gateways of the namespace and of others, each selector once; `mesh` has none."""
    other = {"spec": {"selector": {"istio": "private", "app": "edge"}}}
    made, kubectl = proxies({"get gateways.networking.istio.io shared": replace(OK, stdout=json.dumps(other))})
    made.shape = replace(SHAPE, gateways=("recorded/own", "mesh", "edge/shared", "recorded/twin"))
    selector = {"selector": {"istio": "ingressgateway"}}

    made.find([{"metadata": {"name": "own"}, "spec": selector}, {"metadata": {"name": "twin"}, "spec": selector}])

    assert made.selectors == ("istio=ingressgateway", "app=edge,istio=private")
    assert len(kubectl.asked) == 1


EDGE = {"metadata": {"name": "shared", "namespace": "edge"}, "spec": {"selector": {"istio": "edge"}}}
NOT_FOUND = replace(OK, stdout="")
CANNOT_GET = Completed(
    code=1,
    stdout="",
    stderr='cannot get resource "gateways" in API group "networking.istio.io" in the namespace "edge"',
)
# the Gateways that are known already, what kubectl says of the one in `edge` -> what is known of it, and the pods' labels
OF_ANOTHER_NAMESPACE: dict[str, tuple[list[dict[str, Any]], Completed | None, object, tuple[str, ...]]] = {
    "rendered by the chart": ([EDGE], None, {"edge/shared": EDGE}, ("istio=edge",)),
    "there already": ([], replace(OK, stdout=json.dumps(EDGE)), {"edge/shared": EDGE}, ("istio=edge",)),
    "one of that name in the own namespace": (
        [{**EDGE, "metadata": {"name": "shared"}}], replace(OK, stdout=json.dumps(EDGE)), {"edge/shared": EDGE}, ("istio=edge",),
    ),
    "not there": ([], NOT_FOUND, {"edge/shared": None}, ()),
    "not to be read": ([], CANNOT_GET, {}, ()),
}  # fmt: skip


@pytest.mark.parametrize(
    ("known", "said", "gateways", "selectors"), OF_ANOTHER_NAMESPACE.values(), ids=[*OF_ANOTHER_NAMESPACE]
)
def test_a_gateway_has_its_own_namespace(
    known: list[dict[str, Any]], said: Completed | None, gateways: object, selectors: tuple[str, ...]
) -> None:
    """It is found there or in the chart, and told from one that does not exist and from one that cannot be read."""
    made, kubectl = proxies({} if said is None else {"--namespace edge get gateways.networking.istio.io shared": said})
    made.shape = replace(SHAPE, gateways=("edge/shared",))

    made.find(known)

    assert (made.gateways, made.selectors) == (gateways, selectors)
    assert len(kubectl.asked) == (said is not None)
    if said is CANNOT_GET:
        with pytest.raises(ToolError, match="The Gateway edge/shared cannot be read") as error:
            made.pods()
        assert 'resources: ["gateways"], verbs: ["get"]' in error.value.means


def test_a_gateway_that_istio_keeps_for_the_gateway_api_is_not_missing() -> None:
    """No Gateway of Istio's kind has such a name; its pods carry the name of the other one."""
    made, kubectl = proxies({})
    name = "edge/shared~istio-autogenerated-k8s-gateway~http"
    made.shape = replace(SHAPE, gateways=(name,))

    made.find([])

    assert (made.gateways, made.selectors) == ({}, ("gateway.networking.k8s.io/gateway-name=shared",))
    assert kubectl.asked == []


def test_a_delegate_without_known_roots_has_gateways_that_are_not_known() -> None:
    """The right that is missing is named, not `no gateway`; one root that is known is enough to ask its gateways."""
    made, _ = proxies({"--all-namespaces": listed("edge/a")})
    made.shape = replace(SHAPE, delegate=True, gateways=())
    with pytest.raises(ToolError, match="not known which VirtualServices delegate") as error:
        made.pods()
    assert (
        'ClusterRole: {apiGroups: ["networking.istio.io"], resources: ["virtualservices"], verbs: ["list"]}'
        in error.value.means
    )

    made.shape = replace(made.shape, roots=("edge/root",), gateways=("edge/g",))
    assert [str(pod) for pod in made.pods()] == ["edge/a"]


def running(name: str, *, ready: bool) -> dict[str, Any]:
    where, _, short = name.partition("/")
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": str(ready)}]
    return {"metadata": {"namespace": where, "name": short}, "status": {"conditions": conditions}}


HAS, HAS_NOT = text("routes-90-10.txt"), json.dumps({"configs": []})
# pod -> is it Ready, what it answers; the Gateway is in the namespace `edge` -> the pods that are asked for a proof
UNBOUND: dict[str, tuple[dict[str, tuple[bool, str]], set[str]]] = {
    "one elsewhere has no route": ({"edge/a": (True, HAS), "other/b": (True, HAS_NOT)}, {"edge/a"}),
    "one elsewhere has one": ({"edge/a": (True, HAS), "other/b": (True, HAS)}, {"edge/a", "other/b"}),
    "one elsewhere starts": ({"edge/a": (True, HAS), "other/b": (False, HAS_NOT)}, {"edge/a", "other/b"}),
    "one elsewhere is silent": ({"edge/a": (True, HAS), "other/b": (True, "")}, {"edge/a", "other/b"}),
    "one beside it has no route": ({"edge/a": (True, HAS_NOT), "other/b": (True, HAS)}, {"edge/a", "other/b"}),
    "none has a route": ({"edge/a": (True, HAS_NOT), "other/b": (True, HAS_NOT)}, {"edge/a", "other/b"}),
}


@pytest.mark.parametrize(("pods", "asked"), UNBOUND.values(), ids=[*UNBOUND])
def test_a_pod_that_istio_gives_no_route_is_no_gateway_of_the_service(
    pods: dict[str, tuple[bool, str]], asked: set[str]
) -> None:
    """Left out is only one that is Ready, in another namespace than the Gateway and without a route while another pod has it."""
    items = [running(name, ready=ready) for name, (ready, _) in pods.items()]
    answers = {f"exec {name.split('/')[1]} ": replace(OK, stdout=said) for name, (_, said) in pods.items()}
    made, _ = proxies({"--all-namespaces": replace(OK, stdout=json.dumps({"items": items})), **answers})
    made.shape = replace(SHAPE, gateways=("edge/shared",))
    made.find([EDGE])

    assert {str(pod) for pod in made.splits().splits} == asked


def test_the_mesh_alone_selects_no_pod() -> None:
    """Bound to the mesh only, there is no gateway to ask, and none is asked for."""
    made, kubectl = proxies({})
    made.shape = replace(SHAPE, gateways=("mesh",))
    made.find([])

    assert (made.selectors, made.pods(), made.splits().splits, kubectl.asked) == ((), [], {}, [])
