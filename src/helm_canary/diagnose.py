"""Why pods are not Ready: the pod, the reason, its last events and the last lines of its log. Pure but for its `read`s."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVENTS_SHOWN, LOG_LINES_SHOWN = 5, 10
# A container's reason -> how long, in seconds, it must stay before it is certain that it does not pass by itself: a Secret may
# still be on its way, a registry may come back; a wrong name stays wrong.
LASTING = {
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 0.0,
    "CreateContainerConfigError": 30.0,
    "CreateContainerError": 30.0,
    "RunContainerError": 30.0,
    "ImagePullBackOff": 30.0,
    "ErrImagePull": 30.0,
    "CrashLoopBackOff": 0.0,
}
CRASHES = 3
SIGN_LENGTH = 240
# Quota that other pods on their way out still hold comes free; what admission refuses it refuses again.
REFUSED_FOR_S = 10.0


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


@dataclass(frozen=True, kw_only=True)
class Sign:
    """Why pods are not coming up: its kind, in words, and for how long it must be seen until it is certain. None: never."""

    kind: str
    what: str
    certain_after_s: float | None


@dataclass
class Patience:
    """How long one kind of sign has been there."""

    _kind: str = ""
    _since_s: float = 0.0

    def is_over(self, sign: Sign | None, now_s: float) -> bool:
        """Whether this sign, seen now, is certain by now."""
        kind = sign.kind if sign else ""
        if kind != self._kind:
            self._kind, self._since_s = kind, now_s
        return sign is not None and sign.certain_after_s is not None and now_s - self._since_s >= sign.certain_after_s


def find_sign(pods: Sequence[Mapping[str, Any]], deployment: Mapping[str, Any] | None) -> Sign | None:
    """What stands in the way of a track's pods now, the worst first; None where nothing does but time."""
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return Sign(kind="refused", what=_said(condition), certain_after_s=REFUSED_FOR_S)
    waiting = [(pod, status) for pod in pods for status in _statuses(pod)]
    for pod, status in waiting:
        told = (status.get("state") or {}).get("waiting") or {}
        reason = str(told.get("reason"))
        if reason in LASTING:
            unsure = reason == "CrashLoopBackOff" and int(status.get("restartCount") or 0) < CRASHES
            what = f"pod {pod['metadata']['name']}: {_said(told)}"
            kind = "image" if "Image" in reason else reason
            return Sign(kind=kind, what=what, certain_after_s=None if unsure else LASTING[reason])
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                # An autoscaler of nodes may be at work.
                what = f"pod {pod['metadata']['name']}: {_said(condition)}"
                return Sign(kind="unscheduled", what=what, certain_after_s=None)
    return None


def _said(told: Mapping[str, Any]) -> str:
    text = ": ".join(str(part) for part in (told.get("reason"), told.get("message")) if part)
    return text if len(text) <= SIGN_LENGTH else text[: SIGN_LENGTH - 3] + "..."


def describe(
    pods: Sequence[Mapping[str, Any]],
    deployment: Mapping[str, Any] | None,
    read_events: Callable[[Sequence[str]], Sequence[Mapping[str, Any]] | None],
    read_log: Callable[[str, str, bool], Sequence[str] | None],
) -> tuple[str, ...]:
    """Lines for a person: the pod and its reason, its events, its log; without any pod, what the Deployment says.

    The reads give None where the account may not.
    """
    trouble = find_trouble(pods)
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    failing = [c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") == "True"]
    bad = failing or [c for c in conditions if c.get("status") == "False" and trouble is None]
    lines = [f"Deployment: {condition.get('reason')}: {condition.get('message')}" for condition in bad]
    if trouble is None:
        return tuple(lines) or ("There is no pod yet.",)
    lines += [f"Pod {trouble.pod} is not Ready: {trouble.reason}"]
    events = read_events([trouble.pod])
    lines += [f"  event: {event.get('reason')}: {event.get('message')}" for event in (events or ())[-EVENTS_SHOWN:]]
    if not events:
        lines.append("  no events" if events is not None else "  events: the account is not allowed to list them")
    if trouble.container:
        log, of = read_log(trouble.pod, trouble.container, trouble.restarted), f"  log of {trouble.container}"
        lines += [f"{of}: {line}" for line in (log or ())[-LOG_LINES_SHOWN:]]
        if not log:
            lines.append(f"{of}: empty" if log is not None else f"{of}: the account is not allowed to get pods/log")
    return tuple(lines)
