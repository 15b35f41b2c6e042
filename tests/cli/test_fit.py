"""Which charts fit, judged without a cluster: all that does not is said at once, and the advice, taken, makes it fit."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.fitting import (
    Files,
    Misfit,
    Variant,
    advice,
    fitting,
    misfits,
    page_chart,
    page_chart_with_pods,
    take,
    write,
)
from tests.cli.program import Ran, run
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from pathlib import Path


def plan(files: Files, folder: Path, tag: str = "84") -> Ran:
    helm = ensure("helm")["helm"]
    chart = ("--release", "shop", "--namespace", "shop", "--chart", str(write(files, folder)), "--output", "json")
    return run("plan", "all", *chart, "--tag", tag, "--from", "83", env={"PATH": str(helm.parent)})


@pytest.mark.parametrize("misfit", misfits(), ids=lambda misfit: misfit.name)
def test_the_advice_makes_a_chart_fit(misfit: Misfit, tmp_path: Path) -> None:
    """Everything that does not fit is said at once, with its template, and whoever does what is said has a chart that fits."""
    files = misfit.chart()

    ran = plan(files, tmp_path / "before")

    assert (ran.code, ran.answer["result"]) == (3, "refused"), ran
    details = ran.answer["error"]["details"]
    items = list(advice(details))
    whole = "\n".join(item.what for item in items)
    assert all(said in whole for said in misfit.said), ran
    changes = [item for item in items if item.file != "values.yaml"]
    assert len(changes) == misfit.count, ran
    assert set(misfit.where) <= {item.file for item in changes}, ran
    if misfit.advice:
        for item in items:
            take(files, item)
        after = plan(files, tmp_path / "after")
        assert after.code == 0, f"{after}\n{files}"


@pytest.mark.parametrize("variant", fitting(), ids=lambda variant: variant.name)
def test_a_chart_that_fits_is_not_refused(variant: Variant, tmp_path: Path) -> None:
    """Whatever else a chart has, it is planned, with the tag that was asked for as the version's."""
    ran = plan(variant.chart(), tmp_path / "chart", tag=variant.tag)

    assert ran.code == 0, ran
    steps = [step for plan in ran.answer["plans"] for step in plan["steps"]]
    assert any(f"pods at {variant.tag})" in step for step in steps), ran


def test_the_pages_chart_with_release_pods_fits(tmp_path: Path) -> None:
    """The page's last snippet, put where it says."""
    assert plan(page_chart_with_pods(), tmp_path / "chart").code == 0


def test_what_helm_create_makes_fits_after_one_round(tmp_path: Path) -> None:
    """The chart that everybody starts from needs one run, not one for each thing that it has not."""
    helm = ensure("helm")["helm"]
    subprocess.run([helm, "create", tmp_path / "shop"], check=True, capture_output=True)
    files = {
        str(path.relative_to(tmp_path / "shop")): path.read_text(encoding="utf-8")
        for path in sorted((tmp_path / "shop").rglob("*"))
        if path.is_file()
    }

    ran = plan(files, tmp_path / "before")

    assert ran.code == 3, ran
    for item in advice(ran.answer["error"]["details"]):
        take(files, item)
    after = plan(files, tmp_path / "after")
    assert after.code == 0, after


@pytest.mark.parametrize("moment", ["canary", "production"])
def test_a_chart_that_stops_by_itself_is_named_with_its_line(moment: str, tmp_path: Path) -> None:
    """`fail` at a moment of a release that the first installation does not show: Helm's template and line, before anything."""
    files = page_chart()
    files["templates/check.yaml"] = (
        f'\n{{{{- if not .Values.{moment}Deployment.weight }}}}{{{{ fail "no weight for the {moment}" }}}}{{{{ end }}}}\n'
    )

    ran = plan(files, tmp_path / "chart")

    assert (ran.code, ran.answer["result"]) == (3, "refused"), ran
    error = ran.answer["error"]
    assert "shop/templates/check.yaml:2:" in error["happened"], ran
    assert f"no weight for the {moment}" in "\n".join(error["details"]), ran
