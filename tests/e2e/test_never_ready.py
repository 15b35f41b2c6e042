"""A new version whose pods never become Ready gets no request."""

from __future__ import annotations

import pytest

from tests.cluster import Traffic, table

from .ledger import OURS, Ledger
from .service import Service
from .states import Release
from .walk import HELD, check_split, record

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RPS = 100


def test_a_canary_that_is_never_ready(steady: Service, ledger: Ledger) -> None:
    """Exit 4, all traffic stays where it was, the cause is shown; rollback cleans up and a good version goes through."""
    release = Release("83", "never")
    with Traffic(steady.cluster, steady.host, rps=RPS) as traffic:
        traffic.mark("a canary that is never Ready")
        run = steady.having(options=("--timeout", "15s")).stage(2, "never").expect(4, "failed")
        traffic.mark("its rollback")
        back = steady.rollback().expect(0, "done")
        traffic.mark("its rollback" + HELD)
        steady.check(release.rolled_back)
        moves = traffic.report()
    record(ledger, OURS, "a canary that is never Ready", moves)
    assert sum(move.lost for move in moves) == 0, "\n" + table(moves)
    assert all(move.by_version.keys() <= {"83"} for move in moves), "\n" + table(moves)
    check_split(moves[-1], release.rolled_back, ("83", "never"))
    answer = run.answer
    assert (answer["production-tag"], answer["production-weight"], answer["traffic"]) == ("83", 100, "production")
    error = answer["error"]
    assert "production (83) has 100 %" in error["means"]
    assert "Canary is not Ready at never" in error["happened"]
    details = "\n".join(error["details"])
    assert "its readiness probe fails" in details
    assert "event: Unhealthy" in details
    assert "version never serves on :9080" in details
    assert all(detail in run.said for detail in error["details"]), "the text for people lacks what the JSON has"
    assert back.answer["canary-tag"] == "83"
    steady.stage(2, "84").expect(0, "done")
    steady.check(Release("83", "84").at(2))


@pytest.mark.matrix
def test_a_canary_that_crashes(steady: Service) -> None:
    """A container that ends by itself is named with the log of its last life, and production keeps the traffic."""
    run = steady.having(options=("--timeout", "12s")).stage(2, "crash").expect(4, "failed")
    details = "\n".join(run.answer["error"]["details"])
    assert "crashes on purpose" in details, run.text
    assert run.answer["traffic"] == "production"
    steady.rollback().expect(0, "done")
    steady.check(Release("83", "crash").rolled_back)
