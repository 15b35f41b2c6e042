"""What must not be read in a log: told to the CI, which replaces it everywhere, and replaced in what we print ourselves."""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TextIO

from helm_canary.ci.platform import Laptop, Platform
from helm_canary.core.model import Direction, Result, Track
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from helm_canary.errors import CanaryError
from helm_canary.report import nothing_known, outputs, to_json

# A CI refuses to mask, or masks half of the log, when the text is as short as a word.
SHORTEST = 8
# Texts are cut to be shown; so much of a secret's beginning is a part of it.
BEGINNING = 16
INSTEAD = "***"
CUT = "..."


@lru_cache(maxsize=1)
def _own_words() -> tuple[str, ...]:
    """What answers are made of: hidden, they could not be read, and what reads them would fail."""
    named = (*Result, *Direction, *Track)
    stages = (stage.name for stage in stages_for(DEFAULT_WEIGHTS))
    proofs = ("proven", "gateways", "unproven")
    return (*outputs(nothing_known(CanaryError(""))), *(one.value for one in named), *stages, *proofs)


@dataclass
class Masks:
    """The secrets of this run. Thread-safe: tokens are renewed aside.

    Short ones no CI can hide, and nothing of ours prints them; `conceal` is for what others wrote.
    """

    platform: Platform = field(default_factory=Laptop)
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _known: dict[str, None] = field(default_factory=dict, repr=False)
    _foreign: dict[str, None] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, secret: str) -> None:
        """Mask a secret, line by line, as it stands in JSON, and as base64 as it goes into headers."""
        for text in _forms(secret):
            short = len(text) < SHORTEST
            with self._lock:
                known = self._foreign if short else self._known
                new = text not in known
                known[text] = None
            if new and not short:
                self._tell(text)

    def suspect(self, text: str) -> None:
        """Hide what may be a secret in what others write, not in our own texts."""
        with self._lock:
            self._foreign.update(dict.fromkeys(_forms(text)))

    def hide(self, text: str) -> str:
        """A text without any secret."""
        with self._lock:
            known = tuple(self._known)
        return _without(text, known)

    def conceal(self, text: str) -> str:
        """A text of helm, kubectl, a webhook or an app: also without short secrets, which stand in it as words."""
        with self._lock:
            known, foreign = tuple(self._known), tuple(self._foreign)
        text = _without(text, [*known, *(secret for secret in foreign if len(secret) >= SHORTEST)])
        for secret in sorted(foreign, key=len, reverse=True):
            if len(secret) < SHORTEST and secret in text:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", INSTEAD, text)
        return text

    def hide_json(self, text: str) -> str:
        """A JSON answer whose texts have no secret; its keys stay."""
        return to_json(self._hidden(json.loads(text)))

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._hidden(below) for key, below in value.items()}
        if isinstance(value, list):
            return [self._hidden(below) for below in value]
        return self.hide(value) if isinstance(value, str) else value

    def _tell(self, text: str) -> None:
        command = self.platform.mask(text)
        if command:
            print(command, file=self.stream, flush=True)


def _forms(secret: str) -> list[str]:
    lines = [line.strip() for line in secret.splitlines()]
    escaped = [to_json(line)[1:-1] for line in lines]
    encoded = base64.b64encode(secret.encode(errors="replace")).decode()
    return [
        text
        for text in dict.fromkeys((*lines, *escaped, encoded))
        # A single character, or what begins and ends a key, is in every text.
        if len(text) > 1 and not text.startswith("-----") and not _is_own(text)
    ]


def _is_own(text: str) -> bool:
    return text in _own_words() or (len(text) >= SHORTEST and any(text in word for word in _own_words()))


def _without(text: str, secrets: Iterable[str]) -> str:
    """The longest first, as one may be part of another; then what is left of those that were cut."""
    known = sorted(secrets, key=len, reverse=True)
    for secret in known:
        text = text.replace(secret, INSTEAD)
    for secret in known:
        if len(secret) > BEGINNING and secret[:BEGINNING] in text:
            text = _without_beginning(text, secret)
    return text


def _without_beginning(text: str, secret: str) -> str:
    """Without the beginning of a secret, wherever one was cut; what only begins alike goes on as another word."""
    at = text.find(secret[:BEGINNING])
    while at >= 0:
        end = at + BEGINNING
        while end < len(text) and end - at < len(secret) and text[end] == secret[end - at]:
            end += 1
        if text.startswith(CUT, end) or not re.match(r"[\w/+=.-]", text[end:]):
            text, end = text[:at] + INSTEAD + text[end:], at + len(INSTEAD)
        at = text.find(secret[:BEGINNING], end)
    return text
