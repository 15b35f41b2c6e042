"""What a release without a record is taken for."""

from __future__ import annotations

import pytest

from helm_canary.adopt import adopt
from helm_canary.core.model import Direction, Split, TrackState, Version

WEIGHTS = (10, 90, 100)


def version(tag: str, text: str = "") -> Version:
    return Version(tag=tag, digest=f"{tag}{text}", production=f"{tag}{text}", canary=f"{tag}{text}")


def track(tag: str, replicas: int) -> TrackState:
    return TrackState(version=version(tag), replicas=replicas, pods=replicas, ready=replicas)


# Production and canary (tag, replicas), production's weight -> stage, direction, previous tag.
ROWS = [
    (("83", 2), ("84", 2), 90, "canary-10", Direction.FORWARD, "83"),
    (("83", 2), ("84", 2), 10, "canary-90", Direction.FORWARD, "83"),
    (("83", 2), ("84", 2), 0, "canary-100", Direction.FORWARD, "83"),
    (("84", 2), ("84", 2), 0, "promote", Direction.FORWARD, "83"),
    (("84", 2), ("84", 2), 100, "return", Direction.FORWARD, "83"),
    (("84", 2), ("84", 0), 100, "finish", Direction.FINISHED, "83"),
]


@pytest.mark.parametrize(("production", "canary", "weight", "stage", "direction", "previous"), ROWS)
def test_the_stage_is_read_from_what_is_live(
    production: tuple[str, int], canary: tuple[str, int], weight: int, stage: str, direction: Direction, previous: str
) -> None:
    """Tags, weights and replicas tell the stage; the newest version with another tag is the previous one."""
    earlier = [version("84", " as a ReplicaSet has it"), version("83"), version("82")]
    split = Split(production=weight, canary=100 - weight)
    record = adopt(track(*production), track(*canary), split, WEIGHTS, earlier)
    assert record is not None
    assert record.previous is not None
    assert (record.reached, record.direction, record.previous.tag) == (stage, direction, previous)


@pytest.mark.parametrize(("weight", "canary"), [(0, 2), (100, 2)])
def test_without_an_earlier_tag_there_is_no_previous_version(weight: int, canary: int) -> None:
    """From promote on the release goes on, and has nothing to go back to; at steady there is no release at all."""
    earlier = [version("84", " as a ReplicaSet has it")]
    split = Split(production=weight, canary=100 - weight)
    record = adopt(track("84", 2), track("84", canary), split, WEIGHTS, earlier)
    assert record is not None
    assert record.previous is None
    assert adopt(track("84", 2), track("84", 0), Split(production=100, canary=0), WEIGHTS, earlier) is None
