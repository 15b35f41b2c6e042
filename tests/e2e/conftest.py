"""The cluster, services on it, and the account that is printed at the end."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, up

from .ledger import Ledger
from .service import Service, base_values, merge

# An app that takes three seconds to start, and one for the tests that are not about load.
SLOW, QUICK = "localhost/productpage", "localhost/quick"
IMAGES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    SLOW: {tag: {"START_DELAY_MS": "3000"} for tag in ("83", "84")},
    QUICK: {
        **{tag: {"START_DELAY_MS": "300"} for tag in ("82", "83", "84", "85")},
        "never": {"START_DELAY_MS": "300", "NEVER_READY": "1"},
        "crash": {"CRASH_AFTER_MS": "200"},
        "late": {"START_DELAY_MS": "6000"},
    },
}
LEDGER = Ledger()


@pytest.fixture(scope="session")
def ledger() -> Ledger:
    """What was sent and lost, move by move."""
    return LEDGER


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The local cluster; where it cannot run, each of its tests is skipped with this reason, which the end of the run shows."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("the local cluster needs root on Linux: run the tests as root, or in CI")
    cluster = up()
    for repository, tags in IMAGES.items():
        for tag, settings in tags.items():
            cluster.image(f"{repository}:{tag}", **settings)
    return cluster


@dataclass
class Lab:
    """Makes services. One that is steady can be lent to many tests; one that a test left broken is thrown away."""

    cluster: Cluster
    folder: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _names: list[str] = field(default_factory=list)
    _steady: dict[str, Service] = field(default_factory=dict)

    def service(
        self,
        repository: str = QUICK,
        values: Mapping[str, Any] | None = None,
        options: tuple[str, ...] = ("--drain", "1s", "--timeout", "90s"),
    ) -> Service:
        """A namespace of its own, with nothing installed."""
        name = self._namespace()
        whole = merge(base_values(repository, f"{name}.example.com"), values or {})
        return Service(self.cluster, name, self.folder, values=whole, options=options)

    def other(self, chart: Path, release: str) -> Service:
        """The same for a chart that is not the product's, and whose one value of ours is its host."""
        name = self._namespace()
        values, options = {"host": f"{name}.example.com"}, ("--drain", "1s", "--timeout", "90s")
        return Service(self.cluster, name, self.folder, chart, values, options, release)

    def _namespace(self) -> str:
        name = f"e2e-{os.getpid()}-{next(self._numbers)}"
        self._names.append(name)
        self.cluster.kubectl("create", "namespace", name)
        return name

    @contextmanager
    def lend(self, key: str, make: Callable[[], Service]) -> Iterator[Service]:
        """The service of this key, which production serves alone at tag 83; the borrower leaves it so."""
        service = self._steady.pop(key, None)
        if service is None:
            service = make()
            service.install("83")
        try:
            yield service
        except BaseException:
            self.delete(service.namespace)
            raise
        self._steady[key] = service

    def delete(self, name: str) -> None:
        self.cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def close(self) -> None:
        for name in self._names:
            self.delete(name)


@pytest.fixture(scope="session")
def lab(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Services for the tests of a whole run."""
    made = Lab(cluster, tmp_path_factory.mktemp("values"))
    yield made
    made.close()


@pytest.fixture
def fresh(lab: Lab) -> Iterator[Service]:
    """A service of the quick app with nothing installed, for one test."""
    service = lab.service()
    yield service
    lab.delete(service.namespace)


@pytest.fixture
def steady(fresh: Service) -> Service:
    """The same, installed at tag 83."""
    fresh.install("83")
    return fresh


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The account, move by move."""
    for title, table in LEDGER.tables():
        terminalreporter.section(title)
        terminalreporter.write_line(table)
