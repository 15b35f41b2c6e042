"""The reviews of the run that this is, asked of the CI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from helm_canary.errors import UsageError
from helm_canary.gates import History


class Run(Protocol):
    """`started_by`: the account that started this attempt, or on Azure Pipelines the run; empty where the CI does not say."""

    @property
    def sees_rejections(self) -> bool: ...

    @property
    def started_by(self) -> str: ...

    def history(self, gate: str) -> History: ...


def run_of(environment: Mapping[str, str], mask: Callable[[str], None]) -> Run:
    """The run that the environment tells of. Raises UsageError where this is no CI that has gates."""
    if environment.get("GITHUB_ACTIONS") == "true":
        from helm_canary.ci.github_reviews import github_run

        return github_run(environment, mask)
    if environment.get("TF_BUILD", "").lower() == "true":
        from helm_canary.ci.azure_reviews import azure_run

        return azure_run(environment, mask)
    raise UsageError(
        "Approvals were asked for, but this is not a run of GitHub Actions or Azure Pipelines.",
        "--require-approval, --require-rejection and --started-by are about the CI's run.",
        "Leave these options out.",
    )
