"""Azure Pipelines: logging commands, which the agent finds anywhere in a line of either stream.

https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AzurePipelines:
    """`folder` is AGENT_TEMPDIRECTORY, which the agent empties after the job; empty: nothing is uploaded.

    `of_build`: this is a run of a pipeline, not a classic release, whose agent knows no tags.
    """

    folder: str
    of_build: bool = False

    def group(self, title: str) -> str:
        return "##[group]" + " ".join(title.split())

    def end_group(self) -> str:
        return "##[endgroup]"

    def annotation(self, level: str, title: str, text: str) -> str:
        return f"##vso[task.logissue type={level}]" + as_data(f"{title}: {text}")

    def mask(self, secret: str) -> str:
        return "##vso[task.setsecret]" + as_data(secret)

    def outputs(self, values: Mapping[str, str]) -> list[str]:
        """Output variables of the step, in the camel case of Azure's own tasks."""
        return [
            f"##vso[task.setvariable variable={as_property(camel(name))};isOutput=true]{as_data(value)}"
            for name, value in values.items()
        ]

    def summary(self, markdown: str) -> list[str]:
        """The agent reads the file after the step, so it is not ours to remove."""
        if not self.folder or not markdown:
            return []
        handle, path = tempfile.mkstemp(prefix="helm-canary-", suffix=".md", dir=self.folder)
        with os.fdopen(handle, "wb") as file:
            file.write(markdown.encode(errors="replace"))
        return ["##vso[task.uploadsummary]" + as_data(path)]

    def label(self, text: str) -> str:
        """A tag of the run; the service takes no colons in it."""
        return "##vso[build.addbuildtag]" + as_data(text.replace(":", "-")) if self.of_build else ""


def camel(name: str) -> str:
    first, *rest = name.split("-")
    return first + "".join(word.capitalize() for word in rest)


def as_data(text: str) -> str:
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def as_property(text: str) -> str:
    return as_data(text).replace("]", "%5D").replace(";", "%3B")
