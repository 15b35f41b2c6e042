"""What is called done serves: one request through a gateway at the installation, one to each version before it gets traffic."""

from __future__ import annotations

import pytest

from .service import Run, Service
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

INSTALLED = Release("83", "83").at(1)
# Pods that are Ready whatever the Service's port does.
READY_ELSEWHERE = {"readinessProbe": {"httpGet": None, "exec": {"command": ["/app", "true"]}}}


def served(service: Service) -> None:
    """Requests through the gateways arrive."""
    assert service.verify("--requests", "10").expect(0).answer["status"] == {"200": 10}


def check_not_served(ran: Run, *said: str) -> None:
    """It ends without `done`, in three parts, and what it advises is to correct the chart and run stage 1 again."""
    ran.expect(5, "failed")
    error = ran.answer["error"]
    assert "No request arrives" in error["happened"], ran.text
    for text in said:
        assert text in ran.text, ran.text
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
