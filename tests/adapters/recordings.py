"""Reads what `record.py` wrote, and makes of it what the adapters take."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, cast

from helm_canary.cluster import Live
from helm_canary.core.model import Track, Version
from helm_canary.helm import Revision
from helm_canary.manifest import (
    Object,
    Shape,
    find_shape,
    locate_tag,
    parse_objects,
    tag_of,
    template_of,
    version_of,
)
from helm_canary.proxies import first_json
from tests.adapters.record import NAMESPACE, RECORDED

if TYPE_CHECKING:
    from collections.abc import Mapping


def text(name: str) -> str:
    return (RECORDED / name).read_text()


def answer(name: str) -> dict[str, Any]:
    """A gateway's answer, out of the lines around it; a copy to be changed."""
    return copy.deepcopy(dict(first_json(text(name))))


def items(name: str) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(text(name))["items"])


def live(name: str) -> Live:
    return Live(items=tuple(items(name)))


def deployment(name: str, track: Track = Track.PRODUCTION) -> dict[str, Any]:
    """A track's live Deployment; a copy to be changed."""
    wanted = "productpage" if track is Track.PRODUCTION else "productpagecanary"
    (found,) = (item for item in items(name) if item["kind"] == "Deployment" and item["metadata"]["name"] == wanted)
    return found


def objects(name: str) -> list[Object]:
    """Rendered objects; copies to be changed."""
    return copy.deepcopy(list(parse_objects(text(name))))


def shape(name: str = "steady.yaml", tag: str = "83") -> Shape:
    found = find_shape(objects(name), NAMESPACE)
    return locate_tag(found, template_of(objects(name), found, Track.PRODUCTION), tag)


def rendered(name: str, track: Track) -> Version:
    """The version that a manifest gives to a track; of both tracks' templates where they have one tag."""
    found = {each: template_of(objects(name), shape(), each) for each in Track}
    tags = {each: tag_of(found[each], shape()) for each in Track}
    if tags[Track.PRODUCTION] == tags[Track.CANARY]:
        return version_of(found[Track.PRODUCTION], found[Track.CANARY], tags[track])
    return version_of(found[track], None, tags[track])


def changed(version: Version, changes: Mapping[str, Any]) -> Version:
    """The version with other values at these paths (`spec.containers.0.image`) of its pod template; ... takes one out."""
    template = json.loads(version.production)
    for path, value in changes.items():
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        here = template
        for part in parents:
            here = here[part]
        if value is ...:
            del here[last]
        else:
            here[last] = value
    return version_of(template, None, tag_of(template, shape()))


def revision(
    manifest: str, number: int = 1, status: str = "deployed", values: Mapping[str, Any] | None = None
) -> Revision:
    return Revision(number=number, status=status, values=values or {}, manifest=manifest, chart={})
