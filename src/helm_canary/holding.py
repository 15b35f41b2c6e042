"""Holding a release before anything of it is written: its Lease, and a revision that a dead Helm left pending (rule 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from helm_canary.errors import RefusedError
from helm_canary.helm import Revision, Stored
from helm_canary.lease import DURATION_S, Holder, held_error
from helm_canary.ports import Clock, HelmPort, LeasePort, Reporter

POLL_S = 1.0
# How long a Helm that somebody started by hand may be at work, `--wait` included: Helm's own default.
FOREIGN_S = 300.0
TIME = "%Y-%m-%dT%H:%M:%SZ"


class PlanAnewError(Exception):
    """What the plan was made from is true no more, and that is no reason to stop: read, and plan again."""


@dataclass
class Holding:
    """The right of one command to write.

    takes_over  from a live holder too, as a rollback does
    wrote       this command started a Helm
    unclean     how that Helm ended could not be seen
    """

    lease: LeasePort
    helm: HelmPort
    clock: Clock
    report: Reporter
    takes_over: bool
    now: Callable[[], datetime]
    held: bool = False
    wrote: bool = False
    unclean: bool = False
    _holder: Holder | None = None
    _former_until: float | None = None

    def look(self) -> None:
        """See who holds the Lease. What is read after this is still true when `ensure` says so."""
        if not self.held:
            self._holder = self.lease.look()

    def ensure(self, stored: Stored) -> bool:
        """Hold the release; False where what was read before must be read again. Raises RefusedError where others work on it."""
        if not self.held and not self._take():
            return False
        newest = stored.newest
        if newest is None or not newest.pending:
            return True
        if not self._ends_by_itself(newest):
            self.helm.mark_failed(newest.number)
            self.report.note(
                f"Marked revision {newest.number} as failed: the helm process that left it {newest.status} is gone."
            )
        return False

    @property
    def must_take_over(self) -> bool:
        """Whether a command is at work that this one goes before: it could start at any moment what no plan here knows of."""
        return self.takes_over and not self.held and self._holder is not None

    @property
    def former_may_write(self) -> bool:
        """Whether a Helm of the holder that was displaced may still be on its way."""
        return self._former_until is not None and self.clock.now() < self._former_until

    def await_former(self, stored: Stored) -> None:
        """Until that Helm has written, or can no more."""
        began, before = self.clock.now(), stored.newest.number if stored.newest else 0
        while self.former_may_write:
            self.report.waiting("the Helm of the former holder", "nothing was written yet", self.clock.now() - began)
            self.clock.sleep(POLL_S)
            newest = self.helm.read().newest
            if newest is not None and newest.number != before:
                return

    def end(self) -> None:
        """Let others in; not where a Helm of ours may have left something that the next command must know to be ours."""
        if self.held and not self.unclean:
            self.lease.give_up()

    def _take(self) -> bool:
        holder = self._holder
        if holder is not None and not self.takes_over:
            self._outlive(holder)
        if not self.lease.take():
            self.look()
            return False
        self.held = True
        if holder is None:
            return True
        left = DURATION_S - holder.age_s(self.now())
        self._former_until = self.clock.now() + min(max(left, 0.0), DURATION_S)
        self.report.note(f"The Lease of this release was taken over from {holder}.")
        return False

    def _outlive(self, holder: Holder) -> None:
        """Wait until a holder that may be dead is: it renews every ten seconds. Raises RefusedError when it does."""
        began = self.clock.now()
        left = DURATION_S - max(holder.age_s(self.now()), 0.0)
        while (waited := self.clock.now() - began) < left:
            self.report.waiting(f"another command, {holder}", "to finish, or its lease to expire", waited)
            self.clock.sleep(POLL_S)
            seen = self.lease.look()
            if seen is None:
                return
            if (seen.identity, seen.renewed) != (holder.identity, holder.renewed):
                raise held_error(seen)

    def _ends_by_itself(self, newest: Revision) -> bool:
        """Whether the Helm that made a revision pending is at work, and was waited for; False where it must be dead."""
        if self.wrote:
            return False
        if self._former_until is None and not self.takes_over and self._age_s(newest) < FOREIGN_S:
            raise RefusedError(
                f"Helm revision {newest.number} is {newest.status} since {newest.created}.",
                "A helm command that helm-canary did not start is at work on this release.",
                "Wait until it has finished, then run the same command again. Five minutes after its start it counts as dead.",
            )
        began = self.clock.now()
        until = began + DURATION_S if self._former_until is None else self._former_until
        while self.clock.now() < until:
            self.report.waiting("the Helm of the former holder", newest.status, self.clock.now() - began)
            self.clock.sleep(POLL_S)
            seen = self.helm.read().newest
            if seen is None or (seen.number, seen.status) != (newest.number, newest.status):
                return True
        return False

    def _age_s(self, revision: Revision) -> float:
        try:
            created = datetime.strptime(revision.created, TIME).replace(tzinfo=timezone.utc)
        except ValueError:
            return FOREIGN_S
        return (self.now() - created).total_seconds()
