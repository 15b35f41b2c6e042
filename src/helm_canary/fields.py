"""How two objects differ, field by field, as Kubernetes tells the items of a list apart. Pure: JSON values in, answers out.

A version is recognised, a leftover of another version found, and a difference shown by the same keys: those by which the API
server merges a list. An item that is inserted is one difference then, and two mounts of one volume are two items.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Any

SERVER_SET_ANNOTATIONS = {"deployment.kubernetes.io/revision"}
# List -> its keys, by `+listMapKey` in k8s.io/api and by Istio's CRDs; tests/adapters/test_fields.py reads them there. A list of
# which the first key is missing in an item has the next keys, or none: then its items are told apart by their place alone.
LISTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "ports": (("containerPort", "protocol"), ("port", "protocol"), ("name",)),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "hostAliases": (("ip",),),
    "ownerReferences": (("uid",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
}
BY_NAME = (
    "containers", "initContainers", "ephemeralContainers", "env", "volumes", "imagePullSecrets", "schedulingGates",
    "resourceClaims", "claims", "secrets", "webhooks", "matchConditions", "variables", "evictionResponders",
)  # fmt: skip
KEY_DEFAULTS = {"protocol": "TCP"}
# `+listType=set`: only what is in it counts.
SETS = ("finalizers", "bindMountOptions", "disableResizePreemption")
# Below these keys the API server spells a quantity in its own way; anywhere else a text is what it is.
QUANTITIES = ("limits", "requests", "sizeLimit", "divisor", "overhead")
SHOWN = 80


class Likeness(IntEnum):
    """How far something live is what was rendered. ALIKE: to the same effect, but it may be another rendering's."""

    OTHER = 0
    ALIKE = 1
    SAME = 2


# --- list items --------------------------------------------------------------------------------------------------------

Key = tuple[Hashable, ...]


def keys_of(name: str, *lists: Sequence[Any]) -> tuple[str, ...]:
    """The merge keys of the lists of this field; empty where its items have none."""
    items = [item for each in lists for item in each]
    for keys in LISTS.get(name, (("name",),) if name in BY_NAME else ()):
        if items and all(isinstance(item, Mapping) and _is_keyed(item, keys) for item in items):
            return keys
    return ()


def _is_keyed(item: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    values = [item.get(key, KEY_DEFAULTS.get(key)) for key in keys]
    return all(isinstance(value, (str, int, float)) for value in values)


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> Key:
    return tuple(item.get(key, KEY_DEFAULTS.get(key)) for key in keys)


def _label(key: Key) -> str:
    return "/".join(map(str, key))


# --- which version a pod template is -----------------------------------------------------------------------------------


def likeness(live: Any, rendered: Any, name: str = "", quantity: bool = False) -> Likeness:
    """Whether everything that is rendered is live. `name`: the field's; `quantity`: it is one, or is below some."""
    if rendered is None or rendered in ({}, []):
        return Likeness.SAME
    if isinstance(rendered, Mapping):
        if not isinstance(live, Mapping):
            return Likeness.OTHER
        below = (likeness(live.get(k), v, k, quantity or k in QUANTITIES) for k, v in rendered.items())
        return min(below, default=Likeness.SAME)
    if isinstance(rendered, list):
        return _list_likeness(live, rendered, name) if isinstance(live, list) else Likeness.OTHER
    return Likeness.SAME if is_same(live, rendered, quantity) else Likeness.OTHER


def _list_likeness(live: list[Any], rendered: list[Any], name: str) -> Likeness:
    if name in SETS:
        return Likeness.SAME if all(item in live for item in rendered) else Likeness.OTHER
    keys = keys_of(name, live, rendered)
    if not keys:
        if len(live) != len(rendered):
            return Likeness.OTHER
        return min(map(likeness, live, rendered), default=Likeness.SAME)
    # Of two items with one key the later one holds, as for the variables of a container.
    here, wanted = ({_key(item, keys): item for item in items} for items in (live, rendered))
    if not wanted.keys() <= here.keys():
        return Likeness.OTHER
    # The API server keeps the order of what is applied, and others' items between them.
    order = [key for key in (_key(item, keys) for item in live) if key in wanted]
    kept = Likeness.SAME if order == [_key(item, keys) for item in rendered] else Likeness.ALIKE
    return min([kept, *(likeness(here[key], item) for key, item in wanted.items())])


def is_left_over(owned: Mapping[str, Any], rendered: Any, live: Any, ignored: frozenset[str] = frozenset()) -> bool:
    """Whether Helm owns a live field (`fieldsV1`) that is not rendered: then another version rendered it.

    What is owned and not there was rendered as null, or as something empty that the API server does not keep.
    """
    for entry, below in owned.items():
        kind, _, key = entry.partition(":")
        match kind:
            case "f" if key not in ignored:
                found = _is_field_left_over(key, below, rendered, live, ignored)
            case "k":
                found = _is_item_left_over(json.loads(key), below, rendered, live)
            case "v":
                found = not isinstance(rendered, list) or json.loads(key) not in rendered
            case _:
                found = False
        if found:
            return True
    return False


def _is_field_left_over(key: str, below: Mapping[str, Any], rendered: Any, live: Any, ignored: frozenset[str]) -> bool:
    one, other = (side.get(key) if isinstance(side, Mapping) else None for side in (rendered, live))
    if other is None:
        return False
    rendered_at_all = isinstance(rendered, Mapping) and key in rendered
    return not rendered_at_all or is_left_over(below, one, other, ignored)


def _is_item_left_over(key: Mapping[str, Any], below: Mapping[str, Any], rendered: Any, live: Any) -> bool:
    one, other = (_item(items, key) for items in (rendered, live))
    # That Helm owns a key of the item says no more than that it owns the item: the API server fills defaults in.
    fields = {entry: value for entry, value in below.items() if entry.removeprefix("f:") not in key}
    return other is not None and (one is None or is_left_over(fields, one, other))


def _item(items: Any, key: Mapping[str, Any]) -> Any:
    """The last list item with these keys."""
    names = tuple(sorted(key))
    wanted = tuple(key[each] for each in names)
    known = [item for item in (items if isinstance(items, list) else []) if isinstance(item, Mapping)]
    return next((item for item in reversed(known) if _key(item, names) == wanted), None)


# --- scalars -----------------------------------------------------------------------------------------------------------

_QUANTITY = re.compile(
    r"^([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
)
_FACTOR = {"": Decimal(1), "m": Decimal("0.001"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_FACTOR |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)}
_FACTOR |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def is_same(live: Any, rendered: Any, quantity: bool = False) -> bool:
    """Whether a scalar is another one as the API server writes it. A number is no text: a port by number is none by name."""
    if live is None:
        return rendered is None or rendered in ("", False, 0)
    if quantity:
        return _is_same_quantity(live, rendered)
    if isinstance(live, bool) or isinstance(rendered, bool):
        return live is rendered
    return bool(live == rendered)


def _is_same_quantity(live: Any, rendered: Any) -> bool:
    quantities = [_QUANTITY.match(str(value)) for value in (live, rendered)]
    if not all(quantities):
        return str(live) == str(rendered)
    one, other = (Decimal(q.group(1)) * _FACTOR[q.group(2) or ""] for q in quantities if q)
    return one == other


# --- differences -------------------------------------------------------------------------------------------------------


def normal(thing: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what the server sets, for comparison."""
    copy: dict[str, Any] = json.loads(json.dumps(thing))
    copy.pop("status", None)
    metadata = copy.get("metadata") or {}
    for key in ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"):
        metadata.pop(key, None)
    for key in SERVER_SET_ANNOTATIONS:
        (metadata.get("annotations") or {}).pop(key, None)
    if is_secret(copy) and isinstance(copy.get("stringData"), dict):
        # The API server does the same, and keeps no `stringData`.
        texts = copy.pop("stringData").items()
        encoded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts}
        copy["data"] = {**(copy.get("data") or {}), **encoded}
    return copy


def is_secret(thing: Any) -> bool:
    return isinstance(thing, Mapping) and thing.get("kind") == "Secret"


def differences(
    live: Any, would: Any, path: str = "", name: str = "", quantity: bool = False
) -> Iterator[tuple[str, str, str]]:
    """(path, live, would be) of every leaf that differs. Of a Secret, wherever it stands, no value is shown."""
    if is_secret(live) or is_secret(would):
        yield from _hidden(live, would, path)
    elif _is_nothing(live, name) and _is_nothing(would, name):
        return
    elif isinstance(live, Mapping) and isinstance(would, Mapping):
        for key in sorted(live.keys() | would.keys()):
            yield from differences(live.get(key), would.get(key), joined(path, key), key, quantity or key in QUANTITIES)
    elif isinstance(live, list) and isinstance(would, list):
        yield from _list_differences(live, would, path, name)
    elif live is None or would is None or not is_same(live, would, quantity):
        yield path, shown(live), shown(would)


def _is_nothing(value: Any, name: str) -> bool:
    """An empty map can mean all, or a default, but not where it holds labels or annotations."""
    return value is None or value == [] or (value == {} and name in ("labels", "annotations"))


def _list_differences(live: list[Any], would: list[Any], path: str, name: str) -> Iterator[tuple[str, str, str]]:
    keys = keys_of(name, live, would)
    if not keys:
        yield from _differences_by_place(live, would, path)
        return
    here, there = _labelled(live, keys), _labelled(would, keys)
    for label in dict.fromkeys([*here, *there]):
        yield from differences(here.get(label), there.get(label), f"{path}[{label}]")
    orders = [[label for label in one if label in other] for one, other in ((here, there), (there, here))]
    if orders[0] != orders[1]:
        before, after = (f"in the order {', '.join(order)}" for order in orders)
        yield path, shortened(before), shortened(after)


def _labelled(items: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        label, number = _label(_key(item, keys)), 2
        while label in found:
            label, number = f"{_label(_key(item, keys))}#{number}", number + 1
        found[label] = item
    return found


def _differences_by_place(live: list[Any], would: list[Any], path: str) -> Iterator[tuple[str, str, str]]:
    """What is the same at both ends of lists of two lengths belongs together; the rest is told apart by its place."""
    start, end = 0, 0
    if len(live) != len(would):
        shorter = min(len(live), len(would))
        while start < shorter and live[start] == would[start]:
            start += 1
        while end < shorter - start and live[-1 - end] == would[-1 - end]:
            end += 1
    here, there = (items[start : len(items) - end] for items in (live, would))
    for index in range(max(len(here), len(there))):
        one, other = (items[index] if index < len(items) else None for items in (here, there))
        yield from differences(one, other, f"{path}[{start + index}]")


def _hidden(live: Any, would: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Of a Secret the keys that differ."""
    if isinstance(live, Mapping) or isinstance(would, Mapping):
        one, other = (side if isinstance(side, Mapping) else {} for side in (live, would))
        for key in sorted(one.keys() | other.keys()):
            yield from _hidden(one.get(key), other.get(key), joined(path, key))
    elif live is None or would is None:
        if live is not would:
            yield path, "nothing" if live is None else "a value", "nothing" if would is None else "a value"
    elif live != would:
        yield path, "a value", "another value"


_PLAIN = re.compile(r"[A-Za-z_][\w-]*")


def joined(path: str, key: str) -> str:
    """The path of a field below this one. A key that holds a dot, such as a label's, stands in brackets, as a list's do."""
    if not _PLAIN.fullmatch(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def shown(value: Any) -> str:
    return "nothing" if value is None else shortened(json.dumps(value, sort_keys=True))


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


# --- who owns a field --------------------------------------------------------------------------------------------------

_PARTS = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def owns(fields: Mapping[str, Any], path: str) -> bool:
    """Whether what a manager owns (`fieldsV1`) holds the field at this path, something in it or what holds it whole.

    Of a list item that is known by its place alone: whether it owns any item.
    """
    for part in ((bracketed or plain) for bracketed, plain in _PARTS.findall(path)):
        below = fields.get(f"f:{part}", _owned_item(fields, part))
        if below is None:
            return bool(fields) and part.isdigit()
        fields = below
        if not fields:
            return True  # a list or a map that has one owner as a whole
    return True


def _owned_item(fields: Mapping[str, Any], label: str) -> Any:
    for entry, below in fields.items():
        if entry.startswith("k:"):
            key = json.loads(entry[2:])
            if _label(tuple(key[each] for each in sorted(key))) == label.partition("#")[0]:
                return below
    return None
