"""Rule 4: an upgrade may change what its step is for, and nothing else; deletions included."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.core.model import Change, Direction, Record, Shared, Split, Track, TrackTarget, Upgrade, Version
from helm_canary.guard import Difference, as_helm_applies, compare, unwanted
from helm_canary.manifest import canonical
from helm_canary.observe import last_hand
from tests.adapters.recordings import items, objects, rendered, shape

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = shape()
LIVE = items("steady.json")
OLD = rendered("steady.yaml", Track.PRODUCTION)


def step(change: Change, track: Track | None = None, version: Version = OLD) -> Upgrade:
    target = TrackTarget(version=version, replicas=2)
    record = Record(
        direction=Direction.FORWARD,
        previous=OLD,
        new=version,
        reached="steady",
        toward="canary-10",
        weights=(10, 100),
        replicas=2,
    )
    return Upgrade(
        change=change,
        track=track,
        production=target,
        canary=target,
        split=Split(production=90, canary=10),
        record=record,
        why="",
    )


def compared(change: Callable[[list[dict[str, Any]]], object]) -> list[Difference]:
    """What an upgrade would change, where the dry run answers with the live objects after `change`."""
    would = copy.deepcopy(LIVE)
    change(would)
    return compare(LIVE, would, objects("steady.yaml"), objects("steady.yaml"))


HANDS = [
    {"manager": "helm", "time": "3", "fieldsV1": {"f:spec": {"f:http": {}, "f:hosts": {}}}},
    {"manager": "kubectl-patch", "time": "1", "fieldsV1": {"f:spec": {"f:http": {}}}},
    {"manager": "kubectl-edit", "time": "2", "fieldsV1": {"f:spec": {"f:http": {}, "f:ports": {'k:{"port":80}': {}}}}},
    {"manager": "kubelet", "time": "4", "fieldsV1": {"f:status": {}}},
]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("spec.http[0].timeout", ("kubectl-edit", "2")),
        ("spec.http", ("kubectl-edit", "2")),
        ("spec.ports[0].name", ("kubectl-edit", "2")),
        ("spec.hosts[1]", ("", "")),
        ("spec.type", ("", "")),
    ],
)
def test_who_wrote_a_field_last(path: str, expected: tuple[str, str]) -> None:
    """The last other hand that owns the field, or the list or map which holds it; Helm and status writers are none."""
    assert last_hand({"metadata": {"managedFields": HANDS}}, path) == expected


def one(things: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    return next(thing for thing in things if thing["kind"] == kind and thing["metadata"]["name"].endswith(name))


def weights(things: list[dict[str, Any]]) -> None:
    for entry, weight in zip(one(things, "VirtualService")["spec"]["http"][0]["route"], (90, 10), strict=True):
        entry["weight"] = weight


def test_nothing_changes() -> None:
    """The live objects themselves are no change, and every step may make it."""
    assert compared(lambda things: None) == []


WEIGHT, CANARY, PRODUCTION = step(Change.WEIGHT), step(Change.SCALE, Track.CANARY), step(Change.SCALE, Track.PRODUCTION)
RECORD, SHARED, INSTALL = step(Change.RECORD), step(Change.SHARED), step(Change.INSTALL)

# what would change -> the steps that may do it
CHANGES: dict[str, tuple[Callable[[list[dict[str, Any]]], object], tuple[Upgrade, ...]]] = {
    "the weights": (weights, (WEIGHT,)),
    "a retry": (lambda things: one(things, "VirtualService")["spec"]["http"][0].update(retries={"attempts": 9}), ()),
    "a host": (lambda things: one(things, "VirtualService")["spec"]["hosts"].append("x"), ()),
    "a route more": (
        lambda things: one(things, "VirtualService")["spec"]["http"].append({"route": [{"weight": 100}]}), (),
    ),
    "a header of a route": (
        lambda things: one(things, "VirtualService")["spec"]["http"][0]["route"][0].update(headers={}), (),
    ),
    "the canary's replicas": (lambda things: one(things, "Deployment", "canary")["spec"].update(replicas=2), (CANARY,)),
    "the canary's image": (
        lambda things: one(things, "Deployment", "canary")["spec"]["template"]["spec"]["containers"][0].update(image="x:84"),
        (CANARY,),
    ),
    "production's replicas": (
        lambda things: one(things, "Deployment", "productpage")["spec"].update(replicas=3), (PRODUCTION,),
    ),
    "production's image": (
        lambda things: one(things, "Deployment", "productpage")["spec"]["template"]["spec"]["containers"][0].update(image="x:84"),
        (PRODUCTION,),
    ),
    "the Service": (lambda things: one(things, "Service")["spec"]["ports"][0].update(port=80), ()),
    "a subset": (lambda things: one(things, "DestinationRule")["spec"]["subsets"][0].update(name="x"), ()),
    "the Gateway's hosts": (lambda things: one(things, "Gateway")["spec"]["servers"][0]["hosts"].append("x"), ()),
    "an object more": (
        lambda things: things.append({"kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"a": "b"}}), (),
    ),
    "an object's label": (lambda things: one(things, "Service")["metadata"]["labels"].update(team="x"), ()),
}  # fmt: skip
STEPS = {
    "weight": WEIGHT,
    "canary": CANARY,
    "production": PRODUCTION,
    "record": RECORD,
    "shared": SHARED,
    "install": INSTALL,
}


@pytest.mark.parametrize(("change", "may"), CHANGES.values(), ids=[*CHANGES])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_what_it_is_for(
    change: Callable[[list[dict[str, Any]]], object], may: tuple[Upgrade, ...], name: str
) -> None:
    """A weight step the weights, a scale step its one Deployment, a record step and a second rendering nothing."""
    found = compared(change)

    assert found
    assert (unwanted(found, STEPS[name], SHAPE) == []) == (STEPS[name] in may)


def test_both_at_once_is_told_field_by_field() -> None:
    """What a step may do is not held against it, and everything else is named with before and after."""

    def both(things: list[dict[str, Any]]) -> None:
        weights(things)
        one(things, "Service")["spec"]["ports"][0]["targetPort"] = 80

    (only,) = unwanted(compared(both), WEIGHT, SHAPE)

    assert str(only) == 'Service/product-page-svc spec.ports[9080/TCP].targetPort: "http" -> 80'


def test_an_object_that_is_not_rendered_any_more_would_be_deleted() -> None:
    """Helm deletes what the newest manifest holds and the new one does not: a Deployment too, in its own scale step."""
    left = [thing for thing in objects("steady.yaml") if thing["kind"] != "Gateway"]

    (gone,) = compare(LIVE, LIVE, objects("steady.yaml"), left)

    assert str(gone) == "Gateway/product-page: there -> deleted"
    for name in ("weight", "canary", "production", "record", "shared"):
        assert unwanted([gone], STEPS[name], SHAPE) == [gone]
    deployment = replace(gone, where="Deployment/productpagecanary")
    assert unwanted([deployment], CANARY, SHAPE) == [deployment]


def without_route(change: Callable[[list[dict[str, Any]]], object]) -> list[Difference]:
    """What an upgrade would change where another hand deleted the VirtualService, with a chart that renders it so now."""
    live = [item for item in LIVE if item["kind"] != "VirtualService"]
    now = copy.deepcopy(list(objects("steady.yaml")))
    change(now)
    would = [one(now, "VirtualService") if item["kind"] == "VirtualService" else item for item in LIVE]
    return compare(live, would, objects("steady.yaml"), now)


def test_a_deleted_route_is_written_again_as_it_was() -> None:
    """A weight step may make it, with the weights of its plan; no other step may, and nothing else of it may be new."""
    for change in (lambda things: None, weights):
        found = without_route(change)
        assert "VirtualService/product-page-virtual-service: nothing -> created" in map(str, found)
        may = {name for name in STEPS if unwanted(found, STEPS[name], SHAPE) == []}
        assert may == {"weight"}
    found = without_route(lambda things: one(things, "VirtualService")["spec"]["hosts"].append("x"))
    (only,) = unwanted(found, WEIGHT, SHAPE)
    assert (only.where, only.path) == ("VirtualService/product-page-virtual-service", "spec.hosts[2]")


def test_the_step_that_makes_a_deleted_route_may_change_what_is_allowed() -> None:
    """It comes first, so the shared changes of the release cannot be made before it."""
    service = Difference(where="Service/x", path="spec.type", live="ClusterIP", would="NodePort")
    found = [*without_route(lambda things: None), service]
    assert unwanted(found, WEIGHT, SHAPE) == [service]
    assert unwanted(found, WEIGHT, SHAPE, allowed=("Service/x",)) == []
    assert unwanted([service], WEIGHT, SHAPE, allowed=("Service/x",)) == [service]


def test_a_shared_change_is_made_only_where_it_was_allowed_and_in_its_step() -> None:
    """`--allow KIND/NAME` is one object, and holds for the step that is for it."""
    found = compared(lambda things: one(things, "Service")["spec"]["ports"][0].update(port=80))

    allowed = replace(SHARED, shared=Shared(change=("Service/product-page-svc",)))
    others = replace(SHARED, shared=Shared(change=("Service/product-page", "DestinationRule/product-page-svc")))
    assert unwanted(found, allowed, SHAPE) == []
    assert unwanted(found, others, SHAPE) == found
    assert unwanted(found, WEIGHT, SHAPE, allowed=("Service/product-page-svc",)) == found


@pytest.mark.parametrize("track", Track)
@pytest.mark.parametrize("name", STEPS)
def test_no_permission_covers_a_tracks_pods(name: str, track: Track) -> None:
    """Whatever is allowed or planned of shared objects, a track's Deployment changes in its own scale step alone."""
    where = f"Deployment/{SHAPE.deployment(track)}"
    pods = Difference(where=where, path="spec.template.spec.containers[0].env", live="nothing", would="MODE")
    every = replace(STEPS[name], shared=Shared(change=(where,), create=(where,), restore=(where,)))

    found = unwanted([pods], every, SHAPE, allowed=(where,), unapplied=(where,))

    assert found == ([] if STEPS[name].track is track else [pods])


def test_what_helm_did_not_apply_whole_is_applied_with_the_next_step() -> None:
    """An object of such a revision becomes what is stored, but not where another hand changed it meanwhile."""
    late = Difference(where="ConfigMap/x", path="data.a", live="1", would="2")

    assert unwanted([late], WEIGHT, SHAPE, unapplied=("ConfigMap/x",)) == []
    assert unwanted([late], WEIGHT, SHAPE, unapplied=("ConfigMap/y",)) == [late]
    edited = replace(late, manager="kubectl-edit")
    assert unwanted([edited], WEIGHT, SHAPE, unapplied=("ConfigMap/x",)) == [edited]


@pytest.mark.parametrize(("pod", "kept"), [
    ({"volumes": [{"configMap": {"name": "settings"}}]}, True),
    ({"containers": [{"envFrom": [{"secretRef": {"name": "settings"}}]}]}, True),
    ({"volumes": [{"configMap": {"name": "settings-2"}}]}, False),
    ({"volumes": []}, False),
])  # fmt: skip
@pytest.mark.parametrize("role", ["previous", "new"])
def test_what_a_version_names_is_not_deleted(role: str, pod: dict[str, Any], kept: bool) -> None:
    """Its pods may start again at any time until the release is finished, `--allow` or not."""
    naming = Version(tag="x", digest="y", production=canonical({"spec": pod}), canary=canonical({"spec": pod}))
    record = replace(SHARED.record, previous=naming) if role == "previous" else replace(SHARED.record, new=naming)
    shared = replace(SHARED, record=record, shared=Shared(remove=("ConfigMap/settings",)))
    gone = Difference(where="ConfigMap/settings", path="", live="there", would="deleted")

    assert (unwanted([gone], shared, SHAPE) == [gone]) is kept
    over = replace(shared, record=replace(record, direction=Direction.FINISHED))
    assert unwanted([gone], over, SHAPE) == []


def test_helms_own_marks_are_part_of_what_is_tried() -> None:
    """A dry run without them would take them away; what the chart sets itself stays."""
    given: list[dict[str, Any]] = [
        {"kind": "Service", "metadata": {"name": "x", "labels": {"a": "b"}, "namespace": "other"}},
        {"kind": "Y", "metadata": None},
    ]

    first, second = as_helm_applies(given, "page", "shop")

    assert first["metadata"] == {
        "name": "x", "namespace": "other", "labels": {"a": "b", "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "page", "meta.helm.sh/release-namespace": "shop"},
    }  # fmt: skip
    assert second["metadata"]["namespace"] == "shop"
    assert given[0]["metadata"] == {"name": "x", "labels": {"a": "b"}, "namespace": "other"}
