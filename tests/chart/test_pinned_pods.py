"""A pod template that the tool pins comes out as it went in: a rollback must bring back the very same pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from tests.chart.render import JSON, JSONObject, Situation, at, render
from tests.chart.situations import rendered_situations

if TYPE_CHECKING:
    from pathlib import Path

TRACKS = {"production": "false", "canary": "true"}
NASTY_TEXTS = [
    "", " ", "0123", "1e5", "1.10", "true", "null", "~", "yes", "0x1F", "1_000", "12:30:45", "2026-01-01", "-", "- a",
    "a: b", "# no comment", "{{ .Values.service.name }}", "<a & 'b'>", '"', "\\", "%", "@", "`", "|", ">", "!!str a",
    "*a", "&a", "a\n", "a\n\nb\n  c", "\n", "\ttab", "trailing ", "é", "\u2028", "\U0001f6a2", "word " * 100,
]  # fmt: skip
NUMBERS = [0, 1, -1, 30, 9080, 1_000_000, 16_777_217, 1_000_660_000, 2**31, 2**32, 10**12, 2**53 - 1]


def deployment(track: str) -> str:
    return "Deployment/productpage" + ("canary" if track == "canary" else "")


def rendered_pod(helm: Path, track: str, pod: JSONObject) -> JSON:
    situation = Situation(values={"release": {"pods": {track: pod}}})
    return at(render(helm, situation)[deployment(track)], "/spec/template")


@pytest.mark.parametrize("track", TRACKS)
def test_every_text_and_number_survives(helm: Path, track: str) -> None:
    """No text turns into another type, no number into an exponent, nothing empty is lost."""
    pod: JSONObject = {
        "metadata": {
            "labels": {"app": "productpage", "canary": TRACKS[track], "release": "productpage", "1.10": "1.10"},
            "annotations": {f"text-{number}": text for number, text in enumerate(NASTY_TEXTS)},
        },
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "securityContext": {},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "containers": [
                {
                    "name": "productpage",
                    "image": "example/page:0123",
                    "args": list(NASTY_TEXTS),
                    "ports": [{"containerPort": number} for number in NUMBERS],
                    "securityContext": {"runAsUser": 1_000_660_000, "runAsNonRoot": False},
                    "env": [],
                }
            ],
        },
    }

    assert pod == rendered_pod(helm, track, pod)


@pytest.mark.parametrize("name", ["aks-addon-values", "canary-values", "bare-values"])
@pytest.mark.parametrize("track", TRACKS)
def test_what_the_chart_rendered_can_be_pinned(helm: Path, track: str, name: str) -> None:
    """Pinning a track to what the values rendered changes nothing, even when all values change."""
    before = at(render(helm, rendered_situations()[name])[deployment(track)], "/spec/template")

    assert before == rendered_pod(helm, track, cast("JSONObject", before))


def test_pinning_twice_changes_nothing(helm: Path) -> None:
    """What came out of a pin can go into the next one."""
    pod: JSONObject = {"spec": {"containers": [{"name": "a", "image": "b:1"}]}}
    once = cast("JSONObject", rendered_pod(helm, "canary", pod))

    assert once == rendered_pod(helm, "canary", once)
