"""The weights as the VirtualService asks for them, and what else in the cluster could decide where the traffic goes.

What Istio makes of a VirtualService is read in its own code: pilot/pkg/networking/core/route/route.go (weights),
pilot/pkg/model/virtualservice_controller.go (delegates), pilot/pkg/networking/core/gateway.go (Gateways and their hosts).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from helm_canary.core.model import Obstacle, Split
from helm_canary.manifest import (
    HTTP_PROTOCOLS,
    Shape,
    full_gateways,
    full_host,
    gateways_of,
    hosts_of,
    is_http,
    is_udp,
    weighted_routes,
)

TRACKS = frozenset({"production", "canary"})


def asked_split(route: Mapping[str, Any] | None, shape: Shape) -> Split | None:
    """The weights of a live VirtualService; None without one, or where its routes do not agree."""
    if route is None:
        return None
    splits = {
        Split(production=weights["production"], canary=weights["canary"])
        for weights in weighted_routes(dict(route), shape.host, shape.namespace)
    }
    return splits.pop() if len(splits) == 1 else None


def obstacles(
    routes: Iterable[Mapping[str, Any]],
    service: Mapping[str, Any] | None,
    shape: Shape,
    gateways: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> Iterator[Obstacle]:
    """What makes the weights mean nothing: other ways to the Service, a Service that Istio does not route by them, no way at all.

    `gateways`: by `namespace/name` those of the VirtualService that could be looked for; None: there is none of that name.
    """
    for route in routes:
        name = full_name(route, shape.namespace)
        if name == f"{shape.namespace}/{shape.route}":
            yield from _ways_past_the_weights(route, name, shape)
        else:
            yield from _rivalry(route, name, shape)
    if service is not None:
        yield from _wrong_ports(service, shape, gateways or {})
    yield from _no_way_in(shape, gateways or {})


def full_name(route: Mapping[str, Any], namespace: str) -> str:
    """`namespace/name`; one that is only rendered may leave its namespace out."""
    return f"{namespace_of(route, namespace)}/{route['metadata']['name']}"


def namespace_of(thing: Mapping[str, Any], namespace: str) -> str:
    return str(thing["metadata"].get("namespace") or namespace)


# --- where a VirtualService sends ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One destination of a route. `share`: whether anything goes there now; `how`: in words, how it is sent there."""

    host: str
    subset: str
    how: str = "sends"
    share: bool = True

    @property
    def where(self) -> str:
        return f"the subset {self.subset}" if self.subset else "any pod"


def _way(destination: Mapping[str, Any] | None, namespace: str, how: str = "sends", *, share: bool = True) -> _Way:
    destination = destination or {}
    host = full_host(str(destination.get("host") or ""), namespace)
    return _Way(host=host, subset=str(destination.get("subset") or ""), how=how, share=share)


def _routed(http: Mapping[str, Any], namespace: str) -> list[_Way]:
    """The destinations among which a route splits its requests. A single one gets all of them, whatever its weight."""
    entries = http.get("route") or []
    return [
        _way(entry.get("destination"), namespace, share=len(entries) == 1 or bool(entry.get("weight")))
        for entry in entries
    ]


def _mirrored(http: Mapping[str, Any], namespace: str) -> Iterator[_Way]:
    """The destinations that get a copy of each request; a percentage that is left out is 100."""
    if http.get("mirror"):
        percent = http.get("mirrorPercentage", http.get("mirrorPercent"))
        yield _way(http["mirror"], namespace, "mirrors", share=_is_some(percent))
    for mirror in http.get("mirrors") or []:
        yield _way(mirror.get("destination"), namespace, "mirrors", share=_is_some(mirror.get("percentage")))


def _is_some(percent: Any) -> bool:
    value = percent.get("value", 0) if isinstance(percent, Mapping) else percent
    return value is None or value != 0


def _connected(spec: Mapping[str, Any], namespace: str) -> Iterator[_Way]:
    """The destinations of routes for whole connections."""
    for kind in ("tcp", "tls"):
        for route in spec.get(kind) or []:
            for entry in route.get("route") or []:
                yield _way(entry.get("destination"), namespace, f"sends {kind.upper()} connections")


BOTH = "Let each route of {name} send to both subsets, with the same two weights and to nothing else"


def _ways_past_the_weights(route: Mapping[str, Any], name: str, shape: Shape) -> Iterator[Obstacle]:
    """What of our own VirtualService reaches the service at weight 0 too, or takes from the two weights what they share."""
    spec, found, do_next = route.get("spec") or {}, [], BOTH.format(name=name)
    for http in spec.get("http") or []:
        ways = _routed(http, shape.namespace)
        ours = [way for way in ways if way.host == shape.host]
        if {way.subset for way in ours} >= TRACKS:
            found += [
                f"{way.how} to {way.where} beside the two subsets"
                for way in ours
                if way.share and way.subset not in TRACKS
            ]
            found += [
                f"sends a part of the requests to {way.host}" for way in ways if way.share and way.host != shape.host
            ]
        elif where := sorted({way.where for way in ours if way.share}):
            found.append(f"has a route that goes to {' or '.join(where)}, whatever the weights")
        found += _whatever_the_weights(_mirrored(http, shape.namespace), shape)
    found += _whatever_the_weights(_connected(spec, shape.namespace), shape)
    return (Obstacle(text=f"the VirtualService {name} {text}", do_next=do_next) for text in dict.fromkeys(found))


def _whatever_the_weights(ways: Iterable[_Way], shape: Shape) -> list[str]:
    return [f"{way.how} to {way.where}, whatever the weights" for way in ways if way.share and way.host == shape.host]


def _rivalry(route: Mapping[str, Any], name: str, shape: Shape) -> Iterator[Obstacle]:
    namespace = namespace_of(route, shape.namespace)
    spec = route.get("spec") or {}
    ways = [*_connected(spec, namespace)]
    for http in spec.get("http") or []:
        ways += [*_routed(http, namespace), *_mirrored(http, namespace)]
    found = dict.fromkeys(way.how for way in ways if way.share and way.host == shape.host)
    if found:
        how = " and ".join(text.replace("sends", "routes", 1) if text == "sends" else text for text in found)
        yield Obstacle(
            text=f"the VirtualService {name} also {how} to {shape.host}",
            do_next=f"{name} may carry traffic, so do not delete it. Let it send elsewhere, or, where {shape.route} has no "
            f"hosts, let its routes delegate to {shape.route} instead",
        )
    elif "mesh" in gateways_of(dict(route), namespace) and "mesh" in shape.gateways and name not in shape.roots:
        shared = set(hosts_of(dict(route), namespace)) & set(shape.hosts)
        if shared:
            hosts = ", ".join(sorted(shared))
            yield Obstacle(
                text=f"the VirtualService {name} is bound to the mesh with the same host ({hosts})",
                do_next=f"Take the host out of one of {name} and {shape.route}, or bind one of them to Gateways only",
            )


# --- the Service's ports ------------------------------------------------------------------------------------------------


def _wrong_ports(
    service: Mapping[str, Any], shape: Shape, gateways: Mapping[str, Mapping[str, Any] | None]
) -> Iterator[Obstacle]:
    every = service["spec"].get("ports") or []
    ports = [port for port in every if not is_udp(port)]
    numbers = {port.get("port") for port in ports}
    absent = [port for port in shape.ports if port not in numbers]
    if not ports:
        yield Obstacle(
            text=f"the Service {shape.service} has no TCP port",
            do_next=f"Give {shape.service} the port that the pods listen on",
        )
    elif absent:
        yield Obstacle(
            text=f"the VirtualService {shape.route} sends to the port {absent[0]}, which the Service {shape.service} does not "
            "have",
            do_next=f"Let {shape.route} send to one of the ports of {shape.service}, or leave the port out where it has only one",
        )
    elif "mesh" in shape.gateways and not any(map(is_http, ports)):
        yield Obstacle(
            text=f"the Service {shape.service} has no port that sidecars route as HTTP",
            do_next=f"Name the port `http`, set its appProtocol to `http`, or bind {shape.route} to Gateways only",
        )
    elif not shape.ports and len(every) > 1 and _are_all(shape, gateways):
        # Without a port Istio sends to a Service's only one, or else to the one that the listener has.
        listened = {server.port for server in _servers(shape, gateways)}
        if listened and not listened & numbers:
            shown = " or ".join(map(str, sorted(listened)))
            yield Obstacle(
                text=f"the VirtualService {shape.route} names no port of the Service {shape.service}, which has several, none of "
                f"them the Gateway's {shown}",
                do_next=f"Name the port of {shape.service} in the destinations of {shape.route}",
            )


# --- the way in ---------------------------------------------------------------------------------------------------------


def follow_roots(shape: Shape, routes: Iterable[Mapping[str, Any]], *, all_read: bool) -> Shape:
    """A delegate's hosts and Gateways are those of the VirtualServices that delegate to it. `routes` are all that were read."""
    if not shape.delegate:
        return shape
    routes, own = list(routes), f"{shape.namespace}/{shape.route}"
    exported = next((_exports(route) for route in routes if full_name(route, shape.namespace) == own), ["*"])
    roots: dict[str, None] = {}
    hosts: dict[str, None] = {}
    gateways: dict[str, None] = {}
    for route in routes:
        namespace = namespace_of(route, shape.namespace)
        entries = [http for http in (route.get("spec") or {}).get("http") or [] if _delegates_to(http, own, namespace)]
        if entries and hosts_of(dict(route), namespace) and _reaches(exported, shape.namespace, namespace):
            roots[full_name(route, shape.namespace)] = None
            hosts |= dict.fromkeys(hosts_of(dict(route), namespace))
            gateways |= dict.fromkeys(name for http in entries for name in _gateways_of_entry(http, route, namespace))
    return replace(shape, roots=tuple(roots), hosts=tuple(hosts), gateways=tuple(gateways), all_roots=all_read)


def _exports(route: Mapping[str, Any]) -> list[str]:
    return list((route.get("spec") or {}).get("exportTo") or ["*"])


def _reaches(exported: Sequence[str], here: str, there: str) -> bool:
    return any(to in ("*", there) or (to == "." and here == there) for to in exported)


def _delegates_to(http: Mapping[str, Any], own: str, namespace: str) -> bool:
    to = http.get("delegate") or {}
    return bool(to) and f"{to.get('namespace') or namespace}/{to.get('name')}" == own


def _gateways_of_entry(http: Mapping[str, Any], root: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
    """Those of a root, or, where each match of the entry names some, those."""
    matches = http.get("match") or []
    if matches and all(match.get("gateways") for match in matches):
        return full_gateways((name for match in matches for name in match["gateways"]), namespace)
    return gateways_of(dict(root), namespace)


@dataclass(frozen=True, kw_only=True)
class _Server:
    """One server of a Gateway that HTTP routes are followed at: its port, and the hosts that it takes of ours."""

    port: int
    hosts: tuple[str, ...]


def _servers(shape: Shape, gateways: Mapping[str, Mapping[str, Any] | None]) -> Iterator[_Server]:
    """Those of the Gateways that take requests for a host of the VirtualService."""
    namespaces = {root.split("/", 1)[0] for root in shape.roots} or {shape.namespace}
    for name in shape.gateways:
        for server in ((gateways.get(name) or {}).get("spec") or {}).get("servers") or []:
            port = server.get("port") or {}
            if _terminates(str(port.get("protocol") or ""), server.get("tls") or {}):
                own = name.split("/", 1)[0]
                taken = [host_for(str(host), own, namespaces) for host in server.get("hosts") or []]
                hosts = tuple(host for host in shape.hosts if any(_overlap(host, one) for one in taken if one))
                if hosts:
                    yield _Server(port=int(port.get("number") or 0), hosts=hosts)


def _terminates(protocol: str, tls: Mapping[str, Any]) -> bool:
    """Whether a server reads requests: HTTP by whatever name, or HTTPS that it does not only pass through."""
    if protocol.upper() == "HTTPS":
        return tls.get("mode") not in ("PASSTHROUGH", "AUTO_PASSTHROUGH")
    return protocol.lower() in HTTP_PROTOCOLS


def host_for(host: str, own: str, namespaces: Iterable[str]) -> str:
    """A server's `namespace/host` for VirtualServices of these namespaces; empty where it is for others."""
    where, slash, rest = host.rpartition("/")
    fits = not slash or where == "*" or (own if where == "." else where) in namespaces
    return rest.lower() if fits else ""


def _overlap(one: str, other: str) -> bool:
    return covers(one.lower(), other) or covers(other, one.lower())


def covers(wide: str, narrow: str) -> bool:
    return wide == narrow or (wide.startswith("*") and narrow.endswith(wide[1:]))


def _are_all(shape: Shape, gateways: Mapping[str, Mapping[str, Any] | None]) -> bool:
    """Whether the VirtualService is bound to Gateways alone, and all of them could be looked for."""
    return bool(shape.gateways) and all(name in gateways for name in shape.gateways)


def _no_way_in(shape: Shape, gateways: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Obstacle]:
    """Why no request can arrive."""
    route, names = f"the VirtualService {shape.namespace}/{shape.route}", " and ".join(shape.gateways)
    if shape.delegate and not shape.roots and shape.all_roots:
        yield Obstacle(
            text=f"{route} has no hosts, and no VirtualService delegates to it: no request arrives",
            do_next=f"Create the VirtualService that delegates to {shape.route}, or give {shape.route} hosts",
        )
    if not _are_all(shape, gateways):
        return
    if not any(gateways[name] for name in shape.gateways):
        yield Obstacle(
            text=f"{route} is bound to {names}, and there is no such Gateway: no request arrives",
            do_next=f"Create the Gateway, or correct `gateways` of {shape.route}",
        )
    elif not any(_servers(shape, gateways)):
        hosts = " or ".join(shape.hosts)
        yield Obstacle(
            text=f"{route} is bound to {names}, where no server takes HTTP requests for {hosts}: no request arrives",
            do_next=f"Add the host to an HTTP or HTTPS server of {names}, or correct `hosts` or `gateways` of {shape.route}",
        )
