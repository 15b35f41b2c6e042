"""Charts that seeds make, without a cluster: each is planned whole, or refused for what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .generator import Features, features
from .judging import check_plans, check_refused, judge

SEEDS = range(200)
AT_ONCE = 20


@pytest.mark.parametrize("first", SEEDS[::AT_ONCE])
def test_a_made_chart_is_planned_or_refused(first: int, tmp_path: Path) -> None:
    """What a chart is made of says whether it is planned or refused, and with which words; no chart is an internal error."""
    wrong = []
    for seed in range(first, first + AT_ONCE):
        made = features(seed)
        try:
            _check(made, tmp_path / str(seed))
        except AssertionError as error:
            wrong.append(f"python -m tests.corpus {made}\n{error}")
    assert not wrong, "\n\n".join(wrong)


def _check(made: Features, folder: Path) -> None:
    verdict = judge(made.write(folder))
    if made.refused is None or made.refused.by != "plan":
        check_plans(verdict)
    else:
        check_refused(verdict)
        assert [word for word in made.refused.says if word not in verdict.told] == [], verdict.text


def test_a_seed_makes_one_chart(tmp_path: Path) -> None:
    """The same seed makes the same chart, file for file, and another seed another one."""
    first, again, other = (
        {path.relative_to(folder): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}
        for folder in (features(seed).write(tmp_path / name) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    )
    assert first == again
    assert first != other
