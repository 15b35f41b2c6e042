"""Azure DevOps on loopback: the timeline of a run and its approvals, in the form in which Azure DevOps publishes them.

python -m tests.azure_pipelines.api STATE    serves what the file STATE says, anew at each request; its first line is its address

STATE: {"approvals": [{"stage": ..., "status": ..., "who": ..., "comment": ...}]}
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import served

BUILD, PROJECT, TOKEN = "84", "shop project", "c4n4ry-system-access-token"


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One approval check of a stage's environments. `pending`: somebody else's answer is still awaited."""

    stage: str
    status: str = "approved"
    who: str = "Ana"
    comment: str = ""
    pending: bool = False


@dataclass
class AzureDevOpsApi:
    """`faults`: statuses that come first, one a request. `earlier`: how many of the approvals are of an earlier attempt."""

    earlier: int = 0

    approvals: list[Approval] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def environment(self, stage: str, **more: str) -> dict[str, str]:
        """The agent's variables for a step of this stage."""
        return {
            "TF_BUILD": "True",
            "SYSTEM_COLLECTIONURI": f"{self.url}/acme/",
            "SYSTEM_TEAMPROJECT": PROJECT,
            "SYSTEM_STAGENAME": stage,
            "SYSTEM_STAGEATTEMPT": "1",
            "SYSTEM_ACCESSTOKEN": TOKEN,
            "BUILD_BUILDID": BUILD,
            "BUILD_REQUESTEDFOR": "Ana",
            **more,
        }

    def read(self) -> list[Approval]:
        return self.approvals

    def answer(self, target: str) -> tuple[int, Any]:
        if self.faults:
            return self.faults.pop(0), {"message": "c4n4ry"}
        parts = urlsplit(target)
        if parse_qs(parts.query).get("api-version") != ["7.1"]:
            return 400, {}
        place = "/acme/shop%20project/_apis"
        if parts.path == f"{place}/build/builds/{BUILD}/timeline":
            return 200, {"records": list(self._records(self.read()))}
        if self.earlier and parts.path == f"{place}/build/builds/{BUILD}/timeline/first":
            return 200, {"records": list(self._records(self.read()[: self.earlier]))}
        found = {f"{place}/pipelines/approvals/approval-{i}": one for i, one in enumerate(self.read())}.get(parts.path)
        return (200, _approval(found, parse_qs(parts.query))) if found else (404, {"message": "none"})

    def _records(self, approvals: list[Approval]) -> Iterator[dict[str, Any]]:
        past = [{"attempt": 1, "timelineId": "first", "recordId": "x"}] if self.earlier else []
        yield {"id": "phase-1", "type": "Phase", "identifier": "other", "parentId": "stage-other"}
        for stage in sorted({"other", *(one.stage for one in approvals)}):
            of_stage = {"id": f"stage-{stage}", "type": "Stage", "identifier": stage, "parentId": None}
            yield {**of_stage, "attempt": len(past) + 1, "previousAttempts": past}
            yield {"id": f"checkpoint-{stage}", "type": "Checkpoint", "identifier": None, "parentId": f"stage-{stage}"}
        for number, one in enumerate(approvals):
            parent = f"checkpoint-{one.stage}"
            yield {"id": f"approval-{number}", "type": "Checkpoint.Approval", "identifier": None, "parentId": parent}


def _approval(found: Approval, query: dict[str, list[str]]) -> dict[str, Any]:
    person = {"displayName": found.who, "uniqueName": f"{found.who.lower()}@example.com"}
    steps = [
        {
            "assignedApprover": {"displayName": "Team"},
            "actualApprover": person,
            "status": found.status,
            "comment": found.comment,
        }
    ]
    steps += [{"assignedApprover": {"displayName": "Bo"}, "status": "pending"}] * found.pending
    status = "pending" if found.pending else found.status
    return {"status": status, "steps": steps if query.get("$expand") == ["steps"] else []}


class FiledApi(AzureDevOpsApi):
    """Its approvals are those of a file, for a process of its own."""

    def __init__(self, state: Path) -> None:
        super().__init__()
        self._state = state

    def read(self) -> list[Approval]:
        return [Approval(**entry) for entry in json.loads(self._state.read_text(encoding="utf-8"))["approvals"]]


def write_state(path: Path, approvals: list[Approval]) -> None:
    path.write_text(json.dumps({"approvals": [asdict(approval) for approval in approvals]}), encoding="utf-8")


@contextlib.contextmanager
def azure_devops(given: AzureDevOpsApi | None = None) -> Iterator[AzureDevOpsApi]:
    api = given or AzureDevOpsApi()
    with served(api):
        yield api


if __name__ == "__main__":
    with azure_devops(FiledApi(Path(sys.argv[1]))) as running:
        print(running.url, flush=True)
        sys.stdin.read()
