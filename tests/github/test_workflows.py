"""The action, the workflows and what users copy: GitHub's schemas, a linter of security, and one of expressions and inputs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from helm_canary.options import TABLE, Command
from tests.cluster.binaries import ensure
from tests.cluster.shell import ClusterError
from tools import action as action_table

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
COPIED = sorted((ROOT / "pipelines/github").glob("*.yml"))
OURS = "helm-canary/helm-canary"


def tool(name: str, *words: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A program of this environment; all of them work without a network."""
    path = Path(sys.executable).with_name(name)
    return subprocess.run([path, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("schema", "files"),
    [("github-workflows", [*WORKFLOWS, *COPIED]), ("github-actions", [ROOT / "action.yml"])],
    ids=["workflows", "action"],
)
def test_every_file_fits_its_schema(schema: str, files: list[Path]) -> None:
    """No key or value that GitHub would not know; and a file that has one is found."""
    done = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_key_is_found_by_the_schema(tmp_path: Path) -> None:
    """The check of the schemas can fail."""
    path = tmp_path / "stage.yml"
    path.write_text(WORKFLOWS[-1].read_text().replace("needs: gate", "neds: gate"))
    assert tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path).returncode == 1


@pytest.mark.parametrize("persona", ["regular", "pedantic", "auditor"])
def test_zizmor_finds_nothing(persona: str) -> None:
    """No injection, no unpinned action, no permission too many, in what runs here and in what users copy."""
    words = ("--offline", "--no-progress", "--no-exit-codes", "--format", "plain", "--persona", persona)
    places = [ROOT, *COPIED] if persona != "auditor" else [ROOT]
    for place in places:
        done = tool("zizmor", *words, "--config", ROOT / ".github/zizmor.yml", place)
        assert "No findings to report" in done.stdout, done.stdout + done.stderr


def test_zizmor_finds_an_injection(tmp_path: Path) -> None:
    """The audit can fail: an input in the text of a script is found."""
    text = WORKFLOWS[-1].read_text().replace('run: echo "attempt', 'run: echo "${{ inputs.title }} attempt')
    (tmp_path / "stage.yml").write_text(text)
    done = tool("zizmor", "--offline", "--no-progress", "--format", "plain", tmp_path / "stage.yml")
    assert "template-injection" in done.stdout, done.stdout + done.stderr


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """Every expression, context, input and output is one that exists, from the files that users copy down to the action.

    actionlint knows neither `$/` nor `queue`: in the copies that it reads this repository is named as `./`.
    """
    try:
        linter = ensure("actionlint")["actionlint"]
    except ClusterError as error:
        pytest.skip(f"actionlint cannot be built here: {error}")
    shutil.copy2(ROOT / "action.yml", tmp_path)
    place = tmp_path / ".github/workflows"
    place.mkdir(parents=True)
    for prefix, files in (("", WORKFLOWS), ("copied-", COPIED)):
        for path in files:
            text = path.read_text().replace("uses: $/", "uses: ./")
            text = re.sub(rf"uses: {OURS}/(\S+)@v0", r"uses: ./\1", text)
            text = re.sub(r"\n +queue: max(?=\n)|, queue: max", "", text)
            (place / f"{prefix}{path.name}").write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [linter, "-shellcheck=", "-pyflakes="], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (place / "stage.yml").write_text(
        (place / "stage.yml").read_text().replace("inputs.version-id", "inputs.version-ids")
    )
    done = subprocess.run(
        [linter, "-shellcheck=", "-pyflakes="], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "version-ids" in done.stdout


def test_every_option_is_an_input_and_no_input_is_in_a_script() -> None:
    """Options and inputs do not drift; an input reaches the program as a variable and in no other way."""
    read = yaml.safe_load((ROOT / "action.yml").read_text())
    options = {option.name for option in TABLE if set(option.commands) - {Command.TOKEN}}
    assert options <= set(read["inputs"]), options - set(read["inputs"])
    assert set(read["inputs"]) == set(action_table.inputs())
    steps = read["runs"]["steps"]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []
    assert steps[-1]["run"].splitlines()[-1].startswith("exec ")
    for name, (variable, _) in action_table.inputs().items():
        assert f"inputs.{name}" in steps[-1]["env"][variable], name


def test_the_graph_of_a_release_is_the_list_of_stages() -> None:
    """One job a stage, each after the one before, each with its gate; who goes back by itself follows from the stage."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    stages = stages_for(DEFAULT_WEIGHTS)
    assert list(jobs) == [f"stage-{stage.number}" for stage in stages]
    for stage in stages:
        job = jobs[f"stage-{stage.number}"]
        assert job["with"]["stage"] == str(stage.number)
        if stage.number > 1:
            assert f"stage-{stage.number - 1}" in job["needs"]
            assert job["with"]["gate"] == f"${{{{ inputs.gates }}}}{stage.number}"
    goes_back = {number: job["with"]["goes-back"] for number, job in zip(range(1, 8), jobs.values(), strict=True)}
    both = "rejection failure"
    assert goes_back == {1: "", 2: both, 3: both, 4: both, 5: "rejection", 6: "", 7: ""}


def test_a_team_adds_a_release_in_thirty_lines() -> None:
    """What a team copies first has at most thirty lines that are neither empty nor a comment."""
    lines = (ROOT / "pipelines/github/release.yml").read_text().splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) <= 30


def test_the_lock_has_every_dependency() -> None:
    """What the action installs is locked with hashes, and has all that the project names."""
    lock = (ROOT / "requirements.lock").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    named = re.search(r"^dependencies = \[(.*)\]$", project, re.MULTILINE)
    assert named is not None
    for requirement in re.findall(r'"([A-Za-z0-9-]+)', named[1]):
        assert re.search(rf"^{requirement}==\S+ \\$", lock, re.MULTILINE | re.IGNORECASE), requirement
    assert lock.count("--hash=sha256:") > lock.count("==")
    assert "://" not in lock
