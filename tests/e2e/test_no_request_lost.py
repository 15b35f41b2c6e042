"""Under 100 requests a second, no move and no rollback loses a single one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, Traffic

from .conftest import SLOW, Lab
from .ledger import Ledger
from .service import Service
from .states import Release
from .together import side_by_side
from .walk import Walk

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RPS = 100
RETRIES = {"Istio's default retries": 2, "retries.attempts 0": 0}
OPTIONS = ("--drain", "5s", "--timeout", "90s")


# Each walks all moves up to its stage; what the others add is the rollback from theirs.
STAGES = [pytest.param(stage, marks=[] if stage == 7 else pytest.mark.matrix) for stage in range(2, 8)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_release_and_its_rollback_lose_nothing(lab: Lab, ledger: Ledger, stage: int) -> None:
    """Every forward move up to a stage and the rollback from it answer each request with 200, whatever the retries."""

    def walk_with(retries: str) -> None:
        values = {"retries": {"attempts": RETRIES[retries]}}
        with (
            lab.lend(retries, lambda: lab.service(SLOW, values, OPTIONS)) as service,
            Traffic(service.cluster, service.host, rps=RPS) as traffic,
        ):
            walk = Walk(service, traffic, ledger, retries, Release("83", "84"))
            walk.stages(range(2, stage + 1))
            walk.rollback(stage)
            walk.settle()

    side_by_side(RETRIES, walk_with)


FOUR = Release("83", "84", (5, 25, 50, 100), canary_replicas=(1, 1, 1, 2))
KINDS_OF_RELEASE = {
    "four weights, a canary that grows": ({}, ("--drain", "5s"), FOUR, ("--canary-replicas", "1"), "proven"),
    "the chart's defaults (mesh bound)": (
        {"gateway": {"mesh": True}},
        ("--drain", "3s"),
        Release("83", "84"),
        (),
        "gateways",
    ),
}


def test_every_kind_of_release_loses_nothing(lab: Lab, ledger: Ledger) -> None:
    """A weights list of four with a canary that grows, and the chart's defaults, go to the end without a loss."""

    def walk_whole(kind: str) -> None:
        values, drain, release, options, proof = KINDS_OF_RELEASE[kind]
        service = lab.service(SLOW, values, (*drain, "--timeout", "90s"))
        service.install("83")
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            walk = Walk(service, traffic, ledger, kind, release, options, proof)
            walk.stages(range(2, release.last + 1))
            walk.settle()
        lab.delete(service.namespace)

    side_by_side(KINDS_OF_RELEASE, walk_whole)


SLEEPS = {"requests of 8 s, preStop as the chart has it": {}, "requests of 8 s, no preStop": {"preStopSleepSeconds": 0}}


@pytest.mark.parametrize("stage", [5, pytest.param(7, marks=pytest.mark.matrix)])
def test_long_requests_are_not_cut(lab: Lab, ledger: Ledger, stage: int) -> None:
    """Requests of 8 s reach their end although the app dies at once on SIGTERM: its pods go after their last answer."""

    def walk_with(sleep: str) -> None:
        def make() -> Service:
            return lab.service(SLOW, {"pod": SLEEPS[sleep]}, ("--drain", "30s", "--timeout", "90s"))

        with (
            lab.lend(sleep, make) as service,
            Traffic(service.cluster, service.host, rps=RPS, slow_rps=2, slow_ms=8000) as traffic,
        ):
            walk = Walk(service, traffic, ledger, sleep, Release("83", "84"))
            walk.stages(range(2, stage + 1))
            walk.rollback(stage)
            walk.settle()

    side_by_side(SLEEPS, walk_with)


class NewGateway:
    """A third gateway pod that starts while the body of the `with` runs, and that goes only after it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._starter = threading.Thread(target=self._start)
        self._began = 0.0
        self.ready_after_s = 0.0

    def __enter__(self) -> NewGateway:
        self._began = time.monotonic()
        self._starter.start()
        return self

    def _start(self) -> None:
        self._cluster.scale_gateways(3)
        self.ready_after_s = time.monotonic() - self._began

    def __exit__(self, *error: object) -> None:
        self._starter.join()

    def youngest(self) -> str:
        found = self._cluster.kubectl(
            *("-n", "istio-system", "get", "pods", "-l", "istio=ingressgateway"),
            *("--sort-by=.metadata.creationTimestamp", "-o", "name"),
        )
        return found.split()[-1]

    def served(self, host: str) -> int:
        """How many requests for this host its log tells of."""
        time.sleep(1.5)  # Envoy writes its log once a second
        log = self._cluster.kubectl("-n", "istio-system", "logs", self.youngest(), "--since=5m")
        return sum(f'"{host}"' in line for line in log.splitlines())


@pytest.fixture
def two_gateways(cluster: Cluster) -> Iterator[Cluster]:
    """Two of them again afterwards, when no load is counted any more."""
    yield cluster
    cluster.scale_gateways(2)


@pytest.mark.matrix
def test_a_gateway_that_starts_in_mid_move(lab: Lab, ledger: Ledger, two_gateways: Cluster) -> None:
    """A third gateway that starts during a stage and during a rollback is waited for, proven, and loses nothing."""
    cluster, conditions = two_gateways, "a third gateway starts in mid-move"
    release = Release("83", "84", canary_replicas=(1, 2, 2))

    def move_with_new_gateway(service: Service, stage: int, *, back: bool) -> None:
        with Traffic(cluster, service.host, rps=RPS) as traffic:
            walk = Walk(service, traffic, ledger, conditions, release, ("--canary-replicas", "1"), gateways=3)
            with NewGateway(cluster) as new:
                run = walk.rollback(stage) if back else walk.stage(stage)
            assert 0 < new.ready_after_s < run.seconds, "it started after the move: this shows nothing"
            assert new.served(service.host) > 0
            walk.settle()
        cluster.scale_gateways(2)

    with lab.lend("Istio's default retries", lambda: lab.service(SLOW, {}, OPTIONS)) as service:
        service.stage(2, "84", "--canary-replicas", "1").expect(0, "done")
        move_with_new_gateway(service, 3, back=False)
        service.stage(4, "84", "--canary-replicas", "1").expect(0, "done")
        service.stage(5, "84", "--canary-replicas", "1").expect(0, "done")
        move_with_new_gateway(service, 5, back=True)
