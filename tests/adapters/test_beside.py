"""A Deployment that moves with production: Ready when all of its pods are new and available."""

from __future__ import annotations

from typing import Any

import pytest

from helm_canary.beside import lacking, pods_beside
from helm_canary.cluster import Live

NAME = "Deployment/worker"


def worker(**status: int) -> dict[str, Any]:
    return {
        "kind": "Deployment",
        "metadata": {"name": "worker", "generation": 2},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "worker"}}},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2} | status,
    }


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, ""),
        ({"observedGeneration": 1}, "Deployment/worker has 2 of 2 pods Ready"),
        ({"updatedReplicas": 1}, "Deployment/worker has 1 of 2 pods Ready"),
        ({"availableReplicas": 1}, "Deployment/worker has 1 of 2 pods Ready"),
        ({"replicas": 3}, "Deployment/worker has 2 of 2 pods Ready"),
    ],
)
def test_what_a_worker_lacks(status: dict[str, int], said: str) -> None:
    """Seen by the controller, no old pod left, every one available."""
    assert lacking(Live(items=(worker(**status),)), (NAME,)) == said


def test_what_is_not_there_is_not_waited_for() -> None:
    """A Deployment of another namespace is not read; nothing is said of it."""
    assert lacking(Live(items=()), (NAME, "Deployment/elsewhere/worker")) == ""


def test_its_pods_are_those_of_its_selector() -> None:
    """Pods on their way out are none of them."""
    pods = [
        {"kind": "Pod", "metadata": {"name": "a", "labels": {"app": "worker", "x": "y"}}},
        {"kind": "Pod", "metadata": {"name": "b", "labels": {"app": "shop"}}},
        {"kind": "Pod", "metadata": {"name": "c", "labels": {"app": "worker"}, "deletionTimestamp": "now"}},
    ]
    live = Live(items=(worker(), *pods))

    assert [pod["metadata"]["name"] for pod in pods_beside(live, (NAME,))] == ["a"]
    assert pods_beside(live, ()) == []
