"""Text that tries to be more than text, on its way through the action: every input, and what a cluster and a chart can say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from helm_canary.core.model import Result
from helm_canary.outcome import Outcome
from helm_canary.report import outputs
from tests.github.act import OURS, ROOT, Ended, Hub, ended, hub

from .service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(900)]

# Ours, besides the outputs: what one step of the action tells the next.
INNER = {"python", "helm", "kubectl", "attempt"}
WITHOUT_TITLE = {"group", "endgroup", "add-mask"}
COMMANDS = {"error", "warning", *WITHOUT_TITLE}
NOTHING = Outcome(result=Result.NOTHING, changed=False, plan=None, observed=None, traffic="unknown", proof="unproven")


def hostile(marker: Path) -> str:
    """For a shell, a file of outputs, a log and a page: each line tries something else."""
    return "\n".join(
        (
            f'x"; touch {marker} #',
            f"$(touch {marker})`touch {marker}`' ; touch {marker} ; '",
            "${{ github.token }}",
            "::set-output name=stolen::1",
            "::add-path::/stolen",
            "::error title=stolen::x",
            "##[set-env name=STOLEN;]1",
            "stolen=1",
            "stolen<<EOF",
            "1",
            "EOF",
            "</details><h1>stolen</h1>",
            "# stolen",
            "```",
            "::stop-commands::stolen",
        )
    )


@pytest.fixture
def github(fresh: Service, tmp_path: Path) -> Iterator[Hub]:
    """A repository for a service that is not installed yet."""
    with hub(fresh, tmp_path) as made:
        yield made


def check_nothing_was_stolen(run: Ended, marker: Path) -> None:
    """No command ran, and the runner took nothing for a command, an output or a part of the page that is not ours."""
    assert not marker.exists()
    pages = 0
    for entry in run.entries:
        command = entry.get("command", "")
        if command == "summary":
            pages += 1
            check_page(entry["content"])
        elif command == "set-output":
            assert entry["name"] in {*INNER, *outputs(NOTHING)}, entry
        elif command:
            assert command in COMMANDS, entry
            assert command in WITHOUT_TITLE or entry["kvPairs"]["title"].startswith("helm-canary"), entry
    assert pages


def check_page(page: str) -> None:
    """No heading and no tag of it is the hostile text's own."""
    tokens = MarkdownIt().parse(page)
    for token, content in pairwise(tokens):
        assert token.type != "heading_open" or content.content.startswith("helm&#45;canary"), page
        assert token.type != "html_block", page


def workflow(steps: list[dict[str, Any]]) -> str:
    jobs = {"all": {"name": "all", "runs-on": "ubuntu-latest", "steps": steps}}
    return yaml.safe_dump({"name": "Run", "on": "push", "jobs": jobs})


def test_a_hostile_value_in_every_input(github: Hub, tmp_path: Path) -> None:
    """Each input of the action by turns holds a text for a shell, for the runner's files and its log: it stays a value."""
    service, marker = github.service, tmp_path / "marker"
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    plain = {
        "command": "stage",
        "stage": "2",
        "release": "productpage",
        "namespace": service.namespace,
        "values": str(service.values_file()),
        "tag": "83",
        "dry-run": "true",
        "timeout": "5s",
        "kubeconfig": str(service.cluster.kubeconfig),
    }
    steps = [
        {"id": f"on-{name}", "uses": f"{OURS}@v0", "continue-on-error": True, "with": {**plain, name: hostile(marker)}}
        for name in action["inputs"]
    ]
    run = ended(github.start_file(workflow(steps)))
    assert run.code == 0, run.log
    began = {entry["stepID"][0] for entry in run.entries if entry["msg"] == "⭐ Run Main Run"}
    assert began == {f"on-{name}" for name in action["inputs"]}
    check_nothing_was_stolen(run, marker)


def test_hostile_words_of_a_chart_a_pod_and_helm(github: Hub, tmp_path: Path) -> None:
    """NOTES, annotations, a pod's log and an error of Helm are shown and shown only; outputs and page stay ours."""
    service, marker = github.service, tmp_path / "marker"
    text = hostile(marker)
    chart = tmp_path / "chart"
    shutil.copytree(service.chart, chart)
    (chart / "templates/NOTES.txt").write_text(text.replace("${{ github.token }}", "") + "\n", encoding="utf-8")
    (chart / "templates/zz.yaml").write_text(
        '{{ if eq .Values.canaryDeployment.image.tag "broken" }}{{ fail .Values.pod.env.SAY }}{{ end }}\n',
        encoding="utf-8",
    )
    pod = {"env": {"SAY": text, "NEVER_READY": "1", "START_DELAY_MS": "300"}, "annotations": {"stolen": text}}
    values = tmp_path / "values.yaml"
    place = {"values": str(values), "chart": str(chart), "require-approval": False, "timeout": "15s"}

    def stage(number: int, tag: str) -> Ended:
        inputs = {**place, "stage": str(number), "goes-back": "" if number == 1 else "failure"}
        return github.run("stage", tag, inputs)

    values.write_text(yaml.safe_dump({**service.values, "pod": {"annotations": {"stolen": text}}}), encoding="utf-8")
    first = stage(1, "83")
    assert first.code == 0, first.log
    values.write_text(yaml.safe_dump({**service.values, "pod": pod}), encoding="utf-8")
    never = stage(2, "84")
    assert never.code == 1
    assert "log of" in never.log, never.log
    assert "stolen=1" in never.log, never.log
    assert list(never.of("Rollback").values()) == ["success"], never.log
    broken = stage(2, "broken")
    assert broken.code == 1
    assert "stolen=1" in broken.log, broken.log
    for run in (first, never, broken):
        check_nothing_was_stolen(run, marker)
