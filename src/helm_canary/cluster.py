"""One kubectl read -> what is live; and the server-side dry run that says what a rendered chart would change.

Nothing is decided here. Objects stay as the API server gave them (`Live`), `observe.py` makes the model of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from helm_canary.errors import RefusedError, ToolError
from helm_canary.process import Connection, Processes
from helm_canary.rights import Right, forbidden, is_granted

KINDS = (
    "deployments.apps",
    "replicasets.apps",
    "pods",
    "services",
    "virtualservices.networking.istio.io",
    "destinationrules.networking.istio.io",
    "gateways.networking.istio.io",
    "horizontalpodautoscalers.autoscaling",
)
# Those of them that a chart renders.
READ = ("Deployment", "Service", "VirtualService", "DestinationRule", "Gateway", "HorizontalPodAutoscaler")
WAYS_IN = ("ingresses.networking.k8s.io", "httproutes.gateway.networking.k8s.io")
MANAGER = "helm"
OWN_MANAGER = "helm-canary"
AUTHORIZATION = "authorization.k8s.io/v1"


@dataclass(frozen=True, kw_only=True)
class Live:
    """The objects of one namespace, as read in one call."""

    items: tuple[Mapping[str, Any], ...] = field(repr=False)

    def find(self, kind: str, name: str) -> Mapping[str, Any] | None:
        found = (item for item in self.items if item["kind"] == kind and item["metadata"]["name"] == name)
        return next(found, None)

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return [item for item in self.items if item["kind"] == kind]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """kubectl, for one connection."""

    processes: Processes
    connection: Connection
    learn: Callable[[Sequence[Mapping[str, Any]]], None] = lambda objects: None

    def read(self) -> Live:
        """Everything of the namespace that a release depends on, in one call."""
        command = self.connection.kubectl("get", ",".join(KINDS), "--output", "json", "--show-managed-fields")
        return Live(items=tuple(json.loads(self.processes.run(command).stdout).get("items", [])))

    def read_foreign_routes(self) -> list[Mapping[str, Any]] | None:
        """The VirtualServices of the other namespaces, any of which may route to our Service; None where they may not be read."""
        kind = "virtualservices.networking.istio.io"
        command = self.connection.kubectl("get", kind, "--all-namespaces", "--output", "json", namespace="")
        done = self.processes.run(command, check=False)
        if done.code != 0:
            return None
        items = json.loads(done.stdout)["items"]
        own = self.connection.namespace or "default"
        return [item for item in items if item["metadata"].get("namespace") != own]

    def read_ways_in(self) -> list[Mapping[str, Any]] | None:
        """The namespace's Ingresses and HTTPRoutes, where there is such a kind; None where one may not be listed."""
        found: list[Mapping[str, Any]] = []
        for kind in WAYS_IN:
            done = self.processes.run(self.connection.kubectl("get", kind, "--output", "json"), check=False)
            if forbidden(done.stderr):
                return None
            found += json.loads(done.stdout)["items"] if done.code == 0 else []
        return found

    def check_namespace(self) -> None:
        """Raises RefusedError when the namespace is certainly missing. A `get` of its objects is empty, not an error, then."""
        name = self.connection.namespace or "default"
        command = self.connection.kubectl("get", "namespace", name, "--output", "name")
        done = self.processes.run(command, check=False)
        if done.code != 0 and "NotFound" in done.stderr:
            raise RefusedError(
                f"There is no namespace {name!r}.",
                "It is misspelt, or the context points to another cluster.",
                f"Correct --namespace or --context; for a first installation create it with `kubectl create namespace {name}`.",
            )

    def read_rules(self) -> Sequence[Mapping[str, Any]]:
        """What the account may do in the namespace, as far as the API server lists it; empty where it does not."""
        namespace = self.connection.namespace or "default"
        review = {"apiVersion": AUTHORIZATION, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
        answers = self._review([review])
        return answers[0].get("resourceRules") or [] if answers else []

    def missing(self, wanted: Sequence[Right], rules: Sequence[Mapping[str, Any]]) -> list[Right]:
        """The rights that the account has not. What the rules do not show is asked for one by one: some authorizers,
        Azure's among them, list none. None is missing where the API server does not say.
        """
        own = self.connection.namespace or "default"
        unsure = [right for right in wanted if right.namespace != own or not is_granted(right, rules)]
        answers = self._review([_access_review(right) for right in unsure]) if unsure else []
        if len(answers) != len(unsure):
            return []
        return [right for right, answer in zip(unsure, answers, strict=True) if not answer.get("allowed")]

    def _review(self, reviews: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The API server's answers to what it may be asked by every account; nothing is created by it."""
        command = self.connection.kubectl("create", "--validate=false", "--filename", "-", "--output", "json")
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(reviews)})
        done = self.processes.run(command, stdin=stdin, check=False)
        return [answer.get("status") or {} for answer in _items_of(done.stdout)] if done.code == 0 else []

    def current_namespace(self) -> str:
        """The namespace that kubectl would use where none was given."""
        command = self.connection.kubectl("config", "view", "--minify", "--output", "jsonpath={..namespace}")
        return self.processes.run(command).stdout.strip() or "default"

    def dry_run(self, objects: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
        """(live, would be) of these objects, if Helm applied them now. Objects not there yet are missing from `live`."""
        apply = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", f"--field-manager={MANAGER}")
        read = ("get", "--ignore-not-found", "--show-managed-fields")
        with ThreadPoolExecutor(2) as pool:
            would, live = pool.submit(self._items, apply, objects), pool.submit(self._items, read, objects)
            return live.result(), would.result()

    def _items(self, arguments: Sequence[str], objects: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """One call for each namespace that objects name: kubectl takes none that is not of the namespace it is told."""
        found: list[Mapping[str, Any]] = []
        for namespace in dict.fromkeys(_namespace(thing) for thing in objects):
            these = [thing for thing in objects if _namespace(thing) == namespace]
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": these})
            command = self.connection.kubectl(
                *arguments, "--filename", "-", "--output", "json", namespace=namespace or None
            )
            found += _items_of(self.processes.run(command, stdin=text).stdout)
        self.learn(found)
        return found

    def scale(self, deployment: str, replicas: int) -> None:
        """Set the replicas of a Deployment whose chart leaves them out: Helm must never own that field."""
        command = self.connection.kubectl("scale", f"deployment/{deployment}", f"--replicas={replicas}")
        self.processes.run(command, shown=True)

    def delete(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Delete these objects where they are there; their dependents go afterwards."""
        for namespace in dict.fromkeys(_namespace(thing) for thing in objects):
            these = [
                {key: thing[key] for key in ("apiVersion", "kind", "metadata")}
                for thing in objects
                if _namespace(thing) == namespace
            ]
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": these})
            arguments = ("delete", "--ignore-not-found", "--wait=false", "--filename", "-")
            command = self.connection.kubectl(*arguments, namespace=namespace or None)
            self.processes.run(command, stdin=text, shown=True)

    def hold_replicas(self, deployment: str, replicas: int) -> None:
        """Own the replicas beside Helm, so that they stay when Helm's chart does not render them any more."""
        thing = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": deployment},
            "spec": {"replicas": replicas},
        }
        apply = ("apply", "--server-side", "--force-conflicts", f"--field-manager={OWN_MANAGER}", "--filename", "-")
        self.processes.run(self.connection.kubectl(*apply), stdin=json.dumps(thing))

    def jobs(self, names: Sequence[str]) -> Mapping[str, str] | None:
        """Job -> `active`, `complete` or `failed`, of those that are there; None where they may not be read."""
        command = self.connection.kubectl("get", "jobs.batch", "--output", "json")
        done = self.processes.run(command, check=False)
        if done.code != 0:
            return None
        items = json.loads(done.stdout)["items"]
        return {item["metadata"]["name"]: _state_of(item) for item in items if item["metadata"]["name"] in names}

    def hook_pods(self, job: str) -> Sequence[str]:
        """The pods of a hook, newest last: those of a Job, or the pod of that name."""
        command = self.connection.kubectl("get", "pods", "--output", "json")
        done = self.processes.run(command, check=False, once=True)
        items = json.loads(done.stdout)["items"] if done.code == 0 else []
        pods = [item["metadata"] for item in items]
        found = [pod for pod in pods if pod["name"] == job or (pod.get("labels") or {}).get("job-name") == job]
        return [pod["name"] for pod in sorted(found, key=lambda pod: str(pod.get("creationTimestamp")))]

    def events_of(self, names: Iterable[str]) -> list[Mapping[str, Any]] | None:
        """The newest events of these objects, oldest first; None where they may not be read."""
        wanted = set(names)
        done = self.processes.run(self.connection.kubectl("get", "events", "--output", "json"), check=False, once=True)
        if done.code != 0:
            return None
        events = [item for item in json.loads(done.stdout)["items"] if item["involvedObject"].get("name") in wanted]
        return sorted(events, key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""))

    def log_of(self, pod: str, container: str, *, previous: bool, lines: int = 10) -> list[str] | None:
        """The last lines of a container's log; empty where there are none, None where they may not be read."""
        extra = ["--previous"] if previous else []
        which = ["--container", container] if container else ["--all-containers"]
        command = self.connection.kubectl("logs", pod, *which, f"--tail={lines}", *extra)
        done = self.processes.run(command, check=False, timeout_s=20, once=True)
        if done.code != 0:
            return None if forbidden(done.stderr) else []
        return done.stdout.splitlines()


def _namespace(thing: Mapping[str, Any]) -> str:
    return str((thing.get("metadata") or {}).get("namespace") or "")


def _state_of(job: Mapping[str, Any]) -> str:
    conditions = (job.get("status") or {}).get("conditions") or []
    true = {condition.get("type") for condition in conditions if condition.get("status") == "True"}
    return "complete" if "Complete" in true else "failed" if "Failed" in true else "active"


def _access_review(right: Right) -> Mapping[str, Any]:
    resource, _, below = right.resource.partition("/")
    attributes = {"verb": right.verb, "group": right.group, "resource": resource, "namespace": right.namespace}
    if below:
        attributes["subresource"] = below
    if right.name:
        attributes["name"] = right.name
    return {"apiVersion": AUTHORIZATION, "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}


def _items_of(text: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for answer in _documents(text):
        found += answer["items"] if answer.get("kind") == "List" else [answer]
    return found


def _documents(text: str) -> list[dict[str, Any]]:
    """kubectl prints one JSON document an object when it applies several, and nothing at all for none."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            document, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise ToolError(
                "kubectl's answer is not JSON.", "It was cut off.", "Run the same command again."
            ) from error
        found.append(document)
    return found
