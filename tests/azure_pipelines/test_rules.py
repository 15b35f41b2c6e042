"""Rules of Windows, on whatever machine this is: which Python is found and where its parts are. Nothing was run on Windows."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helm_canary import keys
from tests.azure_pipelines.conftest import nodes

TASK = Path(__file__).parents[2] / "azure-pipelines-task/HelmCanary"
# Node says that this is Windows; a child then is what `py` and `python` are here.
PRETEND = "Object.defineProperty(process, 'platform', { value: 'win32' });\n"
STORE_STUB = "#!/bin/sh\nexit 9009\n"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module start.py, as it is on Windows."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("start_of_the_task", TASK / "start.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WINDOWS", True)
    return module


def test_the_environment_has_its_python_in_scripts(start: ModuleType) -> None:
    """A virtual environment of Windows has `Scripts`, and its Python ends in .exe."""
    assert start._python_in(Path("C:/agent/_temp/a b")) == Path("C:/agent/_temp/a b/Scripts/python.exe")


def test_the_program_is_started_without_a_shell(start: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows cannot replace a process: the program is a child, by its arguments, and its exit code is passed on."""
    seen: dict[str, object] = {}

    def run(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.update(options, words=words)
        return subprocess.CompletedProcess(words, 4)

    monkeypatch.setattr(start.subprocess, "run", run)
    assert start._become(Path("C:/a b/python.exe"), {"A": "1"}) == 4
    assert seen["words"] == ["C:/a b/python.exe", *start.FLAGS, "-m", "helm_canary"]
    assert "shell" not in seen
    assert seen["env"] == {"A": "1"}


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["python", "python3", "py"], "python"),
        (["python3", "py"], "python3"),
        (["py"], "py -3"),
    ],
    ids=["python", "no python", "the launcher alone"],
)
def test_the_launcher_is_found_where_the_store_has_its_stub(there: list[str], found: str, tmp_path: Path) -> None:
    """`python` and `python3` may be the store's stub, which starts nothing; the launcher `py -3` comes last."""
    names = ("python", "python3", "py")
    for name in names:
        program = tmp_path / name
        skip = '[ "$1" = -3 ] && shift || exit 1\n' if name == "py" else ""
        said = (
            f'#!/bin/sh\n{skip}case "$*" in *start.py) echo "found {name}"; exit 0;; esac\nexec {sys.executable} "$@"\n'
        )
        program.write_text(said if name in there else STORE_STUB)
        program.chmod(0o755)
    (tmp_path / "pretend.js").write_text(PRETEND)
    path = f"{tmp_path}:{os.defpath}"
    ran = subprocess.run(
        [nodes()["24"], "--require", tmp_path / "pretend.js", TASK / "main.js"],
        env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, f"found {found.removesuffix(' -3')}\n"), ran


def test_installers_get_no_secret_and_none_of_the_jobs_own_settings(start: ModuleType) -> None:
    """uv and pip are given where the index is, and neither the job's secrets nor where the job wants its own packages."""
    kept = {"PATH": "/bin", "HTTPS_PROXY": "http://proxy", "PIP_INDEX_URL": "https://index", "UV_OFFLINE": "1"}
    secret = {
        "SYSTEM_ACCESSTOKEN": "x",
        "AZURE_CLIENT_SECRET": "x",
        "HELM_CANARY_KUBECONFIG_DATA": "x",
        "MY_PASSWORD": "x",
    }
    assert start._for_installers({**kept, **secret, "PIP_USER": "1", "PIP_TARGET": "/x", "UV_CONSTRAINT": "x"}) == kept


def test_a_folder_that_may_not_be_written_is_an_error_like_any_other(
    start: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever keeps the program from starting is told in three parts, on the run's page, with exit code 3."""

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(start, "environment_for", full)
    monkeypatch.setattr(start, "_listen", lambda: None)
    monkeypatch.setattr(os, "environ", {"INPUT_COMMAND": "status", "INPUT_RELEASE": "shop"})
    assert start.main() == 3
    said = capsys.readouterr()
    assert "No space left on device" in said.out
    assert "##vso[task.logissue type=error]" in said.out + said.err


def test_runs_beside_each_other_leave_each_others_secrets_alone(tmp_path: Path) -> None:
    """Several runs in one temporary folder make, sweep and remove their own folders at once; none loses its own."""
    write = "\n".join(
        (
            "import sys; from helm_canary.keys import keys_in",
            "for _ in range(250):",
            "    with keys_in(sys.argv[1]) as made: assert made.write('token', 'x').read_text() == 'x'",
        )
    )
    words = [sys.executable, "-c", write, str(tmp_path)]
    runs = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, said
    assert list(tmp_path.iterdir()) == []


def test_secrets_are_written_where_there_are_no_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the locks of POSIX a run keeps its secrets to itself and takes them away; it sweeps nobody else's."""
    monkeypatch.setattr(sys, "platform", "win32")
    left = tmp_path / f"{keys.PREFIX}left"
    left.mkdir()
    with keys.keys_in(str(tmp_path)) as made:
        assert made.write("token", "x").read_text() == "x"
    assert list(tmp_path.iterdir()) == [left]
