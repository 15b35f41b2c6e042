"""The Lease of a release: one command at a time changes it (rule 9).

`coordination.k8s.io/v1`, named `helm-canary.<release>`, held for 30 s and renewed every 10 s by a thread of its own. Every write
to it names the resource version that it was read at, so of two that want it one gets it. What follows from a Lease that is
held, or lost, is for `execute`.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from helm_canary.core.model import Provenance
from helm_canary.errors import CanaryError, RefusedError, ToolError
from helm_canary.process import Connection, Processes
from helm_canary.rights import advice, forbidden

DURATION_S = 30
RENEW_S = 10.0
JOIN_S = 2.0
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
NOTES = "helm-canary.io"
# What kubectl says where somebody else wrote, made or deleted the object since it was seen.
OVERTAKEN = ("Conflict", "AlreadyExists", "NotFound", "object has been modified", "already exists", "not found")


class LeaseLostError(RefusedError):
    """Another command took the Lease over, or it is gone: nothing more may be changed."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a Lease: an identity that no other command has, what it does, who runs it where, and when it renewed last."""

    identity: str
    command: str = ""
    who: str = ""
    run: str = ""
    renewed: str = ""

    def __str__(self) -> str:
        where = f" ({self.run})" if self.run else ""
        return f"`{self.command or 'a command'}`" + (f" of {self.who}" if self.who else "") + where

    def age_s(self, now: datetime) -> float:
        """Seconds since it renewed last, by its clock and ours; DURATION_S where it never said."""
        try:
            renewed = datetime.strptime(self.renewed, TIME).replace(tzinfo=timezone.utc)
        except ValueError:
            return DURATION_S
        return (now - renewed).total_seconds()


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The object as it was last seen. `version` empty: there is none. `last`: who held it last, whether or not it still does."""

    version: str = ""
    uid: str = ""
    transitions: int = 0
    holder: Holder | None = None
    last: Holder | None = None


@dataclass
class Lease:
    """The Lease of one release, for one command. Not to be taken twice.

    identity    no other command's: host, process and chance
    command     `stage 2`, for the people who find the Lease held
    lost        set once another holder was seen
    on_lost     told then, from the renewing thread: the command's helm must end
    """

    processes: Processes
    connection: Connection
    release: str
    identity: str
    command: str
    by: Provenance
    on_lost: Callable[[], None] = lambda: None
    lost: threading.Event = field(default_factory=threading.Event)
    _seen: _Seen = field(default_factory=lambda: _Seen())
    _held: bool = False
    _taken: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return f"helm-canary.{self.release}"

    def look(self) -> Holder | None:
        """Who else holds it now; what is seen here is what `take` relies on. Raises ToolError."""
        command = self.connection.kubectl("get", "lease", self.name, "--ignore-not-found", "--output", "json")
        text = self.processes.run(command).stdout.strip()
        self._seen = _read(json.loads(text)) if text else _Seen()
        return None if self._is_ours() else self._seen.holder

    def take(self) -> bool:
        """Hold it from now on, whoever held it when `look` was called; False where somebody was quicker. Raises ToolError."""
        if not self._write(self.identity, self._seen.transitions + 1):
            return False
        self._held, self._taken = True, self._seen.transitions
        self._thread = threading.Thread(target=self._renew_for_ever, daemon=True)
        self._thread.start()
        return True

    def check(self) -> None:
        """Raises LeaseLostError unless it is still ours, as the API server has it now."""
        with self._lock:
            self.look()
            if not self._is_ours():
                self._lose()
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Raises LeaseLostError where another holder was seen."""
        if self.lost.is_set():
            # Whoever took it may have done its work and let it go by now.
            taken = self._seen.transitions != self._taken
            raise lost_error(self._seen.holder or (self._seen.last if taken else None))

    def give_up(self) -> None:
        """Let others have it. Best effort: a Lease that stays held is dead in half a minute.

        Where another command has it by now, it is lost.
        """
        self._done.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
        held, self._held = self._held, False
        if held and not self.lost.is_set() and not (self._thread and self._thread.is_alive()):
            with contextlib.suppress(CanaryError):
                if not self._write("", self._seen.transitions):
                    self.look()
                    if self._seen.holder is not None and not self._is_ours():
                        self._lose()

    def _is_ours(self) -> bool:
        return self._seen.holder is not None and self._seen.holder.identity == self.identity

    def _write(self, identity: str, transitions: int) -> bool:
        """Create or replace the object as it was last seen; False where it is another one by now."""
        command = self.connection.kubectl(
            "replace" if self._seen.version else "create", "--filename", "-", "--output", "json"
        )
        body = json.dumps(self._object(identity, transitions))
        done = self.processes.run(command, stdin=body, check=False, once=True)
        if done.code == 0:
            self._seen = _read(json.loads(done.stdout))
            return True
        if any(sign in done.stderr for sign in OVERTAKEN):
            return False
        raise _not_written(done.stderr)

    def _object(self, identity: str, transitions: int) -> dict[str, Any]:
        notes = {"command": self.command, "who": self.by.who, "run": self.by.run}
        metadata: dict[str, Any] = {
            "name": self.name,
            "annotations": {f"{NOTES}/{key}": value for key, value in notes.items() if value},
        }
        if self._seen.version:
            metadata["resourceVersion"] = self._seen.version
            # The API server makes a Lease that is replaced and not there; not one that has to be this one.
            metadata["uid"] = self._seen.uid
        spec: dict[str, Any] = {
            "leaseDurationSeconds": DURATION_S,
            "renewTime": datetime.now(timezone.utc).strftime(TIME),
            "leaseTransitions": transitions,
        }
        if identity:
            spec["holderIdentity"] = identity
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    # --- holding it --------------------------------------------------------------------------------------------------

    def _renew_for_ever(self) -> None:
        while not self._done.wait(RENEW_S) and not self.lost.is_set():
            # Without an answer nothing is lost: nobody else can take it then either, and every write asks again.
            with contextlib.suppress(CanaryError), self._lock:
                if self._write(self.identity, self._seen.transitions):
                    continue
                self.look()
                if not self._is_ours():
                    self._lose()

    def _lose(self) -> None:
        if not self.lost.is_set():
            self.lost.set()
            self.on_lost()


def _read(thing: Mapping[str, Any]) -> _Seen:
    spec, metadata = thing.get("spec") or {}, thing["metadata"]
    notes = metadata.get("annotations") or {}
    identity = str(spec.get("holderIdentity") or "")
    said = {key: str(notes.get(f"{NOTES}/{key}", "")) for key in ("command", "who", "run")}
    last = Holder(identity=identity, renewed=str(spec.get("renewTime") or ""), **said)
    transitions = int(spec.get("leaseTransitions") or 0)
    version, uid = str(metadata["resourceVersion"]), str(metadata["uid"])
    return _Seen(version=version, uid=uid, transitions=transitions, holder=last if identity else None, last=last)


def lost_error(holder: Holder | None) -> LeaseLostError:
    """`holder` None: nobody holds it now."""
    if holder is None:
        happened, means = (
            "This command lost the release lease.",
            "The Lease was deleted or released outside of helm-canary.",
        )
        do_next = "Run the same command again."
    else:
        happened = f"The release was taken over by {holder}."
        means = "A rollback goes before every stage, and one was started while this command ran."
        do_next = "Wait for the rollback to finish; `helm-canary status` shows what it came to."
    return LeaseLostError(happened, means, do_next)


def held_error(holder: Holder) -> RefusedError:
    return RefusedError(
        f"Another command is at work on this release: {holder}.",
        "Two commands at once would undo each other's steps.",
        "Wait until it has finished, then run the same command again.",
    )


def _not_written(stderr: str) -> ToolError:
    means, do_next = "The message below is kubectl's own.", "Run the same command again."
    missing = forbidden(stderr)
    if missing:
        means = (
            "The account is not allowed to. The Lease keeps two commands from changing one release at the same time."
        )
        do_next = advice(missing)
    happened = "The Lease of this release cannot be written."
    return ToolError(happened, means, do_next, tuple(stderr.strip().splitlines()), stderr=stderr)
