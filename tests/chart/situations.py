"""The situations that the chart is rendered in: the cases, and the value files of charts/productpage/ci."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import yaml

from tests.chart.render import CHART, JSON, JSONObject, Situation

CASES = Path(__file__).parent / "cases"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A situation, and what is promised of it: either an error, or things about the rendered objects."""

    promise: str
    situation: Situation
    error: str | None = None
    objects: list[str] | None = None
    expect: dict[str, dict[str, JSON]] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)


def cases() -> list[Case]:
    """Every case of every file."""
    return [
        _case(cast("JSONObject", raw))
        for path in sorted(CASES.glob("*.yaml"))
        for raw in yaml.safe_load(path.read_text())
    ]


def _case(raw: JSONObject) -> Case:
    promised = {"promise", "error", "objects", "expect", "absent"}
    given = {key: value for key, value in raw.items() if key not in promised}
    return Case(
        situation=Situation(**given),  # type: ignore[arg-type]
        **{key: value for key, value in raw.items() if key in promised},  # type: ignore[arg-type]
    )


def rendered_situations() -> dict[str, Situation]:
    """Every situation that renders, by its name."""
    found = {case.promise: case.situation for case in cases() if case.error is None}
    return found | {path.stem: Situation(value_files=[path]) for path in CI_VALUES}
