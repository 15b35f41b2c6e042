"""The hooks of a chart in a step: which of them are due, what still runs of them, and what one said that failed.

Helm has one moment for hooks in an upgrade, and starts a Job anew by deleting the one that runs. So a Job that an earlier command
left running is waited for, and counts as run when it ends well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from helm_canary.composing import Writing
from helm_canary.core.model import Change, Hooks, Upgrade
from helm_canary.errors import CanaryError, ToolError
from helm_canary.manifest import Object, events
from helm_canary.ports import Clock, ClusterPort, Reporter

POLL_S = 1.0
LOG_LINES = 20


class HookFailedError(CanaryError):
    """A hook of the chart failed, or did not end in its time."""

    code = "hook-failed"


def due(step: Upgrade, *, installs: bool) -> Mapping[str, str] | None:
    """An event of the chart's hooks -> the event of Helm's upgrade that it runs at in this step; None: none runs.

    Of an installation those after it run in a later upgrade, which Helm does not call an installation any more.
    """
    match step.hooks:
        case Hooks.NONE:
            return None
        case Hooks.PRE if step.change is Change.INSTALL:
            return {"pre-install": "pre-install" if installs else "pre-upgrade"}
        case Hooks.POST if step.record.previous is None:
            return {"post-install": "post-upgrade"}
        case Hooks.PRE:
            return {"pre-upgrade": "pre-upgrade"}
        case Hooks.POST:
            return {"post-upgrade": "post-upgrade"}
        case Hooks.BOTH:
            return {"pre-upgrade": "pre-upgrade", "post-upgrade": "post-upgrade"}


@dataclass(frozen=True, kw_only=True)
class Hooked:
    """The hooks of one step."""

    cluster: ClusterPort
    clock: Clock
    report: Reporter
    namespace: str

    def await_running(
        self, step: Upgrade, writing: Writing, hooks: Sequence[Object], *, installs: bool, timeout_s: float
    ) -> Writing:
        """What may be written once no Job of a due hook runs any more. Raises HookFailedError where one does not end."""
        events_due = due(step, installs=installs)
        writing = replace(writing, hooks=events_due)
        jobs = _names(hooks, events_due or {}, ("Job",))
        if not jobs:
            return writing
        began, running = self.clock.now(), dict.fromkeys(self._active(jobs), "")
        active = list(running)
        while active:
            waited = self.clock.now() - began
            if waited > timeout_s:
                raise self._not_ended(active, waited)
            self.report.waiting(f"the hook {', '.join(active)}", "an earlier command started it", waited)
            self.clock.sleep(POLL_S)
            active = self._active(jobs)
        states = self.cluster.jobs(list(running)) or {} if running else {}
        failed = [name for name in running if states.get(name) == "failed"]
        if failed:
            raise self._failed(failed)
        return replace(writing, done=tuple(f"Job/{name}" for name in running if states.get(name) == "complete"))

    def _active(self, jobs: Sequence[str]) -> list[str]:
        states = self.cluster.jobs(jobs)
        return [name for name, state in (states or {}).items() if state == "active"]

    def explained(self, error: ToolError, step: Upgrade, hooks: Sequence[Object], *, installs: bool) -> CanaryError:
        """Why an upgrade failed: a hook of it, where the cluster says so; else what Helm said."""
        events_due = due(step, installs=installs) or {}
        jobs = _names(hooks, events_due, ("Job",))
        states = (self.cluster.jobs(jobs) if jobs else None) or {}
        active, failed = ([name for name in jobs if states.get(name) == state] for state in ("active", "failed"))
        if active:
            return self._not_ended(active, None)
        if failed:
            return self._failed(failed)
        return error

    def _not_ended(self, names: Sequence[str], waited: float | None) -> HookFailedError:
        how_long = "within --timeout" if waited is None else f"after {waited:.0f} s"
        return HookFailedError(
            f"The hook {', '.join(names)} did not finish {how_long}; it still runs.",
            "It needs more time, or waits for something that does not come. No traffic has moved.",
            "Run the same command again, with a longer --timeout: it waits for the Job that runs and does not start another.",
            self._logs(names),
        )

    def _failed(self, names: Sequence[str]) -> HookFailedError:
        return HookFailedError(
            f"The hook {', '.join(names)} failed.",
            "What it said is below. No traffic has moved.",
            "Correct its cause and run the same command again: it starts the hook again.",
            self._logs(names),
        )

    def _logs(self, names: Sequence[str]) -> tuple[str, ...]:
        lines: list[str] = []
        for name in names:
            for pod in self.cluster.hook_pods(name)[-1:]:
                log = self.cluster.log_of(pod, "", previous=False, lines=LOG_LINES)
                lines += [f"{pod}: the account is not allowed to read its log"] if log is None else log
        return tuple(lines)


def _names(hooks: Sequence[Object], events_due: Mapping[str, str], kinds: Sequence[str]) -> list[str]:
    return [
        str(hook["metadata"]["name"])
        for hook in hooks
        if hook.get("kind") in kinds and any(event in events_due for event in events(hook))
    ]
