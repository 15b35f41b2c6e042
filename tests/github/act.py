"""Runs the workflows as GitHub would, with `act`, inside the local cluster's network.

What `act` does not know is left out of the copies that it runs: `queue`, `deployment`, and `$/` for this repository. What it does
not do, it is told: whether an environment lets its job pass is asked of the API on loopback.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import ensure
from tests.cluster.shell import home
from tests.e2e.service import Service
from tests.github.api import REPOSITORY, RUN, TOKEN

ROOT = Path(__file__).resolve().parents[2]
OURS = "helm-canary/helm-canary"
COPIED = ("action.yml", "requirements.lock", "src", "charts", "tools", ".github/workflows")
LIMIT_S = 600.0
CACHE = home() / "uv"
# The cluster's network has no package index: what the action installs is in uv's cache by then.
OFFLINE = {"UV_CACHE_DIR": str(CACHE), "UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
GATE_STEP = """\
      - name: Environment
        env: {GATE: "${{ inputs.gate }}"}
        run: curl --fail --silent --show-error "$GITHUB_API_URL/gate/$GATE"
        shell: bash
"""


def adapted(text: str) -> str:
    """A workflow of ours as `act` can run it."""
    text = text.replace("uses: $/.github/workflows/", f"uses: {OURS}/.github/workflows/")
    text = text.replace("uses: $/\n", f"uses: {OURS}@v0\n")
    text = re.sub(rf"(uses: {OURS}/\.github/workflows/\w+\.yml)\n", r"\1@v0\n", text)
    text = re.sub(r"\n +(queue: max|deployment: false)(?=\n)", "", text)
    return text.replace("      - name: Passed\n", GATE_STEP + "      - name: Passed\n")


@dataclass(frozen=True)
class Ended:
    """A run that ended: its exit code, the result of each job that ran by its name, and its log."""

    code: int
    jobs: Mapping[str, str]
    log: str

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The log's lines: what the steps printed, and what the runner understood of it."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def of(self, word: str) -> dict[str, str]:
        """The jobs whose name holds this word."""
        return {name: result for name, result in self.jobs.items() if word in name}


@dataclass
class Hub:
    """A repository with one service's workflow, its environments, and runs of it."""

    service: Service
    folder: Path
    api_url: str
    state: dict[str, Any] = field(default_factory=lambda: {"reviews": [], "reviewers": [], "closed": []})

    def write(self) -> None:
        (self.folder / "state.json").write_text(json.dumps(self.state), encoding="utf-8")

    def approve(self, *gates: str, comment: str = "looks good") -> None:
        self._review("approved", gates, comment)

    def reject(self, gate: str, comment: str = "too many errors") -> None:
        self.state["closed"].append(gate)
        self._review("rejected", (gate,), comment)

    def _review(self, state: str, gates: tuple[str, ...], comment: str) -> None:
        for gate in gates:
            environments = [{"id": 1, "name": gate}]
            self.state["reviews"].append(
                {"environments": environments, "state": state, "user": {"login": "ana"}, "comment": comment}
            )
        self.write()

    def new_run(self) -> None:
        """Nobody has reviewed anything yet."""
        self.state = {"reviews": [], "reviewers": [], "closed": []}
        self.write()

    def start(self, workflow: str, tag: str, inputs: Mapping[str, Any], **variables: str) -> subprocess.Popen[str]:
        """One run: `workflow` is stage, release or rollback."""
        return self.start_file(yaml.safe_dump(self._caller(workflow, tag, inputs)), variables=variables)

    def start_file(
        self, workflow: str, dispatched: Mapping[str, str] | None = None, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A run of this workflow's text: of a push, or as somebody started it by hand with these inputs."""
        place = self.folder / "shop" / ".github" / "workflows"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "run.yml").write_text(workflow, encoding="utf-8")
        variables = {
            "GITHUB_RUN_ID": RUN,
            "GITHUB_API_URL": self.api_url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TRIGGERING_ACTOR": "ana",
            **(variables or {}),
        }
        event = "push" if dispatched is None else "workflow_dispatch"
        words = [str(ensure("act")["act"]), event, "--json", "--platform", "ubuntu-latest=-self-hosted"]
        for name, value in (dispatched or {}).items():
            words += ["--input", f"{name}={value}"]
        words += ["--actor", "ana", "--secret-file", str(self._secrets())]
        # The cluster's network leads nowhere, so there is no address of its own to serve a cache at.
        words += ["--no-cache-server", "--cache-server-addr", "127.0.0.1", "--artifact-server-addr", "127.0.0.1"]
        for name, value in variables.items():
            words += ["--env", f"{name}={value}"]
        words += ["--local-repository", f"{OURS}@v0={self.folder / 'ours'}"]
        for line in re.findall(r"uses: (azure/\S+)", (ROOT / "action.yml").read_text(encoding="utf-8")):
            words += ["--local-repository", f"{line}={self.folder / 'stub'}"]
        path = f"{self.folder / 'bin'}:{self.service.cluster.environment()['PATH']}"
        environment = {"PATH": path, "HOME": str(self.folder / "home"), **OFFLINE}
        return subprocess.Popen(self.service.cluster.command(*words), env=environment, cwd=self.folder / "shop",
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip

    def run(self, workflow: str, tag: str, inputs: Mapping[str, Any] | None = None, **variables: str) -> Ended:
        process = self.start(workflow, tag, inputs or {}, **variables)
        return ended(process)

    def _caller(self, workflow: str, tag: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {"release": "productpage", "namespace": self.service.namespace, "drain": "1s", "timeout": "90s"}
        if workflow != "rollback":
            given |= {"values": str(self.service.values_file()), "tag": tag}
        return {
            "name": "Run",
            "on": "push",
            "jobs": {
                "release": {
                    "name": workflow,
                    "uses": f"{OURS}/.github/workflows/{workflow}.yml@v0",
                    "permissions": {"contents": "read", "id-token": "write", "actions": "read"},
                    "with": {**given, **inputs},
                    "secrets": {"kubeconfig": "${{ secrets.KUBECONFIG }}"},
                }
            },
        }

    def _secrets(self) -> Path:
        path = self.folder / "secrets"
        kubeconfig = base64.b64encode(self.service.cluster.kubeconfig.read_bytes()).decode()
        path.write_text(f"KUBECONFIG={kubeconfig}\nGITHUB_TOKEN={TOKEN}\n", encoding="utf-8")
        path.chmod(0o600)
        return path


def ended(process: subprocess.Popen[str]) -> Ended:
    """The end of a run that was started."""
    log, _ = process.communicate(timeout=LIMIT_S)
    run = Ended(process.returncode, {}, log)
    jobs = {str(entry.get("job")): str(entry["jobResult"]) for entry in run.entries if entry.get("jobResult")}
    return replace(run, jobs=jobs)


def fill_cache(folder: Path) -> None:
    """As the action installs, with a network."""
    folder.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(folder), "UV_CACHE_DIR": str(CACHE), "UV_PYTHON": sys.executable}
    environment |= {"RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(folder / "output")}
    passed_on = ("UV_INDEX", "UV_DEFAULT", "PIP_", "SSL_", "HTTP")
    environment |= {name: value for name, value in os.environ.items() if name.startswith(passed_on)}
    subprocess.run([ROOT / "tools/prepare-action.sh"], env=environment, check=True, timeout=300)
    assert "python=" in (folder / "output").read_text(encoding="utf-8")


@contextmanager
def hub(service: Service, folder: Path) -> Iterator[Hub]:
    """A repository for a service, and GitHub's API in the cluster's network."""
    ours = folder / "ours"
    for name in COPIED:
        source, target = ROOT / name, ours / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    for path in (ours / ".github/workflows").glob("*.yml"):
        path.write_text(adapted(path.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "stub").mkdir()
    (folder / "stub/action.yml").write_text(
        "name: stub\ndescription: never run\nruns: {using: composite, steps: [{run: exit 9, shell: bash}]}\n",
        encoding="utf-8",
    )
    for name in ("home", "bin"):
        (folder / name).mkdir()
    (folder / "bin/uv").symlink_to(Path(sys.executable).with_name("uv"))
    fill_cache(folder / "warm")
    (folder / "shop").mkdir()
    person = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for git in (("init", "-q"), (*person, "commit", "-q", "--allow-empty", "-m", "x")):
        subprocess.run(["git", *git], cwd=folder / "shop", check=True)
    (folder / "state.json").write_text("{}", encoding="utf-8")
    words = service.cluster.command("python3", "-m", "tests.github.api", folder / "state.json")
    environment = {**service.cluster.environment(), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as api:
        assert api.stdout is not None
        made = Hub(service, folder, api.stdout.readline().strip())
        made.new_run()
        try:
            yield made
        finally:
            assert api.stdin is not None
            api.stdin.close()
            api.wait(timeout=10)
