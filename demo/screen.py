"""What the demo shows: lines, on a terminal one live line below them, questions; and what of it goes into the picture."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

REFRESH_S = 0.4
PLAIN_EVERY_S = 10.0
NARROWEST = 60


class Look(Enum):
    """How a line looks: its ANSI code here, and the style of the same name in the picture."""

    PLAIN = "0"
    TITLE = "1"
    FAINT = "2"
    GOOD = "32"
    BAD = "31"
    LIVE = "36"


@dataclass(frozen=True)
class Line:
    text: str
    look: Look


@dataclass
class Screen:
    """`pictured` are the lines that the picture is made of; `yes` answers every question."""

    yes: bool
    pictured: list[Line] = field(default_factory=list)
    _live: bool = False
    _live_said_s: float = 0.0
    _typed: bytes = b""

    @property
    def terminal(self) -> bool:
        return sys.stdout.isatty()

    def line(self, text: str = "", look: Look = Look.PLAIN, *, pictured: bool = True) -> None:
        self._clear()
        if pictured:
            self.pictured.append(Line(text, look))
        print(self._coloured(text, look), flush=True)

    def detail(self, text: str) -> None:
        """A line that the picture has no room for."""
        self.line(self._cut(text) if self.terminal else text, Look.FAINT, pictured=False)

    def live(self, text: str) -> None:
        """On a terminal the last line, written anew each time; in a log a line now and then."""
        if self.terminal:
            print("\r\x1b[2K" + self._coloured(self._cut(text), Look.LIVE), end="", flush=True)
            self._live = True
        elif time.monotonic() - self._live_said_s >= PLAIN_EVERY_S:
            self._live_said_s = time.monotonic()
            print(text, flush=True)

    def ask(self, question: str, status: Callable[[], str], limit_s: float) -> str:
        """The answer's first letter, small; empty for Enter. No answer in time, or none to come, is `q`."""
        if self.yes:
            self.line(f"{question} yes (YES=1)", pictured=False)
            return ""
        self.line(question, pictured=False)
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if self.terminal:
                self.live(f"{status()} > ")
            answer = self._answer()
            if answer is not None:
                self._live = False
                return answer.strip().lower()[:1]
        self.line(f"No answer in {limit_s:.0f} s.")
        return "q"

    def _answer(self) -> str | None:
        """A whole line that was typed, or None so far. Read by hand: a buffered reader would hide lines from `select`."""
        if b"\n" not in self._typed and select.select([0], [], [], REFRESH_S)[0]:
            fresh = os.read(0, 4096)
            self._typed += fresh or b"q\n"
        if b"\n" not in self._typed:
            return None
        line, self._typed = self._typed.split(b"\n", 1)
        return line.decode(errors="replace")

    def _clear(self) -> None:
        if self._live:
            print("\r\x1b[2K", end="")
            self._live = False

    def _cut(self, text: str) -> str:
        width = max(shutil.get_terminal_size((120, 24)).columns - 1, NARROWEST)
        return text if len(text) <= width else text[: width - 1] + "…"

    def _coloured(self, text: str, look: Look) -> str:
        if not self.terminal or "NO_COLOR" in os.environ or look is Look.PLAIN:
            return text
        return f"\x1b[{look.value}m{text}\x1b[0m"
