"""Runs a command line that ends with a message, and the same one as its advice would have it.

A case of the table has `wrong` (a command line), `env`, `files` and `tools`, and the same four with `right-` before them for what
the advice changes; what it leaves alone stays. `SHORT` has what stands for longer texts; `{folder}` is where the files are.
`chart` changes files of the small chart of tests/cli/charts.py, which is `{small}` then. `tools`: helm and kubectl as scripts, or
`real`; without it they fail at once.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from helm_canary.__main__ import main
from helm_canary.options import TABLE
from tests.cli.charts import schema_without_release, write_chart
from tests.cli.program import CHART
from tests.cluster.binaries import ensure

SHORT = {
    "{stage}": "stage 2 --release page --namespace shop --chart {chart} --tag 84",
    "{plan}": "plan all --release page --tag 84 --from 83",
    "{aks}": "--cluster-name aks --resource-group rg --subscription 11111111-2222-3333-4444-555555555555 --auth azure-cli",
    "{chart}": str(CHART),
    "{kubeconfig}": json.dumps({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }),
    "{long}": "x" * 200_000,
    "{closed}": schema_without_release(),
    "{open}": schema_without_release().replace('"properties": {', '"properties": {"release": {"type": "object"}, '),
}  # fmt: skip
FAILING = "exit 1"
# What the shell that runs the tests may hold for the program.
HELD = ("HELM_", "GITHUB_", "BUILD_", "SYSTEM_", "AZURE_", "TF_BUILD", "KUBECONFIG", "IDENTITY_")
NAMED = re.compile(r"--[a-z][a-z-]+|\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b")
GIVEN = ("env", "files", "tools", "chart")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One command line, and all that it meets."""

    words: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] | str = field(default_factory=dict)
    chart: Mapping[str, str | None] = field(default_factory=dict)

    def named(self, name: str) -> object:
        """What the line has for an option or a variable."""
        words = shlex.split(self.words.replace("{stage}", SHORT["{stage}"]).replace("{aks}", SHORT["{aks}"]))
        if not name.startswith("--"):
            return self.env.get(name)
        return [(word, *words[at + 1 : at + 2]) for at, word in enumerate(words) if word.partition("=")[0] == name]


def lines(case: Mapping[str, Any]) -> tuple[Line, Line]:
    """The line that is wrong, and the right one."""
    case = dict(case)
    wrong = Line(words=case.pop("wrong"), **{name: case.pop(name) for name in GIVEN if name in case})
    over = {name: case.pop(f"right-{name}", {}) for name in ("env", "files")}
    right = Line(
        words=case.pop("right", wrong.words),
        env=_merged(wrong.env, over["env"]),
        files=_merged(wrong.files, over["files"]),
        tools=case.pop("right-tools", wrong.tools),
        chart={**wrong.chart, **case.pop("right-chart", {})},
    )
    assert not case, f"unknown: {sorted(case)}"
    return wrong, right


def _merged(base: Mapping[str, str], over: Mapping[str, str | None]) -> dict[str, str]:
    """Null takes a name away."""
    return {name: value for name, value in {**base, **over}.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a line came to. `error` is empty where it was carried out."""

    code: int
    error: Mapping[str, str]

    def is_of(self, pattern: re.Pattern[str]) -> bool:
        """Whether it is this message; what is known of a tool's failure is in the second part."""
        return any(pattern.match(self.error.get(part, "")) for part in ("happened", "means"))


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs lines in this process, in a folder of their own."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, line: Line, environment: Mapping[str, str]) -> Said:
        """`environment`: what of this machine's environment there is."""
        for name, text in line.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._filled(text), encoding="utf-8")
        if (self.folder / "small").exists():
            shutil.rmtree(self.folder / "small")
        write_chart(self.folder / "small", {name: text and self._filled(text) for name, text in line.chart.items()})
        kept = {name: value for name, value in environment.items() if not name.startswith(HELD)}
        given = {name: self._filled(str(value)) for name, value in line.env.items()}
        whole = {**kept, "PATH": self._path(line.tools), "HELM_CANARY_OUTPUT": "json", **given}
        self.monkeypatch.setattr("os.environ", whole)
        self.monkeypatch.setattr("helm_canary.__main__._listen", lambda processes: None)
        code = main(shlex.split(self._filled(line.words)))
        out = self.capsys.readouterr().out
        return Said(code=code, error=json.loads(out).get("error") or {})

    def _filled(self, text: str) -> str:
        for short, long in SHORT.items():
            text = text.replace(short, long)
        return text.replace("{folder}", str(self.folder)).replace("{small}", str(self.folder / "small"))

    def _path(self, tools: Mapping[str, str] | str) -> str:
        folder = self.folder / "bin"
        if folder.exists():
            for left in folder.iterdir():
                left.unlink()
        folder.mkdir(exist_ok=True)
        if tools == "real":
            for name, program in ensure("helm", "kubectl").items():
                (folder / name).symlink_to(program)
            return str(folder)
        assert isinstance(tools, Mapping)
        for name, script in {"helm": FAILING, "kubectl": FAILING, **tools}.items():
            if script:
                (folder / name).write_text(f"#!/bin/sh\n{self._filled(script)}\n", encoding="utf-8")
                (folder / name).chmod(0o644 if script.startswith("# not executable") else 0o755)
        return str(folder)


def check_taken(advice: str, wrong: Line, right: Line) -> None:
    """The right line differs in what the advice names: one of its options or variables, where it names any."""
    known = {f"--{option.name}" for option in TABLE}
    named = {name for name in NAMED.findall(advice) if not name.startswith("--") or name in known}
    changed = {name for name in named if wrong.named(name) != right.named(name)}
    assert wrong != right
    assert changed or not named, f"{advice!r} names {sorted(named)}, and none of them is changed"
