"""Rule 15: what came from a Secret is in no text that leaves the cluster. Pure: objects in, the texts that must not be shown out.

Of a Secret itself no difference shows a value (`fields.py`). Here its values are found, so that nobody else's text shows them
either: an annotation or variable with the same text, an answer of helm, kubectl or a webhook, an event, a log.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helm_canary.fields import is_secret

LONG = 8
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# The name of a value that is most likely secret; more names than those of a command line, because nothing is lost by a few more.
SENSITIVE = re.compile(r"(?i)pass|pw|secret|token|credential|key|auth|cert|dsn|connection|private|salt|pin$")


@dataclass(frozen=True, kw_only=True)
class Secrecy:
    """Has what came from Secrets hidden, as soon as it is known. `public`: texts that are no secret wherever they stand."""

    mask: Callable[[str], None] = field(default=lambda secret: None, repr=False)
    public: tuple[str, ...] = ()

    def learn(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """From rendered, stored or live objects."""
        for text in secret_texts(objects, self.public):
            self.mask(text)


def secret_texts(objects: Iterable[Mapping[str, Any]], public: Sequence[str] = ()) -> list[str]:
    """Every value of every Secret among and within these objects. What names an object or an image is known to all."""
    things = list(objects)
    found = dict.fromkeys(text for thing in things for secret in _secrets_in(thing) for text in _texts_of(secret))
    if not found:
        return []
    names = [*public, *(name for thing in things for name in _names_of(thing))]
    return [text for text in found if text and not any(_names(text, name) for name in names)]


def _names(text: str, name: str) -> bool:
    """Whether a text is a name or part of one; a short one is in too many to be known by it."""
    return text in re.split("[:@/]", name) or (len(text) >= LONG and text in name)


def _secrets_in(value: Any) -> Iterator[Mapping[str, Any]]:
    if is_secret(value):
        yield value
    elif isinstance(value, (Mapping, list)):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from _secrets_in(below)


def _texts_of(secret: Mapping[str, Any]) -> Iterator[str]:
    if secret.get("type") == "helm.sh/release.v1":
        return  # packed: no part of it is the text of anything
    for value in _leaves(secret.get("data")):
        try:
            text = base64.b64decode("".join(value.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            yield value  # no text, or none that was encoded
            continue
        yield from _with_parts(text)
        if base64.b64encode(text.encode()).decode() != value:
            yield value
    for value in _leaves(secret.get("stringData")):
        yield from _with_parts(value)
    annotations = (secret.get("metadata") or {}).get("annotations")
    applied = annotations.get(LAST_APPLIED) if isinstance(annotations, Mapping) else None
    repeated = _parsed(applied) if isinstance(applied, str) else None
    if isinstance(repeated, Mapping):
        yield from _texts_of({key: repeated.get(key) for key in ("data", "stringData")})


def _with_parts(text: str) -> Iterator[str]:
    """A text, and what it holds where it is JSON, such as the passwords of registries."""
    yield text
    if text.lstrip()[:1] in ("{", "["):
        yield from _leaves(_parsed(text))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _leaves(value: Any) -> Iterator[str]:
    """The scalars, a number in each way in which an error may write it; a truth value hides nothing."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from dict.fromkeys((str(value), f"{value:g}", f"{value:.17g}"))
    elif isinstance(value, (Mapping, list)):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(below)


def _names_of(thing: Mapping[str, Any]) -> Iterator[str]:
    metadata = thing.get("metadata") or {}
    yield from (str(metadata.get(key) or "") for key in ("name", "namespace"))
    spec = thing.get("spec")
    if not isinstance(spec, Mapping):
        return
    yield from (host for host in _leaves([spec.get("hosts"), spec.get("host")]))
    template = spec.get("template")
    pod = template.get("spec") if isinstance(template, Mapping) else None
    for container in (pod.get("containers") or []) if isinstance(pod, Mapping) else []:
        yield str(container.get("image", ""))


def suspects(values: Any, name: str = "") -> Iterator[str]:
    """The values of a chart whose name, or the name of the map they are in, says that they are secret."""
    if isinstance(values, Mapping):
        for key, below in values.items():
            yield from suspects(below, f"{name}.{key}")
    elif isinstance(values, list):
        for below in values:
            yield from suspects(below, name)
    elif SENSITIVE.search(name):
        yield from _leaves(values)
