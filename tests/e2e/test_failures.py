"""Pods that break at the worst moment: the first certain sign is told, exit code and traffic are true, and a way on is left."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster import Traffic

from .conftest import QUICK, Lab
from .hands import send_signal
from .ledger import Ledger
from .service import Run, Service
from .settling import RPS, settle, wait_until_proven
from .states import Release
from .together import side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = Release("83", "84")
TIMEOUT_S = 90.0
SOON_S = 45.0


# --- a canary whose pods do not come up ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """Why the canary of a tag gets no Ready pod.

    told     what the error has to say
    waiting  what the waiting line has to say before
    certain  it ends at this sign, before the time limit; else only there
    """

    told: tuple[str, ...]
    tag: str = "84"
    values: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Service], None] | None = None
    waiting: str = ""
    certain: bool = True
    timeout: str = f"{TIMEOUT_S:g}s"


def _forbid_more_pods(service: Service) -> None:
    service.kubectl("create", "quota", "two-pods", "--hard=pods=2")


def _forbid_large_pods(service: Service) -> None:
    limits = {"limits": [{"type": "Container", "max": {"memory": "4Mi"}}]}
    thing = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small-pods"}, "spec": limits}
    service.cluster.kubectl("--namespace", service.namespace, "apply", "-f", "-", stdin=json.dumps(thing))


HUGE = {"pod": {"resources": {"requests": {"cpu": "1000"}}}}
ABSENT = {"pod": {"envFrom": [{"secretRef": {"name": "absent"}}]}}
MISNAMED = {"canaryDeployment": {"image": {"repository": "localhost/wrong..name"}}}
BROKEN = {
    "an image that cannot be pulled": Broken((r"ErrImagePull|ImagePullBackOff", f"{QUICK}:missing"), "missing"),
    "a quota": Broken((r"exceeded quota: two-pods", r"pods=2"), prepare=_forbid_more_pods),
    "a crash loop": Broken((r"CrashLoopBackOff", "crashes on purpose"), "crash"),
    "no room on any node": Broken(
        (r"Unschedulable", "Insufficient cpu"), values=HUGE, waiting="Insufficient cpu", certain=False, timeout="12s"
    ),
    "a readiness probe": Broken(("its readiness probe fails",), "never", certain=False, timeout="15s"),
    "a Secret that is not there": Broken((r"CreateContainerConfigError", '"absent" not found'), values=ABSENT),
    "a LimitRange": Broken(
        (r"maximum memory usage per Container is 4Mi|memory limit of 4Mi",), prepare=_forbid_large_pods
    ),
    "an image's name": Broken(("InvalidImageName",), values=MISNAMED),
}
TOGETHER = (
    ("an image that cannot be pulled", "a quota"),
    ("no room on any node", "a crash loop"),
    ("a Secret that is not there", "an image's name"),
    ("a readiness probe", "a LimitRange"),
)


@pytest.mark.matrix
@pytest.mark.parametrize("names", TOGETHER, ids=", ".join)
def test_a_canary_that_does_not_come_up(lab: Lab, ledger: Ledger, names: tuple[str, ...]) -> None:
    """Told at the first certain sign, else at the time limit: exit 4, production serves all, rollback cleans up."""

    def fail(name: str) -> None:
        broken, service = BROKEN[name], lab.service()
        service.install("83")
        if broken.prepare:
            broken.prepare(service)
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            traffic.mark("the stage that fails")
            release = service.having(values=broken.values, options=("--timeout", broken.timeout))
            run = release.stage(2, broken.tag)
            _check_failure(run, "production", "83")
            _check_told(run, broken)
            traffic.mark("its rollback")
            service.rollback().expect(0, "done")
            service.check(RELEASE.rolled_back)
            settle(traffic, ledger, f"a canary that does not come up: {name}")
        lab.delete(service.namespace)

    side_by_side(names, fail)


def _check_failure(run: Run, track: str, tag: str) -> None:
    """All of the traffic is on this track, whose pods are Ready, and the exit code says so."""
    answer = run.expect(4, "failed").answer
    assert (answer["traffic"], answer[f"{track}-tag"], answer[f"{track}-weight"]) == (track, tag, 100), run.text
    assert answer["proof"] == "unproven"
    assert f"{track} ({tag}) has 100 % with 2 of 2 pods Ready" in answer["error"]["means"], run.text


def _check_told(run: Run, broken: Broken) -> None:
    error = run.answer["error"]
    whole = "\n".join((error["happened"], error["means"], *error["details"]))
    for text in broken.told:
        assert re.search(text, whole), f"{text!r} is not told:\n{run.text}"
    assert broken.waiting in "".join(line for line in run.said.splitlines() if line.startswith("  waiting"))
    assert ("Waiting does not help" in error["means"]) == broken.certain, run.text
    if broken.certain:
        (waited,) = re.findall(r"after (\d+) s", error["happened"])
        assert int(waited) < TIMEOUT_S, run.text


# --- a production that fails, with the traffic on the canary ------------------------------------------------------------

NEVER_IN_PRODUCTION = {"productionDeployment": {"pod": {"env": {"NEVER_READY": "1"}}}}


@pytest.mark.matrix
def test_a_production_that_is_never_ready_at_promote(lab: Lab, ledger: Ledger) -> None:
    """Exit 4 at stage 5: the canary has all traffic and keeps it; the same stage fails again, and rollback arrives."""
    service = lab.service()
    service.install("83")
    service = service.having(values=NEVER_IN_PRODUCTION)
    for stage in (2, 3, 4):
        service.stage(stage, "84").expect(0, "done")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        short = service.having(options=("--timeout", "10s"))
        for attempt in ("4 -> 5, production never Ready", "4 -> 5 again"):
            traffic.mark(attempt)
            run = short.stage(5, "84")
            _check_failure(run, "canary", "84")
            assert "Production is not Ready at 84" in run.answer["error"]["happened"]
            assert "its readiness probe fails" in "".join(run.answer["error"]["details"])
        traffic.mark("rollback from 5")
        service.rollback().expect(0, "done")
        service.check(RELEASE.rolled_back)
        settle(traffic, ledger, "production never Ready at 5")
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_a_production_that_crashes_while_watched(lab: Lab, ledger: Ledger) -> None:
    """Exit 4 at stage 6: the canary has the traffic again, the record says promote; stage 6 and rollback still work.

    What the crashed pod had in flight may be lost; nothing is once the traffic is back.
    """
    service = lab.service(options=("--drain", "8s", "--timeout", "90s"))
    service.install("83")
    for stage in range(2, 6):
        service.stage(stage, "84").expect(0, "done")
    crashing = "5 -> 6, a pod of production crashes"
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark(crashing)
        started = service.start_stage(6, "84")
        started.wait_for_line(r"waiting .* for production, which has all traffic now")
        send_signal(service, _pods(service, "production")[0], signal.SIGKILL)
        started.wait_for_line(r"Its traffic goes back to the canary")
        run = started.end()
        _check_failure(run, "canary", "84")
        assert "was restarted" in run.answer["error"]["happened"]
        assert (run.answer["stage"], run.answer["production-weight"]) == ("promote", 0)
        traffic.mark("5 -> 6 again")
        service.stage(6, "84").expect(0, "done")
        service.check(RELEASE.at(6))
        traffic.mark("rollback from 6")
        service.rollback().expect(0, "done")
        service.check(RELEASE.rolled_back)
        lost = settle(traffic, ledger, "production crashes at 6", apart=(crashing,))
    print(f"lost by the pod that crashed: {lost[crashing]}")
    lab.delete(service.namespace)


def _pods(service: Service, track: str) -> list[str]:
    found = service.read("pods", "--selector", f"canary={'true' if track == 'canary' else 'false'}")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


# --- a canary that breaks with most of the traffic ----------------------------------------------------------------------

# The kubelet must not restart what is stopped while the test runs.
PATIENT = {"pod": {"livenessProbe": {"failureThreshold": 100}}}


@pytest.mark.matrix
def test_a_canary_that_breaks_at_90_percent(lab: Lab, ledger: Ledger) -> None:
    """With 1 of 2 production pods Ready the rollback moves at once and says so in numbers; nothing is lost after that."""
    service = lab.service(values=PATIENT)
    service.install("83")
    for stage in (2, 3):
        service.stage(stage, "84").expect(0, "done")
    broken = "the canary is broken, until the weights are back"
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark(broken)
        stopped = [_pods(service, "production")[0], *_pods(service, "canary")]
        for pod in stopped:
            send_signal(service, pod, signal.SIGSTOP)
        _wait_ready(service, {"production": 1, "canary": 0})
        started = service.start("rollback")
        wait_until_proven(started)
        traffic.mark("after the weights are back")
        # Production's second pod comes back while the rollback waits for it.
        send_signal(service, stopped[0], signal.SIGCONT)
        run = started.end().expect(0, "done")
        assert "Capacity: all traffic goes to 1 of 2 production pods" in "".join(run.answer["notes"]), run.text
        steps = [line for line in run.said.splitlines() if re.match(r"\[\d+/", line)]
        assert "all traffic back on production" in steps[0], run.text
        assert run.answer["traffic"] == "production"
        service.check(RELEASE.rolled_back)
        lost = settle(traffic, ledger, "a canary that breaks at 90 %", apart=(broken,))
    print(f"lost before the weights were back: {lost[broken]}")
    lab.delete(service.namespace)


def _wait_ready(service: Service, wanted: Mapping[str, int]) -> None:
    deadline = time.monotonic() + SOON_S
    names = {"production": "productpage", "canary": "productpagecanary"}
    while True:
        found = {
            item["metadata"]["name"]: item["status"].get("readyReplicas", 0) for item in service.read("deployments")
        }
        if {track: found[names[track]] for track in wanted} == dict(wanted):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
