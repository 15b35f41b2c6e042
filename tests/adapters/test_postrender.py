"""The post-renderer: Helm writes what was checked, or nothing; and each hook runs when it is due."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm_canary.composing import Writing
from helm_canary.postrender import DIFFERENT, FILE, post_render
from helm_canary.writing import PYTHON, PostRenderer

CHART = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  annotations: {postrenderer.helm.sh/postrender-filename: shop/templates/settings.yaml}
data: {a: "1"}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  annotations:
    postrenderer.helm.sh/postrender-filename: shop/templates/migrate.yaml
    helm.sh/hook: pre-install, pre-upgrade
---
apiVersion: batch/v1
kind: Job
metadata: {name: smoke, annotations: {helm.sh/hook: "post-install,post-upgrade"}}
---
apiVersion: v1
kind: Pod
metadata: {name: check, annotations: {helm.sh/hook: test}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: clean, annotations: {helm.sh/hook: "pre-upgrade,post-delete"}}
"""
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
STEP: dict[str, Any] = {"objects": None, "expected": {}, "hooks": None, "done": (), "stored": (), "namespace": "shop"}


def rendered(**step: Any) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """What is written, by `KIND/NAME`, and what is different."""
    text, different = post_render(CHART, STEP | step)
    things = list(yaml.safe_load_all(text))
    return {f"{thing['kind']}/{thing['metadata']['name']}": thing for thing in things}, different


def hooks(things: dict[str, dict[str, Any]]) -> dict[str, str]:
    annotations = {name: thing["metadata"].get("annotations") or {} for name, thing in things.items()}
    return {name: str(found["helm.sh/hook"]) for name, found in annotations.items() if "helm.sh/hook" in found}


def test_what_is_written_is_what_was_checked() -> None:
    """Whatever the chart renders: its own objects are left out, those of the step are there."""
    other = {"kind": "Service", "metadata": {"name": "shop"}}

    things, different = rendered(objects=[other])

    assert things["Service/shop"] == other
    assert "ConfigMap/settings" not in things
    assert not different


def test_an_installation_writes_what_the_chart_renders() -> None:
    """Without the note that Helm makes of the template's file."""
    things, different = rendered(expected={"ConfigMap/settings": SETTINGS})

    assert things["ConfigMap/settings"] == SETTINGS
    assert not different


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        ({"ConfigMap/settings": {**SETTINGS, "data": {"a": "2"}}}, "ConfigMap/settings"),
        ({"ConfigMap/missing": SETTINGS}, "ConfigMap/missing"),
    ],
)
def test_a_rendering_that_is_not_what_was_checked_is_named(expected: dict[str, Any], name: str) -> None:
    """With the template that it comes from, where there is one."""
    _, different = rendered(expected=expected)

    file = "shop/templates/settings.yaml" if name == "ConfigMap/settings" else ""
    assert different == [{"name": name, "file": file}]


@pytest.mark.parametrize("nothing", [{"annotations": None}, {"annotations": {}}, {"labels": None}])
def test_what_is_nothing_to_the_api_server_is_no_difference(nothing: dict[str, Any]) -> None:
    """Helm's own reader and writer of YAML drop or keep empty maps as they like."""
    expected = {**SETTINGS, "metadata": {**SETTINGS["metadata"], **nothing}}  # type: ignore[dict-item]

    assert rendered(expected={"ConfigMap/settings": expected})[1] == []


EVERY = {
    "Job/migrate": "pre-install, pre-upgrade",
    "Job/smoke": "post-install,post-upgrade",
    "Pod/check": "test",
    "Job/clean": "pre-upgrade,post-delete",
}


@pytest.mark.parametrize(
    ("due", "done", "expected"),
    [
        (None, (), EVERY),
        (
            {"pre-install": "pre-install"},
            (),
            {"Job/migrate": "pre-install", "Pod/check": "test", "Job/clean": "post-delete"},
        ),
        (
            {"post-install": "post-upgrade"},
            (),
            {"Job/smoke": "post-upgrade", "Pod/check": "test", "Job/clean": "post-delete"},
        ),
        (
            {"pre-upgrade": "pre-upgrade"},
            (),
            {"Job/migrate": "pre-upgrade", "Pod/check": "test", "Job/clean": "post-delete,pre-upgrade"},
        ),
        (
            {"pre-upgrade": "pre-upgrade"},
            ("Job/migrate", "Job/clean"),
            {"Pod/check": "test", "Job/clean": "post-delete"},
        ),
    ],
    ids=["no hooks run", "an installation", "after its pods are Ready", "an upgrade", "a Job that ended already"],
)
def test_a_hook_has_the_events_that_are_due(
    due: dict[str, str] | None, done: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Hooks for tests and deletions stay with the release in every step."""
    assert hooks(rendered(hooks=due, done=done)[0]) == expected


def test_a_rollback_keeps_the_stored_hooks() -> None:
    """It renders no chart, and `helm test` and `helm uninstall` go on working."""
    stored = {"kind": "Pod", "metadata": {"name": "stored", "annotations": {"helm.sh/hook": "test"}}}

    text, _ = post_render("", STEP | {"objects": [SETTINGS], "stored": [stored]})

    assert [thing["metadata"]["name"] for thing in yaml.safe_load_all(text)] == ["settings", "stored"]


@pytest.mark.parametrize(
    "text", ["on", "0644", "1e3", "null", "a\u0085b", "\u2028", "\U0001f600", '"quoted" \\ #x', "a: b", "|", ""]
)
def test_texts_come_through_as_texts(text: str) -> None:
    """What YAML would take for a number, a boolean or a comment is a text for Helm, too."""
    made, _ = post_render("", STEP | {"objects": [{**SETTINGS, "data": {"a": text}}]})

    assert yaml.safe_load(made)["data"]["a"] == text


def run(folder: Path, writing: Writing, given: str) -> subprocess.CompletedProcess[bytes]:
    """As Helm starts it: nothing but the plugin's own words and the variable."""
    renderer = PostRenderer(folder=folder)
    renderer.prepare(writing, "shop")
    plugin = folder / "plugins/helm-canary-writer"
    assert yaml.safe_load((plugin / "plugin.yaml").read_text())["runtimeConfig"]["platformCommand"]
    assert (plugin / "step.json").stat().st_mode & 0o777 == 0o600
    command = [renderer.environment()[PYTHON], "-I", str(plugin / "run.py"), str(plugin)]
    return subprocess.run(command, input=given.encode(), capture_output=True, env={}, check=False)


def test_the_plugin_is_a_process_of_its_own(tmp_path: Path) -> None:
    """It needs nothing of the environment, ends with an error where anything differs, and says what in a file of its own."""
    folder = tmp_path / "with a space"
    folder.mkdir()

    good = run(folder, Writing(objects=(SETTINGS,)), CHART)
    assert (good.returncode, good.stderr) == (0, b"")
    assert b"migrate" in good.stdout
    assert PostRenderer(folder=folder).different() == []

    bad = run(folder, Writing(objects=(SETTINGS,), expected={"ConfigMap/settings": {}}), CHART)
    assert (bad.returncode, bad.stdout) == (DIFFERENT, b"")
    assert PostRenderer(folder=folder).different() == [
        {"name": "ConfigMap/settings", "file": "shop/templates/settings.yaml"}
    ]
    assert json.loads((folder / "plugins/helm-canary-writer/step.json").read_text())["namespace"] == "shop"
    assert sys.executable in PostRenderer(folder=folder).environment().values()
    assert FILE.encode() not in good.stdout
