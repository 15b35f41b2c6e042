"""The approvals of a stage of Azure Pipelines: the run's timeline names them, each tells who answered.

https://learn.microsoft.com/rest/api/azure/devops/build/timeline/get
https://learn.microsoft.com/rest/api/azure/devops/approvalsandchecks/approvals/get
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from helm_canary.ci.rest import Api
from helm_canary.errors import UsageError
from helm_canary.gates import History, Review, one_line

RIGHTS = (
    "Let the job's access token view builds of this project (Project settings, Pipelines), and run the stage again."
)
# Without it a refusal is a redirection to a page to log in at.
HEADERS = {"Accept": "application/json", "X-TFS-FedAuthRedirect": "Suppress"}
VERSION = "api-version=7.1"


@dataclass(frozen=True, kw_only=True)
class AzureRun:
    """A stage's attempt in a run. `api` is the project's, with the job's own access token."""

    api: Api
    number: str
    stage: str
    attempt: int
    started_by: str
    # A stage that was rejected runs nothing that could ask.
    sees_rejections: bool = False

    def history(self, gate: str) -> History:
        """The reviews of this attempt of the stage. Raises RefusedError where Azure DevOps does not tell.

        A stage has one checkpoint, of all the environments that its jobs name: whatever was approved there is its gate's.
        """
        try:
            records = self._records()
            earlier = self._earlier(records)
            if self.attempt > 1 and not earlier:
                raise self.api.silent("It does not say what was approved in this stage's earlier attempts.")
            known = {one for timeline in earlier for one in self._approvals(self._records(timeline))}
            shown = self._approvals(records)
            approvals = [one for one in shown if one not in known]
            answers = [
                self.api.get(f"_apis/pipelines/approvals/{one}?$expand=steps&{VERSION}") for one in approvals or shown
            ]
            reviews = [review for answer in answers for review in _reviews(answer, gate)]
        except (TypeError, KeyError, AttributeError) as error:
            raise self.api.silent("Its answer has another form.") from error
        # Only what an earlier attempt had: the gate's rule for that refuses it in its own words.
        attempt = 1 if approvals or not shown else max(self.attempt, 2)
        return History(reviews=tuple(reviews), attempt=attempt, has_reviewers=bool(shown))

    def _records(self, timeline: str = "") -> list[Mapping[str, Any]]:
        """Those of the run as it is now, or of an earlier attempt's timeline."""
        path = f"_apis/build/builds/{self.number}/timeline{timeline and '/' + quote(timeline, safe='')}"
        return list(self.api.get(f"{path}?{VERSION}")["records"])

    def _stages(self, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [one for one in records if one["type"] == "Stage" and one.get("identifier") == self.stage]

    def _earlier(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Timelines of this stage's earlier attempts: what was approved there was not approved again."""
        return [str(past["timelineId"]) for one in self._stages(records) for past in one.get("previousAttempts") or ()]

    def _approvals(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Ids of the approvals that this stage waited for."""
        stages = [one["id"] for one in self._stages(records)]
        checkpoints = [one["id"] for one in records if one["type"] == "Checkpoint" and one.get("parentId") in stages]
        found = (one for one in records if one["type"] == "Checkpoint.Approval" and one.get("parentId") in checkpoints)
        return [quote(str(one["id"]), safe="") for one in found]


def _reviews(answer: Mapping[str, Any], gate: str) -> Iterator[Review]:
    """An approval of several people counts once all that it needs have answered."""
    if answer["status"] not in ("approved", "rejected"):
        return
    for step in answer["steps"]:
        if step["status"] == answer["status"]:
            person = step.get("actualApprover") or step.get("assignedApprover") or {}
            yield Review(
                gate=gate,
                approved=step["status"] == "approved",
                who=one_line(person.get("displayName")),
                comment=one_line(step.get("comment")),
            )


def azure_run(environment: Mapping[str, str], mask: Callable[[str], None]) -> AzureRun:
    """The run that the agent's variables tell of. Raises UsageError where one is missing."""
    collection, number = environment.get("SYSTEM_COLLECTIONURI", ""), environment.get("BUILD_BUILDID", "")
    project = environment.get("SYSTEM_TEAMPROJECTID") or environment.get("SYSTEM_TEAMPROJECT", "")
    stage, token = environment.get("SYSTEM_STAGENAME", ""), environment.get("SYSTEM_ACCESSTOKEN", "")
    if not (collection and project and stage and token and re.fullmatch(r"[0-9]+", number)):
        raise UsageError(
            "Azure DevOps cannot be asked who approved: a variable of the agent is missing.",
            "SYSTEM_COLLECTIONURI, SYSTEM_TEAMPROJECT, SYSTEM_STAGENAME, BUILD_BUILDID and SYSTEM_ACCESSTOKEN are needed; a "
            "release pipeline has no stages of this kind.",
            "The task has all of them in a YAML pipeline; in a script step add `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`. "
            "Elsewhere say `requireApproval: false`.",
        )
    mask(token)
    url = f"{collection.rstrip('/')}/{quote(project, safe='')}"
    api = Api(name="Azure DevOps", url=url, rights=RIGHTS, token=token, headers=HEADERS)
    attempt = environment.get("SYSTEM_STAGEATTEMPT", "")
    return AzureRun(
        api=api,
        number=number,
        stage=stage,
        attempt=int(attempt) if re.fullmatch(r"[0-9]+", attempt) else 1,
        # Whoever the run is for; names that are shown are not unique.
        started_by=environment.get("BUILD_REQUESTEDFOREMAIL", ""),
    )
