"""The table of all messages: what the advice of each has a person do, and where it is taken."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent / "advice.yaml"
ROOT = Path(__file__).parents[2]
# How an advice is shown to arrive. `none` gives the reason why no test can take it.
WAYS = {"plans", "cases", "tests", "cluster", "azure", "none"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One message of the program.

    where, begins  the site: module and function, and the message with `{}` for each value
    commands       what stands in backticks in the advice
    writes         whether what is advised may write to the cluster
    shown          way -> what takes the advice that way
    """

    where: str
    begins: str
    commands: tuple[str, ...] = ()
    writes: bool = False
    shown: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.where}: {self.begins}"

    @property
    def pattern(self) -> re.Pattern[str]:
        """What the message looks like."""
        return re.compile(".*".join(map(re.escape, self.begins.split("{}"))), re.DOTALL)

    @property
    def in_cluster(self) -> bool:
        """Whether something takes it on the local cluster."""
        return bool(self.shown.get("cluster")) or any("/e2e/" in test for test in self.shown.get("tests", []))


def rows() -> list[Row]:
    """The rows of the file, which is grouped by module and function."""
    found = []
    for where, messages in yaml.safe_load(FILE.read_text(encoding="utf-8")).items():
        for message in messages:
            commands = tuple(message.pop("commands", ()))
            begins, writes = message.pop("begins"), message.pop("writes", False)
            found.append(Row(where=where, begins=begins, commands=commands, writes=writes, shown=message))
    return found
