"""Azure Pipelines' expressions: one reader for `${{ }}`, `$[ ]` and conditions.

https://learn.microsoft.com/azure/devops/pipelines/process/expressions. What is not known here is an error, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Function = Callable[..., Any]
TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))|(?P<name>[A-Za-z_][\w-]*)|(?P<sign>[().,\[\]]))"
)


class ExpressionError(Exception):
    """An expression that cannot be read, or uses what is not known here."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an expression may name, and the functions besides the general ones."""

    names: Mapping[str, Any]
    functions: Mapping[str, Function] = field(default_factory=dict)


# --- values ------------------------------------------------------------------------------------------------------------


def to_boolean(value: Any) -> bool:
    """An empty text, a zero and nothing are false; every list and mapping is true."""
    return True if isinstance(value, dict | list) else bool(value)


def to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:g}"
    if isinstance(value, str):
        return value
    raise ExpressionError(f"a list or a mapping is no text: {value!r}")


def _to_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return None


def equal(left: Any, right: Any) -> bool:
    """The right value is converted to the type of the left one; letters' case does not count."""
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        return left is right
    if left is None:
        return right is None or right == ""
    if isinstance(left, bool):
        return left is to_boolean(right)
    if isinstance(left, int | float):
        return _to_number(right) == left
    return bool(left.casefold() == to_text(right).casefold())


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, list):
        return any(equal(item, part) for item in whole)
    return to_text(part).casefold() in to_text(whole).casefold()


def _format(pattern: Any, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda found: to_text(values[int(found[1])]), to_text(pattern))


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None and value != ""), "")


GENERAL: Mapping[str, Function] = {
    "eq": equal,
    "ne": lambda left, right: not equal(left, right),
    "and": lambda *values: all(map(to_boolean, values)),
    "or": lambda *values: any(map(to_boolean, values)),
    "not": lambda value: not to_boolean(value),
    "in": lambda value, *others: any(equal(value, other) for other in others),
    "notin": lambda value, *others: not any(equal(value, other) for other in others),
    "contains": _contains,
    "startswith": lambda text, start: to_text(text).casefold().startswith(to_text(start).casefold()),
    "format": _format,
    "join": lambda sign, values: to_text(sign).join(map(to_text, values)),
    "length": lambda value: len(value) if isinstance(value, list | dict) else len(to_text(value)),
    "coalesce": _coalesce,
    "converttojson": lambda value: json.dumps(value, indent=2),
}
LITERALS = {"true": True, "false": False, "null": None}


# --- reading -----------------------------------------------------------------------------------------------------------


def evaluate(text: str, scope: Scope) -> Any:
    """The value of an expression."""
    reader = _Reader(tokens=_tokens(text), text=text, scope=scope)
    value = reader.value()
    reader.end()
    return value


def _tokens(text: str) -> Sequence[tuple[str, str]]:
    found, position = [], 0
    while text[position:].strip():
        token = TOKEN.match(text, position)
        if token is None or token.lastgroup is None:
            raise ExpressionError(f"not readable from {text[position:]!r} on, in {text!r}")
        found.append((token.lastgroup, token[token.lastgroup]))
        position = token.end()
    return found


@dataclass(kw_only=True)
class _Reader:
    tokens: Sequence[tuple[str, str]]
    text: str
    scope: Scope
    position: int = 0

    def _next(self) -> tuple[str, str]:
        if self.position == len(self.tokens):
            raise ExpressionError(f"it ends too early: {self.text!r}")
        self.position += 1
        return self.tokens[self.position - 1]

    def _at(self, sign: str) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position] == ("sign", sign)

    def _expect(self, sign: str) -> None:
        if self._next() != ("sign", sign):
            raise ExpressionError(f"{sign!r} is missing in {self.text!r}")

    def end(self) -> None:
        if self.position != len(self.tokens):
            raise ExpressionError(f"too much after the value in {self.text!r}")

    def value(self) -> Any:
        kind, token = self._next()
        match kind:
            case "text":
                return token[1:-1].replace("''", "'")
            case "number":
                return float(token) if "." in token else int(token)
            case "name" if self._at("("):
                return self._call(token)
            case "name" if token.lower() in LITERALS:
                return LITERALS[token.lower()]
            case "name" if token in self.scope.names:
                return self._properties(self.scope.names[token])
        raise ExpressionError(f"{token!r} is not known in {self.text!r}")

    def _call(self, name: str) -> Any:
        function = {**GENERAL, **self.scope.functions}.get(name.lower())
        if function is None:
            raise ExpressionError(f"the function {name!r} is not known in {self.text!r}")
        self._expect("(")
        values: list[Any] = []
        while not self._at(")"):
            if values:
                self._expect(",")
            values.append(self.value())
        self._expect(")")
        try:
            return self._properties(function(*values))
        except (TypeError, IndexError) as error:
            raise ExpressionError(f"{name} cannot be called so in {self.text!r}: {error}") from error

    def _properties(self, value: Any) -> Any:
        while self._at(".") or self._at("["):
            if self._next()[1] == ".":
                kind, key = self._next()
                if kind != "name":
                    raise ExpressionError(f"a name is missing after the dot in {self.text!r}")
            else:
                key = self.value()
                self._expect("]")
            value = _property(value, key)
        return value


def _property(value: Any, key: Any) -> Any:
    """A property that is not there is null, as documented; a mapping that knows all its names may raise instead."""
    if isinstance(value, list):
        return value[int(key)] if int(key) < len(value) else None
    if isinstance(value, Mapping):
        return value[key] if key in value or isinstance(value, Closed) else None
    return None


class Closed(dict[str, Any]):
    """A mapping whose missing names are mistakes."""

    def __missing__(self, key: str) -> Any:
        raise ExpressionError(f"there is no {key!r}; there are: {', '.join(self)}")
