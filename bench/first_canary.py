"""A new user's path on GitHub Actions: from a repository with a Dockerfile to the first approved canary.

python -m bench.first_canary

Counts what the user writes, and times each step. The workflow is pipelines/github/release.yml with the user's names, run by `act`
on the local cluster. Played: GitHub's API, the build (the images are made here), and Azure (a kubeconfig as a secret).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.service import BenchError
from tests.cluster import Cluster, up
from tests.e2e.service import Service
from tests.github.act import ROOT, Ended, Hub, ended, hub

SOURCE = ROOT / "pipelines/github/release.yml"
DOCS = ROOT / "docs/github-actions.md"
REGISTRY, NAME = "registry.example.com", "shop"
RUNS = ("101", "102")
GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com")
MOST_FILES, MOST_LINES = 2, 30


@dataclass
class Steps:
    """What was done, and the seconds it took; None where that is a person's time."""

    rows: list[tuple[str, float | None, str]] = field(default_factory=list)

    @contextmanager
    def timed(self, what: str, note: str = "") -> Iterator[None]:
        began = time.monotonic()
        yield
        self.rows.append((what, time.monotonic() - began, note))

    def table(self) -> str:
        lines = [f"{'step':<62}{'s':>7}  note"]
        for what, seconds, note in self.rows:
            lines.append(f"{what:<62}{'-' if seconds is None else f'{seconds:.1f}':>7}  {note}")
        return "\n".join(lines)


def main() -> None:
    steps, cluster = Steps(), up()
    for tag in RUNS:
        cluster.image(f"{REGISTRY}/{NAME}:{tag}", START_DELAY_MS="300", ADDR=":8080")
    namespace = f"bench-{int(time.time())}"
    cluster.kubectl("create", "namespace", namespace)
    try:
        with tempfile.TemporaryDirectory(prefix="helm-canary-bench-") as folder:
            service = Service(cluster, namespace, Path(folder), release=NAME, named_host=f"{namespace}.example.com")
            (Path(folder) / "hub").mkdir()
            with hub(service, Path(folder) / "hub") as github:
                _walk(github, cluster, steps)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    print(steps.table())


def _walk(github: Hub, cluster: Cluster, steps: Steps) -> None:
    repository = Path(tempfile.mkdtemp(dir=github.folder))
    (repository / "Dockerfile").write_text("FROM scratch\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "a Dockerfile")):
        subprocess.run([*GIT, *words], cwd=repository, check=True)
    steps.rows.append(
        ("identity, roles, environments, gates: commands of the checklist", None, f"{_commands()} commands")
    )
    with steps.timed("copy the workflow, put in the names"):
        files, lines = _write_workflow(repository, github.service)
    steps.rows.append(
        ("  files touched / lines written", None, f"{files} / {lines} (aim: {MOST_FILES} / {MOST_LINES})")
    )
    text = _runnable(repository / ".github/workflows/release.yml")
    with steps.timed("first push: the run installs; no gate asks"):
        _check(_run(github, text, RUNS[0]), gates=0)
    github.approve("canary-2")
    github.state["closed"].append("canary-3")
    github.write()
    with steps.timed("second push: gate 2 approved, 10 % on the new version"):
        run = _run(github, text, RUNS[1])
    _check_canary(github.service, run)


def _commands() -> int:
    """The commands of the checklist: each starts a line of a shell block."""
    blocks = DOCS.read_text(encoding="utf-8").split("```sh")[1:]
    lines = [line.strip() for block in blocks for line in block.split("```")[0].splitlines()]
    return sum(line.startswith(("az ", "gh ", "kubectl ")) for line in lines)


def _write_workflow(repository: Path, service: Service) -> tuple[int, int]:
    """Files touched and lines written, as git counts them."""
    text = SOURCE.read_text(encoding="utf-8")
    for name, own in (
        ("exampleregistry.azurecr.io", REGISTRY),
        ("shop.example.com", service.host),
        ("namespace: shop", f"namespace: {service.namespace}"),
    ):
        if name not in text:
            raise BenchError(f"{SOURCE} has no {name}.")
        text = text.replace(name, own)
    path = repository / ".github/workflows/release.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    subprocess.run([*GIT, "add", "."], cwd=repository, check=True)
    found = subprocess.run([*GIT, "diff", "--cached", "--numstat"], cwd=repository, check=True, capture_output=True)
    rows = [line.split("\t") for line in found.stdout.decode().splitlines()]
    return len(rows), sum(int(added) for added, _, _ in rows)


def _runnable(path: Path) -> str:
    """Here the images are made already, and a kubeconfig stands in for AKS. `act` knows no default that is an expression."""
    body = yaml.safe_load(path.read_text(encoding="utf-8"))
    body["on"] = body.pop(True)
    del body["jobs"]["build"]
    release = body["jobs"]["release"]
    del release["needs"]
    release["secrets"] = {"kubeconfig": "${{ secrets.KUBECONFIG }}"}
    release["with"]["tag"] = "${{ github.run_id }}"
    return yaml.safe_dump(body)


def _run(github: Hub, text: str, number: str) -> Ended:
    shutil.rmtree(github.folder / "shop/.github", ignore_errors=True)
    return ended(github.start_file(text, variables={"GITHUB_RUN_ID": number}))


def _check(run: Ended, *, gates: int) -> None:
    if run.code or len(run.of("Gate")) != gates:
        raise BenchError(f"The run went wrong.\n{run.log}")


def _check_canary(service: Service, run: Ended) -> None:
    live = service.status()
    if (live["production"]["tag"], live["canary"]["tag"], live["canary"]["weight"]) != (*RUNS, 10):
        raise BenchError(f"There is no canary: {live}.\n{run.log}")


if __name__ == "__main__":
    main()
