"""Commands that are killed or cancelled: nothing is lost then or later, and the same command, given again, arrives."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.cluster import Traffic

from .blows import Blow, Choice, Point, Struck, points
from .conftest import SLOW, Lab
from .ledger import Ledger
from .states import Release
from .together import side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RPS = 100
SEED = 4
OPTIONS = ("--drain", "2s", "--timeout", "90s")
RELEASE = Release("83", "84")
# From the time that helm is called until it has ended, on a quick machine and on a busy one.
IN_HELM = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)


def some(rng: random.Random, count: int) -> Choice:
    """Different moments of a plan, the middle of a `helm upgrade` as likely as the beginning of a step."""

    def choose(plan: Sequence[str]) -> list[Point]:
        every = points(plan, [rng.uniform(IN_HELM[0], IN_HELM[-1])])
        return [every[index] for index in sorted(rng.sample(range(len(every)), min(count, len(every))))]

    return choose


@dataclass(frozen=True)
class Life:
    """A release whose commands die: stage -> how often; and its rollback, so often, from the last of these stages."""

    blows: tuple[Blow, ...]
    stages: Mapping[int, int]
    last: int
    rollback: int


# A stage that comes after a death waits for half a minute, until the dead one's Lease is: so there are few, side by side.
LIVES = {
    "killed alone first": Life((Blow.ALONE, Blow.WITH_HELM), {2: 1, 5: 1}, last=5, rollback=3),
    "killed with its helm first": Life((Blow.WITH_HELM, Blow.ALONE), {3: 1, 7: 1}, last=7, rollback=3),
}


def test_a_killed_command_is_run_again(lab: Lab, ledger: Ledger) -> None:
    """Killed at moments of a seeded sample, once or twice in a row, each command arrives when it is run again, without a loss."""

    def live(name: str) -> None:
        life, rng = LIVES[name], random.Random(f"{SEED} {name}")
        with (
            lab.lend(name, lambda: lab.service(SLOW, {}, OPTIONS)) as service,
            Traffic(service.cluster, service.host, rps=RPS) as traffic,
        ):
            struck = Struck(service, traffic, ledger, name, RELEASE, life.blows)
            for stage in range(2, life.last + 1):
                struck.stage(stage, some(rng, life.stages.get(stage, 0)))
            struck.rollback(life.last, some(rng, life.rollback))
            struck.settle()

    side_by_side(LIVES, live)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [2, 3, 4, 5, 6, 7])
def test_every_death_of_a_stage_and_its_rollback(lab: Lab, ledger: Ledger, stage: int) -> None:
    """Killed at each step and in each upgrade, time after time, a stage and the rollback from it arrive; nothing is lost."""
    ways = {"killed alone": Blow.ALONE, "killed with its helm": Blow.WITH_HELM}

    def sweep(way: str) -> None:
        rng = random.Random(f"{SEED} {way} {stage}")
        conditions = f"{way} at every step"
        with (
            lab.lend(conditions, lambda: lab.service(SLOW, {}, OPTIONS)) as service,
            Traffic(service.cluster, service.host, rps=RPS) as traffic,
        ):
            struck = Struck(service, traffic, ledger, conditions, RELEASE, (ways[way],))
            struck.stages(range(2, stage))
            struck.stage(stage, lambda plan: points(plan, sorted(rng.sample(IN_HELM, 2))))
            struck.rollback(stage, lambda plan: points(plan, sorted(rng.sample(IN_HELM, 2))))
            struck.settle()

    side_by_side(ways, sweep)


@pytest.mark.matrix
@pytest.mark.parametrize("stage", [2, 3, 4, 5, 6, 7])
def test_a_rollback_after_the_death_of_a_stage(lab: Lab, ledger: Ledger, stage: int) -> None:
    """Wherever a stage died, with its helm or without, a rollback takes over at once, arrives, and loses nothing."""
    ways = {"killed alone, then rollback": Blow.ALONE, "killed with its helm, then rollback": Blow.WITH_HELM}

    def die(conditions: str) -> None:
        rng = random.Random(f"{SEED} {conditions} {stage}")
        with (
            lab.lend(conditions, lambda: lab.service(SLOW, {}, OPTIONS)) as service,
            Traffic(service.cluster, service.host, rps=RPS) as traffic,
        ):
            struck = Struck(service, traffic, ledger, conditions, RELEASE, (ways[conditions],))
            for _ in range(2):
                struck.stages(range(2, stage))
                name = f"{stage - 1} -> {stage}"
                struck.abandon(name, lambda: service.start_stage(stage, "84"), some(rng, 1))
                struck.rollback(stage)
            struck.settle()

    side_by_side(ways, die)


def in_waits_and_helm(rng: random.Random) -> Choice:
    """In the middle of each wait for Ready and each drain, and somewhere in each `helm upgrade`."""

    def choose(plan: Sequence[str]) -> list[Point]:
        found = []
        for point in points(plan, [rng.uniform(IN_HELM[0], IN_HELM[-1])]):
            waits = point.step.startswith(("wait", "drain"))
            if waits or point.in_helm:
                found.append(Point(point.step, point.later, point.in_helm, 0.4 if waits else point.after_s))
        return found

    return choose


@pytest.mark.parametrize("stages", [(3,), pytest.param((2, 4, 5, 6, 7), marks=pytest.mark.matrix)])
def test_a_cancelled_command_says_where_it_is(lab: Lab, ledger: Ledger, stages: tuple[int, ...]) -> None:
    """SIGTERM and SIGINT in a wait, a drain or helm: 130 within 5 s, the traffic named; the same command then arrives."""
    signals = {"cancelled, SIGTERM first": (Blow.TERM, Blow.INT), "cancelled, SIGINT first": (Blow.INT, Blow.TERM)}

    def cancel(conditions: str) -> None:
        rng = random.Random(f"{SEED} {conditions} {stages}")
        with (
            lab.lend(conditions, lambda: lab.service(SLOW, {}, OPTIONS)) as service,
            Traffic(service.cluster, service.host, rps=RPS) as traffic,
        ):
            struck = Struck(service, traffic, ledger, conditions, RELEASE, signals[conditions])
            for stage in range(2, stages[-1] + 1):
                struck.stage(stage, in_waits_and_helm(rng) if stage in stages else some(rng, 0))
            struck.rollback(stages[-1], in_waits_and_helm(rng))
            struck.settle()

    side_by_side(signals, cancel)
