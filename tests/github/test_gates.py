"""Who let a stage pass, and who turned it down: from the reviews of a run alone."""

from __future__ import annotations

import pytest

from helm_canary.errors import RefusedError
from helm_canary.gates import History, Review, approval, check_starter, rejection

GATE, OTHER = "canary-3", "canary-2"


def said(gate: str, *answers: str) -> tuple[Review, ...]:
    return tuple(Review(gate=gate, approved=answer == "yes", who=f"person-{n}") for n, answer in enumerate(answers))


YES, NO = said(GATE, "yes"), said(GATE, "no")
# (what is there, the attempt that the gate's job told) -> what the refusal says; empty: it passes
APPROVALS = {
    "approved": (History(reviews=YES), 1, ""),
    "approved, of a workflow whose gate tells no attempt": (History(reviews=YES), None, ""),
    "named in other letters": (History(reviews=said("Canary-3", "yes")), 1, ""),
    "nobody": (History(reviews=()), 1, "The gate canary-3 was not approved"),
    "another gate": (History(reviews=said(OTHER, "yes")), 1, "was not approved"),
    "rejected": (History(reviews=NO), 1, "was not approved"),
    "no reviewers": (History(reviews=(), has_reviewers=False), 1, "everything passes"),
    "rejected, then approved in the next attempt": (History(reviews=NO + YES, attempt=2), 2, ""),
    "only the failed jobs run again": (History(reviews=YES, attempt=2), 1, "in an earlier attempt"),
    "again, and the gate tells nothing": (History(reviews=YES, attempt=2), None, "in an earlier attempt"),
    "the reviewers were taken away since": (History(reviews=YES, attempt=2, has_reviewers=False), 2, "everything passes"),
    "all jobs again, approved again": (History(reviews=YES + YES, attempt=2, has_reviewers=True), 2, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", APPROVALS.values(), ids=APPROVALS)
def test_an_approval_counts_only_for_its_gate_and_attempt(case: tuple[History, int | None, str]) -> None:
    """A stage passes by an approval of its own gate in this very attempt, and by nothing else."""
    history, attempt, refusal = case
    if not refusal:
        assert approval(history, GATE, attempt).approved
        return
    with pytest.raises(RefusedError, match="gate canary-3") as refused:
        approval(history, GATE, attempt)
    assert refusal in refused.value.text
    assert refused.value.do_next


REJECTIONS = {
    "rejected": (History(reviews=NO), True),
    "approved": (History(reviews=YES), False),
    "nobody answered in time": (History(reviews=()), False),
    "another gate": (History(reviews=said(OTHER, "no")), False),
    "in the first attempt, and nobody answered in the second": (History(reviews=NO, attempt=2), False),
    "in both": (History(reviews=NO + NO, attempt=2), True),
    "approved first, rejected then": (History(reviews=YES + NO, attempt=2), True),
}


@pytest.mark.parametrize("case", REJECTIONS.values(), ids=REJECTIONS)
def test_only_a_rejection_of_this_attempt_goes_back(case: tuple[History, bool]) -> None:
    """An expiry, or a rejection that may be of an earlier attempt, is none."""
    history, rejected = case
    assert (rejection(history, GATE) is not None) is rejected


@pytest.mark.parametrize(("account", "may"), [("ana", True), ("ANA", True), ("bob", False), ("", False)])
def test_who_may_start(account: str, may: bool) -> None:
    """Only the accounts of the list, in whatever letters."""
    if may:
        check_starter(account, ("Ana", "eve"))
        return
    with pytest.raises(RefusedError, match="not allowed to start"):
        check_starter(account, ("Ana", "eve"))
