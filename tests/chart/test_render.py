"""What the chart renders, case by case; the cases are data in cases/."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chart.render import RenderError, at, render
from tests.chart.situations import Case, cases

if TYPE_CHECKING:
    from pathlib import Path

ALL = cases()


def by_promise(case: Case) -> str:
    return case.promise


@pytest.mark.parametrize("case", [case for case in ALL if case.error is None], ids=by_promise)
def test_keeps_its_promise(helm: Path, case: Case) -> None:
    """A situation renders what its case promises."""
    objects = render(helm, case.situation)

    if case.objects is not None:
        assert case.objects == sorted(objects)
    for name, expected in case.expect.items():
        assert expected == {pointer: at(objects[name], pointer) for pointer in expected}
    for name, pointers in case.absent.items():
        if not pointers:
            assert name not in objects
        for pointer in pointers:
            with pytest.raises(KeyError):
                at(objects[name], pointer)


@pytest.mark.parametrize("case", [case for case in ALL if case.error is not None], ids=by_promise)
def test_refuses(helm: Path, case: Case) -> None:
    """A situation that makes no sense is refused, with the reason."""
    assert case.error is not None

    with pytest.raises(RenderError) as refused:
        render(helm, case.situation)

    assert case.error in str(refused.value)


def test_every_case_has_a_promise_of_its_own() -> None:
    """A failing case can be found by its promise."""
    promises = [case.promise for case in ALL]

    assert sorted(set(promises)) == sorted(promises)
