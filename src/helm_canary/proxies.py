"""What the gateway proxies have: the weights in force, the endpoints they know, the requests in flight.

Every Running pod that a Gateway of the VirtualService selects is asked, all at once, through `kubectl exec` and pilot-agent,
which every Istio gateway has. A pod that gives no answer is reported as such; what follows from that is for `execute`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from helm_canary.core.model import Split, Track
from helm_canary.errors import CanaryError, ToolError
from helm_canary.manifest import Shape
from helm_canary.process import Connection, Processes
from helm_canary.rights import Right, advice, forbidden

ROUTES = "config_dump?resource=dynamic_route_configs"
CLUSTERS = "clusters?format=json"
ANSWER_TIMEOUT_S = 10.0
# For one that gave no answer the last time: a release must not wait for it at every step.
SILENT_TIMEOUT_S = 2.0
ROOTS = Right(verb="list", group="networking.istio.io", resource="virtualservices", namespace="")
GATEWAY_NAMESPACES = ("istio-system", "istio-ingress", "aks-istio-ingress")

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class GatewayPod:
    """A pod that is a gateway: where it is. `may_lack_route`: it is Ready, and in the namespace of no Gateway of the service."""

    namespace: str
    name: str
    may_lack_route: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """What one proxy knows of one track: healthy endpoints, and of requests to any endpoint how many are in flight.

    `sent`, `failed`: how many there were since the endpoints came, and how many of them ended in a 5xx or without an answer.
    `connect_failed`: connections that did not come about.
    """

    healthy: int
    in_flight: int
    sent: int = 0
    failed: int = 0
    connect_failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One round of questions: the pods that were asked, and per pod the splits or the endpoints; None: no answer."""

    splits: Mapping[GatewayPod, frozenset[Split] | None] = field(default_factory=dict)
    endpoints: Mapping[GatewayPod, Mapping[Track, Endpoints | None] | None] = field(default_factory=dict)


@dataclass
class Proxies:
    """The gateway proxies of one service. `find` must have been called before anything is asked.

    gateways    by `namespace/name` the Gateways that the VirtualService names; None: there is none of that name
    selectors   the labels of the pods that these select
    everywhere  pods of all namespaces may be listed
    unread      Gateways that could not be read, with what kubectl said: whose pods they select is not known
    """

    processes: Processes
    connection: Connection
    shape: Shape
    gateways: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    selectors: tuple[str, ...] = ()
    everywhere: bool = True
    unread: dict[str, str] = field(default_factory=dict)
    _silent: frozenset[GatewayPod] = frozenset()

    def find(self, known_gateways: Sequence[Mapping[str, Any]]) -> None:
        """Learn of the Gateways that the VirtualService names. `known_gateways` need not be read; each has its own namespace."""
        self.gateways, self.unread, selectors = {}, {}, []
        own = self.shape.namespace
        known = {
            f"{item['metadata'].get('namespace') or own}/{item['metadata']['name']}": item for item in known_gateways
        }
        for name in self.shape.gateways:
            if name == "mesh":
                continue
            gateway = known.get(name) or self._gateway(*name.split("/", 1))
            if name not in self.unread:
                self.gateways[name] = gateway
            if gateway and selector_of(gateway):
                selectors.append(selector_of(gateway))
        self.selectors = tuple(dict.fromkeys(selectors))

    def _gateway(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        command = self.connection.kubectl(
            "get", "gateways.networking.istio.io", name, "--ignore-not-found", "--output", "json", namespace=namespace
        )
        done = self.processes.run(command, check=False)
        if done.code != 0:
            self.unread[f"{namespace}/{name}"] = done.stderr.strip()
        return json.loads(done.stdout) if done.code == 0 and done.stdout.strip() else None

    def pods(self) -> list[GatewayPod]:
        """Every Running gateway pod. Raises ToolError when they may not be listed anywhere, or a Gateway not be read."""
        for name, stderr in self.unread.items():
            raise ToolError(f"The Gateway {name} cannot be read.", advice(forbidden(stderr)) or stderr, stderr=stderr)
        if self.shape.delegate and not self.shape.roots and not self.shape.all_roots:
            route = f"{self.shape.namespace}/{self.shape.route}"
            raise ToolError(
                f"It is not known which VirtualServices delegate to {route}, and so not which Gateways it has.",
                advice([ROOTS]),
            )
        found: dict[GatewayPod, None] = {}
        for selector in self.selectors:
            for item in self._running(selector):
                found[self._pod(item)] = None
        return list(found)

    def selected_by(self, gateway: str) -> list[GatewayPod]:
        """Every Running pod that one Gateway selects, those first that must have its routes. Raises ToolError like `pods`."""
        selector = selector_of(self.gateways.get(gateway) or {})
        found = [self._pod(item) for item in self._running(selector)] if selector else []
        return sorted(found, key=lambda pod: pod.may_lack_route)

    def _pod(self, item: Mapping[str, Any]) -> GatewayPod:
        where, name = item["metadata"]["namespace"], item["metadata"]["name"]
        conditions = (item.get("status") or {}).get("conditions") or []
        ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
        beside = any(gateway.startswith(f"{where}/") for gateway in self.gateways)
        return GatewayPod(namespace=where, name=name, may_lack_route=ready and not beside)

    def _running(self, selector: str) -> list[Mapping[str, Any]]:
        query = ("get", "pods", "--selector", selector, "--field-selector", "status.phase=Running", "--output", "json")
        if self.everywhere:
            done = self.processes.run(self.connection.kubectl(*query, "--all-namespaces", namespace=""), check=False)
            if done.code == 0:
                return list(json.loads(done.stdout)["items"])
            if "orbidden" not in done.stderr:
                raise ToolError(
                    "The gateway pods cannot be listed.", stderr=done.stderr, details=(done.stderr.strip(),)
                )
            self.everywhere = False
        return self._running_where_allowed(query)

    def _running_where_allowed(self, query: Sequence[str]) -> list[Mapping[str, Any]]:
        """Without the right to list pods everywhere: in the namespaces where a gateway of this service can be expected."""
        named = [name.split("/", 1)[0] for name in self.shape.gateways if name != "mesh"]
        refused: list[str] = []
        items: list[Mapping[str, Any]] = []
        for namespace in dict.fromkeys([*named, *GATEWAY_NAMESPACES]):
            done = self.processes.run(self.connection.kubectl(*query, namespace=namespace), check=False)
            if done.code == 0:
                items += json.loads(done.stdout)["items"]
            else:
                refused.append(namespace)
        if refused and not items:
            where = ", ".join(refused)
            raise ToolError(
                "The account is not allowed to list the gateway pods.", f"The right `list pods` is missing in {where}."
            )
        return items

    def _raise_if_none_may_be_asked(self, pods: Sequence[GatewayPod], missing: Sequence[Sequence[Right]]) -> None:
        """An answer that a pod owes may still come; a right that is missing does not."""
        if all(missing):
            rights = list(dict.fromkeys(right for every in missing for right in every))
            names = ", ".join(map(str, pods))
            raise ToolError(f"No answer from {names}: the account is not allowed to {rights[0]}.", advice(rights))

    def splits(self) -> Answers:
        """The weights in force, per pod."""
        return Answers(splits=bound(self._ask(ROUTES, lambda answer: parse_splits(answer, self.shape))))

    def endpoints(self) -> Answers:
        """Endpoints and requests in flight, per pod and track."""
        return Answers(endpoints=self._ask(CLUSTERS, lambda answer: parse_endpoints(answer, self.shape)))

    def _ask(self, question: str, parse: Callable[[Mapping[str, Any]], Answer]) -> dict[GatewayPod, Answer | None]:
        pods = self.pods()
        if not pods:
            return {}

        missing: dict[GatewayPod, list[Right]] = {pod: [] for pod in pods}

        def ask(pod: GatewayPod) -> Answer | None:
            command = self.connection.kubectl(
                "exec", pod.name, "--container", "istio-proxy", "--", "pilot-agent", "request", "GET", question,
                namespace=pod.namespace,
            )  # fmt: skip
            try:
                limit_s = SILENT_TIMEOUT_S if pod in self._silent else ANSWER_TIMEOUT_S
                done = self.processes.run(command, timeout_s=limit_s, check=False, once=True)
                missing[pod] = forbidden(done.stderr) if done.code else []
                return parse(first_json(done.stdout)) if done.code == 0 else None
            except (CanaryError, ValueError, KeyError, TypeError):
                return None

        with ThreadPoolExecutor(min(len(pods), 16)) as pool:
            answers = dict(zip(pods, pool.map(ask, pods), strict=True))
        self._silent = frozenset(pod for pod, answer in answers.items() if answer is None)
        self._raise_if_none_may_be_asked(pods, list(missing.values()))
        return answers


def selector_of(gateway: Mapping[str, Any]) -> str:
    labels = (gateway.get("spec") or {}).get("selector") or {}
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def bound(splits: Mapping[GatewayPod, frozenset[Split] | None]) -> Mapping[GatewayPod, frozenset[Split] | None]:
    """Without the pods that have no route to the service because Istio gave them none.

    With PILOT_SCOPE_GATEWAY_TO_NAMESPACE, or where the VirtualService is exported to some namespaces only, a pod in another
    namespace than the Gateway does not serve it, whatever its labels. One that is not Ready may wait for its first routes, and
    where no gateway has any they may all be on their way: these stay.
    """
    served = any(splits.values())
    return {
        pod: found for pod, found in splits.items() if found or found is None or not (served and pod.may_lack_route)
    }


def first_json(text: str) -> Mapping[str, Any]:
    """The proxy's answer in pilot-agent's output. Raises ValueError without one.

    pilot-agent begins with a line or two of its own, which are JSON too where it logs so: the answer is the last object.
    """
    decoder, at, found = json.JSONDecoder(), 0, None
    while (begin := text.find("{", at)) >= 0:
        at = begin + 1
        if begin == 0 or text[begin - 1] == "\n":
            found, at = decoder.raw_decode(text, begin)
    if found is None:
        raise ValueError("no JSON object at the beginning of a line")
    return dict(found)


def parse_splits(dump: Mapping[str, Any], shape: Shape) -> frozenset[Split]:
    """Each split that a proxy's routes give this service; more than one while it takes a new configuration over.

    A destination with weight 0 is absent from the proxy's route: absence is the proof.
    """
    found = set()
    for config in dump.get("configs") or []:
        for host in (config.get("route_config") or {}).get("virtual_hosts") or []:
            for route in host.get("routes") or []:
                weights = _weights(route.get("route") or {}, shape)
                if weights:
                    found.add(Split(production=weights.get("production", 0), canary=weights.get("canary", 0)))
    return frozenset(found)


def _weights(action: Mapping[str, Any], shape: Shape) -> dict[str, int]:
    entries = (action.get("weighted_clusters") or {}).get("clusters") or []
    if action.get("cluster"):
        entries = [{"name": action["cluster"], "weight": 100}]
    weights: dict[str, int] = {}
    for entry in entries:
        subset = subset_of(str(entry.get("name", "")), shape)
        if subset is not None:
            weights[subset.value] = weights.get(subset.value, 0) + int(entry.get("weight") or 0)
    return weights


def subset_of(cluster: str, shape: Shape) -> Track | None:
    """The track that an Envoy cluster (`outbound|9080|canary|HOST`) stands for, or None when it is another's."""
    parts = cluster.split("|")
    if len(parts) != 4 or parts[0] != "outbound" or parts[3] != shape.host:
        return None
    return next((track for track in Track if track.value == parts[2]), None)


def parse_endpoints(answer: Mapping[str, Any], shape: Shape) -> Mapping[Track, Endpoints | None]:
    """Healthy endpoints and requests in flight per track; None for a track whose cluster the proxy was not given.

    A proxy has a cluster for each port of the Service, with the same pods. Healthy is a pod where each cluster that the routes
    name has it; requests are added up, whatever port they go to.
    """
    found: dict[Track, Endpoints | None] = dict.fromkeys(Track)
    healthy: dict[Track, dict[int, int]] = {track: {} for track in Track}
    for status in answer.get("cluster_statuses") or []:
        name = str(status.get("name", ""))
        track = subset_of(name, shape)
        if track is None:
            continue
        hosts = status.get("host_statuses") or []
        before = found[track] or Endpoints(healthy=0, in_flight=0)
        healthy[track][_port_of(name)] = len({_address(host) for host in hosts if _is_healthy(host)})
        found[track] = Endpoints(
            healthy=_fewest(healthy[track], shape.ports),
            in_flight=before.in_flight + sum(_stat(host, "rq_active") for host in hosts),
            sent=before.sent + sum(_stat(host, "rq_total") for host in hosts),
            failed=before.failed + sum(_stat(host, "rq_error") for host in hosts),
            connect_failed=before.connect_failed + sum(_stat(host, "cx_connect_fail") for host in hosts),
        )
    return found


def _fewest(by_port: Mapping[int, int], routed: Sequence[int]) -> int:
    """By the ports that routes name, as far as there are such clusters; else by all."""
    return min([by_port[port] for port in routed if port in by_port] or by_port.values())


def _port_of(cluster: str) -> int:
    return int(cluster.split("|")[1])


def _address(host: Mapping[str, Any]) -> str:
    """A pod may stand in several endpoints, by priority or locality; its address is one."""
    return json.dumps(host.get("address"), sort_keys=True)


def _is_healthy(host: Mapping[str, Any]) -> bool:
    health = host.get("health_status") or {}
    failed = any(value is True for key, value in health.items() if key.startswith(("failed_", "pending_")))
    return health.get("eds_health_status", "HEALTHY") == "HEALTHY" and not failed


def _stat(host: Mapping[str, Any], name: str) -> int:
    return sum(int(stat.get("value") or 0) for stat in host.get("stats") or [] if stat.get("name") == name)
