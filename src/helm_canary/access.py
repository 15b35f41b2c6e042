"""The way to the cluster: none of ours where a kubeconfig is given; with --cluster-name, credentials from Azure for as long
as the command runs. Wiring: adapters are put together here, and nothing is decided about a release.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from helm_canary.azure import LIMIT_S, Aks, Identity, Token, registry_password
from helm_canary.azure_faults import AzureError, of_kubernetes
from helm_canary.clouds import find_cloud
from helm_canary.errors import RefusedError, ToolError, UsageError
from helm_canary.identities import LOOKED_FOR, Auth, choose, find_auth
from helm_canary.keys import Keys, folder_of, keys_in, write_secret
from helm_canary.kubeconfig import Kubeconfig, KubeconfigError, secrets_of
from helm_canary.options import KUBECONFIG_VARIABLE, REGISTRY_VARIABLES, Options
from helm_canary.process import Processes

# A token is looked at this often, and renewed by the SDK when it has five minutes left.
LOOK_S = 30.0
# After the API server has refused a token: a new one at most this often.
FORCED_S = 30.0
ACR_USER = "00000000-0000-0000-0000-000000000000"
WRITTEN_BY = "# Written by `helm-canary credentials`; holds no secret unless --admin was given.\n"


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What fetching credentials needs of the edge.

    mask  told of every secret before anything can print it
    note  a line for the person who reads the log
    """

    environment: Mapping[str, str] = field(repr=False)
    processes: Processes
    mask: Callable[[str], None]
    note: Callable[[str], None]


@contextlib.contextmanager
def access(options: Options, outside: Outside) -> Iterator[Options]:
    """The options with a kubeconfig in place of the cluster's name; everything that was made goes at the end."""
    given = outside.environment.get(KUBECONFIG_VARIABLE, "")
    if given.strip():
        with keys_in(folder_of(outside.environment)) as keys:
            path = keys.write("kubeconfig", _given_kubeconfig(given, options, outside.mask))
            with access(replace(options, kubeconfig=str(path)), _without_kubeconfig(outside)) as reached:
                yield reached
        return
    if not options.cluster_name and not _host_of(options.chart):
        yield options
        return
    _listen_to_azure(outside)
    with keys_in(folder_of(outside.environment)) as keys, contextlib.ExitStack() as stack:
        identity = _identity(options, outside, needed=bool(options.cluster_name))
        _log_in(options, outside, identity, keys)
        if not options.cluster_name:
            yield options
            return
        assert identity is not None
        cluster = _Cluster(aks=aks_of(options, identity), keys=keys)
        path = cluster.fetch(outside.note)
        stack.callback(cluster.stop)
        outside.processes.renew, outside.processes.explain = cluster.renew, cluster.explained
        try:
            yield replace(options, kubeconfig=str(path))
        except ToolError as error:
            raise cluster.explained(error) from error


def _without_kubeconfig(outside: Outside) -> Outside:
    environment = {name: value for name, value in outside.environment.items() if name != KUBECONFIG_VARIABLE}
    return replace(outside, environment=environment)


def _given_kubeconfig(given: str, options: Options, mask: Callable[[str], None]) -> str:
    """The kubeconfig that a CI keeps as a secret, as it is or as base64. Raises UsageError."""
    if options.cluster_name or options.kubeconfig:
        raise UsageError(
            f"{KUBECONFIG_VARIABLE} was given together with --cluster-name or --kubeconfig.",
            "Each of them says which cluster is meant.",
            "Leave out one of them.",
        )
    text = given
    with contextlib.suppress(ValueError):
        text = base64.b64decode("".join(given.split()), validate=True).decode()
        mask(given.strip())
    try:
        for secret in secrets_of(text):
            mask(secret)
    except KubeconfigError as error:
        raise UsageError(
            f"{KUBECONFIG_VARIABLE} does not hold a kubeconfig: {error}.",
            "It is the file's content, as it is or as base64.",
            "Store the content of a kubeconfig as the CI's secret.",
        ) from None
    return text


def _listen_to_azure(outside: Outside) -> None:
    """The SDK warns on standard error unless somebody listens; with the CI's debug switch on, its lines are shown."""
    debug = (
        outside.environment.get("RUNNER_DEBUG") == "1" or outside.environment.get("SYSTEM_DEBUG", "").lower() == "true"
    )
    for name in ("azure", "msal", "urllib3"):
        logger = logging.getLogger(name)
        logger.handlers = [_Lines(outside.note) if debug else logging.NullHandler()]
        logger.propagate = False
        logger.setLevel(logging.DEBUG if debug else logging.CRITICAL)


class _Lines(logging.Handler):
    """Records as notes, which are masked like everything else that is said."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"{record.name}: {record.getMessage()}")


# --- who ---------------------------------------------------------------------------------------------------------------


def _identity(options: Options, outside: Outside, *, needed: bool) -> Identity | None:
    """None where `auto` finds nothing and nothing needs it: the user may have logged in to the registry before."""
    auth = _auth(options, outside) if options.auth == "auto" else find_auth(options.auth)
    if auth is None and not needed:
        return None
    if auth is None:
        looked_for = "; ".join(f"{auth.name}: {', '.join(auth.needs)}" for auth in LOOKED_FOR)
        raise AzureError("no-identity", {"looked_for": looked_for})
    return Identity(
        auth=auth,
        tenant=options.tenant_id,
        client=options.client_id,
        cloud=options.cloud,
        environment=outside.environment,
        mask=outside.mask,
        limit_s=min(options.timeout_s, LIMIT_S),
    )


def _auth(options: Options, outside: Outside) -> Auth | None:
    auth = choose(outside.environment)
    if auth is not None:
        outside.note(f"--auth auto: {auth.name}, since {' and '.join(auth.needs)} {_are(len(auth.needs))} set")
    return auth


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def aks_of(options: Options, identity: Identity) -> Aks:
    return Aks(
        identity=identity,
        subscription=options.subscription,
        group=options.resource_group,
        name=options.cluster_name,
        admin=options.admin,
        public_fqdn=options.public_fqdn,
    )


# --- the cluster's credentials -----------------------------------------------------------------------------------------


@dataclass
class _Cluster:
    """One cluster's kubeconfig, and the file with the token that it names, kept fresh."""

    aks: Aks
    keys: Keys
    _found: Kubeconfig | None = None
    _asking: Identity | None = None
    _token: Token | None = None
    _trouble: str = ""
    _written_at: float = 0.0
    _forced_at: float = -FORCED_S
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _forcing: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)

    def fetch(self, note: Callable[[str], None]) -> Path:
        """Write the kubeconfig, and begin to keep its token fresh. Raises AzureError."""
        self._found = found = self.aks.kubeconfig()
        if not found.has_entra:
            if not self.aks.admin:
                note(f"the cluster {self.aks.name} has local accounts: these credentials are a cluster admin's")
            return self.keys.write("kubeconfig", found.as_it_is())
        self._asking = asking_for(self.aks.identity, found)
        self._renew(self._asking)
        threading.Thread(target=self._keep_fresh, daemon=True, name="token").start()
        return self.keys.write("kubeconfig", found.with_token_file(str(self.keys.path / "token")))

    def stop(self) -> None:
        self._end.set()
        # A renewal under way must not write into a folder that goes.
        with self._lock:
            self._asking = None

    def renew(self, began: float) -> bool:
        """The API server refused the token that a command read after it `began`. Whether there is a newer one now.

        Reads go side by side, so several are refused at once: the first gets a new token, the others find it.
        """
        with self._forcing:
            if self._written_at > began:
                return True
            identity = self._asking
            if identity is None or time.monotonic() - self._forced_at < FORCED_S:
                return False
            self._forced_at = time.monotonic()
            identity.forget()
            self._trouble = self._try_to_renew(identity) or self._trouble
            return self._written_at > began

    def _try_to_renew(self, identity: Identity) -> str:
        """Why there is no new token; empty where there is. The old one may hold a while: an error comes from the API server."""
        try:
            self._renew(identity)
        except AzureError as error:
            return error.happened
        except OSError as error:
            return f"the token could not be written: {error.strerror}."
        return ""

    def _renew(self, identity: Identity) -> None:
        assert self._found is not None
        token = identity.token(f"{self._found.server_id}/.default")
        with self._lock:
            if self._asking is not None and token != self._token:
                self.keys.write("token", token.value)
                self._token, self._written_at = token, time.monotonic()

    def _keep_fresh(self) -> None:
        while not self._end.wait(self._pause()):
            identity = self._asking
            self._trouble = self._try_to_renew(identity) if identity is not None else ""

    def _pause(self) -> float:
        left = self._token.expires_on - time.time() if self._token is not None else 0.0
        return min(LOOK_S, max(left / 2, 1.0))

    def explained(self, error: ToolError) -> ToolError | AzureError:
        """The failure of kubectl or helm, where these credentials or the cluster's state are behind it."""
        found = self._found
        if found is None:
            return error
        unreachable = of_kubernetes(error.stderr, private=False, stopped=True) == "cluster-stopped"
        stopped = unreachable and self.aks.is_stopped()
        code = of_kubernetes(error.stderr, private=found.is_private, stopped=stopped)
        if code == "token-refused" and self._trouble:
            code = "token-not-renewed"
        if not code or (code == "no-kubernetes-role" and not found.has_entra):
            return error
        said = error.stderr.strip().splitlines()
        return AzureError(code, self.aks.facts(host=found.host, why=self._trouble, said=said[-1] if said else ""))


def asking_for(identity: Identity, found: Kubeconfig) -> Identity:
    """Who asks for this cluster's tokens: in the kubeconfig's tenant and cloud, unless the user named endpoints."""
    cloud = identity.cloud if identity.cloud.name == "custom" else find_cloud(found.environment) or identity.cloud
    return identity.in_tenant(found.tenant, cloud)


# --- registries --------------------------------------------------------------------------------------------------------


def _host_of(chart: str) -> str:
    """The host of a chart in a registry; empty for any other."""
    return chart.removeprefix("oci://").partition("/")[0] if chart.startswith("oci://") else ""


def _log_in(options: Options, outside: Outside, identity: Identity | None, keys: Keys) -> None:
    """Log helm in to the chart's registry, in a file of this run's own. Without credentials for it, helm uses the user's."""
    host = _host_of(options.chart)
    user, password = (outside.environment.get(name, "") for name in REGISTRY_VARIABLES)
    if not host or (not password and (identity is None or not options.cloud.has_registry(host))):
        return
    if password:
        outside.mask(password)
    else:
        assert identity is not None
        user, password = ACR_USER, registry_password(identity, host)
    config = str(keys.path / "registry.json")
    words = ["helm", "registry", "login", host, "--username", user, "--password-stdin", "--registry-config", config]
    keys.write("registry.json", "{}")
    done = outside.processes.run(words, stdin=password, timeout_s=60, check=False)
    if done.code != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RefusedError(
            f"helm could not log in to the registry {host}.",
            "The user or the password is wrong, or the registry does not answer. Helm says:",
            f"Correct --chart, or {' and '.join(REGISTRY_VARIABLES)}; then run the same command again.",
            tuple(lines[-5:]),
        )
    outside.processes.environment = {**outside.processes.environment, "HELM_REGISTRY_CONFIG": config}


# --- the commands about credentials alone ------------------------------------------------------------------------------


def exec_credential(options: Options, outside: Outside) -> str:
    """A token as client-go takes it from a program. Raises AzureError."""
    _listen_to_azure(outside)
    identity = _identity(options, outside, needed=True)
    assert identity is not None
    token = identity.token(f"{options.server_id}/.default")
    expires = datetime.fromtimestamp(token.expires_on, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(
        {
            "apiVersion": _api_version(outside.environment.get("KUBERNETES_EXEC_INFO", "")),
            "kind": "ExecCredential",
            "status": {"expirationTimestamp": expires, "token": token.value},
        }
    )


def _api_version(info: str) -> str:
    """The version that the caller speaks: it refuses any other."""
    try:
        asked = str(json.loads(info)["apiVersion"])
    except (ValueError, KeyError, TypeError):
        asked = ""
    return asked if asked.startswith("client.authentication.k8s.io/") else "client.authentication.k8s.io/v1beta1"


def write_kubeconfig(options: Options, outside: Outside) -> Path:
    """Write a kubeconfig that asks this program for its tokens. Raises AzureError, RefusedError, UsageError."""
    path = Path(options.write).expanduser().absolute()
    if path.exists() and not _is_ours(path):
        raise UsageError(
            f"{path} already exists.",
            "It was not written by `helm-canary credentials`, and what else it holds would be lost.",
            "Give --write a path that does not exist yet.",
        )
    _listen_to_azure(outside)
    identity = _identity(options, outside, needed=True)
    assert identity is not None
    aks = aks_of(options, identity)
    found = aks.kubeconfig()
    if not found.has_entra and not options.admin:
        raise RefusedError(
            f"The cluster {aks.name} has local accounts, so its only credentials are a cluster admin's.",
            "A file with them gives every right to each of its readers, and does not expire.",
            "Enable Entra for the cluster; or give --admin to accept that.",
        )
    asking = asking_for(identity, found)
    text = (
        found.with_exec(sys.executable, _token_words(options, asking, found)) if found.has_entra else found.as_it_is()
    )
    try:
        write_secret(path, WRITTEN_BY + text)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.",
            "The folder does not exist, or this account is not allowed to write to it.",
            "Give --write a path in a folder that exists and can be written to.",
        ) from None
    return path


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline() == WRITTEN_BY
    except OSError:
        return False


def _token_words(options: Options, asking: Identity, found: Kubeconfig) -> list[str]:
    """`helm-canary token` as this one was asked. An `auto` is settled now: elsewhere it would find something else."""
    cloud = asking.cloud
    name = cloud.name if cloud.name != "custom" else f"authority={cloud.authority},management={cloud.management}"
    words = ["-m", "helm_canary", "token", "--auth", asking.auth.name, "--server-id", found.server_id, "--cloud", name]
    for option, value in (("--tenant-id", asking.tenant), ("--client-id", asking.client)):
        words += [option, value] if value else []
    return words
