"""What is called done serves: one request through a gateway at the installation, one to each version before it gets traffic."""

from __future__ import annotations

import json

import pytest

from tests.cluster import Traffic

from .conftest import QUICK, Lab
from .ledger import Ledger
from .service import Run, Service
from .settling import settle
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

RPS = 50
RELEASE = Release("83", "84")
INSTALLED = Release("83", "83").at(1)
# Pods that are Ready at a port that the Service does not send to.
ELSEWHERE = {
    "env": {"ADDR": ":9099"},
    "livenessProbe": None,
    "readinessProbe": {"httpGet": None, "tcpSocket": {"port": 9099}},
}
# They answer the gateways, and nothing that comes from inside the pod.
AT_THE_POD_ADDRESS = {"env": {"AA": {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, "ADDR": "$(AA):9080"}}


def served(service: Service) -> None:
    """Requests through the gateways arrive."""
    assert service.verify("--requests", "10").expect(0).answer["status"] == {"200": 10}


def check_not_served(ran: Run, *said: str) -> None:
    """It ends without `done`, in three parts, and what it advises is to correct the cause and run stage 1 again."""
    ran.expect(5, "failed")
    error = ran.answer["error"]
    assert "No request arrives" in error["happened"], ran.text
    for text in said:
        assert text in error["means"], ran.text
    assert "run `stage 1` again" in error["do-next"], ran.text


def test_mutual_tls_without_sidecars_is_not_called_done(fresh: Service) -> None:
    """The original chart's values: every request is answered 503. The cause is named; corrected, stage 1 arrives."""
    wrong = fresh.having(values={"tls": {"mode": "ISTIO_MUTUAL"}})
    check_not_served(wrong.stage(1, "83"), "asks for ISTIO_MUTUAL", "no sidecar")
    assert fresh.verify("--requests", "5").code == 6
    check_not_served(wrong.stage(1, "83"), "asks for ISTIO_MUTUAL")
    assert "never served" in wrong.stage(2, "84").expect(3, "refused").text
    assert fresh.stage(1, "83").expect(0, "done").answer["changed"] is True
    fresh.check(INSTALLED)
    served(fresh)
    assert fresh.stage(1, "83").expect(0).answer["changed"] is False


@pytest.mark.matrix
def test_a_gateway_without_the_host_is_not_called_done(fresh: Service, ledger: Ledger) -> None:
    """A Gateway that has other hosts, beside the mesh: 404. Both are named; corrected, stage 1 arrives."""
    gateways = {"enabled": False, "names": ["shared"], "mesh": True}
    service = fresh.having(values={"gateway": gateways}, options=("--proof", "wait"))

    def gateway(host: str) -> None:
        servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [host]}]
        body = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "shared", "namespace": service.namespace},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
        }
        service.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    gateway(f"other.{service.namespace}.example.com")
    ran = service.stage(1, "83")
    check_not_served(ran, service.host, f"and the Gateway {service.namespace}/shared for other.{service.namespace}")
    assert "answers 404" in ran.text
    gateway(service.host)
    service.stage(1, "83").expect(0, "done")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        settle(traffic, ledger, "a Gateway that got the host")


@pytest.mark.matrix
def test_a_port_that_nothing_listens_at_is_not_called_done(fresh: Service) -> None:
    """Production is Ready by another port than the Service's; corrected, with other pods, stage 1 arrives."""
    check_not_served(fresh.having(values={"pod": ELSEWHERE}).stage(1, "83"), "port 9080 of production's pods")
    fresh.stage(1, "83").expect(0, "done")
    fresh.check(INSTALLED)
    served(fresh)


@pytest.mark.matrix
def test_what_the_app_itself_answers_is_a_note(fresh: Service) -> None:
    """An app that answers 503 is installed, and released, and it is said; how it answers is its own affair."""
    fresh.cluster.image(f"{QUICK}:errs", START_DELAY_MS="300", ERROR_PERCENT="100")
    ran = fresh.stage(1, "errs").expect(0, "done")
    assert "503: the app answers so itself" in ran.said, ran.text
    ran = fresh.stage(2, "84").expect(0, "done")
    assert "note:" not in ran.said, ran.text


def test_a_version_that_does_not_answer_gets_no_weight(steady: Service, ledger: Ledger) -> None:
    """A canary that is Ready by another port: no request is lost, and a rollback, then the corrected version arrive."""
    with Traffic(steady.cluster, steady.host, rps=RPS) as traffic:
        ran = steady.having(values={"pod": ELSEWHERE}).stage(2, "84").expect(4, "failed")
        assert "Canary does not answer" in ran.answer["error"]["happened"], ran.text
        assert steady.tracks()[1].weight == 0
        assert "rollback --of" in ran.answer["error"]["do-next"], ran.text
        steady.rollback().expect(0, "done")
        steady.stage(2, "84").expect(0, "done")
        settle(traffic, ledger, "a version that does not answer")
    steady.check(RELEASE.at(2))


@pytest.mark.matrix
def test_a_version_that_only_gateways_reach_is_released_without_a_request(steady: Service, ledger: Ledger) -> None:
    """The message says how: with `--path none` the same stage arrives, and no request is lost."""
    service = steady.having(values={"pod": AT_THE_POD_ADDRESS})
    with Traffic(steady.cluster, steady.host, rps=RPS) as traffic:
        ran = service.stage(2, "84").expect(4, "failed")
        assert "with `--path none`" in ran.answer["error"]["do-next"], ran.text
        service.stage(2, "84", "--path", "none").expect(0, "done")
        settle(traffic, ledger, "a version that only gateways reach")
    service.check(RELEASE.at(2))


@pytest.mark.matrix
def test_where_no_version_answers_this_way_the_stage_goes_on(lab: Lab) -> None:
    """What neither version answers says nothing of the new one: a note, and the weight moves."""
    service = lab.service(values={"pod": AT_THE_POD_ADDRESS})
    service.install("83")
    ran = service.stage(2, "84").expect(0, "done")
    assert "no answer came, nor from the version that serves" in ran.said, ran.text
    lab.delete(service.namespace)
