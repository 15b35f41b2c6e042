"""The walk: every small state, every stage, a death in and after every step, with `invariants.py` as the judge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helm_canary.core.model import Direction, Past, Plan, Reason, Record, Refusal
from helm_canary.core.planner import plan
from helm_canary.core.stages import stages_for
from tests.core import brief
from tests.core import world as sim
from tests.core.walker import Walk
from tests.core.world import NEW, OLD, OTHER, World

LISTS = [(100,), (10, 100), (10, 90, 100), (5, 25, 50, 100), (1, 33, 66, 100)]


def report(walk: Walk, what: str) -> None:
    """What `pytest -s` shows: how much was walked."""
    print(
        f"\n{what}, weights {','.join(map(str, walk.weights))}, R {walk.replicas}: {walk.states} states, "
        f"{walk.plans} plans judged, {walk.steps} steps, {walk.refusals} refusals, {walk.deaths} deaths"
    )


def starts(weights: tuple[int, ...], replicas: int, *, hpa: bool = False) -> list[World]:
    """The ways a service is found before a release: never recorded, installed, released, rolled back; and empty."""
    found = sim.steady(weights, replicas, hpa=hpa)
    names = [stage.name for stage in stages_for(weights)]
    installed = Record(
        direction=Direction.FINISHED,
        previous=None,
        new=OLD,
        reached=names[0],
        toward=names[0],
        weights=weights,
        replicas=replicas,
        history=(Past(id=OLD.id, outcome="installed"),),
    )
    released = replace(installed, previous=OTHER, reached=names[-1], toward=names[-1], watched=True)
    undone = replace(released, previous=OLD, new=NEW, direction=Direction.ROLLED_BACK, reached=names[3])
    nothing = World(
        production=sim.Pods(None, busy=False),
        canary=sim.Pods(None, busy=False),
        asked=None,
        maybe=frozenset(),
        record=None,
        installed=False,
        hpa=hpa,
    )
    return [found, *(replace(found, record=record) for record in (installed, released, undone)), nothing]


@pytest.mark.parametrize(("replicas", "asked_canary"), [(1, None), (2, 1), (3, None), (3, 1)])
@pytest.mark.parametrize("weights", LISTS, ids=str)
def test_what_the_tool_can_leave(weights: tuple[int, ...], replicas: int, asked_canary: int | None) -> None:
    """From every state that commands and their deaths can leave, every command keeps the rules and arrives."""
    walk = Walk(plan, weights, replicas, asked_canary).run(starts(weights, replicas))
    report(walk, "own states")
    assert walk.states > 300


@pytest.mark.parametrize("weights", [(100,), (10, 90, 100)], ids=str)
def test_what_both_tracks_share(weights: tuple[int, ...]) -> None:
    """A new, a changed and a dropped object are made, changed and removed at their stages and undone, whatever dies meanwhile."""
    found = replace(sim.steady(weights, 2), manifest=frozenset({"ConfigMap/old"}))
    walk = Walk(plan, weights, 2).run([found])
    report(walk, "shared objects")
    assert len({world.manifest for world in walk.worlds}) == 4


def test_an_autoscaler_between_all_commands() -> None:
    """An autoscaler that takes production's pods, or adds some, between any two commands breaks no rule."""
    walk = Walk(plan, (10, 100), 2).run(starts((10, 100), 2, hpa=True)[:1])
    report(walk, "own states with an autoscaler")


def test_the_first_installation_is_put_back() -> None:
    """From whatever other hands made of it, `stage 1` of the installed tag arrives, also after a death in any step of it."""
    weights, replicas = (100,), 2
    installed = starts(weights, replicas)[1].record
    assert installed is not None
    found = {replace(world, record=None) for world in sim.every_small_world(weights, replicas)}
    records = installed, replace(installed, direction=Direction.ROLLING_BACK)
    worlds = [replace(world, record=record) for world in found for record in records]
    walk = Walk(plan, weights, replicas, foreign=True)
    walk.commands = [walk.stage(1, OLD)]
    walk.run(worlds)
    report(walk, "installed, and changed since")
    assert walk.plans > 500
    answers = [plan(sim.observe(world), walk.commands[0]) for world in walk.worlds]
    assert {made.reason for made in answers if isinstance(made, Refusal)} == {
        Reason.NOT_READY
    }  # it is as it was, but for pods


def test_another_release_waits_its_turn() -> None:
    """Another version is refused while a release is under way, and starts from wherever the last one ended."""
    walk = Walk(plan, (10, 100), 2).run(starts((10, 100), 2))
    started = 0
    for world in list(walk.worlds):
        record = world.record
        made = plan(sim.observe(world), walk.stage(2, OTHER))
        if record is None or record.direction is Direction.INSTALLING:
            continue
        if record.under_way:
            assert isinstance(made, Refusal)
            assert made.reason in (Reason.OTHER_RELEASE, Reason.ROLLING_BACK)
        elif OTHER not in (record.previous, record.new, world.production.version):
            assert isinstance(made, Plan), brief.outcome(made)
            started += 1
            walk.play(world, walk.stage(2, OTHER), made)
    assert started > 50


def test_what_anybody_can_leave() -> None:
    """From every small state, foreign versions and weights and missing objects too, no plan breaks a rule."""
    walk = Walk(plan, (100,), 1, foreign=True).run(sim.every_small_world((100,), 1))
    report(walk, "all states")
    assert walk.refusals > 10_000


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("weights", "replicas", "asked_canary", "hpa"),
    [
        ((100,), 2, 1, False),
        ((100,), 3, None, True),
        ((10, 100), 2, None, False),
        ((10, 90, 100), 1, None, False),
        ((10, 90, 100), 3, 1, False),
        ((5, 25, 50, 100), 1, None, False),
    ],
    ids=str,
)
def test_what_anybody_can_leave_at_length(
    weights: tuple[int, ...], replicas: int, asked_canary: int | None, hpa: bool
) -> None:
    """The same, with more pods, longer lists and stranger states."""
    worlds = sim.every_small_world(weights, replicas, asked_canary, hpa=hpa, whole=len(weights) == 1)
    report(Walk(plan, weights, replicas, asked_canary, foreign=True).run(worlds), "all states")
