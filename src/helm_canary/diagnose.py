"""Why pods are not Ready: the pod, the reason, its last events and the last lines of its log. Pure but for its `read`s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVENTS_SHOWN, LOG_LINES_SHOWN = 5, 10


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A pod that is not Ready: its name, the container that is the cause, the reason, and whether it ran before."""

    pod: str
    container: str
    reason: str
    restarted: bool


def pods_of(
    pods: Iterable[Mapping[str, Any]], labels: Mapping[str, str], selector: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """The pods of one track: the Service's selector and the subset's labels, terminating ones left out."""
    wanted = {**selector, **labels}.items()
    return [
        pod
        for pod in pods
        if wanted <= (pod["metadata"].get("labels") or {}).items() and not pod["metadata"].get("deletionTimestamp")
    ]


def restarts(pods: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Pod name -> how often its containers were restarted."""
    return {pod["metadata"]["name"]: sum(int(s.get("restartCount") or 0) for s in _statuses(pod)) for pod in pods}


def _statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def find_trouble(pods: Sequence[Mapping[str, Any]]) -> Trouble | None:
    """The first pod that is not Ready, and the best reason its status gives."""
    for pod in pods:
        conditions = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or []}
        if conditions.get("Ready", {}).get("status") != "True":
            return _trouble(pod, conditions)
    return None


def _trouble(pod: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> Trouble:
    name = pod["metadata"]["name"]
    for status in _statuses(pod):
        state = status.get("state") or {}
        waiting, ended = state.get("waiting"), state.get("terminated")
        restarted = int(status.get("restartCount") or 0) > 0
        if waiting or (ended and ended.get("exitCode")):
            told = waiting or ended or {}
            reason = ": ".join(str(part) for part in (told.get("reason"), told.get("message")) if part)
            return Trouble(
                pod=name, container=status["name"], reason=reason or "its container stopped", restarted=restarted
            )
        if not status.get("ready"):
            running = "its container runs, but its readiness probe fails"
            return Trouble(pod=name, container=status["name"], reason=running, restarted=restarted)
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return Trouble(pod=name, container="", reason=f"Unschedulable: {scheduled.get('message', '')}", restarted=False)
    phase = str((pod.get("status") or {}).get("phase", "Unknown"))
    return Trouble(pod=name, container="", reason=f"phase {phase}", restarted=False)


def describe(
    pods: Sequence[Mapping[str, Any]],
    deployment: Mapping[str, Any] | None,
    read_events: Callable[[Sequence[str]], Sequence[Mapping[str, Any]]],
    read_log: Callable[[str, str, bool], Sequence[str]],
) -> tuple[str, ...]:
    """Lines for a person: the pod and its reason, its events, its log; without any pod, what the Deployment says."""
    trouble = find_trouble(pods)
    if trouble is None:
        conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
        bad = [c for c in conditions if c.get("type") == "ReplicaFailure" or c.get("status") == "False"]
        return tuple(f"Deployment: {c.get('reason')}: {c.get('message')}" for c in bad) or ("There is no pod yet.",)
    lines = [f"Pod {trouble.pod} is not Ready: {trouble.reason}"]
    events = list(read_events([trouble.pod]))[-EVENTS_SHOWN:]
    lines += [f"  event: {event.get('reason')}: {event.get('message')}" for event in events] or ["  no events"]
    if trouble.container:
        log = list(read_log(trouble.pod, trouble.container, trouble.restarted))[-LOG_LINES_SHOWN:]
        lines += [f"  log of {trouble.container}: {line}" for line in log] or [f"  log of {trouble.container}: empty"]
    return tuple(lines)
