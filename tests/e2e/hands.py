"""What other hands do to a release: people with kubectl, autoscalers, the machine itself."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tests.cluster import Cluster

from .service import RELEASE, Service

Hand: TypeAlias = Callable[[Service], None]
ROUTE, RULE, SERVICE = "product-page-virtual-service", "product-page-destination-rule", "product-page-svc"
DEPLOYMENTS = {"production": RELEASE, "canary": f"{RELEASE}canary"}


def weights(production: int, canary: int) -> Hand:
    """`kubectl patch` of the weights."""
    of = {"production": production, "canary": canary}

    def edit(service: Service) -> None:
        (route,) = service.read("virtualservices.networking.istio.io")
        changes = [
            {"op": "replace", "path": f"/spec/http/{n}/route/{m}/weight", "value": of[entry["destination"]["subset"]]}
            for n, http in enumerate(route["spec"]["http"])
            for m, entry in enumerate(http["route"])
        ]
        patch("virtualservice", ROUTE, changes)(service)

    return edit


def patch(kind: str, name: str, changes: list[dict[str, Any]]) -> Hand:
    """`kubectl patch` of single fields."""
    return lambda service: _ignore(service.kubectl("patch", kind, name, "--type=json", "--patch", json.dumps(changes)))


def scale(track: str, replicas: int) -> Hand:
    return lambda service: _ignore(
        service.kubectl("scale", f"deployment/{DEPLOYMENTS[track]}", f"--replicas={replicas}")
    )


def set_image(track: str, tag: str) -> Hand:
    """Wait for its pods, as a person would; a bad image is not waited for."""

    def edit(service: Service) -> None:
        name = f"deployment/{DEPLOYMENTS[track]}"
        repository = service.values["productionDeployment"]["image"]["repository"]
        service.kubectl("set", "image", name, f"*={repository}:{tag}")
        if tag.isdigit():
            service.kubectl("rollout", "status", name, "--timeout=50s")

    return edit


def restart(track: str) -> Hand:
    """Not waited for: its pods are being replaced while the next command runs."""
    return lambda service: _ignore(service.kubectl("rollout", "restart", f"deployment/{DEPLOYMENTS[track]}"))


def autoscale(replicas: int) -> Hand:
    """An autoscaler that has raised production; there are no metrics here, so its part is played."""

    def edit(service: Service) -> None:
        name = f"deployment/{RELEASE}"
        service.kubectl("autoscale", name, "--min=2", "--max=10", "--cpu-percent=70")
        service.kubectl("scale", name, f"--replicas={replicas}")
        service.kubectl("rollout", "status", name, "--timeout=50s")

    return edit


def delete(kind: str, name: str) -> Hand:
    return lambda service: _ignore(service.kubectl("delete", kind, name))


def merge_into(kind: str, name: str, change: Any) -> Hand:
    return lambda service: _ignore(service.kubectl("patch", kind, name, "--type=merge", "--patch", json.dumps(change)))


def _ignore(said: str) -> None:
    del said


# --- the machine --------------------------------------------------------------------------------------------------------


def processes(cluster: Cluster, namespace: str, pod: str, program: str) -> list[int]:
    """The processes of this name in a pod, by the numbers that they have outside of it."""
    text = cluster.kubectl("--namespace", namespace, "get", "pod", pod, "--output", "json")
    statuses = json.loads(text)["status"]["containerStatuses"]
    containers = [of["containerID"].rpartition("/")[2] for of in statuses]
    return [int(found.name) for found in Path("/proc").glob("[0-9]*") if _is_in(found, program, containers)]


def send_signal(service: Service, pod: str, number: signal.Signals) -> None:
    """To the app in one of the service's pods, as the kernel would send it."""
    found = processes(service.cluster, service.namespace, pod, "app")
    assert len(found) == 1, f"{pod} has {len(found)} processes of the app"
    os.kill(found[0], number)


@contextmanager
def silenced(cluster: Cluster, gateway: str) -> Iterator[None]:
    """A gateway pod that serves as ever, and whose administration takes no connection."""
    (envoy,) = processes(cluster, "istio-system", gateway, "envoy")
    inside = ("nsenter", f"--target={envoy}", "--net", "iptables", "--wait")
    rule = ("INPUT", "--protocol", "tcp", "--dport", "15000", "--jump", "REJECT", "--reject-with", "tcp-reset")
    cluster.run(*inside, "--insert", *rule)
    try:
        yield
    finally:
        cluster.run(*inside, "--delete", *rule)


@contextmanager
def stopped(cluster: Cluster, daemon: str) -> Iterator[None]:
    """A part of the cluster is away while the body runs, and serves again after it."""
    cluster.stop_daemon(daemon)
    try:
        yield
    finally:
        cluster.start_daemon(daemon)


def _is_in(process: Path, program: str, containers: list[str]) -> bool:
    try:
        name, groups = (process / "comm").read_text().strip(), (process / "cgroup").read_text()
    except OSError:  # it has just ended
        return False
    return name == program and any(container in groups for container in containers)
