"""What must not be read in a log: told to the CI, which replaces it everywhere, and replaced in what we print ourselves."""

from __future__ import annotations

import base64
import sys
import threading
from dataclasses import dataclass, field
from typing import TextIO

from helm_canary.ci.platform import Laptop, Platform
from helm_canary.report import to_json

# A CI refuses to mask, or masks half of the log, when the text is as short as a word.
SHORTEST = 8
INSTEAD = "***"


@dataclass
class Masks:
    """The secrets of this run. Thread-safe: tokens are renewed aside."""

    platform: Platform = field(default_factory=Laptop)
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _known: dict[str, None] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, secret: str) -> None:
        """Mask a secret, line by line, as it stands in JSON, and as base64 as it goes into headers."""
        lines = [line.strip() for line in secret.splitlines()]
        escaped = [to_json(line)[1:-1] for line in lines]
        encoded = base64.b64encode(secret.encode(errors="replace")).decode()
        for text in (*lines, *escaped, encoded):
            if len(text) < SHORTEST or text.startswith("-----"):
                continue
            with self._lock:
                new = text not in self._known
                self._known[text] = None
            if new:
                self._tell(text)

    def hide(self, text: str) -> str:
        """A text without any secret; the longest first, as one may be part of another."""
        with self._lock:
            known = sorted(self._known, key=len, reverse=True)
        for secret in known:
            text = text.replace(secret, INSTEAD)
        return text

    def _tell(self, text: str) -> None:
        command = self.platform.mask(text)
        if command:
            print(command, file=self.stream, flush=True)
