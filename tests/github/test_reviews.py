"""The reviews of a run, asked of GitHub's API; and a program that is started by a workflow, without a command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helm_canary.__main__ import read_arguments
from helm_canary.ci import rest
from helm_canary.ci.reviews import run_of
from helm_canary.errors import RefusedError, UsageError
from helm_canary.gates import Review, approval, rejection
from helm_canary.options import Command
from tests.cli.program import check_refusal, run
from tests.github.api import RUN, TOKEN, GitHubApi, github_api

GATE = "canary-3"
PLACE = {
    "HELM_CANARY_COMMAND": "stage",
    "HELM_CANARY_STAGE": "3",
    "HELM_CANARY_RELEASE": "shop",
    "HELM_CANARY_NAMESPACE": "shop",
    "HELM_CANARY_CHART": "charts/productpage",
    "HELM_CANARY_OUTPUT": "json",
}


@pytest.fixture
def api() -> Iterator[GitHubApi]:
    with github_api() as found:
        yield found


def unmasked(secret: str) -> None:
    """No log to mask anything in."""


def test_an_approval_and_a_rejection_come_with_who_and_why(api: GitHubApi) -> None:
    """Who reviewed, and the comment in one line that the record can carry, whatever is in it."""
    api.review(GATE, "approved", "ana", "looks good:\n\x1b[31m::error::x\u2028 " + "x" * 600)
    api.review("canary-4", "rejected", "bob")
    api.review("canary-5", "pending", "eve")
    masked: list[str] = []
    history = run_of(api.environment(), masked.append).history(GATE)

    found = approval(history, GATE, 1)
    assert (found.who, len(found.comment)) == ("ana", 500)
    assert found.comment.startswith("looks good: [31m::error::x xxx")
    assert rejection(history, "canary-4") == Review(gate="canary-4", approved=False, who="bob")
    assert [review.gate for review in history.reviews] == [GATE, "canary-4"]
    assert masked == [TOKEN]
    assert api.asked[0] == (f"/repos/acme/shop/actions/runs/{RUN}/approvals", f"Bearer {TOKEN}")


def test_a_gate_without_reviewers_is_told_as_such(api: GitHubApi) -> None:
    """Where nobody approved this gate, the refusal says whether anybody could have, whoever approved another one."""
    api.review("canary-2", "approved")
    for reviewers, words in ((set(), "everything passes"), ({GATE}, "bypassed it")):
        api.reviewers = reviewers
        history = run_of(api.environment(), unmasked).history(GATE)
        with pytest.raises(RefusedError) as refused:
            approval(history, GATE, 1)
        assert words in refused.value.means


def test_a_busy_api_is_asked_again(api: GitHubApi) -> None:
    """429 and 5xx pass; the approval counts."""
    api.review(GATE, "approved")
    api.faults = [429, 502, 503]
    assert approval(run_of(api.environment(), unmasked).history(GATE), GATE, 1).who == "ana"


@pytest.mark.parametrize("faults", [[403], [404], [301], [500] * 9], ids=str)
def test_an_api_that_does_not_tell_is_a_refusal(
    faults: list[int], monkeypatch: pytest.MonkeyPatch, api: GitHubApi
) -> None:
    """Without an answer nobody has approved; the refusal names the permission, and no text of the answer."""
    api.review(GATE, "approved")
    monkeypatch.setattr(rest, "FIRST_PAUSE_S", 0.01)
    api.faults = list(faults)
    with pytest.raises(RefusedError, match="did not report") as refused:
        run_of(api.environment(), unmasked).history(GATE)
    assert "actions: read" in refused.value.do_next
    assert "c4n4ry" not in refused.value.text


@pytest.mark.parametrize("body", [{}, [{}], [{"environments": 3, "state": "approved"}], "text", [None]], ids=str)
def test_another_form_of_answer_is_a_refusal(body: object, api: GitHubApi) -> None:
    """An answer of another form approves nothing."""
    api.answer = lambda path: (200, body)  # type: ignore[method-assign]
    if body == {}:
        assert run_of(api.environment(), unmasked).history(GATE).reviews == ()
        return
    with pytest.raises(RefusedError, match="did not report"):
        run_of(api.environment(), unmasked).history(GATE)


@pytest.mark.parametrize("name", ["GITHUB_ACTIONS", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"])
def test_gates_are_for_a_run_of_github(name: str, api: GitHubApi) -> None:
    """On a laptop, or with the runner's variables changed, the options of gates are a mistake."""
    with pytest.raises(UsageError):
        run_of({**api.environment(), name: ""}, unmasked)


def test_who_did_not_start_it_is_refused_before_anything_is_read(api: GitHubApi) -> None:
    """`--started-by` lets nobody else through, without a look at the cluster."""
    environment = api.environment() | PLACE | {"HELM_CANARY_STARTED_BY": "bob\neve", "KUBECONFIG": "/nonexistent"}
    check_refusal(run(env=environment), 3, "refused", "ana is not allowed to start this stage", "bob, eve")


@pytest.mark.parametrize(
    ("variables", "code", "result", "words"),
    [
        ({"HELM_CANARY_COMMAND": "stgae"}, 2, "usage", "There is no command 'stgae'"),
        ({"HELM_CANARY_COMMAND": "--version"}, 2, "usage", "There is no command '--version'"),
        ({"HELM_CANARY_STAGE": "--help"}, 2, "usage", "There is no stage '--help'"),
        ({"HELM_CANARY_STAGE": ""}, 2, "usage", "There is no stage ''"),
        ({"HELM_CANARY_TAG": ""}, 2, "usage", "No image tag was given"),
        ({"HELM_CANARY_STAGES": "8"}, 2, "usage", "The pipeline has 8 stages, but these weights make 7"),
        ({"HELM_CANARY_STAGES": "7", "HELM_CANARY_WEIGHTS": "50,100"}, 2, "usage", "these weights make 6"),
    ],
)  # fmt: skip
def test_a_workflow_gives_everything_as_variables(
    variables: dict[str, str], code: int, result: str, words: str, api: GitHubApi
) -> None:
    """Without a command line no text of a variable is ever an option; an empty tag is a mistake, not the run's id."""
    check_refusal(run(env=api.environment() | PLACE | variables), code, result, words)


def test_no_approval_is_wanted_where_the_workflow_says_so() -> None:
    """`require-approval: false` is the same as none."""
    environment = PLACE | {"GITHUB_RUN_ID": "84", "HELM_CANARY_REQUIRE_APPROVAL": "false", "HELM_CANARY_STAGES": "7"}
    options = read_arguments([], environment)
    assert (options.command, options.stage, options.tag, options.require_approval) == (Command.STAGE, 3, "84", "")
