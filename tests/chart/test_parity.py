"""The eight commands of the chart this one comes from still do what they did."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import yaml

from tests.chart.render import JSON, JSONObject, Situation, at, render

DATA = cast("JSONObject", yaml.safe_load((Path(__file__).parent / "parity.yaml").read_text()))
TRACKS = {"productionDeployment": "productpage", "canaryDeployment": "productpagecanary"}
STRINGS = cast("dict[str, list[list[int]]]", DATA["strings"])


def set_string(tracks: list[list[int]]) -> str:
    """The one argument of `--set` that the command has."""
    return ",".join(
        f"{key}.image.repository={DATA['repository']},{key}.image.tag={tag},{key}.weight={weight},{key}.replicaCount={replicas}"
        for key, (tag, weight, replicas) in zip(TRACKS, tracks, strict=True)
    )


def in_namespace(value: JSON) -> JSON:
    """The expected value with the release's namespace in it."""
    return cast("JSON", yaml.safe_load(yaml.safe_dump(value).replace("NAMESPACE", str(DATA["namespace"]))))


@pytest.mark.parametrize("stage", STRINGS)
def test_a_command_renders_the_same_facts(helm: Path, stage: str) -> None:
    """Names, labels, subsets, tags, weights and replicas are those of the original."""
    tracks = STRINGS[stage]
    objects = render(
        helm,
        Situation(release=str(DATA["release"]), namespace=str(DATA["namespace"]), set=[set_string(tracks)]),
    )

    for name, expected in cast("dict[str, JSONObject]", DATA["expect"]).items():
        assert in_namespace(expected) == {pointer: at(objects[name], pointer) for pointer in expected}
    route = "/spec/http/0/route"
    for number, (deployment, (tag, weight, replicas)) in enumerate(zip(TRACKS.values(), tracks, strict=True)):
        found = objects[f"Deployment/{deployment}"]
        assert replicas == at(found, "/spec/replicas")
        assert f"{DATA['repository']}:{tag}" == at(found, "/spec/template/spec/containers/0/image")
        assert weight == at(objects["VirtualService/product-page-virtual-service"], f"{route}/{number}/weight")
