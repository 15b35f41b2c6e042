"""The reviews of a run of GitHub Actions.

https://docs.github.com/rest/actions/workflow-runs#get-the-review-history-for-a-workflow-run
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from helm_canary.ci.rest import Api
from helm_canary.errors import UsageError
from helm_canary.gates import History, Review, of_gate, one_line

RIGHTS = "Give the job `permissions: actions: read`, and run it again."
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


@dataclass(frozen=True, kw_only=True)
class GitHubRun:
    """`api` is the repository's, with a token of a job that has the permission `actions: read`."""

    api: Api
    number: str
    attempt: int
    started_by: str
    sees_rejections: bool = True

    def history(self, gate: str) -> History:
        """Every review of this run. Raises RefusedError where GitHub does not tell."""
        reviews = tuple(self._parsed(self.api.get(f"actions/runs/{self.number}/approvals")))
        approved = any(review.approved for review in of_gate(reviews, gate))
        asked = self.attempt > 1 or not approved
        return History(
            reviews=reviews, attempt=self.attempt, has_reviewers=self._has_reviewers(gate) if asked else None
        )

    def _has_reviewers(self, gate: str) -> bool:
        environment = self.api.get(f"environments/{quote(gate, safe='')}", missing={})
        rules = environment.get("protection_rules") or [] if isinstance(environment, dict) else []
        return any(isinstance(rule, dict) and rule.get("type") == "required_reviewers" for rule in rules)

    def _parsed(self, answer: Any) -> list[Review]:
        """GitHub's list of reviews, each of one or more environments. Raises RefusedError for anything else."""
        found = []
        try:
            for entry in answer:
                for environment in entry["environments"]:
                    review = Review(
                        gate=str(environment["name"]),
                        approved=entry["state"] == "approved",
                        who=one_line((entry.get("user") or {}).get("login")),
                        comment=one_line(entry.get("comment")),
                    )
                    if entry["state"] in ("approved", "rejected"):
                        found.append(review)
        except (TypeError, KeyError, AttributeError) as error:
            raise self.api.silent("Its answer has another form.") from error
        return found


def github_run(environment: Mapping[str, str], mask: Callable[[str], None]) -> GitHubRun:
    """The run that the runner's variables tell of. Raises UsageError where one is missing."""
    repository, number = environment.get("GITHUB_REPOSITORY", ""), environment.get("GITHUB_RUN_ID", "")
    attempt, token = environment.get("GITHUB_RUN_ATTEMPT", ""), environment.get("GITHUB_TOKEN", "")
    fits = (
        re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
        and re.fullmatch(r"[0-9]+", number)
        and re.fullmatch(r"[1-9][0-9]*", attempt)
    )
    if not fits:
        raise UsageError(
            "GITHUB_REPOSITORY, GITHUB_RUN_ID or GITHUB_RUN_ATTEMPT is missing or wrong.",
            "The runner sets all three.",
            "Run the command in a step of a workflow, and leave these variables as the runner sets them.",
        )
    if token:
        mask(token)
    server = environment.get("GITHUB_API_URL", "").rstrip("/") or "https://api.github.com"
    api = Api(name="GitHub", url=f"{server}/repos/{repository}", rights=RIGHTS, token=token, headers=HEADERS)
    return GitHubRun(
        api=api, number=number, attempt=int(attempt), started_by=environment.get("GITHUB_TRIGGERING_ACTOR", "")
    )
