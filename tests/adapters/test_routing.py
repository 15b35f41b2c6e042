"""The weights that a VirtualService asks for, and what would make them mean nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from helm_canary.core.model import Split
from helm_canary.routing import asked_split, obstacles
from tests.adapters.record import NAMESPACE
from tests.adapters.recordings import items, shape

SHAPE = shape()
MESHED = replace(SHAPE, gateways=(*SHAPE.gateways, "mesh"))
(ROUTE,) = (item for item in items("canary-10.json") if item["kind"] == "VirtualService")
(SERVICE,) = (item for item in items("canary-10.json") if item["kind"] == "Service")


def route(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(ROUTE)
    made["spec"].update(changes)
    return made


def test_the_weights_asked_are_read() -> None:
    """From the live object; without one there are none."""
    assert asked_split(ROUTE, SHAPE) == Split(production=90, canary=10)
    assert asked_split(None, SHAPE) is None


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


# another VirtualService -> a part of what is said, or None where it is no obstacle: bound to gateways alone, and to the mesh too
RIVALS: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "to the Service by its short name": (rival(http=to("product-page-svc")), "also routes to", "also routes to"),
    "to the Service by its full name": (rival(http=to(SHAPE.host, subset="canary")), "also routes to", "also routes to"),
    "to the Service from another namespace": (rival(namespace="other", http=to(SHAPE.host)), "also routes to", "also routes to"),
    "to a Service of that name elsewhere": (rival(namespace="other", http=to("product-page-svc")), None, None),
    "to another Service": (rival(hosts=["x"], http=to("other")), None, None),
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


@pytest.mark.parametrize(("other", "alone", "meshed"), RIVALS.values(), ids=[*RIVALS])
def test_rival_routes_are_obstacles(other: dict[str, Any], alone: str | None, meshed: str | None) -> None:
    """Any that routes to this Service, and in the mesh any with one of our hosts; a shared host on gateways is fine."""
    for place, said in ((SHAPE, alone), (MESHED, meshed)):
        found = list(obstacles([ROUTE, other], SERVICE, place))
        assert len(found) == (said is not None)
        assert said is None or (said in found[0] and other["metadata"]["name"] in found[0])


PORTS: list[tuple[list[dict[str, Any]] | None, bool]] = [
    ([{"name": "http", "port": 1}], True),
    ([{"port": 1}], True),
    ([{"name": "tcp", "port": 1}], False),
    ([{"name": "tcp", "port": 1}, {"name": "http-2", "port": 2}], True),
    ([{"name": "tcp", "port": 1, "appProtocol": "http"}], True),
    ([], False),
    (None, False),
]


@pytest.mark.parametrize(("ports", "fine"), PORTS)
def test_a_service_needs_a_port_that_is_http(ports: list[dict[str, Any]] | None, fine: bool) -> None:
    """Without one Istio splits connections by their address, and no weight has a say."""
    found = list(obstacles([], {"spec": {"ports": ports}}, SHAPE))

    assert (found == []) is fine
    assert list(obstacles([], None, SHAPE)) == []


@pytest.mark.parametrize("destination", [{"subset": "canary"}, {}], ids=["one subset", "no subset"])
def test_a_way_past_the_weights_is_an_obstacle(destination: dict[str, str]) -> None:
    """A route of our own VirtualService that reaches the service whatever the weights is named, not left unproven for ever."""
    match = [{"headers": {"x-try": {"exact": "1"}}}]
    extra = {"match": match, "route": [{"destination": {"host": SHAPE.host, **destination}}]}
    (found,) = obstacles([route(http=[extra, *ROUTE["spec"]["http"]])], None, SHAPE)
    assert "whatever the weights" in found
