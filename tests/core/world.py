"""A simulated service that does its worst: what a command may find, what its steps do, what its death may leave.

After a weight is written, any proxy may have the old or the new one until it is proven. Helm stores a revision before it
applies the objects. Pods become Ready only when they are waited for, and after a death in any number. Nothing here knows
the planner; the judge reads the truth of this world through `truth`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from helm_canary.core.invariants import Belief, State
from helm_canary.core.model import (
    ALL_PRODUCTION,
    Change,
    Direction,
    Drain,
    Observed,
    Past,
    Prove,
    Record,
    Shared,
    Split,
    Stage,
    Step,
    Track,
    TrackState,
    Upgrade,
    Version,
    WaitReady,
    Watch,
)
from helm_canary.core.stages import canary_replicas, stages_for
from tests.core.brief import place

OLD = Version(tag="83", digest="aaaaaaaaaaaa")
NEW = Version(tag="84", digest="bbbbbbbbbbbb")
OTHER = Version(tag="85", digest="cccccccccccc")


@dataclass(frozen=True)
class Pods:
    """One track. `known` counts the Ready pods that every proxy lists; `old` says that pods of an older template live."""

    version: Version | None
    replicas: int = 0
    ready: int = 0
    known: int = 0
    old: bool = False
    busy: bool = True

    def __str__(self) -> str:
        counts = f"{self.ready}({self.known})/{self.replicas}"
        return f"{self.version} {counts}" + (" with old pods" if self.old else "") + (" busy" if self.busy else "")

    def __hash__(self) -> int:
        return hash((self.version and self.version.tag, self.replicas, self.ready, self.known, self.old, self.busy))

    @property
    def full(self) -> bool:
        return min(self.ready, self.known) >= self.replicas and not self.old


@dataclass(frozen=True)
class World:
    """The service as it is. `maybe` holds the weights that some proxy may have; `written` is what Helm last rendered.

    `manifest`: what Helm's newest revision has beside the tracks: `ConfigMap/old`, `ConfigMap/new`, and the Service as the
    new version has it, `Service/x`; None where a walk is not about them.
    """

    production: Pods
    canary: Pods
    asked: Split | None
    maybe: frozenset[Split]
    record: Record | None
    applied: bool = True
    installed: bool = True
    written: int | None = None
    hpa: bool = False
    manifest: frozenset[str] | None = None

    def __hash__(self) -> int:
        """Cheap, because a walk asks for it millions of times: the record counts by its place only."""
        at = None if self.record is None else (self.record.direction, self.record.reached, self.record.toward)
        return hash((self.production, self.canary, str(self.asked), len(self.maybe), at, self.applied, self.manifest))

    def __str__(self) -> str:
        tracks = f"production {self.production}, canary {self.canary}"
        weights = f"asked {self.asked}, maybe {' or '.join(sorted(map(str, self.maybe)))}"
        record = "no record" if self.record is None else f"R {self.record.replicas} [{place(self.record)}]"
        return (
            f"{tracks}, {weights}, {record}" + (", hpa" if self.hpa else "") + ("" if self.applied else ", not applied")
        )

    def track(self, track: Track) -> Pods:
        return self.production if track is Track.PRODUCTION else self.canary

    def with_track(self, track: Track, pods: Pods) -> World:
        return replace(self, production=pods) if track is Track.PRODUCTION else replace(self, canary=pods)


def ready_pods(version: Version | None, replicas: int) -> Pods:
    """A track whose pods are all Ready and known."""
    return Pods(version, replicas, replicas, replicas)


def observe(world: World) -> Observed:
    """What a command reads at its start."""

    def seen(track: Track) -> TrackState:
        pods = world.track(track)
        if pods.version is None:
            return TrackState(version=None)
        return TrackState(
            version=pods.version,
            replicas=pods.replicas,
            pods=pods.replicas + pods.old,
            ready=pods.ready,
            endpoints=pods.known,
            settled=not pods.old,
        )

    return Observed(
        installed=world.installed,
        ever_ready=world.record is None or world.record.direction.value != "installing",
        revision=1 if world.installed else 0,
        applied=world.applied,
        written_replicas=world.written,
        production=seen(Track.PRODUCTION),
        canary=seen(Track.CANARY),
        asked=world.asked,
        route_missing=world.installed and world.asked is None,
        hpa=world.hpa,
        record=world.record,
        changes=changes(world),
    )


def changes(world: World) -> Shared:
    """What the new version's chart makes of what is stored: one object more, one changed, one less."""
    if world.manifest is None:
        return Shared()
    return Shared(
        create=() if "ConfigMap/new" in world.manifest else ("ConfigMap/new",),
        change=() if "Service/x" in world.manifest else ("Service/x",),
        remove=("ConfigMap/old",) if "ConfigMap/old" in world.manifest else (),
    )


def _manifest_after(world: World, shared: Shared) -> frozenset[str] | None:
    if world.manifest is None:
        return None
    made = {*shared.create, *shared.change, *(name for name in shared.restore if name == "ConfigMap/old")}
    gone = {*shared.remove, *(name for name in shared.restore if name == "Service/x")}
    return (world.manifest | made) - gone


def truth(world: World, capacity: int | None) -> State:
    """The world as the judge reads it; `capacity` is R, or None where an autoscaler decides."""

    def belief(track: Track) -> Belief:
        pods = world.track(track)
        ready = min(pods.ready, pods.known)
        return Belief(version=pods.version, replicas=pods.replicas, ready=ready, old_pods=pods.old, idle=not pods.busy)

    return State(
        production=belief(Track.PRODUCTION),
        canary=belief(Track.CANARY),
        asked=world.asked,
        in_force=world.maybe,
        capacity=capacity,
    )


# --- what a step does ---------------------------------------------------------------------------------------------------


def stored(world: World, step: Upgrade) -> World:
    """Helm has stored the revision and applied nothing."""
    rendered = step.production.replicas
    written = world.production.replicas if rendered is None else rendered
    manifest = _manifest_after(world, step.shared)
    record = _canonical(step.record)
    return replace(world, record=record, applied=False, installed=True, written=written, manifest=manifest)


def _canonical(record: Record) -> Record:
    """The record with the last outcome of each release only, so that going in circles comes back to the same state."""
    last = {past.id: past for past in record.history}
    return replace(record, history=tuple(sorted(last.values(), key=lambda past: past.id)))


def applied(world: World, step: Upgrade) -> World:
    """The objects are applied, and Helm has not marked the revision yet."""
    for track in Track:
        target, pods = step.target(track), world.track(track)
        replicas = pods.replicas if target.replicas is None else target.replicas
        if target.version != pods.version:
            had = pods.replicas > 0 or pods.old
            pods = Pods(target.version, replicas, 0, 0, old=had and replicas > 0, busy=pods.busy and had)
        else:
            ready = min(pods.ready, replicas)
            pods = replace(pods, replicas=replicas, ready=ready, known=min(pods.known, ready))
        world = world.with_track(track, replace(pods, busy=pods.busy or step.split.of(track) > 0))
    maybe = world.maybe if step.split == world.asked else world.maybe | {step.split}
    return replace(world, asked=step.split, maybe=maybe)


def after(world: World, step: Step) -> World:
    """The world when the step has done all that it is for."""
    match step:
        case Upgrade():
            return replace(applied(stored(world, step), step), applied=True)
        case WaitReady(track=track, enough=enough):
            pods = world.track(track)
            if enough is not None:
                ready = max(pods.ready, enough)
                return world.with_track(track, replace(pods, ready=ready, known=max(pods.known, enough)))
            return world.with_track(track, all_ready(pods))
        case Prove(split=split):
            return replace(world, maybe=frozenset({split}))
        case Drain(track=track):
            return world.with_track(track, replace(world.track(track), busy=False))
        case Watch(track=track):
            return world.with_track(track, all_ready(world.track(track)))


def all_ready(pods: Pods) -> Pods:
    return replace(pods, ready=pods.replicas, known=pods.replicas, old=False)


def deaths(world: World, step: Step) -> Iterator[World]:
    """What the death of a command inside this step may leave, before anything else happens."""
    if isinstance(step, Upgrade):
        yield stored(world, step)
        whole = applied(stored(world, step), step)
        yield whole
        if step.change is Change.INSTALL:
            yield replace(stored(world, step), production=whole.production, canary=whole.canary)
            yield replace(stored(world, step), asked=whole.asked, maybe=whole.maybe)
    yield world


def aftermaths(world: World) -> Iterator[World]:
    """Time passes after a death: pods that were coming may be Ready or not, and the proxies may know them or not."""
    for production in _may_become(world.production):
        for canary in _may_become(world.canary):
            yield replace(world, production=production, canary=canary)


@functools.cache
def _may_become(pods: Pods) -> tuple[Pods, ...]:
    pods = replace(pods, busy=pods.replicas > 0 or pods.old)
    if pods.full:
        return (pods,)
    some = replace(pods, ready=max(pods.ready, pods.replicas - 1), known=max(pods.known, pods.replicas - 1))
    late = replace(pods, ready=pods.replicas, known=max(pods.known, pods.replicas - 1), old=False)
    return tuple(dict.fromkeys((pods, some, late, all_ready(pods))))


# --- where a command should arrive -------------------------------------------------------------------------------------


def is_at(world: World, record: Record, stage: Stage) -> str | None:
    """Why the world is not at this stage, or None: the stage table once more, for the test alone."""
    steady = stage.number == 1
    canary = canary_replicas(stage, record.replicas, record.canary_replicas)
    wanted = (
        record.new if stage.production_is_new else record.previous,
        record.new if stage.canary_is_new else record.previous,
        stage.split,
        frozenset({stage.split}),
    )
    found = (world.production.version, world.canary.version, world.asked, world.maybe)
    if found != wanted:
        return f"{found} instead of {wanted}"
    if steady or stage.name == "finish":
        if world.canary.replicas:
            return f"the canary keeps {world.canary.replicas} pods"
    elif world.canary.replicas < canary or (stage.split.canary and not world.canary.full):
        return f"the canary has {world.canary.ready} of {canary} pods Ready"
    if world.manifest is not None and world.manifest != manifest_at(stage):
        return f"beside the tracks there are {sorted(world.manifest)}"
    enough = world.hpa or stage.split.production == 0 or world.production.replicas >= record.replicas
    if not enough:
        return f"production has {world.production.replicas} of {record.replicas} pods"
    return None


def manifest_at(stage: Stage) -> frozenset[str]:
    """What is stored beside the tracks at a stage of the new version's release."""
    names = {"ConfigMap/old"} if stage.name != "finish" else set()
    names |= {"ConfigMap/new"} if stage.canary_is_new else set()
    return frozenset(names | ({"Service/x"} if stage.production_is_new else set()))


def steady(weights: tuple[int, ...], replicas: int, *, record: Record | None = None, hpa: bool = False) -> World:
    """A service that runs the old version, all Ready."""
    return World(
        production=ready_pods(OLD, replicas),
        canary=Pods(OLD, busy=False),
        asked=ALL_PRODUCTION,
        maybe=frozenset({ALL_PRODUCTION}),
        record=record,
        written=replicas,
        hpa=hpa,
    )


def every_small_world(
    weights: tuple[int, ...], replicas: int, asked_canary: int | None = None, *, hpa: bool = False, whole: bool = False
) -> Iterator[World]:
    """Every state that a service with a record of this release can be in, foreign versions and weights among them.

    `whole` adds what differs only in ways that the shorter walk has seen elsewhere: more shapes of a foreign track, more
    positions of a rollback's record, weights that do not sum to 100.
    """
    splits: list[Split | None] = [stage.split for stage in stages_for(weights)]
    splits = list(dict.fromkeys([*splits, Split(production=60, canary=40), None]))
    if whole:
        splits.append(Split(production=60, canary=60))
    records = list(_records(weights, replicas, asked_canary, whole))
    for production, canary in itertools.product(_tracks(replicas, whole), repeat=2):
        for asked, record, is_applied in itertools.product(splits, records, (True, False)):
            yield World(
                production=production,
                canary=canary,
                asked=asked,
                maybe=frozenset() if asked is None else frozenset({asked}),
                record=record,
                applied=is_applied,
                written=replicas,
                hpa=hpa,
            )


def _tracks(replicas: int, whole: bool) -> list[Pods]:
    """Every version with no pods, too few, all of them Ready, not yet known, failing, or still being replaced."""
    shapes = [Pods(None, busy=False)]
    for version in (OLD, NEW, OTHER):
        full = ready_pods(version, replicas)
        shapes.append(full)
        if version == OTHER and not whole:
            continue
        shapes += [Pods(version, busy=False), replace(full, ready=0, known=0)]
        shapes.append(replace(full, ready=replicas - 1, known=replicas - 1, old=True))
        if replicas > 1:
            shapes.append(ready_pods(version, 1))
        if whole:
            shapes.append(replace(full, known=replicas - 1))
    return shapes


def _records(weights: tuple[int, ...], replicas: int, asked_canary: int | None, whole: bool) -> Iterator[Record]:
    """Every position a record can have: at a stage, or between one and the next, in each direction."""
    names = [stage.name for stage in stages_for(weights)]
    last = len(names) - 1
    base = Record(
        direction=Direction.FORWARD,
        previous=OLD,
        new=NEW,
        reached=names[0],
        toward=names[0],
        weights=weights,
        replicas=replicas,
        canary_replicas=asked_canary,
        history=(Past(id=OLD.id, outcome="found"),),
    )
    for reached, toward in [(i, j) for i in range(last + 1) for j in (i, i + 1) if j <= last]:
        record = replace(base, reached=names[reached], toward=names[toward])
        back = replace(record.history[0], id=NEW.id, outcome="rolled-back")
        if whole or (names[reached], names[toward]) in (
            ("steady", names[1]),
            ("canary-100", "promote"),
            ("finish",) * 2,
        ):
            yield replace(record, direction=Direction.ROLLING_BACK)
            yield replace(record, direction=Direction.ROLLED_BACK, history=(*record.history, back))
        if reached == last:
            done = replace(back, outcome="finished")
            yield replace(record, direction=Direction.FINISHED, watched=True, history=(*record.history, done))
            continue
        yield record
        if names[reached] == "return":
            yield replace(record, watched=True)
