"""Settling the account of a test in which requests may be lost for a while: until somebody mends what was broken."""

from __future__ import annotations

import time
from collections.abc import Collection

from tests.cluster import Traffic, table

from .ledger import OURS, Ledger
from .service import Started
from .walk import record

RPS = 100
HOLD_S = 1.5


def settle(traffic: Traffic, ledger: Ledger, conditions: str, *, apart: Collection[str] = ()) -> dict[str, int]:
    """Nothing was lost but in the moves that are counted apart; what each of these lost."""
    time.sleep(HOLD_S)  # what pods cut that end late counts as well
    moves = traffic.report()
    record(ledger, OURS, conditions, moves)
    assert sum(move.lost for move in moves if move.name not in apart) == 0, f"{conditions}\n{table(moves)}"
    return {move.name: move.lost for move in moves if move.name in apart}


def wait_until_proven(started: Started) -> None:
    """Until a running command has seen the weights in force that it wrote first."""
    started.wait_for_line(r"^\[\d+/\d+\] helm upgrade")
    started.wait_for_line(r"^\[\d+/\d+\] prove")
    started.wait_for_line(r"^\[\d+/\d+\]")
