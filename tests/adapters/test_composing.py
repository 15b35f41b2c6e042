"""What a step writes: what is stored, and on it just what the step is for."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from helm_canary.cluster import MANAGER, Live
from helm_canary.composing import (
    Scaling,
    Sources,
    by_name,
    compose,
    left_behind,
    needed_early,
    packed,
    remember,
    remembered,
    scalings,
    shared_changes,
    takes_from_chart,
    writing_of,
)
from helm_canary.core.model import Change, Direction, Record, Shared, Split, Track, TrackTarget, Upgrade
from helm_canary.manifest import Object, template_of, version_of
from tests.adapters.recordings import objects, shape

SHAPE = shape()
OLD_OBJECTS = tuple(objects("steady.yaml"))
PRODUCTION, CANARY = (f"Deployment/{SHAPE.deployment(track)}" for track in Track)
ROUTE = f"VirtualService/{SHAPE.route}"


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def newer(things: tuple[Object, ...]) -> tuple[Object, ...]:
    """The same chart with another tag, a new variable, and another grace in the Deployments themselves."""
    made = copy.deepcopy(list(things))
    for thing in made:
        if thing["kind"] == "Deployment":
            container = thing["spec"]["template"]["spec"]["containers"][0]
            container["image"] = container["image"].rpartition(":")[0] + ":84"
            container["env"] = [{"name": "MODE", "value": "new"}]
            thing["spec"]["minReadySeconds"] = 7
        if thing["kind"] == "Service":
            thing["metadata"].setdefault("labels", {})["team"] = "new"
    return tuple(made)


WRITTEN = (*OLD_OBJECTS, config("changed", a="1"), config("old"))
WANTED = (*newer(OLD_OBJECTS), config("changed", a="2"), config("new"))
SOURCES = Sources(written=WRITTEN, wanted=WANTED, shape=SHAPE)
OLD = version_of(template_of(WRITTEN, SHAPE, Track.PRODUCTION), template_of(WRITTEN, SHAPE, Track.CANARY), "83")
NEW = version_of(template_of(WANTED, SHAPE, Track.PRODUCTION), template_of(WANTED, SHAPE, Track.CANARY), "84")
RECORD = Record(
    direction=Direction.FORWARD,
    previous=OLD,
    new=NEW,
    reached="steady",
    toward="canary-10",
    weights=(10, 100),
    replicas=2,
)


def step(change: Change, track: Track | None = None, **more: Any) -> Upgrade:
    given: dict[str, Any] = {
        "production": TrackTarget(version=OLD, replicas=2),
        "canary": TrackTarget(version=NEW, replicas=2),
        "split": Split(production=90, canary=10),
        "record": RECORD,
        "native": NEW,
        "why": "",
    }
    return Upgrade(change=change, track=track, **(given | more))


def written(made: Upgrade, sources: Sources = SOURCES) -> dict[str, Object]:
    return by_name(compose(made, sources), SHAPE.namespace)


def test_what_a_release_changes_besides_its_pods() -> None:
    """New, changed and left out objects, not the tracks, and not the weights, which differ in every rendering."""
    changes = shared_changes(SOURCES)

    assert changes == Shared(
        create=("ConfigMap/new",),
        change=(f"Service/{SHAPE.service}", "ConfigMap/changed"),
        remove=("ConfigMap/old",),
    )


def test_what_helm_keeps_is_not_removed() -> None:
    """An object that is rendered once and kept (`helm.sh/resource-policy`) stays, in Helm's manifest too."""
    kept = config("once")
    kept["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    sources = replace(SOURCES, written=(*WRITTEN, kept))

    assert "ConfigMap/once" not in shared_changes(sources).names
    assert written(step(Change.RECORD), sources)["ConfigMap/once"] == kept


def test_a_step_that_is_about_nothing_shared_writes_what_is_stored() -> None:
    """A weight step changes two numbers; whatever chart and values render now is of no account."""
    made = written(step(Change.WEIGHT, canary=TrackTarget(version=OLD, replicas=0)))

    before = by_name(WRITTEN, SHAPE.namespace)
    assert made.keys() == before.keys()
    assert {name for name in made if made[name] != before[name]} == {ROUTE, CANARY} - (
        {CANARY} if before[CANARY]["spec"]["replicas"] == 0 else set()
    )
    weights = [entry["weight"] for entry in made[ROUTE]["spec"]["http"][0]["route"]]
    assert weights == [90, 10]


def test_the_canary_gets_the_new_version_and_production_keeps_its_own() -> None:
    """Without any help of the chart: the canary's Deployment is the new one's, production's is as it is stored."""
    made = written(step(Change.SCALE, Track.CANARY, shared=Shared(create=("ConfigMap/new",))))

    before = by_name(WRITTEN, SHAPE.namespace)
    assert made[PRODUCTION] == before[PRODUCTION]
    assert made[CANARY]["spec"]["minReadySeconds"] == 7
    assert made[CANARY]["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "MODE", "value": "new"}]
    assert made[CANARY]["spec"]["replicas"] == 2
    assert made["ConfigMap/changed"]["data"] == {"a": "1"}
    assert {"ConfigMap/new", "ConfigMap/old"} <= made.keys()


def test_a_tracks_pods_keep_the_labels_of_their_deployment() -> None:
    """A version that came from the other track gets the labels that this Deployment selects by."""
    made = written(
        step(Change.SCALE, Track.CANARY, canary=TrackTarget(version=replace(OLD, canary=OLD.production), replicas=1))
    )

    spec = made[CANARY]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert dict(SHAPE.canary_labels).items() <= spec["template"]["metadata"]["labels"].items()


def test_promote_and_rollback_move_shared_objects_and_back() -> None:
    """What promote changes and finish removes comes back as it was stored, with production's Deployment as it was."""
    record = replace(RECORD, reached="promote", toward="promote", moved=("ConfigMap/changed",))
    promote = remember(
        step(
            Change.SCALE,
            Track.PRODUCTION,
            production=TrackTarget(version=NEW, replicas=2),
            record=record,
            shared=Shared(change=("ConfigMap/changed",)),
        ),
        SOURCES,
    )
    promoted = compose(promote, SOURCES)
    assert by_name(promoted, SHAPE.namespace)["ConfigMap/changed"]["data"] == {"a": "2"}
    assert by_name(promoted, SHAPE.namespace)[PRODUCTION]["spec"]["minReadySeconds"] == 7

    gone = replace(promote.record, removed=("ConfigMap/old",), direction=Direction.FINISHED)
    finish = remember(
        step(
            Change.SCALE,
            Track.CANARY,
            production=TrackTarget(version=NEW),
            record=gone,
            shared=Shared(remove=("ConfigMap/old",)),
        ),
        replace(SOURCES, written=promoted),
    )
    finished = compose(finish, replace(SOURCES, written=promoted))
    assert "ConfigMap/old" not in by_name(finished, SHAPE.namespace)

    back = replace(finish.record, direction=Direction.ROLLING_BACK, moved=(), removed=())
    restore = step(
        Change.SCALE,
        Track.PRODUCTION,
        record=back,
        native=None,
        shared=Shared(restore=("ConfigMap/changed", "ConfigMap/old")),
    )
    sources = Sources(written=finished, shape=SHAPE)
    put_back = written(remember(restore, sources), sources)
    before = by_name(WRITTEN, SHAPE.namespace)
    for name in ("ConfigMap/changed", "ConfigMap/old", PRODUCTION):
        assert put_back[name] == before[name], name


def test_what_is_remembered_is_one_line_that_reads_back() -> None:
    """It may hold a Secret, so `helm get values` does not show it in passing."""
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "aHVudGVyMi1odW50ZXIy"}}
    text = packed({"Secret/s": secret})

    assert "aHVudGVyMi1odW50ZXIy" not in text
    assert "\n" not in text
    assert remembered(replace(RECORD, before=text)) == {"Secret/s": secret}
    assert remembered(RECORD) == {}


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": [{"envFrom": [{"configMapRef": {"name": "changed"}}]}]},
        {"containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "changed", "key": "a"}}}]}]},
        {"initContainers": [{"envFrom": [{"configMapRef": {"name": "changed"}}]}]},
        {"volumes": [{"configMap": {"name": "changed"}}]},
        {"volumes": [{"projected": {"sources": [{"configMap": {"name": "changed"}}]}}]},
    ],
)
def test_a_changed_object_that_the_pods_read_is_found(pod: dict[str, Any]) -> None:
    """In whatever way the new pods name it; one that they do not name can wait for promote."""
    reading = replace(NEW, canary=json.dumps({"spec": pod}))
    changes = shared_changes(SOURCES)

    assert needed_early(changes, SOURCES, reading) == ("ConfigMap/changed",)
    assert needed_early(changes, SOURCES, NEW) == ()


def test_a_label_of_the_chart_alone_is_no_change_that_pods_wait_for() -> None:
    """`helm.sh/chart` differs in every release; the content that the pods read does not."""
    one, other = config("settings", a="1"), config("settings", a="1")
    one["metadata"]["labels"], other["metadata"]["labels"] = {"helm.sh/chart": "x-1"}, {"helm.sh/chart": "x-2"}
    sources = Sources(written=(*OLD_OBJECTS, one), wanted=(*newer(OLD_OBJECTS), other), shape=SHAPE)
    reading = replace(NEW, canary=json.dumps({"spec": {"volumes": [{"configMap": {"name": "settings"}}]}}))

    changes = shared_changes(sources)
    assert "ConfigMap/settings" in changes.change
    assert needed_early(changes, sources, reading) == ()


def test_a_permission_for_a_track_gives_its_deployment_to_nobody() -> None:
    """Even a plan that names production's Deployment as a shared object leaves its pods as they are stored."""
    made = written(step(Change.SHARED, shared=Shared(change=(PRODUCTION,))))

    before = by_name(WRITTEN, SHAPE.namespace)[PRODUCTION]
    assert made[PRODUCTION]["spec"]["template"] == before["spec"]["template"]


# --- what Helm is let write --------------------------------------------------------------------------------------------


def test_only_what_is_taken_from_the_chart_is_compared() -> None:
    """A held object may render as it likes; one that is taken must come out as it was checked."""
    first = step(Change.SCALE, Track.CANARY, shared=Shared(create=("ConfigMap/new",)))

    assert takes_from_chart(first)
    assert not takes_from_chart(step(Change.WEIGHT))
    assert writing_of(first, SOURCES, WANTED, ()).expected.keys() == {"ConfigMap/new", CANARY}
    assert writing_of(step(Change.WEIGHT), SOURCES, (), ()).expected == {}
    install = step(Change.INSTALL)
    allowed = writing_of(install, SOURCES, WANTED, ("ConfigMap/new",))
    assert allowed.objects is None
    assert "ConfigMap/new" not in allowed.expected
    assert "ConfigMap/changed" in allowed.expected


# --- replicas that the chart leaves out --------------------------------------------------------------------------------


def without_replicas(things: tuple[Object, ...]) -> tuple[Object, ...]:
    made = copy.deepcopy(list(things))
    for thing in made:
        if thing["kind"] == "Deployment":
            del thing["spec"]["replicas"]
    return tuple(made)


def live(replicas: int, manager: str = "kube-controller-manager") -> Live:
    fields = {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    return Live(
        items=tuple(
            {
                "kind": "Deployment",
                "metadata": {"name": SHAPE.deployment(track), "managedFields": [fields]},
                "spec": {"replicas": replicas},
            }
            for track in Track
        )
    )


BARE = Sources(written=without_replicas(WRITTEN), wanted=without_replicas(WANTED), shape=SHAPE)
CANARY_NAME, PRODUCTION_NAME = SHAPE.deployment(Track.CANARY), SHAPE.deployment(Track.PRODUCTION)


def test_no_write_contains_replicas_that_the_chart_leaves_out() -> None:
    """Not of the track that the step scales either: Helm would own them, and make them 1 when it lets go."""
    scale = step(Change.SCALE, Track.CANARY)

    made = written(scale, BARE)

    assert all("replicas" not in made[name]["spec"] for name in (PRODUCTION, CANARY))
    more = scalings(scale, compose(scale, BARE), live(0), SHAPE)
    assert (more.before, more.after) == ((), (Scaling(deployment=CANARY_NAME, replicas=2),))
    fewer = step(Change.SCALE, Track.CANARY, canary=TrackTarget(version=NEW, replicas=0))
    down = scalings(fewer, compose(fewer, BARE), live(3), SHAPE)
    assert (down.before, down.after) == ((Scaling(deployment=CANARY_NAME, replicas=0),), ())
    assert scalings(scale, compose(scale, SOURCES), live(0), SHAPE) == scalings(step(Change.WEIGHT), (), live(0), SHAPE)


def test_replicas_that_helm_lets_go_of_are_held() -> None:
    """A newer chart leaves them out: before Helm writes without them somebody else owns what they are."""
    scale = step(Change.SCALE, Track.PRODUCTION, production=TrackTarget(version=NEW, replicas=3))

    found = scalings(scale, compose(scale, BARE), live(3, MANAGER), SHAPE)

    assert found.before[0] == Scaling(deployment=PRODUCTION_NAME, replicas=3, hold=True)


def test_what_a_failed_revision_made_is_deleted_beside_helm() -> None:
    """Helm deletes what its last whole revision has: an object that only a failed one made would stay for ever."""
    sources = replace(SOURCES, written=(*WRITTEN, config("new")))
    back = step(Change.SCALE, Track.CANARY, shared=Shared(remove=("ConfigMap/new", "ConfigMap/never")))

    assert left_behind(back, sources, applied=False) == (config("new"),)
    assert left_behind(back, sources, applied=True) == ()
    assert left_behind(step(Change.WEIGHT), sources, applied=False) == ()
