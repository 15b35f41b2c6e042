"""What was read -> what the planner may know. Pure: objects in, `Observed` out.

The hard part is which version a track runs. A live pod template holds more than was rendered (defaults, what admission
webhooks add), and a template that another version left may hold fields of that one. So a version is recognised from both
sides: everything it renders is live, and everything live that Helm owns is rendered by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from helm_canary.adopt import adopt
from helm_canary.cluster import MANAGER, Live
from helm_canary.core.model import Direction, Edit, Observed, Record, Split, Track, TrackState, Version
from helm_canary.core.stages import DEFAULT_WEIGHTS
from helm_canary.helm import Revision, Stored
from helm_canary.manifest import (
    Object,
    Shape,
    canonical,
    holds_tag,
    parse_objects,
    reference,
    tag_of,
    template_of,
    version_of,
    without_track_labels,
)
from helm_canary.record import from_values
from helm_canary.routing import asked_split, obstacles

SERVER_SET_ANNOTATIONS = {"deployment.kubernetes.io/revision"}


def observe(
    stored: Stored,
    live: Live,
    shape: Shape,
    *,
    target: Version | None = None,
    endpoints: Mapping[Track, int] | None = None,
    shared: tuple[str, ...] = (),
    foreign_routes: Sequence[Mapping[str, Any]] = (),
    rendered: Sequence[Object] = (),
    weights: Sequence[int] = DEFAULT_WEIGHTS,
) -> Observed:
    """The facts for the planner. `endpoints`: per track the fewest healthy ones that any readable gateway proxy lists.

    `rendered`: what the chart would install, whose Service is judged where there is none yet. `weights`: those that a release
    without a record is taken to have.
    """
    newest = stored.newest
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
        ever_ready=ever_ready,
        revision=newest.number if newest else 0,
        applied=newest.applied if newest else True,
        written_replicas=_written_replicas(newest, shape),
        production=production,
        canary=canary,
        asked=asked,
        route_missing=newest is not None and route is None,
        hpa=_has_autoscaler(live, shape),
        record=record,
        edits=(*edits, *(canary_edits if canary.replicas else ()), *_route_edits(newest, route, asked, shape)),
        obstacles=tuple(obstacles(routes, service, shape)),
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
    asked, containers = revision.tag(track), template["spec"]["containers"]
    image = str(containers[min(shape.container, len(containers) - 1)].get("image", ""))
    return asked if holds_tag(image, asked) else tag_of(template, shape)


def _written_replicas(revision: Revision | None, shape: Shape) -> int | None:
    if revision is None:
        return None
    for thing in parse_objects(revision.manifest):
        if reference(thing) == f"Deployment/{shape.production}":
            return int(thing["spec"].get("replicas", 1))
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
    if written is not None and _applied(deployment) is None:
        # Helm 3 made it: nothing says what it left out, so a version that only lacks something would seem to run, too.
        known = [written, *known]
    version = next((v for v in known if runs(deployment, v, shape, track)), None)
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
    touched = [entry for entry in others if _owns(entry.get("fieldsV1") or {}, re.findall(r"[^.\[\]]+", path))]
    last = max(touched, key=lambda entry: str(entry.get("time", "")), default={})
    return str(last.get("manager", "")), str(last.get("time", ""))


def _owns(fields: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Below a list that has an owner for each item the item is not looked for: what owns any of it owns this."""
    for name in path:
        below = fields.get(f"f:{name}")
        if below is None:
            return bool(fields) and name.isdigit()
        fields = below
        if not fields:
            return True  # a list or a map that has one owner as a whole
    return True


def _managers(thing: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(thing["metadata"].get("managedFields") or [])


# --- which version a Deployment runs -----------------------------------------------------------------------------------


def runs(deployment: Mapping[str, Any], version: Version, shape: Shape, track: Track) -> bool:
    """Whether a live Deployment's pod template is this version's, seen from both sides."""
    rendered = json.loads(version.template(track))
    live = without_track_labels(deployment["spec"]["template"], shape)
    if not _contains(live, rendered):
        return False
    applied = _applied(deployment)
    if applied is None:
        return True
    owned = applied.get("fieldsV1", {}).get("f:spec", {}).get("f:template", {})
    return not _extra(owned, rendered, ignored=shape.track_labels)


def _applied(deployment: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What Helm 4 noted of its own fields; None where only Helm 3 or another hand wrote."""
    entries = (entry for entry in _managers(deployment) if entry.get("manager") == MANAGER)
    return next((entry for entry in entries if entry.get("operation") == "Apply"), None)


# Below these keys the API server spells a quantity in its own way; anywhere else a text is what it is.
QUANTITIES = ("limits", "requests", "sizeLimit", "divisor", "overhead")


def _contains(live: Any, rendered: Any, quantity: bool = False) -> bool:
    if rendered is None or rendered in ({}, []):
        return True
    if isinstance(rendered, dict):
        return isinstance(live, dict) and all(
            _contains(live.get(key), value, quantity or key in QUANTITIES) for key, value in rendered.items()
        )
    if isinstance(rendered, list):
        return isinstance(live, list) and _contains_list(live, rendered)
    return _same_quantity(live, rendered) if quantity else _same_scalar(live, rendered)


def _contains_list(live: list[Any], rendered: list[Any]) -> bool:
    if all(isinstance(item, dict) and "name" in item for item in rendered):
        by_name = {item.get("name"): item for item in live if isinstance(item, dict)}
        return all(item["name"] in by_name and _contains(by_name[item["name"]], item) for item in rendered)
    return len(live) == len(rendered) and all(map(_contains, live, rendered))


_QUANTITY = re.compile(
    r"^([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
)
_FACTOR = {"": Decimal(1), "m": Decimal("0.001"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_FACTOR |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)}
_FACTOR |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def _same_scalar(live: Any, rendered: Any) -> bool:
    if live is None:
        return rendered in ("", False, 0)
    if isinstance(live, bool) or isinstance(rendered, bool):
        return live is rendered
    if isinstance(live, (int, float)) and isinstance(rendered, (int, float)):
        return live == rendered
    return str(live) == str(rendered)


def _same_quantity(live: Any, rendered: Any) -> bool:
    if _same_scalar(live, rendered):
        return True
    quantities = [_QUANTITY.match(str(value)) for value in (live, rendered)]
    if not all(quantities):
        return False
    one, other = (Decimal(q.group(1)) * _FACTOR[q.group(2) or ""] for q in quantities if q)
    return one == other


def _extra(owned: Mapping[str, Any], rendered: Any, ignored: frozenset[str]) -> bool:
    """Whether Helm owns a live field that this version does not render: then the template is another version's."""
    for key, below in owned.items():
        if key == ".":
            continue
        kind, _, name = key.partition(":")
        if kind == "f":
            if name in ignored:
                continue
            if not isinstance(rendered, dict) or name not in rendered or rendered[name] is None:
                return True
            if below and _extra(below, rendered[name], ignored):
                return True
        elif kind == "k":
            item = _item(rendered, json.loads(name))
            if item is None or _extra(below, item, ignored):
                return True
    return False


def _item(rendered: Any, keys: Mapping[str, Any]) -> Any:
    """The list item with these keys; one that leaves a defaulted key (a port's protocol) out is meant as well."""
    items = rendered if isinstance(rendered, list) else []
    for item in items:
        if isinstance(item, dict) and all(
            key not in item or _same_scalar(value, item[key]) for key, value in keys.items()
        ):
            return item
    return None


# --- the guard of rule 4 -----------------------------------------------------------------------------------------------


def normal(thing: Mapping[str, Any]) -> Object:
    """An object without what the server sets and what is bookkeeping of charts, for comparison."""
    copy: Object = json.loads(json.dumps(thing))
    copy.pop("status", None)
    metadata = copy.get("metadata") or {}
    for key in ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"):
        metadata.pop(key, None)
    for key in SERVER_SET_ANNOTATIONS:
        (metadata.get("annotations") or {}).pop(key, None)
    for key in ("helm.sh/chart", "app.kubernetes.io/version", "chart"):
        (metadata.get("labels") or {}).pop(key, None)
    return copy


def differences(live: Any, would: Any, path: str = "") -> Iterable[tuple[str, str, str]]:
    """(path, live, would be) of every leaf that differs."""
    if isinstance(live, dict) and isinstance(would, dict):
        for key in sorted(live.keys() | would.keys()):
            yield from differences(live.get(key), would.get(key), f"{path}.{key}" if path else key)
    elif isinstance(live, list) and isinstance(would, list):
        for index, (one, other) in enumerate(zip_longest(live, would)):
            yield from differences(one, other, f"{path}[{index}]")
    elif live != would:
        yield path, _short(live), _short(would)


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
