"""What an installation must not meet, and the other ways to a service's pods: objects as kubectl and helm leave them."""

from __future__ import annotations

from typing import Any

import pytest

from helm_canary.bypasses import bypasses
from helm_canary.cluster import Live
from helm_canary.helm import Stored
from helm_canary.installing import in_the_way
from helm_canary.observe import observe
from tests.adapters.record import NAMESPACE
from tests.adapters.recordings import items, objects, revision, shape, text

RELEASE = "productpage"
SHAPE = shape()
RENDERED = objects("steady.yaml")
SERVICE = next(thing for thing in RENDERED if thing["kind"] == "Service")
POD = {**SERVICE["spec"]["selector"], "canary": "false"}


def live(kind: str, name: str, *, owner: str = "", hand: str = "", **spec: Any) -> dict[str, Any]:
    """A live object: Helm's, for the release `owner` (`NAMESPACE/NAME`), or written by another hand."""
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    if owner:
        where, _, release = owner.partition("/")
        metadata["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": where}
    if hand:
        metadata["managedFields"] = [{"manager": hand}, {"manager": "kube-controller", "subresource": "status"}]
    return {"kind": kind, "metadata": metadata, "spec": spec}


def pod(*, ready: bool = True, ending: bool = False, labels: dict[str, str] = POD) -> dict[str, Any]:
    found = live("Pod", "pod")
    found["metadata"] |= {"labels": labels} | ({"deletionTimestamp": "now"} if ending else {})
    found["status"] = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return found


OURS = f"{NAMESPACE}/{RELEASE}"
OWN = live("Service", SHAPE.service, owner=OURS, selector=SERVICE["spec"]["selector"])
# What is live before an installation -> what of it is in the way, each by a part of what is said.
LIVE: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "nothing": ([], []),
    "other objects": ([live("Service", "other"), live("Deployment", "other")], []),
    "an object of another kind by that name": ([live("Pod", SHAPE.production)], []),
    "a Service that kubectl made": (
        [live("Service", SHAPE.service, hand="kubectl-client-side-apply", selector={"app": "x"})],
        [f"Service/{SHAPE.service} is there already, made by kubectl-client-side-apply"],
    ),
    "that serves": (
        [live("Service", SHAPE.service, hand="kubectl", selector={"app": "x"}), pod(labels={"app": "x"})],
        [f"the Service {SHAPE.service} has a pod already", f"Service/{SHAPE.service} is there already"],
    ),
    "a Service of ours without pods": ([OWN], []),
    "that serves, labelled as if it were ours": ([OWN, pod(), pod()], ["has 2 pods already"]),
    "whose pods are not Ready": ([OWN, pod(ready=False)], []),
    "whose pods are not Ready, and get traffic": (
        [{**OWN, "spec": {**OWN["spec"], "publishNotReadyAddresses": True}}, pod(ready=False)],
        ["has a pod already"],
    ),
    "whose pods end": ([OWN, pod(ending=True)], []),
    "whose endpoints others write": (
        [live("Service", SHAPE.service, owner=OURS)],
        ["sends to endpoints that others give it"],
    ),
    "that is a name outside": (
        [live("Service", SHAPE.service, owner=OURS, type="ExternalName", selector={"app": "x"})],
        ["sends to endpoints that others give it"],
    ),
    "a Deployment of another release": (
        [live("Deployment", SHAPE.production, owner="elsewhere/page")],
        [f"Deployment/{SHAPE.production} is there already, as Helm release page in namespace elsewhere has it"],
    ),
    "a Deployment of this release in another namespace": (
        [live("Deployment", SHAPE.canary, owner=f"elsewhere/{RELEASE}")],
        ["in namespace elsewhere has it"],
    ),
    "a Deployment that nobody owns": (
        [live("Deployment", SHAPE.production)],
        [f"Deployment/{SHAPE.production} is there already, made by others"],
    ),
    "routing of others": (
        [live("VirtualService", SHAPE.route, hand="istioctl"), live("DestinationRule", SHAPE.rule, hand="kubectl")],
        [f"VirtualService/{SHAPE.route} is there already", f"DestinationRule/{SHAPE.rule} is there already"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("there", "said"), LIVE.values(), ids=[*LIVE])
def test_what_is_in_the_way_of_an_installation(there: list[dict[str, Any]], said: list[str]) -> None:
    """A Service that serves, and every object that Helm would not import, with whose it is; no advice deletes any."""
    found = list(in_the_way(RENDERED, there, SHAPE, RELEASE))

    assert len(found) == len(said), list(map(str, found))
    assert all(any(part in str(one) for one in found) for part in said), list(map(str, found))
    assert all("Leave it as it is" in one.do_next for one in found)


def test_an_object_of_another_namespace_is_not_in_the_way() -> None:
    """A chart's Gateway beside the gateway's pods is not one of the same name in the service's namespace."""
    elsewhere = [{**thing, "metadata": {**thing["metadata"], "namespace": "edge"}} for thing in RENDERED]

    assert list(in_the_way(elsewhere, [live("Gateway", RENDERED[-1]["metadata"]["name"])], SHAPE, RELEASE)) == []


def test_only_an_installation_asks_for_it() -> None:
    """A release that is there is not refused for its own pods; one that is not there is, for the same pods."""
    there = Live(items=(*items("steady.json"), pod()))
    newest = revision(text("steady.yaml"))

    found = observe(Stored(), there, SHAPE, rendered=RENDERED, release=RELEASE)
    again = observe(Stored(newest=newest, applied=newest), there, SHAPE, rendered=RENDERED, release=RELEASE)

    assert any("has a pod already" in str(one) for one in found.obstacles)
    assert again.obstacles == ()


BACKEND = {"service": {"name": SHAPE.service, "port": {"number": 80}}}
PATHS = [{"path": "/", "backend": BACKEND}]
WAYS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a load balancer": (
        {**SERVICE, "spec": {**SERVICE["spec"], "type": "LoadBalancer"}}, "can be reached by its load balancer, whatever",
    ),
    "ports of the nodes": (
        {**SERVICE, "spec": {**SERVICE["spec"], "type": "NodePort"}}, "the port that it opens on every node",
    ),
    "an external address": (
        {**SERVICE, "spec": {**SERVICE["spec"], "externalIPs": ["192.0.2.1"]}}, "its external address, whatever",
    ),
    "an address in the cluster": ({**SERVICE, "spec": {**SERVICE["spec"], "type": "ClusterIP"}}, None),
    "a second Service": (
        live("Service", "second", selector=SERVICE["spec"]["selector"]), "second selects the pods of both tracks too",
    ),
    "a second Service for the canary": (
        live("Service", "second", selector={"canary": "true"}), "second selects the pods of canary too",
    ),
    "a second Service with a load balancer": (
        live("Service", "second", selector={"canary": "false"}, type="LoadBalancer"), "second can be reached by its load",
    ),
    "a Service for other pods": (live("Service", "second", selector={"app": "other"}, type="LoadBalancer"), None),
    "a Service without pods": (live("Service", "second", type="LoadBalancer"), None),
    "an Ingress": (live("Ingress", "in", rules=[{"http": {"paths": PATHS}}]), "The Ingress in sends to the Service"),
    "an Ingress by default": (live("Ingress", "in", defaultBackend=BACKEND), "The Ingress in sends to the Service"),
    "an Ingress to another": (live("Ingress", "in", rules=[{"host": "x"}, {"http": {"paths": [{}]}}]), None),
    "an HTTPRoute": (
        live("HTTPRoute", "in", rules=[{"backendRefs": [{"name": SHAPE.service}]}]), "The HTTPRoute in sends to",
    ),
    "an HTTPRoute to another": (live("HTTPRoute", "in", rules=[{"backendRefs": [{"name": "x"}]}, {}]), None),
}  # fmt: skip


@pytest.mark.parametrize(("way", "said"), WAYS.values(), ids=[*WAYS])
def test_other_ways_to_the_pods_are_named(way: dict[str, Any], said: str | None) -> None:
    """Whatever sends to the pods without asking a proxy of Istio is named, rendered or live; what sends elsewhere is not."""
    rendered = [
        thing
        for thing in RENDERED
        if thing["kind"] != way["kind"] or thing["metadata"]["name"] != way["metadata"]["name"]
    ]
    for found in (list(bypasses([*rendered, way], [], SHAPE)), list(bypasses(rendered, [way], SHAPE))):
        assert len(found) == (said is not None)
        assert said is None or said in found[0]
