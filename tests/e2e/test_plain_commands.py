"""The harness sees losses where there are some: the commands that this product replaces lose requests on it."""

from __future__ import annotations

import time

import pytest

from tests.cluster import Move, Traffic, table

from .conftest import SLOW, Lab
from .ledger import PLAIN, Ledger
from .plain import VALUES, upgrade
from .service import Service, merge
from .together import side_by_side
from .walk import HELD, record

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RPS = 100
HOLD_S = 2.0
RETRIES = {"Istio's default retries": 2, "retries.attempts 0": 0}
APART = "not counted"
# What the canary's share of ten percent loses in the seconds until its first pod is Ready is about a hundred.
LEAST_LOST = 20


def _walk(service: Service, traffic: Traffic, back_from: tuple[int, ...]) -> list[Move]:
    """All stages and back; then to each of `back_from` at a stroke, uncounted, and back."""

    def move(name: str, stage: int) -> None:
        traffic.mark(name)
        upgrade(service, stage, "83", "84")
        traffic.mark(name + HELD if name != APART else APART)
        time.sleep(HOLD_S)

    for stage in range(2, 8):
        move(f"{stage - 1} -> {stage}", stage)
    move("rollback from 7", 1)
    for stage in back_from:
        move(APART, stage)
        move(f"rollback from {stage}", 1)
    return [made for made in traffic.report() if made.name != APART]


MATRIX = [pytest.param(stages, marks=pytest.mark.matrix) for stages in ((2, 4, 5), (3, 6))]


@pytest.mark.parametrize("back_from", [(), *MATRIX])
def test_the_plain_commands_lose_requests(lab: Lab, ledger: Ledger, back_from: tuple[int, ...]) -> None:
    """The eight plain commands lose requests where weight comes before pods, or this harness could not see a loss."""

    def walk_with(retries: str) -> None:
        service = lab.service(SLOW, merge(VALUES, {"retries": {"attempts": RETRIES[retries]}}))
        upgrade(service, 1, "83", "84")
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            moves = _walk(service, traffic, back_from)
        record(ledger, PLAIN, retries, moves)
        lost = sum(move.lost for move in moves if move.name.startswith("1 -> 2"))
        assert lost >= LEAST_LOST, "\n" + table(moves)
        lab.delete(service.namespace)

    side_by_side(RETRIES, walk_with)
