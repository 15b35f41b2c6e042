"""No secret gets anywhere but where it is needed: not into output, arguments, children's environments, nor onto the disk."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helm_canary.ci.masks import Masks
from helm_canary.ci.platform import platform_of
from helm_canary.identities import AUTHS
from helm_canary.keys import PREFIX, keys_in, sweep
from helm_canary.report import to_json
from tests.azure.program import CLUSTER, Runner, Sampler
from tests.azure.servers import CANARY, Azure

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(120)
STATUS = ("status", "--release", "page", "--namespace", "shop", *CLUSTER)
LOUD = {"RUNNER_DEBUG": "1", "SYSTEM_DEBUG": "true", "GITHUB_ACTIONS": "true"}
# A mask is a secret on purpose: the runner takes the line away, and the secret out of every other one.
MASK = re.compile(r"^::add-mask::.*\n", re.MULTILINE)
ENCODED = base64.b64encode(CANARY.encode()).decode()[:-4]


@pytest.fixture
def tools(azure: Azure, tmp_path: Path) -> Callable[..., Path]:
    """A folder with a helm and a kubectl that write down what they were given, and how the files with secrets look."""

    def made(seconds: float) -> Path:
        folder = tmp_path / "tools"
        folder.mkdir()
        for name in ("helm", "kubectl"):
            # Of what is in the files only the modes are noted: the content is theirs to have.
            (folder / name).write_text(
                "#!/bin/sh\n"
                f'echo "$0 $*" >>{folder}/arguments\nenv >>{folder}/environment\n'
                f'find {tmp_path}/temp -type f -printf "%m %p\\n" >>{folder}/modes 2>/dev/null\n'
                f'sleep {seconds}\necho "Error from server (Forbidden): secrets is forbidden: User x" >&2\nexit 1\n'
            )
            (folder / name).chmod(0o755)
        return folder

    return made


def texts(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}


def leaked(text: str) -> bool:
    return CANARY in text or ENCODED in text


@pytest.mark.parametrize("auth", [auth.name for auth in AUTHS])
def test_no_secret_is_left_anywhere(auth: str, azure: Azure, runner: Runner, tools: Callable[..., Path]) -> None:
    """With the CI's debug switch on: none in the log, in arguments, in a child's environment, or on the disk afterwards."""
    folder = tools(0.3)
    path = f"{folder}:{runner.whole(auth)['PATH']}"
    process = runner.start(
        *STATUS, auth=auth, PATH=path if auth != "azure-cli" else f"{azure.folder}/bin:{path}", **LOUD
    )
    with Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 3, stderr
    assert "no-kubernetes-role" in stderr
    assert "note: azure." in stderr, "the run was loud"
    masked = MASK.findall(stderr)
    planted = [value for value in azure.environment(auth).values() if CANARY in value and value.isascii()]
    for secret in (*planted, azure.given[-1], *azure.assertions):
        assert f"::add-mask::{secret}\n" in masked
    assert not leaked(MASK.sub("", stderr) + stdout)
    assert not any(leaked(words) for words in sampler.arguments)
    assert sampler.environments, "children were seen"
    assert not any(leaked(variables) for variables in sampler.environments)
    assert not any(leaked(text) for text in texts(folder).values())
    assert not any(leaked(text) for text in texts(runner.temporary).values())
    assert list(runner.temporary.iterdir()) == []
    modes = (folder / "modes").read_text().split("\n")
    assert {line.split()[0] for line in modes if PREFIX in line} == {"600"}
    # The first use of a secret came after its mask.
    first = min(stderr.find(line) for line in masked)
    assert not leaked(stderr[:first])


def wait_for_keys(runner: Runner) -> Path:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = list(runner.temporary.glob(PREFIX + "*/kubeconfig")) if runner.temporary.exists() else []
        if found:
            return found[0].parent
        time.sleep(0.02)
    raise AssertionError("no credentials were written")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_leaves_nothing(number: signal.Signals, runner: Runner, tools: Callable[..., Path]) -> None:
    """A cancelled run removes its credentials before it ends."""
    process = runner.start(*STATUS, auth="client-secret", PATH=f"{tools(30)}:{os.environ['PATH']}")
    keys = wait_for_keys(runner)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 130, stderr
    assert list(runner.temporary.iterdir()) == []
    assert not leaked(stdout + stderr)


def test_what_a_killed_run_leaves_goes_with_the_next(azure: Azure, runner: Runner, tools: Callable[..., Path]) -> None:
    """SIGKILL leaves the folder, for nobody else to read; the next run removes it, and leaves the ones that are in use."""
    path = f"{tools(2)}:{os.environ['PATH']}"
    killed = runner.start(*STATUS, auth="client-secret", PATH=path)
    left = wait_for_keys(runner)
    killed.kill()
    killed.communicate(timeout=60)
    assert (left / "token").exists()

    with keys_in(str(runner.temporary)) as mine:
        assert not left.exists()
        assert mine.path.exists()
        runner.run(*STATUS, auth="client-secret", PATH=path)
        assert mine.path.exists()
    assert [path for path in runner.temporary.iterdir() if path.name.startswith(PREFIX)] == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What looks like a folder of ours and is a link to another's stays, and so does what it leads to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(precious)
    sweep(tmp_path)
    assert precious.exists()


@pytest.mark.parametrize(
    ("platform", "line"),
    [
        ({"GITHUB_ACTIONS": "true"}, "::add-mask::50%25 of-a-secret"),
        ({"TF_BUILD": "True"}, "##vso[task.setsecret]50%AZP25 of-a-secret"),
        ({}, ""),
    ],
    ids=["github", "azure-pipelines", "laptop"],
)
def test_a_mask_is_written_as_the_platform_reads_it(
    platform: dict[str, str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escaped as the platform wants it, a line at a time, on standard error; nothing on a laptop."""
    Masks(platform=platform_of(platform)).add("-----BEGIN KEY-----\n50% of-a-secret\nshort\n")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[:1] == ([line] if line else [])
    assert "BEGIN" not in said.err
    assert "short" not in said.err.splitlines()


@pytest.mark.parametrize("secret", ['p4ss"w0rd\\tail', "pass-é-wörd-long", "a##b##c##d##e"])
def test_what_is_masked_is_hidden_in_json_too(secret: str) -> None:
    """JSON writes quotes, backslashes, other alphabets and what a CI would take for a command as escapes."""
    masks = Masks()
    masks.add(secret)
    assert json.loads(masks.hide(to_json({"said": f"wrong: {secret}."}))) == {"said": "wrong: ***."}


def test_what_is_masked_is_hidden_in_our_own_output() -> None:
    """The longest secret first, so that no half of one is left."""
    masks = Masks()
    for secret in ("abcdefgh", "abcdefghijkl"):
        masks.add(secret)
    assert masks.hide("x abcdefghijkl y abcdefgh z") == "x *** y *** z"
