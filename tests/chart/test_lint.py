"""Helm's and Istio's own checks of what the chart renders."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.chart.render import CHART, TIMEOUT_S, JSONObject, Situation, is_istio, render
from tests.chart.situations import CI_VALUES, rendered_situations

if TYPE_CHECKING:
    from pathlib import Path

SITUATIONS = rendered_situations()


@pytest.mark.parametrize("values", [CHART / "values.yaml", *CI_VALUES], ids=lambda path: path.stem)
def test_helm_lints(helm: Path, values: Path) -> None:
    """`helm lint --strict` finds nothing, in every situation that the chart is made for."""
    done = subprocess.run(
        [helm, "lint", "--strict", CHART, f"--values={values}"], capture_output=True, text=True, timeout=TIMEOUT_S
    )

    assert done.returncode == 0, done.stdout + done.stderr


def validate(istio_validate: Path, documents: list[JSONObject]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [istio_validate], input=yaml.safe_dump_all(documents), capture_output=True, text=True, timeout=TIMEOUT_S
    )


@pytest.mark.parametrize("name", SITUATIONS)
def test_istio_accepts(helm: Path, istio_validate: Path, name: str) -> None:
    """Istio refuses and warns of nothing that the chart renders."""
    documents = [one for one in render(helm, SITUATIONS[name]).values() if is_istio(one)]

    assert {"DestinationRule", "VirtualService"} == {str(one["kind"]) for one in documents} - {"Gateway"}
    done = validate(istio_validate, documents)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_istio_is_asked(helm: Path, istio_validate: Path) -> None:
    """A VirtualService that Istio refuses fails, so the test above can."""
    document = render(helm, Situation())["VirtualService/product-page-virtual-service"]
    assert isinstance(document["spec"], dict)
    document["spec"]["hosts"] = ["*"]

    assert validate(istio_validate, [document]).returncode == 1
