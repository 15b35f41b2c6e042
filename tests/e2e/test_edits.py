"""Other hands change a release between two stages: `stage` refuses and names them, or keeps what they did; `rollback` arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from tests.cluster import Traffic
from tests.cluster.traffic import BEFORE

from .conftest import Lab
from .hands import (
    ROUTE,
    RULE,
    SERVICE,
    Hand,
    autoscale,
    delete,
    merge_into,
    patch,
    restart,
    scale,
    set_image,
    weights,
)
from .ledger import Ledger
from .service import Run, Service
from .settling import RPS, settle, wait_until_proven
from .states import Release
from .together import side_by_side

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = Release("83", "84")
WHEN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
SUBSETS = [{"name": name, "labels": {"canary": value}} for name, value in (("production", "false"), ("canary", "true"))]


@dataclass(frozen=True)
class Edit:
    """What a hand does at these stages.

    refused   what the refusal of the next stage names; empty: the stage keeps or mends the edit and arrives
    told      what `rollback`, or a stage that mends, says that it overwrites
    replicas  production's from then on; `canary`: the canary's where it has more
    breaks    requests are lost from then on until a command has mended it
    """

    hand: Hand
    at: tuple[int, ...] = (2,)
    refused: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    replicas: int = 2
    canary: int = 0
    breaks: bool = False


def _by_kubectl(verb: str, *what: str) -> tuple[str, ...]:
    return (*what, rf"\(by kubectl-{verb} {WHEN}\)", "rollback")


EDITS: Mapping[str, Edit] = {
    "weights": Edit(weights(50, 50), (2, 3), _by_kubectl("patch", "the weights", "50/50", "90/10|10/90"), ("50/50",)),
    "weights of the next stage": Edit(weights(10, 90), (2,), _by_kubectl("patch", "10/90", "90/10"), ("10/90",)),
    "weights at 6": Edit(weights(40, 60), (6,), _by_kubectl("patch", "40/60", "100/0"), ("40/60",)),
    "production scaled up": Edit(scale("production", 4), (2, 3), replicas=4, canary=4),
    "production scaled up at 6": Edit(scale("production", 4), (6,), replicas=4),
    "production scaled down": Edit(scale("production", 1), (2, 3)),
    "production scaled down at 6": Edit(scale("production", 1), (6,)),
    "canary scaled up": Edit(scale("canary", 3), (2, 3), canary=3),
    "canary scaled down": Edit(scale("canary", 1), (2, 3)),
    "canary scaled to none": Edit(scale("canary", 0), (2,), breaks=True),
    "canary scaled to none at 6": Edit(scale("canary", 0), (6,)),
    "production's image": Edit(set_image("production", "85"), (2, 3), _by_kubectl("set", "productpage", "85"), ("85",)),
    "production's image at 6": Edit(set_image("production", "85"), (6,), _by_kubectl("set", "85"), ("85",)),
    "production's image, a bad one": Edit(set_image("production", "never"), (2, 6), _by_kubectl("set", "never")),
    "canary's image": Edit(set_image("canary", "85"), (2, 3), _by_kubectl("set", "productpagecanary", "85"), ("85",)),
    "canary's image, a bad one": Edit(set_image("canary", "never"), (2, 6), _by_kubectl("set", "never")),
    "production restarted": Edit(restart("production"), (2, 3, 6)),
    "canary restarted": Edit(restart("canary"), (2, 3, 6)),
    "six by an autoscaler": Edit(autoscale(6), (2, 3), replicas=6, canary=6),
    "six by an autoscaler at 6": Edit(autoscale(6), (6,), replicas=6),
    "no VirtualService": Edit(
        delete("virtualservice", ROUTE),
        (2, 3, 4, 5, 6),
        told=(f"VirtualService/{ROUTE}: not there",),
        breaks=True,
    ),
    "another setting of the VirtualService": Edit(
        patch("virtualservice", ROUTE, [{"op": "add", "path": "/spec/http/0/timeout", "value": "30s"}]),
        (2, 6),
        _by_kubectl("patch", f"VirtualService/{ROUTE}", "timeout"),
        (f"VirtualService/{ROUTE}", "timeout"),
    ),
    "the DestinationRule": Edit(
        merge_into(
            "destinationrule",
            RULE,
            {"spec": {"subsets": [*SUBSETS, {"name": "shadow", "labels": {"canary": "no"}}]}},
        ),
        (2, 6),
        _by_kubectl("patch", f"DestinationRule/{RULE}", "subsets", "shadow"),
        (f"DestinationRule/{RULE}", "shadow"),
    ),
    "what Helm does not write of the DestinationRule": Edit(
        merge_into(
            "destinationrule", RULE, {"spec": {"trafficPolicy": {"connectionPool": {"http": {"maxRetries": 9}}}}}
        ),
        (2, 6),
    ),
    "the Service": Edit(
        merge_into("service", SERVICE, {"spec": {"type": "NodePort"}}),
        (2, 6),
        _by_kubectl("patch", f"Service/{SERVICE}", "NodePort", "ClusterIP"),
        (f"Service/{SERVICE}", "NodePort"),
    ),
}
STAGE, ROLLBACK = "stage", "rollback"
# (edit, at, what follows): each row of the default run goes side by side.
DEFAULT: tuple[tuple[tuple[str, int, str], ...], ...] = ((("weights", 2, STAGE), ("no VirtualService", 2, STAGE)),)
Case = tuple[str, int, str]


def _rest() -> Iterator[tuple[Case, ...]]:
    chosen = {case for row in DEFAULT for case in row}
    rest = [
        (name, at, then)
        for name, edit in EDITS.items()
        for at in edit.at
        for then in ((STAGE, ROLLBACK) if not edit.refused or edit.breaks else (STAGE,))
        if (name, at, then) not in chosen
    ]
    yield from (tuple(rest[at : at + 2]) for at in range(0, len(rest), 2))


def _named(cases: tuple[Case, ...]) -> str:
    return ", ".join(f"{name} at {at} then {then}" for name, at, then in cases)


@pytest.mark.parametrize(
    "cases", [*DEFAULT, *(pytest.param(row, marks=pytest.mark.matrix) for row in _rest())], ids=_named
)
def test_an_edit_is_refused_or_kept(lab: Lab, ledger: Ledger, cases: tuple[Case, ...]) -> None:
    """After each edit the next stage refuses, names it and changes nothing, or keeps it; rollback arrives; nothing is lost."""

    def edit_one(case: Case) -> None:
        name, at, then = case
        service = _service_at(lab, at)
        _Story(service, EDITS[name], at, f"an edit: {name} at {at}", ledger).tell(then)
        lab.delete(service.namespace)

    side_by_side(cases, edit_one)


def _service_at(lab: Lab, stage: int) -> Service:
    service = lab.service()
    service.install("83")
    for number in range(2, stage + 1):
        service.stage(number, "84").expect(0, "done")
    return service


@dataclass(frozen=True)
class _Story:
    """One edit of one release, and what follows."""

    service: Service
    edit: Edit
    at: int
    conditions: str
    ledger: Ledger

    def tell(self, then: str) -> None:
        broken = "until the next command has mended it"
        # Sent before the edit, some arrive after it.
        apart = (BEFORE, broken) if self.edit.breaks else ()
        with Traffic(self.service.cluster, self.service.host, rps=RPS) as traffic:
            traffic.mark(broken if self.edit.breaks else "the edit")
            self.edit.hand(self.service)
            if then == STAGE and self.edit.refused:
                self._refused(traffic)
            elif then == STAGE:
                self._kept(traffic)
            self._rolled_back(traffic, proven="" if then == STAGE and not self.edit.refused else broken)
            lost = settle(traffic, self.ledger, self.conditions, apart=apart)
        if self.edit.breaks:
            print(f"{self.conditions}: lost {sum(lost.values())} until it was mended, none after")

    def _refused(self, traffic: Traffic) -> None:
        if not self.edit.breaks:
            traffic.mark("the stage that is refused")
        before = self.service.snapshot()
        run = self.service.stage(self.at + 1, "84").expect(3, "refused")
        assert run.upgrades == []
        assert run.answer["changed"] is False
        assert self.service.snapshot() == before
        _expect_named(run, self.edit.refused)

    def _kept(self, traffic: Traffic) -> None:
        if not self.edit.breaks:
            traffic.mark(f"{self.at} -> {self.at + 1}")
        started = self.service.start_stage(self.at + 1, "84")
        if self.edit.breaks and self.edit.told:
            wait_until_proven(started)
            traffic.mark(f"{self.at} -> {self.at + 1}, mended")
        run = started.end().expect(0, "done")
        _expect_named(run, tuple(f"Overwrites .*{text}" for text in self.edit.told))
        traffic.mark("after the stage")
        state = self._release().at(self.at + 1)
        assert self.service.tracks() == (state.production, state.canary)
        self.service.check(state)

    def _rolled_back(self, traffic: Traffic, *, proven: str) -> None:
        started = self.service.start("rollback")
        if self.edit.breaks and proven:
            wait_until_proven(started)
        traffic.mark(f"rollback from {self.at}" if proven else f"rollback from {self.at + 1}")
        run = started.end().expect(0, "done")
        assert run.answer["in-flight-cut"] == 0, run.text
        if proven:
            _expect_named(run, tuple(f"Overwrites .*{text}" for text in self.edit.told))
        self.service.check(self._release().rolled_back)

    def _release(self) -> Release:
        canary = max(self.edit.replicas, self.edit.canary)
        return replace(RELEASE, replicas=self.edit.replicas, canary_replicas=(2, canary, canary))


AT_REST: Mapping[str, Edit] = {
    "weights": Edit(weights(50, 50), told=("the weights", "50/50"), breaks=True),
    "image": Edit(set_image("production", "85"), told=("productpage", "85")),
    "no VirtualService": Edit(delete("virtualservice", ROUTE), told=("VirtualService", "not there"), breaks=True),
}
INSTALLED, ROLLED_BACK = "installed", "rolled back"
RESTS = ((("image", INSTALLED), ("no VirtualService", ROLLED_BACK)),)
MORE_RESTS = (
    (("weights", INSTALLED), ("weights", ROLLED_BACK)),
    (("no VirtualService", INSTALLED), ("image", ROLLED_BACK)),
)


@pytest.mark.parametrize(
    "cases", [*RESTS, *(pytest.param(row, marks=pytest.mark.matrix) for row in MORE_RESTS)], ids=repr
)
def test_an_edit_while_no_release_is_under_way(lab: Lab, ledger: Ledger, cases: tuple[tuple[str, str], ...]) -> None:
    """After the first installation `stage 1` of its tag puts back what a hand changed, after a rollback `rollback` does."""

    def edit_one(case: tuple[str, str]) -> None:
        name, where = case
        edit, service = AT_REST[name], lab.service()
        service.install("83")
        if where == ROLLED_BACK:
            service.stage(2, "84").expect(0, "done")
            service.rollback().expect(0, "done")
        broken = "until the next command has mended it"
        with Traffic(service.cluster, service.host, rps=RPS) as traffic:
            traffic.mark(broken if edit.breaks else "the edit")
            edit.hand(service)
            started = service.start_stage(1, "83") if where == INSTALLED else service.start("rollback")
            if edit.breaks:
                wait_until_proven(started)
            traffic.mark("put back")
            run = started.end().expect(0, "done")
            _expect_named(run, tuple(f"Overwrites .*{text}" for text in edit.told))
            state = RELEASE.at(1) if where == INSTALLED else RELEASE.rolled_back
            service.check(state)
            settle(traffic, ledger, f"{where}, then {name}", apart=(BEFORE, broken) if edit.breaks else ())
        lab.delete(service.namespace)

    side_by_side(cases, edit_one)


def test_a_shared_object_edited_between_releases(lab: Lab, ledger: Ledger) -> None:
    """The next release is refused with the option that takes the edit back, and with it starts and does so."""
    service = _service_at(lab, 1)
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        patch("virtualservice", ROUTE, [{"op": "add", "path": "/spec/http/0/timeout", "value": "30s"}])(service)
        before = service.snapshot()
        run = service.stage(2, "84").expect(3, "refused")
        assert service.snapshot() == before
        _expect_named(run, (rf"\(by kubectl-patch {WHEN}\)", f"--allow VirtualService/{ROUTE}"))
        service.stage(2, "84", "--allow", f"VirtualService/{ROUTE}").expect(0, "done")
        service.check(RELEASE.at(2))
        (route,) = service.read("virtualservices.networking.istio.io")
        assert "timeout" not in route["spec"]["http"][0]
        settle(traffic, ledger, "a shared object edited between releases")
    lab.delete(service.namespace)


def _expect_named(run: Run, named: tuple[str, ...]) -> None:
    for text in named:
        assert re.search(text, run.said), f"{text!r} is not said:\n{run.text}"


@pytest.mark.matrix
def test_six_pods_by_an_autoscaler_stay_six(lab: Lab, ledger: Ledger) -> None:
    """Production that an autoscaler raised to six at stage 2 keeps six through every later stage and the rollback."""
    release = replace(RELEASE, replicas=6, canary_replicas=(6, 6, 6))
    service = _service_at(lab, 2)
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        autoscale(6)(service)
        for stage in range(3, 8):
            traffic.mark(f"{stage - 1} -> {stage}")
            service.stage(stage, "84").expect(0, "done")
            service.check(release.at(stage))
        traffic.mark("rollback from 7")
        service.rollback().expect(0, "done")
        service.check(release.rolled_back)
        settle(traffic, ledger, "six pods by an autoscaler")
    lab.delete(service.namespace)
