"""A cluster, services in namespaces of their own, and helm and kubectl that only tell whether they were called."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import Service
from tests.cluster import Cluster, up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

REPOSITORY = "localhost/cli-app"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """A folder with a helm and a kubectl that do nothing but leave a mark."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def called(self) -> list[str]:
        mark = self.path / "mark"
        return mark.read_text().splitlines() if mark.exists() else []


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    """To be the whole PATH of a run that must not start anything."""
    folder = tmp_path / "marks"
    folder.mkdir()
    for name in ("helm", "kubectl"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/mark"\nexit 1\n')
        script.chmod(0o755)
    return Marks(path=folder)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return up()


@pytest.fixture(scope="session")
def app(cluster: Cluster) -> Callable[..., None]:
    """Makes images of the test app that serve at once."""

    def make(*tags: str, **env: str) -> None:
        for tag in tags:
            cluster.image(f"{REPOSITORY}:{tag}", START_DELAY_MS="0", **env)

    return make


@pytest.fixture(scope="session")
def make_service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Services in new namespaces, which go at the end; more values are merged over the quick ones by helm."""
    made: list[str] = []

    def make(label: str, gateway: Mapping[str, object] | None = None) -> Service:
        namespace = f"cli-{label}-{os.getpid()}"
        made.append(namespace)
        cluster.kubectl("create", "namespace", namespace)
        values = tmp_path_factory.mktemp(label) / "values.yaml"
        image = {"repository": REPOSITORY}
        quick = {
            "productionDeployment": {"replicaCount": 1, "image": image},
            "canaryDeployment": {"image": image},
            "gateway": {"mesh": False, "hosts": [f"{namespace}.example.com"], **(gateway or {})},
            "podDisruptionBudget": {"enabled": False},
            "pod": {"preStopSleepSeconds": 0, "livenessProbe": None, "readinessProbe": {"periodSeconds": 1}},
        }
        values.write_text(json.dumps(quick))
        return Service(cluster=cluster, namespace=namespace, values=values)

    yield make
    if made:
        cluster.kubectl("delete", "namespace", *made, "--wait=false")


@pytest.fixture(scope="session")
def steady(make_service: Callable[..., Service], app: Callable[..., None]) -> Service:
    """A service that is steady at 83. Tests that use it leave it so."""
    app("83", "84")
    service = make_service("steady")
    ran = service.stage("1", "83")
    assert ran.code == 0, ran
    return service
