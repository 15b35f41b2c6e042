"""The judge: does a plan keep the rules at every instant? It never sees the planner, and shares only words with it.

It keeps a belief about the cluster that is as bad as the facts allow. A weight that was written may be in force in some
proxies and not in others until it is proven; at the start any weight may be. Pods of an old template may serve until
all of the new one are Ready. A request may be in flight to a track until it is drained. `check_plan` plays a plan on
that belief and returns every broken rule; `check_state` judges an instant, for tests that let a command die anywhere.

    Rule 1   weight only to a track that is fully Ready, with the pods that the weight needs
    Rule 2   no pod replaced or removed while it may get traffic: weight 0 in force, then drained
    Rule 3   weights sum to 100
    Rule 4   before promote production stays as it is; one upgrade changes one thing
    Rule 5   production is watched when it gets all traffic, and a way out stands by
    Rule 6   the plan proves what it leaves, and leaves what it says; an empty plan says why it is empty, of what is served
    Rule 8   the record never claims more than is true once it is written
    Rule 11  no track that has weight loses replicas
    Rule 12  chart hooks run with the step that first starts pods of the new version, and with the first one after these are Ready
    Rule 13  only the weights of a rollback are written before they are checked
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from helm_canary.core.model import (
    ALL_PRODUCTION,
    Change,
    Direction,
    Drain,
    Hooks,
    Observed,
    Plan,
    Prove,
    Record,
    Result,
    Role,
    Split,
    Stage,
    Step,
    Track,
    Upgrade,
    Version,
    WaitReady,
    Watch,
)
from helm_canary.core.stages import canary_replicas, stage_named, stages_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A broken rule: its number, the step (0 is the first; -1 is the state itself), what was seen, and on which track."""

    rule: int
    step: int
    text: str
    track: Track | None = None

    def __str__(self) -> str:
        return f"rule {self.rule}, step {self.step}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What may be true of one track: `ready` pods at `version`; `old_pods` says that others may still exist."""

    version: Version | None
    replicas: int
    ready: int
    old_pods: bool
    idle: bool

    @property
    def fully_ready(self) -> bool:
        return self.version is not None and self.ready >= self.replicas > 0 and not self.old_pods

    @property
    def has_pods(self) -> bool:
        return self.replicas > 0 or self.ready > 0 or self.old_pods


@dataclass(frozen=True, kw_only=True)
class State:
    """What may be true of the service.

    `in_force` None: any weights may be in force. `capacity` is R, the pods that all traffic needs, 0 where it is not
    known, None where an autoscaler decides it.
    """

    production: Belief
    canary: Belief
    asked: Split | None
    in_force: frozenset[Split] | None
    capacity: int | None = 0

    def track(self, track: Track) -> Belief:
        return self.production if track is Track.PRODUCTION else self.canary

    def may_get_traffic(self, track: Track) -> bool:
        if self.in_force is None or self.asked is None:
            return True
        return any(split.of(track) > 0 for split in (*self.in_force, self.asked))

    def with_track(self, track: Track, belief: Belief) -> State:
        return replace(self, production=belief) if track is Track.PRODUCTION else replace(self, canary=belief)


def believe(observed: Observed) -> State:
    """The worst that fits what is observed: nothing about the proxies, every pod possibly busy."""

    def belief(track: Track) -> Belief:
        seen = observed.track(track)
        known = seen.ready if seen.endpoints is None else min(seen.ready, seen.endpoints)
        old = not seen.settled or (seen.replicas == 0 and seen.pods > 0)
        return Belief(version=seen.version, replicas=seen.replicas, ready=known, old_pods=old, idle=False)

    record = observed.record
    return State(
        production=belief(Track.PRODUCTION),
        canary=belief(Track.CANARY),
        asked=observed.asked,
        in_force=None,
        capacity=None if observed.hpa else record.replicas if record else 0,
    )


def check_plan(observed: Observed, plan: Plan) -> list[Violation]:
    """Every rule that a plan would break, played from what is observed; an empty list is the only good answer."""
    state, found = believe(observed), []
    # What production lacks of the pods that it asks for now is not this plan's doing, though the plan may be the first to ask.
    record, live = observed.record, observed.production.replicas
    asked = None if observed.hpa else max(record.replicas if record else 0, live)
    start = check_state(replace(state, in_force=frozenset(), capacity=asked))
    for number, step in enumerate(plan.steps):
        found += check_step(state, step, number)
        if isinstance(step, Watch):
            found += _check_way_out(state, step, number)
        state = advance(state, step)
    found += _check_watched(observed, plan)
    found += _check_same_release(observed, plan)
    found += _check_hooks_follow(plan)
    found += _check_shared_arrives(observed, plan)
    end = check_end(state, plan) if plan.changes else list(_check_empty(observed, plan, state))
    found_before = {(bad.rule, bad.track) for bad in start}
    return found + [bad for bad in end if bad.track is None or (bad.rule, bad.track) not in found_before]


def _check_watched(observed: Observed, plan: Plan) -> Iterator[Violation]:
    """The record says `watched` only where production was watched since it got its traffic."""
    watched = observed.record is not None and observed.record.watched
    for number, step in enumerate(plan.steps):
        match step:
            case Watch(track=Track.PRODUCTION):
                watched = True
            case Upgrade(change=Change.WEIGHT) if number > 0 or observed.asked is not None:
                watched = False  # but not by weights that are written again where the VirtualService was deleted
            case _:
                pass
        if isinstance(step, Upgrade) and step.record.direction in (Direction.FORWARD, Direction.FINISHED):
            claims = step.record.watched or _claims(step.record, Role.FINISH)
            if claims and not watched and step.record.previous is not None:
                yield Violation(rule=5, step=number, text="production counts as watched, and was not")


def _check_same_release(observed: Observed, plan: Plan) -> Iterator[Violation]:
    """While one release is under way, the record keeps which one it is, and R does not fall."""
    was = observed.record
    if was is None or was.direction is Direction.INSTALLING or was.previous is None:
        return
    for number, step in enumerate(plan.steps):
        if not isinstance(step, Upgrade) or step.record.new != was.new or was.direction is Direction.ROLLED_BACK:
            continue
        now = step.record
        if (now.previous, now.weights, now.canary_replicas) != (was.previous, was.weights, was.canary_replicas):
            yield Violation(rule=8, step=number, text="the record forgets what release it is about")
        if now.replicas < was.replicas:
            yield Violation(rule=8, step=number, text=f"R falls from {was.replicas} to {now.replicas}")


def _check_empty(observed: Observed, plan: Plan, state: State) -> Iterator[Violation]:
    if not plan.because:
        yield Violation(rule=6, step=0, text="the plan is empty and does not say why")
    if plan.result not in (Result.NOTHING, Result.ALREADY_PAST, Result.FIRST_INSTALL):
        yield Violation(rule=6, step=0, text=f"the plan is empty and calls itself {plan.result.value}")
    if observed.asked is not None and Prove(split=observed.asked) not in plan.steps:
        yield Violation(rule=6, step=0, text="the plan is empty and does not prove the live weights")
    record, stage = observed.record, plan.goal
    waited = {step.track for step in plan.steps if isinstance(step, (WaitReady, Watch))}
    if stage is not None and (state.asked is None or any(edit.gone for edit in observed.edits)):
        yield Violation(rule=6, step=0, text="the plan is empty, and nothing reaches the service")
    for track in Track:
        weight = state.asked.of(track) if stage is not None and state.asked is not None else 0
        if weight > 0 and state.track(track).ready == 0 and track not in waited:
            yield Violation(rule=6, step=0, text=f"the plan is empty, and no pod of {track.value} answers", track=track)
    if stage is None or record is None or plan.result is not Result.NOTHING:
        return
    if record.direction is Direction.FINISHED and stage.role is Role.FINISH:
        state = replace(state, capacity=None)  # how many pods it has from now on is nobody's business here
    elif record.direction is not Direction.FORWARD or stage.role is Role.STEADY:
        return  # steady is a question about the cluster, not about this record
    yield from _check_table(state, stage, record, 0)


def _check_way_out(state: State, watch: Watch, number: int) -> Iterator[Violation]:
    """What a failed watch does, judged under its own condition: the canary is fully Ready."""
    if state.canary.replicas == 0:
        if watch.on_failure:
            yield Violation(rule=5, step=number, text="a failed watch sends traffic to a canary without pods")
        return
    replicas = max([state.canary.replicas, *(up.record.replicas for up in watch.on_failure if isinstance(up, Upgrade))])
    canary = replace(state.canary, replicas=replicas, ready=replicas, old_pods=False)
    state = replace(state, canary=canary)
    for step in watch.on_failure:
        yield from check_step(state, step, number)
        state = advance(state, step)
    if state.asked is None or state.asked.of(watch.track) != 0 or state.in_force != frozenset({state.asked}):
        yield Violation(rule=5, step=number, text=f"{watch.track.value} failed and may keep its weight")


# --- one step -------------------------------------------------------------------------------------


def check_step(state: State, step: Step, number: int = 0) -> list[Violation]:
    """The rules that this step breaks when it is taken in this state."""
    match step:
        case Upgrade(change=Change.INSTALL):
            return list(_check_sum(step, number))
        case Upgrade():
            found = [*_check_one_thing(step, number), *_check_production_kept(step, number)]
            if step.change is Change.WEIGHT or step.split != state.asked:  # else another hand's weights stay for now
                found += _check_sum(step, number)
            for check in (_check_scope, _check_removal, _check_weight, _check_record, _check_hooks, _check_shared):
                found += check(state, step, number)
            return found
        case Drain(track=track) if state.may_get_traffic(track):
            return [Violation(rule=2, step=number, text=f"{track.value} is drained before weight 0 is proven")]
        case Prove(split=split) if split != state.asked:
            return [Violation(rule=6, step=number, text=f"{split} is to be proven, {state.asked} is asked")]
        case WaitReady(track=track, version=version) if version != state.track(track).version:
            return [Violation(rule=1, step=number, text=f"waits for {version} in {track.value}, which does not run it")]
        case _:
            return []


def _check_sum(step: Upgrade, number: int) -> Iterator[Violation]:
    total = step.split.production + step.split.canary
    if total != 100 or min(step.split.production, step.split.canary) < 0:
        yield Violation(rule=3, step=number, text=f"the weights {step.split} do not sum to 100")


def _check_one_thing(step: Upgrade, number: int) -> Iterator[Violation]:
    if (step.change is Change.SCALE) != (step.track is not None):
        yield Violation(rule=4, step=number, text="a scale step names its track, and no other step does")
    for track in Track:
        if step.target(track).replicas is not None and track is not step.track:
            yield Violation(rule=4, step=number, text=f"sets the replicas of {track.value} besides")


def _check_scope(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    for track in Track:
        if step.target(track).version != state.track(track).version and track is not step.track:
            missing = state.track(track).version is None
            if not missing:
                yield Violation(rule=4, step=number, text=f"{step.change.value} changes the version of {track.value}")
    if step.change is not Change.WEIGHT and step.split != state.asked:
        yield Violation(rule=4, step=number, text=f"{step.change.value} changes the weights")


def _check_production_kept(step: Upgrade, number: int) -> Iterator[Violation]:
    record = step.record
    if record.direction is not Direction.FORWARD or record.previous is None:
        return
    promote = _promote(record)
    if _furthest(record) < promote and step.production.version != record.previous:
        yield Violation(rule=4, step=number, text=f"production gets {step.production.version} before promote")


def _check_removal(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    for track in Track:
        before, target = state.track(track), step.target(track)
        replaced = before.version is not None and target.version != before.version
        fewer = target.replicas is not None and target.replicas < before.replicas
        if not before.has_pods or not (replaced or fewer):
            continue
        if state.may_get_traffic(track):
            rule = 11 if fewer and not replaced else 2
            yield Violation(rule=rule, step=number, text=f"pods of {track.value} go while a proxy may send to them")
        elif not before.idle:
            yield Violation(rule=2, step=number, text=f"pods of {track.value} go before they are drained")


def _check_weight(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    for track in Track:
        had = state.asked.of(track) if state.asked is not None else 0
        if step.split.of(track) <= had or may_go_back_at_once(state, step, track):
            continue
        belief = state.track(track)
        needed = _share(step.record.replicas, step.split.of(track))
        if state.asked is None and (belief.fully_ready or not state.track(track.other).fully_ready):
            continue  # without a route nothing is served: any pod is better than none
        if not belief.fully_ready or belief.replicas < needed:
            text = f"{belief.ready} of {belief.replicas} pods Ready, {needed} needed"
            yield Violation(rule=1, step=number, text=f"{track.value} gets {step.split.of(track)} % with {text}")


def _share(replicas: int, percent: int) -> int:
    """The pods that a weight needs, where all traffic needs `replicas`."""
    return max(1, -(-replicas * percent // 100))


def may_go_back_at_once(state: State, step: Upgrade, track: Track) -> bool:
    """The exception of rule 1: production never changed, the canary is not Ready, one production pod is."""
    record = step.record
    return (
        track is Track.PRODUCTION
        and record.direction is Direction.ROLLING_BACK
        and _furthest(record) < _promote(record)
        and state.production.version == record.previous
        and state.production.ready >= 1
        and not state.canary.fully_ready
    )


def _check_record(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    """What is written as reached must be true once this upgrade is applied, pods that are still to be Ready aside."""
    record = step.record
    if record.previous is None:
        return
    over = record.direction is Direction.ROLLED_BACK or _claims(record, Role.FINISH)
    left = state.canary.replicas if step.canary.replicas is None else step.canary.replicas
    if over and left > 0:
        text = f"the record says {record.direction.value}, and the canary keeps {left} pods"
        yield Violation(rule=8, step=number, text=text)
    if record.direction is Direction.ROLLED_BACK:
        stage = stages_for(record.weights)[0]
    elif record.direction in (Direction.FORWARD, Direction.FINISHED):
        stage = stage_named(record.weights, record.reached)
        if (stage.role is Role.STEADY and step.split == stage.split) or _is_inside(step, record):
            return
    else:
        return
    wrong = _mismatches(step, record, stage)
    if wrong:
        yield Violation(rule=8, step=number, text=f"the record claims {stage.name}: {', '.join(wrong)}")


def _claims(record: Record, role: Role) -> bool:
    return (
        record.direction not in (Direction.ROLLING_BACK, Direction.ROLLED_BACK)
        and stage_named(record.weights, record.reached).role is role
        and record.previous is not None
    )


def _check_hooks(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    record, canary = step.record, Track.CANARY
    begins = (
        step.track is canary
        and record.direction is Direction.FORWARD
        and stage_named(record.weights, record.reached).role is Role.STEADY
        and step.canary.version == record.new
    )
    if step.hooks is Hooks.PRE and not begins:
        yield Violation(rule=12, step=number, text="chart hooks run in a step that starts no new version")
    if begins and step.hooks is not Hooks.PRE and state.canary.version != record.new:
        yield Violation(rule=12, step=number, text="the new version starts without chart hooks")
    if step.hooks is Hooks.BOTH and step.change is not Change.SHARED:
        yield Violation(rule=12, step=number, text="all chart hooks run in a step that waits for no pod between them")
    if step.hooks is Hooks.POST and step.change not in (Change.WEIGHT, Change.RECORD):
        yield Violation(rule=12, step=number, text="hooks for a version that is Ready run where pods change")
    if _begins_traffic(state, step) and step.hooks is not Hooks.POST:
        yield Violation(
            rule=12, step=number, text="the canary's first weight comes without the hooks that follow its pods"
        )
    back = record.direction in (Direction.ROLLING_BACK, Direction.ROLLED_BACK)
    if step.at_once and not (back and step.change is Change.WEIGHT):
        yield Violation(rule=13, step=number, text="a step that is no rollback's weight step is written unchecked")


def _begins_traffic(state: State, step: Upgrade) -> bool:
    """Whether a step gives the canary of a new release its first weight."""
    record = step.record
    return (
        step.change is Change.WEIGHT
        and record.direction is Direction.FORWARD
        and stage_named(record.weights, record.reached).number == 2
        and state.asked == ALL_PRODUCTION
        and step.split.canary > 0
    )


def _check_hooks_follow(plan: Plan) -> Iterator[Violation]:
    """After the hooks before a version's first pods come those after them, in the very next upgrade."""
    upgrades = list(plan.upgrades)
    for one, following in itertools.zip_longest(upgrades, upgrades[1:]):
        if one.hooks is Hooks.PRE and (following is None or following.hooks is not Hooks.POST):
            number = plan.steps.index(one)
            yield Violation(rule=12, step=number, text="the hooks that follow a version's first pods do not run")


def _check_shared(state: State, step: Upgrade, number: int) -> Iterator[Violation]:
    """What both tracks share changes while production has no traffic, or by permission before the first canary pod."""
    shared, record, home = step.shared, step.record, Track.PRODUCTION
    back = record.direction in (Direction.ROLLING_BACK, Direction.ROLLED_BACK)
    if step.change is Change.SHARED:
        return
    if shared.change and not (step.track is home and not state.may_get_traffic(home) and not back):
        yield Violation(
            rule=4, step=number, text=f"changes {', '.join(shared.change)} while production may get traffic"
        )
    if shared.create and (back or step.track is None):
        yield Violation(rule=4, step=number, text=f"makes {', '.join(shared.create)} where no pods start")
    if shared.restore and not (back and step.track is not None and not state.may_get_traffic(step.track)):
        yield Violation(rule=4, step=number, text=f"puts {', '.join(shared.restore)} back where no old version starts")
    over = record.direction is Direction.ROLLED_BACK or _claims(record, Role.FINISH)
    if shared.remove and not over:
        yield Violation(rule=4, step=number, text=f"removes {', '.join(shared.remove)} before the release is over")


def _check_shared_arrives(observed: Observed, plan: Plan) -> Iterator[Violation]:
    """A promote changes all that chart and values change, a finish removes all, a rollback undoes all."""
    record, goal, upgrades = observed.record, plan.goal, list(plan.upgrades)
    if record is None or not upgrades:
        return
    done = [name for step in upgrades for name in step.shared.names]
    last = upgrades[-1].record
    due: tuple[str, ...] = ()
    if last.direction is Direction.ROLLED_BACK:
        due = (*last.created, *last.moved, *last.removed)
        due += tuple(n for n in (*record.created, *record.moved, *record.removed) if n not in done)
    elif goal is not None and goal.role is Role.PROMOTE and record.reached != goal.name:
        due = tuple(n for n in (*observed.changes.create, *observed.changes.change) if n not in done)
    elif goal is not None and goal.role is Role.FINISH and record.direction is not Direction.FINISHED:
        due = tuple(n for n in observed.changes.remove if n not in done)
    if due:
        yield Violation(rule=6, step=len(plan.steps), text=f"{', '.join(due)} is not as the plan says it ends")


def _is_inside(step: Upgrade, record: Record) -> bool:
    """Between reached and toward each thing has the value of one of the two."""
    ends = [stage_named(record.weights, name) for name in (record.reached, record.toward)]
    if ends[0] == ends[1]:
        return False
    splits = {stage.split for stage in ends}
    versions_fit = all(
        step.target(track).version in {record.new if stage.is_new(track) else record.previous for stage in ends}
        for track in Track
    )
    return step.split in splits and versions_fit


def _mismatches(step: Upgrade, record: Record, stage: Stage) -> list[str]:
    found = []
    for track in Track:
        meant = record.new if stage.is_new(track) else record.previous
        if step.target(track).version != meant:
            found.append(f"{track.value} is at {step.target(track).version}")
    if step.split != stage.split:
        found.append(f"the weights are {step.split}")
    return found


def _promote(record: Record) -> int:
    return next(stage.number for stage in stages_for(record.weights) if stage.role is Role.PROMOTE)


def _furthest(record: Record) -> int:
    return max(stage_named(record.weights, name).number for name in (record.reached, record.toward))


# --- what a step leaves ---------------------------------------------------------------------------


def advance(state: State, step: Step) -> State:
    """The belief after a step."""
    match step:
        case Upgrade():
            return _after_upgrade(state, step)
        case WaitReady(track=track, replicas=replicas, enough=enough):
            belief = state.track(track)
            if enough is None:
                return state.with_track(track, replace(belief, ready=replicas, old_pods=False))
            return state.with_track(track, replace(belief, ready=max(belief.ready, enough)))
        case Prove(split=split):
            return replace(state, in_force=frozenset({split}))
        case Drain(track=track):
            return state.with_track(track, replace(state.track(track), idle=True))
        case Watch(track=track, replicas=replicas):
            belief = state.track(track)
            wanted = max(belief.replicas, replicas)  # it ended well, so they were there
            return state.with_track(track, replace(belief, replicas=wanted, ready=wanted, old_pods=False))


def _after_upgrade(state: State, step: Upgrade) -> State:
    for track in Track:
        before, target = state.track(track), step.target(track)
        replicas = before.replicas if target.replicas is None else target.replicas
        replaced = target.version != before.version
        after = replace(
            before,
            version=target.version,
            replicas=replicas,
            ready=0 if replaced else min(before.ready, replicas),
            old_pods=before.old_pods or (replaced and before.has_pods and replicas > 0),
            idle=before.idle and step.split.of(track) == 0,
        )
        if step.change is Change.INSTALL:
            after = replace(after, old_pods=False)
        state = state.with_track(track, after)
    if step.split != state.asked:
        known = state.in_force
        state = replace(state, asked=step.split, in_force=None if known is None else known | {step.split})
    return state if state.capacity is None else replace(state, capacity=step.record.replicas)


# --- an instant, and the end ----------------------------------------------------------------------


def check_state(state: State) -> list[Violation]:
    """Rules that hold at every instant: wherever a proxy may send, enough pods are Ready and none is being replaced."""
    found: list[Violation] = []
    if state.in_force is None or state.asked is None:
        return found
    for track in Track:
        belief = state.track(track)
        percent = max(split.of(track) for split in (*state.in_force, state.asked))
        if percent == 0:
            continue
        needed = _share(state.capacity or 1, percent)
        if belief.version is None or belief.ready < needed:
            text = f"a proxy may send {percent} % to {track.value}, which has {belief.ready} of {needed} pods Ready"
            found.append(Violation(rule=1, step=-1, text=text, track=track))
        if belief.old_pods:
            text = f"a proxy may send to {track.value}, whose pods are being replaced"
            found.append(Violation(rule=2, step=-1, text=text, track=track))
    return found


def check_end(state: State, plan: Plan) -> list[Violation]:
    """The stage table, read off the state that a plan leaves."""
    last, number = list(plan.upgrades)[-1], len(plan.steps)
    record, found = last.record, check_state(state)
    if record.direction is Direction.ROLLING_BACK:
        found.append(Violation(rule=6, step=number, text="the plan ends in the middle of a rollback"))
    if state.in_force is None or state.in_force != {state.asked}:
        found.append(Violation(rule=6, step=number, text=f"the weights {state.asked} are not proven at the end"))
    if last.change is Change.SHARED:
        return found
    if record.previous is None:
        return found + (list(_check_put_back(state, record, number)) if record.direction is Direction.FINISHED else [])
    if record.direction is Direction.ROLLED_BACK:
        return found + list(_check_table(state, stages_for(record.weights)[0], record, number))
    stage = stage_named(record.weights, record.reached)
    if plan.goal is not None and plan.goal != stage:
        text = f"the plan is for {plan.goal.name}, the record ends at {stage.name}"
        found.append(Violation(rule=6, step=number, text=text))
    return found + list(_check_table(state, stage, record, number))


def _check_put_back(state: State, record: Record, number: int) -> Iterator[Violation]:
    """Of the first installation there is one version, on production alone."""
    for track in Track:
        if state.track(track).version != record.new:
            text = f"{track.value} ends at {state.track(track).version}, not {record.new}"
            yield Violation(rule=6, step=number, text=text)
    if state.asked != ALL_PRODUCTION or state.canary.replicas > 0:
        text = f"the weights end at {state.asked}, and the canary with {state.canary.replicas} pods"
        yield Violation(rule=6, step=number, text=text)


def _check_table(state: State, stage: Stage, record: Record, number: int) -> Iterator[Violation]:
    for track in Track:
        meant = record.new if stage.is_new(track) else record.previous
        live = state.track(track).version
        if live != meant:
            yield Violation(rule=6, step=number, text=f"{track.value} ends at {live}, not {meant}")
    if state.asked != stage.split:
        yield Violation(rule=6, step=number, text=f"the weights end at {state.asked}, not {stage.split}")
    least = canary_replicas(stage, record.replicas, record.canary_replicas)
    if state.canary.replicas < least or (least == 0 and state.canary.replicas > 0):
        yield Violation(rule=6, step=number, text=f"the canary ends with {state.canary.replicas} of {least} pods")
    if stage.split.production > 0 and state.production.replicas < (state.capacity or 0):
        text = f"production ends with {state.production.replicas} of {state.capacity} pods"
        yield Violation(rule=6, step=number, text=text)
