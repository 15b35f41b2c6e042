"""Where the demo runs: the project's own local cluster, or one that the user's kubeconfig names."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from demo.load import Load, PythonLoad
from tests.cluster import ClusterError, Traffic, cluster, down, status

NAMESPACE = "helm-canary-demo"
OURS = "helm-canary-demo=yes"
HOST = "demo.helm-canary.test"
RPS = 100
LOCAL_IMAGE = "localhost/helm-canary-demo"
KUBECTL_LIMIT_S = 60.0
DELETE_LIMIT_S = 180.0
SYSTEM_NAMESPACES = {"default", "istio-system", "kube-node-lease", "kube-public", "kube-system", NAMESPACE}
KNOWN_GATEWAYS = (
    "istio=ingressgateway",
    "istio=ingress",
    "istio=aks-istio-ingressgateway-external",
    "istio=aks-istio-ingressgateway-internal",
)


class DemoError(Exception):
    """The demo cannot go on; the text says what to do."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for. `context` empty: the local cluster. `tags`: the old version, the new one, the bad one."""

    context: str
    image: str
    tags: tuple[str, str, str]
    url: str
    gateway: str
    values: str
    yes: bool
    picture: str


class Place(Protocol):
    """A cluster to run on. `tool_flags` say to helm-canary which; `bad_values` make the third version never Ready."""

    name: str
    image: str
    gateway: str
    tool_flags: tuple[str, ...]
    bad_values: tuple[str, ...]

    def command(self, *argv: str) -> list[str]: ...
    def environment(self) -> dict[str, str]: ...
    def load(self) -> Load: ...
    def close(self) -> str: ...


class Local:
    """The project's cluster in `tests/cluster`; ended again if the demo started it and nobody else uses it."""

    name = "the local cluster (Kubernetes, Istio, two Envoy gateways)"
    image = LOCAL_IMAGE
    gateway = "istio=ingressgateway"
    tool_flags: tuple[str, ...] = ()
    bad_values: tuple[str, ...] = ()

    def __init__(self, wish: Wish) -> None:
        try:
            self._was_up = status()[0]
            self._cluster = cluster.up()
            for tag, settings in zip(wish.tags, ({}, {}, {"NEVER_READY": "1"}), strict=True):
                self._cluster.image(f"{LOCAL_IMAGE}:{tag}", **settings)
        except ClusterError as error:
            raise DemoError(
                f"{error}\n  or:      run on a cluster of your own: make demo CONTEXT=NAME IMAGE=..."
            ) from error

    def command(self, *argv: str) -> list[str]:
        return self._cluster.command(*argv)

    def environment(self) -> dict[str, str]:
        return self._cluster.environment()

    def load(self) -> Load:
        return Traffic(self._cluster, HOST, rps=RPS)

    def close(self) -> str:
        """Returns what became of the cluster, for the last line."""
        if self._was_up:
            return "The local cluster was there before and stays; `make cluster-down` ends it."
        others = set(kubectl(self, "get", "namespaces", "--output", "name").replace("namespace/", "").split())
        if others - SYSTEM_NAMESPACES:
            return "Others use the local cluster now, so it stays; `make cluster-down` ends it."
        down()
        return "The local cluster is ended; its programs are kept, so the next start takes seconds."


class Remote:
    """A cluster of the user's own. Nothing but the demo's namespace is written to."""

    # No image is at hand that is never Ready, so the user's own is asked at a port that nothing listens on.
    bad_values: tuple[str, ...] = ("pod.readinessProbe.httpGet.port=1",)

    def __init__(self, wish: Wish) -> None:
        self.name, self.image, self._context = f"the cluster {wish.context}", wish.image, wish.context
        self.tool_flags: tuple[str, ...] = ("--context", wish.context)
        missing = [program for program in ("kubectl", "helm") if not shutil.which(program)]
        if missing:
            raise DemoError(f"{' and '.join(missing)} must be on PATH to use a cluster of your own.")
        if not wish.image:
            raise DemoError(
                "IMAGE= is missing: a repository that the cluster can pull from, with two tags (TAGS=83,84) of a service "
                "that answers GET / on port 9080; other ports and paths: VALUES=FILE for charts/productpage."
            )
        self.gateway = wish.gateway or self._find_gateway()
        self._url = wish.url or self._find_url()

    def command(self, *argv: str) -> list[str]:
        program, *rest = argv
        flag = {"kubectl": "--context", "helm": "--kube-context"}.get(program)
        return [program, flag, self._context, *rest] if flag else list(argv)

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def load(self) -> Load:
        return PythonLoad(self._url, HOST, rps=RPS)

    def close(self) -> str:
        return "Nothing of the demo is left in the cluster."

    def _find_gateway(self) -> str:
        for selector in KNOWN_GATEWAYS:
            running = ("--field-selector", "status.phase=Running", "--output", "name")
            if kubectl(self, "get", "pods", "--all-namespaces", "--selector", selector, *running).strip():
                return selector
        raise DemoError(
            f"No ingress gateway pod is running with one of the labels {', '.join(KNOWN_GATEWAYS)}: install Istio's gateway, "
            "or say which label it has: GATEWAY=istio=NAME."
        )

    def _find_url(self) -> str:
        key, value = self.gateway.split("=", 1)
        services = json.loads(kubectl(self, "get", "services", "--all-namespaces", "--output", "json"))["items"]
        for service in services:
            entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
            if (service["spec"].get("selector") or {}).get(key) == value and entries:
                address = str(entries[0].get("ip") or entries[0].get("hostname"))
                return f"http://{_not_public(address)}"
        raise DemoError(
            "The gateway's Service has no load balancer address. Open a way to it, for instance\n"
            "  kubectl --namespace istio-system port-forward service/istio-ingressgateway 8080:80\n"
            "and say URL=http://127.0.0.1:8080."
        )


def _not_public(address: str) -> str:
    """The address, unless it is a public one: a hundred requests a second go there only when somebody says so."""
    found = {entry[4][0] for entry in socket.getaddrinfo(address, 80, type=socket.SOCK_STREAM)}
    parsed = [ipaddress.ip_address(str(item).split("%")[0]) for item in found]
    if not all(item.is_private or item.is_loopback for item in parsed):
        raise DemoError(
            f"The gateway's address {address} is a public one. The demo sends {RPS} requests a second there for some minutes: "
            f"if that is what you want, say URL=http://{address}."
        )
    return address


def open_place(wish: Wish) -> Place:
    if wish.url and urlsplit(wish.url).scheme not in ("http", "https"):
        raise DemoError(f"URL={wish.url} is no address: it begins with http:// or https://.")
    return Remote(wish) if wish.context else Local(wish)


def kubectl(place: Place, *argv: str, stdin: str = "", limit_s: float = KUBECTL_LIMIT_S) -> str:
    """What kubectl prints. Raises DemoError."""
    try:
        done = subprocess.run(
            place.command("kubectl", *argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=place.environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"`kubectl {' '.join(argv)}` did not end within {limit_s:.0f} s.") from error
    if done.returncode:
        raise DemoError(f"`kubectl {' '.join(argv)}` failed: {done.stderr.strip()}")
    return done.stdout


def make_namespace(place: Place) -> None:
    """An empty namespace of the demo's own. Raises DemoError where somebody else has one of that name."""
    text = kubectl(place, "get", "namespace", NAMESPACE, "--ignore-not-found", "--output", "json")
    if text.strip():
        labels: dict[str, Any] = json.loads(text)["metadata"].get("labels") or {}
        if OURS.split("=")[0] not in labels:
            raise DemoError(f"The cluster has a namespace {NAMESPACE} that the demo did not make; it is left alone.")
        remove_namespace(place)
    kubectl(place, "create", "namespace", NAMESPACE)
    kubectl(place, "label", "namespace", NAMESPACE, OURS)


def remove_namespace(place: Place) -> None:
    kubectl(place, "delete", "namespace", NAMESPACE, "--ignore-not-found", limit_s=DELETE_LIMIT_S)


def ready_counts(place: Place, deployments: Sequence[str]) -> dict[str, str]:
    """Deployment -> `2/2`: pods Ready and wanted; empty while they cannot be read."""
    query = ("--namespace", NAMESPACE, "get", "deployments", "--output", "json", "--request-timeout=5s")
    try:
        items = json.loads(kubectl(place, *query, limit_s=10))["items"]
    except (DemoError, ValueError):
        return {}
    found = {item["metadata"]["name"]: item for item in items}
    return {
        name: f"{found[name].get('status', {}).get('readyReplicas', 0)}/{found[name]['spec'].get('replicas', 0)}"
        for name in deployments
        if name in found
    }
