"""What the agent gives a task -> what the program reads: inputs and service connections -> its variables. Pure.

The agent writes inputs as INPUT_NAME, a connection's parts as ENDPOINT_AUTH_SCHEME_id, ENDPOINT_AUTH_PARAMETER_id_KEY,
ENDPOINT_DATA_id_KEY and ENDPOINT_URL_id. An input comes first, then the connection, then a variable of the pipeline.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from helm_canary.ci.azure_pipelines import camel
from helm_canary.clouds import find_cloud
from helm_canary.errors import UsageError
from helm_canary.options import (
    COMMAND_VARIABLE,
    KUBECONFIG_VARIABLE,
    OTHER_VARIABLES,
    PREFIX,
    TABLE,
)

# The agent's own, secrets above all: neither the program nor pip has any use for them.
WITHHELD = ("INPUT_", "ENDPOINT_", "SECRET_", "SECUREFILE_", "VSTS_TASKVARIABLE_")
# Of another platform: a variable of the pipeline that is called so would have that one asked who approved.
ELSEWHERE = ("GITHUB_", "ACTIONS_", "RUNNER_")
# With a connection to Azure: only what it says. A variable could send its secret elsewhere, or spoil its certificate.
CONNECTIONS_OWN = ("AZURE_AUTHORITY_HOST", "AZURE_CLIENT_CERTIFICATE_PASSWORD")
# What says which run, stage and server this is. A variable of the pipeline whose name differs in dots alone would count as well.
AGENTS_OWN = (
    "SYSTEM_TEAMPROJECT", "SYSTEM_TEAMPROJECTID", "SYSTEM_STAGENAME", "SYSTEM_STAGEATTEMPT", "SYSTEM_OIDCREQUESTURI",
    "SYSTEM_HOSTTYPE", "BUILD_BUILDID", "BUILD_REQUESTEDFOREMAIL", "ENVIRONMENT_NAME", "AGENT_TEMPDIRECTORY",
)  # fmt: skip
VARIABLES = ("VSTS_PUBLIC_VARIABLES", "VSTS_SECRET_VARIABLES")
COLLECTION = "SYSTEM_COLLECTIONURI"
APPROVAL = "HELM_CANARY_REQUIRE_APPROVAL"
# With any of these the program asks Azure DevOps about the run.
ASKING = (APPROVAL, "HELM_CANARY_REQUIRE_REJECTION", "HELM_CANARY_STARTED_BY")
SYSTEM = "SYSTEMVSSCONNECTION"
# Authorities that connections still name, and what the same cloud's is called today.
FORMER_AUTHORITIES = {
    "https://login.windows.net": "https://login.microsoftonline.com",
    "https://login.chinacloudapi.cn": "https://login.partner.microsoftonline.cn",
}


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What the program is started with.

    environment  its whole environment
    secrets      what came by a connection and must not be seen
    certificate  PEM text for a file, whose path the program takes from AZURE_CLIENT_CERTIFICATE_PATH
    """

    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    certificate: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A service connection as the agent writes it. `values` has upper-case names."""

    id: str
    values: Mapping[str, str] = field(repr=False)

    def _value(self, kind: str, key: str = "") -> str:
        name = f"ENDPOINT_{kind}_{self.id}" + (f"_{key}" if key else "")
        return self.values.get(name.upper(), "")

    @property
    def url(self) -> str:
        return self._value("URL").strip()

    @property
    def scheme(self) -> str:
        return self._value("AUTH_SCHEME").lower()

    def parameter(self, key: str) -> str:
        return self._value("AUTH_PARAMETER", key)

    def data(self, key: str) -> str:
        return self._value("DATA", key).strip()


def inputs() -> dict[str, str]:
    """Input -> the program's variable."""
    found = {camel(option.name): option.variable for option in TABLE}
    for variable in OTHER_VARIABLES:
        found[camel(variable.removeprefix(PREFIX).lower().replace("_", "-"))] = variable
    return found


def variables(given: Mapping[str, str]) -> Handed:
    """The agent's environment -> the program's. Raises UsageError."""
    passed = {name: value for name, value in given.items() if not name.upper().startswith(WITHHELD + ELSEWHERE)}
    upper = {name.upper(): value for name, value in given.items()}
    _check_twins(upper)
    asked = _inputs(upper)
    passed |= asked
    system = Endpoint(id=SYSTEM, values=upper)
    if system.url:
        # Not the variable, beside which another could stand.
        passed[COLLECTION] = system.url
    if upper.get("INPUT_AZURESUBSCRIPTION", "").strip():
        passed = {name: value for name, value in passed.items() if name.upper() not in CONNECTIONS_OWN}
    _approval(asked.get(APPROVAL, ""), passed)
    found = _connections(upper, asked)
    token = system.parameter("ACCESSTOKEN")
    secrets = list(found.secrets)
    environment = passed | {name: value for name, value in found.environment.items() if name not in asked}
    if token and _needs_token(environment):
        environment["SYSTEM_ACCESSTOKEN"] = token
        secrets.append(token)
    return Handed(environment=environment, secrets=tuple(secrets), certificate=found.certificate)


def _check_twins(upper: Mapping[str, str]) -> None:
    """The agent writes `a.b` and `A_B` under one name, and one of the two is lost. It lists the names themselves besides."""
    seen: dict[str, str] = {}
    for name in (name for variable in VARIABLES for name in _listed(upper.get(variable, ""))):
        written = name.replace(".", "_").replace(" ", "_").upper()
        if written in AGENTS_OWN and seen.setdefault(written, name.lower()) != name.lower():
            raise UsageError(
                f"The pipeline has a variable called {name[:60]}, and the agent has one that is written the same.",
                "The task cannot tell which run or server it is for.",
                "Rename the variable of the pipeline.",
            )


def _listed(text: str) -> list[str]:
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def _inputs(upper: Mapping[str, str]) -> dict[str, str]:
    """What was given; an empty input is none, and leaves what a variable says."""
    values = ((variable, upper.get(f"INPUT_{name.upper()}", "")) for name, variable in inputs().items())
    return {variable: value for variable, value in values if value}


def _approval(asked: str, passed: dict[str, str]) -> None:
    """The gate, which no variable of the pipeline can change: an input that is empty asks for one as well."""
    passed.pop(APPROVAL, None)
    if passed.get(COMMAND_VARIABLE) != "stage" or asked.lower() == "false":
        return
    gate = asked
    if asked.lower() in ("", "true"):
        gate = passed.get("ENVIRONMENT_NAME") or passed.get("SYSTEM_STAGENAME", "")
    # To the program `false` is no gate at all, and this name is no answer to whether one is wanted.
    if not gate or gate.strip().casefold() == "false":
        raise UsageError(
            "The gate of this stage is not known.",
            "requireApproval is true, and there is neither the environment of a deployment job nor the name of a stage.",
            "Run the task in a deployment job with an environment; or give requireApproval the gate's name, or false.",
        )
    passed[APPROVAL] = gate


def _needs_token(environment: Mapping[str, str]) -> bool:
    federated = environment.get("HELM_CANARY_AUTH") == "azure-pipelines"
    return federated or any(environment.get(name) for name in ASKING)


# --- connections ---------------------------------------------------------------------------------------------------------


def _connections(upper: Mapping[str, str], asked: Mapping[str, str]) -> Handed:
    azure, kubernetes = (
        upper.get(f"INPUT_{name}", "").strip() for name in ("AZURESUBSCRIPTION", "KUBERNETESSERVICECONNECTION")
    )
    found = Handed(environment={})
    if azure:
        found = _azure(Endpoint(id=azure, values=upper), asked)
    if kubernetes:
        if KUBECONFIG_VARIABLE in asked:
            raise UsageError(
                "kubernetesServiceConnection was given together with kubeconfigData.",
                "Each of them says which cluster is meant.",
                "Leave out one of them.",
            )
        cluster = _kubernetes(Endpoint(id=kubernetes, values=upper))
        found = Handed(
            environment={**found.environment, **cluster.environment},
            secrets=(*found.secrets, *cluster.secrets),
            certificate=found.certificate,
        )
    return found


def _azure(endpoint: Endpoint, asked: Mapping[str, str]) -> Handed:
    known = {
        "workloadidentityfederation": _federated,
        "serviceprincipal": _principal,
        "managedserviceidentity": _managed,
        # Connections of long ago name no scheme.
        "": _principal,
    }
    way = known.get(endpoint.scheme)
    if way is None or not (endpoint.scheme or endpoint.parameter("SERVICEPRINCIPALID")):
        raise UsageError(
            f"The service connection of azureSubscription has the scheme {endpoint.scheme[:60] or '(none)'}.",
            "The task knows workload identity federation, service principals and managed identities of Azure Resource Manager.",
            "Give azureSubscription a connection of one of these kinds.",
        )
    handed = way(endpoint)
    common = {
        "HELM_CANARY_TENANT_ID": endpoint.parameter("TENANTID"),
        "HELM_CANARY_SUBSCRIPTION": endpoint.data("SUBSCRIPTIONID"),
        "HELM_CANARY_CLOUD": "" if "HELM_CANARY_CLOUD" in asked else _cloud(endpoint),
    }
    given = {name: value for name, value in common.items() if value}
    return Handed(environment={**handed.environment, **given}, secrets=handed.secrets, certificate=handed.certificate)


def _federated(endpoint: Endpoint) -> Handed:
    return Handed(
        environment={
            "HELM_CANARY_AUTH": "azure-pipelines",
            "HELM_CANARY_CLIENT_ID": _needed(endpoint, "SERVICEPRINCIPALID"),
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": endpoint.id,
        }
    )


def _principal(endpoint: Endpoint) -> Handed:
    environment = {"HELM_CANARY_CLIENT_ID": _needed(endpoint, "SERVICEPRINCIPALID")}
    if endpoint.parameter("AUTHENTICATIONTYPE").lower() == "spncertificate":
        certificate = _needed(endpoint, "SERVICEPRINCIPALCERTIFICATE")
        environment["HELM_CANARY_AUTH"] = "client-certificate"
        return Handed(environment=environment, secrets=(certificate,), certificate=certificate)
    secret = _needed(endpoint, "SERVICEPRINCIPALKEY")
    environment |= {"HELM_CANARY_AUTH": "client-secret", "AZURE_CLIENT_SECRET": secret}
    return Handed(environment=environment, secrets=(secret,))


def _managed(endpoint: Endpoint) -> Handed:
    environment = {"HELM_CANARY_AUTH": "managed-identity"}
    client = endpoint.data("MSICLIENTID")
    return Handed(environment=environment | ({"HELM_CANARY_CLIENT_ID": client} if client else {}))


def _needed(endpoint: Endpoint, key: str) -> str:
    value = endpoint.parameter(key)
    if not value:
        raise UsageError(
            f"The service connection has no {key.lower()}.",
            "It is of another kind than this task can use, it was not saved whole, or this pipeline may not use it.",
            "Open the connection in the project's settings, verify and save it, and authorise this pipeline to use it.",
        )
    return value


def _cloud(endpoint: Endpoint) -> str:
    """The name of the connection's cloud, with its own endpoints where they are others than the table's."""
    name = endpoint.data("ENVIRONMENT")
    cloud = find_cloud(name or "public")
    authority, management = (
        text.rstrip("/").lower() for text in (endpoint.data("ACTIVEDIRECTORYAUTHORITY"), endpoint.url)
    )
    authority = FORMER_AUTHORITIES.get(authority, authority)
    if cloud is None and not (authority and management):
        raise UsageError(
            f"The service connection is for the cloud {name[:60]}, whose endpoints are not known.",
            "The connection names no authority or no address for it.",
            "Give the input cloud: authority=URL,management=URL.",
        )
    own = {"authority": authority, "management": management}
    table = {"authority": cloud.authority, "management": cloud.management} if cloud is not None else {}
    parts = [f"{key}={value}" for key, value in own.items() if value and value != table.get(key)]
    return ",".join(([cloud.name] if cloud is not None else []) + parts)


def _kubernetes(endpoint: Endpoint) -> Handed:
    kinds: dict[str, Callable[[Endpoint], Handed]] = {
        "": _kubeconfig,
        "kubeconfig": _kubeconfig,
        "serviceaccount": _service_account,
        # Azure DevOps made a service account for it, and keeps its token.
        "azuresubscription": _service_account,
    }
    kind = endpoint.data("AUTHORIZATIONTYPE")
    way = kinds.get(kind.lower())
    if way is None:
        raise UsageError(
            f"The Kubernetes connection is of the kind {kind[:60]}.",
            "The task knows kubeconfigs and service accounts.",
            "For AKS give azureSubscription, clusterName and resourceGroup; else a connection of one of these kinds.",
        )
    return way(endpoint)


def _kubeconfig(endpoint: Endpoint) -> Handed:
    environment = {KUBECONFIG_VARIABLE: _needed(endpoint, "KUBECONFIG")}
    context = endpoint.parameter("CLUSTERCONTEXT")
    # What is secret in it, the program finds and masks.
    return Handed(environment=environment | ({"HELM_CANARY_CONTEXT": context} if context else {}))


def _service_account(endpoint: Endpoint) -> Handed:
    kept = endpoint.parameter("APITOKEN")
    if not kept:
        raise UsageError(
            "The Kubernetes connection holds no token of a service account.",
            "It was made from an Azure subscription, and Azure DevOps keeps no service account's token for it.",
            "For AKS give azureSubscription, clusterName and resourceGroup in place of kubernetesServiceConnection.",
        )
    token = _decoded(kept)
    cluster = {"server": endpoint.url}
    authority = endpoint.parameter("SERVICEACCOUNTCERTIFICATE")
    if authority:
        # Base64 in the Secret of the service account, in the connection, and in a kubeconfig.
        cluster["certificate-authority-data"] = authority
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "connection", "cluster": cluster}],
        "users": [{"name": "connection", "user": {"token": token}}],
        "contexts": [{"name": "connection", "context": {"cluster": "connection", "user": "connection"}}],
        "current-context": "connection",
    }
    return Handed(environment={KUBECONFIG_VARIABLE: json.dumps(config)}, secrets=(token, kept))


def _decoded(token: str) -> str:
    """The token, which is base64 as in its Secret; one that was pasted in as it is has dots, which base64 has not."""
    try:
        return base64.b64decode("".join(token.split()), validate=True).decode("ascii")
    except ValueError:
        return token.strip()
