"""Which labels of an object are for readers alone: nothing that can be read chooses by them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from helm_canary.guard import compare
from helm_canary.labels import INFORMING, free_labels
from tests.adapters.recordings import objects

VERSION = "app.kubernetes.io/version"


def of(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x", "labels": dict.fromkeys(INFORMING, "1")}, "spec": spec}


def pod(**spec: Any) -> dict[str, Any]:
    return {"template": {"metadata": {"labels": dict.fromkeys(INFORMING, "1")}, "spec": spec}}


# What chooses by a label -> the label that is not free then.
CHOOSING: dict[str, tuple[dict[str, Any], str]] = {
    "a Service": (of("Service", selector={"app": "shop", "version": "1"}), "version"),
    "a Deployment": (of("Deployment", selector={"matchLabels": {VERSION: "1"}}), VERSION),
    "an expression": (of("NetworkPolicy", podSelector={"matchExpressions": [{"key": VERSION, "operator": "Exists"}]}), VERSION),
    "a peer of a policy": (
        of("NetworkPolicy", ingress=[{"from": [{"podSelector": {"matchLabels": {"helm.sh/chart": "a-1"}}}]}]), "helm.sh/chart",
    ),
    "a subset": (of("DestinationRule", subsets=[{"name": "production", "labels": {"version": "v1"}}]), "version"),
    "a Gateway": (of("Gateway", selector={"version": "1"}), "version"),
    "a route": (of("VirtualService", http=[{"match": [{"sourceLabels": {"version": "1"}}]}]), "version"),
    "a Sidecar": (of("Sidecar", workloadSelector={"labels": {"version": "1"}}), "version"),
    "a policy of mutual TLS": (of("PeerAuthentication", selector={"matchLabels": {VERSION: "1"}}), VERSION),
    "a condition of a policy": (of("AuthorizationPolicy", rules=[{"when": [{"key": "source.labels[version]"}]}]), "version"),
    "a disruption budget": (of("PodDisruptionBudget", selector={"matchLabels": {"version": "1"}}), "version"),
    "a monitor": (of("ServiceMonitor", selector={"matchLabels": {VERSION: "1"}}), VERSION),
    "pods apart from each other": (
        of("Deployment", **pod(topologySpreadConstraints=[{"labelSelector": {"matchLabels": {"version": "1"}}}])), "version",
    ),
    "pods of one version apart": (
        of("Deployment", **pod(topologySpreadConstraints=[{"matchLabelKeys": [VERSION]}])), VERSION,
    ),
    "a selector in one text": (of("Autoscaler", labelSelector="app=shop,version in (1, 2)"), "version"),
}  # fmt: skip


@pytest.mark.parametrize(("thing", "label"), CHOOSING.values(), ids=[*CHOOSING])
def test_what_chooses_by_a_label_holds_it(thing: dict[str, Any], label: str) -> None:
    """A label that a selector, a subset or a policy names is not free; the other ones are."""
    assert free_labels([of("ConfigMap"), thing]) == set(INFORMING) - {label}


FREE: dict[str, dict[str, Any]] = {
    "labels": of("Service", selector={"app": "shop", "app.kubernetes.io/name": "shop"}),
    "labels of pods": of("Deployment", selector={"matchLabels": {"app": "shop"}}, **pod()),
    "a field of that name": of("Certificate", version=1, items=[{"version": "2"}]),
    "nodes": of("Deployment", **pod(nodeSelector={"version": "1"})),
    "namespaces": of("NetworkPolicy", ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"version": "1"}}}]}]),
    "another key that ends so": of("Service", selector={"my.org/version": "1", "app-version": "1"}),
    "nothing": {"kind": "Service", "metadata": None, "spec": None},
    "a selector that is null": of("Service", selector=None, matchExpressions=None),
}


@pytest.mark.parametrize("thing", FREE.values(), ids=[*FREE])
def test_a_label_that_is_only_written_is_free(thing: dict[str, Any]) -> None:
    """It is on objects and pods, and nothing chooses by it."""
    assert free_labels([thing]) == set(INFORMING)


def changed(label: str, before: str | None, after: str | None, *more: dict[str, Any]) -> list[str]:
    """What an upgrade would change of a Service whose label gets another value."""
    sides = []
    for value in (before, after):
        things = copy.deepcopy([*objects("steady.yaml"), *more])
        service = next(thing for thing in things if thing["kind"] == "Service")
        if value is not None:
            service["metadata"].setdefault("labels", {})[label] = value
        sides.append(things)
    return [one.path for one in compare(sides[0], sides[1], sides[0], sides[1])]


def test_only_another_value_of_a_free_label_is_no_change() -> None:
    """A label that is new or gone, one that something chooses by, and any other label is a change."""
    for label in INFORMING:
        assert changed(label, "83", "84") == []
    assert changed(VERSION, None, "84") == [f"metadata.labels[{VERSION}]"]
    assert changed(VERSION, "83", None) == [f"metadata.labels[{VERSION}]"]
    assert changed("chart", "page-1", "page-2") == ["metadata.labels.chart"]
    assert changed("version", "83", "84", CHOOSING["a subset"][0]) == ["metadata.labels.version"]
