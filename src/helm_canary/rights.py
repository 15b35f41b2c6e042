"""The rights that a release needs, and the rule that gives a missing one. Pure.

What is written later is asked for before the first write: a right that is missing in the middle would leave a release half-way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The kinds that charts of services render, with the names that rules know them by. A kind that is not here is not asked for:
# a guessed name would be refused by mistake. The dry run before a write tells of it.
RESOURCES = {
    "ConfigMap": "configmaps",
    "CronJob": "cronjobs",
    "Deployment": "deployments",
    "DestinationRule": "destinationrules",
    "EnvoyFilter": "envoyfilters",
    "Gateway": "gateways",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "HTTPRoute": "httproutes",
    "Ingress": "ingresses",
    "Job": "jobs",
    "NetworkPolicy": "networkpolicies",
    "AuthorizationPolicy": "authorizationpolicies",
    "PeerAuthentication": "peerauthentications",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "ServiceEntry": "serviceentries",
    "Sidecar": "sidecars",
    "VirtualService": "virtualservices",
}
# Helm keeps ten revisions in Secrets and deletes the eleventh.
STORAGE = ("get", "list", "create", "update", "delete")
LEASE = ("get", "create", "update")
FORBIDDEN = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)


@dataclass(frozen=True, kw_only=True)
class Right:
    """One verb on one kind of object. `namespace` empty: in all of them; `name` empty: of whatever name."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str = ""

    @property
    def where(self) -> str:
        return f"in the namespace {self.namespace}" if self.namespace else "in all namespaces"

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''} {self.where}"


def needed(
    release: str, namespace: str, written: Iterable[Mapping[str, Any]], missing: Iterable[Mapping[str, Any]],
    gone: Iterable[Mapping[str, Any]],
) -> list[Right]:  # fmt: skip
    """What Helm and this program need to write: `written` are the chart's objects, `missing` those of them that are not there,
    `gone` those that are removed, by the release or by its rollback.
    """
    found = [Right(verb=verb, group="", resource="secrets", namespace=namespace) for verb in STORAGE]
    lease, group = f"helm-canary.{release}", "coordination.k8s.io"
    found += [Right(verb=v, group=group, resource="leases", namespace=namespace, name=lease) for v in LEASE]
    written = list(written)
    for verbs, things in ((("get", "patch"), written), (("create",), missing), (("delete",), gone)):
        found += [right for thing in things for right in _on(thing, verbs, namespace)]
    if any(thing.get("kind") == "Deployment" and "replicas" not in (thing.get("spec") or {}) for thing in written):
        found += [
            Right(verb=v, group="apps", resource="deployments/scale", namespace=namespace) for v in ("get", "patch")
        ]
    return list(dict.fromkeys(found))


def _on(thing: Mapping[str, Any], verbs: Sequence[str], namespace: str) -> list[Right]:
    resource = RESOURCES.get(str(thing.get("kind")))
    if resource is None:
        return []
    group = str(thing.get("apiVersion")).rpartition("/")[0]
    metadata = thing.get("metadata") or {}
    where = str(metadata.get("namespace") or namespace)
    name = str(metadata.get("name") or "")
    return [Right(verb=verb, group=group, resource=resource, namespace=where, name=name) for verb in verbs]


def is_granted(right: Right, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of these rules, as a SelfSubjectRulesReview gives them, holds a right."""
    return any(
        _has(rule.get("verbs"), right.verb)
        and _has(rule.get("apiGroups"), right.group)
        and _has(rule.get("resources"), right.resource)
        and (not rule.get("resourceNames") or (right.name in rule["resourceNames"] and right.verb != "create"))
        for rule in rules
    )


def _has(words: Sequence[str] | None, word: str) -> bool:
    return any(one in ("*", word) for one in words or ())


def forbidden(text: str) -> list[Right]:
    """The rights that the API server says are missing."""
    found = [
        Right(**{key: value or "" for key, value in match.groupdict().items()}) for match in FORBIDDEN.finditer(text)
    ]
    return list(dict.fromkeys(found))


def advice(missing: Sequence[Right]) -> str:
    """What to add, and where: one rule for each kind of object, ready to be copied."""
    verbs: dict[tuple[str, str, str], dict[str, None]] = {}
    for right in missing:
        verbs.setdefault((right.namespace, right.group, right.resource), {})[right.verb] = None
    parts = []
    for namespace in dict.fromkeys(right.namespace for right in missing):
        what = f"Role in the namespace {namespace}" if namespace else "ClusterRole"
        rules = [
            f'{{apiGroups: ["{group}"], resources: ["{resource}"], verbs: [{_quoted(names)}]}}'
            for (where, group, resource), names in verbs.items()
            if where == namespace
        ]
        parts.append(f"Add to the account's {what}: " + ", ".join(rules) + ".")
    return " ".join(parts)


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
