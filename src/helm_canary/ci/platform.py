"""Which CI runs this, and what such a CI takes from a step: groups and annotations in the log, outputs, a summary, masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Platform(Protocol):
    """What is returned is a line for the log, as it stands; empty where the platform has no such thing.

    `outputs` and `summary` may write files, and raise OSError where they cannot. `label` is one that runs are found by.
    """

    def group(self, title: str) -> str: ...
    def end_group(self) -> str: ...
    def annotation(self, level: str, title: str, text: str) -> str: ...
    def mask(self, secret: str) -> str: ...
    def outputs(self, values: Mapping[str, str]) -> list[str]: ...
    def summary(self, markdown: str) -> list[str]: ...
    def label(self, text: str) -> str: ...


class Laptop:
    """No CI at all."""

    def group(self, title: str) -> str:
        del title
        return ""

    def end_group(self) -> str:
        return ""

    def annotation(self, level: str, title: str, text: str) -> str:
        del level, title, text
        return ""

    def mask(self, secret: str) -> str:
        del secret
        return ""

    def outputs(self, values: Mapping[str, str]) -> list[str]:
        del values
        return []

    def summary(self, markdown: str) -> list[str]:
        del markdown
        return []

    def label(self, text: str) -> str:
        del text
        return ""


def platform_of(environment: Mapping[str, str]) -> Platform:
    """By the variable that each sets for every step."""
    if environment.get("GITHUB_ACTIONS") == "true":
        from helm_canary.ci.github import GitHub

        return GitHub(
            output_path=environment.get("GITHUB_OUTPUT", ""), summary_path=environment.get("GITHUB_STEP_SUMMARY", "")
        )
    if environment.get("TF_BUILD", "").lower() == "true":
        from helm_canary.ci.azure_pipelines import AzurePipelines

        of_build = environment.get("SYSTEM_HOSTTYPE", "").lower() == "build"
        return AzurePipelines(folder=environment.get("AGENT_TEMPDIRECTORY", ""), of_build=of_build)
    return Laptop()
