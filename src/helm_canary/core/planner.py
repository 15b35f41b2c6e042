"""plan(observed, wanted) -> Plan | Refusal: the steps from what is observed to what is wanted, or a typed reason.

The decision of section "order" is `_plan_stage`, top to bottom, first hit wins. A move is written once, for its
complete start, on a `_Draft`: a sketch of the cluster that each step is played on. A step that the draft already
satisfies is left out, and so the same lines serve every half-done start. The draft also puts the two waits of rule 2
before whatever replaces or removes pods, so no move can forget them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from helm_canary.core.model import (
    ALL_CANARY,
    ALL_PRODUCTION,
    HISTORY_LIMIT,
    Change,
    Direction,
    Drain,
    Hooks,
    Observed,
    Past,
    Plan,
    Prove,
    Record,
    Refusal,
    Result,
    Role,
    Shared,
    Split,
    Stage,
    Step,
    Track,
    TrackTarget,
    Upgrade,
    Version,
    WaitReady,
    Wanted,
    WantedRollback,
    WantedStage,
    Watch,
    workloads,
)
from helm_canary.core.refusals import (
    WEIGHTS,
    refuse_different,
    refuse_needed_early,
    refuse_no_previous,
    refuse_not_begun,
    refuse_not_installed,
    refuse_not_ready,
    refuse_not_served,
    refuse_obstacles,
    refuse_other_release,
    refuse_other_weights,
    refuse_skipped,
    refuse_unfinished,
    refuse_uninstalling,
    refuse_unknown_stage,
    refuse_without_route,
)
from helm_canary.core.stages import (
    FIRST_CANARY,
    canary_replicas,
    has_touched_production,
    share,
    stage_named,
    stages_for,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

PRODUCTION, CANARY = Track.PRODUCTION, Track.CANARY
FINISHED_OUTCOMES = ("installed", "found", "finished")
KEPT = Shared()
NO_ROUTE = Split(production=0, canary=0)  # there is no VirtualService: nothing to prove, nothing to rely on


def plan(observed: Observed, wanted: Wanted) -> Plan | Refusal:
    """The one entry: a pure function of what is observed and what is wanted."""
    if isinstance(wanted, WantedRollback):
        return _plan_rollback(observed, wanted)
    made = _plan_stage(observed, wanted)
    if isinstance(made, Refusal) or wanted.number > FIRST_CANARY:
        return made
    return replace(made, notes=(*made.notes, *observed.bypasses))


# --- the draft ------------------------------------------------------------------------------------


@dataclass
class _DraftTrack:
    version: Version
    replicas: int
    has_pods: bool
    ready: bool
    drained: bool = False


@dataclass
class _Draft:
    """The cluster as it will be after the steps so far. Private to the planner; the judge has a model of its own."""

    production: _DraftTrack
    canary: _DraftTrack
    split: Split
    record: Record
    native: Version | None
    proven: bool = False
    wrote: bool = False
    restored: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, observed: Observed, record: Record, native: Version | None) -> _Draft:
        def track(which: Track) -> _DraftTrack:
            seen = observed.track(which)
            return _DraftTrack(
                version=seen.version or record.previous or record.new,
                replicas=seen.replicas,
                has_pods=seen.replicas > 0 or seen.pods > 0,
                ready=seen.fully_ready,
            )

        split = observed.asked or NO_ROUTE
        return cls(production=track(PRODUCTION), canary=track(CANARY), split=split, record=record, native=native)

    def track(self, track: Track) -> _DraftTrack:
        return self.production if track is PRODUCTION else self.canary

    def prove(self) -> None:
        if not self.proven and self.split != NO_ROUTE:
            self.steps.append(Prove(split=self.split))
            self.proven = True

    def drain(self, track: Track) -> None:
        """Rule 2: weight 0 in force, then no request in flight; only then may a pod of the track go."""
        state = self.track(track)
        if state.has_pods and not state.drained:
            assert self.split.of(track) == 0, "the planner drains only a track that has no weight"
            self.prove()
            self.steps.append(Drain(track=track))
            state.drained = True

    def write(
        self,
        change: Change,
        record: Record,
        why: str,
        *,
        track: Track | None = None,
        shared: Shared = KEPT,
        hooks: Hooks = Hooks.NONE,
        at_once: bool = False,
    ) -> None:
        def target(which: Track) -> TrackTarget:
            sketch = self.track(which)
            return TrackTarget(version=sketch.version, replicas=sketch.replicas if which is track else None)

        self.restored = _together(self.restored, shared.restore)
        record = self._still_to_undo(record)
        self.steps.append(
            Upgrade(
                change=change,
                track=track,
                production=target(PRODUCTION),
                canary=target(CANARY),
                split=self.split,
                record=record,
                native=self.native,
                shared=shared,
                hooks=hooks,
                at_once=at_once,
                why=why,
            )
        )
        self.record, self.wrote = record, True

    def _still_to_undo(self, record: Record) -> Record:
        """What is as it was before the release is nothing that a rollback would still have to put back."""
        left = [tuple(n for n in names if n not in self.restored) for names in (record.moved, record.removed)]
        return replace(record, moved=left[0], removed=left[1])

    def to_restore(self, *names: tuple[str, ...]) -> Shared:
        return Shared(restore=tuple(name for some in names for name in some if name not in self.restored))

    def bring(
        self,
        track: Track,
        version: Version,
        replicas: int,
        record: Record,
        why: str,
        *,
        shared: Shared = KEPT,
        hooks: Hooks = Hooks.NONE,
        force: bool = False,
    ) -> None:
        """The track at this version with at least these replicas, Ready. Never fewer than it has at it."""
        state = self.track(track)
        same = state.version == version
        wanted = max(replicas, state.replicas) if same else replicas
        if not same:
            self.drain(track)
        if not same or state.replicas < wanted or force:
            state.version = version
            self.scale(track, wanted, record, why, shared=shared, hooks=hooks)
        self.wait_ready(track)

    def scale(
        self,
        track: Track,
        replicas: int,
        record: Record,
        why: str,
        *,
        shared: Shared = KEPT,
        hooks: Hooks = Hooks.NONE,
    ) -> None:
        state = self.track(track)
        state.replicas, state.has_pods, state.ready = replicas, replicas > 0, False
        self.write(Change.SCALE, record, why, track=track, shared=shared, hooks=hooks)

    def wait_ready(self, track: Track, enough: int | None = None) -> None:
        """Production is Ready with the other Deployments that moved with it."""
        state = self.track(track)
        if not state.ready:
            beside = _moved_workloads(self.record) if track is PRODUCTION and enough is None else ()
            self.steps.append(
                WaitReady(track=track, version=state.version, replicas=state.replicas, enough=enough, beside=beside)
            )
            state.ready = enough is None

    def shift(
        self, split: Split, record: Record, why: str, *, hooks: Hooks = Hooks.NONE, at_once: bool = False
    ) -> None:
        if self.split != split:
            self.split, self.proven = split, False
            for track in Track:
                if split.of(track) > 0:
                    self.track(track).drained = False
            self.write(Change.WEIGHT, record, why, hooks=hooks, at_once=at_once)
        self.prove()

    def remove_canary(self, version: Version, record: Record, why: str, shared: Shared = KEPT) -> None:
        """The canary to no pods, its template at `version`: the last write of finish and of a rollback."""
        state = self.canary
        if state.replicas > 0 or state.version != version:
            self.drain(CANARY)
            state.version = version
            self.scale(CANARY, 0, record, why, shared=shared)

    def settle(
        self, record: Record, applied: bool, why: str, *, shared: Shared = KEPT, hooks: Hooks = Hooks.NONE
    ) -> None:
        """Write the record alone where no step wrote what it must say, or the newest revision was not applied."""
        record = self._still_to_undo(record)
        stale = _essence(self.record) != _essence(record)
        if stale or (not applied and not self.wrote):
            self.write(Change.RECORD, record, why, shared=shared, hooks=hooks)


def _essence(record: Record) -> Record:
    """The record without who and when, which change with every command, and without what objects were: names say which."""
    return replace(record, by=type(record.by)(), since="", before="")


def _moved_workloads(record: Record) -> tuple[str, ...]:
    """The Deployments beside the tracks whose pods this release started or replaced."""
    return tuple(dict.fromkeys(workloads((*record.created, *record.moved))))


# --- stage ----------------------------------------------------------------------------------------


def _plan_stage(observed: Observed, wanted: WantedStage) -> Plan | Refusal:
    stages = stages_for(wanted.weights)
    if not 1 <= wanted.number <= len(stages):
        return refuse_unknown_stage(wanted.number, stages, wanted.weights)
    if observed.uninstalling:
        return refuse_uninstalling(observed)
    stage, version, record = stages[wanted.number - 1], wanted.version, _standing(observed)
    if not _is_installed(observed, version):
        return _plan_first(observed, wanted, stage)
    if wanted.number == 1 and _is_to_be_restored(observed, version):
        return _plan_restored(observed, wanted, stage)
    if record is not None and record.new == version and _is_under_way_or_finished(record):
        if not (observed.shared.names and record.direction is Direction.FINISHED and observed.applied):
            return _plan_under_way(observed, wanted, record)
    elif record is not None and record.under_way:
        return refuse_other_release(record, version)
    if observed.production.version == version:
        return _plan_of_what_production_runs(observed, wanted, stage)
    last = _last_outcome(record, version)
    if last is not None and last.outcome in FINISHED_OUTCOMES and not wanted.again:
        because = f"{version.id} was released before ({last.outcome} {last.at or 'at a time not recorded'})."
        return _nothing(observed, stage, Result.ALREADY_PAST, because + " `--again` releases it again.")
    if wanted.number == 1:
        return _check_steady(observed, stage, version)
    if wanted.number == 2:
        return _plan_new_release(observed, wanted)
    return refuse_not_begun(stage, version, again=wanted.again)


def _is_installed(observed: Observed, version: Version) -> bool:
    """Whether there is something to release from: for other versions, also an installation that became Ready unseen."""
    if not observed.installed or observed.ever_ready:
        return observed.installed
    whole = observed.applied and observed.asked == ALL_PRODUCTION and observed.production.fully_ready
    whole = whole and not observed.unserved
    return whole and observed.production.version != version


def _standing(observed: Observed) -> Record | None:
    """The record; an installation that became Ready after its job had died is an installation that is done."""
    record = observed.record
    if record is not None and record.direction is Direction.INSTALLING:
        return replace(record, direction=Direction.FINISHED)
    return record


def _is_under_way_or_finished(record: Record) -> bool:
    if record.direction is Direction.FINISHED:
        return record.previous is not None
    return record.direction is Direction.FORWARD


def _last_outcome(record: Record | None, version: Version) -> Past | None:
    if record is None:
        return None
    return next((past for past in reversed(record.history) if past.id == version.id), None)


def _plan_first(observed: Observed, wanted: WantedStage, stage: Stage) -> Plan | Refusal:
    """Rule 1 of the order: nothing is installed, or the installation was never Ready."""
    version = wanted.version
    if wanted.number != 1:
        return refuse_not_installed(observed, stage, version)
    if observed.obstacles:
        return refuse_obstacles(observed)
    begun = Record(
        direction=Direction.INSTALLING,
        previous=None,
        new=version,
        reached="steady",
        toward="steady",
        weights=wanted.weights,
        replicas=max(wanted.replica_count, 1),
        by=wanted.by,
        since=wanted.by.at,
    )
    written = observed.installed and observed.applied and observed.asked == ALL_PRODUCTION
    # Where no request arrives, what keeps it away may be any object of the chart.
    stands = written and observed.production.version == version and not observed.unserved
    anew = observed.uninstalled
    draft = _Draft.of(observed, observed.record or begun, version) if stands else _install(begun, anew=anew)
    draft.wait_ready(PRODUCTION)
    draft.prove()
    past = Past(id=version.id, outcome="installed", run=wanted.by.run, at=wanted.by.at)
    done = replace(begun, direction=Direction.FINISHED, history=(past,))
    draft.settle(done, observed.applied, "remember that the installation is Ready", hooks=Hooks.POST)
    when = "again, after the release was uninstalled" if observed.uninstalled else "for the first time"
    return _planned(draft, stage, f"{version.id} is installed {when}; there is nothing to canary against.")


def _install(record: Record, *, anew: bool) -> _Draft:
    """The one upgrade that sets everything at once: no rule of traffic applies before there is any."""
    draft = _Draft(
        production=_DraftTrack(version=record.new, replicas=record.replicas, has_pods=True, ready=False),
        canary=_DraftTrack(version=record.new, replicas=0, has_pods=False, ready=False),
        split=ALL_PRODUCTION,
        record=record,
        native=record.new,
    )
    draft.write(Change.INSTALL, record, "install everything, all weight on production", hooks=Hooks.PRE)
    step = draft.steps[-1]
    assert isinstance(step, Upgrade)
    draft.steps[-1] = replace(
        step,
        anew=anew,
        production=replace(step.production, replicas=record.replicas),
        canary=replace(step.canary, replicas=0),
    )
    return draft


def _plan_under_way(observed: Observed, wanted: WantedStage, record: Record) -> Plan | Refusal:
    """Rule 2 of the order: T is the release under way, or the finished one, which stands at finish."""
    if record.weights != wanted.weights:
        if record.direction is Direction.FINISHED:
            return _nothing(observed, None, Result.ALREADY_PAST, f"The release {record.new.id} is finished.")
        return refuse_other_weights(record, wanted.weights)
    stages = stages_for(record.weights)
    stage = stages[wanted.number - 1]
    reached, toward = stage_named(record.weights, record.reached), stage_named(record.weights, record.toward)
    if stage.number < reached.number:
        return _already_past(observed, stage, record)
    if stage.number > reached.number + 1:
        return refuse_skipped(record, stage, reached, stages[reached.number])
    before, found = stages[max(stage.number - 2, 0)], observed
    if stage.role is not Role.STEADY:  # which only asks
        observed = _with_route(observed, record)
    strange = _differences(observed, record, (before, stage))
    # The next move may have begun: then what is strange here is right there.
    begun = stage.number == reached.number < toward.number and not _differences(observed, record, (stage, toward))
    if strange and begun:
        return _already_past(found, stage, record)
    # The record may be one write ahead: then the move before was not completed.
    if strange and stage.number == reached.number + 1 and _is_inside_move_to(observed, record, reached):
        return refuse_unfinished(record, reached, strange)
    if strange or observed.edits:
        return refuse_different(observed, record, before, strange)
    if observed.obstacles:
        return refuse_obstacles(observed)
    # The hooks that follow the canary's first pods belong to the move to this stage, and are repeated with it.
    if reached is before is stages[1] and toward is reached and not observed.applied:
        return refuse_unfinished(record, reached, ["Helm has not applied its last revision whole"])
    return _move(found, wanted, record, before, stage)


def _is_inside_move_to(observed: Observed, record: Record, stage: Stage) -> bool:
    if stage.role is Role.STEADY:
        return False
    return not _differences(observed, record, (stages_for(record.weights)[stage.number - 2], stage))


def _differences(observed: Observed, record: Record, between: Sequence[Stage]) -> list[str]:
    """What is neither as the first nor as the second of two stages has it; empty: a move can start."""
    found = []
    for track in Track:
        live = observed.track(track).version
        meant = [record.new if stage.is_new(track) else record.previous for stage in between]
        allowed = [version for version in meant if version is not None]
        if track is CANARY and between[0].role is Role.STEADY:
            # Without weight the canary may be anything, since its pods are replaced; with weight only the new version.
            if observed.asked is not None and observed.asked.canary == 0:
                continue
            allowed = [record.new]
        if live not in allowed:
            found.append(f"{track.value} runs {live.id if live else 'nothing'}, not {_either(v.id for v in allowed)}")
    splits = [stage.split for stage in between]
    if observed.asked not in splits:
        asked = str(observed.asked) if observed.asked else "no VirtualService"
        found.append(f"the weights (production/canary) are {asked}, not {_either(map(str, splits))}")
    return found


def _is_at(observed: Observed, record: Record, stage: Stage) -> bool:
    return not _differences(observed, record, (stage, stage))


def _move(observed: Observed, wanted: WantedStage, record: Record, before: Stage, stage: Stage) -> Plan | Refusal:
    """Carry the move before -> stage out, or what is left of it. One `match` arm is one row of the move table."""
    if stage.role is Role.STEADY:
        because = f"The release {record.new.id} has begun, and its first move has not been completed."
        return _nothing(observed, stage, Result.NOTHING, because)
    found, observed = observed, _with_route(observed, record)
    underway, arrived = _records_of_move(observed, wanted, record, before, stage)
    draft = _Draft.of(observed, record, wanted.version)
    if found.route_missing:
        at_rest = record.direction is Direction.FINISHED
        _write_route_again(draft, draft.split, replace(record, by=wanted.by) if at_rest else underway)
    draft.prove()
    match stage.role:
        case Role.CANARY:
            arrived = _move_to_canary(observed, draft, before, stage, underway, arrived)
        case Role.PROMOTE:
            draft.bring(CANARY, record.new, arrived.replicas, underway, "the canary takes all traffic alone")
            _promote(observed, draft, arrived)
        case Role.RETURN:
            arrived = _move_to_return(observed, draft, underway, arrived)
        case Role.FINISH:
            arrived = _move_to_finish(observed, draft, replace(underway, reached=before.name), arrived)
    if not draft.wrote and record.watched == arrived.watched and _is_at(observed, record, stage):
        arrived = replace(arrived, replicas=record.replicas)
    # Where the weights are there already, and that upgrade was not applied whole, its hooks may not have run.
    hooks = Hooks.POST if before.role is Role.STEADY and not observed.applied else Hooks.NONE
    shared = _removed_at_finish(observed, record) if stage.role is Role.FINISH else KEPT
    why = f"remember that {stage.name} is reached"
    draft.settle(arrived, observed.applied, why, shared=shared, hooks=hooks)
    because = f"The release {record.new.id} {'goes to' if draft.wrote else 'is at'} {stage}."
    awaited = {step.track for step in draft.steps if isinstance(step, (WaitReady, Watch))}
    gaps = [] if draft.wrote else _gaps(observed, awaited)
    if gaps:
        return refuse_not_served(observed, because, gaps)
    notes = [*(_overwritten(found) if found.route_missing else []), *_of_shared(observed.changes, stage)]
    return _planned(draft, stage, because, notes)


def _records_of_move(
    observed: Observed, wanted: WantedStage, record: Record, before: Stage, stage: Stage
) -> tuple[Record, Record]:
    """What the steps of a move before -> stage write: on the way, and with the last of them."""
    # Once production is new, the canary only stands by: it need not grow with what an autoscaler adds there.
    stands_by = stage.role in (Role.RETURN, Role.FINISH)
    arrived = replace(
        record,
        direction=Direction.FORWARD,
        reached=stage.name,
        toward=stage.name,
        replicas=record.replicas if stands_by else _replicas_now(observed, record),
        by=wanted.by,
        since=wanted.by.at,
    )
    if _is_at(observed, record, stage) and record.reached == stage.name:
        arrived = replace(arrived, since=record.since)
        return arrived, arrived
    if stage.role is Role.PROMOTE:
        created, moved = (_together(a, b) for a, b in _moved_at_promote(record, observed.changes))
        arrived = replace(arrived, created=created, moved=moved)
    underway = replace(arrived, created=record.created, moved=record.moved)
    return replace(underway, reached=before.name, since=record.since), arrived


def _moved_at_promote(record: Record, changes: Shared) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    return (record.created, changes.create), (record.moved, changes.change)


def _replicas_now(observed: Observed, record: Record) -> int:
    """R: a live count that another hand made larger replaces the recorded one. A smaller one never does.

    Helm writes such a count itself from the next step on (rule 11). Production got R pods with the new version, so whatever
    it has more than that was added by another hand, whoever wrote it last.
    """
    live, written = observed.production.replicas, observed.written_replicas
    if observed.hpa or written is None or live > written or observed.production.version == record.new:
        return max(record.replicas, live)
    return record.replicas


def _move_to_canary(
    observed: Observed, draft: _Draft, before: Stage, stage: Stage, underway: Record, arrived: Record
) -> Record:
    first, seen = before.role is Role.STEADY, draft.record
    allowed, new = observed.shared.names, KEPT
    if first and allowed:
        underway, arrived = (replace(each, shared=_together(each.shared, allowed)) for each in (underway, arrived))
        why = "make the allowed shared changes: " + ", ".join(allowed)
        draft.write(Change.SHARED, underway, why, shared=observed.shared)
    if first:
        new = Shared(create=observed.changes.without(allowed).create)
        underway, arrived = (replace(each, created=_together(each.created, new.create)) for each in (underway, arrived))
    _fill_up_production(observed, draft, underway)
    # A step that starts the new version and was not applied whole is repeated, because its hooks may not have run.
    unsure = not observed.applied and draft.split == ALL_PRODUCTION and seen.reached == before.name
    draft.bring(
        CANARY,
        underway.new,
        canary_replicas(stage, underway.replicas, underway.canary_replicas),
        underway,
        "start the canary's pods, without traffic" if first else "more pods for the canary, before more traffic",
        shared=new,
        hooks=Hooks.PRE if first and (unsure or draft.canary.version != underway.new) else Hooks.NONE,
        force=first and unsure,
    )
    hooks = Hooks.POST if first else Hooks.NONE
    draft.shift(stage.split, arrived, f"{stage.split.canary} % of the traffic on the canary", hooks=hooks)
    return arrived


def _together(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def _promote(observed: Observed, draft: _Draft, arrived: Record) -> None:
    """Production gets the new version, and what both tracks share becomes the new version's, while it has no traffic."""
    changes = Shared(create=observed.changes.create, change=observed.changes.change)
    # A step that was not applied whole is repeated: what it was to change beside the pods may not have been.
    again = not observed.applied and draft.production.version == arrived.new
    why = "production gets the new version, without traffic"
    draft.bring(PRODUCTION, arrived.new, arrived.replicas, arrived, why, shared=changes, force=again)


def _fill_up_production(observed: Observed, draft: _Draft, record: Record) -> None:
    """Production, which has traffic, gets the pods that it lacks of R; an autoscaler is left alone."""
    if draft.production.replicas < record.replicas and not observed.hpa:
        why = f"production has {draft.production.replicas} of {record.replicas} pods"
        draft.bring(PRODUCTION, draft.production.version, record.replicas, record, why)


def _move_to_return(observed: Observed, draft: _Draft, underway: Record, arrived: Record) -> Record:
    unwatched = replace(arrived, watched=False)
    _stand_by(draft, underway)
    if draft.split != ALL_PRODUCTION:
        draft.bring(PRODUCTION, arrived.new, arrived.replicas, underway, "production has all its pods")
        draft.shift(ALL_PRODUCTION, unwatched, "all traffic on production")
        _watch(observed, draft, unwatched)
    else:
        _watch_where_unsure(observed, draft, unwatched)
    return replace(arrived, watched=True)


def _move_to_finish(observed: Observed, draft: _Draft, underway: Record, arrived: Record) -> Record:
    over = draft.record.direction is Direction.FINISHED and observed.applied and draft.canary.replicas == 0
    if not over:
        _watch_where_unsure(observed, draft, replace(underway, watched=False))
    past = Past(id=arrived.new.id, outcome="finished", run=arrived.by.run, at=arrived.by.at)
    finished = replace(arrived, direction=Direction.FINISHED, watched=True)
    last = _last_outcome(arrived, arrived.new)
    if last is None or last.outcome != past.outcome:
        finished = replace(finished, history=_remember(arrived.history, past))
    removed = _removed_at_finish(observed, draft.record)
    finished = replace(finished, removed=_together(finished.removed, removed.remove))
    draft.remove_canary(arrived.new, finished, "the canary's pods go", removed)
    return finished


def _removed_at_finish(observed: Observed, record: Record) -> Shared:
    """What is not rendered any more; at a finished release nothing: it had its turn."""
    return KEPT if record.direction is Direction.FINISHED else Shared(remove=observed.changes.remove)


def _watch_where_unsure(observed: Observed, draft: _Draft, record: Record) -> None:
    """Production has all traffic: watch it where that was not recorded as done, or where it is not Ready now."""
    seen = draft.record
    if observed.production.fully_ready:
        _fill_up_production(observed, draft, replace(record, watched=seen.watched))
    if not seen.watched or not observed.production.fully_ready:
        if draft.canary.replicas > 0:
            _stand_by(draft, record)
        _watch(observed, draft, record)


def _stand_by(draft: _Draft, record: Record) -> None:
    if draft.canary.replicas < record.replicas:
        draft.scale(CANARY, record.replicas, record, "the canary stands by with all its pods")


def _watch(observed: Observed, draft: _Draft, record: Record) -> None:
    """Rule 5: production fails while it is watched -> its traffic goes back to the canary, the record says promote."""
    back = replace(record, direction=Direction.FORWARD, reached="promote", toward="promote", watched=False)
    away = Upgrade(
        change=Change.WEIGHT,
        production=TrackTarget(version=draft.production.version),
        canary=TrackTarget(version=draft.canary.version),
        split=ALL_CANARY,
        record=back,
        native=draft.native,
        why="production failed: its traffic goes back to the canary",
    )
    # An autoscaler may have taken pods since, and a canary that has none can take nothing over.
    replicas = min(record.replicas, max(draft.production.replicas, 1)) if observed.hpa else record.replicas
    way_out = (away, Prove(split=ALL_CANARY)) if draft.canary.replicas > 0 else ()
    beside = _moved_workloads(record)
    draft.steps.append(Watch(track=PRODUCTION, replicas=replicas, on_failure=way_out, beside=beside))


def _plan_of_what_production_runs(observed: Observed, wanted: WantedStage, stage: Stage) -> Plan | Refusal:
    """Rule 4 of the order."""
    record, version = observed.record, wanted.version
    if observed.shared.names:
        return _plan_shared_only(observed, wanted, stage)
    if record is None or record.previous is not None:
        because = f"Production runs {version.id} already."
        return _nothing(observed, stage, Result.ALREADY_PAST, because, _not_released(observed))
    if not observed.production.fully_ready:
        return refuse_not_ready(observed, version)
    because = f"{version.id} is the first version that was installed; there is nothing to canary against."
    return _nothing(observed, stage, Result.FIRST_INSTALL, because, _not_released(observed))


def _plan_shared_only(observed: Observed, wanted: WantedStage, stage: Stage) -> Plan | Refusal:
    """No pod changes, so there is nothing to canary: the first canary stage makes the changes, no other does anything."""
    changed = ", ".join(observed.shared.names)
    if stage.number != 2:
        because = f"No pod changes; the allowed shared changes ({changed}) are made at stage 2."
        return _nothing(observed, stage, Result.NOTHING, because)
    if observed.obstacles:
        return refuse_obstacles(observed)
    record = _standing(observed) or Record(
        direction=Direction.FINISHED,
        previous=None,
        new=wanted.version,
        reached="steady",
        toward="steady",
        weights=wanted.weights,
        replicas=observed.production.replicas,
        history=(Past(id=wanted.version.id, outcome="found", at=wanted.by.at),),
    )
    draft = _Draft.of(observed, record, wanted.version)
    draft.prove()
    # They stay whatever is rolled back later, as every change by permission.
    left = [
        tuple(name for name in names if name not in observed.shared.names)
        for names in (record.created, record.moved, record.removed)
    ]
    kept = replace(record, by=wanted.by, created=left[0], moved=left[1], removed=left[2])
    why = f"make the allowed shared changes: {changed}"
    draft.write(Change.SHARED, kept, why, shared=observed.shared, hooks=Hooks.BOTH)
    return _planned(draft, stage, "No pod changes; only the allowed shared objects did.")


def _is_to_be_restored(observed: Observed, version: Version) -> bool:
    """Whether the only version that there ever was is asked for by its tag, and other hands changed it since.

    By the tag: what is put back is what was installed, with the chart that is stored, whatever the caller's chart renders now.
    """
    record = observed.record
    if record is None or record.previous is not None or record.new.tag != version.tag:
        return False
    if record.direction is Direction.ROLLING_BACK:
        return True
    return record.direction is Direction.FINISHED and _is_disturbed(observed, record.new)


def _plan_restored(observed: Observed, wanted: WantedStage, stage: Stage) -> Plan | Refusal:
    """A rollback of the first installation has nothing to go back to, so this overwrites what other hands changed."""
    if observed.obstacles:
        return refuse_obstacles(observed)
    assert observed.record is not None
    done = replace(observed.record, direction=Direction.FINISHED, by=wanted.by)
    home, underway = done.new, replace(done, direction=Direction.ROLLING_BACK)
    draft, replicas = _Draft.of(observed, observed.record, None), 1 if observed.hpa else done.replicas
    if draft.split == NO_ROUTE:
        _write_route_again(draft, _to_who_can_serve(observed), underway)
    _write_what_is_gone(observed, draft, underway)
    if draft.production.version != home:
        _give_the_traffic_to(draft, home, underway)
    else:
        draft.prove()
        draft.bring(PRODUCTION, home, replicas, underway, "production gets all its pods back")
        draft.shift(ALL_PRODUCTION, underway, "all traffic back on production")
    draft.prove()
    draft.remove_canary(home, done, "the canary's pods go")
    draft.settle(done, observed.applied and not observed.edits, "remember that all is as it was installed")
    because = f"{home.id}, the first version that was installed, is put back as it was."
    return replace(_planned(draft, stage, because, _overwritten(observed)), overwrites=True)


def _check_steady(observed: Observed, stage: Stage, version: Version) -> Plan | Refusal:
    """Rule 6 of the order: say whether a release can start; change nothing."""
    strange, record = _not_steady(observed), _standing(observed)
    if observed.route_missing and record is not None and not _not_steady(_with_route(observed, record)):
        return refuse_without_route(stage, version)
    if not observed.production.fully_ready:
        strange.append(f"{observed.production.ready} of {observed.production.replicas} production pods are Ready")
    if strange or observed.edits:
        return refuse_different(observed, observed.record, stage, strange)
    running = observed.production.version
    return _nothing(observed, stage, Result.NOTHING, f"Steady: production runs {running.id if running else 'nothing'}.")


def _not_steady(observed: Observed) -> list[str]:
    strange = []
    if observed.asked != ALL_PRODUCTION:
        asked = str(observed.asked) if observed.asked else "no VirtualService"
        strange.append(f"the weights (production/canary) are {asked}, not {ALL_PRODUCTION}")
    if observed.production.version is None:
        strange.append("there is no production Deployment")
    return strange


def _plan_new_release(observed: Observed, wanted: WantedStage) -> Plan | Refusal:
    """Rule 7 of the order: production's version becomes the previous one."""
    stages, previous = stages_for(wanted.weights), observed.production.version
    history = observed.record.history if observed.record else ()
    if previous is not None and not any(past.id == previous.id for past in history):
        history = _remember(history, Past(id=previous.id, outcome="found", at=wanted.by.at))
    record = Record(
        direction=Direction.FORWARD,
        previous=previous,
        new=wanted.version,
        reached="steady",
        toward=stages[1].name,
        weights=wanted.weights,
        replicas=_replicas_at_start(observed, wanted),
        canary_replicas=wanted.canary_replicas,
        by=wanted.by,
        since=wanted.by.at,
        history=history,
    )
    # Where nothing is recorded, what the canary had of the traffic was in the VirtualService alone.
    known = observed.record is not None or observed.canary.replicas == 0
    steady = _with_route(observed, record) if known else observed
    strange = _not_steady(steady)
    # What was deleted and is allowed is written again before anything else.
    steady = replace(
        steady, edits=tuple(one for one in steady.edits if not (one.gone and one.where in steady.shared.names))
    )
    if strange or steady.edits:
        return refuse_different(steady, observed.record, stages[0], strange)
    if observed.obstacles:
        return refuse_obstacles(observed)
    early = tuple(name for name in observed.early if name not in observed.shared.names)
    if early:
        return refuse_needed_early(wanted.version, early)
    return _move(observed, wanted, record, stages[0], stages[1])


def _replicas_at_start(observed: Observed, wanted: WantedStage) -> int:
    """R: a count that Helm itself wrote gives way to `replicaCount`; one set by an HPA or a person never shrinks."""
    live, count = observed.production.replicas, wanted.replica_count
    if count and not observed.hpa and live == observed.written_replicas:
        return count
    return max(live, count, 1)


# --- what other hands changed ---------------------------------------------------------------------


def _is_disturbed(observed: Observed, home: Version) -> bool:
    """Whether a release that is at rest, all of it on this version, was changed since, or not written to its end."""
    at_rest = observed.production.version == home and observed.asked == ALL_PRODUCTION and observed.canary.replicas == 0
    return not at_rest or not observed.applied or bool(observed.edits)


def _with_route(observed: Observed, record: Record) -> Observed:
    """Where the VirtualService was deleted, as if it were there with the recorded weights: the next write restores it.

    Only where each track can serve its weight, and the record is no write ahead of the cluster. Else it stays missing here,
    and is what a stage is refused for.
    """
    split = stage_named(record.weights, record.reached).split
    able = all(
        state.fully_ready and (observed.hpa or state.replicas >= share(record.replicas, split.of(track)))
        for track, state in ((track, observed.track(track)) for track in Track)
        if split.of(track) > 0
    )
    true = record.direction is not Direction.FINISHED or observed.canary.replicas == 0
    if not observed.route_missing or not (able and true):
        return observed
    edits = tuple(edit for edit in observed.edits if not edit.where.startswith(WEIGHTS))
    return replace(observed, asked=split, edits=edits, route_missing=False)


def _write_route_again(draft: _Draft, split: Split, record: Record) -> None:
    draft.split = NO_ROUTE
    draft.shift(split, record, "there is no VirtualService: write it again")


def _write_what_is_gone(observed: Observed, draft: _Draft, record: Record) -> None:
    """First of all what nothing is served without; any write brings it back."""
    gone = [edit.where for edit in observed.edits if edit.gone]
    if gone and not draft.wrote:
        draft.write(Change.RECORD, record, f"write {' and '.join(gone)} again")


def _to_who_can_serve(observed: Observed) -> Split:
    """Without a route nobody is served, so some pods are better than none."""
    production, canary = observed.production, observed.canary
    better = canary.fully_ready or canary.serving > production.serving
    return ALL_CANARY if better and not production.fully_ready else ALL_PRODUCTION


# --- rollback -------------------------------------------------------------------------------------


def _plan_rollback(observed: Observed, wanted: WantedRollback) -> Plan | Refusal:
    if observed.uninstalling:
        return refuse_uninstalling(observed)
    record = observed.record
    if not observed.installed or record is None or record.previous is None:
        return refuse_no_previous(observed)
    if wanted.of and wanted.of not in (record.new.id, record.new.tag):
        because = f"The record names {record.new.id}, not {wanted.of}: there is nothing of it to undo."
        return _empty(observed, None, Result.NOTHING, because)
    again = record.direction is Direction.ROLLED_BACK
    if again and not _is_disturbed(observed, record.previous) and not _gaps(observed):
        return _empty(observed, None, Result.NOTHING, f"The release {record.new.id} is rolled back already.")
    replicas = _replicas_now(observed, record)
    underway = replace(record, direction=Direction.ROLLING_BACK, replicas=replicas, by=wanted.by, since=wanted.by.at)
    past = Past(id=record.new.id, outcome="rolled-back", run=wanted.by.run, at=wanted.by.at)
    history = record.history if again else _remember(record.history, past)
    done = replace(underway, direction=Direction.ROLLED_BACK, history=history, created=())
    draft, notes = _Draft.of(observed, record, None), []
    if draft.split == NO_ROUTE:
        _write_route_again(draft, _to_who_can_serve(observed), underway)
    _write_what_is_gone(observed, draft, underway)
    if draft.production.version != record.previous:
        _give_the_traffic_to(draft, record.previous, underway)
    else:
        notes = _return_to_unchanged(observed, draft, underway)
    draft.prove()
    made = Shared(remove=record.created)
    draft.remove_canary(record.previous, done, "the canary's pods go", made)
    whole, why = observed.applied and not (again and observed.edits), "remember that the release is rolled back"
    draft.settle(done, whole, why, shared=made)
    draft.wait_ready(PRODUCTION)
    because = f"The release {record.new.id} goes back to {record.previous.id}."
    notes += [*_overwritten(observed), *_left_as_they_are(record)]
    return replace(_planned(draft, None, because, notes), overwrites=True)


def _return_to_unchanged(observed: Observed, draft: _Draft, underway: Record) -> list[str]:
    """Production runs the previous version (rollback from 2 to 4, or the second half of one from 5 on)."""
    previous, replicas, production = draft.production.version, underway.replicas, observed.production
    if underway.moved or underway.removed:
        shared = draft.to_restore(underway.moved, underway.removed)
        draft.write(Change.SHARED, underway, "what both tracks share becomes as it was", shared=shared)
    back, more = "all traffic back on production", "production gets all its pods back"
    if draft.split == ALL_PRODUCTION:
        draft.prove()
        if draft.production.replicas == 0 or (draft.production.replicas < replicas and not observed.hpa):
            draft.scale(PRODUCTION, replicas, underway, more)
        return []
    if production.fully_ready and production.replicas >= replicas:
        draft.shift(ALL_PRODUCTION, underway, back, at_once=True)
        return []
    if has_touched_production(underway) or observed.canary.fully_ready:
        draft.prove()
        draft.bring(PRODUCTION, previous, replicas, underway, more)
        draft.shift(ALL_PRODUCTION, underway, back)
        return []
    if production.serving == 0:
        if draft.production.replicas == 0:
            draft.scale(PRODUCTION, replicas, underway, more)
        draft.wait_ready(PRODUCTION, enough=1)
    draft.shift(ALL_PRODUCTION, underway, back, at_once=production.serving > 0)
    if draft.production.replicas < replicas:
        draft.scale(PRODUCTION, replicas, underway, more)
    ready = max(production.serving, 1)
    return [f"Capacity: all traffic goes to {ready} of {replicas} production pods, because the canary is not Ready."]


def _give_the_traffic_to(draft: _Draft, home: Version, underway: Record) -> None:
    """Production does not run this version (rollback from 5 on): it is replaced behind the canary, and returns."""
    replicas = underway.replicas
    production, canary = draft.production, draft.canary
    draft.prove()
    if draft.split != ALL_CANARY:
        usable = canary.version in (underway.new, home) or draft.split.canary > 0
        if usable and canary.ready and not production.ready:
            draft.bring(CANARY, canary.version, replicas, underway, "the canary takes all traffic alone")
            draft.shift(ALL_CANARY, underway, "production is not Ready: its traffic goes to the canary")
        elif production.has_pods or canary.version == home:
            if canary.version != home and draft.split != ALL_PRODUCTION:  # another hand left them mixed
                draft.bring(PRODUCTION, production.version, replicas, underway, "production takes all traffic")
                draft.shift(ALL_PRODUCTION, underway, "all traffic on production, so that the canary can be replaced")
            # What its pods may read must be there before them.
            shared = draft.to_restore(underway.removed)
            draft.bring(CANARY, home, replicas, underway, "start the old version beside the new one", shared=shared)
            draft.shift(ALL_CANARY, underway, "the old version serves from here on")
    shared = draft.to_restore(underway.removed, underway.moved)
    draft.bring(PRODUCTION, home, replicas, underway, "production gets the old version", shared=shared)
    draft.shift(ALL_PRODUCTION, underway, "all traffic on production")


def _left_as_they_are(record: Record) -> list[str]:
    return [f"The shared changes of this release stay: {', '.join(record.shared)}."] if record.shared else []


def _of_shared(changes: Shared, stage: Stage) -> list[str]:
    """When what both tracks share changes, for people at the gates before it."""
    notes = []
    if changes.change and stage.role is Role.CANARY:
        notes.append(f"These objects change at promote, with production's pods: {', '.join(changes.change)}.")
    if changes.change and stage.role in (Role.RETURN, Role.FINISH):
        notes.append(f"Not part of this release, because it changed after promote: {', '.join(changes.change)}.")
    if changes.remove and stage.role is not Role.STEADY:
        when = "now" if stage.role is Role.FINISH else "at finish"
        notes.append(
            f"The chart does not render these objects any more; they are removed {when}: {', '.join(changes.remove)}."
        )
    return notes


def _not_released(observed: Observed) -> tuple[str, ...]:
    """Changes of a release that starts no pod, and is therefore none."""
    names = observed.changes.names
    if not names:
        return ()
    return (
        f"Chart and values change no pod, so there is nothing to canary; {', '.join(names)} would change, and stays as it is.",
    )


def _overwritten(observed: Observed) -> list[str]:
    return [
        f"Overwrites {edit.where}: {edit.found} instead of {edit.expected}"
        + (f" (by {edit.manager})" if edit.manager else "")
        for edit in observed.edits
    ]


# --- words ----------------------------------------------------------------------------------------


def _planned(draft: _Draft, goal: Stage | None, because: str, notes: Sequence[str] = ()) -> Plan:
    result = Result.DONE if draft.wrote else Result.NOTHING
    return Plan(steps=tuple(draft.steps), result=result, goal=goal, because=because, notes=tuple(notes))


def _nothing(
    observed: Observed, goal: Stage | None, result: Result, because: str, notes: tuple[str, ...] = ()
) -> Plan | Refusal:
    """Nothing is to be done: true only where what is said to be there serves."""
    gaps = _gaps(observed)
    if gaps:
        return refuse_not_served(observed, because, gaps)
    return replace(_empty(observed, goal, result, because), notes=notes)


def _gaps(observed: Observed, awaited: Collection[Track] = ()) -> list[str]:
    """Why requests are not answered, as far as the cluster shows it; not of a track whose pods the plan waits for."""
    found = [f"there is no {edit.where}" for edit in observed.edits if edit.gone]
    if observed.asked is None:
        found.append(
            "there is no VirtualService" if observed.route_missing else "not all its routes have the same weights"
        )
        return found
    for track in Track:
        state, weight = observed.track(track), observed.asked.of(track)
        if weight and not state.serving and track not in awaited:
            has = f"{state.serving} of {state.replicas} pods" if state.version else "no Deployment"
            found.append(f"{track.value} has {weight} % of the traffic and {has}" + (" Ready" if state.version else ""))
    return found


def _empty(observed: Observed, goal: Stage | None, result: Result, because: str) -> Plan:
    proof: tuple[Step, ...] = (Prove(split=observed.asked),) if observed.asked is not None else ()
    return Plan(steps=proof, result=result, goal=goal, because=because)


def _already_past(observed: Observed, stage: Stage, record: Record) -> Plan | Refusal:
    because = f"The release {record.new.id} has passed {stage}: it is at {record.reached}, toward {record.toward}."
    return _nothing(observed, stage, Result.ALREADY_PAST, because)


def _remember(history: tuple[Past, ...], past: Past) -> tuple[Past, ...]:
    return (*history, past)[-HISTORY_LIMIT:]


def _either(words: object) -> str:
    return " or ".join(dict.fromkeys(words))  # type: ignore[call-overload]
