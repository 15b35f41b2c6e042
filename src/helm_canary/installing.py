"""What an installation must not meet: a Service that carries traffic already, and objects that are not this release's. Pure.

Helm refuses an object that it does not own only when it writes (checkOwnership in its pkg/action/validate.go), and takes over one
that carries its labels, whoever made it: then the Service's pods change under all of its traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from helm_canary.core.model import Obstacle
from helm_canary.manifest import Object, Shape, reference

MANAGED_BY = "app.kubernetes.io/managed-by"
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
BESIDE = (
    "Leave it as it is: it may serve. Let the chart give its objects other names (most charts take them from --release or "
    "from a value such as fullnameOverride), so that both can stand side by side"
)


def in_the_way(
    rendered: Iterable[Object], live: Sequence[Mapping[str, Any]], shape: Shape, release: str
) -> Iterator[Obstacle]:
    """Why a release must not be installed. `live`: the objects of its namespace."""
    there = {reference(item): item for item in live}
    service = there.get(f"Service/{shape.service}")
    if service is not None:
        yield from _serving(service, live)
    for thing in rendered:
        found = there.get(reference(thing))
        where = str((thing.get("metadata") or {}).get("namespace") or shape.namespace)
        if found is not None and where == shape.namespace and not is_of(found, release, shape.namespace):
            yield Obstacle(text=f"{reference(thing)} is there already, {_made_by(found)}", do_next=BESIDE)


def _serving(service: Mapping[str, Any], live: Iterable[Mapping[str, Any]]) -> Iterator[Obstacle]:
    """A Service of this name whose pods no release of ours has started: all of them would be replaced at once, under traffic."""
    name, spec = service["metadata"]["name"], service.get("spec") or {}
    selector = spec.get("selector") or {}
    if not selector or spec.get("type") == "ExternalName":
        yield Obstacle(
            text=f"the Service {name} is there already, and sends to endpoints that others give it", do_next=BESIDE
        )
        return
    ready = [pod for pod in live if pod.get("kind") == "Pod" and _answers(pod, spec)]
    if ready:
        count = f"{len(ready)} pods" if len(ready) > 1 else "a pod"
        text = f"the Service {name} has {count} already, and there is no Helm release of this name"
        yield Obstacle(text=text, do_next=BESIDE)


def _answers(pod: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    metadata, status = pod["metadata"], pod.get("status") or {}
    chosen = spec["selector"].items() <= (metadata.get("labels") or {}).items()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or [])
    return chosen and (ready or bool(spec.get("publishNotReadyAddresses"))) and "deletionTimestamp" not in metadata


def is_of(thing: Mapping[str, Any], release: str, namespace: str) -> bool:
    """Whether Helm takes an object for this release's."""
    labels, annotations = ((thing["metadata"].get(key) or {}) for key in ("labels", "annotations"))
    owner = (annotations.get(RELEASE_NAME), annotations.get(RELEASE_NAMESPACE))
    return labels.get(MANAGED_BY) == "Helm" and owner == (release, namespace)


def _made_by(thing: Mapping[str, Any]) -> str:
    annotations = thing["metadata"].get("annotations") or {}
    if RELEASE_NAME in annotations:
        return (
            f"as Helm release {annotations[RELEASE_NAME]} in namespace {annotations.get(RELEASE_NAMESPACE, '?')} has it"
        )
    managers = [entry for entry in thing["metadata"].get("managedFields") or [] if not entry.get("subresource")]
    hands = dict.fromkeys(str(entry.get("manager")) for entry in managers)
    return f"made by {' and '.join(hands)}" if hands else "made by others"
