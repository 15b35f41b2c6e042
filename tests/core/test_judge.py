"""The judge is judged: each rule is broken by hand, in a plan and in the planner, and each break must be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from helm_canary.core import planner
from helm_canary.core.invariants import check_plan
from helm_canary.core.model import (
    ALL_PRODUCTION,
    Change,
    Direction,
    Drain,
    Hooks,
    Observed,
    Plan,
    Prove,
    Reason,
    Record,
    Refusal,
    Result,
    Shared,
    Split,
    Step,
    Track,
    Upgrade,
    Version,
    WaitReady,
    Wanted,
    Watch,
)
from tests.core import brief
from tests.core import world as sim
from tests.core.cases import read
from tests.core.walker import Broken, Walk

Steps = Sequence[Step]
Mutation = Callable[[Steps], Steps]


# --- mutations of a plan -----------------------------------------------------------------------------------------------


def without(kind: type[Step]) -> Mutation:
    return lambda steps: [step for step in steps if not isinstance(step, kind)]


def each(change: Change, edit: Callable[[Upgrade], Upgrade]) -> Mutation:
    def mutate(steps: Steps) -> Steps:
        return [edit(step) if isinstance(step, Upgrade) and step.change is change else step for step in steps]

    return mutate


def swapped(first: Change, second: Change) -> Mutation:
    """The first scale and the first weight step change places, each with the wait that belongs to it."""

    def mutate(steps: Steps) -> Steps:
        upgrades = [step for step in steps if isinstance(step, Upgrade)]
        one, other = (next(step for step in upgrades if step.change is change) for change in (first, second))
        moved = {id(one): other, id(other): one}
        return [moved.get(id(step), step) for step in steps]

    return mutate


def record(**changes: object) -> Callable[[Upgrade], Upgrade]:
    return lambda step: replace(step, record=replace(step.record, **changes))  # type: ignore[arg-type]


def target(track: Track, **changes: object) -> Callable[[Upgrade], Upgrade]:
    def edit(step: Upgrade) -> Upgrade:
        aimed = replace(step.target(track), **changes)  # type: ignore[arg-type]
        return replace(step, production=aimed) if track is Track.PRODUCTION else replace(step, canary=aimed)

    return edit


def last_only(mutation: Mutation) -> Mutation:
    """Apply to the last step alone."""
    return lambda steps: [*steps[:-1], *mutation(steps[-1:])]


def way_out(edit: Callable[[Steps], Steps]) -> Mutation:
    def mutate(steps: Steps) -> Steps:
        return [
            replace(step, on_failure=tuple(edit(step.on_failure))) if isinstance(step, Watch) else step  # type: ignore[arg-type]
            for step in steps
        ]

    return mutate


STEADY: dict[str, Any] = {"live": {"production": "83 x3", "canary": "83 x0", "weights": "100/0"}, "wanted": "stage 2"}
TO_STAGE_3: dict[str, Any] = {
    "live": {"production": "83 x3", "canary": "84 x1", "weights": "90/10"},
    "record": "canary-10",
    "given": {"canary-replicas": 1},
    "wanted": "stage 3 --canary-replicas 1",
}
PROMOTE: dict[str, Any] = {
    "live": {"production": "83 x3", "canary": "84 x3", "weights": "0/100"},
    "record": "canary-100",
    "wanted": "stage 5",
}
RETURN: dict[str, Any] = {
    "live": {"production": "84 x3", "canary": "84 x3", "weights": "0/100"},
    "record": "promote",
    "wanted": "stage 6",
}
FINISH: dict[str, Any] = {
    "live": {"production": "84 x3", "canary": "84 x3", "weights": "100/0"},
    "record": "return watched",
    "wanted": "stage 7",
}
BACK: dict[str, Any] = {
    "live": {"production": "83 x3", "canary": "84 x3", "weights": "90/10"},
    "record": "canary-10",
    "wanted": "rollback",
}
BACK_FROM_7: dict[str, Any] = {
    "live": {"production": "84 x3", "canary": "84 x0", "weights": "100/0"},
    "record": "finished finish",
    "wanted": "rollback",
}
TOO_FEW_SOON: dict[str, Any] = TO_STAGE_3 | {"live": {"production": "83 x3", "canary": "84 x2", "weights": "90/10"}}

PROMOTE_MORE = PROMOTE | {"given": {"changes": {"change": ["Service/x"]}}}
FINISH_MORE = FINISH | {"given": {"changes": {"remove": ["ConfigMap/x"]}}}
BACK_MORE = BACK | {"given": {"created": ["ConfigMap/x"]}}
BACK_FROM_7_MORE = BACK_FROM_7 | {"given": {"moved": ["Service/x"], "removed": ["ConfigMap/x"]}}


def shared(**names: tuple[str, ...]) -> Callable[[Upgrade], Upgrade]:
    return lambda step: replace(step, shared=Shared(**names))


NEW, OLD = Version(tag="84", digest="a"), Version(tag="83", digest="a")

BROKEN_PLANS: dict[str, tuple[dict[str, Any], Mutation, int]] = {
    "weight before the pods are Ready": (STEADY, without(WaitReady), 1),
    "weight for too few pods": (TO_STAGE_3, each(Change.SCALE, target(Track.CANARY, replicas=2)), 1),
    "weight before pods": (TO_STAGE_3, swapped(Change.SCALE, Change.WEIGHT), 1),
    "waits for another version": (STEADY, lambda s: [replace(x, version=OLD) if isinstance(x, WaitReady) else x for x in s], 1),
    "replaced without a drain": (PROMOTE, without(Drain), 2),
    "replaced without a proof": (PROMOTE, without(Prove), 2),
    "removed without a drain": (FINISH, without(Drain), 2),
    "removed without a proof": (BACK, lambda s: [*without(Prove)(s), s[1]], 2),
    "the old version comes back without a drain": (BACK_FROM_7, without(Drain), 2),
    "weights that sum to 99": (STEADY, each(Change.WEIGHT, lambda s: replace(s, split=Split(production=89, canary=10))), 3),
    "a weight step changes a version": (TO_STAGE_3, each(Change.WEIGHT, target(Track.CANARY, version=OLD)), 4),
    "a weight step scales": (TO_STAGE_3, each(Change.WEIGHT, target(Track.CANARY, replicas=5)), 4),
    "a scale step changes weights": (TO_STAGE_3, each(Change.SCALE, lambda s: replace(s, split=Split.of_canary(90))), 4),
    "a scale step names no track": (STEADY, each(Change.SCALE, lambda s: replace(s, track=None)), 4),
    "production is touched before promote": (STEADY, each(Change.SCALE, target(Track.PRODUCTION, version=NEW)), 4),
    "nobody watches": (RETURN, without(Watch), 5),
    "a failed watch has no way out": (RETURN, way_out(lambda s: []), 5),
    "a failed watch does not prove": (RETURN, way_out(without(Prove)), 5),
    "finished without having been watched": (FINISH | {"record": "return"}, without(Watch), 5),
    "the weights at the end are not proven": (STEADY, lambda s: s[:-1], 6),
    "other weights are proven": (STEADY, lambda s: [Prove(split=Split.of_canary(50)), *s[1:]], 6),
    "the canary stays": (BACK, lambda s: s[:-1], 6),
    "the last scale step is missing": (FINISH, lambda s: [x for x in s if not isinstance(x, Upgrade)], 6),
    "the record claims a stage early": (STEADY, each(Change.SCALE, record(reached="canary-10")), 8),
    "the record claims promote early": (TO_STAGE_3, each(Change.WEIGHT, record(reached="promote", toward="promote")), 8),
    "the record says rolled back early": (BACK, each(Change.WEIGHT, record(direction=Direction.ROLLED_BACK)), 8),
    "the canary loses pods under weight": (TOO_FEW_SOON, each(Change.SCALE, target(Track.CANARY, replicas=1)), 11),
    "no hooks": (STEADY, each(Change.SCALE, lambda s: replace(s, hooks=Hooks.NONE)), 12),
    "hooks twice": (STEADY, each(Change.WEIGHT, lambda s: replace(s, hooks=Hooks.PRE)), 12),
    "no hooks after the canary's pods": (STEADY, each(Change.WEIGHT, lambda s: replace(s, hooks=Hooks.NONE)), 12),
    "hooks for Ready pods where pods change": (STEADY, each(Change.SCALE, lambda s: replace(s, hooks=Hooks.POST)), 12),
    "all hooks where pods change": (STEADY, each(Change.SCALE, lambda s: replace(s, hooks=Hooks.BOTH)), 12),
    "a shared object changes under traffic": (STEADY, each(Change.SCALE, shared(change=("Service/x",))), 4),
    "a shared object changes with the weights": (TO_STAGE_3, each(Change.WEIGHT, shared(change=("Service/x",))), 4),
    "a new object comes with the weights": (TO_STAGE_3, each(Change.WEIGHT, shared(create=("ConfigMap/x",))), 4),
    "an old object goes before finish": (PROMOTE, each(Change.SCALE, shared(remove=("ConfigMap/x",))), 4),
    "an object is put back by a stage": (PROMOTE, each(Change.SCALE, shared(restore=("Service/x",))), 4),
    "an object is put back under traffic": (BACK, each(Change.WEIGHT, shared(restore=("Service/x",))), 4),
    "promote forgets a change": (PROMOTE_MORE, each(Change.SCALE, shared()), 6),
    "finish forgets what is not rendered any more": (FINISH_MORE, each(Change.SCALE, shared()), 6),
    "a rollback leaves what the release made": (BACK_MORE, each(Change.SCALE, shared()), 6),
    "a rollback forgets what moved": (BACK_FROM_7_MORE, each(Change.SCALE, shared()), 6),
    "a stage's weights are written unchecked": (STEADY, each(Change.WEIGHT, lambda s: replace(s, at_once=True)), 13),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_PLANS)
def test_a_broken_plan_is_found(name: str) -> None:
    """The plan as made breaks nothing; broken by hand, the judge names the rule."""
    given, mutate, rule = BROKEN_PLANS[name]
    case = read(name, given)
    made = planner.plan(case.observed, case.wanted)
    assert isinstance(made, Plan), brief.outcome(made)
    assert check_plan(case.observed, made) == []
    broken = replace(made, steps=tuple(mutate(made.steps)))
    assert broken.steps != made.steps
    assert rule in {found.rule for found in check_plan(case.observed, broken)}, brief.outcome(broken)


def test_an_empty_plan_says_why() -> None:
    """A plan without steps that gives no reason, no proof, or a result it has not, breaks rule 6."""
    case = read("empty", {**TO_STAGE_3, "wanted": "stage 2 --canary-replicas 1"})
    made = planner.plan(case.observed, case.wanted)
    assert isinstance(made, Plan)
    assert not made.changes
    for broken in (replace(made, because=""), replace(made, steps=()), replace(made, result=Result.DONE)):
        assert {6} == {found.rule for found in check_plan(case.observed, broken)}


# --- mutations of the planner ------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], object]


def no_op(name: str) -> Patch:
    return lambda patch: patch.setattr(planner._Draft, name, lambda self, *args, **options: None)


def of_draft(name: str, mutant: Callable[..., object]) -> Patch:
    original = getattr(planner._Draft, name)
    return lambda patch: patch.setattr(
        planner._Draft, name, lambda *args, **options: mutant(original, *args, **options)
    )


def of_planner(name: str, mutant: Callable[..., object]) -> Patch:
    original = getattr(planner, name)
    return lambda patch: patch.setattr(planner, name, lambda *args, **options: mutant(original, *args, **options))


KEPT = Shared()


def bring_exactly(_original: object, draft: planner._Draft, track: Track, version: Version, replicas: int, record: Record,
                  why: str, *, shared: Shared = KEPT, hooks: Hooks = Hooks.NONE, force: bool = False) -> None:  # fmt: skip
    """The track with just these replicas, even if it has more."""
    state = draft.track(track)
    if state.version != version:
        draft.drain(track)
    if state.version != version or state.replicas != replicas or force:
        state.version = version
        draft.scale(track, replicas, record, why, shared=shared, hooks=hooks)
    draft.wait_ready(track)


def weight_first(_original: object, draft: planner._Draft, *args: object, **options: object) -> None:
    """Pods and weight in the old order of the hand-written commands: all at once, and the wait afterwards."""
    wait, waits = draft.wait_ready, []
    draft.wait_ready = lambda track, enough=None: waits.append(track)  # type: ignore[method-assign]
    _original(draft, *args, **options)  # type: ignore[operator]
    draft.wait_ready = wait  # type: ignore[method-assign]


def back_at_once(_original: object, observed: Observed, draft: planner._Draft, underway: Record) -> list[str]:
    draft.shift(ALL_PRODUCTION, underway, "at once, whatever is Ready", at_once=True)
    return []


def one_way_out_less(original: Callable[..., None], observed: Observed, draft: planner._Draft, record: Record) -> None:
    original(observed, draft, record)
    last = draft.steps.pop()
    assert isinstance(last, Watch)
    draft.steps.append(replace(last, on_failure=()))


def record_of_the_end(original: Callable[..., None], draft: planner._Draft, change: Change, record: Record,
                      *args: object, **options: object) -> None:  # fmt: skip
    original(draft, change, replace(record, reached=record.toward), *args, **options)


BROKEN_PLANNERS: dict[str, tuple[Patch, set[int]]] = {
    "never drains": (no_op("drain"), {2}),
    "never proves": (no_op("prove"), {2, 6}),
    "never waits": (no_op("wait_ready"), {1}),
    "never scales": (no_op("scale"), {1, 6}),
    "never settles the record": (no_op("settle"), {6}),
    "never removes the canary": (no_op("remove_canary"), {8}),
    "brings pods without waiting": (of_draft("bring", weight_first), {1}),
    "takes pods from a track with weight": (of_draft("bring", bring_exactly), {2, 11}),
    "claims the stage in its first write": (of_draft("write", record_of_the_end), {8}),
    "runs no hooks": (
        of_draft("scale", lambda original, *args, hooks=Hooks.NONE, **more: original(*args, **more)),
        {12},
    ),
    "writes weights unchecked": (
        of_draft("shift", lambda original, *args, at_once=False, **more: original(*args, at_once=True, **more)),
        {13},
    ),
    "gives the canary one pod": (of_planner("canary_replicas", lambda original, *args: 1), {1}),
    "watches nothing": (of_planner("_watch", lambda original, *args: None), {5}),
    "has no way out": (of_planner("_watch", one_way_out_less), {5}),
    "goes back at once, always": (of_planner("_return_to_unchanged", back_at_once), {1}),
    "starts from complete stages only": (
        of_planner("_differences", lambda original, seen, record, between: original(seen, record, between[:1])),
        {6},
    ),
    "takes the finished release for another": (of_planner("_is_under_way_or_finished", lambda original, r: False), {6}),
    "refuses to go back": (of_planner("_plan_rollback", lambda original, *args: a_refusal()), {7}),
    "forgets R": (of_planner("_replicas_now", lambda original, seen, record: 1), {6}),
}


def a_refusal() -> Refusal:
    return Refusal(reason=Reason.DIFFERENT, happened="x", means="y", do_next="z")


def walk(make: Callable[[Observed, Wanted], Plan | Refusal]) -> Walk:
    return Walk(make, (10, 90, 100), 3, 1).run([sim.steady((10, 90, 100), 3)])


@pytest.mark.parametrize("name", BROKEN_PLANNERS)
def test_a_broken_planner_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk ends well with the planner as it is, and with the broken one it stops at the rule that is broken."""
    patch, rules = BROKEN_PLANNERS[name]
    patch(monkeypatch)
    with pytest.raises(Broken) as found:
        walk(planner.plan)
    assert found.value.rule in rules, found.value


BROKEN_ANSWERS: dict[str, tuple[Mutation, int]] = {
    "no drains": (without(Drain), 2),
    "no waits": (without(WaitReady), 1),
    "no watch": (without(Watch), 5),
    "weights that sum to 99": (
        each(Change.WEIGHT, lambda s: replace(s, split=replace(s.split, production=max(s.split.production - 1, 0)))),
        3,
    ),
    "an upgrade of everything": (each(Change.SCALE, target(Track.PRODUCTION, version=sim.NEW)), 4),
}


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_the_walk_finds_broken_answers(name: str) -> None:
    """A planner whose every plan is broken in the same way does not get through the walk."""
    mutate, rule = BROKEN_ANSWERS[name]

    def broken(observed: Observed, wanted: Wanted) -> Plan | Refusal:
        made = planner.plan(observed, wanted)
        return replace(made, steps=tuple(mutate(made.steps))) if isinstance(made, Plan) else made

    with pytest.raises(Broken) as found:
        walk(broken)
    assert rule == found.value.rule, found.value


def test_the_unbroken_planner_passes() -> None:
    """The same walk ends well with the planner as it is."""
    assert walk(planner.plan).plans > 1000
