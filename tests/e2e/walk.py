"""Moves under load. A move's requests are those from its command's start until the next one's, so that what is cut
afterwards, by pods that end late, counts as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.cluster import Move, Traffic, table
from tests.cluster.traffic import BEFORE

from .ledger import OURS, Ledger
from .service import Run, Service
from .states import Release, State

HELD = ", held"
HOLD_S, SLIGHT_HOLD_S = 1.5, 3.0


@dataclass
class Walk:
    """One service under one load: carries moves out, checks the cluster after each, and settles the account at the end."""

    service: Service
    traffic: Traffic
    ledger: Ledger
    conditions: str
    release: Release
    options: tuple[str, ...] = ()
    proof: str = "proven"
    gateways: int = 2
    _held: list[tuple[str, State]] = field(default_factory=list)

    def stages(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.stage(number)

    def stage(self, number: int) -> Run:
        more = ("--weights", ",".join(map(str, self.release.weights)), *self.options)
        return self._move(
            f"{number - 1} -> {number}",
            lambda: self.service.stage(number, self.release.new, *more),
            self.release.at(number),
        )

    def rollback(self, stage: int) -> Run:
        return self._move(f"rollback from {stage}", self.service.rollback, self.release.rolled_back)

    def _move(self, name: str, carry_out: Callable[[], Run], state: State) -> Run:
        self.traffic.mark(name)
        run = carry_out().expect(0, "done")
        self.hold(name, state)
        assert run.answer["changed"] is True
        assert (run.answer["stage"], run.answer["stage-number"]) == (state.name, state.number)
        assert run.answer["proof"] == self.proof, run.text
        assert run.answer["in-flight-cut"] == 0, run.text
        return run

    def hold(self, name: str, state: State) -> None:
        """Stay for long enough that the split can be counted; look at the cluster meanwhile."""
        self.traffic.mark(name + HELD)
        until = time.monotonic() + (
            SLIGHT_HOLD_S if 0 < min(state.production.weight, state.canary.weight) < 20 else HOLD_S
        )
        self.service.check(state, gateways=self.gateways, proof=self.proof)
        time.sleep(max(0.0, until - time.monotonic()))
        self._held.append((name + HELD, state))

    def settle(self) -> None:
        """Nothing was lost, and at every stage each version got its share."""
        moves = self.traffic.report()
        record(self.ledger, OURS, self.conditions, moves)
        assert sum(move.lost for move in moves) == 0, "\n" + table(moves)
        held = [move for move in moves if move.name.endswith(HELD)]
        assert [move.name for move in held] == [name for name, _ in self._held]
        for move, (_, state) in zip(held, self._held, strict=True):
            check_split(move, state, (self.release.previous, self.release.new))


def record(ledger: Ledger, who: str, conditions: str, moves: Iterable[Move]) -> None:
    for move in moves:
        if move.name == BEFORE:
            continue
        ledger.add(who, conditions, move.name.removesuffix(HELD), move.sent, move.lost)


def check_split(move: Move, state: State, tags: tuple[str, str]) -> None:
    """Each answer is thrown like a die: a share may be off by five standard deviations, but 0 % is none at all."""
    assert move.sent > 0, move.name
    for tag in tags:
        share, count = state.share(tag) / 100, move.by_version[tag]
        slack = 5 * math.sqrt(move.sent * share * (1 - share))
        assert abs(count - move.sent * share) <= slack, f"{move.name}: {tag} gave {count} of {move.sent}"
        assert count > 0 or share == 0, f"{move.name}: {tag} gave none of {move.sent}"
