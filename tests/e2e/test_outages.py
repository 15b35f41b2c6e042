"""Parts of the cluster that are away for some seconds while a command runs. Other tests must not run beside these."""

from __future__ import annotations

import time

import pytest

from tests.cluster import Traffic

from .conftest import Lab
from .hands import silenced, stopped
from .ledger import Ledger
from .service import Service
from .settling import RPS, settle
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AWAY_S = 8.0
LATE, RELEASE = Release("83", "late"), Release("83", "84")


@pytest.mark.matrix
@pytest.mark.parametrize("line", [r"waiting .* for canary to be Ready", r"\$ helm upgrade"])
def test_the_api_server_is_away_for_a_while(lab: Lab, ledger: Ledger, line: str) -> None:
    """Gone in a wait, or while Helm writes, and back: the command waits for it, says so, and arrives without a loss."""
    # After an outage the local cluster's own controllers take up to a minute and a half to make pods again.
    service = lab.service(options=("--drain", "1s", "--timeout", "240s"))
    service.install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("1 -> 2, the API server is away")
        started = service.start_stage(2, "late")
        started.wait_for_line(line)
        with stopped(service.cluster, "apiserver"):
            time.sleep(AWAY_S)
        run = started.end().expect(0, "done")
        assert "it is unreachable; retrying" in run.said
        service.check(LATE.at(2))
        settle(traffic, ledger, "the API server away for a while")
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_the_api_server_is_away_for_too_long(lab: Lab, ledger: Ledger) -> None:
    """Longer than --timeout: exit 5, because the traffic cannot be read; the same command arrives when it is back."""
    service = lab.service(options=("--drain", "1s", "--timeout", "5s"))
    service.having(options=("--timeout", "60s")).install("83")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("1 -> 2, the API server is away")
        started = service.start_stage(2, "late")
        started.wait_for_line(r"waiting .* for canary to be Ready")
        with stopped(service.cluster, "apiserver"):
            run = started.end().expect(5, "failed")
        assert (run.answer["traffic"], run.answer["proof"]) == ("unknown", "unproven")
        assert "Where the traffic is cannot be said" in run.answer["error"]["means"]
        traffic.mark("1 -> 2, again")
        service.having(options=("--timeout", "90s")).stage(2, "late").expect(0, "done")
        service.check(LATE.at(2))
        settle(traffic, ledger, "the API server away for too long")
    lab.delete(service.namespace)


def test_istiod_is_away_while_a_weight_is_written(lab: Lab, ledger: Ledger) -> None:
    """The weight is never called proven: exit 4 at the time limit, both versions Ready; the same command then arrives."""
    service = lab.service()
    service.install("83")
    service.stage(2, "84").expect(0, "done")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("2 -> 3, istiod is away")
        with stopped(service.cluster, "istiod"):
            run = service.having(options=("--timeout", "8s")).stage(3, "84").expect(4, "failed")
            said = service.status()
        assert (run.answer["traffic"], run.answer["proof"]) == ("split", "unproven")
        assert "The weights 10/90 are not in force" in run.answer["error"]["happened"]
        assert set(said["weights-in-force"].values()) == {"90/10"}
        assert said["proof"] == "unproven"
        traffic.mark("2 -> 3, again")
        again = service.stage(3, "84").expect(0)
        assert again.answer["proof"] == "proven"
        service.check(RELEASE.at(3))
        settle(traffic, ledger, "istiod away while a weight is written")
    lab.delete(service.namespace)


@pytest.mark.matrix
def test_a_gateway_that_does_not_answer(lab: Lab, ledger: Ledger) -> None:
    """It is waited for, named and left out: the stages arrive and their proof is `unproven`, until it answers again."""
    service = lab.service(options=("--drain", "3s", "--timeout", "90s"))
    service.install("83")
    silent = _a_gateway(service)
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        with silenced(service.cluster, silent):
            for move in ("1 -> 2", "2 -> 3"):
                traffic.mark(move)
                run = service.stage(int(move[-1]), "84").expect(0, "done")
                assert f"No answer from istio-system/{silent}: left out of the proof" in run.said
                assert (run.answer["proof"], run.answer["traffic"]) == ("unproven", "split")
            assert service.status()["weights-in-force"][f"istio-system/{silent}"] == "no answer"
        service.check(RELEASE.at(3))
        traffic.mark("rollback from 3")
        assert service.rollback().expect(0, "done").answer["proof"] == "proven"
        settle(traffic, ledger, "a gateway that does not answer")
    lab.delete(service.namespace)


def _a_gateway(service: Service) -> str:
    found = service.cluster.kubectl(
        *("-n", "istio-system", "get", "pods", "-l", "istio=ingressgateway", "-o", "jsonpath={.items[0].metadata.name}")
    )
    return found.strip()
