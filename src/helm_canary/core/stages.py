"""The stage table, and the theory that the planner and the judge both stand on.

Two rules make a release lose nothing, and everything else serves them:

Rule 1. Weight goes only where pods are: every pod of the track Ready, and known to every proxy.
Rule 2. Pods go only where no weight is: weight 0 in force in every proxy, then no request in flight.

The table. P is the previous version, N the new one, R production's replicas, w a weight of the list:

    stage        production    canary
    steady       P  100  R     P    0  0
    canary-w     P 100-w R     N    w  Rc(w)      one for each weight of the list
    promote      N    0  R     N  100  R
    return       N  100  R     N    0  R
    finish       N  100  R     N    0  0

So there are seven stages for 10, 90, 100, and the list may be any that rises and ends in 100.

A move changes one thing at a time, each in an upgrade of its own, with the waits of the two rules between. That is
why a state found half-way between two stages is simple: each of production's version, canary's version and the
weights has either its value of the stage before or that of the stage after, never a third. The planner takes any such
mixture as a start, and refuses everything else as somebody else's edit.

The record is written by the same upgrade that changes a thing, and Helm stores it before it applies the objects.
After a death the record can therefore be one write ahead of the cluster, never behind it. So the live objects decide
what is still to be done; the record says only which release it is about, in which direction, and how far it may have
come.
"""

from __future__ import annotations

import functools
import itertools

from helm_canary.core.model import ALL_PRODUCTION, Record, Role, Split, Stage

DEFAULT_WEIGHTS = (10, 90, 100)
FIRST_CANARY = 2


def weights_problem(weights: tuple[int, ...]) -> str | None:
    """Why a list of canary weights (percent) makes no release, or None."""
    if not weights:
        return "the list is empty"
    if any(weight < 1 or weight > 100 for weight in weights):
        return "a weight is not between 1 and 100"
    if any(later <= earlier for earlier, later in itertools.pairwise(weights)):
        return "the weights do not rise"
    if weights[-1] != 100:
        return f"the list ends in {weights[-1]}, not in 100"
    return None


@functools.cache
def stages_for(weights: tuple[int, ...]) -> tuple[Stage, ...]:
    """The stages of a release with these canary weights, in order; `stages_for(...)[0]` is steady."""
    rows: list[tuple[str, Role, bool, bool, Split, int | None]] = [
        ("steady", Role.STEADY, False, False, ALL_PRODUCTION, None)
    ]
    rows += [(f"canary-{w}", Role.CANARY, False, True, Split.of_canary(w), w) for w in weights]
    rows += [
        ("promote", Role.PROMOTE, True, True, Split.of_canary(100), 100),
        ("return", Role.RETURN, True, True, ALL_PRODUCTION, 100),
        ("finish", Role.FINISH, True, True, ALL_PRODUCTION, None),
    ]
    return tuple(
        Stage(
            number=number,
            name=name,
            role=role,
            production_is_new=production_is_new,
            canary_is_new=canary_is_new,
            split=split,
            canary_sized_for_percent=sized_for,
        )
        for number, (name, role, production_is_new, canary_is_new, split, sized_for) in enumerate(rows, start=1)
    )


def find_stage(weights: tuple[int, ...], wanted: str) -> Stage | None:
    """The stage of that number or name, or None."""
    return next((stage for stage in stages_for(weights) if wanted in (str(stage.number), stage.name)), None)


def stage_named(weights: tuple[int, ...], name: str) -> Stage:
    """The stage that a record calls `name`. Raises ValueError when the record's own weights have no such stage."""
    found = next((stage for stage in stages_for(weights) if stage.name == name), None)
    if found is None:
        raise ValueError(f"no stage {name!r} in a release with the weights {weights}")
    return found


def canary_replicas(stage: Stage, replicas: int, asked: int | None) -> int:
    """How many canary pods a stage needs: Rc(w), where `replicas` is R and `asked` is `--canary-replicas`.

    At weight 100 the canary is alone, so it gets R whatever was asked.
    """
    if stage.canary_sized_for_percent is None:
        return 0
    if stage.canary_sized_for_percent == 100:
        return replicas
    return max(replicas if asked is None else asked, share(replicas, stage.canary_sized_for_percent))


def share(replicas: int, percent: int) -> int:
    """The pods that a weight needs, where all traffic needs `replicas`."""
    return -(-replicas * percent // 100)


def has_touched_production(record: Record) -> bool:
    """Whether production's pods may have been replaced in this release: from the move to promote on."""
    promote = next(stage for stage in stages_for(record.weights) if stage.role is Role.PROMOTE)
    return max(stage_named(record.weights, name).number for name in (record.reached, record.toward)) >= promote.number
