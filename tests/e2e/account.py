"""A service account that has the documented rights, whole or with some of them taken away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .service import ROOT, Service

RIGHTS = ROOT / "docs/rights"
API = "rbac.authorization.k8s.io"
SEEN_LIMIT_S = 10.0
Rule = dict[str, list[str]]


@dataclass(frozen=True)
class Right:
    """One verb of one rule of a page."""

    page: str
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def rule(self) -> str:
        """As a refusal says that it is to be added; other verbs may stand before and after it."""
        return f'apiGroups: ["{self.group}"], resources: ["{self.resource}"]'


def page(name: str) -> dict[str, Any]:
    """A page of docs/rights, as `kubectl apply` gets it."""
    loaded: dict[str, Any] = yaml.safe_load((RIGHTS / f"{name}.yaml").read_text())
    return loaded


def rights(*pages: str) -> Iterator[Right]:
    """Each single right that these pages give."""
    for name in pages:
        for rule in page(name)["rules"]:
            for verb in rule["verbs"]:
                yield Right(name, rule["apiGroups"][0], rule["resources"][0], verb)


def _without(rules: Sequence[Rule], taken: Sequence[Right]) -> list[Rule]:
    gone = {(right.group, right.resource, right.verb) for right in taken}
    kept = []
    for rule in rules:
        ((group,), (resource,)) = rule["apiGroups"], rule["resources"]
        verbs = [verb for verb in rule["verbs"] if (group, resource, verb) not in gone]
        if verbs:
            kept.append({**rule, "verbs": verbs})
    return kept


@dataclass
class Account:
    """An account of one service; `pages`: which page is bound in which namespace (empty: in the whole cluster)."""

    service: Service
    pages: Mapping[str, str]
    name: str = "pipeline"
    _taken: tuple[Right, ...] = ()

    def make(self) -> Account:
        self.service.kubectl("create", "serviceaccount", self.name)
        token = self.service.kubectl("create", "token", self.name, "--duration=2h").strip()
        config = json.loads(self.service.cluster.kubeconfig.read_text())
        config["users"] = [{"name": "admin", "user": {"token": token}}]
        self._path.write_text(json.dumps(config))
        self.bind()
        return self

    def bind(self) -> None:
        """Give the account its rights; returns when the API server knows of them."""
        items = [item for name, namespace in self.pages.items() for item in self._bound(name, namespace)]
        self._apply(items)
        for name in self.pages:
            self._wait_until_seen([*rights(name)][-1], granted=True)

    @property
    def _path(self) -> Path:
        return self.service.folder / f"{self.service.namespace}-{self.name}.json"

    @property
    def runs(self) -> Service:
        """The service, whose commands are this account's."""
        return self.service.having(options=("--kubeconfig", str(self._path)))

    @contextmanager
    def without(self, *taken: Right) -> Iterator[Service]:
        """The same while these rights are taken away."""
        self._grant(taken)
        try:
            yield self.runs
        finally:
            self._grant(())

    def _grant(self, taken: tuple[Right, ...]) -> None:
        changed = {*taken, *self._taken}
        self._taken = taken
        self._apply([self._role(name) for name in {right.page for right in changed}])
        for right in changed:
            self._wait_until_seen(right, granted=right not in taken)

    def _apply(self, items: Sequence[Mapping[str, Any]]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
        self.service.cluster.kubectl("apply", "-f", "-", stdin=text)

    def _role(self, name: str) -> dict[str, Any]:
        """The page as it is, under a name of its own: the cluster is shared, and a gateway's namespace too."""
        namespace, documented = self.pages[name], page(name)
        metadata = {"name": self._bound_name(name)} | ({"namespace": namespace} if namespace else {})
        return {
            **documented,
            "metadata": metadata,
            "rules": _without(documented["rules"], [right for right in self._taken if right.page == name]),
        }

    def _bound_name(self, name: str) -> str:
        return f"{self.service.namespace}-{self.name}-{name}"

    def _bound(self, name: str, namespace: str) -> list[dict[str, Any]]:
        role = self._role(name)
        subject = {"kind": "ServiceAccount", "name": self.name, "namespace": self.service.namespace}
        reference = {"apiGroup": API, "kind": role["kind"], "name": role["metadata"]["name"]}
        binding = {"apiVersion": f"{API}/v1", "kind": f"{role['kind']}Binding", "metadata": role["metadata"]}
        return [role, {**binding, "subjects": [subject], "roleRef": reference}]

    def _wait_until_seen(self, right: Right, *, granted: bool) -> None:
        """The API server learns of a changed Role by a watch of its own."""
        resource, _, sub = right.resource.partition("/")
        namespace = self.pages[right.page]
        attributes = {"verb": right.verb, "group": right.group, "resource": resource, "subresource": sub}
        user = f"system:serviceaccount:{self.service.namespace}:{self.name}"
        # Not `kubectl auth can-i`, which asks for something else where the cluster does not have the kind.
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {**attributes, "namespace": namespace or ""}},
        }
        asked = ("create", "-f", "-", "--output", "jsonpath={.status.allowed}")
        deadline = time.monotonic() + SEEN_LIMIT_S
        while (self.service.cluster.kubectl(*asked, stdin=json.dumps(review)).strip() == "true") is not granted:
            assert time.monotonic() < deadline, f"{right} was not {'granted' if granted else 'taken away'} in time"
            time.sleep(0.05)

    def delete(self) -> None:
        """What lies outside of the service's own namespace."""
        for name, namespace in self.pages.items():
            if namespace != self.service.namespace:
                kind, bound = page(name)["kind"], self._bound_name(name)
                where = ("--namespace", namespace) if namespace else ()
                things = (f"{kind}Binding/{bound}", f"{kind}/{bound}")
                self.service.cluster.kubectl(*where, "delete", *things, "--ignore-not-found")
