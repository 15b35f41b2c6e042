"""What a chart renders: whether it fits, which version it makes, and that it makes the same each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from helm_canary.core.model import Track, Upgrade, Version
from helm_canary.errors import RefusedError, ToolError
from helm_canary.fields import differences
from helm_canary.fit import MOMENTS, check_fit
from helm_canary.guard import Difference
from helm_canary.manifest import (
    Object,
    Shape,
    find_shape,
    image_digest,
    image_of,
    is_hook,
    locate_tag,
    parse_objects,
    reference,
    template_of,
    version_of,
)
from helm_canary.moments import Moment, Probe, probes
from helm_canary.parts import Renderings


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What chart and values render for a tag now. `replica_count` is 0 where the chart leaves production's replicas out."""

    objects: tuple[Object, ...] = field(repr=False)
    hooks: tuple[Object, ...] = field(default=(), repr=False)
    shape: Shape
    version: Version
    replica_count: int


def render_fitting(render: Callable[[list[str]], str], tag: str, namespace: str, *, all_moments: bool) -> Rendered:
    """Chart and values for a tag, rendered and judged. `render`: arguments that set values -> manifest.

    `all_moments`: also as at the beginning and the end of a release, where a chart may leave out what it has in between.
    """
    between, *others = probes(tag)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(render, between.arguments())
        more = [(probe, pool.submit(render, probe.arguments())) for probe in others if all_moments]
        manifest = first.result()
        texts = {probe.moment: _rendered_too(probe, job.result) for probe, job in more}
    return read_rendered(manifest, tag, namespace, texts)


def _rendered_too(probe: Probe, result: Callable[[], str]) -> str:
    try:
        return result()
    except ToolError as error:
        if error.is_away or not error.details:
            raise
        raise RefusedError(
            f"The chart does not render {MOMENTS[probe.moment]}: {error.happened}",
            f"Helm was asked with {' '.join(probe.arguments())}, as a stage of a release does.",
            "Let the chart render with these values; what it must check may be checked where both tracks have pods.",
            error.details,
        ) from error


def _without_hooks(manifest: str) -> tuple[Object, ...]:
    return tuple(thing for thing in parse_objects(manifest) if not is_hook(thing))


def read_rendered(manifest: str, tag: str, namespace: str, others: Mapping[Moment, str] | None = None) -> Rendered:
    """What was rendered between releases -> its shape and version. Raises RefusedError where the chart does not fit.

    `others`: what it renders at the other moments of a release; without them less can be seen.
    """
    every = parse_objects(manifest)
    objects = _without_hooks(manifest)
    texts = {Moment.BETWEEN: manifest, **(others or {})}
    at = {probe.moment: (probe, _without_hooks(texts[probe.moment])) for probe in probes(tag) if probe.moment in texts}
    check_fit(Renderings(at=at, namespace=namespace, manifest=manifest))
    shape = find_shape(objects, namespace)
    templates = {track: template_of(objects, shape, track) for track in Track}
    shape = locate_tag(shape, templates[Track.PRODUCTION], tag)
    production = next(t for t in objects if reference(t) == f"Deployment/{shape.production}")
    return Rendered(
        objects=tuple(objects),
        hooks=tuple(filter(is_hook, every)),
        shape=shape,
        version=version_of(templates[Track.PRODUCTION], templates[Track.CANARY], tag),
        replica_count=int(production["spec"].get("replicas", 0)),
    )


def check_another_image(new: Version, running: Version | None, shape: Shape) -> None:
    """Raises RefusedError where another tag stands before the digest that production runs: a node looks at the digest alone."""
    if running is None or running.tag == new.tag or not running.production:
        return
    digests = {image_digest(image_of(json.loads(version.production), shape)) for version in (new, running)}
    if len(digests) == 1 and "" not in digests:
        raise RefusedError(
            f"The image of {new.tag} has the digest of {running.tag}: {digests.pop()}.",
            "Kubernetes takes an image by its digest and ignores the tag, so both tracks would run the same one.",
            f"Give the digest of {new.tag} in the values, or take the digest out of the image.",
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
