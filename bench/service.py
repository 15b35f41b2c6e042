"""One service on the local cluster for a measurement: a namespace of its own, and commands on it that are timed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts/productpage"
REPOSITORY = "localhost/bench"
RELEASE = "productpage"
LIMIT_S = 300.0
STEP = re.compile(r"^\[(\d+)/\d+\] (\w[\w ]*?): (.*)$")
# The program's own high-water mark: the rusage that a parent gets counts helm and kubectl in.
MEMORY = """
import sys
from pathlib import Path
from helm_canary.__main__ import main
code = main()
Path(sys.argv[0]).write_text(Path("/proc/self/status").read_text())
sys.exit(code)
"""


class BenchError(Exception):
    """A command of the measurement failed, so its numbers would mean nothing."""


@dataclass(frozen=True)
class Said:
    """One line of a command's standard error, and when it came, in seconds from the start."""

    at_s: float
    text: str


@dataclass(frozen=True)
class Timed:
    """A command that ended: when it was started (milliseconds since 1970), how long it took, what it said and when."""

    began_ms: int
    seconds: float
    stdout: str
    lines: tuple[Said, ...]
    memory_mb: float = 0.0

    @property
    def upgrades(self) -> list[list[str]]:
        """The Helm commands that the tool echoed."""
        texts = (said.text.strip() for said in self.lines)
        return [shlex.split(text[2:]) for text in texts if text.startswith("$ helm ")]

    def steps(self) -> list[tuple[str, float]]:
        """(kind of step, seconds), with what comes before the first step as `plan`; an empty plan is all `plan`."""
        marks = [("plan", 0.0)]
        for said in self.lines:
            if match := STEP.match(said.text):
                marks.append((match[2], said.at_s))
        ends = [at for _, at in marks[1:]] + [self.seconds]
        return [(kind, end - began) for (kind, began), end in zip(marks, ends, strict=True)]

    def in_steps(self, *kinds: str) -> float:
        return sum(seconds for kind, seconds in self.steps() if kind in kinds)


@dataclass
class Service:
    """`path` is put before PATH: that is where the counting stand-ins of helm and kubectl lie, if there are any."""

    cluster: Cluster
    namespace: str
    path: str = ""
    extra: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return f"{self.namespace}.example.com"

    @property
    def values(self) -> Path:
        return Path(tempfile.gettempdir()) / f"helm-canary-{self.namespace}.yaml"

    def create(self) -> None:
        self.delete()
        self.values.write_text(
            f"productionDeployment: {{replicaCount: 2, image: {{repository: {REPOSITORY}}}}}\n"
            f"canaryDeployment: {{image: {{repository: {REPOSITORY}}}}}\n"
            f"gateway: {{mesh: false, hosts: [{self.host}]}}\n"
        )
        self.cluster.kubectl("create", "namespace", self.namespace)

    def delete(self) -> None:
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", timeout_s=180)
        self.values.unlink(missing_ok=True)

    def tool(self, *words: str, codes: Sequence[int] = (0,)) -> Timed:
        """One helm-canary command, as a user starts it."""
        made = [sys.executable, "-m", "helm_canary", *self._words(words)]
        return self.timed(made, codes=codes)

    def tool_memory(self, *words: str) -> float:
        """The most memory, in MB, that the Python process of a command had."""
        status = self.values.with_suffix(".status")
        self.timed([sys.executable, "-c", f"import sys; sys.argv[0]={str(status)!r}\n{MEMORY}", *self._words(words)])
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        status.unlink()
        return int(found[1]) / 1024 if found else 0.0

    def _words(self, words: Sequence[str]) -> list[str]:
        at = ["--release", RELEASE, "--namespace", self.namespace, "--drain", "5s", *self.extra]
        chart = ["--chart", str(CHART), "--values", str(self.values)] if words[0] in ("stage", "plan") else []
        return [*words, *at, *chart]

    def by_hand(self, command: Sequence[str]) -> Timed:
        """The same `helm upgrade` as the tool's, on this service, without the tool's record."""
        mine = [str(self.values) if word.endswith(".yaml") else word for word in command]
        mine[mine.index("--namespace") + 1] = self.namespace
        return self.timed(mine, stdin="{}")

    def rollout(self, deployment: str) -> Timed:
        """What a person types to wait for pods."""
        words = ["kubectl", "--namespace", self.namespace, "rollout", "status", f"deployment/{deployment}"]
        return self.timed([*words, "--timeout=120s"])

    def timed(self, command: Sequence[str], *, stdin: str = "", codes: Sequence[int] = (0,)) -> Timed:
        began, began_ms = time.monotonic(), time.time_ns() // 1_000_000
        process = subprocess.Popen(
            self.cluster.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=ROOT,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(stdin)
        process.stdin.close()
        lines = tuple(Said(time.monotonic() - began, line.rstrip("\n")) for line in process.stderr)
        stdout = process.stdout.read()
        code = process.wait(LIMIT_S)
        seconds = time.monotonic() - began
        if code not in codes:
            said = "\n".join(line.text for line in lines)
            raise BenchError(f"`{shlex.join(command)}` ended with {code}:\n{said}\n{stdout}")
        return Timed(began_ms, seconds, stdout, lines)

    def _environment(self) -> Mapping[str, str]:
        env = self.cluster.environment()
        env = {name: value for name, value in env.items() if not name.startswith("HELM_CANARY_")}
        return {**env, "PATH": f"{self.path}:{env['PATH']}" if self.path else env["PATH"]}
