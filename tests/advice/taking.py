"""Takes the advice of a refusal of the planner: every command that it has in backticks, planned one after the other.

An advice is a sentence or two. `, or` separates ways of which one is enough, `then` what comes after another. What is in no
backticks is one of `DEEDS`; a part that is neither cannot be taken, and that is an error of the advice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from helm_canary.core.foresee import after
from helm_canary.core.invariants import check_plan
from helm_canary.core.model import (
    ALL_PRODUCTION,
    Direction,
    Observed,
    Plan,
    Reason,
    Record,
    Refusal,
    Track,
    TrackState,
    Version,
    Wanted,
    WantedStage,
)
from helm_canary.core.planner import plan
from helm_canary.core.stages import canary_replicas, stage_named, stages_for
from tests.core import cases

ANOTHER_TAG = "99"
MOST_REFUSALS = 8


@dataclass
class Taken:
    """One way of an advice on its way: what is observed by now, and the command that the person wants to get through."""

    observed: Observed
    wanted: Wanted
    done: list[str] = field(default_factory=list)

    def command(self, text: str) -> None:
        """Carry out a command as it is in the advice; `TAG` stands for any."""
        self.carry_out(self._read(text.replace("TAG", ANOTHER_TAG)), text)

    def again(self) -> None:
        self.carry_out(self.wanted, "the same command")

    def with_weights(self, text: str) -> None:
        weights = tuple(map(int, text.split()[1].split(",")))
        assert isinstance(self.wanted, WantedStage)
        self.wanted = replace(self.wanted, weights=weights)
        self.carry_out(self.wanted, text)

    def with_permission(self, names: Sequence[str]) -> None:
        observed = self.observed
        shared = replace(observed.shared, change=(*observed.shared.change, *names))
        self.observed = replace(observed, shared=shared)
        self.carry_out(self.wanted, f"--allow {' '.join(names)}")

    def remaining(self, text: str) -> None:
        """This stage and all that come after it."""
        first = self._read(text)
        assert isinstance(first, WantedStage)
        for number in range(first.number, len(stages_for(first.weights)) + 1):
            self.carry_out(replace(first, number=number), f"stage {number}")

    def carry_out(self, wanted: Wanted, said: str) -> None:
        """Where others had changed the cluster as well, the command is refused for that, and its advice is taken first."""
        made = plan(self.observed, wanted)
        for _ in range(MOST_REFUSALS):
            if not isinstance(made, Refusal):
                break
            known = made.reason in (Reason.DIFFERENT, Reason.SKIPPED)
            assert known, f"{[*self.done, said]} is refused: {made.happened} {made.do_next}"
            mended = take(self.observed, wanted, ways(made.do_next)[0])
            self.observed, self.done = mended.observed, [*self.done, *mended.done]
            made = plan(self.observed, wanted)
        assert isinstance(made, Plan), f"{[*self.done, said]} goes round in circles: {made}"
        broken = check_plan(self.observed, made)
        assert not broken, f"{[*self.done, said]}: {broken}"
        self.observed = after(self.observed, made)
        self.done.append(said)

    def _read(self, text: str) -> Wanted:
        """A command with the weights and counts of this case, and the version that has its tag."""
        read, record = cases.command(text), self.observed.record
        if not isinstance(read, WantedStage):
            return read
        if isinstance(self.wanted, WantedStage):
            wanted = self.wanted.version if self.wanted.version.tag == read.version.tag else read.version
            read = replace(self.wanted, number=read.number, version=wanted, again=read.again)
        if record is not None and record.under_way and record.new.tag == read.version.tag:
            read = replace(read, version=record.new, weights=record.weights)
        return read


def undo(taken: Taken) -> None:
    """What was changed is as the record says again."""
    observed = replace(taken.observed, edits=(), route_missing=False)
    if observed.record is not None:
        taken.observed = as_left(observed, observed.record)
    else:
        canary = replace(observed.canary, replicas=0, pods=0, ready=0)
        taken.observed = replace(observed, canary=canary, asked=ALL_PRODUCTION)
    ready(taken)


def as_left(observed: Observed, record: Record) -> Observed:
    """The cluster as the stage that the record has reached leaves it."""
    old = record.new if record.previous is None or record.direction is Direction.FINISHED else record.previous
    stage = stage_named(record.weights, "steady" if record.direction is Direction.ROLLED_BACK else record.reached)
    if record.direction is Direction.ROLLED_BACK and record.previous is not None:
        record = replace(record, new=record.previous)
    pods = canary_replicas(stage, record.replicas, record.canary_replicas)

    def track(version: Version, replicas: int) -> TrackState:
        return TrackState(version=version, replicas=replicas, pods=replicas, ready=replicas)

    production = track(record.new if stage.production_is_new else old, record.replicas)
    canary = track(record.new if stage.canary_is_new else old, pods)
    return replace(observed, production=production, canary=canary, asked=stage.split)


def ready(taken: Taken) -> None:
    """Every pod that is wanted is Ready."""
    for track in Track:
        state = taken.observed.track(track)
        whole = replace(state, ready=state.replicas, pods=state.replicas, endpoints=None, settled=True)
        if track is Track.PRODUCTION:
            taken.observed = replace(taken.observed, production=whole)
        else:
            taken.observed = replace(taken.observed, canary=whole)


def same_chart(taken: Taken) -> None:
    """The chart and values that the release was started with, from now on."""
    assert isinstance(taken.wanted, WantedStage)
    assert taken.observed.record is not None
    taken.wanted = replace(taken.wanted, version=taken.observed.record.new)


def another_stage(taken: Taken) -> None:
    assert isinstance(taken.wanted, WantedStage)
    taken.carry_out(replace(taken.wanted, number=1), "stage 1")


def own_name(taken: Taken) -> None:
    """Each version has an object of its own, so none of them changes."""
    observed = taken.observed
    kept = tuple(name for name in observed.changes.change if name not in observed.early)
    taken.observed = replace(observed, changes=replace(observed.changes, change=kept), early=())


def no_obstacle(taken: Taken) -> None:
    taken.observed = replace(taken.observed, obstacles=())


DEEDS: dict[str, Callable[[Taken], None]] = {
    r"undo that change": undo,
    r"look at the pods \(`helm-canary status`\), mend what is named": undo,
    r"^mend (?!what)": no_obstacle,
    r"(run )?the same command again": Taken.again,
    r"look at the pods, correct what keeps them from ready": ready,
    r"go on with the chart and values that it was started with": same_chart,
    r"correct each of these in the chart or in the cluster, without deleting a route that carries traffic": no_obstacle,
    r"give the object a name that changes with its content": own_name,
    r"give one of (steady|the stages)": another_stage,
}


def ways(advice: str) -> list[str]:
    """The ways of an advice, each with all that comes before and behind it."""
    found = [""]
    for sentence in re.split(r"(?<=[.;]) +(?!or)", advice):
        behind = re.match(r"then |and ", sentence)
        choices = re.split(r"[,;]? or,? (?=roll back|run|go|to change|`)", sentence)
        if behind or found == [""]:
            found = [f"{before} {choice}".strip() for before in found for choice in choices]
        else:
            found += choices
    return found


def parts(way: str) -> Iterator[str]:
    """What is to be done, one after the other."""
    for part in re.split(r"[;.]? (?:then|and) (?=run|start|the same|release)|[;,.] +then +|[.;] *$", way):
        if part.strip():
            yield part.strip()


def take(observed: Observed, wanted: Wanted, way: str) -> Taken:
    """Take one way of an advice to its end. Raises AssertionError where it cannot be taken, or is refused."""
    taken = Taken(observed, wanted)
    for part in parts(way):
        commands = re.findall(r"`((?:stage|rollback|--)[^`]*)`", part)
        deed = next((do for pattern, do in DEEDS.items() if re.search(pattern, part.lower())), None)
        if "remaining stages" in part:
            taken.remaining(commands[0])
        elif commands and commands[0].startswith("--weights"):
            taken.with_weights(commands[0])
        elif commands and commands[0].startswith("--allow"):
            taken.with_permission(commands[0].split()[1::2])
        elif commands:
            taken.command(commands[0])
        else:
            assert deed is not None, f"nobody can take {part!r} of {way!r}"
            deed(taken)
    return taken


def check_arrives(observed: Observed, wanted: Wanted, refusal: Refusal) -> list[list[str]]:
    """Every way of an advice can be taken. Those that do not undo the release lead to what was wanted, by what is advised there.

    What was done on each way.
    """
    done = []
    for way in ways(refusal.do_next):
        taken = take(observed, wanted, way)
        if isinstance(wanted, WantedStage) and not any(text.startswith("rollback") for text in taken.done):
            _check_gets_through(taken)
        done.append(taken.done)
    return done


def _check_gets_through(taken: Taken) -> None:
    assert isinstance(taken.wanted, WantedStage)
    stages = stages_for(taken.wanted.weights)
    if taken.wanted.number > len(stages):
        return
    made = plan(taken.observed, taken.wanted)
    for _ in stages:
        if not isinstance(made, Refusal):
            return
        more = take(taken.observed, taken.wanted, ways(made.do_next)[0])
        taken.observed, taken.done = more.observed, taken.done + more.done
        made = plan(taken.observed, taken.wanted)
    raise AssertionError(f"{taken.done} goes round in circles: {made}")
