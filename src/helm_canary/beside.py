"""Deployments that move with production and have no traffic of their own, such as a worker of the same image. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from helm_canary.cluster import Live
from helm_canary.diagnose import pods_of


def lacking(live: Live, names: Sequence[str]) -> str:
    """What Deployments (`KIND/NAME`) lack of Ready, in words; empty where all of their pods are new and available."""
    return ", ".join(f"{name} has {_ready(thing)} of {_wanted(thing)} pods Ready" for name, thing in _late(live, names))


def _late(live: Live, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, thing in _found(live, names):
        status = thing.get("status") or {}
        seen = int(status.get("observedGeneration") or 0) >= int(thing["metadata"].get("generation") or 0)
        old = int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)
        if not seen or old > 0 or _ready(thing) < _wanted(thing):
            yield name, thing


def _found(live: Live, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those that are in the namespace; one in another is not read, and not waited for."""
    for name in names:
        kind, _, rest = name.partition("/")
        thing = live.find(kind, rest)
        if thing is not None:
            yield name, thing


def _wanted(thing: Mapping[str, Any]) -> int:
    return int(thing["spec"].get("replicas", 1))


def _ready(thing: Mapping[str, Any]) -> int:
    status = thing.get("status") or {}
    return min(int(status.get("updatedReplicas") or 0), int(status.get("availableReplicas") or 0))


def pods_beside(live: Live, names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The pods of these Deployments, terminating ones left out."""
    found: list[Mapping[str, Any]] = []
    for _, thing in _found(live, names):
        labels = (thing["spec"].get("selector") or {}).get("matchLabels") or {}
        found += pods_of(live.of_kind("Pod"), labels, {}) if labels else []
    return found
