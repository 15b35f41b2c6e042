"""The weights that a VirtualService asks for, and what would make them mean nothing."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import pytest

from helm_canary import routing
from helm_canary.core.model import Split
from helm_canary.manifest import find_shape
from helm_canary.routing import asked_split, follow_roots
from tests.adapters.record import NAMESPACE
from tests.adapters.recordings import items, objects, shape

SHAPE = shape()
MESHED = replace(SHAPE, gateways=(*SHAPE.gateways, "mesh"))
(ROUTE,) = (item for item in items("canary-10.json") if item["kind"] == "VirtualService")
(SERVICE,) = (item for item in items("canary-10.json") if item["kind"] == "Service")
NAME = f"{NAMESPACE}/product-page-virtual-service"


def route(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(ROUTE)
    made["spec"].update(changes)
    return made


def entry(subset: str = "", weight: int | None = None, host: str = SHAPE.host, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"destination": {"host": host, **({"subset": subset} if subset else {}), **more}}
    return made if weight is None else {**made, "weight": weight}


def test_the_weights_asked_are_read() -> None:
    """From the live object; without one there are none."""
    assert asked_split(ROUTE, SHAPE) == Split(production=90, canary=10)
    assert asked_split(None, SHAPE) is None


WEIGHTS: list[tuple[list[dict[str, Any]], Split | None]] = [
    ([entry("production", 90), entry("canary", 10)], Split(production=90, canary=10)),
    ([entry("production", 100), entry("canary")], Split(production=100, canary=0)),
    ([entry("production", 50), entry("canary", 10), entry("production", 40)], Split(production=90, canary=10)),
    (
        [entry("production", 90, port={"number": 1}), entry("canary", 4), entry("canary", 6, port={"number": 2})],
        Split(production=90, canary=10),
    ),
    ([entry("production", 90), entry("canary", 10), entry("", 0, "other")], Split(production=90, canary=10)),
    ([entry("production", 63), entry("canary", 27), entry("", 10, "other")], Split(production=63, canary=27)),
    ([entry("production", 100)], None),
    ([entry("production", 90), entry("canary", 10, "other")], None),
]


@pytest.mark.parametrize(("entries", "split"), WEIGHTS)
def test_the_weights_of_a_subset_are_added_up(entries: list[dict[str, Any]], split: Split | None) -> None:
    """As Istio adds them: a subset may be named twice, and a weight that is left out is 0."""
    assert asked_split(route(http=[{"route": entries}]), SHAPE) == split


def test_routes_that_do_not_agree_ask_for_nothing_certain() -> None:
    """Two routes with other weights cannot be one split; two with the same can."""
    (first,) = ROUTE["spec"]["http"]
    other = copy.deepcopy(first)
    assert asked_split(route(http=[first, other]), SHAPE) == Split(production=90, canary=10)
    other["route"][0]["weight"], other["route"][1]["weight"] = 50, 50
    assert asked_split(route(http=[first, other]), SHAPE) is None
    assert asked_split(route(http=[]), SHAPE) is None
    assert asked_split(route(http=None), SHAPE) is None


def rival(name: str = "rival", namespace: str = NAMESPACE, **spec: Any) -> dict[str, Any]:
    return {"kind": "VirtualService", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def to(host: str, **more: Any) -> list[dict[str, Any]]:
    return [{"route": [{"destination": {"host": host, **more}}]}]


MIRROR = {"host": SHAPE.host, "subset": "canary"}

# another VirtualService -> a part of what is said, or None where it is no obstacle: bound to gateways alone, and to the mesh too
RIVALS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "to the Service by its short name": (rival(http=to("product-page-svc")), "also routes to", "also routes to"),
    "to the Service by its full name": (rival(http=to(SHAPE.host, subset="canary")), "also routes to", "also routes to"),
    "to the Service from another namespace": (rival(namespace="other", http=to(SHAPE.host)), "also routes to", "also routes to"),
    "to a Service of that name elsewhere": (rival(namespace="other", http=to("product-page-svc")), None, None),
    "to another Service": (rival(hosts=["x"], http=to("other")), None, None),
    "a part to the Service": (
        rival(http=[{"route": [entry("", 99, "other"), entry("", 1)]}]), "also routes to", "also routes to",
    ),
    "nothing to the Service": (rival(http=[{"route": [entry("", 100, "other"), entry("", 0), entry("canary")]}]), None, None),
    "a copy to the Service": (rival(http=[{**to("other")[0], "mirror": MIRROR}]), "also mirrors to", "also mirrors to"),
    "copies to the Service": (
        rival(http=[{**to("other")[0], "mirrors": [{"destination": {"host": "x"}}, {"destination": MIRROR}]}]),
        "also mirrors to", "also mirrors to",
    ),
    "no copy to the Service": (
        rival(http=[{**to("other")[0], "mirror": MIRROR, "mirrorPercentage": {"value": 0}}]), None, None,
    ),
    "connections to the Service": (rival(tcp=to(SHAPE.host)), "also sends TCP connections to", "also sends TCP connections"),
    "encrypted connections to the Service": (
        rival(tls=to(SHAPE.host), http=to(SHAPE.host)), "also sends TLS connections and routes to", "also sends TLS connections",
    ),
    "connections to another": (rival(tcp=to("other"), tls=to("other")), None, None),
    "with our host on a gateway": (rival(hosts=["recorded.example.com"], gateways=["edge/g"], http=to("other")), None, None),
    "with our host in the mesh": (
        rival(hosts=["recorded.example.com"], gateways=["mesh"], http=to("other")), None, "bound to the mesh with the same host",
    ),
    "with our host and no gateways, which is the mesh": (
        rival(hosts=[SHAPE.host], http=to("other")), None, "bound to the mesh with the same host",
    ),
    "with our Service's short name as host": (rival(hosts=["product-page-svc"], http=to("other")), None, "the same host"),
    "with another host in the mesh": (rival(hosts=["other.example.com"], http=to("other")), None, None),
    "without routes": (rival(hosts=["x"]), None, None),
    "without a spec's http": (rival(hosts=["x"], http=None), None, None),
    "a redirect": (rival(hosts=["x"], http=[{"redirect": {"uri": "/"}}]), None, None),
    "our own": (ROUTE, None, None),
    "one of our name elsewhere": (
        rival("product-page-virtual-service", "other", http=to(SHAPE.host)), "also routes to", "also routes to",
    ),
}  # fmt: skip


def obstacles(*arguments: Any) -> list[str]:
    """What is said of them; each says what to do as well, and none to delete anything."""
    found = list(routing.obstacles(*arguments))
    for one in found:
        assert one.do_next
        assert "do not delete" in one.do_next or not re.search("(?i)delete|remove", one.do_next)
    return [str(one) for one in found]


@pytest.mark.parametrize(("other", "alone", "meshed"), RIVALS.values(), ids=[*RIVALS])
def test_rival_routes_are_obstacles(other: dict[str, Any], alone: str | None, meshed: str | None) -> None:
    """Any that sends something to this Service, and in the mesh any with one of our hosts; a shared host on gateways is fine."""
    for place, said in ((SHAPE, alone), (MESHED, meshed)):
        found = obstacles([ROUTE, other], SERVICE, place)
        assert len(found) == (said is not None)
        assert said is None or (said in found[0] and other["metadata"]["name"] in found[0])


def test_a_short_host_of_our_own_is_the_full_one() -> None:
    """Two VirtualServices that call the host by its short name and by its full name share it."""
    things = objects("steady.yaml")
    (own,) = (thing for thing in things if thing["kind"] == "VirtualService")
    own["spec"].update(hosts=["product-page-svc"], gateways=["mesh"])
    other = rival(hosts=[SHAPE.host], http=to("other"))

    (found,) = obstacles([other], None, find_shape(things, NAMESPACE))

    assert "bound to the mesh with the same host" in found


# ports of the Service -> a part of what is said: bound to gateways alone, and to the mesh too
PORTS: list[tuple[list[dict[str, Any]] | None, str | None, str | None]] = [
    ([{"name": "http", "port": 9080}], None, None),
    ([{"name": "web", "port": 9080}], None, None),
    ([{"port": 9080}], None, None),
    ([{"name": "x", "port": 9080, "appProtocol": "kubernetes.io/ws"}], None, None),
    ([{"name": "http", "port": 9080}, {"name": "metrics", "port": 9090}], None, None),
    ([{"name": "tcp", "port": 9080}], None, "no port that sidecars route as HTTP"),
    ([{"name": "https", "port": 9080}], None, "no port that sidecars route as HTTP"),
    ([{"name": "tcp", "port": 1}, {"name": "http-2", "port": 9080}], None, None),
    ([{"name": "tcp", "port": 9080, "appProtocol": "http"}], None, None),
    ([{"name": "http", "port": 80}], "the port 9080, which", "the port 9080, which"),
    ([{"name": "dns", "port": 9080, "protocol": "UDP"}], "no TCP port", "no TCP port"),
    ([], "no TCP port", "no TCP port"),
    (None, "no TCP port", "no TCP port"),
]


@pytest.mark.parametrize(("ports", "alone", "meshed"), PORTS)
def test_a_service_needs_a_port_that_is_routed(
    ports: list[dict[str, Any]] | None, alone: str | None, meshed: str | None
) -> None:
    """A gateway splits requests to every port that it has; a sidecar only where it reads HTTP."""
    for place, said in ((SHAPE, alone), (MESHED, meshed)):
        found = obstacles([], {"spec": {"ports": ports}}, place)
        assert len(found) == (said is not None)
        assert said is None or said in found[0]
    assert obstacles([], None, SHAPE) == []


TO_BOTH = [entry("production", 90), entry("canary", 10)]
MATCH = [{"headers": {"x-try": {"exact": "1"}}}]
ALSO = ROUTE["spec"]["http"]

# our own VirtualService -> all that is said of it
WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "as it is": (ROUTE, []),
    "testers to one subset": (
        route(http=[{"match": MATCH, "route": [entry("canary")]}, *ALSO]),
        ["has a route that goes to the subset canary, whatever the weights"],
    ),
    "testers to any pod": (
        route(http=[{"match": MATCH, "route": [entry()]}, *ALSO]),
        ["has a route that goes to any pod, whatever the weights"],
    ),
    "testers with the same weights": (route(http=[{"match": MATCH, "route": TO_BOTH}, *ALSO]), []),
    "ports with the same weights": (
        route(http=[{"match": [{"port": 80}], "route": TO_BOTH}, {"match": [{"port": 443}], "route": TO_BOTH}]),
        [],
    ),
    "half to one subset, half elsewhere": (
        route(http=[{"match": MATCH, "route": [entry("canary", 50), entry("", 50, "other")]}, *ALSO]),
        ["has a route that goes to the subset canary, whatever the weights"],
    ),
    "nothing to one subset, all elsewhere": (
        route(http=[{"match": MATCH, "route": [entry("canary", 0), entry("", 100, "other")]}, *ALSO]), [],
    ),
    "a third destination without a subset": (
        route(http=[{"route": [*TO_BOTH, entry("", 5)]}]), ["sends to any pod beside the two subsets"],
    ),
    "a third subset": (
        route(http=[{"route": [*TO_BOTH, entry("next", 5)]}]), ["sends to the subset next beside the two subsets"],
    ),
    "a third destination without weight": (route(http=[{"route": [*TO_BOTH, entry(), entry("next", 0)]}]), []),
    "another Service beside the two": (
        route(http=[{"route": [*TO_BOTH, entry("", 10, "other")]}]),
        [f"sends a part of the requests to other.{NAMESPACE}.svc.cluster.local"],
    ),
    "another Service without weight": (route(http=[{"route": [*TO_BOTH, entry("", 0, "other")]}]), []),
    "another Service by a route of its own": (route(http=[{"match": MATCH, "route": [entry(host="other")]}, *ALSO]), []),
    "a subset twice": (route(http=[{"route": [*TO_BOTH, entry("canary", 0, port={"number": 2})]}]), []),
    "copies to the canary": (
        route(http=[{"route": TO_BOTH, "mirror": MIRROR}]), ["mirrors to the subset canary, whatever the weights"],
    ),
    "copies to any pod": (
        route(http=[{"route": TO_BOTH, "mirrors": [{"destination": {"host": SHAPE.host}, "percentage": {"value": 5}}]}]),
        ["mirrors to any pod, whatever the weights"],
    ),
    "no copies": (
        route(http=[
            {"route": TO_BOTH, "mirror": MIRROR, "mirrorPercent": 0},
            {"route": TO_BOTH, "mirrors": [{"destination": MIRROR, "percentage": {}}]},
        ]), [],
    ),
    "copies to another": (route(http=[{"route": TO_BOTH, "mirror": {"host": "other"}}]), []),
    "copies of what goes elsewhere": (
        route(http=[{"match": MATCH, "redirect": {"uri": "/"}, "mirror": MIRROR}, *ALSO]),
        ["mirrors to the subset canary, whatever the weights"],
    ),
    "connections": (
        route(tcp=[{"route": [entry()]}], tls=[{"route": [entry("production")]}, {"route": [entry(host="other")]}]),
        [
            "sends TCP connections to any pod, whatever the weights",
            "sends TLS connections to the subset production, whatever the weights",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("own", "said"), WAYS.values(), ids=[*WAYS])
def test_a_way_past_the_weights_is_an_obstacle(own: dict[str, Any], said: list[str]) -> None:
    """What of our own VirtualService reaches the service whatever the weights, or shares with them, is named; no more."""
    assert obstacles([own], SERVICE, SHAPE) == [f"the VirtualService {NAME} {text}" for text in said]


# --- the way in -------------------------------------------------------------------------------------------------------

UNBOUND = replace(SHAPE, delegate=True, hosts=(), gateways=())


def root(name: str = "root", namespace: str = NAMESPACE, **spec: Any) -> dict[str, Any]:
    """A VirtualService that delegates to ours."""
    delegate = {"name": "product-page-virtual-service", "namespace": NAMESPACE}
    whole = {"hosts": ["shop.example.com"], "gateways": ["edge"], "http": [{"delegate": delegate}], **spec}
    return rival(name, namespace, **whole)


def delegating(**more: Any) -> list[dict[str, Any]]:
    return [{"delegate": {"name": "product-page-virtual-service", **more.pop("delegate", {})}, **more}]


OWN_EDGE, ELSEWHERE = f"{NAMESPACE}/edge", {"delegate": {"namespace": "other"}}
# what delegates -> roots, gateways and hosts that the delegate has by them
ROOTS: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "none": ([], (), (), ()),
    "one beside it": ([root()], (f"{NAMESPACE}/root",), (OWN_EDGE,), ("shop.example.com",)),
    "one beside it that leaves the namespace out": (
        [root(http=delegating())], (f"{NAMESPACE}/root",), (OWN_EDGE,), ("shop.example.com",),
    ),
    "one of another namespace": ([root(namespace="istio-system")], ("istio-system/root",), ("istio-system/edge",),
                                 ("shop.example.com",)),
    "one of another namespace that means its own": ([root(namespace="other", http=delegating())], (), (), ()),
    "one that means another namespace": ([root(http=delegating(**ELSEWHERE))], (), (), ()),
    "two": (
        [root(), root("second", "edge", hosts=["b.example.com", "shop.example.com"], gateways=["mesh", "edge"])],
        (f"{NAMESPACE}/root", "edge/second"), (OWN_EDGE, "mesh", "edge/edge"), ("shop.example.com", "b.example.com"),
    ),
    "one without gateways, which is the mesh": (
        [root(gateways=[], hosts=["page"])], (f"{NAMESPACE}/root",), ("mesh",), (f"page.{NAMESPACE}.svc.cluster.local",),
    ),
    "one that narrows its gateways": (
        [root(gateways=["edge", "mesh"], http=delegating(match=[{"gateways": ["edge"]}]))],
        (f"{NAMESPACE}/root",), (OWN_EDGE,), ("shop.example.com",),
    ),
    "one that narrows some": (
        [root(gateways=["edge", "mesh"], http=delegating(match=[{"gateways": ["edge"]}, {"uri": {"prefix": "/"}}]))],
        (f"{NAMESPACE}/root",), (OWN_EDGE, "mesh"), ("shop.example.com",),
    ),
    "one that is a delegate itself": ([root(hosts=[])], (), (), ()),
    "one that delegates to another": (
        [root(http=[{"delegate": {"name": "x"}}, {"route": [entry(host="y")]}])], (), (), (),
    ),
    "not exported to it": (
        [root(namespace="edge"), route(hosts=None, exportTo=["."])], (), (), (),
    ),
    "exported to it": (
        [root(namespace="edge"), root(), route(hosts=None, exportTo=["edge", "."])],
        ("edge/root", f"{NAMESPACE}/root"), ("edge/edge", OWN_EDGE), ("shop.example.com",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("others", "roots", "gateways", "hosts"), ROOTS.values(), ids=[*ROOTS])
def test_a_delegate_is_where_its_roots_are(
    others: list[dict[str, Any]], roots: tuple[str, ...], gateways: tuple[str, ...], hosts: tuple[str, ...]
) -> None:
    """Hosts and Gateways of a VirtualService without hosts are those of the ones that delegate to it, as Istio merges them."""
    found = follow_roots(UNBOUND, others, all_read=True)

    assert (found.roots, found.gateways, found.hosts, found.all_roots) == (roots, gateways, hosts, True)
    said = obstacles(others, SERVICE, found)
    assert [text for text in said if "no request arrives" in text] == (
        []
        if roots
        else [f"the VirtualService {NAME} has no hosts, and no VirtualService delegates to it: no request arrives"]
    )


def test_a_delegate_whose_roots_are_not_all_read_is_not_called_unreachable() -> None:
    """What could not be read may be the root; callers that are not seen are reckoned with."""
    found = follow_roots(UNBOUND, [], all_read=False)

    assert obstacles([], SERVICE, found) == []
    assert found.unknown_callers
    assert not follow_roots(UNBOUND, [root()], all_read=True).unknown_callers


def test_only_a_delegate_has_roots() -> None:
    """Istio takes no VirtualService with hosts for a delegate, whoever delegates to it."""
    assert follow_roots(SHAPE, [root()], all_read=True) == SHAPE


def test_a_root_is_no_rival_of_its_delegate() -> None:
    """It has the delegate's hosts in the mesh; what it sends to the Service by itself is another way all the same."""
    meshed = root(gateways=["mesh"])
    bound = follow_roots(UNBOUND, [meshed], all_read=True)
    assert obstacles([meshed], SERVICE, bound) == []

    twice = root(http=[*meshed["spec"]["http"], *to(SHAPE.host)])
    (found,) = obstacles([twice], SERVICE, bound)
    assert "also routes to" in found


def test_a_chart_with_a_delegate_has_a_shape() -> None:
    """A VirtualService without hosts is found as the one that has the weights, and is bound to nothing by itself."""
    things = objects("steady.yaml")
    (own,) = (thing for thing in things if thing["kind"] == "VirtualService")
    del own["spec"]["hosts"], own["spec"]["gateways"]

    found = find_shape(things, NAMESPACE)

    assert (found.delegate, found.gateways, found.hosts, found.ports) == (True, (), (), (9080,))


(GATEWAY,) = SHAPE.gateways


def listener(port: int = 80, protocol: str = "HTTP", hosts: tuple[str, ...] = ("*",), **tls: Any) -> dict[str, Any]:
    return {"port": {"number": port, "protocol": protocol}, "hosts": list(hosts), **({"tls": tls} if tls else {})}


def gateway(*servers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"servers": list(servers) or [listener()]}}


FOUND: list[tuple[tuple[str, ...], dict[str, dict[str, Any] | None], bool]] = [
    ((GATEWAY,), {GATEWAY: gateway()}, True),
    ((GATEWAY,), {GATEWAY: None}, False),
    ((GATEWAY,), {}, True),
    ((GATEWAY, "edge/shared"), {GATEWAY: None, "edge/shared": gateway()}, True),
    ((GATEWAY, "edge/shared"), {GATEWAY: None, "edge/shared": None}, False),
    ((GATEWAY, "edge/shared"), {GATEWAY: None}, True),
    ((GATEWAY, "mesh"), {GATEWAY: None}, True),
    (("mesh",), {}, True),
]


@pytest.mark.parametrize(("bound", "gateways", "fine"), FOUND)
def test_a_virtual_service_needs_a_gateway_that_exists(
    bound: tuple[str, ...], gateways: dict[str, dict[str, Any] | None], fine: bool
) -> None:
    """Where none of its Gateways exists and no sidecar follows it either no request arrives; what was not read may exist."""
    found = obstacles([ROUTE], SERVICE, replace(SHAPE, gateways=bound), gateways)

    said = (
        f"the VirtualService {NAME} is bound to {' and '.join(bound)}, and there is no such Gateway: no request arrives"
    )
    assert found == ([] if fine else [said])


# a Gateway's server, its namespace, the VirtualService's hosts -> whether it takes their requests
SERVERS: dict[str, tuple[dict[str, Any], str, tuple[str, ...], bool]] = {
    "any host": (listener(), "edge", ("shop.example.com",), True),
    "this host": (listener(hosts=("shop.example.com",)), "edge", ("shop.example.com",), True),
    "this host in capitals": (listener(hosts=("Shop.example.com",)), "edge", ("shop.Example.com",), True),
    "another host": (listener(hosts=("www.example.com",)), "edge", ("shop.example.com",), False),
    "one of the hosts": (listener(hosts=("www.example.com", "b.example.com")), "edge", ("a.example.com", "b.example.com"), True),
    "all hosts of a domain": (listener(hosts=("*.example.com",)), "edge", ("shop.example.com",), True),
    "all hosts of another domain": (listener(hosts=("*.example.org",)), "edge", ("shop.example.com",), False),
    "a domain is no host of itself": (listener(hosts=("*.example.com",)), "edge", ("example.com",), False),
    "a host of all that are asked for": (listener(hosts=("shop.example.com",)), "edge", ("*.example.com",), True),
    "a host of any": (listener(hosts=("shop.example.com",)), "edge", ("*",), True),
    "for this namespace": (listener(hosts=(f"{NAMESPACE}/*",)), "edge", ("shop.example.com",), True),
    "for another namespace": (listener(hosts=("other/*",)), "edge", ("shop.example.com",), False),
    "for its own namespace, another": (listener(hosts=("./*",)), "edge", ("shop.example.com",), False),
    "for its own namespace, this": (listener(hosts=("./*",)), NAMESPACE, ("shop.example.com",), True),
    "for every namespace": (listener(hosts=("*/shop.example.com",)), "edge", ("shop.example.com",), True),
    "HTTP/2": (listener(protocol="HTTP2"), "edge", ("shop.example.com",), True),
    "gRPC": (listener(protocol="GRPC"), "edge", ("shop.example.com",), True),
    "TLS that it ends": (listener(443, "HTTPS", mode="SIMPLE"), "edge", ("shop.example.com",), True),
    "TLS that it passes through": (listener(443, "HTTPS", mode="PASSTHROUGH"), "edge", ("shop.example.com",), False),
    "TLS of no protocol": (listener(443, "TLS", mode="SIMPLE"), "edge", ("shop.example.com",), False),
    "connections": (listener(31400, "TCP"), "edge", ("shop.example.com",), False),
}  # fmt: skip


@pytest.mark.parametrize(("server", "where", "hosts", "fine"), SERVERS.values(), ids=[*SERVERS])
def test_a_gateway_must_take_a_host_of_the_virtual_service(
    server: dict[str, Any], where: str, hosts: tuple[str, ...], fine: bool
) -> None:
    """Where no server of any Gateway reads requests for one of the hosts no request arrives."""
    name = f"{where}/shared"
    for bound, known in (((name,), fine), ((name, "mesh"), True), ((name, "edge/unread"), True)):
        place = replace(SHAPE, gateways=bound, hosts=hosts)
        found = list(obstacles([], None, place, {name: gateway(server)}))
        assert [text.partition(", where ")[2] for text in found] == (
            [] if known else [f"no server takes HTTP requests for {' or '.join(hosts)}: no request arrives"]
        )


def test_a_server_for_a_namespace_takes_the_root_of_that_one() -> None:
    """Istio looks at the namespace of the VirtualService that has the hosts, which is the root."""
    bound = follow_roots(UNBOUND, [root(namespace="edge")], all_read=True)
    (name,) = bound.gateways

    assert list(obstacles([], None, bound, {name: gateway(listener(hosts=("./*",)))})) == []
    (found,) = obstacles([], None, bound, {name: gateway(listener(hosts=(f"{NAMESPACE}/*",)))})
    assert "no server takes" in found


# the Service's ports, those that the routes name, the Gateway's -> whether requests find their port
CHOSEN: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], bool]] = [
    ((9080,), (), (80,), True),
    ((80, 9090), (), (80,), True),
    ((9080, 9090), (), (80,), False),
    ((9080, 9090), (), (80, 9080), True),
    ((9080, 9090), (9080,), (80,), True),
    ((9080, 9090), (9080, 9090), (80,), True),
]


@pytest.mark.parametrize(("ports", "named", "listened", "fine"), CHOSEN)
def test_a_service_of_several_ports_needs_one_that_is_named(
    ports: tuple[int, ...], named: tuple[int, ...], listened: tuple[int, ...], fine: bool
) -> None:
    """Without a port in the route Istio takes the Service's only one, else the listener's: where that is none, all is 503."""
    service = {"spec": {"ports": [{"name": f"http-{port}", "port": port} for port in ports]}}
    shown = gateway(*(listener(port) for port in listened))
    place = replace(SHAPE, ports=named)

    found = list(obstacles([], service, place, {GATEWAY: shown}))

    assert ["names no port of the Service" in text for text in found] == ([] if fine else [True])
    assert list(obstacles([], service, replace(place, gateways=(GATEWAY, "mesh")), {GATEWAY: shown})) == []
    assert list(obstacles([], service, place, {})) == []
