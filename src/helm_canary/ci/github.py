"""GitHub Actions: workflow commands in the log, and the files that the runner gives a step.

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Of a step's summary the runner takes 1 MiB, and of a larger one nothing.
SUMMARY_LIMIT = 900 * 1024
CUT = "\n\n(The rest is in the log: a summary has a limit of size.)\n"


@dataclass(frozen=True, kw_only=True)
class GitHub:
    """`output_path` and `summary_path` are GITHUB_OUTPUT and GITHUB_STEP_SUMMARY; empty: there is no such file."""

    output_path: str
    summary_path: str

    def group(self, title: str) -> str:
        return "::group::" + as_data(title)

    def end_group(self) -> str:
        return "::endgroup::"

    def annotation(self, level: str, title: str, text: str) -> str:
        return f"::{level} title={as_property(title)}::{as_data(text)}"

    def mask(self, secret: str) -> str:
        return "::add-mask::" + as_data(secret)

    def outputs(self, values: Mapping[str, str]) -> list[str]:
        """A delimiter of chance for every value: one that holds a line break can otherwise set any other output."""
        if self.output_path and values:
            _append(self.output_path, "".join(entry(name, value) for name, value in values.items()))
        return []

    def summary(self, markdown: str) -> list[str]:
        if self.summary_path and markdown:
            _append(self.summary_path, limited(markdown))
        return []

    def label(self, text: str) -> str:
        """Runs have none."""
        del text
        return ""


def as_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def as_property(text: str) -> str:
    return as_data(text).replace(":", "%3A").replace(",", "%2C")


def entry(name: str, value: str) -> str:
    """One output as the runner reads it: everything up to a line that equals the delimiter."""
    delimiter = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{delimiter}\n{value}\n{delimiter}\n"


def limited(markdown: str) -> str:
    """Whole lines up to the limit in bytes."""
    content = markdown.encode(errors="replace")
    if len(content) <= SUMMARY_LIMIT:
        return markdown
    kept = content[:SUMMARY_LIMIT].decode(errors="ignore")
    return kept.rpartition("\n")[0] + CUT


def _append(path: str, text: str) -> None:
    """Beside what other commands of the step wrote, whose last line may lack its end."""
    with Path(path).open("a+b") as file:
        size = file.seek(0, 2)
        if size:
            file.seek(size - 1)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode(errors="replace"))
