"""What kubectl is asked about the objects of a chart."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helm_canary.cluster import Cluster
from helm_canary.process import Completed, Connection, Processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass
class Kubectl(Processes):
    """Gives back what it was given, and notes in which namespace."""

    asked: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def run(self, arguments: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0, shown: bool = False,
            check: bool = True, once: bool = False, environment: Mapping[str, str] | None = None) -> Completed:  # fmt: skip
        at = arguments.index("--namespace")
        names = [item["metadata"]["name"] for item in json.loads(stdin)["items"]]
        self.asked.append((arguments[at + 2], arguments[at + 1], names))
        return Completed(code=0, stdout=stdin, stderr="")


def test_objects_are_tried_in_their_own_namespaces() -> None:
    """kubectl refuses an object of another namespace than the one it is told: each namespace is a call of its own."""
    kubectl = Kubectl(environment={})
    cluster = Cluster(processes=kubectl, connection=Connection(namespace="shop"))
    page, rule = {"metadata": {"name": "page"}}, {"metadata": {"name": "rule", "namespace": "shop"}}
    gateway = {"metadata": {"name": "gateway", "namespace": "edge"}}

    live, would = cluster.dry_run([page, gateway, rule])

    assert sorted(kubectl.asked) == [
        ("apply", "edge", ["gateway"]), ("apply", "shop", ["page"]), ("apply", "shop", ["rule"]),
        ("get", "edge", ["gateway"]), ("get", "shop", ["page"]), ("get", "shop", ["rule"]),
    ]  # fmt: skip
    assert live == would == [page, gateway, rule]
