"""Whether people let a stage pass, or turned it down: the reviews of a CI's run -> a review or a refusal. Pure.

A gate is an environment of the CI that somebody must approve. Neither the gate job's success nor its failure says that anybody
did: an environment that is missing, misspelt or without reviewers lets everything through, and one that nobody answers fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helm_canary.errors import RefusedError
from helm_canary.options import UNFIT

COMMENT_LIMIT = 500


@dataclass(frozen=True, kw_only=True)
class Review:
    """One answer of a person at a gate."""

    gate: str
    approved: bool
    who: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class History:
    """The reviews of a run through all of its attempts; a CI gives them no time and no attempt.

    attempt     number of the attempt that runs now, from 1 on
    has_reviewers  whether the gate asks for a review today; None where that was not asked
    """

    reviews: tuple[Review, ...]
    attempt: int = 1
    has_reviewers: bool | None = None


def one_line(text: object) -> str:
    """A person's words in one line that the record can carry."""
    line = " ".join(UNFIT.sub(" ", str(text or "")).split())
    return line if len(line) <= COMMENT_LIMIT else line[: COMMENT_LIMIT - 3] + "..."


def of_gate(reviews: Sequence[Review], gate: str) -> list[Review]:
    """The reviews of one gate; names of environments know no case."""
    return [review for review in reviews if review.gate.casefold() == gate.casefold()]


def approval(history: History, gate: str, gate_attempt: int | None) -> Review:
    """The approval that this attempt may go on with. Raises RefusedError.

    `gate_attempt` is what the gate's own job said: re-running the failed jobs of a run does not run its gate again.
    """
    found = [review for review in of_gate(history.reviews, gate) if review.approved]
    if not found:
        raise _nobody(gate, history.has_reviewers)
    if history.attempt > 1 and gate_attempt != history.attempt:
        raise RefusedError(
            f"The gate {gate} was approved in an earlier attempt of this run, not in attempt {history.attempt}.",
            "Only the failed jobs were run again, possibly long after the approval.",
            "Run all jobs again, and approve at the gates; or start a new run.",
        )
    if history.attempt > 1 and history.has_reviewers is False:
        raise _nobody(gate, history.has_reviewers)
    return found[-1]


def rejection(history: History, gate: str) -> Review | None:
    """The rejection of this attempt; None where there is none for certain.

    An attempt has one review of a gate at most. Where there are fewer than attempts, the rejection may be an earlier one's.
    """
    reviews = of_gate(history.reviews, gate)
    found = [review for review in reviews if not review.approved]
    return found[-1] if found and len(reviews) >= history.attempt else None


def check_starter(started_by: str, allowed: Sequence[str]) -> None:
    """Raises RefusedError unless the account that started this attempt is one of these."""
    if started_by.casefold() not in {name.casefold() for name in allowed}:
        raise RefusedError(
            f"{started_by or 'An account that the CI does not name'} is not allowed to start this stage.",
            f"The workflow allows {', '.join(allowed)}.",
            "Ask one of them to run it, or add the account to --started-by in the workflow.",
        )


def _nobody(gate: str, has_reviewers: bool | None) -> RefusedError:
    means = "Its environment is missing, misspelt or without reviewers, or an administrator bypassed it."
    if has_reviewers is False:
        means = "Its environment is missing, misspelt or without reviewers: everything passes."
    return RefusedError(
        f"The gate {gate} was not approved in this run.",
        means,
        f"Give the environment {gate} required reviewers (on Azure Pipelines an approval check); or say "
        "`require-approval: false` (`requireApproval: false`) where no approval is wanted.",
    )
