"""What the program says of a chart without a cluster: `plan all --from`, in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helm_canary.__main__ import main

STAGES = 7


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Its exit code, its answer, and all that a person would read."""

    code: int
    answer: Mapping[str, Any]
    text: str

    @property
    def fits(self) -> bool:
        return self.code == 0

    @property
    def told(self) -> str:
        """A refusal's three parts and its details, as one text."""
        return json.dumps(self.answer.get("error"))


def judge(chart: Path, *more: str) -> Verdict:
    """Judge a chart as a release of 84 over 83 that starts steady; helm must be on PATH."""
    words = ["plan", "all", "--tag", "84", "--from", "83", "--release", "shop", "--namespace", "shop"]
    out, said = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = main([*words, "--chart", str(chart), "--output", "json", *more])
    return Verdict(
        code=code, answer=json.loads(out.getvalue()), text=f"exit {code}\n{out.getvalue()}\n{said.getvalue()}"
    )


def check_plans(verdict: Verdict) -> None:
    """A plan of each stage, none refused: `steady` changes nothing, and each of the others writes something."""
    assert verdict.fits, verdict.text
    plans: Sequence[Mapping[str, Any]] = verdict.answer["plans"]
    assert [one["stage"] for one in plans] == [*range(1, STAGES + 1)], verdict.text
    assert [one.get("result") for one in plans] == ["nothing", *["done"] * (STAGES - 1)], verdict.text
    assert [bool(one["commands"]) for one in plans] == [False, *[True] * (STAGES - 1)], verdict.text


def check_refused(verdict: Verdict) -> None:
    """A refusal that is one: three parts, exit 3, and no error of the program's own."""
    assert verdict.code == 3, verdict.text
    error = verdict.answer["error"]
    assert all(error[part] for part in ("happened", "means", "do-next")), verdict.text
    assert "Traceback" not in verdict.text, verdict.text
