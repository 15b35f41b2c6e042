"""What a chart renders: whether it fits, which version it makes, and that it makes the same each time. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from helm_canary.core.model import Track, Upgrade, Version
from helm_canary.errors import RefusedError
from helm_canary.fields import differences
from helm_canary.guard import Difference
from helm_canary.helm import PROBE_REPLICAS, PROBE_WEIGHT
from helm_canary.manifest import (
    Object,
    Shape,
    find_container,
    find_shape,
    is_hook,
    locate_tag,
    misfit,
    parse_objects,
    reference,
    template_of,
    version_of,
    weighted_routes,
)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What chart and values render for a tag now."""

    objects: tuple[Object, ...] = field(repr=False)
    hooks: tuple[Object, ...] = field(default=(), repr=False)
    shape: Shape
    version: Version
    replica_count: int


def read_rendered(manifest: str, tag: str, namespace: str) -> Rendered:
    """A native rendering -> its shape and version. Raises RefusedError where the chart does not fit."""
    every = parse_objects(manifest)
    objects = [thing for thing in every if not is_hook(thing)]
    shape = find_shape(objects, namespace)
    templates = {track: template_of(objects, shape, track) for track in Track}
    for track in Track:
        if find_container(templates[track], tag) is None:
            raise misfit(
                f"no container's image has the tag {tag} that was set",
                "The image must be rendered from productionDeployment.image.tag and canaryDeployment.image.tag.",
            )
    shape = locate_tag(shape, templates[Track.PRODUCTION], tag)
    _check_values_are_taken(objects, shape)
    production = next(t for t in objects if reference(t) == f"Deployment/{shape.production}")
    return Rendered(
        objects=tuple(objects),
        hooks=tuple(filter(is_hook, every)),
        shape=shape,
        version=version_of(templates[Track.PRODUCTION], templates[Track.CANARY], tag),
        replica_count=int(production["spec"].get("replicas", 1)),
    )


def _check_values_are_taken(objects: Sequence[Object], shape: Shape) -> None:
    """Raises RefusedError where weights or canary replicas are not those that were set: no step could change them."""
    found = {f"{thing.get('kind')}/{(thing.get('metadata') or {}).get('name')}": thing for thing in objects}
    weights = weighted_routes(found[f"VirtualService/{shape.route}"], shape.host, shape.namespace)
    if any(one != {"production": 100 - PROBE_WEIGHT, "canary": PROBE_WEIGHT} for one in weights):
        raise _not_taken(f"the VirtualService {shape.route} does not take its weights", "weight", "weight")
    # A chart that leaves them to an autoscaler has none; then the program scales.
    if found[f"Deployment/{shape.canary}"]["spec"].get("replicas", PROBE_REPLICAS) != PROBE_REPLICAS:
        raise _not_taken(f"the Deployment {shape.canary} does not take its replicas", "", "replicaCount")


def _not_taken(what: str, production: str, canary: str) -> RefusedError:
    names = [f"productionDeployment.{production}"] if production else []
    where = " and ".join([*names, f"canaryDeployment.{canary}"])
    return RefusedError(
        f"The chart does not fit: {what} from {where}.",
        "The stages set these values and nothing else; with a number of its own the chart would not follow.",
        "Render the value as it is; see charts/productpage.",
    )


def check_same_pods(step: Upgrade, objects: Sequence[Object], shape: Shape) -> None:
    """Raises RefusedError where chart and values do not render the version that was planned a moment ago."""
    for track in Track:
        version = step.target(track).version
        planned, now = json.loads(version.template(track)), template_of(objects, shape, track)
        if version == step.native and now != planned:
            where = f"Deployment/{shape.deployment(track)}"
            raise unsteady(
                [
                    Difference(where=where, path=f"spec.template.{path}", live=before, would=after)
                    for path, before, after in differences(planned, now)
                ]
            )


def unsteady(found: Sequence[Difference]) -> RefusedError:
    return RefusedError(
        "The chart renders differently each time: " + ", ".join(dict.fromkeys(one.where for one in found)) + ".",
        "`randAlphaNum`, `now`, a weight or the like is in it. Each stage renders the chart, and would change this each time.",
        "Take it out. A value that `lookup` keeps once it is there may be installed with --allow KIND/NAME.",
        tuple(map(str, found)),
    )
