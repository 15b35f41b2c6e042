"""GitHub's API on loopback: the reviews of a run and the rules of an environment, in the form in which GitHub publishes them.

python -m tests.github.api STATE    serves what the file STATE says, anew at each request; its first line of output is its address
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.loopback import served

RUN, REPOSITORY, TOKEN = "4711", "acme/shop", "ghs_c4n4ry5ecretc4n4ry"


@dataclass
class GitHubApi:
    """`faults`: statuses that come first, one a request. `reviewers`: the environments that require some."""

    reviews: list[dict[str, Any]] = field(default_factory=list)
    reviewers: set[str] = field(default_factory=set)
    faults: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def review(self, gate: str, state: str, who: str = "ana", comment: str = "") -> None:
        environments = [{"id": 1, "name": gate}]
        self.reviews.append({"environments": environments, "state": state, "user": {"login": who}, "comment": comment})

    def environment(self, attempt: int = 1, **more: str) -> dict[str, str]:
        """The runner's variables for a step of this run."""
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": RUN,
            "GITHUB_RUN_ATTEMPT": str(attempt),
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_TRIGGERING_ACTOR": "ana",
            **more,
        }

    def answer(self, path: str) -> tuple[int, Any]:
        if self.faults:
            return self.faults.pop(0), {"message": "c4n4ry"}
        if path == f"/repos/{REPOSITORY}/actions/runs/{RUN}/approvals":
            return 200, self.reviews
        prefix = f"/repos/{REPOSITORY}/environments/"
        if path.startswith(prefix) and unquote(path.removeprefix(prefix)) in self.reviewers:
            return 200, {"protection_rules": [{"type": "required_reviewers", "reviewers": []}]}
        return 404, {"message": "Not Found"}


@contextlib.contextmanager
def github_api(given: GitHubApi | None = None) -> Iterator[GitHubApi]:
    api = given or GitHubApi()
    with served(api):
        yield api


class FiledApi(GitHubApi):
    """Its reviews are those of a file, for a process of its own.

    `/gate/NAME` is what GitHub itself does at an environment, and `act` does not: 200 lets the gate's job pass.
    """

    def __init__(self, state: Path) -> None:
        super().__init__()
        self._state = state

    def answer(self, path: str) -> tuple[int, Any]:
        read = json.loads(self._state.read_text(encoding="utf-8"))
        self.reviews, self.reviewers = read["reviews"], set(read["reviewers"])
        if path.startswith("/gate/"):
            return (403 if path.removeprefix("/gate/") in read["closed"] else 200), {}
        # The file is about the run that goes on now, whichever it is.
        return super().answer(re.sub(r"/runs/[0-9]+/", f"/runs/{RUN}/", path))


if __name__ == "__main__":
    with github_api(FiledApi(Path(sys.argv[1]))) as running:
        print(running.url, flush=True)
        sys.stdin.read()
