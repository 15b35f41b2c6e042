"""Runs the program against the servers on loopback, and looks at everything that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.azure.servers import CLIENT, GROUP, NAME, SUBSCRIPTION, TENANT, Azure
from tests.cli.program import Ran

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
CLUSTER = ("--cluster-name", NAME, "--resource-group", GROUP, "--subscription", SUBSCRIPTION)
IDS = ("--client-id", CLIENT, "--tenant-id", TENANT)


@dataclass
class Runner:
    """A runner of a CI: a temporary folder, and an environment that holds nothing but what a platform sets."""

    azure: Azure
    folder: Path
    path: str = os.environ["PATH"]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        return self.folder / "temp"

    def whole(self, auth: str, **more: str) -> dict[str, str]:
        home = self.folder / "home"
        for folder in (self.temporary, home):
            folder.mkdir(exist_ok=True)
        needed = {"PYTHONPATH": str(ROOT / "src"), "PATH": self.path, "HOME": str(home), "RUNNER_TEMP": str(self.temporary),
                  "TMPDIR": str(self.temporary), "LANG": "C.UTF-8"}  # fmt: skip
        return needed | self.azure.environment(auth) | self.environment | more

    def start(self, *arguments: str, auth: str, **more: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "helm_canary", *arguments, "--auth", auth, "--cloud", self.azure.cloud, *IDS]
        return subprocess.Popen(words, env=self.whole(auth, **more), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                stdin=subprocess.DEVNULL, text=True)  # fmt: skip

    def run(self, *arguments: str, auth: str = "github-oidc", **more: str) -> Ran:
        process = self.start(*arguments, auth=auth, **more)
        stdout, stderr = process.communicate(timeout=LIMIT_S)
        return Ran(code=process.returncode, stdout=stdout, stderr=stderr)


@dataclass
class Sampler:
    """Reads the arguments and environments of a process's children, over and over, as a neighbour could."""

    pid: int
    arguments: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(5)

    def _look(self) -> None:
        while not self._end.is_set():
            for pid in self._family():
                words, variables = (self._read(pid, name) for name in ("cmdline", "environ"))
                self.arguments.add(words)
                # Its own environment is the CI's doing; its children's is ours.
                if pid != self.pid and "helm_canary" not in words:
                    self.environments.add(variables)
            time.sleep(0.01)

    def _family(self) -> set[int]:
        parents = {}
        for path in Path("/proc").iterdir():
            if path.name.isdigit():
                status = self._read(int(path.name), "stat")
                parents[int(path.name)] = int(status.rpartition(")")[2].split()[1]) if status else 0
        found = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    @staticmethod
    def _read(pid: int, name: str) -> str:
        try:
            return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
        except OSError:
            return ""
