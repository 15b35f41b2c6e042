"""Every case in `plans/*.yaml`: what is observed and wanted -> these steps, or this refusal in these words."""

from __future__ import annotations

import pytest

from helm_canary.core.invariants import check_plan
from helm_canary.core.model import Plan, Reason, Refusal
from helm_canary.core.planner import plan
from tests.core import brief
from tests.core.cases import Case, all_cases

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case(case: Case) -> None:
    """The planner answers as the case file says, and what it plans keeps the rules."""
    made = plan(case.observed, case.wanted)
    print("\n  ".join(brief.outcome(made)))
    if isinstance(made, Refusal):
        _check_refusal(made, case)
    else:
        _check_plan(made, case)


def _check_refusal(made: Refusal, case: Case) -> None:
    assert case.expected.get("refused") == made.reason.value
    words = f"{made.happened} {made.means} {made.do_next}"
    for text in case.expected["text"]:
        assert text in words


def _check_plan(made: Plan, case: Case) -> None:
    assert "refused" not in case.expected
    assert made.result.value == case.expected["result"]
    assert case.expected.get("steps", []) == [brief.brief(step) for step in made.steps]
    assert case.expected["because"] in made.because
    assert len(case.expected.get("notes", [])) == len(made.notes)
    for text, note in zip(case.expected.get("notes", []), made.notes, strict=True):
        assert text in note
    if "R" in case.expected:
        assert case.expected["R"] == list(made.upgrades)[-1].record.replicas
    assert check_plan(case.observed, made) == []


def test_the_cases_cover_every_answer() -> None:
    """Every reason to refuse and every result of a plan has a case."""
    made = [plan(case.observed, case.wanted) for case in CASES]
    refused = {each.reason.value for each in made if isinstance(each, Refusal)}
    results = {each.result.value for each in made if isinstance(each, Plan)}
    assert results == {"done", "nothing", "already-past", "first-install"}
    assert refused == {reason.value for reason in Reason}
