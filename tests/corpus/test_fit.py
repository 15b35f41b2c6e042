"""The charts of the table, without a cluster: those that fit are planned whole, the others are refused for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from .chart import load
from .judging import check_plans, check_refused, judge
from .table import Entry, entries

ENTRIES = entries()


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=[*ENTRIES])
def test_a_chart_is_planned_or_refused(entry: Entry, tmp_path: Path) -> None:
    """`plan all --from` plans every stage of a chart that fits, and names what is wrong with one that does not."""
    verdict = judge(entry.write(tmp_path))

    if entry.refused is None or entry.refused.by != "plan":
        # What only the cluster shows is no reason to refuse it here.
        check_plans(verdict)
    else:
        check_refused(verdict)
        assert [word for word in entry.refused.says if word not in verdict.told] == [], verdict.text


def test_there_are_forty_charts() -> None:
    """As many of both kinds as were promised, none of them a copy of another, each with its origin and reason."""
    fitting = [entry for entry in ENTRIES.values() if entry.refused is None]
    assert len(ENTRIES) >= 40
    assert len(fitting) >= 25
    assert len({repr((entry.pieces, entry.own, entry.created, entry.nested)) for entry in ENTRIES.values()}) >= 55
    for entry in ENTRIES.values():
        assert entry.after, entry.name
        assert entry.because or not (entry.refused or entry.allow or entry.install), entry.name


def test_every_piece_is_of_use() -> None:
    """No piece is left that neither a chart of the table nor the generator takes."""
    used = {name for entry in ENTRIES.values() for name in entry.pieces}
    assert set(load("pieces")) >= used
