"""Who approved a stage, asked of Azure DevOps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helm_canary.ci import rest
from helm_canary.ci.reviews import run_of
from helm_canary.errors import RefusedError, UsageError
from helm_canary.gates import Review, approval
from tests.azure_pipelines.api import TOKEN, Approval, AzureDevOpsApi, azure_devops
from tests.cli.program import check_refusal, run

STAGE, GATE = "canary_10", "shop-3"
PLACE = {
    "HELM_CANARY_COMMAND": "stage",
    "HELM_CANARY_STAGE": "3",
    "HELM_CANARY_RELEASE": "shop",
    "HELM_CANARY_NAMESPACE": "shop",
    "HELM_CANARY_CHART": "charts/productpage",
    "HELM_CANARY_OUTPUT": "json",
}


@pytest.fixture
def api() -> Iterator[AzureDevOpsApi]:
    with azure_devops() as found:
        yield found


def unmasked(secret: str) -> None:
    """No log to mask anything in."""


def test_an_approval_comes_with_who_and_why(api: AzureDevOpsApi) -> None:
    """Of all stages of the run only this one's approval counts; the comment is one line that the record can carry."""
    api.approvals = [
        Approval(stage="other", who="Eve"),
        Approval(stage=STAGE, comment="looks good:\n\x1b[31m##vso[x]\u2028 " + "x" * 600),
    ]
    masked: list[str] = []
    history = run_of(api.environment(STAGE), masked.append).history(GATE)

    found = approval(history, GATE, None)
    assert (found.gate, found.who, len(found.comment)) == (GATE, "Ana", 500)
    assert found.comment.startswith("looks good: [31m##vso[x] xxx")
    assert masked == [TOKEN]
    assert {authorization for _, authorization in api.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("approvals", "words"),
    [
        ([], "everything passes"),
        ([Approval(stage="other")], "everything passes"),
        ([Approval(stage=STAGE, status="rejected")], "bypassed it"),
        ([Approval(stage=STAGE, status="skipped")], "bypassed it"),
        ([Approval(stage=STAGE, pending=True)], "bypassed it"),
    ],
    ids=["none", "of another stage", "rejected", "skipped", "not by all"],
)
def test_what_nobody_approved_is_refused(approvals: list[Approval], words: str, api: AzureDevOpsApi) -> None:
    """An environment without an approval check lets everything through; the refusal says so, and what to set."""
    api.approvals = approvals
    with pytest.raises(RefusedError, match="was not approved") as refused:
        approval(run_of(api.environment(STAGE), unmasked).history(GATE), GATE, None)
    assert words in refused.value.means
    assert "requireApproval: false" in refused.value.do_next


@pytest.mark.parametrize(
    ("again", "passes"), [([], False), ([Approval(stage=STAGE, who="Bo")], True)], ids=["not", "approved"]
)
def test_a_stage_that_is_run_again_is_approved_again(again: list[Approval], passes: bool, api: AzureDevOpsApi) -> None:
    """What was approved in an earlier attempt of the stage is no approval of this one, even where the run still shows it."""
    api.approvals, api.earlier = [Approval(stage=STAGE), *again], 1
    history = run_of(api.environment(STAGE, SYSTEM_STAGEATTEMPT="2"), unmasked).history(GATE)
    if passes:
        assert approval(history, GATE, None).who == "Bo"
    else:
        with pytest.raises(RefusedError, match="approved in an earlier attempt"):
            approval(history, GATE, None)


def test_attempts_that_are_not_told_apart_are_refused(api: AzureDevOpsApi) -> None:
    """A second attempt whose first one Azure DevOps does not show: nobody can say when the approval was given."""
    api.approvals = [Approval(stage=STAGE)]
    with pytest.raises(RefusedError, match="did not report"):
        run_of(api.environment(STAGE, SYSTEM_STAGEATTEMPT="2"), unmasked).history(GATE)


def test_a_password_of_a_netrc_is_not_sent(
    api: AzureDevOpsApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An agent's .netrc for the same host is for its git: the job's own token asks."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login x password c4n4ry\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run_of(api.environment(STAGE), unmasked).history(GATE)
    assert {authorization for _, authorization in api.asked} == {f"Bearer {TOKEN}"}


def test_a_rejection_is_not_asked_for(api: AzureDevOpsApi) -> None:
    """A rollback that waited for a rejection would never go back here, and say nothing: it is told as a mistake."""
    environment = {
        **PLACE,
        **api.environment(STAGE),
        "HELM_CANARY_COMMAND": "rollback",
        "HELM_CANARY_REQUIRE_REJECTION": GATE,
    }
    check_refusal(run(env=environment), 2, "usage", "--require-rejection is for GitHub Actions")


def test_two_environments_of_one_stage(api: AzureDevOpsApi) -> None:
    """Both had to be approved before the stage began; both are reviews of its gate."""
    api.approvals = [Approval(stage=STAGE), Approval(stage=STAGE, who="Bo")]
    history = run_of(api.environment(STAGE), unmasked).history(GATE)
    assert history.reviews == (
        Review(gate=GATE, approved=True, who="Ana"),
        Review(gate=GATE, approved=True, who="Bo"),
    )


@pytest.mark.parametrize("faults", [[302], [401], [403], [404], [203], [500] * 9], ids=str)
def test_an_api_that_does_not_tell_is_a_refusal(
    faults: list[int], monkeypatch: pytest.MonkeyPatch, api: AzureDevOpsApi
) -> None:
    """Without an answer nobody has approved; a page to log in at is no answer; no text of it is shown."""
    api.approvals = [Approval(stage=STAGE)]
    monkeypatch.setattr(rest, "FIRST_PAUSE_S", 0.01)
    api.faults = list(faults)
    with pytest.raises(RefusedError, match="Azure DevOps did not report") as refused:
        run_of(api.environment(STAGE), unmasked).history(GATE)
    assert "c4n4ry" not in refused.value.text


def test_a_busy_api_is_asked_again(api: AzureDevOpsApi) -> None:
    """429 and 5xx pass; the approval counts."""
    api.approvals = [Approval(stage=STAGE)]
    api.faults = [429, 503]
    assert approval(run_of(api.environment(STAGE), unmasked).history(GATE), GATE, None).who == "Ana"


@pytest.mark.parametrize(
    "name", ["SYSTEM_COLLECTIONURI", "SYSTEM_TEAMPROJECT", "SYSTEM_STAGENAME", "SYSTEM_ACCESSTOKEN", "BUILD_BUILDID"]
)
def test_without_a_variable_of_the_agent_nothing_is_asked(name: str, api: AzureDevOpsApi) -> None:
    """A script step without the token, or a release pipeline, is told what is missing."""
    with pytest.raises(UsageError, match="variable of the agent") as wrong:
        run_of({**api.environment(STAGE), name: ""}, unmasked)
    assert name in wrong.value.means


def test_who_did_not_start_it_is_refused_before_anything_is_read(api: AzureDevOpsApi) -> None:
    """`--started-by` lets nobody else through, without a look at the cluster."""
    environment = {
        **PLACE,
        **api.environment(STAGE),
        "HELM_CANARY_TAG": "84",
        "HELM_CANARY_STARTED_BY": "bo@example.com",
        "BUILD_REQUESTEDFOREMAIL": "ana@example.com",
    }
    check_refusal(run(env=environment), 3, "refused", "ana@example.com is not allowed to start this stage")
