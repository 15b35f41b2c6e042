"""Two commands on one release: one of them goes on, the other changes nothing; and two services, which do not meet."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from tests.cluster import Traffic, table

from .blows import FIRST
from .conftest import Lab
from .ledger import OURS, Ledger
from .service import Run, Service
from .states import Release
from .together import side_by_side
from .walk import record

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RPS = 100
RELEASE = Release("83", "84")
CI = {"GITHUB_SERVER_URL": "https://ci.example.com", "GITHUB_REPOSITORY": "shop/page", "GITHUB_RUN_ID": "4711"}
RUN_URL = "https://ci.example.com/shop/page/actions/runs/4711"
READY_LINE = r"waiting .* to be Ready"


@contextmanager
def load(service: Service, ledger: Ledger, conditions: str) -> Iterator[Traffic]:
    """100 requests a second while the body runs, and none of them lost."""
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark(conditions)
        yield traffic
        time.sleep(1.0)
        moves = traffic.report()
        record(ledger, OURS, "two at once", moves)
        assert sum(move.lost for move in moves) == 0, "\n" + table(moves)


def check_changed_nothing(run: Run) -> None:
    """It was refused, or found everything done, and wrote nothing."""
    assert (run.answer["changed"], run.upgrades) == (False, []), run.text


@pytest.mark.matrix
def test_two_stages_at_once(steady: Service, ledger: Ledger) -> None:
    """Of two equal `stage` commands one arrives; the other names it and is refused, or waits and finds it done."""
    with load(steady, ledger, "two stages at once"):
        for stage in range(2, 8):
            both = [steady.start_stage(stage, "84") for _ in range(2)]
            runs = sorted((started.end() for started in both), key=lambda run: run.answer["result"] != "done")
            runs[0].expect(0, "done")
            check_changed_nothing(runs[1])
            if runs[1].code:
                error = runs[1].expect(3, "refused").answer["error"]
                assert f"`stage {stage}`" in error["happened"], runs[1].text
            else:
                assert runs[1].answer["result"] == "nothing", runs[1].text
            steady.check(RELEASE.at(stage))


def test_a_live_holder_refuses_a_stage_and_gives_way_to_a_rollback(steady: Service, ledger: Ledger) -> None:
    """While `stage` waits for Ready another is refused, with command and run URL; `rollback` takes over, and it stops with 4."""
    with load(steady, ledger, "rollback while stage waits for Ready"):
        first = replace(steady, environment=CI).start_stage(2, "never")
        first.wait_for_line(READY_LINE)
        before = steady.snapshot()
        second = steady.stage(2, "never").expect(3, "refused")
        assert f"`stage 2` of {os.environ.get('USER', 'root')} ({RUN_URL})" in second.answer["error"]["happened"]
        check_changed_nothing(second)
        assert steady.snapshot() == before
        rollback = steady.start("rollback")
        stopped = first.end().expect(4, "failed")
        assert "`rollback`" in stopped.answer["error"]["happened"], stopped.text
        assert "taken over" in stopped.answer["error"]["happened"], stopped.text
        assert stopped.answer["traffic"] == "production"
        rollback.end().expect(0, "done")
        steady.check(Release("83", "never").rolled_back)
        check_changed_nothing(steady.rollback().expect(0, "nothing"))


@pytest.mark.parametrize(
    ("stage", "after_s", "late_s"),
    [
        (3, 0.15, 0.5),
        *[
            pytest.param(stage, after_s, late_s, marks=pytest.mark.matrix)
            for stage in (2, 4, 5, 6, 7)
            for after_s in (0.0, 0.1, 0.25)
            for late_s in (0.5, 3.0, 12.0)
        ],
    ],
)
def test_a_rollback_while_helm_runs(lab: Lab, ledger: Ledger, stage: int, after_s: float, late_s: float) -> None:
    """A helm that is held up in its upgrade and goes on after the takeover changes nothing that the rollback does not mend."""
    with lab.lend("rollback while helm runs", lab.service) as service:
        for number in range(2, stage):
            service.stage(number, "84").expect(0, "done")
        with load(service, ledger, "rollback while helm runs"):
            first = service.start_stage(stage, "84")
            first.wait_for_line(r"^  \$ helm upgrade")
            time.sleep(after_s)
            helm = first.helm()
            if helm:
                os.kill(helm, signal.SIGSTOP)
            rollback = service.start("rollback")
            try:
                rollback.wait_for_line("taken over|^The release|already")
                time.sleep(late_s)
            finally:
                if helm:
                    os.kill(helm, signal.SIGCONT)
            stopped = first.end()
            assert (stopped.code, stopped.answer["result"]) == (4, "failed"), stopped.text
            assert "`rollback`" in stopped.answer["error"]["happened"], stopped.text
            rolled, state = rollback.end(), RELEASE.rolled_back
            if stage == 2 and rolled.code == 3:
                # That Helm was held up for longer than anybody waits for it: nothing was written yet, over an installation.
                assert FIRST in rolled.said, rolled.text
                check_changed_nothing(rolled)
                rolled = service.rollback()
                if rolled.code == 3:
                    assert FIRST in rolled.said, rolled.text
                    state = RELEASE.at(1)
            if state == RELEASE.rolled_back:
                rolled.expect(0, "done")
            service.check(state)
            assert not [status for status in service.revisions().values() if status.startswith("pending")]


@pytest.mark.matrix
@pytest.mark.parametrize("stage", [3, *[pytest.param(stage, marks=pytest.mark.matrix) for stage in (2, 4, 5, 6, 7)]])
@pytest.mark.parametrize("delay", [0.0, *[pytest.param(s, marks=pytest.mark.matrix) for s in (0.7, 1.5, 3.0)]])
def test_a_rollback_at_any_moment_of_a_stage(lab: Lab, ledger: Ledger, stage: int, delay: float) -> None:
    """Started while a stage is somewhere in its steps, a rollback arrives; the stage ends with 4, or was done before."""
    with lab.lend("rollback while helm runs", lab.service) as service:
        for number in range(2, stage):
            service.stage(number, "84").expect(0, "done")
        with load(service, ledger, "rollback in the middle of a stage"):
            first = service.start_stage(stage, "84")
            first.wait_for_line(r"^\[1/")
            time.sleep(delay)
            rollback = service.start("rollback")
            stopped = first.end()
            rollback.end().expect(0, "done")
            assert (stopped.code, stopped.answer["result"]) in ((0, "done"), (4, "failed"), (3, "refused")), (
                stopped.text
            )
            if stopped.code:
                assert "`rollback`" in stopped.answer["error"]["happened"], stopped.text
            service.check(RELEASE.rolled_back)


def _lease(service: Service, **spec: object) -> None:
    """A Lease that somebody else holds."""
    metadata = {
        "name": f"helm-canary.{service.release}",
        "annotations": {"helm-canary.io/command": "stage 2", "helm-canary.io/run": RUN_URL},
    }
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    held = {"holderIdentity": "elsewhere_1_abc", "leaseDurationSeconds": 30, "renewTime": now, **spec}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": held}
    argv = ("--namespace", service.namespace, "replace", "--force", "--filename", "-")
    service.cluster.kubectl(*argv, stdin=json.dumps(lease))


@pytest.mark.matrix
def test_a_dead_holder(steady: Service, ledger: Ledger) -> None:
    """A Lease that nobody renews holds a `stage` up until it is dead, and is named; a `rollback` it does not hold up."""
    with load(steady, ledger, "a dead holder's Lease"):
        _lease(steady)
        run = steady.stage(2, "84").expect(0, "done")
        assert re.search(rf"waiting .*`stage 2`.*{re.escape(RUN_URL)}.* to finish, or its lease to expire", run.said), (
            run.text
        )
        assert run.seconds > 20
        steady.check(RELEASE.at(2))
        _lease(steady)
        back = steady.rollback().expect(0, "done")
        assert "to be dead" not in back.said, back.text
        assert "taken over from `stage 2`" in back.said, back.text
        steady.check(RELEASE.rolled_back)


@pytest.mark.matrix
def test_a_lease_that_is_deleted_by_hand(lab: Lab, ledger: Ledger) -> None:
    """A command whose Lease is gone stops before its next write, and says so; given again it arrives."""
    with lab.lend("rollback while helm runs", lab.service) as service, load(service, ledger, "a Lease deleted by hand"):
        started = service.start_stage(2, "late")
        started.wait_for_line(READY_LINE)
        revision = service.revision()
        service.kubectl("delete", "lease", f"helm-canary.{service.release}")
        run = started.end().expect(4, "failed")
        assert "Lease" in run.answer["error"]["happened"], run.text
        assert run.answer["traffic"] == "production"
        assert service.revision() == revision
        service.stage(2, "late").expect(0, "done")
        service.check(Release("83", "late").at(2))
        service.rollback().expect(0, "done")


@pytest.mark.matrix
def test_old_pipelines_change_nothing(fresh: Service, ledger: Ledger) -> None:
    """After 84 finished, 83's pipeline is `already-past` throughout; `rollback --of` 83, or of a refused 85, does nothing."""
    fresh.install("82")
    for tag in ("83", "84"):
        for stage in range(2, 8):
            fresh.stage(stage, tag).expect(0, "done")
    fresh.check(RELEASE.at(7))
    before, revision = fresh.snapshot(), fresh.revision()
    with load(fresh, ledger, "old pipelines"):
        for stage in range(1, 8):
            check_changed_nothing(fresh.stage(stage, "83").expect(0, "already-past"))
        check_changed_nothing(fresh.rollback("--of", "83").expect(0, "nothing"))
        refused = fresh.having(values={"trackHeader": "x-track"}).stage(2, "85").expect(3, "refused")
        check_changed_nothing(refused)
        check_changed_nothing(fresh.rollback("--of", "85").expect(0, "nothing"))
        assert (fresh.snapshot(), fresh.revision()) == (before, revision)
        fresh.check(RELEASE.at(7))
        fresh.rollback("--of", "84").expect(0, "done")
        fresh.check(RELEASE.rolled_back)
        before = fresh.snapshot()
        for words in ((), ("--of", "84"), ("--of", "83")):
            check_changed_nothing(fresh.rollback(*words).expect(0, "nothing"))
        assert fresh.snapshot() == before


@pytest.mark.matrix
@pytest.mark.parametrize("namespaces", [2, 1])
def test_two_services_do_not_meet(lab: Lab, ledger: Ledger, namespaces: int) -> None:
    """Two services that are released at the same time, in one namespace or in two, wait for nothing of each other."""
    one = lab.service()
    other = lab.service() if namespaces == 2 else one
    host = f"other.{other.namespace}.example.com"
    values = {"service": {"name": "other-svc"}, "gateway": {"hosts": [host]}}
    other = replace(other.having(values=values), release="other-productpage", named_host=host)
    services = (one, other)
    for service in services:
        service.install("83")

    def release(service: Service) -> None:
        with load(service, ledger, f"two services, {namespaces} namespace(s)"):
            for stage in (2, 3):
                run = service.stage(stage, "84").expect(0, "done")
                assert "another command" not in run.said
                service.check(RELEASE.at(stage))
            service.rollback().expect(0, "done")
            service.check(RELEASE.rolled_back)

    side_by_side(services, release)
    for name in {service.namespace for service in services}:
        lab.delete(name)
