"""Values files as helm takes them: several in one option, in quotes, from a URL. What they may not set is found in each."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import CHART, Ran, check_refusal, run
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def planned(*values: str, variable: str = "") -> Ran:
    """A plan without a cluster, which renders the chart with these values."""
    given = [word for value in values for word in ("--values", value)]
    words = ("plan", "2", "--release", "page", "--chart", str(CHART), "--tag", "84", "--from", "83", "--output", "json")
    env = {"PATH": str(ensure("helm")["helm"].parent), "NO_PROXY": "127.0.0.1"}
    return run(*words, *given, env=env | ({"HELM_CANARY_VALUES": variable} if variable else {}))


def replicas(ran: Ran) -> set[int]:
    """What the plan's commands set for production."""
    assert ran.code == 0, ran
    (plan,) = ran.answer["plans"]
    return {int(text.split("productionDeployment.replicaCount=")[1].split(",")[0]) for text in plan["commands"]}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """`three` and `four` set production's replicas; the third takes what is the program's own; one name has a comma."""
    content = {
        "three": {"productionDeployment": {"replicaCount": 3}},
        "four": {"productionDeployment": {"replicaCount": 4}},
        "own": {"release": {"pods": {"production": {}}}},
        "with, comma": {"productionDeployment": {"replicaCount": 5}},
    }
    for name, values in content.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(values))
    return {name: str(tmp_path / f"{name}.yaml") for name in content}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The files once more, from a web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_files_that_commas_separate_are_each_a_file(files: dict[str, str]) -> None:
    """As with helm, the later one wins; by the variable too."""
    assert replicas(planned(f"{files['three']},{files['four']}")) == {4}
    assert replicas(planned(f"{files['four']},{files['three']}")) == {3}
    assert replicas(planned(variable=f"{files['three']},{files['four']}")) == {4}
    assert replicas(planned(f"{files['three']},{files['four']}", files["three"])) == {3}


def test_a_name_with_a_comma_stands_in_quotes(files: dict[str, str]) -> None:
    """It is one file to helm then, whatever it is given beside."""
    assert replicas(planned(f'"{files["with, comma"]}"')) == {5}
    assert replicas(planned(f'{files["three"]},"{files["with, comma"]}"')) == {5}


@pytest.mark.parametrize("given", ["{own}", "{three},{own}", '{three},"{own}"', "{own},{three}"])
def test_a_file_that_sets_the_record_is_found_among_several(given: str, files: dict[str, str]) -> None:
    """Each is looked at, wherever it stands."""
    check_refusal(planned(given.format(**files)), 2, "usage", "own.yaml sets `release`")


def test_a_url_is_read_by_helm_and_looked_at(files: dict[str, str], address: str) -> None:
    """What it holds counts, and what it may not set is refused."""
    assert replicas(planned(f"{files['three']},{address}/four.yaml")) == {4}
    check_refusal(planned(f"{files['three']},{address}/own.yaml"), 2, "usage", f"{address}/own.yaml sets `release`")


WRONG = {
    "standard input behind a file": ("{three},-", "--values '-' is wrong"),
    "standard input with a space": ("{three}, -", "--values ' -' is wrong"),
    "nothing behind a comma": ("{three},", "A name is missing before or behind a comma"),
    "quotes that do not end": ('"{three}', "helm cannot split it"),
}


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=[*WRONG])
def test_what_is_no_row_of_files_is_wrong(given: str, said: str, files: dict[str, str]) -> None:
    """Before anything is started."""
    check_refusal(planned(given.format(**files)), 2, "usage", said)
