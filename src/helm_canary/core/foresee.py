"""after(observed, plan) -> Observed: the cluster as a plan that goes well will leave it, for `plan all`."""

from __future__ import annotations

from dataclasses import replace

from helm_canary.core.model import Observed, Plan, Shared, Track, TrackState, Upgrade, WaitReady


def after(observed: Observed, plan: Plan) -> Observed:
    """Every step taken and every wait ended well."""
    for step in plan.steps:
        if isinstance(step, Upgrade):
            observed = _after_upgrade(observed, step)
        elif isinstance(step, WaitReady):
            state = replace(observed.track(step.track), ready=step.replicas, pods=step.replicas, endpoints=None)
            observed = _with_track(observed, step.track, state)
    return observed


def _after_upgrade(observed: Observed, step: Upgrade) -> Observed:
    for track in Track:
        before, target = observed.track(track), step.target(track)
        replicas = before.replicas if target.replicas is None else target.replicas
        same = before.version == target.version
        ready = min(before.ready, replicas) if same else 0
        state = TrackState(version=target.version, replicas=replicas, pods=replicas, ready=ready)
        observed = _with_track(observed, track, state)
    return replace(
        observed,
        installed=True,
        ever_ready=True,
        applied=True,
        revision=observed.revision + 1,
        asked=step.split,
        route_missing=False,
        record=step.record,
        written_replicas=observed.production.replicas,
        shared=Shared(),
        changes=observed.changes.without(step.shared.names),
        early=(),
    )


def _with_track(observed: Observed, track: Track, state: TrackState) -> Observed:
    return replace(observed, production=state) if track is Track.PRODUCTION else replace(observed, canary=state)
