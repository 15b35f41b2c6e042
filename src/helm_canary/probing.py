"""The one request that is sent before a command says that a version serves: what it asks, and what its answer means. Pure.

Through a gateway the request shows whether the proxies find a way to the pods. What the app answers is the app's own affair: an
answer that came from a pod, whatever its status, is no failure of the release. Envoy sets `x-envoy-upstream-service-time` on
each of those and on none of its own, unless the mesh turns Envoy's headers off; then the counters of the endpoints decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from helm_canary.core.model import Track
from helm_canary.manifest import Shape, full_host
from helm_canary.routing import covers, host_for

NOTHING_SENT = "none"
HTTP, HTTPS = ("HTTP", "HTTP2"), ("HTTPS",)
ONLY_HTTP_2 = ("http2", "kubernetes.io/h2c", "h2c")
GRPC = ("grpc", "grpc-web")
# What a match may hold and still take a plain GET from outside.
HARMLESS_MATCHES = {"uri", "name", "gateways", "ignoreUriCase", "statPrefix"}
SIDECAR = "istio-proxy"
NO_WAY_STATUSES = (502, 503)


class UnaskableError(Exception):
    """Why no request can be sent; a note for a person, and no failure."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A GET: the host it names, also as SNI where `tls`, and its path."""

    host: str
    path: str
    tls: bool = False

    def __str__(self) -> str:
        return f"GET {self.path} of the host {self.host}"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back: the status, 0 without an HTTP answer.

    from_pod  Envoy's header says that a pod answered
    heard     anything came at all: what is no HTTP/1 answer is one of something that listens
    said      the first line of an answer without that header: the proxy's own words
    """

    status: int = 0
    from_pod: bool = False
    heard: bool = False
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What one proxy counted of production's endpoints; `healthy` of them it would send to."""

    healthy: int
    sent: int
    connect_failed: int


class Verdict(Enum):
    """What an answer through a gateway means."""

    SERVED = "served"
    APP = "the app answers so itself"
    POLICY = "the gateway answers so itself, and may be meant to"
    SILENT = "no HTTP answer came from the gateway"
    UNSURE = "a pod or the proxy answered so"
    NO_ROUTE = "the gateway has no route"
    NO_WAY = "the gateway reaches no pod"


def judge(reply: Reply, before: Counted | None, after: Counted | None) -> Verdict:
    """Whose answer it is. The counters are those of the gateway that was asked, before and after; None: not known."""
    reached = before is not None and after is not None and after.sent > before.sent
    refused = before is not None and after is not None and after.connect_failed > before.connect_failed
    if not reply.status:
        return Verdict.SILENT
    if reply.from_pod or reply.status < 300:
        return Verdict.SERVED if reply.status < 400 else Verdict.APP
    if reply.status == 404:
        return Verdict.APP if reached else Verdict.NO_ROUTE
    if reply.status in NO_WAY_STATUSES:
        return Verdict.UNSURE if reached and not refused else Verdict.NO_WAY
    return Verdict.POLICY


# --- what is asked -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server of a Gateway that takes requests for the service: its number, which a Service may map to another port."""

    gateway: str
    selector: Mapping[str, str]
    number: int
    tls: bool
    hosts: tuple[str, ...]


def gateway_request(
    route: Mapping[str, Any], gateways: Mapping[str, Mapping[str, Any] | None], shape: Shape, paths: Sequence[str]
) -> tuple[Server, Request]:
    """What to ask, and of which server: the first of these paths that the VirtualService sends to both tracks, or one of its own.

    `gateways`: those that the VirtualService names, by `namespace/name`. Raises UnaskableError.
    """
    path = _routed_path(route, shape, paths)
    servers = [server for name in shape.gateways for server in _servers(name, gateways)]
    if not servers:
        raise UnaskableError("no Gateway that the VirtualService names has a server for plain HTTP, or for HTTPS alone")
    for server in sorted(servers, key=lambda server: server.tls):
        host = common_host(shape.hosts, _hosts_for(server, shape))
        if host:
            return server, Request(host=host, path=path, tls=server.tls)
    # None of them serves the VirtualService's hosts: the gateway's answer will say so.
    return servers[0], Request(host=_concrete((*shape.hosts, shape.host)[0], shape), path=path, tls=servers[0].tls)


def _servers(name: str, gateways: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Server]:
    spec = (gateways.get(name) or {}).get("spec") or {}
    for server in spec.get("servers") or []:
        port, tls = server.get("port") or {}, server.get("tls") or {}
        protocol = str(port.get("protocol", "")).upper()
        plain = protocol in HTTP and not tls.get("httpsRedirect")
        if plain or (protocol in HTTPS and tls.get("mode", "SIMPLE") in ("SIMPLE", "OPTIONAL_MUTUAL")):
            yield Server(
                gateway=name,
                selector=spec.get("selector") or {},
                number=int(port.get("number") or 0),
                tls=not plain,
                hosts=tuple(map(str, server.get("hosts") or [])),
            )


def _hosts_for(server: Server, shape: Shape) -> list[str]:
    """The hosts of a server that this VirtualService, or its roots, may take."""
    namespaces = {root.split("/", 1)[0] for root in shape.roots} or {shape.namespace}
    found = (host_for(host, server.gateway.split("/", 1)[0], namespaces) for host in server.hosts)
    return [host for host in found if host]


def common_host(hosts: Sequence[str], served: Sequence[str]) -> str:
    """A name that a VirtualService with these hosts and a server with those have in common; empty where there is none."""
    for host in hosts:
        for other in served:
            narrow = host.lower() if covers(other, host.lower()) else other if covers(host.lower(), other) else ""
            if narrow:
                return narrow.replace("*", "helm-canary", 1) if narrow != "*" else "helm-canary.invalid"
    return ""


def _concrete(host: str, shape: Shape) -> str:
    return common_host([host], [host]) or shape.host


def _routed_path(route: Mapping[str, Any], shape: Shape, wanted: Sequence[str]) -> str:
    """The first path that a route of both tracks takes. Raises UnaskableError."""
    rules = [rule for rule in route["spec"].get("http") or [] if isinstance(rule, dict)]
    own = [str(uri.get("exact") or uri.get("prefix") or "") for uri in _uris(rules)]
    # What a delegate's roots hand on to it is not known; what it looks for itself is a part of it.
    for path in [*filter(None, own), *wanted] if shape.delegate else [*wanted, *filter(None, own)]:
        rule = next((rule for rule in rules if _takes(rule, path)), None)
        if rule is not None and "fault" not in rule and _is_ours(rule, shape):
            return path
    raise UnaskableError("no path is known that a plain GET would find the service by")


def _uris(rules: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for rule in rules:
        for match in rule.get("match") or []:
            if set(match) <= HARMLESS_MATCHES and match.get("gateways") != ["mesh"]:
                yield match.get("uri") or {"prefix": "/"}


def _takes(rule: Mapping[str, Any], path: str) -> bool:
    """Whether a plain GET of this path falls to this rule, as far as that can be said."""
    if not rule.get("match"):
        return True
    plain = path.partition("?")[0]
    return any(
        plain == uri.get("exact") or ("prefix" in uri and plain.startswith(str(uri["prefix"]))) for uri in _uris([rule])
    )


def _is_ours(rule: Mapping[str, Any], shape: Shape) -> bool:
    to = [entry.get("destination") or {} for entry in rule.get("route") or []]
    subsets = {one.get("subset") for one in to if full_host(str(one.get("host", "")), shape.namespace) == shape.host}
    return {track.value for track in Track} <= subsets


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod that one request can be sent to: its name, the port of the Service in it, and what is known of that port."""

    name: str
    port: int
    ready_path: str
    tls: bool
    sidecar: bool


def pod_to_ask(pod: Mapping[str, Any], service: Mapping[str, Any], tls_mode: str, shape: Shape) -> Pod:
    """A pod, seen from the Service. Raises UnaskableError where its port does not speak HTTP/1."""
    ports: list[Mapping[str, Any]] = service["spec"].get("ports") or []
    number = port_of(shape)
    entry = next((port for port in ports if port.get("port") == number), {})
    spoken = str(entry.get("appProtocol") or str(entry.get("name") or "").split("-")[0]).lower()
    if spoken in GRPC or spoken in ONLY_HTTP_2:
        raise UnaskableError(f"the Service's port {number} is for {spoken}")
    if tls_mode == "MUTUAL":
        raise UnaskableError("the DestinationRule asks for a client certificate of the mesh's own (tls.mode MUTUAL)")
    containers = pod["spec"].get("containers") or []
    port = _port_in(containers, entry.get("targetPort") or number)
    probe = _ready_probe(containers, port)
    return Pod(
        name=pod["metadata"]["name"],
        port=port,
        ready_path=_absolute(str(probe.get("path") or "")),
        tls=tls_mode == "SIMPLE" or str(probe.get("scheme", "")).upper() == "HTTPS",
        sidecar=has_sidecar(pod),
    )


def port_of(shape: Shape) -> int:
    """The Service's port that the routes send to; where they name none, the first that is HTTP."""
    return shape.ports[0] if shape.ports else shape.port


def _port_in(containers: Iterable[Mapping[str, Any]], target: object) -> int:
    """A target port is a number, or the name of a container's."""
    if isinstance(target, int):
        return target
    for container in containers:
        for port in container.get("ports") or []:
            if port.get("name") == target:
                return int(port["containerPort"])
    raise UnaskableError(f"no container has a port of the name {target}")


def _ready_probe(containers: Iterable[Mapping[str, Any]], port: int) -> Mapping[str, Any]:
    """What a readiness probe asks of this port; empty where it asks something else."""
    for container in containers:
        get = (container.get("readinessProbe") or {}).get("httpGet") or {}
        named = {one.get("name"): one.get("containerPort") for one in container.get("ports") or []}
        if get and named.get(get.get("port"), get.get("port")) == port:
            return dict(get)
    return {}


def _absolute(path: str) -> str:
    return "/" + path.lstrip("/")


def has_sidecar(pod: Mapping[str, Any]) -> bool:
    """Whether Istio put its proxy into a pod, as a container or as an init container that stays."""
    spec = pod["spec"]
    return any(
        one.get("name") == SIDECAR for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    )


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def paths_to_try(asked: str, ready_path: str) -> list[str]:
    """What the user named alone; else what the readiness probe asks, then the root."""
    return [_absolute(asked)] if asked else list(dict.fromkeys([ready_path, "/"]))


def tls_mode(rule: Mapping[str, Any] | None, shape: Shape, track: Track) -> str:
    """How a DestinationRule makes proxies speak to a track's pods; empty where it leaves that to the mesh.

    A subset's policy goes before the rule's, and a port's before the rest of the same policy.
    """
    spec = (rule or {}).get("spec") or {}
    subsets: list[Mapping[str, Any]] = spec.get("subsets") or []
    subset = next((one for one in subsets if one.get("name") == track.value), {})
    for policy in (subset.get("trafficPolicy") or {}, spec.get("trafficPolicy") or {}):
        ports = [
            one
            for one in policy.get("portLevelSettings") or []
            if (one.get("port") or {}).get("number") == port_of(shape)
        ]
        for settings in (*ports, policy):
            if (settings.get("tls") or {}).get("mode"):
                return str(settings["tls"]["mode"])
    return ""


# --- why no request arrives --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A request that did not arrive, with all that may be its cause."""

    verdict: Verdict
    request: Request
    reply: Reply
    server: Server
    shape: Shape
    tls_mode: str
    sidecar: bool
    counted: Counted | None
    port: int


def cause(failed: Failed) -> tuple[str, str]:
    """What it means, and what to do: as sure as the facts allow."""
    again = "then run `stage 1` again."
    if failed.verdict is Verdict.NO_ROUTE:
        return _why_no_route(failed, again)
    rule, mode = f"{failed.shape.namespace}/{failed.shape.rule}", failed.tls_mode
    leave = f"Leave `trafficPolicy.tls` out of the DestinationRule {rule} (in charts/productpage: an empty `tls.mode`), {again}"
    if mode == "ISTIO_MUTUAL" and not failed.sidecar:
        return (
            f"The DestinationRule {rule} asks for ISTIO_MUTUAL, and production's pods have no sidecar to answer it.",
            leave,
        )
    if mode in ("SIMPLE", "MUTUAL"):
        return (
            f"The DestinationRule {rule} makes the gateway speak TLS to the pods ({mode}); they may not speak it.",
            leave,
        )
    if mode == "DISABLE" and failed.sidecar:
        return f"The DestinationRule {rule} turns mutual TLS off; the pods' sidecars may ask for it.", leave
    if failed.counted is not None and not failed.counted.healthy:
        means = "The gateway knows no endpoint of production, though its pods are Ready."
        return means, f"Correct the Service's selector and the labels of the subset `production`, {again}"
    means = (
        f"Nothing accepts the gateway's connections at port {failed.port} of production's pods: the app listens at another port "
        "or address, or a NetworkPolicy or the mesh's mutual TLS keeps the gateway out."
    )
    return means, f"Correct the Service's targetPort, the app or the policy, {again}"


def _why_no_route(failed: Failed, again: str) -> tuple[str, str]:
    hosts, served = ", ".join(failed.shape.hosts), ", ".join(failed.server.hosts)
    route = f"{failed.shape.namespace}/{failed.shape.route}"
    if not common_host(failed.shape.hosts, _hosts_for(failed.server, failed.shape)):
        return (
            f"The VirtualService {route} is for {hosts}, and the Gateway {failed.server.gateway} for {served}.",
            f"Give both the same host in the chart's values, {again}",
        )
    return (
        f"The gateway did not take the VirtualService {route}, or another one has its host or path.",
        f"Look at `istioctl analyze`, correct what it names, {again}",
    )
