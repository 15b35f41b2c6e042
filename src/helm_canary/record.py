"""The record as it stands in the Helm release's values, under `release`: to and from a `Record`.

Pure. The pod templates are stored as objects, not as text, so that a person who reads `helm get values` can read them, and
the chart can render `release.pods.<track>` as it stands.
"""

from __future__ import annotations

import json
import re
from typing import Any

from helm_canary.core.model import Direction, Past, Provenance, Record, Track, Upgrade, Version
from helm_canary.core.stages import stage_named, weights_problem
from helm_canary.errors import RefusedError
from helm_canary.manifest import canonical

FORMAT = 1
# What a release did to the objects that both tracks share, by name.
SHARED = ("shared", "created", "moved", "removed")


def release_values(step: Upgrade) -> dict[str, Any]:
    """The `release` value that an upgrade writes: the record, and a pod template for each track that is pinned."""
    pods = {
        track.value: json.loads(step.target(track).version.template(track))
        for track in Track
        if step.target(track).version != step.native
    }
    return {**to_values(step.record), "pods": pods}


def to_text(values: object) -> str:
    """Values for helm, whose YAML reader takes JSON with two exceptions: escapes beyond the basic plane, and some raw characters.

    A raw U+0085 would become a blank, without a word: in a pinned pod template, another version.
    """
    return AMISS.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(values, ensure_ascii=False))


AMISS = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_values(record: Record) -> dict[str, Any]:
    by = record.by
    values: dict[str, Any] = {
        "format": FORMAT,
        "direction": record.direction.value,
        "id": record.new.id,
        "reached": record.reached,
        "toward": record.toward,
        "since": record.since,
        "weights": list(record.weights),
        "replicas": record.replicas,
        "watched": record.watched,
        "new": _version_values(record.new),
        "by": {key: value for key, value in vars(by).items() if value},
        "history": [{key: value for key, value in vars(past).items() if value} for past in record.history],
    }
    for key in SHARED:
        if getattr(record, key):
            values[key] = list(getattr(record, key))
    if record.before:
        values["before"] = record.before
    if record.canary_replicas is not None:
        values["canaryReplicas"] = record.canary_replicas
    if record.previous is not None:
        values["previous"] = _version_values(record.previous)
    return values


def _version_values(version: Version) -> dict[str, Any]:
    values = {"tag": version.tag, "digest": version.digest, "pod": json.loads(version.production)}
    if version.canary != version.production:
        values["canaryPod"] = json.loads(version.canary)
    return values


def from_values(values: dict[str, Any]) -> Record | None:
    """The record in a release's values, or None where there is none. Raises RefusedError where `release` is used otherwise."""
    release = values.get("release")
    if not release:
        return None
    try:
        if release["format"] != FORMAT:
            raise ValueError(f"format {release['format']}")
        return _read(release)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RefusedError(
            f"The value `release` of the Helm release is not a record that this version can read ({error!r}).",
            "The chart uses `release` for something else, or a newer helm-canary wrote it.",
            "Use the newer helm-canary; or rename the chart's own value, write the release once more with "
            "`helm upgrade --reset-values` and your values, then run the same command again.",
        ) from error


def _read(release: dict[str, Any]) -> Record:
    weights = tuple(int(weight) for weight in release["weights"])
    problem = weights_problem(weights)
    if problem:
        raise ValueError(problem)
    for name in (release["reached"], release["toward"]):
        stage_named(weights, name)
    return Record(
        direction=Direction(release["direction"]),
        previous=_read_version(release["previous"]) if release.get("previous") else None,
        new=_read_version(release["new"]),
        reached=release["reached"],
        toward=release["toward"],
        weights=weights,
        replicas=int(release["replicas"]),
        canary_replicas=int(release["canaryReplicas"]) if release.get("canaryReplicas") is not None else None,
        watched=bool(release["watched"]),
        shared=tuple(release.get("shared") or ()),
        created=tuple(release.get("created") or ()),
        moved=tuple(release.get("moved") or ()),
        removed=tuple(release.get("removed") or ()),
        before=str(release.get("before") or ""),
        since=release.get("since", ""),
        by=Provenance(**release.get("by", {})),
        history=tuple(Past(**past) for past in release.get("history", [])),
    )


def _read_version(values: dict[str, Any]) -> Version:
    production = canonical(values["pod"])
    canary = canonical(values["canaryPod"]) if "canaryPod" in values else production
    return Version(tag=str(values["tag"]), digest=values["digest"], production=production, canary=canary)
