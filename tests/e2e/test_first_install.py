"""The first installation: there is no previous version to fall back on, and nothing pretends that there is."""

from __future__ import annotations

import pytest

from .service import Service
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

INSTALLED = Release("83", "83").at(1)


def test_stages_of_a_first_installation(fresh: Service) -> None:
    """Stage 1 installs; the stages after it, as the same pipeline runs them, are `first-install` and change nothing."""
    run = fresh.install("83")
    assert run.answer["changed"] is True
    fresh.check(INSTALLED)
    assert fresh.stage(1, "83").expect(0).answer["changed"] is False
    before = fresh.snapshot()
    for stage in range(2, 8):
        assert fresh.stage(stage, "83").expect(0, "first-install").answer["changed"] is False
    assert fresh.snapshot() == before
    refused = fresh.rollback().expect(3, "refused")
    assert "stage" in refused.answer["error"]["do-next"]
    assert fresh.snapshot() == before


@pytest.mark.parametrize("stage", [2, 7])
def test_no_stage_but_the_first_on_nothing(fresh: Service, stage: int) -> None:
    """On nothing, a stage other than 1 is refused, names stage 1 as the way on, and leaves nothing behind."""
    refused = fresh.stage(stage, "83").expect(3, "refused")
    assert "stage 1 --tag 83" in refused.answer["error"]["do-next"]
    assert fresh.revision() == 0
    assert fresh.read("deployments") == []


@pytest.mark.parametrize("broken", ["never", "crash"])
def test_an_installation_that_never_got_ready_is_mended(fresh: Service, broken: str) -> None:
    """It ends with 5, since no version is healthy, and names the cause; stage 1 with another tag mends it."""
    service = fresh.having(options=("--timeout", "8s"))
    failed = service.stage(1, broken).expect(5, "failed")
    assert "is not Ready" in failed.text
    service.stage(2, broken).expect(3, "refused")
    fresh.stage(1, "83").expect(0, "done")
    fresh.check(INSTALLED)
    fresh.stage(2, "84").expect(0, "done")
    fresh.check(Release("83", "84").at(2))
