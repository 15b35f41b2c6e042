"""The reviews of the run that this is, asked of the CI.

https://docs.github.com/rest/actions/workflow-runs#get-the-review-history-for-a-workflow-run
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helm_canary.errors import RefusedError, UsageError
from helm_canary.gates import History, Review, of_gate
from helm_canary.options import UNFIT

if TYPE_CHECKING:
    import requests

ANSWER_TIMEOUT_S = 20.0
TRIES = 4
BUSY = (429, 500, 502, 503, 504)
COMMENT_LIMIT = 500


@dataclass(frozen=True, kw_only=True)
class GitHubRun:
    """A run of GitHub Actions. `token` needs the permission `actions: read`."""

    api: str
    repository: str
    number: str
    attempt: int
    started_by: str
    token: str = field(repr=False)

    def history(self, gate: str) -> History:
        """Every review of this run. Raises RefusedError where GitHub does not tell."""
        reviews = tuple(parse_reviews(self._get(f"actions/runs/{self.number}/approvals")))
        approved = any(review.approved for review in of_gate(reviews, gate))
        asked = self.attempt > 1 or not approved
        return History(
            reviews=reviews, attempt=self.attempt, has_reviewers=self._has_reviewers(gate) if asked else None
        )

    def _has_reviewers(self, gate: str) -> bool | None:
        from urllib.parse import quote

        environment = self._get(f"environments/{quote(gate, safe='')}", missing={})
        rules = environment.get("protection_rules") or [] if isinstance(environment, dict) else []
        return any(isinstance(rule, dict) and rule.get("type") == "required_reviewers" for rule in rules)

    def _get(self, path: str, missing: Any = None) -> Any:
        import requests

        url = f"{self.api}/repos/{self.repository}/{path}"
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            with patient_session() as session:
                answer = session.get(url, headers=headers, timeout=ANSWER_TIMEOUT_S, allow_redirects=False)
            if answer.status_code == 404 and missing is not None:
                return missing
            if answer.status_code != 200:
                raise _silent(f"It answered {answer.status_code} for {path}.")
            return answer.json()
        except (requests.RequestException, ValueError) as error:
            raise _silent(f"{type(error).__name__} for {path}.") from error


def patient_session() -> requests.Session:
    """A session that asks again where a server is busy, for as long as the server asks for."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    retry = Retry(total=TRIES, backoff_factor=0.5, status_forcelist=BUSY, raise_on_status=False)
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def parse_reviews(answer: Any) -> list[Review]:
    """GitHub's list of reviews, each of one or more environments. Raises RefusedError for anything else."""
    found = []
    try:
        for entry in answer:
            for environment in entry["environments"]:
                review = Review(
                    gate=str(environment["name"]),
                    approved=entry["state"] == "approved",
                    who=_line((entry.get("user") or {}).get("login")),
                    comment=_line(entry.get("comment")),
                )
                if entry["state"] in ("approved", "rejected"):
                    found.append(review)
    except (TypeError, KeyError, AttributeError) as error:
        raise _silent("Its answer has another form.") from error
    return found


def _line(text: object) -> str:
    """A person's words in one line that the record can carry."""
    line = " ".join(UNFIT.sub(" ", str(text or "")).split())
    return line if len(line) <= COMMENT_LIMIT else line[: COMMENT_LIMIT - 3] + "..."


def _silent(means: str) -> RefusedError:
    return RefusedError(
        "GitHub did not tell who reviewed this run.",
        means,
        "Give the job `permissions: actions: read`, and run it again.",
    )


def run_of(environment: Mapping[str, str], mask: Callable[[str], None]) -> GitHubRun:
    """The run that the environment tells of. Raises UsageError where this is no CI that has gates."""
    repository, number = environment.get("GITHUB_REPOSITORY", ""), environment.get("GITHUB_RUN_ID", "")
    if environment.get("GITHUB_ACTIONS") != "true" or not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(
            "Approvals were asked for, but this is no run of GitHub Actions.",
            "--require-approval, --require-rejection and --started-by are about the CI's run.",
            "Leave them out.",
        )
    attempt, token = environment.get("GITHUB_RUN_ATTEMPT", ""), environment.get("GITHUB_TOKEN", "")
    if not re.fullmatch(r"[0-9]+", number) or not re.fullmatch(r"[1-9][0-9]*", attempt):
        raise UsageError(
            "GITHUB_RUN_ID or GITHUB_RUN_ATTEMPT is missing.", "The runner sets both.", "Do not change them."
        )
    if token:
        mask(token)
    return GitHubRun(
        api=environment.get("GITHUB_API_URL", "").rstrip("/") or "https://api.github.com",
        repository=repository,
        number=number,
        attempt=int(attempt),
        started_by=environment.get("GITHUB_TRIGGERING_ACTOR", ""),
        token=token,
    )
