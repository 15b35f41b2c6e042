"""The weights as the VirtualService asks for them, and what else in the cluster could decide where the traffic goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from helm_canary.core.model import Split
from helm_canary.manifest import Shape, full_host, gateways_of, is_http, weighted_routes


def asked_split(route: Mapping[str, Any] | None, shape: Shape) -> Split | None:
    """The weights of a live VirtualService; None without one, or where its routes do not agree."""
    if route is None:
        return None
    splits = {
        Split(production=weights["production"], canary=weights["canary"])
        for weights in weighted_routes(dict(route), shape.host, shape.namespace)
    }
    return splits.pop() if len(splits) == 1 else None


def obstacles(routes: Iterable[Mapping[str, Any]], service: Mapping[str, Any] | None, shape: Shape) -> Iterator[str]:
    """What makes the weights mean nothing: rival routes to the Service, or a Service that Istio does not route as HTTP."""
    for route in routes:
        metadata = route["metadata"]
        name = f"{metadata.get('namespace', shape.namespace)}/{metadata['name']}"
        if name == f"{shape.namespace}/{shape.route}":
            yield from _ways_past_the_weights(route, name, shape)
        else:
            yield from _rivalry(route, name, shape)
    if service is not None and not any(is_http(port) for port in service["spec"].get("ports") or []):
        yield f"the Service {shape.service} has no port that Istio routes as HTTP (name it `http` or set appProtocol)"


def _ways_past_the_weights(route: Mapping[str, Any], name: str, shape: Shape) -> Iterator[str]:
    """Routes of our own VirtualService that reach the service by one subset, or by none: they send there at weight 0 too."""
    for http in route.get("spec", {}).get("http") or []:
        destinations = [entry.get("destination") or {} for entry in http.get("route") or []]
        ours = [to for to in destinations if full_host(str(to.get("host", "")), shape.namespace) == shape.host]
        subsets = {to.get("subset") for to in ours}
        if ours and not {"production", "canary"} <= subsets:
            where = " or ".join(sorted(f"the subset {subset}" if subset else "any pod" for subset in subsets))
            yield f"the VirtualService {name} has a route that goes to {where}, whatever the weights"


def _rivalry(route: Mapping[str, Any], name: str, shape: Shape) -> Iterator[str]:
    namespace = route["metadata"].get("namespace", shape.namespace)
    entries = [entry for http in route.get("spec", {}).get("http") or [] for entry in http.get("route") or []]
    targets = {full_host(str((entry.get("destination") or {}).get("host", "")), namespace) for entry in entries}
    if shape.host in targets:
        yield f"the VirtualService {name} also routes to {shape.host}"
    elif "mesh" in gateways_of(dict(route), namespace) and "mesh" in shape.gateways:
        shared = {full_host(host, namespace) for host in route["spec"].get("hosts") or []} & set(shape.hosts)
        if shared:
            yield f"the VirtualService {name} is bound to the mesh with the same host ({', '.join(sorted(shared))})"
