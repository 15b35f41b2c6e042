"""Azure: a token for an identity, the kubeconfig of a cluster of AKS, and the password of a container registry.

Nothing of Azure's is imported before it is called: the SDK takes a third of a second. The SDK's own retries are off: it waits
as long as a Retry-After says, and repeats no POST after 429 or 502; what is worth another try is decided here, under one
deadline for the whole of it.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from helm_canary.azure_faults import PASSING, AzureError, of_arm, of_entra
from helm_canary.clouds import Cloud
from helm_canary.identities import CERTIFICATE, Auth
from helm_canary.kubeconfig import Kubeconfig, KubeconfigError, parse

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.containerservice import ContainerServiceClient
    from requests import Response

CONNECT_S, READ_S = 10.0, 30.0
# Of one whole operation, tries and waits included.
LIMIT_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 16.0
# Old enough that clouds which lag behind have it; the SDK's own default is its newest.
API_VERSION = "2025-10-01"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Token:
    """An access token, and when it expires, in seconds since 1970."""

    value: str = field(repr=False)
    expires_on: int


@dataclass
class Identity:
    """Who asks: gets tokens for any scope, each kept by the SDK until it is about to expire. Thread-safe as the SDK is.

    mask       told of every secret, before anything else is done with it
    presented  what the last assertion said of itself: subject, issuer, audience
    _platform  whose OIDC endpoint is being asked just now
    """

    auth: Auth
    tenant: str
    client: str
    cloud: Cloud
    environment: Mapping[str, str] = field(repr=False)
    mask: Callable[[str], None] = field(repr=False)
    limit_s: float = LIMIT_S
    presented: dict[str, str] = field(default_factory=dict)
    _credential: TokenCredential | None = field(default=None, repr=False)
    _platform: str = ""

    def token(self, scope: str) -> Token:
        """Raises AzureError."""
        credential = self._made()
        found: AccessToken = persist(lambda: self._ask(credential, scope), self.limit_s, self._fault)
        self.mask(found.token)
        return Token(value=found.token, expires_on=int(found.expires_on))

    @staticmethod
    def _ask(credential: TokenCredential, scope: str) -> AccessToken:
        return credential.get_token(scope)

    def in_tenant(self, tenant: str, cloud: Cloud) -> Identity:
        """The same identity, asking in another tenant or cloud; itself where there is no difference."""
        if tenant.lower() in ("", self.tenant.lower()) and cloud == self.cloud:
            return self
        return Identity(auth=self.auth, tenant=tenant or self.tenant, client=self.client, cloud=cloud,
                        environment=self.environment, mask=self.mask, limit_s=self.limit_s)  # fmt: skip

    def forget(self) -> None:
        """Drop what is kept: the next token is a new one."""
        self._credential = None

    def facts(self, **more: object) -> dict[str, object]:
        """What the texts of errors may name."""
        known = {"auth": self.auth.name, "tenant": self.tenant, "client": self.client or "the identity",
                 "host": _host(self.cloud.authority), "limit": f"{self.limit_s:g}", **self.presented}  # fmt: skip
        return {**known, **more}

    def _made(self) -> TokenCredential:
        if self._credential is None:
            for name in self.auth.needs:
                if not self.environment.get(name):
                    raise AzureError("no-variable", self.facts(missing=name, hint=self.auth.hint))
            for name in self.auth.secrets:
                self.mask(self.environment.get(name, ""))
            for option, value in (("--tenant-id", self.tenant), ("--client-id", self.client)):
                if self.auth.needs_ids and not value:
                    raise AzureError(
                        "no-variable", self.facts(missing=option, hint="It says which application this is.")
                    )
            self._credential = self._make()
        return self._credential

    def _make(self) -> TokenCredential:
        from azure import identity

        ids = {"tenant_id": self.tenant, "client_id": self.client}
        limits: dict[str, Any] = {"connection_timeout": CONNECT_S, "read_timeout": READ_S, "retry_total": 0}
        # Discovery asks the public cloud which authorities there are; ours is from a table, or the user's word.
        entra = {**limits, "authority": self._authority(), "disable_instance_discovery": True}
        match self.auth.name:
            case "client-secret":
                return identity.ClientSecretCredential(
                    **ids, client_secret=self.environment["AZURE_CLIENT_SECRET"], **entra
                )
            case "client-certificate":
                return self._with_certificate(ids, entra)
            case "managed-identity":
                # What its endpoint answers while it is busy looks, in the end, like a machine without one: tried by the SDK.
                busy = {"retry_total": 4, "retry_connect": 1}
                return identity.ManagedIdentityCredential(client_id=self.client or None, **{**limits, **busy})
            case "azure-cli":
                return identity.AzureCliCredential(tenant_id=self.tenant, process_timeout=int(READ_S))
            case _:
                # Not AzurePipelinesCredential and WorkloadIdentityCredential: they keep the assertion from us, so it could
                # neither be masked nor its subject be named in an error. They do the same with it.
                return identity.ClientAssertionCredential(**ids, func=self._assertion, **entra)

    def _authority(self) -> str:
        named = self.environment.get("AZURE_AUTHORITY_HOST", "")
        return named if named and self.cloud.name != "custom" else self.cloud.authority

    def _with_certificate(self, ids: Mapping[str, str], entra: Mapping[str, Any]) -> TokenCredential:
        from azure import identity

        path, password = (self.environment.get(name) or None for name in CERTIFICATE)
        assert path is not None
        try:
            return identity.CertificateCredential(**ids, certificate_path=path, password=password, **entra)
        except OSError:
            raise AzureError("no-file", self.facts(variable=CERTIFICATE[0], path=path)) from None
        except (ValueError, TypeError):
            raise AzureError("certificate-unusable", self.facts()) from None

    # --- assertions

    def _assertion(self) -> str:
        """What the platform says of this job; fetched for each token anew, since it is short-lived."""
        match self.auth.name:
            case "github-oidc":
                assertion = self._from_github()
            case "azure-pipelines":
                assertion = self._from_azure_pipelines()
            case _:
                assertion = self._from_file()
        self.mask(assertion)
        self.presented = _claims(assertion)
        return assertion

    def _from_github(self) -> str:
        import requests

        url = self.environment["ACTIONS_ID_TOKEN_REQUEST_URL"]
        url += ("&" if "?" in url else "?") + "audience=" + quote(self.cloud.audience, safe="")
        headers = {"Authorization": f"Bearer {self.environment['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
        return self._oidc("GitHub", "value", lambda: requests.get(url, headers=headers, **_plainly()))

    def _from_azure_pipelines(self) -> str:
        import requests

        connection = self.environment["AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"]
        url = f"{self.environment['SYSTEM_OIDCREQUESTURI']}?api-version=7.1&serviceConnectionId={quote(connection, safe='')}"
        headers = {
            "Authorization": f"Bearer {self.environment['SYSTEM_ACCESSTOKEN']}",
            "Content-Type": "application/json",
            # Without it a refusal is a redirection to a page to log in at.
            "X-TFS-FedAuthRedirect": "Suppress",
        }
        return self._oidc("Azure Pipelines", "oidcToken", lambda: requests.post(url, headers=headers, **_plainly()))

    def _oidc(self, platform: str, key: str, call: Callable[[], Response]) -> str:
        import requests

        self._platform = platform
        try:
            answer = call()
        except requests.RequestException as error:
            facts = self.facts(platform=platform, why=_network_words(str(error)) or type(error).__name__)
            raise AzureError("oidc-away", facts, passes=_may_pass(error)) from None
        if answer.status_code in PASSING:
            facts = self.facts(platform=platform, why=answer.status_code)
            raise AzureError("oidc-away", facts, passes=True, retry_after=_retry_after(answer.headers))
        if answer.status_code != 200:
            raise AzureError(
                "oidc-refused", self.facts(platform=platform, status=answer.status_code, hint=self.auth.hint)
            )
        try:
            found = answer.json()[key]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, str) or not found:
            raise AzureError("oidc-away", self.facts(platform=platform, why=f"it has no {key}"), passes=True)
        self._platform = ""
        return found

    def _from_file(self) -> str:
        path = self.environment["AZURE_FEDERATED_TOKEN_FILE"]
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123 - one read of a file that others replace
                return file.read().strip()
        except (OSError, UnicodeDecodeError):
            raise AzureError("no-file", self.facts(variable="AZURE_FEDERATED_TOKEN_FILE", path=path)) from None

    # --- what Entra refused

    def _fault(self, error: Exception) -> AzureError:
        from azure.core import exceptions
        from azure.identity import CredentialUnavailableError

        if isinstance(error, AzureError):
            return error
        if isinstance(error, CredentialUnavailableError):
            return AzureError("identity-unavailable", self.facts(hint=self.auth.hint, said=_first_line(error)))
        if isinstance(error, exceptions.HttpResponseError):
            headers, status = _headers(error), error.status_code
            # What msal could not read comes without a response, and with the text of it: that is not shown.
            unread = (status is None and "AADSTS" not in str(error)) or status == 200
            if status in PASSING or unread:
                why = _network_words(str(error)) or "its answer cannot be read" if unread else status
                facts = self.facts(why=why)
                return AzureError("entra-away", facts, passes=True, retry_after=_retry_after(headers))
            skew = _skew(headers)
            code = of_entra(str(error), skew)
            if code == "entra-refused" and not self.auth.needs_ids:
                return AzureError("identity-unavailable", self.facts(hint=self.auth.hint, said=_first_line(error)))
            return AzureError(code, self.facts(said=_first_line(error), skew=f"{skew or 0:.0f}"))
        if isinstance(error, _LateError) and self._platform:
            return AzureError("oidc-away", self.facts(platform=self._platform, why="no answer in time"))
        if isinstance(error, json.JSONDecodeError):
            return AzureError("entra-away", self.facts(why="its answer cannot be read"), passes=True)
        return _no_answer(error, "entra-away", self.facts())


@dataclass(frozen=True, kw_only=True)
class Aks:
    """One cluster of AKS, as Azure Resource Manager knows it."""

    identity: Identity
    subscription: str
    group: str
    name: str
    admin: bool = False
    public_fqdn: bool = False

    def kubeconfig(self) -> Kubeconfig:
        """The cluster's kubeconfig. Raises AzureError."""
        token = self.identity.token(self.identity.cloud.scope)
        content: bytes = persist(lambda: self._fetch(token), self.identity.limit_s, self._fault)
        try:
            found = parse(content)
        except KubeconfigError as error:
            raise AzureError("kubeconfig-unusable", self.facts(why=str(error))) from None
        for secret in found.secrets:
            self.identity.mask(secret)
        return found

    def is_stopped(self) -> bool:
        """Whether somebody has stopped it; False where that cannot be read."""
        try:
            token = self.identity.token(self.identity.cloud.scope)
            state: str = persist(lambda: self._power(token), self.identity.limit_s, self._fault)
        except AzureError:
            return False
        return state.lower() == "stopped"

    def facts(self, **more: object) -> dict[str, object]:
        scope = (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/Microsoft.ContainerService"
            f"/managedClusters/{self.name}"
        )
        ours = {"cluster": self.name, "group": self.group, "subscription": self.subscription, "scope": scope}
        return {**self.identity.facts(), **ours, "host": _host(self.identity.cloud.management), **more}

    def _fetch(self, token: Token) -> bytes:
        with self._client(token) as client:
            fqdn = {"server_fqdn": "public"} if self.public_fqdn else {}
            clusters = client.managed_clusters
            if self.admin:
                answer = clusters.list_cluster_admin_credentials(self.group, self.name, **fqdn)
            else:
                answer = clusters.list_cluster_user_credentials(self.group, self.name, format="exec", **fqdn)
            found = answer.kubeconfigs or []
            content = found[0].value if found else None
        if not isinstance(content, (bytes, bytearray)) or not content:
            raise ValueError("no kubeconfig")
        return bytes(content)

    def _power(self, token: Token) -> str:
        with self._client(token) as client:
            state = client.managed_clusters.get(self.group, self.name).power_state
        return str(getattr(state.code, "value", state.code) or "") if state is not None else ""

    def _client(self, token: Token) -> ContainerServiceClient:
        from azure.mgmt.containerservice import ContainerServiceClient

        cloud = self.identity.cloud
        return ContainerServiceClient(
            _Held(token),
            self.subscription,
            base_url=cloud.management,
            credential_scopes=[cloud.scope],
            api_version=API_VERSION,
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            retry_total=0,
        )

    def _fault(self, error: Exception) -> AzureError:
        from azure.core import exceptions

        if isinstance(error, AzureError):
            return error
        if isinstance(error, (exceptions.DecodeError, binascii.Error, ValueError, TypeError)):
            return AzureError("arm-junk", self.facts(), passes=True)
        if not isinstance(error, exceptions.HttpResponseError) or error.response is None or error.status_code is None:
            return _no_answer(error, "arm-away", self.facts())
        status, headers = error.status_code, _headers(error)
        if status in PASSING:
            code = "arm-throttled" if status == 429 else "arm-away"
            wait = _retry_after(headers)
            facts = self.facts(status=status, why=status, wait="a while" if wait is None else f"{wait:g} s")
            return AzureError(code, facts, passes=True, retry_after=wait)
        arm_code = str(getattr(error.error, "code", "") or "")
        skew = _skew(headers)
        code = of_arm(status, arm_code, str(error), admin=self.admin, skew_s=skew)
        return AzureError(code, self.facts(status=status, said=_first_line(error), skew=f"{skew or 0:.0f}"))


@dataclass(frozen=True)
class _Held:
    """A credential that has its token already, so that what Entra refuses and what ARM refuses stay apart."""

    token: Token

    def get_token(self, *scopes: str, **more: Any) -> AccessToken:
        from azure.core.credentials import AccessToken

        return AccessToken(self.token.value, self.token.expires_on)


def registry_password(identity: Identity, host: str) -> str:
    """A container registry's refresh token for this identity, which is the password of a login. Raises AzureError."""
    import requests

    token = identity.token(identity.cloud.registry_scope)
    form = {"grant_type": "access_token", "service": host, "access_token": token.value}
    if identity.tenant:
        form["tenant"] = identity.tenant
    facts = identity.facts(host=host, name=host.partition(".")[0])

    def exchange() -> str:
        answer = requests.post(f"https://{host}/oauth2/exchange", data=form, **_plainly())
        if answer.status_code in PASSING:
            more = {**facts, "why": answer.status_code}
            raise AzureError("registry-away", more, passes=True, retry_after=_retry_after(answer.headers))
        if answer.status_code != 200:
            raise AzureError("registry-refused", {**facts, "status": answer.status_code})
        return str(answer.json()["refresh_token"])

    def fault(error: Exception) -> AzureError:
        if isinstance(error, AzureError):
            return error
        if isinstance(error, (KeyError, TypeError)) or type(error).__name__ == "JSONDecodeError":
            return AzureError("registry-away", {**facts, "why": "its answer has no refresh_token"})
        return _no_answer(error, "registry-away", facts)

    password = persist(exchange, identity.limit_s, fault)
    identity.mask(password)
    return password


# --- tries -------------------------------------------------------------------------------------------------------------


class _LateError(Exception):
    """A try had not ended when the deadline came."""


def persist(call: Callable[[], T], limit_s: float, fault: Callable[[Exception], AzureError]) -> T:
    """`call` until it succeeds, fails for good, or the limit is reached. Raises the last try's AzureError."""
    end, wait = time.monotonic() + limit_s, FIRST_WAIT_S
    while True:
        try:
            return _bounded(call, end - time.monotonic())
        except Exception as error:
            found = fault(error)
        pause = wait if found.retry_after is None else found.retry_after
        # A wait beyond the deadline is not begun: the answer to it would come too late.
        if not found.passes or time.monotonic() + pause >= end:
            raise found from None
        time.sleep(pause)
        wait = min(wait * 2, LONGEST_WAIT_S)


def _bounded(call: Callable[[], T], limit_s: float) -> T:
    """In a thread of its own: an answer that comes a byte at a time never runs into a time limit of the library's."""
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(call())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True, name="azure")
    thread.start()
    thread.join(max(limit_s, 0.0))
    if failed:
        raise failed[0]
    if not done:
        raise _LateError
    return done[0]


def _no_answer(error: Exception, code: str, facts: Mapping[str, object]) -> AzureError:
    """What the network did. Anything else is an error of this program, and stays what it is."""
    from azure.core import exceptions
    from requests import RequestException

    if not isinstance(error, (_LateError, exceptions.AzureError, RequestException, OSError)):
        raise error
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        return AzureError("tls-not-trusted", facts)
    why = "no answer in time" if isinstance(error, _LateError) else _network_words(text) or type(error).__name__
    return AzureError(code, {**facts, "why": why}, passes=not isinstance(error, _LateError))


NETWORK_WORDS = {
    "Name or service not known": "its name is not known",
    "NameResolutionError": "its name is not known",
    "Connection refused": "connection refused",
    "Connection reset": "connection reset",
    "Remote end closed": "the connection was closed",
    "timed out": "no answer in time",
    "ProxyError": "the proxy does not let it through",
    "Unable to connect to proxy": "the proxy does not let it through",
    "Tunnel connection failed": "the proxy does not let it through",
    "IncompleteRead": "half an answer",
    "more expected": "half an answer",
}


def _headers(error: HttpResponseError) -> Mapping[str, str]:
    found: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    return found


def _network_words(text: str) -> str:
    return next((words for sign, words in NETWORK_WORDS.items() if sign in text), "")


def _may_pass(error: Exception) -> bool:
    return "certificate" not in str(error).lower() and not isinstance(error, ValueError)


def _plainly() -> dict[str, Any]:
    """Of every request of ours that carries a secret: in time, to nobody else, and with no password of a .netrc in its place."""
    return {"timeout": (CONNECT_S, READ_S), "allow_redirects": False, "auth": lambda request: request}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None


def _skew(headers: Mapping[str, str]) -> float | None:
    """How far this machine's clock is ahead of the other side's."""
    try:
        return time.time() - parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _claims(assertion: str) -> dict[str, str]:
    """What an assertion says of itself; its signature, the secret of it, is left."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return {
            word: str(claims.get(key, "")) for word, key in (("subject", "sub"), ("issuer", "iss"), ("audience", "aud"))
        }
    except (IndexError, ValueError, AttributeError):
        return {}


def _first_line(error: Exception) -> str:
    """Azure's own words, which name ids and no secret, in one line."""
    text = str(getattr(error, "message", "") or error)
    return " ".join(text.split())[:600]


def _host(url: str) -> str:
    return urlsplit(url).netloc or url
