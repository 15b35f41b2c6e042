"""A release that the plain commands made, which has no record: what its record would say, read from what is live. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helm_canary.core.model import ALL_PRODUCTION, Direction, Record, Role, Split, Stage, TrackState, Version
from helm_canary.core.stages import stages_for


def adopt(
    production: TrackState,
    canary: TrackState,
    asked: Split | None,
    weights: Sequence[int],
    earlier: Iterable[Version],
) -> Record | None:
    """The record that these tracks and weights stand for; None where no release is under way and none was before.

    The plain commands release tags, so the previous version is the newest whose tag differs: one with another template may be
    the same version as a ReplicaSet has it, with all that the API server filled in.

    `earlier`: the versions that production ran, newest first; only as many are looked at as are needed. Where the previous one
    is needed and not among them the record has none: the release goes on, and cannot be rolled back.
    """
    new = production.version
    if new is None or canary.version is None or asked is None:
        return None
    if new != canary.version and (canary.replicas > 0 and asked.canary > 0):
        stage = _stage_with(asked, weights)
        return _record(Direction.FORWARD, production.version, canary.version, stage, weights, production.replicas)
    previous = next((version for version in earlier if version.tag != new.tag), None)
    if new == canary.version and canary.replicas > 0:
        role = Role.RETURN if asked == ALL_PRODUCTION else Role.PROMOTE
        stage = next(stage for stage in stages_for(weights) if stage.role is role)
        replicas = max(production.replicas, canary.replicas)
        return _record(Direction.FORWARD, previous, new, stage, weights, replicas)
    if asked == ALL_PRODUCTION and canary.replicas == 0 and previous is not None:
        return _record(Direction.FINISHED, previous, new, stages_for(weights)[-1], weights, production.replicas)
    return None


def _stage_with(asked: Split, weights: Sequence[int]) -> Stage:
    """The canary stage of these weights; of weights that are no stage's the first, so that a rollback knows its way."""
    stages = [stage for stage in stages_for(weights) if stage.role is Role.CANARY]
    return next((stage for stage in stages if stage.split == asked), stages[0])


def _record(
    direction: Direction,
    previous: Version | None,
    new: Version,
    stage: Stage,
    weights: Sequence[int],
    replicas: int,
) -> Record:
    return Record(
        direction=direction,
        previous=previous,
        new=new,
        reached=stage.name,
        toward=stage.name,
        weights=tuple(weights),
        replicas=max(replicas, 1),
        watched=direction is Direction.FINISHED,
    )
