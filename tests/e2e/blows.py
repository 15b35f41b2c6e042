"""Commands that are killed or cancelled at a chosen moment, and given again until they arrive; all under one load."""

from __future__ import annotations

import enum
import re
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.cluster import Traffic, table

from .ledger import OURS, Ledger
from .service import Run, Service, Started
from .states import Release, State
from .walk import record

# The longest that a command may go on after it was cancelled.
CANCEL_LIMIT_S = 5.0
# How long nobody is there after a death, and at the end: longer than a pod that has no traffic takes to go.
HOLD_S = 3.0
UPGRADE = "helm upgrade"


class Blow(enum.Enum):
    """What comes over a command."""

    ALONE = "killed, its helm goes on"
    WITH_HELM = "killed with its helm"
    TERM = "SIGTERM"
    INT = "SIGINT"

    @property
    def is_death(self) -> bool:
        return self in (Blow.ALONE, Blow.WITH_HELM)


@dataclass(frozen=True)
class Point:
    """A moment of a plan: so long after a step began, or after its `helm upgrade` did.

    later  how many steps of the same words come after it: what is planned again is the end of what was planned before
    """

    step: str
    later: int
    in_helm: bool = False
    after_s: float = 0.0

    def index(self, plan: Sequence[str]) -> int | None:
        """Where the step is in this plan; None where it was done before."""
        found = [index for index, step in enumerate(plan) if step == self.step]
        return found[-1 - self.later] if len(found) > self.later else None


def points(plan: Sequence[str], delays: Sequence[float]) -> list[Point]:
    """Every moment of a plan: the beginning of each step, and these delays in each `helm upgrade`."""
    found = []
    for index, step in enumerate(plan):
        later = plan[index + 1 :].count(step)
        found.append(Point(step, later))
        if step.startswith(UPGRADE):
            found += [Point(step, later, in_helm=True, after_s=delay) for delay in delays]
    return found


FIRST = "it was the first installation"
Choice = Callable[[Sequence[str]], list[Point]]


def nowhere(plan: Sequence[str]) -> list[Point]:
    """Nothing comes over it."""
    return []


@dataclass
class Struck:
    """One service under one load. Each command is struck at the chosen points of its first plan, in their order, and given again
    after each; it must arrive at last.
    """

    service: Service
    traffic: Traffic
    ledger: Ledger
    conditions: str
    release: Release
    blows: Sequence[Blow]
    _count: int = 0
    _events: list[str] = field(default_factory=list)

    def stage(self, number: int, choose: Choice = nowhere) -> Run:
        tag = self.release.new
        return self.carry_out(
            f"{number - 1} -> {number}",
            lambda: self.service.start_stage(number, tag),
            self.release.at(number),
            choose,
        )

    def stages(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.stage(number)

    def rollback(self, stage: int, choose: Choice = nowhere) -> Run:
        name, state = f"rollback from {stage}", self.release.rolled_back
        return self.carry_out(name, lambda: self.service.start("rollback"), state, choose)

    def _is_nothing_to_go_back_to(self, run: Run, state: State) -> bool:
        """Struck before its first write, the first release over an installation has left nothing to roll back."""
        return state == self.release.rolled_back and run.code == 3 and FIRST in run.said

    def carry_out(self, name: str, start: Callable[[], Started], state: State, choose: Choice) -> Run:
        self.traffic.mark(name)
        todo: list[Point] | None = None
        while True:
            started = start()
            plan = started.read_plan()
            todo = choose(plan) if todo is None else todo
            while todo and todo[0].index(plan) is None:
                todo.pop(0)
            if not todo or not self._strike(started, todo.pop(0), plan):
                break
        run = started.end()
        if self._is_nothing_to_go_back_to(run, state):
            state = self.release.at(1)
            assert (run.answer["changed"], run.upgrades) == (False, []), run.text
            self._note(f"{name}: nothing had been written")
            self.service.check(state)
            return run
        assert run.code == 0, f"{self._told()}\n{name} ended with {run.code}:\n{run.text}"
        self._note(f"{name} arrived in {run.seconds:.1f} s")
        self.service.check(state)
        return run

    def abandon(self, name: str, start: Callable[[], Started], choose: Choice) -> None:
        """The first blow only, and the command is not given again."""
        self.traffic.mark(name)
        started = start()
        plan = started.read_plan()
        assert self._strike(started, choose(plan)[0], plan)

    def _strike(self, started: Started, point: Point, plan: Sequence[str]) -> bool:
        """False where the command ended before."""
        index = point.index(plan)
        assert index is not None
        line = rf"^\[{index + 1}/{len(plan)}\] {re.escape(point.step)}"
        if index > 0 and not started.reads(line):
            return False
        if point.in_helm and not started.reads(r"^  \$ helm upgrade"):
            return False
        time.sleep(point.after_s)
        if started.process.poll() is not None:
            return False
        blow = self.blows[self._count % len(self.blows)]
        self._count += 1
        where = "in helm" if started.helm() else "elsewhere"
        self._note(
            f"{' '.join(started.command.split()[1:3])}: {blow.value} {where}, {point.after_s:.2f} s in {point.step}"
        )
        self.ledger.add_blow(self.conditions, f"{blow.value}, {where}")
        if blow.is_death:
            self._kill(started, blow)
        else:
            self._cancel(started, signal.SIGTERM if blow is Blow.TERM else signal.SIGINT)
        return True

    def _kill(self, started: Started, blow: Blow) -> None:
        started.kill(alone=blow is Blow.ALONE)
        run = started.end()
        assert run.code == -signal.SIGKILL, run.text
        self.service.check_serving()
        time.sleep(HOLD_S)
        self.service.check_serving()

    def _cancel(self, started: Started, number: signal.Signals) -> None:
        began = time.monotonic()
        started.signal(number)
        run = started.end()
        took = time.monotonic() - began
        run.expect(130, "cancelled")
        assert took < CANCEL_LIMIT_S, f"{took:.1f} s\n{run.text}"
        self._note(f"ended in {took:.1f} s")
        self.service.check_serving()
        tracks = dict(zip(("production", "canary"), self.service.tracks(), strict=True))
        having = {name: track for name, track in tracks.items() if track.weight}
        assert run.answer["traffic"] == (next(iter(having)) if len(having) == 1 else "split"), run.text
        for name, track in having.items():
            assert f"{name} ({track.tag}) has {track.weight} %" in run.said, run.text
            assert run.answer[f"{name}-weight"] == track.weight, run.text

    def settle(self) -> None:
        """Nothing was lost, and nothing is left half-done."""
        time.sleep(HOLD_S)
        pending = [status for status in self.service.revisions().values() if status.startswith("pending")]
        assert not pending, self._told()
        moves = self.traffic.report()
        record(self.ledger, OURS, self.conditions, moves)
        assert sum(move.lost for move in moves) == 0, f"\n{table(moves)}\n{self._told()}"

    def _note(self, text: str) -> None:
        self._events.append(f"{time.time():.1f} {text}")

    def _told(self) -> str:
        return f"{self.conditions}, {self.service.namespace}:\n" + "\n".join(self._events)
