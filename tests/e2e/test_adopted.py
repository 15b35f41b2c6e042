"""Releases that helm-canary has no record of: it reads their stage from what is live, and goes on or back from there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.cluster import Traffic

from .conftest import Lab
from .hands import weights
from .ledger import Ledger
from .plain import upgrade
from .service import RELEASE, Service
from .settling import RPS, settle
from .states import Release
from .together import side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FROM_83 = Release("83", "84")
NO_HISTORY, NO_REVISIONS = "without its history", "without its older revisions"
FORWARD, BACK = "forward", "back"


@dataclass(frozen=True)
class Case:
    """A release that plain commands of this Helm brought to a stage, what it lost since, and what helm-canary does then."""

    stage: int
    then: str
    helm: str = "helm"
    without: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (f"at {self.stage} {self.then}", self.without, self.helm)))


DEFAULT: tuple[tuple[Case, ...], ...] = ((Case(3, FORWARD, "helm3"), Case(5, BACK)),)


def _rest() -> Iterator[tuple[Case, ...]]:
    chosen = {case for row in DEFAULT for case in row}
    whole = [Case(stage, then, helm) for helm in ("helm", "helm3") for stage in range(2, 8) for then in (FORWARD, BACK)]
    pruned = [
        Case(stage, then, helm, without)
        for helm in ("helm", "helm3")
        for stage in (5, 6, 7)
        for then, without in ((FORWARD, NO_HISTORY), (BACK, NO_REVISIONS))
    ]
    rest = [case for case in (*whole, *pruned) if case not in chosen]
    yield from (tuple(rest[at : at + 2]) for at in range(0, len(rest), 2))


def _named(cases: tuple[Case, ...]) -> str:
    return "; ".join(map(str, cases))


@pytest.mark.parametrize(
    "cases", [*DEFAULT, *(pytest.param(row, marks=pytest.mark.matrix) for row in _rest())], ids=_named
)
def test_a_release_of_the_plain_commands(lab: Lab, ledger: Ledger, cases: tuple[Case, ...]) -> None:
    """`status` tells its stage, the next stage goes on and `rollback` goes back from there, without a loss."""

    def take_over(case: Case) -> None:
        service = lab.service()
        for stage in range(1, case.stage + 1):
            upgrade(service, stage, "83", "84", helm=case.helm)
        if case.without:
            LOSING[case.without](service)
        _check_status(service, case)
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            _Story(service, traffic, case).tell()
            settle(traffic, ledger, f"plain commands before: {case}")
        lab.delete(service.namespace)

    side_by_side(cases, take_over)


def _check_status(service: Service, case: Case) -> None:
    """The whole of the table's row, and the previous tag where it can be known."""
    said = service.status()
    if case.stage == FROM_83.last and case.without == NO_HISTORY:
        assert (said["stage"], said["previous-tag"]) == ("", None)
        return
    state = FROM_83.at(case.stage)
    assert (said["stage"], said["stage-number"], said["direction"]) == (state.name, state.number, state.direction)
    assert said["previous-tag"] == (None if case.without == NO_HISTORY else "83"), said
    assert said["differences"] == []


@dataclass(frozen=True)
class _Story:
    """What helm-canary does with it, under load."""

    service: Service
    traffic: Traffic
    case: Case

    def tell(self) -> None:
        if self.case.without == NO_HISTORY:
            self._cannot_go_back()
        if self.case.then == FORWARD:
            self._forward()
        if self.case.without != NO_HISTORY:
            self._back(FROM_83)

    def _cannot_go_back(self) -> None:
        self.traffic.mark("the rollback that is refused")
        before = self.service.snapshot()
        run = self.service.rollback().expect(3, "refused")
        assert "its previous version cannot be determined" in run.said
        assert self.service.snapshot() == before

    def _forward(self) -> None:
        """To the end where nothing else is left; else one stage. From 7 that is the next release."""
        last = FROM_83.last if self.case.without else self.case.stage + 1
        if self.case.stage == FROM_83.last:
            return self._next_release()
        for stage in range(self.case.stage + 1, last + 1):
            self.traffic.mark(f"{stage - 1} -> {stage}")
            self.service.stage(stage, "84").expect(0, "done")
            self.service.check(FROM_83.at(stage))
        return None

    def _next_release(self) -> None:
        self.traffic.mark("7 -> 2 of the next release")
        following = Release("84", "85")
        self.service.stage(2, "85").expect(0, "done")
        self.service.check(following.at(2))
        self._back(following)

    def _back(self, release: Release) -> None:
        if self.service.tracks() == (release.rolled_back.production, release.rolled_back.canary):
            return
        if release is FROM_83 and self.case.then == FORWARD and self.case.stage == FROM_83.last:
            return  # it went back to 84, which is all that its record knows
        self.traffic.mark("rollback")
        self.service.rollback().expect(0, "done")
        self.service.check(release.rolled_back)


# --- what tells the previous version, taken away ------------------------------------------------------------------------


def _without_revisions(service: Service) -> None:
    """Helm's own limit of revisions, or somebody who cleans up."""
    older = range(1, service.revision())
    service.kubectl("delete", "secret", *(f"sh.helm.release.v1.{RELEASE}.v{number}" for number in older))


def _without_history(service: Service) -> None:
    _without_revisions(service)
    sets = service.read("replicasets")
    service.kubectl("delete", "replicaset", *(one["metadata"]["name"] for one in sets if not one["spec"]["replicas"]))


LOSING: dict[str, Callable[[Service], None]] = {NO_REVISIONS: _without_revisions, NO_HISTORY: _without_history}


# --- a weight that Helm 3 does not know of ------------------------------------------------------------------------------


def test_a_weight_that_helm_3_did_not_record(lab: Lab, ledger: Ledger) -> None:
    """Made by Helm 3, its weight written live by hand: `stage` refuses and names the hand, `rollback` arrives."""
    service = lab.service()
    for stage in (1, 2):
        upgrade(service, stage, "83", "84", helm="helm3")
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark("a weight that Helm 3 did not record")
        weights(60, 40)(service)
        before = service.snapshot()
        run = service.stage(3, "84").expect(3, "refused")
        assert re.search(r"60/40, not 90/10 \(by kubectl-patch \d{4}-", run.said), run.said
        assert service.snapshot() == before
        traffic.mark("its rollback")
        back = service.rollback().expect(0, "done")
        assert "60/40 instead of 90/10" in json.dumps(back.answer["notes"])
        service.check(FROM_83.rolled_back)
        settle(traffic, ledger, "a weight that Helm 3 did not record")
    lab.delete(service.namespace)
