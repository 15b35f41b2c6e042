"""The workflows for GitHub Actions, run by `act` on the real cluster under real traffic."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.traffic import Traffic
from tests.github.act import Hub, ended, hub

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


@pytest.mark.matrix
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
        assert "The gate canary-2 was not approved" in unapproved.log
        service.check(RELEASE.rolled_back)
        settle(traffic, ledger, "a rejected gate by act")


@pytest.mark.matrix
def test_a_failed_stage_goes_back(github: Hub, ledger: Ledger) -> None:
    """A canary that is never Ready fails stage 2 with 4; the rollback beside it runs without anybody's word, 0 lost."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("failed at stage 2")
        github.approve("canary-2")
        run = github.run("release", "never", {"timeout": "15s"})
        assert run.code == 1, run.log
        assert list(run.of("Rollback").values()) == ["success"], run.log
        assert run.of("Stage 3") == {}, run.jobs
        service.check(Release("83", "never").rolled_back)
        settle(traffic, ledger, "a failed stage by act")


@pytest.mark.matrix
def test_what_nobody_rejected_changes_nothing(github: Hub, ledger: Ledger) -> None:
    """A gate that expires, and one that is rejected after promote, show the way back and leave everything as it is."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("expired at gate 3")
        github.approve("canary-2")
        github.state["closed"].append("canary-3")
        github.write()
        expired = github.run("release", "84")
        assert expired.code == 1, expired.log
        assert "was not rejected in this attempt" in expired.log
        service.check(RELEASE.at(2))

        github.new_run()
        traffic.mark("rejected at gate 6")
        github.approve("canary-3", "canary-4", "canary-5")
        github.reject("canary-6")
        late = github.run("release", "84")
        assert late.code == 1, late.log
        assert "was not rejected in this attempt" in late.log
        service.check(RELEASE.at(5))

        traffic.mark("rollback by hand")
        back = github.run("rollback", "", {"of": "84"})
        assert back.code == 0, back.log
        service.check(RELEASE.rolled_back)
        settle(traffic, ledger, "no rejection by act")


@pytest.mark.matrix
def test_old_runs_change_nothing(github: Hub, ledger: Ledger) -> None:
    """84 finished, gate 2 of 85 rejected, then a stage of 83 is run again: nothing of the cluster changes."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("84")
        github.approve(*GATES)
        assert github.run("release", "84").code == 0
        service.check(RELEASE.at(7))
        before = service.snapshot()

        traffic.mark("85 rejected, 83 again")
        github.new_run()
        github.reject("canary-2")
        rejected = github.run("release", "85")
        assert rejected.code == 1, rejected.log
        assert list(rejected.of("Rollback").values()) == ["success"], rejected.log
        github.new_run()
        old = github.run("stage", "83", {"stage": "3", "gate": "canary-3"}, GITHUB_RUN_ATTEMPT="2")
        assert "83" in old.log
        assert old.of("Rollback") == {}, old.jobs
        assert service.snapshot() == before
        settle(traffic, ledger, "old runs by act")


@pytest.mark.matrix
def test_a_cancelled_step_ends_in_order(github: Hub, ledger: Ledger) -> None:
    """SIGINT to the step's process alone: it is the program, which ends in 5 s with 130, and the next run arrives."""
    service = github.service
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("cancelled at stage 2")
        started = github.start("stage", "never", {"stage": "2", "require-approval": False})
        process = _program_of(service.namespace)
        for _ in range(200):
            if service.tracks()[1].replicas:
                break
            time.sleep(0.1)
        began = time.monotonic()
        os.kill(process, signal.SIGINT)
        while Path(f"/proc/{process}").exists():
            time.sleep(0.05)
            assert time.monotonic() - began < 5.0
        run = ended(started)
        assert run.code == 1, run.log
        assert "Cancelled by SIGINT" in run.log
        assert "exit status 130" in run.log
        traffic.mark("rollback")
        assert github.run("rollback", "").code == 0
        service.check(Release("83", "never").rolled_back)
        settle(traffic, ledger, "a cancelled step by act")


def _program_of(namespace: str, limit_s: float = 60.0) -> int:
    """The program in the step of this namespace's run."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words, variables = (path / "cmdline").read_bytes().split(b"\0"), (path / "environ").read_bytes()
            except OSError:
                continue
            if b"helm_canary" in words and f"HELM_CANARY_NAMESPACE={namespace}".encode() in variables:
                return int(path.name)
        time.sleep(0.1)
    raise AssertionError("the program did not start")
