"""Requests at a fixed rate to a cluster that is not the local one, counted as tests.cluster.Traffic counts its own.

The local cluster's load generator is compiled and refuses every other address; this one needs nothing but Python.
"""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

from tests.cluster import Move, Request

TIMEOUT_S = 30.0
MOST_OPEN = 200
LONGEST_S = 1800.0


class Load(Protocol):
    """Runs from entering the `with` block to leaving it."""

    def __enter__(self) -> Load: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def mark(self, name: str) -> None: ...
    def requests(self) -> tuple[Request, ...]: ...
    def report(self) -> list[Move]: ...


class PythonLoad:
    """Each request has its own moment, whether or not earlier ones have ended; connections are kept, as gateways keep them."""

    def __init__(self, url: str, host: str, *, rps: int) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._netloc, self._path, self._host, self._rps = parts.netloc, parts.path or "/", host, rps
        self._pool = ThreadPoolExecutor(MOST_OPEN)
        self._kept = threading.local()
        self._lock = threading.Lock()
        self._done: list[Request] = []
        self._sent_ms: dict[int, int] = {}
        self._stop = threading.Event()
        self._pacer = threading.Thread(target=self._pace, daemon=True)
        self._marks = [("before the first move", _now_ms())]

    def __enter__(self) -> PythonLoad:
        self._pacer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pacer.join()
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def mark(self, name: str) -> None:
        self._marks.append((name, _now_ms()))

    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._done)

    def report(self) -> list[Move]:
        """All moves so far; it waits for what is in flight of them."""
        until, deadline = _now_ms(), time.monotonic() + TIMEOUT_S + 1
        while self._pending_before(until) and time.monotonic() < deadline:
            time.sleep(0.05)
        done = self.requests()
        ends = [began for _, began in self._marks[1:]] + [until]
        moves = [
            Move(name, began, end, tuple(request for request in done if began <= request.sent_ms < end))
            for (name, began), end in zip(self._marks, ends, strict=True)
        ]
        return [move for move in moves if move.sent]

    def _pending_before(self, moment_ms: int) -> bool:
        with self._lock:
            return any(sent < moment_ms for sent in self._sent_ms.values())

    def _pace(self) -> None:
        began, number = time.monotonic(), 0
        while not self._stop.is_set() and time.monotonic() - began < LONGEST_S:
            wait = began + number / self._rps - time.monotonic()
            if wait > 0 and self._stop.wait(wait):
                return
            with self._lock:
                self._sent_ms[number] = _now_ms()
            self._pool.submit(self._one, number)
            number += 1

    def _one(self, number: int) -> None:
        began = time.monotonic()
        status, version, track = self._get()
        took_ms = int((time.monotonic() - began) * 1000)
        with self._lock:
            sent_ms = self._sent_ms.pop(number)
            self._done.append(Request(sent_ms, status, version, took_ms, track, slow=False))

    def _get(self) -> tuple[str, str, str]:
        """A kept connection that was closed before any answer is tried again on a new one, as every HTTP client does."""
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        for connection in (kept, None) if kept else (None,):
            connection = connection or self._connect()
            try:
                return self._ask(connection)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._drop(connection)
            except (OSError, http.client.HTTPException):
                self._drop(connection)
                break
        return "ERR", "-", "-"

    def _ask(self, connection: http.client.HTTPConnection) -> tuple[str, str, str]:
        connection.request("GET", self._path, headers={"Host": self._host})
        answer = connection.getresponse()
        answer.read()
        self._kept.connection = connection
        track = answer.getheader("x-canary-track") or "-"
        return str(answer.status), answer.getheader("x-app-version") or track, track

    def _connect(self) -> http.client.HTTPConnection:
        made = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return made(self._netloc, timeout=TIMEOUT_S)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._kept.connection = None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
