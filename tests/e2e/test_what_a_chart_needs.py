"""What the page about charts says, on the cluster: its chart is released, and a chart that does not fit installs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.fitting import Files, Misfit, misfits, page_chart, page_chart_with_pods, write
from tests.cluster import Traffic, table

from .conftest import QUICK, Lab
from .service import Service

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE, RPS = "shop", 50
NO_OBJECTS = "deployments,services,virtualservices.networking.istio.io,destinationrules.networking.istio.io,secrets"


def service_of(lab: Lab, files: Files, folder: Path) -> Service:
    """The page's chart in a namespace of its own, with a Gateway that exists already, as the page has it."""
    service = lab.other(write(files, folder), RELEASE)
    spec = {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [service.host]}],
    }
    gateway = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "page"}, "spec": spec}
    lab.cluster.kubectl("--namespace", service.namespace, "apply", "--filename", "-", stdin=json.dumps(gateway))
    return service.having(values={"gateway": "page", "image": {"repository": QUICK}})


def test_the_pages_chart_is_released(lab: Lab, tmp_path: Path) -> None:
    """Copied as it is: through all stages, and back, without a lost request."""
    service = service_of(lab, page_chart(), tmp_path)
    service.install("83")
    with Traffic(lab.cluster, service.host, rps=RPS) as traffic:
        for stage in range(2, 8):
            service.stage(stage, "84").expect(0, "done")
        service.rollback().expect(0, "done")
        moves = traffic.report()
    lab.delete(service.namespace)
    assert sum(move.lost for move in moves) == 0, table(moves)


@pytest.mark.matrix
def test_release_pods_keep_production_through_a_plain_upgrade(lab: Lab, tmp_path: Path) -> None:
    """With the page's snippet, a plain upgrade by a newer chart in mid-release leaves production's pods alone."""
    service = service_of(lab, page_chart_with_pods(), tmp_path / "old")
    service.install("83")
    files = page_chart_with_pods()
    for track in ("production", "canary"):
        name = f"templates/{track}.yaml"
        files[name] = files[name].replace(
            "          ports:", "          env: [{name: NEW, value: x}]\n          ports:"
        )
    newer = write(files, tmp_path / "new")
    service.having(chart=newer).stage(2, "84").expect(0, "done")
    before = _pods(service, "production")

    at = ("--namespace", service.namespace, "--wait")
    service.cluster.run("helm", "upgrade", RELEASE, newer, "--reuse-values", *at, timeout_s=120)

    assert _pods(service, "production") == before
    lab.delete(service.namespace)


def _pods(service: Service, track: str) -> set[str]:
    return {item["metadata"]["uid"] for item in service.read("pods", "--selector", f"track={track}")}


@pytest.mark.parametrize(
    "few", [misfits()[::2], pytest.param(misfits()[1::2], marks=pytest.mark.matrix)], ids=["some", "others"]
)
def test_a_chart_that_does_not_fit_installs_nothing(few: list[Misfit], lab: Lab, tmp_path: Path) -> None:
    """At stage 1 each is refused with all that is wrong and where, and there is no revision and no object of it."""
    service = lab.other(tmp_path, RELEASE)
    before = [item["metadata"]["name"] for item in service.read(NO_OBJECTS)]
    for index, misfit in enumerate(few):
        chart = write(misfit.chart(), tmp_path / str(index))
        run = service.having(chart=chart).stage(1, "83").expect(3, "refused")
        told = "\n".join(run.answer["error"]["details"])
        assert [said for said in misfit.said if said not in told] == [], f"{misfit.name}\n{run.text}"
        assert [where for where in misfit.where if where not in told] == [], f"{misfit.name}\n{run.text}"
        assert (run.answer["changed"], service.revision()) == (False, 0), misfit.name
    assert [item["metadata"]["name"] for item in service.read(NO_OBJECTS)] == before
    lab.delete(service.namespace)
