"""A terminal or a plain log: a line a change, and on a terminal one live line for what is waited for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from helm_canary.ci.platform import Laptop, Platform
from helm_canary.core.model import Plan, Step
from helm_canary.report import harmless, plan_text, step_line

REPEAT_AFTER_S = 30.0


@dataclass
class Console:
    """Writes what happens to standard error, so that standard output has the answer alone."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    terminal_width: int = 200
    hide: Callable[[str], str] = str
    conceal: Callable[[str], str] = str
    platform: Platform = field(default_factory=Laptop)
    _in_group: bool = False
    _live: bool = False
    _said: str = ""
    _said_at: float = 0.0

    @property
    def _terminal(self) -> bool:
        return self.stream.isatty()

    def line(self, text: str) -> None:
        self._clear()
        print(harmless(self.hide(text)), file=self.stream, flush=True)

    def plan(self, plan: Plan) -> None:
        self.line(plan_text(plan))

    def step(self, number: int, total: int, step: Step) -> None:
        self._said = ""
        self.end_group()
        title = f"[{number}/{total}] {step_line(step)}"
        opened = self.platform.group(harmless(self.hide(title)))
        self._in_group = bool(opened)
        if opened:
            print(opened, file=self.stream, flush=True)
        else:
            self.line(title)

    def end_group(self) -> None:
        """What follows belongs to no step."""
        if self._in_group:
            print(self.platform.end_group(), file=self.stream, flush=True)
        self._in_group = False

    def waiting(self, what: str, detail: str, since_s: float) -> None:
        """A live line on a terminal; in a log a line when the detail changes, and every half minute."""
        text = f"  waiting {since_s:.0f} s for {what}: {self.conceal(detail)}"
        if self._terminal:
            print(
                "\r\x1b[2K" + harmless(self.hide(text))[: self.terminal_width - 1], end="", file=self.stream, flush=True
            )
            self._live = True
        elif detail != self._said or since_s - self._said_at >= REPEAT_AFTER_S or since_s < self._said_at:
            self._said, self._said_at = detail, since_s
            self.line(text)

    def note(self, text: str) -> None:
        self.line(f"note: {self.conceal(text)}")

    def command(self, text: str) -> None:
        self.line(f"  $ {text}")

    def _clear(self) -> None:
        if self._live:
            print("\r\x1b[2K", end="", file=self.stream)
            self._live = False
