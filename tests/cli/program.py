"""Runs the program as a pipeline does, and says what it left on its two streams."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tests.cluster.packages import search_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster import Cluster

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "productpage"
LIMIT_S = 120.0
KINDS = "secrets,configmaps,deployments,services,virtualservices,destinationrules,gateways.networking.istio.io"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run of the program left."""

    code: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        return cast("dict[str, Any]", json.loads(self.stdout))

    def __str__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ran:
    """The program without a cluster. `env` is all that it gets, beside what Python needs."""
    needed = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    words = [sys.executable, "-m", "helm_canary", *arguments]
    done = subprocess.run(
        words, env=needed | dict(env or {}), capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
    )
    return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Service:
    """One release in a namespace of its own, and the program pointed at it."""

    cluster: Cluster
    namespace: str
    values: Path
    release: str = "productpage"
    chart: Path = CHART

    @property
    def host(self) -> str:
        return f"{self.namespace}.example.com"

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """The program inside the cluster's network, with this release and namespace."""
        place = ("--release", self.release, "--namespace", self.namespace, "--drain", "1s", "--timeout", "60s")
        return self.raw(arguments[0], *place, *arguments[1:], env=env)

    def raw(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """The program inside the cluster's network, with just these arguments."""
        words = self.cluster.command(sys.executable, "-m", "helm_canary", *arguments)
        words[0] = shutil.which(words[0], path=search_path()) or words[0]
        environment = self.cluster.environment() | {"PYTHONPATH": str(ROOT / "src")} | dict(env or {})
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
        )
        return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def json(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        return self.run(*arguments, "--output", "json", env=env)

    def stage(self, stage: str, tag: str, *more: str, env: Mapping[str, str] | None = None) -> Ran:
        """`stage` with the chart and the values of this service, answered as JSON."""
        chart = ("--chart", str(self.chart), "--values", str(self.values))
        return self.json("stage", stage, "--tag", tag, *chart, *more, env=env)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin, check=check)

    def image(self, track: str) -> str:
        name = self.release if track == "production" else f"{self.release}canary"
        return self.kubectl("get", "deployment", name, "-o", "jsonpath={.spec.template.spec.containers[0].image}")

    def versions(self) -> dict[str, str]:
        """Every object that a release is made of, and its resourceVersion: the same when nothing was written."""
        items = json.loads(self.kubectl("get", KINDS, "-o", "json"))["items"]
        return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}


PARTS = re.compile(
    r"^error: \S.*$\n(?:^.*$\n)*?^  what it means: \S.*$\n(?:^.*$\n)*?^  what to do:    \S.*$", re.MULTILINE
)


def check_refusal(ran: Ran, code: int, result: str, *needles: str) -> None:
    """The contract of every refusal with `--output json`: exit code, three parts, and one JSON object alone on stdout."""
    assert ran.code == code, ran
    assert PARTS.search(ran.stderr), f"not in three parts: {ran}"
    assert "Traceback" not in ran.stderr, ran
    assert ran.answer["result"] == result, ran
    assert ran.answer["changed"] is False, ran
    error = ran.answer["error"]
    assert error["exit-code"] == code, ran
    assert all(error[part] for part in ("happened", "means", "do-next")), ran
    for needle in needles:
        assert needle in ran.stderr, f"{needle!r} is not in\n{ran}"
