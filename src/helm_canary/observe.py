"""What was read -> what the planner may know. Pure: objects in, `Observed` out.

The hard part is which version a track runs. A live pod template holds more than was rendered (defaults, what admission
webhooks add), and a template that another version left may hold fields of that one. So a version is recognised from both
sides: everything it renders is live, and everything live that Helm owns is rendered by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helm_canary.adopt import adopt
from helm_canary.bypasses import bypasses
from helm_canary.cluster import MANAGER, Live
from helm_canary.core.model import Direction, Edit, Observed, Record, Shared, Split, Track, TrackState, Version
from helm_canary.core.stages import DEFAULT_WEIGHTS
from helm_canary.fields import Likeness, is_left_over, likeness, owns
from helm_canary.helm import Revision, Stored
from helm_canary.installing import in_the_way
from helm_canary.manifest import (
    Object,
    Shape,
    canonical,
    holds_tag,
    image_of,
    parse_objects,
    reference,
    tag_of,
    template_of,
    version_of,
    without_track_labels,
)
from helm_canary.record import from_values
from helm_canary.routing import asked_split, obstacles

KEPT = Shared()


def observe(
    stored: Stored,
    live: Live,
    shape: Shape,
    *,
    target: Version | None = None,
    endpoints: Mapping[Track, int] | None = None,
    changes: Shared = KEPT,
    early: tuple[str, ...] = (),
    shared: Shared = KEPT,
    foreign_routes: Sequence[Mapping[str, Any]] = (),
    rendered: Sequence[Object] = (),
    weights: Sequence[int] = DEFAULT_WEIGHTS,
    gateways: Mapping[str, Mapping[str, Any] | None] | None = None,
    release: str = "",
    ways_in: Sequence[Mapping[str, Any]] = (),
) -> Observed:
    """The facts for the planner. `endpoints`: per track the fewest healthy ones that any readable gateway proxy lists.

    `rendered`: what the chart would install, whose Service is judged where there is none yet. `weights`: those that a release
    without a record is taken to have. `gateways`: those that the VirtualService names, see `obstacles`.
    `release`: its name, by which what it owns is known. `ways_in`: Ingresses and the like, where they may be read.
    """
    newest = stored.newest
    last = newest or stored.uninstalled
    record = from_values(dict(newest.values)) if newest else None
    written = written_version(newest, shape) if newest else None
    remembered = (record.new, record.previous) if record else ()
    by_hand = written_version(newest, shape, Track.CANARY) if newest and not record else None
    known = [version for version in (*remembered, target, written, by_hand) if version is not None]
    production, edits = _track(live, shape, Track.PRODUCTION, known, written, endpoints)
    canary, canary_edits = _track(live, shape, Track.CANARY, known, written, endpoints)
    routes = (*live.of_kind("VirtualService"), *foreign_routes)
    services = (thing for thing in rendered if reference(thing) == f"Service/{shape.service}")
    service = live.find("Service", shape.service) or next(services, None)
    route = live.find("VirtualService", shape.route)
    asked = asked_split(route, shape)
    ever_ready = _was_ready(record, stored, production)
    if record is None and newest is not None and ever_ready:
        record = adopt(production, canary, asked, weights, _earlier_versions(stored, live, shape))
    return Observed(
        installed=newest is not None,
        uninstalled=stored.uninstalled is not None,
        uninstalling=newest is not None and newest.uninstalling,
        ever_ready=ever_ready,
        revision=last.number if last else 0,
        applied=newest.applied if newest else True,
        written_replicas=_written_replicas(newest, shape),
        production=production,
        canary=canary,
        asked=asked,
        route_missing=newest is not None and route is None,
        hpa=_has_autoscaler(live, shape),
        record=record,
        edits=(
            *edits,
            *(canary_edits if canary.replicas else ()),
            *_route_edits(newest, route, asked, shape),
            *(_missing(stored, live, shape) if ever_ready else ()),
        ),
        obstacles=(
            *(in_the_way(rendered, live.items, shape, release) if newest is None else ()),
            *obstacles(routes, service, shape, gateways),
        ),
        bypasses=tuple(bypasses(rendered, (*live.items, *ways_in), shape)) if rendered else (),
        changes=changes,
        early=early,
        shared=shared,
    )


def _was_ready(record: Record | None, stored: Stored, production: TrackState) -> bool:
    if record is not None:
        return record.direction is not Direction.INSTALLING
    return stored.applied is not None or production.ready > 0


def _route_edits(
    newest: Revision | None, route: Mapping[str, Any] | None, asked: Split | None, shape: Shape
) -> Iterator[Edit]:
    """Weights that are not those which Helm wrote last. Of a revision that was not applied whole that cannot be said."""
    if newest is None or not newest.applied:
        return
    rendered = (
        thing for thing in parse_objects(newest.manifest) if reference(thing) == f"VirtualService/{shape.route}"
    )
    written = asked_split(next(rendered, None), shape)
    if written is None or written == asked:
        return
    manager, at = last_hand(route, "spec.http") if route else ("", "")
    yield Edit(
        where=f"the weights (production/canary) of VirtualService/{shape.route}",
        found=str(asked) if asked else "not there" if route is None else "not the same in all routes",
        expected=str(written),
        manager=manager,
        at=at,
    )


def _missing(stored: Stored, live: Live, shape: Shape) -> Iterator[Edit]:
    """What carries the traffic beside the VirtualService, was installed, and is there no more."""
    if stored.newest is None or stored.applied is None:
        return
    written, applied = (
        {reference(one) for one in parse_objects(of.manifest)} for of in (stored.newest, stored.applied)
    )
    for kind, name in (("Service", shape.service), ("DestinationRule", shape.rule)):
        where = f"{kind}/{name}"
        if where in written & applied and live.find(kind, name) is None:
            yield Edit(where=where, found="not there", expected="as Helm wrote it", gone=True)


def _earlier_versions(stored: Stored, live: Live, shape: Shape) -> Iterator[Version]:
    """What production ran before, newest first: by Helm's revisions, then by the ReplicaSets that are left."""
    for revision in stored.earlier():
        version = written_version(revision, shape)
        if version is not None:
            yield version
    sets = [item for item in live.of_kind("ReplicaSet") if _owner(item) == f"Deployment/{shape.production}"]
    for item in sorted(sets, key=_turn, reverse=True):
        template = without_track_labels(item["spec"]["template"], shape)
        template["metadata"].get("labels", {}).pop("pod-template-hash", None)
        template["metadata"].pop("creationTimestamp", None)
        yield version_of(template, None, tag_of(template, shape))


def _turn(item: Mapping[str, Any]) -> int:
    """When a ReplicaSet was its Deployment's newest: one that served again is older than its time of creation says."""
    number = str((item["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", ""))
    return int(number) if number.isdigit() else 0


def _owner(item: Mapping[str, Any]) -> str:
    owners = item["metadata"].get("ownerReferences") or [{}]
    return f"{owners[0].get('kind')}/{owners[0].get('name')}"


def written_version(revision: Revision, shape: Shape, track: Track = Track.PRODUCTION) -> Version | None:
    """The version that a revision's manifest gives a track; None where it renders no such Deployment."""
    objects = parse_objects(revision.manifest)
    names = {thing["metadata"]["name"] for thing in objects if thing.get("kind") == "Deployment"}
    if not {shape.production, shape.canary} <= names:
        return None
    production = template_of(objects, shape, Track.PRODUCTION)
    canary = template_of(objects, shape, Track.CANARY)
    tags = {Track.PRODUCTION: _written_tag(revision, production, shape, Track.PRODUCTION)}
    tags[Track.CANARY] = _written_tag(revision, canary, shape, Track.CANARY)
    if tags[Track.PRODUCTION] == tags[Track.CANARY]:
        return version_of(production, canary, tags[track])
    return version_of(production if track is Track.PRODUCTION else canary, None, tags[track])


def _written_tag(revision: Revision, template: Object, shape: Shape, track: Track) -> str:
    """The tag that was asked for, where the image has it: a chart may write more around it today than it did then."""
    asked = revision.tag(track)
    return asked if holds_tag(image_of(template, shape), asked) else tag_of(template, shape)


def _written_replicas(revision: Revision | None, shape: Shape) -> int | None:
    if revision is None:
        return None
    for thing in parse_objects(revision.manifest):
        if reference(thing) == f"Deployment/{shape.production}":
            replicas = thing["spec"].get("replicas")
            return None if replicas is None else int(replicas)
    return None


def _has_autoscaler(live: Live, shape: Shape) -> bool:
    return any(
        item["spec"].get("scaleTargetRef", {}).get("kind") == "Deployment"
        and item["spec"]["scaleTargetRef"].get("name") == shape.production
        for item in live.of_kind("HorizontalPodAutoscaler")
    )


def _track(
    live: Live,
    shape: Shape,
    track: Track,
    known: Sequence[Version],
    written: Version | None,
    endpoints: Mapping[Track, int] | None,
) -> tuple[TrackState, tuple[Edit, ...]]:
    deployment = live.find("Deployment", shape.deployment(track))
    if deployment is None:
        return TrackState(version=None), ()
    version = _version(deployment, shape, track, known, written)
    edits: tuple[Edit, ...] = ()
    if version is None:
        version = _unknown_version(deployment, shape)
        edits = (_edit(deployment, shape, track, version, known),)
    status, spec = deployment.get("status") or {}, deployment["spec"]
    current = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    pods = int(status.get("replicas") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    return (
        TrackState(
            version=version,
            replicas=int(spec.get("replicas", 1)),
            pods=pods,
            ready=min(updated, int(status.get("availableReplicas") or 0)) if current else 0,
            endpoints=None if endpoints is None else endpoints.get(track),
            settled=current and updated == pods,
        ),
        edits,
    )


def _version(
    deployment: Mapping[str, Any], shape: Shape, track: Track, known: Sequence[Version], written: Version | None
) -> Version | None:
    """Which of the known versions a Deployment runs; of two to the same effect the one that it is to the letter."""
    # What Helm 3 made does not say what was left out: a version that only lacks something would seem to run, too.
    if written is not None and _applied(deployment) is None and runs(deployment, written, shape, track):
        return written
    found = [(runs(deployment, version, shape, track), version) for version in known]
    alike, version = max(found, key=lambda pair: pair[0], default=(Likeness.OTHER, None))
    return version if alike else None


def _unknown_version(deployment: Mapping[str, Any], shape: Shape) -> Version:
    """A version that nobody recorded, whole, so that a step that must not touch it can render it as it is."""
    template = without_track_labels(deployment["spec"]["template"], shape)
    template["metadata"].pop("creationTimestamp", None)
    text = canonical(template)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Version(tag=tag_of(template, shape), digest=digest, production=text, canary=text)


def _edit(
    deployment: Mapping[str, Any], shape: Shape, track: Track, version: Version, known: Sequence[Version]
) -> Edit:
    manager, at = last_hand(deployment, "spec.template")
    return Edit(
        where=f"the pod template of Deployment/{shape.deployment(track)}",
        found=f"image tag {version.tag}, not what Helm wrote",
        expected=" or ".join(dict.fromkeys(v.id for v in known)) or "a known version",
        manager=manager,
        at=at,
    )


def last_hand(thing: Mapping[str, Any], path: str) -> tuple[str, str]:
    """Who, but Helm, wrote the field at this path, something in it or what holds it whole, last; and when."""
    others = [entry for entry in _managers(thing) if entry.get("manager") != MANAGER]
    touched = [entry for entry in others if owns(entry.get("fieldsV1") or {}, path)]
    last = max(touched, key=lambda entry: str(entry.get("time", "")), default={})
    return str(last.get("manager", "")), str(last.get("time", ""))


def _managers(thing: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(thing["metadata"].get("managedFields") or [])


# --- which version a Deployment runs -----------------------------------------------------------------------------------


def runs(deployment: Mapping[str, Any], version: Version, shape: Shape, track: Track) -> Likeness:
    """How far a live Deployment's pod template is this version's, seen from both sides."""
    rendered = json.loads(version.template(track))
    live = without_track_labels(deployment["spec"]["template"], shape)
    found, applied = likeness(live, rendered), _applied(deployment)
    if found is Likeness.OTHER or applied is None:
        return found
    owned = applied.get("fieldsV1", {}).get("f:spec", {}).get("f:template", {})
    return Likeness.OTHER if is_left_over(owned, rendered, live, shape.track_labels) else found


def _applied(deployment: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What Helm 4 noted of its own fields; None where only Helm 3 or another hand wrote."""
    entries = (entry for entry in _managers(deployment) if entry.get("manager") == MANAGER)
    return next((entry for entry in entries if entry.get("operation") == "Apply"), None)
