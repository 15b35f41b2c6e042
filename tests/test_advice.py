"""Every message of the program has a row in tests/advice/advice.yaml, and what it advises is taken by a test and arrives."""

from __future__ import annotations

import ast
import os
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from helm_canary.core.model import Reason, Refusal, WantedStage
from helm_canary.core.planner import plan
from tests.advice.inventory import Site, sites
from tests.advice.running import Runner, check_taken, lines
from tests.advice.table import ROOT, WAYS, Row, rows
from tests.advice.taking import check_arrives
from tests.core import cases
from tests.core import world as sim
from tests.e2e.test_advice import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SITES, ROWS = sites(), rows()
REFUSED = [(case, made) for case in cases.all_cases() if isinstance(made := plan(case.observed, case.wanted), Refusal)]


def key(one: Site | Row) -> tuple[str, str]:
    return one.where, one.begins


def test_every_message_has_one_row() -> None:
    """An error without a row, a row without its error, and two rows for one are found."""
    made, told = sorted(map(key, SITES)), sorted(map(key, ROWS))
    assert [one for one in made if one not in told] == [], "a new error needs a row in tests/advice/advice.yaml"
    assert [one for one in told if one not in made] == [], "a row of an error that the program does not have"
    assert len(told) == len(set(told))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_knows_the_commands_of_its_advice(row: Row) -> None:
    """What stands in backticks in an advice is in its row, so that a changed advice is looked at again."""
    advised = {command for site in SITES if key(site) == key(row) for command in site.commands}
    assert set(row.commands) == advised


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_says_where_its_advice_is_taken(row: Row) -> None:
    """Each way is one that is known; only an advice that no test can take has a reason instead, and it writes nothing."""
    assert row.shown, "nothing takes this advice"
    assert set(row.shown) <= WAYS
    assert set(row.shown) == {"none"} or "none" not in row.shown
    assert not row.writes or row.in_cluster, "an advice that writes is taken on the cluster"


NODES = sorted({test for row in ROWS for test in row.shown.get("tests", [])})


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_is_named_exists(node: str) -> None:
    """A row names tests by file and function."""
    path, _, name = node.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}


def test_a_scenario_that_is_named_exists() -> None:
    """A row names scenarios of tests/e2e/test_advice.py by their names, and each scenario is of a row."""
    named = {name for row in ROWS for name in row.shown.get("cluster", [])}
    assert named == set(SCENARIOS)


# --- refusals of the planner --------------------------------------------------------------------------------------------


# What is advised while Helm uninstalls are commands of Helm's, which tests/e2e/test_installing.py runs.
PLANNED = [(case, refusal) for case, refusal in REFUSED if refusal.reason is not Reason.UNINSTALLING]


@pytest.mark.parametrize(("case", "refusal"), PLANNED, ids=[case.name for case, _ in PLANNED])
def test_the_advice_of_a_refusal_arrives(case: cases.Case, refusal: Refusal) -> None:
    """Every way that is advised can be planned, is judged sound, and leads to what was wanted."""
    check_arrives(case.observed, case.wanted, refusal)


def test_each_refusal_of_the_planner_has_a_case() -> None:
    """The cases of tests/core reach every refusal of the planner, so that the test above takes the advice of each."""
    happened = [refusal.happened for _, refusal in REFUSED]
    unmet = [row for row in ROWS if "plans" in row.shown and not any(matches(row, text) for text in happened)]
    assert list(map(str, unmet)) == []


def matches(row: Row, text: str) -> bool:
    """Whether a message is the one of a row."""
    return row.pattern.match(text) is not None


def _refused_in_small_worlds(every: int) -> Iterator[tuple[sim.World, WantedStage, Refusal]]:
    """Every stage, of the release that the record names and of another one, in worlds that others may have changed."""
    weights = (10, 100)
    for world in islice(sim.every_small_world(weights, 2), 0, None, every):
        for number in range(1, len(weights) + 5):
            for version in (sim.NEW, sim.OTHER):
                wanted = WantedStage(number=number, version=version, weights=weights, replica_count=2)
                made = plan(sim.observe(world), wanted)
                if isinstance(made, Refusal):
                    yield world, wanted, made


@pytest.mark.parametrize("every", [97, pytest.param(1, marks=pytest.mark.matrix)])
def test_the_advice_arrives_from_wherever_a_release_is(every: int) -> None:
    """In every small state in which a stage is refused, each way that is advised can be taken and leads on."""
    found = 0
    for world, wanted, refusal in _refused_in_small_worlds(every):
        found += 1
        try:
            check_arrives(sim.observe(world), wanted, refusal)
        except AssertionError as error:
            raise AssertionError(f"{world}\n{wanted}\n{refusal}\n{error}") from None
    assert found > 1000


# --- command lines, files and tools -------------------------------------------------------------------------------------

CASES = [(row, number) for row in ROWS for number in range(len(row.shown.get("cases", [])))]


@pytest.mark.parametrize(("row", "number"), CASES, ids=[f"{row} {number}" for row, number in CASES])
def test_a_command_line_that_is_corrected_gets_past_the_message(
    row: Row, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong line, file, variable or tool leads to the message; changed as the message says, it does not."""
    runner, environment = Runner(folder=tmp_path, monkeypatch=monkeypatch, capsys=capsys), dict(os.environ)
    wrong, right = lines(row.shown["cases"][number])

    said = runner.run(wrong, environment)
    assert said.is_of(row.pattern), said
    check_taken(said.error["do-next"], wrong, right)

    said = runner.run(right, environment)
    assert not said.is_of(row.pattern), said
