"""Hooks of a chart: which are due in a step, what still runs of them, and what one said that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from helm_canary.composing import Writing
from helm_canary.core.model import Change, Direction, Hooks, Record, Split, TrackTarget, Upgrade, Version
from helm_canary.errors import ToolError
from helm_canary.hooks import Hooked, HookFailedError, due
from helm_canary.ports import Clock, ClusterPort, Reporter

OLD, NEW = Version(tag="83", digest="a"), Version(tag="84", digest="b")
RECORD = Record(
    direction=Direction.FORWARD,
    previous=OLD,
    new=NEW,
    reached="steady",
    toward="canary-10",
    weights=(10, 100),
    replicas=2,
)
STEP = Upgrade(
    change=Change.SCALE,
    production=TrackTarget(version=OLD),
    canary=TrackTarget(version=NEW),
    split=Split(production=100, canary=0),
    record=RECORD,
    hooks=Hooks.PRE,
    why="",
)
CHART = (
    {"kind": "Job", "metadata": {"name": "migrate", "annotations": {"helm.sh/hook": "pre-install,pre-upgrade"}}},
    {"kind": "Job", "metadata": {"name": "smoke", "annotations": {"helm.sh/hook": "post-upgrade"}}},
    {"kind": "ServiceAccount", "metadata": {"name": "x", "annotations": {"helm.sh/hook": "pre-upgrade"}}},
)


@dataclass
class World:
    """Jobs whose states follow each other, one a look; time passes by waiting alone."""

    looks: list[Mapping[str, str] | None]
    time_s: float = 0.0
    notes: list[str] = field(default_factory=list)

    def jobs(self, names: Sequence[str]) -> Mapping[str, str] | None:
        states = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return None if states is None else {name: state for name, state in states.items() if name in names}

    def hook_pods(self, job: str) -> Sequence[str]:
        return [f"{job}-first", f"{job}-last"]

    def log_of(self, pod: str, container: str, **how: Any) -> list[str] | None:
        return [f"{pod} says why"]

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def waiting(self, what: str, detail: str, since_s: float) -> None:
        self.notes.append(what)

    @property
    def hooked(self) -> Hooked:
        return Hooked(
            cluster=cast("ClusterPort", self),
            clock=cast("Clock", self),
            report=cast("Reporter", self),
            namespace="shop",
        )


@pytest.mark.parametrize(
    ("step", "installs", "expected"),
    [
        (replace(STEP, hooks=Hooks.NONE), False, None),
        (STEP, False, {"pre-upgrade": "pre-upgrade"}),
        (replace(STEP, hooks=Hooks.POST, change=Change.WEIGHT), False, {"post-upgrade": "post-upgrade"}),
        (replace(STEP, change=Change.INSTALL), True, {"pre-install": "pre-install"}),
        (replace(STEP, change=Change.INSTALL), False, {"pre-install": "pre-upgrade"}),
        (
            replace(STEP, hooks=Hooks.POST, change=Change.RECORD, record=replace(RECORD, previous=None)),
            False,
            {"post-install": "post-upgrade"},
        ),
        (
            replace(STEP, hooks=Hooks.BOTH, change=Change.SHARED),
            False,
            {"pre-upgrade": "pre-upgrade", "post-upgrade": "post-upgrade"},
        ),
    ],
)
def test_which_events_are_due(step: Upgrade, installs: bool, expected: Mapping[str, str] | None) -> None:
    """What follows an installation's pods runs in a later upgrade, and Helm calls that no installation."""
    assert due(step, installs=installs) == expected


def test_a_job_that_still_runs_is_waited_for_and_not_started_again() -> None:
    """It counts as run once it ends well; the hook of another moment is not waited for."""
    world = World([{"migrate": "active", "smoke": "active"}, {"migrate": "active"}, {"migrate": "complete"}])

    writing = world.hooked.await_running(STEP, Writing(objects=()), CHART, installs=False, timeout_s=60)

    assert writing.done == ("Job/migrate",)
    assert writing.hooks == {"pre-upgrade": "pre-upgrade"}
    assert world.time_s > 0
    assert set(world.notes) == {"the hook migrate"}


@pytest.mark.parametrize("states", [{"migrate": "complete"}, {"migrate": "failed"}, {}, None])
def test_a_job_of_an_earlier_release_is_no_reason_to_wait(states: Mapping[str, str] | None) -> None:
    """It ended, is gone, or may not be read: the hook runs as Helm runs it."""
    world = World([states])

    writing = world.hooked.await_running(STEP, Writing(objects=()), CHART, installs=False, timeout_s=60)

    assert (writing.done, world.time_s) == ((), 0.0)


def test_a_job_that_does_not_end_is_left_alone() -> None:
    """After --timeout the command stops; the message says that the same command waits for it again."""
    world = World([{"migrate": "active"}])

    with pytest.raises(HookFailedError) as told:
        world.hooked.await_running(STEP, Writing(objects=()), CHART, installs=False, timeout_s=5)

    assert "still runs" in told.value.happened
    assert "waits for the Job that runs" in told.value.do_next
    assert told.value.details == ("migrate-last says why",)


def test_a_job_that_fails_while_it_is_waited_for_is_told() -> None:
    """With its log; the next run of the command starts the hook again."""
    world = World([{"migrate": "active"}, {"migrate": "failed"}])

    with pytest.raises(HookFailedError) as told:
        world.hooked.await_running(STEP, Writing(objects=()), CHART, installs=False, timeout_s=60)

    assert "failed" in told.value.happened
    assert "migrate-last says why" in told.value.details


@pytest.mark.parametrize(("state", "said"), [("failed", "failed"), ("active", "still runs")])
def test_an_upgrade_that_failed_for_a_hook_says_so(state: str, said: str) -> None:
    """Seen from the Job's state, not from Helm's words."""
    error = ToolError("`helm upgrade` failed with exit code 1.")

    found = World([{"migrate": state}]).hooked.explained(error, STEP, CHART, installs=False)

    assert isinstance(found, HookFailedError)
    assert said in found.happened


def test_an_upgrade_that_failed_for_something_else_is_told_as_it_is() -> None:
    """A Job that ended well is no cause; neither is one of a step without hooks."""
    error = ToolError("`helm upgrade` failed with exit code 1.")

    assert World([{"migrate": "complete"}]).hooked.explained(error, STEP, CHART, installs=False) is error
    quiet = replace(STEP, hooks=Hooks.NONE)
    assert World([{"migrate": "failed"}]).hooked.explained(error, quiet, CHART, installs=False) is error
