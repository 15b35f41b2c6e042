"""Ways to a service's pods that follow no weight, by the kinds of Kubernetes itself: named, and nothing is refused. Pure.

Only proxies of Istio know weights: a load balancer, a node's port, an ingress controller and another Service over the same pods
send to every Ready pod that they select, whatever its track. An Ingress of the class `istio` is a VirtualService to Istio, and
goes by the Service as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from helm_canary.core.model import Track
from helm_canary.manifest import Object, Shape, pod_labels, reference

# What a Service of a type opens, besides its address in the cluster.
OPENED = {"LoadBalancer": "its load balancer", "NodePort": "the port that it opens on every node"}


def bypasses(rendered: Iterable[Object], live: Iterable[Mapping[str, Any]], shape: Shape) -> Iterator[str]:
    """Each way past the weights in a sentence. What is rendered takes the place of what is live under its name."""
    things = {reference(thing): thing for thing in live}
    things |= {reference(thing): thing for thing in rendered}
    pods = {
        track: pod_labels(things[name])
        for track in Track
        if (name := f"Deployment/{shape.deployment(track)}") in things
    }
    for name in sorted(things):
        thing = things[name]
        where = str((thing.get("metadata") or {}).get("namespace") or shape.namespace)
        if where != shape.namespace or not isinstance(thing.get("spec"), Mapping):
            continue
        match thing.get("kind"):
            case "Service":
                yield from _of_service(thing, pods, shape)
            case "Ingress" if shape.service in _backends(thing["spec"]):
                yield f"The Ingress {thing['metadata']['name']} sends to the Service {shape.service}, {WHATEVER}"
            case "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" if shape.service in _references(thing["spec"]):
                yield f"The {thing['kind']} {thing['metadata']['name']} sends to the Service {shape.service}, {WHATEVER}"


WHATEVER = "whatever the weights: what comes in there is shared among all Ready pods."


def _of_service(service: Mapping[str, Any], pods: Mapping[Track, Mapping[str, Any]], shape: Shape) -> Iterator[str]:
    name, spec = service["metadata"]["name"], service["spec"]
    own, selector = name == shape.service, spec.get("selector") or {}
    chosen = [track for track in pods if selector and selector.items() <= pods[track].items()]
    if not own and not chosen:
        return
    ways = [OPENED[spec["type"]]] if spec.get("type") in OPENED else []
    ways += [f"its external address{'es' if len(spec['externalIPs']) > 1 else ''}"] if spec.get("externalIPs") else []
    if ways:
        yield f"The Service {name} can be reached by {' and '.join(ways)}, {WHATEVER}"
    elif not own:
        which = "the pods of both tracks" if len(chosen) > 1 else f"the pods of {chosen[0].value}"
        yield f"The Service {name} selects {which} too: who calls it follows no weights."


def _backends(spec: Mapping[str, Any]) -> set[str]:
    """The Services that an Ingress sends to."""
    paths = [path for rule in spec.get("rules") or [] for path in (rule.get("http") or {}).get("paths") or []]
    found = [spec.get("defaultBackend") or {}, *(path.get("backend") or {} for path in paths)]
    return {str((backend.get("service") or {}).get("name")) for backend in found}


def _references(spec: Mapping[str, Any]) -> set[str]:
    """The Services that a route of the Gateway API sends to."""
    references = [one for rule in spec.get("rules") or [] for one in rule.get("backendRefs") or []]
    return {str(one.get("name")) for one in references if one.get("kind", "Service") == "Service"}
