"""What a command came to, and where the traffic is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from helm_canary.core.model import Observed, Plan, Result, Track
from helm_canary.errors import CanaryError


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to, for people and pipelines. `traffic`: production, canary, split or unknown.

    version_id     of the version that a stage was asked for, whatever release is under way
    canary_requests  requests that the canary got through the gateways since its pods are there, and how many of them failed
    next_changes   whether the stage after the one that was asked for would change anything; None where that is not known
    """

    result: Result
    changed: bool
    plan: Plan | None
    observed: Observed | None
    traffic: str
    proof: str
    in_flight_cut: int = 0
    error: CanaryError | None = None
    version_id: str = ""
    canary_requests: tuple[int, int] | None = None
    next_changes: bool | None = None


def is_healthy(observed: Observed) -> bool:
    """Whether every track that is asked to get traffic is fully Ready."""
    asked = observed.asked
    if asked is None:
        return False
    return all(observed.track(track).fully_ready for track in Track if asked.of(track) > 0)


def traffic_of(observed: Observed | None) -> str:
    if observed is None or observed.asked is None:
        return "unknown"
    having = [track.value for track in Track if observed.asked.of(track) > 0]
    return having[0] if len(having) == 1 else "split"


def describe_traffic(observed: Observed | None) -> str:
    """One sentence: who has the traffic, and whether it is Ready."""
    if observed is None:
        return "Where the traffic is cannot be said: the cluster could not be read."
    if observed.route_missing:
        return "Traffic: none, because there is no VirtualService."
    if observed.asked is None:
        return "Where the traffic is cannot be said: not all routes of the VirtualService have the same weights."
    said = []
    for track in Track:
        state, weight = observed.track(track), observed.asked.of(track)
        if weight:
            tag = state.version.tag if state.version else "?"
            said.append(f"{track.value} ({tag}) has {weight} % with {state.ready} of {state.replicas} pods Ready")
    return "Traffic: " + ", ".join(said) + "."
