"""Wrong input that only the cluster, helm or the chart can show: exit 3, three parts, and nothing was changed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.charts import schema_without_release, write_chart
from tests.cli.program import CHART, Service, check_refusal
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def empty(make_service: Callable[..., Service]) -> Service:
    """A namespace in which nothing is installed."""
    return make_service("empty")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arguments (`{values}` stands for the service's values file), and what is said."""

    arguments: tuple[str, ...]
    said: str
    code: int = 3
    env: dict[str, str] = field(default_factory=dict)


def stage(name: str, tag: str = "84", chart: Path | str = CHART, values: str = "{values}") -> tuple[str, ...]:
    return ("stage", name, "--tag", tag, "--chart", str(chart), "--values", values)


AT_STEADY = {
    "a stage skipped": Case(arguments=stage("3"), said="no release of it is under way"),
    "a stage skipped, by name": Case(arguments=stage("promote"), said="no release of it is under way"),
    "the last stage of a new release": Case(arguments=stage("finish"), said="no release of it is under way"),
    "a rollback of the first installation": Case(arguments=("rollback",), said="it was the first installation"),
    "no such folder": Case(arguments=stage("2", chart="/nowhere/chart"), said="/nowhere/chart"),
    "a folder without a chart": Case(arguments=stage("2", chart="/etc"), said="The folder holds no Helm chart"),
    "no such chart of a repository": Case(arguments=stage("2", chart="nowhere/page"), said="nowhere"),
    "no such values file": Case(
        arguments=stage("2", values="/nowhere/values.yaml"), said="A file or folder that was given does not exist"
    ),
    "a value that the chart does not have": Case(
        arguments=(*stage("2"), "--set", "pod.nonsense=1"), said="A value is misspelt or of the wrong type"
    ),
    "a value that the chart does not have, to roll back": Case(
        arguments=("rollback", "--set", "pod.nonsense=1"), said="it was the first installation"
    ),
}


@pytest.mark.parametrize("case", AT_STEADY.values(), ids=[*AT_STEADY])
def test_at_steady_nothing_is_changed(case: Case, steady: Service) -> None:
    """A command that cannot be carried out on a steady release is refused, and the release is as before."""
    before = steady.versions()

    ran = steady.json(*(word.replace("{values}", str(steady.values)) for word in case.arguments))

    check_refusal(ran, case.code, "refused", case.said)
    assert steady.versions() == before


ON_NOTHING = {
    "canary-10": Case(arguments=stage("2"), said="the release is not installed"),
    "finish": Case(arguments=stage("7"), said="the release is not installed"),
    "rollback": Case(arguments=("rollback",), said="There is no Helm release 'productpage'"),
    "status": Case(arguments=("status",), said="There is no Helm release 'productpage'"),
    "verify": Case(arguments=("verify",), said="There is no Helm release 'productpage'"),
}


@pytest.mark.parametrize("case", ON_NOTHING.values(), ids=[*ON_NOTHING])
def test_on_nothing_nothing_is_made(case: Case, empty: Service) -> None:
    """Where nothing is installed only `stage 1` does anything."""
    before = empty.versions()

    ran = empty.json(*(word.replace("{values}", str(empty.values)) for word in case.arguments))

    check_refusal(ran, 3, "refused", case.said)
    assert empty.versions() == before


PLACES = {
    "no such namespace": (("--namespace", "nowhere"), "There is no namespace 'nowhere'"),
    "no such context": (("--context", "nowhere"), "nowhere"),
    "no such kubeconfig": (("--kubeconfig", "/nowhere/config"), "/nowhere/config"),
    "a kubeconfig that is none": (("--kubeconfig", "/etc/passwd"), "/etc/passwd"),
    "an account that may not": (("--context", "viewer"), "The account is not allowed to do this"),
}


@pytest.mark.parametrize("command", ["stage", "rollback"])
@pytest.mark.parametrize("place", PLACES.values(), ids=[*PLACES])
def test_another_place_is_refused(place: tuple[tuple[str, ...], str], command: str, steady: Service) -> None:
    """A namespace, context, kubeconfig or account that does not fit is named."""
    more, said = place
    words = stage("1", "83", values=str(steady.values)) if command == "stage" else ("rollback",)

    ran = steady.json(*words, *more)

    check_refusal(ran, 3, "refused", said)


# What is wrong with a chart -> the changed files, and what is said. What does not fit: tests/cli/misfits.
CHARTS: dict[str, tuple[dict[str, str | None], str]] = {
    "a schema that forbids `release`": (
        {"values.schema.json": schema_without_release()},
        '"release": {"type": "object"}',
    ),
    "a template that helm cannot run": ({"templates/x.yaml": "a: {{ .Values.no.such.path }}"}, "at small/templates/x.yaml:1:"),
    "no YAML": ({"templates/x.yaml": "a: [1\nb: }"}, "at small/templates/x.yaml."),
}  # fmt: skip


@pytest.mark.parametrize("chart", CHARTS.values(), ids=[*CHARTS])
def test_a_chart_that_does_not_fit_installs_nothing(
    chart: tuple[dict[str, str | None], str], empty: Service, tmp_path: Path
) -> None:
    """What is missing in a chart is said before anything is written."""
    changes, said = chart
    before = empty.versions()

    ran = empty.json("stage", "1", "--tag", "84", "--chart", str(write_chart(tmp_path / "small", changes)))

    check_refusal(ran, 3, "refused", said)
    assert empty.versions() == before


def test_a_path_in_a_template_is_no_missing_file(empty: Service, tmp_path: Path) -> None:
    """A template's error is not explained as a path that was given and does not exist."""
    chart = write_chart(tmp_path / "small", {"templates/x.yaml": "a: {{ .Values.no.such.path }}"})

    ran = empty.json("stage", "1", "--tag", "84", "--chart", str(chart))

    assert "does not exist" not in ran.answer["error"]["means"]


OWN = {"productionDeployment": {"image": {"tag": "84"}}}
VALUES: dict[str, tuple[dict[str, Any], int]] = {
    "release with a pod template": ({"release": {"pods": {"production": {"spec": {}}}}}, 2),
    "release with a word of the record": ({"release": {"reached": "finish"}}, 2),
    "release as text": ({"release": "mine"}, 2),
    "a track as a number": ({"productionDeployment": 5}, 3),
    "a track as a list": ({"canaryDeployment": [1]}, 3),
    "an image as text": ({"canaryDeployment": {"image": "localhost/page:84"}}, 3),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=[*VALUES])
def test_values_files_may_not_take_the_plans_place(
    values: tuple[dict[str, Any], int], steady: Service, tmp_path: Path
) -> None:
    """A values file that sets `release`, or makes something else of a track, is refused."""
    content, code = values
    before = steady.versions()
    path = tmp_path / "more.yaml"
    path.write_text(json.dumps(content))

    ran = steady.stage("2", "84", "--values", str(path))

    check_refusal(ran, code, "usage" if code == 2 else "refused")
    assert steady.versions() == before


def test_weights_and_tags_of_a_values_file_give_way(steady: Service, tmp_path: Path) -> None:
    """A values file may hold weights and tags, as the original's does: the plan's own win."""
    path = tmp_path / "more.yaml"
    tracks = {"weight": 50, "image": {"tag": 99}}
    path.write_text(json.dumps({"productionDeployment": tracks, "canaryDeployment": {**tracks, "replicaCount": 7}}))

    ran = steady.stage("1", "83", "--values", str(path))

    assert ran.code == 0, ran
    assert (ran.answer["changed"], ran.answer["production-tag"], ran.answer["canary-weight"]) == (False, "83", 0)


# --- programs ---------------------------------------------------------------------------------------------------------


def folder_with(folder: Path, **programs: Path | str | None) -> str:
    """A folder to be the whole PATH: name -> the program it stands for, the text of a script, or nothing."""
    folder.mkdir()
    for name, program in programs.items():
        if isinstance(program, Path):
            (folder / name).symlink_to(program)
        elif program is not None:
            (folder / name).write_text(program)
    return str(folder)


def test_helm_3_is_refused(steady: Service, tmp_path: Path) -> None:
    """With Helm 3 first on PATH a stage changes nothing and says what to install."""
    before = steady.versions()
    path = (
        folder_with(tmp_path / "bin", helm=ensure("helm3")["helm3"]) + os.pathsep + steady.cluster.environment()["PATH"]
    )

    ran = steady.stage("2", "84", env={"PATH": path})

    check_refusal(ran, 3, "refused", "Helm 4 is needed", "Install Helm 4")
    assert steady.versions() == before


BROKEN = {
    "missing": (None, 0, "was not found"),
    "not executable": ("#!/bin/sh\n", 0o644, "could not be started: Permission denied"),
    "no program": ("no program", 0o755, "could not be started: Exec format error"),
}


@pytest.mark.parametrize("name", ["helm", "kubectl"])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=[*BROKEN])
def test_a_broken_program_is_named(
    broken: tuple[str | None, int, str], name: str, steady: Service, tmp_path: Path
) -> None:
    """helm or kubectl that is missing, or no program, is told like any other refusal."""
    text, mode, said = broken
    found = {
        one: Path(shutil.which(one, path=steady.cluster.environment()["PATH"]) or "") for one in ("helm", "kubectl")
    }
    path = folder_with(tmp_path / "bin", **{**found, name: text})
    if text is not None:
        (tmp_path / "bin" / name).chmod(mode)
    before = steady.versions()

    ran = steady.stage("2", "84", env={"PATH": path})

    check_refusal(ran, 3, "refused", f"The program `{name}` {said}")
    assert steady.versions() == before


def test_helm_is_kept_at_the_cluster_that_is_read(steady: Service) -> None:
    """Variables that send helm to another cluster or account than kubectl have no say."""
    elsewhere = {"HELM_KUBECONTEXT": "viewer", "HELM_NAMESPACE": "default", "HELM_KUBEAPISERVER": "https://127.0.0.1:1"}

    ran = steady.stage("1", "83", env=elsewhere)

    assert ran.code == 0, ran


def test_another_storage_of_helm_is_refused(steady: Service) -> None:
    """Where helm keeps its releases elsewhere, the release under way could not be seen."""
    check_refusal(steady.stage("2", "84", env={"HELM_DRIVER": "configmap"}), 3, "refused", "HELM_DRIVER")
