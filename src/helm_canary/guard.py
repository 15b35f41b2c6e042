"""Rule 4, checked against the API server: an upgrade may change what its step is for, and nothing else.

Pure: live objects and what a server-side dry run says they would be, in; the changes that the step is not for, out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from helm_canary.core.model import Change, Record, Track, Upgrade
from helm_canary.errors import RefusedError, ToolError
from helm_canary.fields import differences, normal
from helm_canary.labels import free_labels, is_free
from helm_canary.manifest import Object, Shape, reference
from helm_canary.observe import last_hand

WEIGHT_PATH = re.compile(r"^spec\.http\[\d+\]\.route\[\d+\]\.weight$")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field that an upgrade would change: the object, the path in it (empty: all of it), before and after.

    `manager` and `at`: who, but Helm, wrote it last, and when; empty where nobody did.
    """

    where: str
    path: str
    live: str
    would: str
    manager: str = ""
    at: str = ""

    def __str__(self) -> str:
        by = f" (by {self.manager} {self.at})" if self.manager else ""
        return f"{self.where}{' ' + self.path if self.path else ''}: {self.live} -> {self.would}{by}"


def as_helm_applies(objects: Iterable[Object], release: str, namespace: str) -> list[Object]:
    """Rendered objects with what Helm adds to each when it applies them; without it a dry run would take that away."""
    made = []
    for thing in objects:
        metadata = dict(thing.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            "meta.helm.sh/release-name": release,
            "meta.helm.sh/release-namespace": namespace,
        }
        metadata.setdefault("namespace", namespace)
        made.append({**thing, "metadata": metadata})
    return made


def compare(
    live: Sequence[Mapping[str, Any]],
    would: Sequence[Mapping[str, Any]],
    written: Iterable[Object],
    rendered: Iterable[Object],
    seen: Iterable[Mapping[str, Any]] = (),
) -> list[Difference]:
    """Everything an upgrade would change: of objects that are there, new ones, and ones that are no longer rendered.

    `written` is what Helm's newest manifest holds: Helm deletes what it does not find in the new one, and of an object that
    another hand deleted it says what it was. `seen`: what else is live and may choose objects by their labels.
    """
    there, written, rendered = {reference(item): item for item in live}, list(written), list(rendered)
    known, new = ({reference(item): item for item in items} for items in (written, rendered))
    free = free_labels([*live, *would, *written, *rendered, *seen])
    found = []
    for item in would:
        name = reference(item)
        if name not in there:
            found.append(Difference(where=name, path="", live="nothing", would="created"))
            if name in known and name in new:
                changes = _differences(known[name], new[name], free)
                found += [Difference(where=name, path=path, live=was, would=after) for path, was, after in changes]
            continue
        for path, before, after in _differences(there[name], item, free):
            manager, at = last_hand(there[name], path)
            found.append(Difference(where=name, path=path, live=before, would=after, manager=manager, at=at))
    for item in written:
        if reference(item) not in new:
            found.append(Difference(where=reference(item), path="", live="there", would="deleted"))
    return found


def _differences(
    live: Mapping[str, Any], would: Mapping[str, Any], free: frozenset[str]
) -> Iterator[tuple[str, str, str]]:
    for path, before, after in differences(normal(live), normal(would)):
        if not is_free(path, free) or "nothing" in (before, after):
            yield path, before, after


def unwanted(
    found: Iterable[Difference],
    step: Upgrade,
    shape: Shape,
    *,
    unapplied: Iterable[str] = (),
    allowed: Sequence[str] = (),
) -> list[Difference]:
    """The differences that this step is not for.

    `unapplied`: objects of a revision that Helm did not apply whole, which the next one applies as they are stored; `allowed`:
    those that may come out otherwise when they are installed, or may be overwritten with a VirtualService that is made again.
    """
    every = list(found)
    route = f"VirtualService/{shape.route}"
    # Deleted by another hand, it is written again by the first step of whatever comes, with what that is allowed to change.
    restored = Difference(where=route, path="", live="nothing", would="created")
    restores = step.change is Change.WEIGHT and restored in every
    tracks = {f"Deployment/{shape.deployment(track)}" for track in Track}
    late = frozenset(unapplied) - tracks
    return [
        difference
        for difference in every
        if not _is_meant(difference, step, shape, allowed)
        and not (restores and (difference == restored or difference.where in frozenset(allowed) - tracks))
        and not (difference.where in late and not difference.manager)
    ]


def _is_meant(difference: Difference, step: Upgrade, shape: Shape, allowed: Sequence[str]) -> bool:
    tracks = {track: f"Deployment/{shape.deployment(track)}" for track in Track}
    if difference.where in step.shared.names and difference.where not in tracks.values():
        return not _is_needed(difference, step.record)
    match step.change:
        case Change.INSTALL:
            return difference.where in allowed and difference.where not in tracks.values()
        case Change.WEIGHT:
            return difference.where == f"VirtualService/{shape.route}" and bool(WEIGHT_PATH.match(difference.path))
        case Change.SCALE:
            assert step.track is not None
            return difference.where == tracks[step.track] and difference.would != "deleted"
        case Change.SHARED | Change.RECORD:
            return False


def _is_needed(difference: Difference, record: Record) -> bool:
    """Whether an object that would be deleted is named by a pod template of a release under way: its pods may start again."""
    if difference.would != "deleted" or not record.under_way:
        return False
    name = '"' + difference.where.split("/", 1)[1] + '"'
    versions = [version for version in (record.previous, record.new) if version is not None]
    return any(name in text for version in versions for text in (version.production, version.canary))


def owner_of(thing: Mapping[str, Any]) -> tuple[str, str]:
    """The Helm release, and its namespace, that an object says it belongs to; empty where it does not."""
    annotations = (thing.get("metadata") or {}).get("annotations") or {}
    return annotations.get("meta.helm.sh/release-name", ""), annotations.get("meta.helm.sh/release-namespace", "")


def belongs_to_others(names: Sequence[str], release: str) -> RefusedError:
    return RefusedError(
        f"The chart makes {', '.join(names)}, which exists already and does not belong to the Helm release {release}.",
        "It was made outside of this release; Helm does not take it over.",
        "Give the chart's object another name, then run the same command again.",
    )


def refused_ahead(error: ToolError) -> RefusedError:
    """What the API server said of objects that a later stage would write."""
    return RefusedError(
        "The API server refuses what a later stage of this release would write.",
        error.means,
        error.do_next,
        error.details,
    )
