"""Which version a live Deployment runs: recorded objects, as helm, kubectl, webhooks and an older helm leave them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.cluster import Live
from helm_canary.core.model import Split, Track
from helm_canary.fields import Likeness, differences, normal
from helm_canary.helm import Stored
from helm_canary.observe import observe, runs, written_version
from tests.adapters.recordings import changed, deployment, items, live, rendered, revision, shape, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from helm_canary.core.model import Observed

SHAPE = shape()
OLD = rendered("steady.yaml", Track.PRODUCTION)
NEW = rendered("canary-10.yaml", Track.CANARY)
ENV = "spec.containers.0.env"
PROBE = "spec.containers.0.readinessProbe.periodSeconds"


def test_the_recordings_are_of_two_versions() -> None:
    """83 with a variable A, and 84 with B in its place."""
    assert (OLD.tag, NEW.tag) == ("83", "84")
    assert OLD != NEW


@pytest.mark.parametrize(("name", "track", "old", "new"), [
    ("steady.json", Track.PRODUCTION, True, False),
    ("steady.json", Track.CANARY, True, False),
    ("canary-10.json", Track.PRODUCTION, True, False),
    ("canary-10.json", Track.CANARY, False, True),
    ("restarted.json", Track.PRODUCTION, True, False),
    ("variable-added.json", Track.PRODUCTION, True, False),
    ("variable-removed.json", Track.PRODUCTION, False, False),
    ("image-edited.json", Track.PRODUCTION, False, False),
    ("helm-3.json", Track.PRODUCTION, True, False),
])  # fmt: skip
def test_recorded_deployments_run_what_they_run(name: str, track: Track, old: bool, new: bool) -> None:
    """A restart and a variable that somebody added leave the version what it is; one taken away, or another image, does not."""
    found = deployment(name, track)

    assert (bool(runs(found, OLD, SHAPE, track)), bool(runs(found, NEW, SHAPE, track))) == (old, new)


# What a version is changed in -> whether what runs is still recognised as it.
SAME: dict[str, dict[str, Any]] = {
    "the same": {},
    "half a processor": {"spec.containers.0.resources.requests.cpu": "0.05"},
    "half a processor as a number": {"spec.containers.0.resources.requests.cpu": 0.05},
    "memory in mebibytes": {"spec.containers.0.resources.requests.memory": "64Mi"},
    "memory in bytes": {"spec.containers.0.resources.requests.memory": 67108864},
    "a processor as a power of ten": {"spec.containers.0.resources.limits.cpu": "1e0"},
    "a processor in thousandths": {"spec.containers.0.resources.limits.cpu": "1000m"},
    "a large number as a float": {"spec.securityContext.fsGroup": 1000650000.0},
    "a number that is spelt as a float": {PROBE: 1.0},
    "an empty list": {"spec.tolerations": []},
    "an empty map": {"spec.nodeSelector": {}},
    "nothing at all": {"spec.volumes": None},
}
OTHER: dict[str, dict[str, Any]] = {
    "another tag": {"spec.containers.0.image": "localhost/cli-app:84"},
    "another value": {f"{ENV}.0.value": "2"},
    "a version that rises": {f"{ENV}.2.value": "1.2.4"},
    "a version that gets longer": {f"{ENV}.2.value": "1.2.3.4"},
    "a value that is the same number": {f"{ENV}.0.value": "1.0"},
    "a value that is the same quantity": {f"{ENV}.0.value": "1000m"},
    "a value that is the same number with a zero": {f"{ENV}.0.value": "01"},
    "a boolean written otherwise": {f"{ENV}.1.value": "True"},
    "a variable less": {f"{ENV}.0": ...},
    "a variable more": {ENV: [{"name": name, "value": value} for name, value in
                              (("A", "1"), ("FLAG", "true"), ("VERSION", "1.2.3"), ("B", "1"))]},
    "another probe": {PROBE: 2},
    "no probe": {"spec.containers.0.readinessProbe": ...},
    "another annotation": {"metadata.annotations": {"a": "1"}},
    "an annotation less": {"metadata.annotations": ...},
    "a label more": {"metadata.labels": {"app": "productpage", "release": "productpage", "team": "shop"}},
    "more memory": {"spec.containers.0.resources.requests.memory": "65Mi"},
    "no limit": {"spec.containers.0.resources.limits": ...},
    "another group": {"spec.securityContext.fsGroup": 1000650001},
    "a second container": {
        "spec.containers": [{"name": "productpage", "image": "localhost/cli-app:83"}, {"name": "b", "image": "b:1"}]
    },
    "another name of the container": {"spec.containers.0.name": "page"},
}  # fmt: skip


@pytest.mark.parametrize("changes", SAME.values(), ids=[*SAME])
def test_what_the_api_server_writes_otherwise_is_the_same(changes: dict[str, Any]) -> None:
    """Quantities, defaults and empty values that the API server spells in its own way make no other version."""
    assert runs(deployment("steady.json"), changed(OLD, changes), SHAPE, Track.PRODUCTION)


@pytest.mark.parametrize("changes", OTHER.values(), ids=[*OTHER])
def test_every_change_of_the_pods_is_another_version(changes: dict[str, Any]) -> None:
    """Also one that keeps its tag, one that only takes away, and a text that happens to be the same number."""
    assert not runs(deployment("steady.json"), changed(OLD, changes), SHAPE, Track.PRODUCTION)


@pytest.mark.parametrize("changes", OTHER.values(), ids=[*OTHER])
def test_a_release_that_helm_3_made_is_no_other_version(changes: dict[str, Any]) -> None:
    """Without an Apply entry of helm's the live fields have no owner: the version that was written is still preferred."""
    found = seen(items("helm-3.json"), "helm-3.yaml", target=changes)

    assert found.production.version == rendered("helm-3.yaml", Track.PRODUCTION)
    assert [edit for edit in found.edits if not edit.gone] == []  # of the other objects there is no recording


def seen(objects: list[dict[str, Any]], manifest: str, target: dict[str, Any] | None = None) -> Observed:
    """`observe`, with a target that is the written version with changes."""
    written = rendered(manifest, Track.PRODUCTION)
    wanted = changed(written, target) if target is not None else None
    newest = revision(text(manifest))
    return observe(Stored(newest=newest, applied=newest), Live(items=tuple(objects)), SHAPE, target=wanted)


def test_a_steady_release_is_observed() -> None:
    """Weights, replicas, readiness and versions of both tracks, and no edits."""
    found = seen(items("steady.json"), "steady.yaml")

    assert (found.asked, found.installed, found.applied, found.hpa) == (
        Split(production=100, canary=0),
        True,
        True,
        False,
    )
    assert (found.production.version, found.production.replicas, found.production.ready) == (OLD, 2, 2)
    assert (found.canary.version, found.canary.replicas, found.canary.ready) == (OLD, 0, 0)
    assert (found.edits, found.obstacles, found.written_replicas) == ((), (), 2)


def test_a_restart_by_hand_is_not_ready_yet_and_no_edit() -> None:
    """`kubectl rollout restart` in the middle: the version stays, the rollout is not complete."""
    state = seen(items("restarted.json"), "steady.yaml").production

    assert state.version == OLD
    assert not state.fully_ready


def test_an_edit_is_named_with_who_and_when() -> None:
    """A pod template that is no known version is told with the manager that touched it last."""
    found = seen(items("image-edited.json"), "steady.yaml")

    edit = next(edit for edit in found.edits if edit.where.endswith("/productpage"))
    assert "84" in edit.found
    assert edit.manager == "kubectl-set"
    assert edit.at.startswith("20")


def test_an_unknown_version_is_kept_whole() -> None:
    """What somebody else wrote can be rendered again as it stands."""
    found = seen(items("image-edited.json"), "steady.yaml").production.version

    assert found is not None
    assert (found.tag, found.production) == ("84", found.canary)
    assert runs(deployment("image-edited.json"), found, SHAPE, Track.PRODUCTION)


def _spoil(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = deployment("steady.json")
    change(found)
    return found


STATES: dict[str, tuple[Callable[[dict[str, Any]], object], tuple[int, bool]]] = {
    "as recorded": (lambda thing: None, (2, True)),
    "not seen by the controller yet": (lambda thing: thing["metadata"].update(generation=99), (0, False)),
    "no status yet": (lambda thing: thing.update(status={}), (0, False)),
    "status null": (lambda thing: thing.update(status=None), (0, False)),
    "an old pod left": (lambda thing: thing["status"].update(replicas=3), (2, False)),
    "one updated": (lambda thing: thing["status"].update(updatedReplicas=1), (1, False)),
    "available but old": (lambda thing: thing["status"].update(updatedReplicas=0), (0, False)),
    "one available": (lambda thing: thing["status"].update(availableReplicas=1), (1, False)),
    "scaled up": (lambda thing: thing["spec"].update(replicas=3), (2, False)),
}


@pytest.mark.parametrize(("change", "expected"), STATES.values(), ids=[*STATES])
def test_ready_is_updated_and_available_and_seen(
    change: Callable[[dict[str, Any]], object], expected: tuple[int, bool]
) -> None:
    """A rollout that is not complete is never fully Ready."""
    objects = [item for item in items("steady.json") if item["metadata"]["name"] != "productpage"]

    state = seen([*objects, _spoil(change)], "steady.yaml").production

    assert (state.ready, state.fully_ready) == expected


def test_an_autoscaler_of_production_is_seen() -> None:
    """One of another Deployment is not ours."""

    def scaler(name: str) -> dict[str, Any]:
        target = {"kind": "Deployment", "name": name}
        return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": {"scaleTargetRef": target}}

    assert seen([*items("steady.json"), scaler("productpage")], "steady.yaml").hpa
    assert not seen([*items("steady.json"), scaler("other")], "steady.yaml").hpa


def test_missing_objects_are_no_states() -> None:
    """Without the Deployment there is no version; without the VirtualService nothing is asked."""
    found = seen([item for item in items("steady.json") if item["kind"] == "Gateway"], "steady.yaml")

    assert (found.production.version, found.canary.version, found.asked) == (None, None, None)


@pytest.mark.parametrize(("kind", "name"), [("Service", SHAPE.service), ("DestinationRule", SHAPE.rule)])
def test_what_carries_the_traffic_and_was_deleted_is_an_edit(kind: str, name: str) -> None:
    """Without its Service or DestinationRule nothing reaches the pods; what was never applied is not missing."""
    there = live("steady.json")
    without = Live(items=tuple(item for item in there.items if item["kind"] != kind))
    newest = revision(text("steady.yaml"))
    only_new = revision(text("steady.yaml"), number=2, status="failed")

    def gone(stored: Stored, live: Live) -> list[str]:
        return [edit.where for edit in observe(stored, live, SHAPE).edits if edit.gone]

    assert gone(Stored(newest=newest, applied=newest), there) == []
    assert gone(Stored(newest=newest, applied=newest), without) == [f"{kind}/{name}"]
    assert gone(Stored(newest=only_new, applied=revision("")), without) == []


def test_no_release_is_observed_as_none() -> None:
    """An empty namespace."""
    found = observe(Stored(), Live(items=()), SHAPE)

    assert (found.installed, found.revision, found.record) == (False, 0, None)


def test_a_mutating_webhook_makes_no_other_version() -> None:
    """Fields that an admission webhook added in helm's own request belong to helm's Update entry, not to what it applied."""
    found = deployment("steady.json")
    container = found["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "INJECTED", "value": "1"})
    container["securityContext"]["readOnlyRootFilesystem"] = True
    found["spec"]["template"]["spec"]["tolerations"] = [{"key": "x", "operator": "Exists"}]
    name = 'k:{"name":"productpage"}'
    fields: dict[str, Any] = {name: {"f:env": {'k:{"name":"INJECTED"}': {".": {}, "f:name": {}, "f:value": {}}}}}
    pod = {"f:containers": fields, "f:tolerations": {}}
    found["metadata"]["managedFields"].append({
        "manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": pod}}},
    })  # fmt: skip

    assert runs(found, OLD, SHAPE, Track.PRODUCTION)


def test_a_default_that_the_chart_leaves_out_makes_no_other_version() -> None:
    """A port without its protocol is owned under a key that has the default."""
    found = deployment("steady.json")
    (applied,) = (entry for entry in found["metadata"]["managedFields"] if entry["operation"] == "Apply")
    container = applied["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"productpage"}']
    del container["f:ports"]['k:{"containerPort":9080,"protocol":"TCP"}']["f:protocol"]

    assert runs(found, changed(OLD, {"spec.containers.0.ports.0.protocol": ...}), SHAPE, Track.PRODUCTION)


def test_a_field_that_another_version_left_is_seen() -> None:
    """A variable that helm applied and this version does not render belongs to another version."""
    assert runs(deployment("steady.json"), OLD, SHAPE, Track.PRODUCTION)
    assert not runs(deployment("steady.json"), changed(OLD, {f"{ENV}.0": ...}), SHAPE, Track.PRODUCTION)


def test_the_order_of_variables_is_kept_apart_from_their_names() -> None:
    """A list of named things is compared by name: kubectl puts an added variable anywhere."""
    found = deployment("steady.json")
    variables = found["spec"]["template"]["spec"]["containers"][0]["env"]
    variables.insert(1, {"name": "BY_HAND", "value": "1"})
    assert runs(found, OLD, SHAPE, Track.PRODUCTION) is Likeness.SAME
    variables.reverse()
    assert runs(found, OLD, SHAPE, Track.PRODUCTION) is Likeness.ALIKE


def test_a_manifest_without_both_tracks_has_no_version() -> None:
    """A release of another chart, before this one took the name over."""
    assert written_version(revision("kind: ConfigMap\nmetadata: {name: x}\n"), SHAPE) is None


def test_live_objects_can_be_compared_with_themselves() -> None:
    """What the server sets is no difference; everything else is."""
    (one, *_) = live("steady.json").items
    other: dict[str, Any] = copy.deepcopy(dict(one))
    other["metadata"].update(resourceVersion="9", generation=9, uid="x", managedFields=[], creationTimestamp="x")
    other["status"] = {"replicas": 9}
    assert list(differences(normal(one), normal(other))) == []

    other["metadata"]["labels"]["team"] = "shop"
    assert list(differences(normal(one), normal(other))) == [("metadata.labels.team", "nothing", '"shop"')]


DIFFERENCES: list[tuple[object, object, list[tuple[str, str, str]]]] = [
    ({"a": 1}, {"a": 1}, []),
    ({"a": 1}, {"a": 2}, [("a", "1", "2")]),
    ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "y"}]}}, [("a.b[1].c", '"x"', '"y"')]),
    ({"a": [1]}, {"a": [1, 2]}, [("a[1]", "nothing", "2")]),
    ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}]}, [("a[1]", '{"b": 2}', "nothing")]),
    ({"a": 1}, {}, [("a", "1", "nothing")]),
    ({}, {"a": {"b": 1}}, [("a", "nothing", '{"b": 1}')]),
    ({"a": True}, {"a": "true"}, [("a", "true", '"true"')]),
    ({"a": None}, {}, []),
    ({"a": "x" * 200}, {"a": "y"}, [("a", '"' + "x" * 76 + "...", '"y"')]),
]


@pytest.mark.parametrize(("one", "other", "expected"), DIFFERENCES)
def test_differences_are_named_by_their_path(one: object, other: object, expected: list[tuple[str, str, str]]) -> None:
    """Each leaf with its path, before and after; long ones are shortened."""
    assert list(differences(one, other)) == expected
