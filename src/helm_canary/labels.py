"""Labels that only tell a reader which chart or version an object is of, and which of them nothing chooses objects by. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from helm_canary.fields import joined

# A chart of another version, or another tag, gives all of its objects other values of these.
INFORMING = ("app.kubernetes.io/version", "helm.sh/chart", "version")
# They choose nodes and namespaces, which no chart of a service labels.
OTHERS = ("nodeSelector", "namespaceSelector")


def free_labels(objects: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The label keys whose values may change without anyone noticing: no selector, subset or policy among these objects uses
    them.
    """
    used = {key for thing in objects for key in _chosen_by(thing)}
    return frozenset(key for key in INFORMING if not any(_names(text, key) for text in used))


def is_free(path: str, free: frozenset[str]) -> bool:
    """Whether a path in an object is the value of such a label of the object itself; its pods' are part of their version."""
    return any(path == joined("metadata.labels", key) for key in free)


def _names(text: str, key: str) -> bool:
    """A label key, or a text that holds it: `destination.labels[version]`, `app=shop,version in (1, 2)`."""
    return re.search(rf"(?<![\w./-]){re.escape(key)}(?![\w./-])", text) is not None


def _chosen_by(thing: Mapping[str, Any]) -> Iterator[str]:
    for key, below in thing.items():
        if key in ("metadata", "status", *OTHERS):
            continue
        if key in ("labels", "matchLabels", "sourceLabels") or key.endswith("elector"):
            yield from below if isinstance(below, Mapping) else _texts(below)
        elif key in ("matchLabelKeys", "mismatchLabelKeys"):
            yield from _texts(below)
        elif key in ("matchExpressions", "when"):
            yield from (str(item.get("key")) for item in below or () if isinstance(item, Mapping))
        for item in below if isinstance(below, list) else [below]:
            if isinstance(item, Mapping):
                yield from _chosen_by(item)


def _texts(value: Any) -> Iterator[str]:
    yield from (str(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
