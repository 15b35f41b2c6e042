"""The workflows for GitHub Actions, run by `act` on the real cluster under real traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.traffic import Traffic
from tests.github.act import Hub, hub

from .ledger import Ledger
from .service import Service
from .settling import RPS, settle
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RELEASE = Release("83", "84")
GATES = [f"canary-{number}" for number in range(2, 8)]


@pytest.fixture
def github(fresh: Service, tmp_path: Path) -> Iterator[Hub]:
    """A repository for a service that is not installed yet."""
    with hub(fresh, tmp_path) as made:
        yield made


def test_a_release_from_an_empty_cluster_through_seven_approved_stages(github: Hub, ledger: Ledger) -> None:
    """The first run installs and asks nobody; the next walks all stages, each gate approved, and records who approved; 0 lost."""
    service = github.service
    first = github.run("release", "83")
    assert first.code == 0, first.log
    assert first.of("Gate") == {}, first.jobs
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("release by act")
        github.approve(*GATES)
        run = github.run("release", "84")
        assert run.code == 0, run.log
        assert set(run.jobs.values()) == {"success"}, run.jobs
        assert (len(run.of("Gate")), len(run.of("Stage")), run.of("Rollback")) == (6, 7, {}), run.jobs
        service.check(RELEASE.at(7))
        by = service.status()["by"]
        assert (by["approver"], by["comment"]) == ("ana", "looks good")
        again = github.run("release", "84")
        assert again.code == 0, again.log
        assert again.of("Gate") == {}, again.jobs
        settle(traffic, ledger, "a release by act")


def test_a_rejected_gate_goes_back_and_an_old_run_changes_nothing(github: Hub, ledger: Ledger) -> None:
    """84 at stage 3, gate 4 rejected: its rollback runs, 0 lost; a gate nobody approved is refused."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("rejected at gate 4")
        github.approve("canary-2", "canary-3")
        github.reject("canary-4")
        run = github.run("release", "84")
        assert run.code == 1, run.log
        assert list(run.of("Rollback").values()) == ["success"], run.log
        assert len(run.of("Stage")) == 3, run.jobs
        service.check(RELEASE.rolled_back)
        github.new_run()
        unapproved = github.run("release", "84", {"again": True})
        assert unapproved.code == 1, unapproved.log
        assert "Nobody approved the gate canary-2" in unapproved.log
        service.check(RELEASE.rolled_back)
        settle(traffic, ledger, "a rejected gate by act")
