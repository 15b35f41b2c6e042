"""The demo: what it was asked for, its gates, its picture; and on the local cluster that it ends cleanly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.__main__ import read_wish
from demo.picture import write
from demo.places import NAMESPACE, DemoError, Wish, open_place
from demo.screen import Line, Look, Screen
from demo.walk import _bar
from tests.cluster import Cluster, up

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300


def test_variables_are_the_options() -> None:
    """`make demo CONTEXT=... YES=1` reaches the program, and a third tag that is missing is the new one."""
    wish = read_wish([], {"CONTEXT": "kind-kind", "IMAGE": "shop", "TAGS": "1.0,1.1", "YES": "1"})
    assert wish == Wish("kind-kind", "shop", ("1.0", "1.1", "1.1"), "", "", "", True, "")
    assert not read_wish([], {"YES": "0"}).yes


@pytest.mark.parametrize("tags", ["83", "", "1,2,3,4"])
def test_wrong_tags_are_refused(tags: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One tag makes no release."""
    with pytest.raises(SystemExit) as ended:
        read_wish(["--tags", tags], {})
    assert ended.value.code == 2
    assert "TAGS=" in capsys.readouterr().err


def test_another_kind_of_address_is_refused() -> None:
    """URL= has to be an address that requests can go to."""
    with pytest.raises(DemoError, match="URL=ftp"):
        open_place(Wish("somewhere", "shop", ("1", "2", "3"), "ftp://there", "", "", True, ""))


@pytest.mark.parametrize(
    ("answered", "text"),
    [
        ({"83": 90, "84": 10}, "83  90 % ██████████████████░░ 10 % 84"),
        ({"84": 1, "83": 9}, "83  90 % ██████████████████░░ 10 % 84"),
        ({"84": 7}, "84 100 % ████████████████████"),
        ({}, ""),
    ],
)
def test_the_split_is_drawn(answered: dict[str, int], text: str) -> None:
    """Old version left, new one right, whoever answered first."""
    assert _bar(Counter(answered), ("83", "84", "85")) == text


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard input as a pipe: what is written into it is typed."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    yield writing
    os.dup2(before, 0)
    for handle in (reading, before):
        os.close(handle)


def test_answers_at_a_gate(typed: int) -> None:
    """Lines that were typed ahead each answer one gate; the end of the input quits."""
    screen = Screen(yes=False)
    os.write(typed, b"\nRoll back\nq\n")
    os.close(typed)
    answers = [screen.ask("approve?", str, 5) for _ in range(4)]
    assert answers == ["", "r", "q", "q"]


def test_no_answer_quits(typed: int) -> None:
    """A gate does not wait for ever."""
    assert Screen(yes=False).ask("approve?", str, 0.1) == "q"
    os.close(typed)


def test_the_picture_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    """Every line is in it, those too long are cut, and no address is asked for by whoever looks at it."""
    path = tmp_path / "docs/release.svg"
    write(path, [Line("$ helm-canary stage 2", Look.TITLE), Line("0 lost" + "." * 300, Look.GOOD)])
    text = path.read_text(encoding="utf-8").replace("&#160;", " ")
    assert "$ helm-canary stage 2" in text
    assert "0 lost..." in text
    assert "." * 200 not in text
    assert set(re.findall(r"https?://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}


# --- on the local cluster ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The local cluster; without root its tests are skipped."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("the local cluster needs root on Linux: run the tests as root, or in CI")
    return up()


def _start(**more: str) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("YES", "CONTEXT", "TAGS", "IMAGE", "URL")}
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "demo"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**env, **more},
        cwd=ROOT,
        start_new_session=True,
    )


def _namespace(cluster: Cluster) -> str:
    return cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found").strip()


@pytest.mark.cluster
@pytest.mark.matrix
def test_quitting_at_the_first_gate_leaves_nothing(cluster: Cluster) -> None:
    """`q` ends the demo with its table, exit code 0, and without its namespace."""
    process = _start()
    said, _ = process.communicate("q\n", timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert "approve stage 2 (canary-10)?" in said
    assert re.search(r"^0 of [\d,]+ requests lost\.$", said, re.MULTILINE), said
    assert not _namespace(cluster)


@pytest.mark.cluster
@pytest.mark.matrix
def test_ctrl_c_leaves_nothing(cluster: Cluster) -> None:
    """Interrupted while the tool works, the demo ends the tool in order, removes its namespace and exits with 130."""
    process = _start(YES="1")
    assert process.stdout is not None
    for line in process.stdout:
        if "wait: canary Ready" in line:
            break
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, said
    assert "Cancelled." in said
    assert time.monotonic() - began < LIMIT_S
    assert not _namespace(cluster)


@pytest.mark.cluster
@pytest.mark.matrix
def test_the_whole_demo(cluster: Cluster, tmp_path: Path) -> None:
    """Seven stages, a bad version and its rollback: nothing lost, exit code 0, and a picture of it."""
    process = _start(YES="1")
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    for expected in ("6 -> 7 finish", "1 -> 2 with 85, never Ready", "rollback of 85", "error: Canary is not Ready"):
        assert expected in said
    assert re.search(r"^0 of [\d,]+ requests lost\.$", said, re.MULTILINE), said
    assert not _namespace(cluster)
