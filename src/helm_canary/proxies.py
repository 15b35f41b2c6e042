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
GATEWAY_NAMESPACES = ("istio-system", "istio-ingress", "aks-istio-ingress")

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class GatewayPod:
    """A pod that is a gateway: where it is."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """What one proxy knows of one track: healthy endpoints, and of requests to any endpoint how many are in flight.

    `sent`, `failed`: how many there were since the endpoints came, and how many of them ended in a 5xx or without an answer.
    """

    healthy: int
    in_flight: int
    sent: int = 0
    failed: int = 0


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One round of questions: the pods that were asked, and per pod the splits or the endpoints; None: no answer."""

    splits: Mapping[GatewayPod, frozenset[Split] | None] = field(default_factory=dict)
    endpoints: Mapping[GatewayPod, Mapping[Track, Endpoints | None] | None] = field(default_factory=dict)


@dataclass
class Proxies:
    """The gateway proxies of one service. `find` must have been called before anything is asked.

    everywhere  pods of all namespaces may be listed
    unread      Gateways that could not be read, with what kubectl said: whose pods they select is not known
    """

    processes: Processes
    connection: Connection
    shape: Shape
    selectors: tuple[str, ...] = ()
    everywhere: bool = True
    unread: dict[str, str] = field(default_factory=dict)
    _silent: frozenset[GatewayPod] = frozenset()

    def find(self, own_gateways: Sequence[Mapping[str, Any]]) -> None:
        """Learn the pod selectors of the Gateways that the VirtualService names; `own_gateways` are those of its namespace."""
        selectors = []
        self.unread = {}
        known = {f"{self.shape.namespace}/{item['metadata']['name']}": item for item in own_gateways}
        for name in self.shape.gateways:
            if name == "mesh":
                continue
            gateway = known.get(name) or self._gateway(*name.split("/", 1))
            labels = ((gateway or {}).get("spec") or {}).get("selector") or {}
            if labels:
                selectors.append(",".join(f"{key}={value}" for key, value in sorted(labels.items())))
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
            raise ToolError(f"The Gateway {name} may not be read.", advice(forbidden(stderr)) or stderr, stderr=stderr)
        found: dict[GatewayPod, None] = {}
        for selector in self.selectors:
            for item in self._running(selector):
                metadata = item["metadata"]
                found[GatewayPod(namespace=metadata["namespace"], name=metadata["name"])] = None
        return list(found)

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
            raise ToolError("The gateway pods may not be listed.", f"The right `list pods` is missing in {where}.")
        return items

    def _raise_if_none_may_be_asked(self, pods: Sequence[GatewayPod], missing: Sequence[Sequence[Right]]) -> None:
        """An answer that a pod owes may still come; a right that is missing does not."""
        if all(missing):
            rights = list(dict.fromkeys(right for every in missing for right in every))
            names = ", ".join(map(str, pods))
            raise ToolError(f"No answer from {names}: the account may not {rights[0]}.", advice(rights))

    def splits(self) -> Answers:
        """The weights in force, per pod."""
        return Answers(splits=self._ask(ROUTES, lambda answer: parse_splits(answer, self.shape)))

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
    """Healthy endpoints and requests in flight per track; None for a track whose cluster the proxy was not given."""
    found: dict[Track, Endpoints | None] = dict.fromkeys(Track)
    for status in answer.get("cluster_statuses") or []:
        track = subset_of(str(status.get("name", "")), shape)
        if track is None:
            continue
        hosts = status.get("host_statuses") or []
        before = found[track] or Endpoints(healthy=0, in_flight=0)
        found[track] = Endpoints(
            healthy=before.healthy + sum(_is_healthy(host) for host in hosts),
            in_flight=before.in_flight + sum(_stat(host, "rq_active") for host in hosts),
            sent=before.sent + sum(_stat(host, "rq_total") for host in hosts),
            failed=before.failed + sum(_stat(host, "rq_error") for host in hosts),
        )
    return found


def _is_healthy(host: Mapping[str, Any]) -> bool:
    health = host.get("health_status") or {}
    failed = any(value is True for key, value in health.items() if key.startswith(("failed_", "pending_")))
    return health.get("eds_health_status", "HEALTHY") == "HEALTHY" and not failed


def _stat(host: Mapping[str, Any], name: str) -> int:
    return sum(int(stat.get("value") or 0) for stat in host.get("stats") or [] if stat.get("name") == name)
