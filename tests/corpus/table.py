"""The charts of charts.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .chart import Piece, load, named, write
from .created import create


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Who refuses a chart first, and words of what is said; `there`: of what the cluster says before that."""

    by: str
    says: tuple[str, ...]
    there: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One chart of the table; its fields are told at the top of charts.yaml."""

    name: str
    after: str
    pieces: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)
    created: tuple[str, ...] | None = None
    nested: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    install: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    before: str = ""
    refused: Refused | None = None
    because: str = ""

    def write(self, folder: Path) -> Path:
        """The chart itself; helm must be on PATH."""
        if self.created is not None:
            return create(folder, self.created)
        pieces = [*named(self.pieces), Piece(**self.own)]
        if not self.nested:
            return write(folder / self.name, self.name, pieces)
        umbrella = {"apiVersion": "v2", "name": self.name, "version": "1.0.0"}
        umbrella["dependencies"] = [{"name": self.nested, "version": "1.4.2"}]  # type: ignore[assignment]
        write(folder / self.name / "charts" / self.nested, self.nested, pieces)
        (folder / self.name / "Chart.yaml").write_text(json.dumps(umbrella), encoding="utf-8")
        return folder / self.name


def entries() -> dict[str, Entry]:
    """Name -> chart."""
    return {name: _entry(name, fields) for name, fields in load("charts").items()}


def _entry(name: str, told: Mapping[str, Any]) -> Entry:
    entry: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    if "refused" in told:
        said = told["refused"]
        entry["refused"] = Refused(by=said["by"], says=tuple(said["says"]), there=tuple(said.get("there", ())))
    return Entry(name=name, **entry)
