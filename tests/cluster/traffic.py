"""Requests at a fixed rate through the ingress gateway, and the account of what became of each.

    with Traffic(cluster, "productpage.test", rps=100) as traffic:
        traffic.mark("1 -> 2")
        ...
    print(table(traffic.report()))

A request belongs to the move in which it was sent, also where its answer came in a later one. Lost is whatever was
not answered 200.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .shell import ClusterError

if TYPE_CHECKING:
    from types import TracebackType

    from .cluster import Cluster

# Longer than load waits for an answer.
ANSWER_LIMIT_S = 35.0
FIRST_LIMIT_S = 10.0
BEFORE = "before the first move"


@dataclass(frozen=True)
class Request:
    sent_ms: int
    status: str
    version: str
    latency_ms: int
    track: str
    slow: bool

    @property
    def lost(self) -> bool:
        return self.status != "200"


@dataclass(frozen=True)
class Move:
    """A span of time with a name, and the requests sent in it."""

    name: str
    began_ms: int
    ended_ms: int
    requests: tuple[Request, ...]

    @property
    def sent(self) -> int:
        return len(self.requests)

    @property
    def losses(self) -> tuple[Request, ...]:
        return tuple(request for request in self.requests if request.lost)

    @property
    def lost(self) -> int:
        return len(self.losses)

    @property
    def by_status(self) -> Counter[str]:
        return Counter(request.status for request in self.requests)

    @property
    def by_version(self) -> Counter[str]:
        """Of the answers that were 200: an error page of the gateway has no version."""
        return Counter(request.version for request in self.requests if not request.lost)

    @property
    def by_track(self) -> Counter[str]:
        return Counter(request.track for request in self.requests if not request.lost)

    @property
    def first_lost_after_ms(self) -> int | None:
        """Counted from the beginning of the move: it tells which of its steps to look at."""
        return min((request.sent_ms - self.began_ms for request in self.losses), default=None)

    @property
    def last_lost_after_ms(self) -> int | None:
        return max((request.sent_ms - self.began_ms for request in self.losses), default=None)

    def latency_ms(self, percent: float) -> int:
        """Of the answered requests that were not asked to be slow; 0 if there are none."""
        times = sorted(request.latency_ms for request in self.requests if not request.lost and not request.slow)
        return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else 0


class Traffic:
    """Runs from entering the `with` block to leaving it; `slow_rps` requests that take `slow_ms` come on top."""

    def __init__(
        self, cluster: Cluster, host: str, *, rps: int = 100, path: str = "/", slow_rps: int = 0, slow_ms: int = 2000
    ) -> None:
        self._cluster = cluster
        url = f"http://{cluster.gateway_address}{path}"
        self._folder = Path(tempfile.mkdtemp(prefix="traffic-"))
        self._out = self._folder / "requests"
        slow = ("--slow-rps", str(slow_rps), "--slow-ms", str(slow_ms))
        self._argv = (cluster.bin / "load", url, host, str(rps), self._out, *slow, "--until-eof")
        self._answer_limit_s = ANSWER_LIMIT_S + slow_ms / 1000
        self._marks: list[tuple[str, int]] = []
        self._process: subprocess.Popen[str] | None = None
        self._stopped_ms = 0
        self._read_to = 0
        self._requests: list[Request] = []
        self._complete_to_ms = 0

    def __enter__(self) -> Traffic:
        # Its standard input closes when this process ends, however it ends: no load stays behind.
        self._process = subprocess.Popen(
            self._cluster.command(*self._argv),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._cluster.environment(),
        )
        self._marks.append((BEFORE, _now_ms()))
        try:
            self._wait_complete_to(_now_ms(), FIRST_LIMIT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def mark(self, name: str) -> None:
        """From here on requests belong to the move of this name."""
        self._marks.append((name, _now_ms()))

    def stop(self) -> None:
        """Send nothing more, and wait for what is in flight."""
        if self._process is None or self._stopped_ms:
            return
        self._stopped_ms = _now_ms()
        self._process.terminate()
        try:
            self._process.communicate(timeout=self._answer_limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._read()
        shutil.rmtree(self._folder, ignore_errors=True)

    def requests(self) -> tuple[Request, ...]:
        """Those that have ended so far, in the order of their ends."""
        self._read()
        return tuple(self._requests)

    def report(self) -> list[Move]:
        """All moves so far, complete: it waits for those sent by now that are still in flight."""
        until = self._stopped_ms or _now_ms()
        if not self._stopped_ms:
            self._wait_complete_to(until, self._answer_limit_s)
        ends = [began for _, began in self._marks[1:]] + [until]
        moves = [
            Move(name, began, end, tuple(request for request in self._requests if began <= request.sent_ms < end))
            for (name, began), end in zip(self._marks, ends, strict=True)
        ]
        return [move for move in moves if move.sent or move.name != BEFORE]

    def _wait_complete_to(self, moment_ms: int, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        self._read()
        while self._complete_to_ms <= moment_ms:
            if self._process is not None and self._process.poll() is not None:
                said = self._process.stderr.read() if self._process.stderr else ""
                raise ClusterError(
                    f"the load generator ended by itself: {said.strip()}",
                    "it was given an address outside of the cluster, or ran for its longest time of 30 minutes",
                    "check the address, or split what is measured into shorter parts",
                )
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"requests were still unanswered after {limit_s:g} s",
                    "the machine is too busy to keep up with the rate",
                    "ask for fewer requests a second",
                )
            time.sleep(0.02)
            self._read()

    def _read(self) -> None:
        """Take in the whole lines that have come since the last time."""
        if not self._out.exists():
            return
        with self._out.open("rb") as handle:
            handle.seek(self._read_to)
            fresh = handle.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.decode().splitlines():
            words = line.split()
            if words[0] == "#":
                self._complete_to_ms = int(words[1])
            else:
                sent, status, version, latency, track, kind = words
                self._requests.append(Request(int(sent), status, version, int(latency), track, kind == "slow"))


def table(moves: list[Move]) -> str:
    """A line a move: what was sent, what was lost, and who answered how much of the rest."""
    versions = sorted({version for move in moves for version in move.by_version})
    head = ["move", "seconds", "sent", "lost", *versions, "p50 ms", "p99 ms", "statuses that lost", "first lost after"]
    rows = [head]
    for move in moves:
        answered = max(1, move.sent - move.lost)
        first = move.first_lost_after_ms
        rows.append(
            [
                move.name,
                f"{(move.ended_ms - move.began_ms) / 1000:.1f}",
                str(move.sent),
                str(move.lost),
                *(f"{100 * move.by_version[version] / answered:.1f} %" for version in versions),
                str(move.latency_ms(50)),
                str(move.latency_ms(99)),
                ", ".join(f"{count} x {status}" for status, count in move.by_status.most_common() if status != "200"),
                "" if first is None else f"{first / 1000:.1f} s",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join((lines[0], "-" * len(lines[0]), *lines[1:]))


def _line(row: list[str], widths: list[int]) -> str:
    cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((row[0].ljust(widths[0]), *cells)).rstrip()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
