"""What one upgrade writes, object for object: what is stored, and on it just what the step is for. Pure.

A chart renders everything at once. A step is for one thing, so it takes that from the chart (or from the record), and everything
else from the manifest that Helm stored last. So an object that both tracks share stays as it is until the step that the plan
names for it, whether or not the chart could render it so: a pod template needs no help of the chart to stay, or to come back.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from helm_canary.cluster import MANAGER, Live
from helm_canary.core.model import Change, Record, Shared, Split, Track, Upgrade, Version
from helm_canary.labels import free_labels
from helm_canary.manifest import Object, Shape, full_host

KEEP = "helm.sh/resource-policy"


def named(thing: Mapping[str, Any], namespace: str) -> str:
    """`Deployment/shop`, or `Gateway/istio-ingress/shop` where it is in another namespace than the release."""
    metadata = thing.get("metadata") or {}
    where = str(metadata.get("namespace") or namespace)
    return "/".join([str(thing.get("kind")), *([where] if where != namespace else []), str(metadata.get("name"))])


def by_name(objects: Iterable[Object], namespace: str) -> dict[str, Object]:
    return {named(thing, namespace): thing for thing in objects}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a step may be composed from.

    written  the objects of Helm's newest revision
    wanted   what chart and values render for the new version on both tracks; empty for a rollback
    """

    written: tuple[Object, ...] = field(repr=False)
    wanted: tuple[Object, ...] = field(default=(), repr=False)
    shape: Shape

    @property
    def namespace(self) -> str:
        return self.shape.namespace

    def tracks(self) -> dict[str, Track]:
        return {f"Deployment/{self.shape.deployment(track)}": track for track in Track}


# --- what a release changes besides its pods ---------------------------------------------------------------------------


def shared_changes(sources: Sources) -> Shared:
    """What chart and values make of the objects that both tracks share. An object that Helm keeps is never removed."""
    old, new = (by_name(objects, sources.namespace) for objects in (sources.written, sources.wanted))
    tracks = sources.tracks()
    weightless = Split(production=100, canary=0)

    def same(name: str) -> bool:
        one, other = (with_weights(named_by[name], weightless, sources.shape) for named_by in (old, new))
        return bool(solid(one) == solid(other))

    return Shared(
        create=tuple(name for name in new if name not in old and name not in tracks),
        change=tuple(name for name in new if name in old and name not in tracks and not same(name)),
        remove=tuple(name for name in old if name not in new and name not in tracks and not is_kept(old[name])),
    )


def is_kept(thing: Mapping[str, Any]) -> bool:
    """Whether Helm leaves an object in the cluster that is not rendered any more."""
    annotations = (thing.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(KEEP, "")).strip().lower() == "keep"


def needed_early(changes: Shared, sources: Sources, version: Version) -> tuple[str, ...]:
    """The changed objects that the new version's pods read, but for those whose change is a label that nothing reads."""
    old, new = (by_name(objects, sources.namespace) for objects in (sources.written, sources.wanted))
    read, free = reads(json.loads(version.template(Track.CANARY))), free_labels((*sources.written, *sources.wanted))
    return tuple(
        name
        for name in changes.change
        if name in read and solid(_without(old[name], free)) != solid(_without(new[name], free))
    )


def _without(thing: Object, labels: frozenset[str]) -> Object:
    copy = _copy(thing)
    for key in labels:
        ((copy.get("metadata") or {}).get("labels") or {}).pop(key, None)
    return copy


def reads(template: Mapping[str, Any]) -> frozenset[str]:
    """`KIND/NAME` of every object that a pod template names."""
    return frozenset(_reads(template.get("spec") or {}))


_NAMED_BY: Mapping[str, tuple[str, str]] = {
    "configMapRef": ("ConfigMap", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "configMap": ("ConfigMap", "name"),
    "secretRef": ("Secret", "name"),
    "secretKeyRef": ("Secret", "name"),
    "secret": ("Secret", "secretName"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


def _reads(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _reads(item)
    if not isinstance(node, dict):
        return
    for key, below in node.items():
        kind, name = _NAMED_BY.get(key, ("", ""))
        if kind and isinstance(below, dict):
            # A projected volume names a Secret as everything else does, a Secret's own volume by `secretName`.
            yield f"{kind}/{below.get(name) or below.get('name')}"
        elif key in ("serviceAccountName", "serviceAccount"):
            yield f"ServiceAccount/{below}"
        elif key == "imagePullSecrets":
            yield from (f"Secret/{item.get('name')}" for item in below or [] if isinstance(item, dict))
        yield from _reads(below)


# --- a step ------------------------------------------------------------------------------------------------------------


def compose(step: Upgrade, sources: Sources) -> tuple[Object, ...]:
    """The objects that a step writes. An installation writes what the chart renders."""
    if step.change is Change.INSTALL:
        return sources.wanted
    before = remembered(step.record)
    found = by_name(sources.written, sources.namespace)
    new = by_name(sources.wanted, sources.namespace)
    for name in (*step.shared.create, *step.shared.change):
        if name in new:
            found[name] = new[name]
    for name in step.shared.restore:
        if name in before:
            found[name] = before[name]
    for name in step.shared.remove:
        found.pop(name, None)
    for name, track in sources.tracks().items():
        body = _body(name, track, step, found, new, before)
        if body is not None:
            found[name] = _deployment(body, track, step, sources.shape)
    return tuple(with_weights(thing, step.split, sources.shape) for thing in found.values())


def _body(
    name: str,
    track: Track,
    step: Upgrade,
    found: Mapping[str, Object],
    new: Mapping[str, Object],
    before: Mapping[str, Object],
) -> Object | None:
    """A track's Deployment but for its pods: the new version's from the step that brings that, as the pods are."""
    target = step.target(track).version
    if step.track is track and step.native is not None and target == step.native and name in new:
        return new[name]
    if step.track is track and target == step.record.previous and name in before:
        return before[name]
    return found.get(name) or new.get(name)


def _deployment(body: Object, track: Track, step: Upgrade, shape: Shape) -> Object:
    """The Deployment with the pods and replicas of the step. Where the chart leaves replicas out, they are nobody's to write."""
    target, copy = step.target(track), _copy(body)
    spec = copy["spec"]
    template = cast("Object", json.loads(target.version.template(track)))
    own = _own_labels(spec, shape)
    metadata = template.setdefault("metadata", {}) or {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **own}
    template["metadata"] = metadata
    spec["template"] = template
    if "replicas" in spec and target.replicas is not None:
        spec["replicas"] = target.replicas
    return copy


def _own_labels(spec: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """The pod labels that make a pod one of this Deployment's and of this track's, whatever its version."""
    rendered = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    chosen = (spec.get("selector") or {}).get("matchLabels") or {}
    return {**{key: rendered[key] for key in shape.track_labels if key in rendered}, **chosen}


def with_weights(thing: Object, split: Split, shape: Shape) -> Object:
    """A VirtualService whose routes to both subsets have these weights; any other object as it is."""
    if thing.get("kind") != "VirtualService":
        return thing
    namespace = str((thing.get("metadata") or {}).get("namespace") or shape.namespace)
    copy = _copy(thing)
    for http in (copy.get("spec") or {}).get("http") or []:
        ours = {}
        for entry in http.get("route") or []:
            destination = entry.get("destination") or {}
            if full_host(str(destination.get("host", "")), namespace) == shape.host:
                ours[destination.get("subset")] = entry
        if {"production", "canary"} <= ours.keys():
            for track in Track:
                ours[track.value]["weight"] = split.of(track)
    return copy


def leaves_replicas_out(objects: Iterable[Object], name: str) -> bool:
    """Whether a Deployment is written without replicas, so that its autoscaler owns them."""
    return any(
        thing.get("kind") == "Deployment"
        and (thing.get("metadata") or {}).get("name") == name
        and "replicas" not in (thing.get("spec") or {})
        for thing in objects
    )


# --- what a rollback puts back -----------------------------------------------------------------------------------------


def remember(step: Upgrade, sources: Sources) -> Upgrade:
    """The step with a record that holds what it is about to change for good, as that is stored now."""
    record = step.record
    if record.previous is None or step.change is Change.INSTALL:
        return step
    before, found = remembered(record), by_name(sources.written, sources.namespace)
    # What this very step puts back is nothing for a later one, but this one needs it.
    wanted = {*record.moved, *record.removed, *step.shared.restore}
    for name in wanted:
        if name in found and name not in before and name in (*step.shared.change, *step.shared.remove):
            before[name] = found[name]
    for name in sources.tracks():
        if name in found and name not in before:
            before[name] = _without_pods(found[name])
    kept = {name: thing for name, thing in before.items() if name in wanted or name in sources.tracks()}
    return replace(step, record=replace(record, before=packed(kept)))


def _without_pods(deployment: Object) -> Object:
    """The record has the pod templates already; of them only the labels that are this Deployment's own are needed."""
    copy = _copy(deployment)
    metadata = (copy["spec"].get("template") or {}).get("metadata") or {}
    copy["spec"]["template"] = {"metadata": {"labels": metadata.get("labels") or {}}}
    return copy


def packed(objects: Mapping[str, Object]) -> str:
    """Objects as one line of text: they may hold what must not be read in passing in `helm get values`."""
    if not objects:
        return ""
    text = json.dumps(objects, sort_keys=True).encode()
    return base64.b64encode(gzip.compress(text, mtime=0)).decode()


def remembered(record: Record) -> dict[str, Object]:
    """What `packed` packed. Raises ValueError where it is something else."""
    if not record.before:
        return {}
    return cast("dict[str, Object]", json.loads(gzip.decompress(base64.b64decode(record.before))))


def _copy(thing: Object) -> Object:
    return cast("Object", json.loads(json.dumps(thing)))


# --- what Helm is let write --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What a step lets Helm write, for the post-renderer.

    objects   exactly these; None: as Helm renders them, which an installation does
    expected  `KIND/NAME` -> as it was checked: where Helm renders one of these otherwise, nothing is written
    hooks     an event of the chart's hooks -> the event that it runs at in this step; None: none runs
    done      hooks that ran to their end already
    stored    hooks that the release keeps although no chart is rendered
    """

    objects: tuple[Object, ...] | None = field(repr=False)
    expected: Mapping[str, Object] = field(default_factory=dict, repr=False)
    hooks: Mapping[str, str] | None = None
    done: tuple[str, ...] = ()
    stored: tuple[Object, ...] = field(default=(), repr=False)


def writing_of(step: Upgrade, sources: Sources, rendered: Sequence[Object], loose: Sequence[str]) -> Writing:
    """What a step writes; `rendered`: what the chart renders with the step's own values, `loose`: what may come out otherwise."""
    found = by_name(rendered, sources.namespace)
    if step.change is Change.INSTALL:
        return Writing(objects=None, expected={name: thing for name, thing in found.items() if name not in loose})
    taken = [*step.shared.create, *step.shared.change]
    tracks = sources.tracks()
    taken += [
        name for name, track in tracks.items() if step.track is track and step.target(track).version == step.native
    ]
    expected = {name: found[name] for name in taken if name in found and name not in loose}
    return Writing(objects=compose(step, sources), expected=expected)


def left_behind(step: Upgrade, sources: Sources, *, applied: bool) -> tuple[Object, ...]:
    """What a step removes and Helm would forget: it deletes what its last whole revision has, not what a failed one made."""
    if applied:
        return ()
    found = by_name(sources.written, sources.namespace)
    return tuple(found[name] for name in step.shared.remove if name in found and not is_kept(found[name]))


def takes_from_chart(step: Upgrade) -> bool:
    """Whether a step writes anything that the chart renders now, so that it must be rendered with the step's values."""
    if step.change is Change.INSTALL or step.shared.create or step.shared.change:
        return True
    return step.track is not None and step.native is not None and step.target(step.track).version == step.native


def solid(node: Any) -> Any:
    """Without what is not there for the API server: nulls, empty maps and empty lists."""
    if isinstance(node, dict):
        found = {key: solid(value) for key, value in node.items()}
        return {key: value for key, value in found.items() if value not in (None, {}, [])}
    if isinstance(node, list):
        return [solid(item) for item in node]
    return node


# --- replicas that the chart leaves to others --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Replicas that are set beside Helm. `hold`: they are what they are already, and Helm is about to let go of them."""

    deployment: str
    replicas: int
    hold: bool = False


@dataclass(frozen=True, kw_only=True)
class Scalings:
    """What is scaled before an upgrade and after it."""

    before: tuple[Scaling, ...] = ()
    after: tuple[Scaling, ...] = ()


def scalings(step: Upgrade, objects: Sequence[Object], live: Live, shape: Shape) -> Scalings:
    """The replicas that a step wants of Deployments whose chart leaves them out; of an installation also none for the canary."""
    before, after = [], []
    for track in Track:
        name, wanted = shape.deployment(track), step.target(track).replicas
        if wanted is None or not leaves_replicas_out(objects, name):
            continue
        found = live.find("Deployment", name)
        now = None if found is None else int(found["spec"].get("replicas", 1))
        if now is not None and _helm_owns_replicas(found or {}):
            before.append(Scaling(deployment=name, replicas=now, hold=True))
        if track is step.track or step.change is Change.INSTALL:
            one = Scaling(deployment=name, replicas=wanted)
            if now is not None and wanted < now:
                before.append(one)
            elif now != wanted:
                after.append(one)
    return Scalings(before=tuple(before), after=tuple(after))


def _helm_owns_replicas(deployment: Mapping[str, Any]) -> bool:
    return any(
        entry.get("manager") == MANAGER and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in deployment["metadata"].get("managedFields") or []
    )
