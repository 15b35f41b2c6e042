"""The kubeconfig that Azure returns for a cluster, and the ones that are made of it. Pure: text in, text out.

Three kinds come back. A cluster with Entra has an `exec` user that calls kubelogin, or (before Kubernetes 1.24) an
`auth-provider` that kubectl no longer takes; neither holds a secret. One without has a certificate, which is a cluster admin's.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from helm_canary.clouds import AKS_SERVER_ID

PRIVATE = ".privatelink."


class KubeconfigError(Exception):
    """What came back is no kubeconfig that can be used; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Kubeconfig:
    """One returned kubeconfig.

    server_id, tenant, environment  what its user says of Entra; empty `server_id`: the user has a certificate
    """

    body: Mapping[str, Any] = field(repr=False)
    server: str
    server_id: str = ""
    tenant: str = ""
    environment: str = ""

    @property
    def has_entra(self) -> bool:
        return bool(self.server_id)

    @property
    def host(self) -> str:
        return urlsplit(self.server).hostname or ""

    @property
    def is_private(self) -> bool:
        return PRIVATE in self.host

    @property
    def secrets(self) -> list[str]:
        return _secrets_of_users(self.body)

    def with_token_file(self, path: str) -> str:
        """The same cluster, with a user whose token is read from a file."""
        return self._with_user({"tokenFile": path})

    def with_exec(self, command: str, arguments: Sequence[str]) -> str:
        """The same cluster, with a user whose token is asked of a program."""
        call = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "args": list(arguments),
            "interactiveMode": "Never",
            "provideClusterInfo": True,
        }
        return self._with_user({"exec": call})

    def as_it_is(self) -> str:
        return self._with_user(dict(_current(self.body, "users", "user")))

    def _with_user(self, user: Mapping[str, Any]) -> str:
        """One cluster, one user, one context: what else the file may hold is not ours to pass on."""
        name = str(_context(self.body)["cluster"])
        context = {"cluster": name, "user": "helm-canary"}
        namespace = _context(self.body).get("namespace")
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": _current(self.body, "clusters", "cluster")}],
            "users": [{"name": "helm-canary", "user": dict(user)}],
            "contexts": [{"name": name, "context": {**context, **({"namespace": namespace} if namespace else {})}}],
        }
        return json.dumps(body, indent=1) + "\n"


def parse(content: bytes) -> Kubeconfig:
    """Raises KubeconfigError. No text of the content goes into its message."""
    import yaml

    try:
        body = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise KubeconfigError("it is no YAML") from None
    try:
        cluster, user = _current(body, "clusters", "cluster"), _current(body, "users", "user")
        server = str(cluster["server"])
    except (KeyError, TypeError, AttributeError, StopIteration):
        raise KubeconfigError("it has no current context with a cluster and a user") from None
    if not server.startswith("https://"):
        raise KubeconfigError("its server is no https address")
    if user.get("exec"):
        return Kubeconfig(
            body=body, server=server, **_of_arguments([str(word) for word in user["exec"].get("args") or []])
        )
    if user.get("auth-provider"):
        said = user["auth-provider"].get("config") or {}
        keys = {"server_id": "apiserver-id", "tenant": "tenant-id", "environment": "environment"}
        found = {name: str(said.get(key) or "") for name, key in keys.items()}
        return Kubeconfig(body=body, server=server, **{**found, "server_id": found["server_id"] or AKS_SERVER_ID})
    if not (user.get("client-certificate-data") and user.get("client-key-data")) and not user.get("token"):
        raise KubeconfigError("its user has neither a certificate, nor a token, nor a way to get one")
    return Kubeconfig(body=body, server=server)


SECRET_KEYS = ("token", "client-key-data", "password", "access-token", "id-token", "refresh-token")


def secrets_of(text: str) -> list[str]:
    """What of any kubeconfig must not be shown. Raises KubeconfigError for what is none."""
    import yaml

    try:
        body = yaml.safe_load(text)
        if not body["clusters"]:
            raise KeyError("clusters")
        return _secrets_of_users(body)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        # PyYAML says ValueError of what only looks like a date.
        raise KubeconfigError("it is no YAML with clusters and users") from None


def _secrets_of_users(body: Mapping[str, Any]) -> list[str]:
    """Tokens, passwords and keys of every user, keys as they stand and as they are decoded."""
    found = []
    for entry in body["users"]:
        user = entry.get("user") or {}
        provider = (user.get("auth-provider") or {}).get("config") or {}
        found += [str(values[key]) for values in (user, provider) for key in SECRET_KEYS if values.get(key)]
        # Of binascii, and of what is not ASCII.
        with contextlib.suppress(ValueError):
            found.append(base64.b64decode(str(user.get("client-key-data") or "")).decode(errors="replace"))
    return [text for text in found if text]


def _of_arguments(words: Sequence[str]) -> dict[str, str]:
    """What kubelogin's arguments say: `--server-id ID` or `--server-id=ID`."""
    found = {"--server-id": AKS_SERVER_ID, "--tenant-id": "", "--environment": ""}
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in found:
            found[name] = value if equals else (words[index + 1] if index + 1 < len(words) else "")
    return {"server_id": found["--server-id"] or AKS_SERVER_ID, "tenant": found["--tenant-id"],
            "environment": found["--environment"]}  # fmt: skip


def _context(body: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted = body["current-context"]
    context: Mapping[str, Any] = next(item for item in body["contexts"] if item["name"] == wanted)["context"]
    return context


def _current(body: Mapping[str, Any], kind: str, what: str) -> Mapping[str, Any]:
    name = _context(body)[what]
    found: Mapping[str, Any] = next(item for item in body[kind] if item["name"] == name)[what] or {}
    return found
