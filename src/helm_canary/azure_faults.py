"""Everything that can go wrong between a pipeline's identity and a cluster of AKS, as data: a code, and its three parts.

What Azure answered comes in, an `AzureError` goes out. Nothing here reaches anything, and no secret may be given to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter

from helm_canary.errors import RefusedError, is_unauthorized

# Microsoft Entra takes tokens of the future or the past five minutes away, and so does Azure Resource Manager.
SKEW_S = 300.0


class AzureError(RefusedError):
    """Azure or the registry gave no credentials, or the cluster took none. Nothing was changed.

    code         which of the table's faults it is
    passes       it may go away by itself, so it is worth another try
    retry_after  how long the other side asks to wait, in seconds
    """

    def __init__(
        self, code: str, facts: Mapping[str, object], *, passes: bool = False, retry_after: float | None = None
    ) -> None:
        parts = FAULTS[code]
        names = {name for part in parts for _, name, _, _ in Formatter().parse(part) if name}
        known = {name: str(facts.get(name, "?")) or ("" if name == "why" else "?") for name in names}
        happened, means, do_next = (part.format_map(known).strip() for part in parts)
        said = str(facts.get("said", ""))
        super().__init__(happened, means, do_next, tuple(line for line in (f"code: {code}", said[:1000]) if line))
        self.code, self.passes, self.retry_after = code, passes, retry_after


FAULTS: dict[str, tuple[str, str, str]] = {
    # --- which identity
    "no-identity": (
        "No Azure identity was found to use.",
        "--auth is auto, and none of the variables that it looks for exists: {looked_for}.",
        ("On GitHub give the job `permissions: id-token: write`; on Azure Pipelines map SYSTEM_ACCESSTOKEN; "
        "on a laptop use --auth azure-cli."),
    ),
    "no-variable": (
        "--auth {auth} needs {missing}, which has no value.",
        "{hint}",
        "Set it for this step, or choose another --auth.",
    ),
    "no-file": (
        "The file that {variable} names cannot be read: {path}.",
        "It does not exist, or this account is not allowed to read it.",
        "Point {variable} to a file that this account can read.",
    ),
    # --- the CI's own token
    "oidc-refused": (
        "The {platform} gave no OIDC token: it answered {status}.",
        "{hint}",
        "Correct that; then run the same command again.",
    ),
    "oidc-away": (
        "The OIDC endpoint of {platform} gave no usable response.",
        "It is unreachable, or a proxy stands between: {why}.",
        "Run the same command again; check HTTPS_PROXY and NO_PROXY.",
    ),
    # --- Entra
    "wrong-subject": (
        "Entra knows no federated credential for this job.",
        ("The job presented subject {subject}, issuer {issuer}, audience {audience}; the application {client} has none that is "
        "equal, and upper and lower case count."),
        ("Add a federated credential with exactly these three to the application {client}, or run in the environment or branch "
        "that it was made for."),
    ),
    "wrong-issuer": (
        "Entra knows no federated credential of this issuer.",
        "The job presented issuer {issuer} with subject {subject}.",
        "Correct the issuer of the federated credential of the application {client}; a `/` at its end counts.",
    ),
    "wrong-audience": (
        "Entra does not accept tokens for this audience.",
        "The job presented audience {audience}; each cloud has its own.",
        "Check --cloud, and the audience of the federated credential of the application {client}.",
    ),
    "assertion-expired": (
        "Entra found the presented assertion outside of its time.",
        "It is too old (a file that is not renewed), or a proxy held the request back.",
        "Run the same command again; where a file carries the assertion, see that it is renewed.",
    ),
    "clock-skew": (
        "The clock of this machine is wrong by {skew} s.",
        "Azure accepts no token from more than five minutes before or after its own time.",
        "Set the machine's clock (NTP), then run the same command again.",
    ),
    "secret-wrong": (
        "Entra does not accept the client secret.",
        "It is another application's, or its id was given instead of its value.",
        "Put the secret's value into AZURE_CLIENT_SECRET; better, use a federated credential.",
    ),
    "secret-expired": (
        "The client secret or certificate has expired.",
        "Entra accepts none after its expiry date.",
        "Make a new one for the application {client}; better, use a federated credential, which does not expire.",
    ),
    "certificate-unknown": (
        "Entra does not know the client certificate.",
        "It is not among those of the application {client}.",
        "Upload the certificate to the application, or correct AZURE_CLIENT_CERTIFICATE_PATH.",
    ),
    "certificate-unusable": (
        "The client certificate cannot be used.",
        ("The file is not a PEM or PFX with a certificate and its RSA key, or AZURE_CLIENT_CERTIFICATE_PASSWORD is not its "
        "password."),
        "Correct AZURE_CLIENT_CERTIFICATE_PATH or AZURE_CLIENT_CERTIFICATE_PASSWORD.",
    ),
    "no-application": (
        "The tenant {tenant} has no application {client}.",
        "--client-id is not the application's, or --tenant-id is another tenant's.",
        "Copy both from the application's or the managed identity's overview page.",
    ),
    "no-tenant": (
        "There is no tenant {tenant}.",
        "--tenant-id is misspelt, or of another cloud.",
        "Correct --tenant-id, or give --cloud.",
    ),
    "no-aks-application": (
        "The tenant {tenant} does not know AKS's server application.",
        "The token was asked in a tenant that has never had an AKS cluster, so --tenant-id is probably another tenant's.",
        "Correct --tenant-id.",
    ),
    "entra-refused": (
        "Entra gave no token.",
        "Entra says the line below.",
        "Correct what it names; https://login.microsoftonline.com/error explains its numbers.",
    ),
    "identity-unavailable": (
        "--auth {auth} gave no token on this machine.",
        "{hint}",
        "Correct that, or choose another --auth.",
    ),
    "entra-away": (
        "Entra ({host}) gave no usable response.",
        "It is unreachable, or a proxy or firewall stands between: {why}.",
        "Run the same command again; check HTTPS_PROXY, NO_PROXY and the firewall's list.",
    ),
    # --- Azure Resource Manager
    "no-cluster-user-role": (
        "The identity is not allowed to fetch the credentials of {cluster}.",
        ("It lacks the role `Azure Kubernetes Service Cluster User Role` on the cluster (action listClusterUserCredential). The "
        "rights inside the cluster are another role."),
        "az role assignment create --role 'Azure Kubernetes Service Cluster User Role' --assignee {client} --scope {scope}",
    ),
    "no-cluster-admin-role": (
        "The identity is not allowed to fetch the admin credentials of {cluster}.",
        "It lacks the role `Azure Kubernetes Service Cluster Admin Role` on the cluster (action listClusterAdminCredential).",
        "Leave out --admin (better), or assign that role.",
    ),
    "local-accounts-disabled": (
        "The cluster {cluster} has no admin credentials to give.",
        "Its local accounts are disabled, as they should be.",
        "Leave out --admin: the identity's own rights are used then.",
    ),
    "wrong-subscription": (
        "There is no subscription {subscription} for this identity.",
        "It is misspelt, of another tenant or cloud, or the identity has no role in it at all.",
        "Correct --subscription (`az account list`), --tenant-id or --cloud.",
    ),
    "no-resource-group": (
        "There is no resource group {group} in the subscription {subscription}.",
        "It is misspelt, or the cluster is in another subscription.",
        "Correct --resource-group or --subscription: az aks list --query \"[].{{name:name, group:resourceGroup}}\"",
    ),
    "no-cluster": (
        "There is no cluster {cluster} in the resource group {group}.",
        "It is misspelt, deleted, or in another resource group.",
        "Correct --cluster-name or --resource-group: az aks list --query \"[].{{name:name, group:resourceGroup}}\"",
    ),
    "wrong-tenant": (
        "Azure Resource Manager accepts no token of the tenant {tenant} for this subscription.",
        "The subscription {subscription} belongs to another tenant.",
        "Correct --tenant-id: az account show --subscription {subscription} --query tenantId",
    ),
    "arm-unauthenticated": (
        "Azure Resource Manager does not accept the token.",
        "It was made for another cloud, or it has expired on the way.",
        "Check --cloud; then run the same command again.",
    ),
    "arm-refused": (
        "Azure Resource Manager refused to give the credentials of {cluster}: {status}.",
        "Azure says the line below.",
        "Correct what it names and run the same command again.",
    ),
    "arm-throttled": (
        "Azure Resource Manager has had too many requests ({status}), and asks to wait {wait}.",
        "Its limits are for each identity and subscription; that is longer than this command waits ({limit} s).",
        "Run the same command again later.",
    ),
    "arm-away": (
        "Azure Resource Manager ({host}) gave no usable response in {limit} s.",
        "It is unreachable, or a proxy or firewall stands between: {why}.",
        "Run the same command again; check HTTPS_PROXY, NO_PROXY and https://status.azure.com.",
    ),
    "arm-junk": (
        "Azure Resource Manager's answer cannot be read.",
        "It is not JSON, was cut off, or its kubeconfig is not base64: most often a proxy's own page.",
        "Check HTTPS_PROXY and --cloud; then run the same command again.",
    ),
    "kubeconfig-unusable": (
        "The kubeconfig of {cluster} that Azure returned cannot be used.",
        "Of it: {why}.",
        "Compare it with the file that `az aks get-credentials --name {cluster} --resource-group {group}` writes.",
    ),
    "tls-not-trusted": (
        "The certificate of {host} is not trusted here.",
        "A TLS-inspecting proxy presents its own, or the machine lacks a certificate authority.",
        "Point REQUESTS_CA_BUNDLE to a file with your organisation's certificate authority.",
    ),
    # --- the cluster itself
    "cluster-stopped": (
        "The cluster {cluster} is stopped.",
        "A stopped cluster's API server has no address.",
        "az aks start --name {cluster} --resource-group {group}",
    ),
    "private-cluster": (
        "The API server {host} cannot be reached from here.",
        "The cluster {cluster} is private: only its own network knows that name.",
        ("Run this job on a runner inside the cluster's network or one that is peered with it; or give --public-fqdn, where the "
        "cluster has a public name and this machine a route to it."),
    ),
    "host-unknown": (
        "The API server's name {host} is not known.",
        "The cluster {cluster} was deleted or created again, or this machine's DNS does not answer.",
        "Check `az aks show --name {cluster} --resource-group {group}`.",
    ),
    "no-kubernetes-role": (
        "The identity has credentials for {cluster} and lacks rights inside it.",
        "Fetching credentials is one role (it has that one); its rights on objects are another, in Kubernetes.",
        ("Apply docs/rights/release.yaml in the namespace, with a RoleBinding to the identity's object id, or its group's. "
        "Azure's role `RBAC Writer` is not enough: it has no right on Istio's objects."),
    ),
    "token-refused": (
        "The API server of {cluster} does not accept the identity's token.",
        "The token is of another tenant than the cluster's, has expired and could not be renewed, or the clock is wrong. {why}",
        "Compare --tenant-id with `az aks show --query aadProfile.tenantId`; then run the same command again.",
    ),
    "token-not-renewed": (
        "The token for {cluster} has expired, and could not be renewed.",
        "The identity got one at the start, and none since: {why}",
        "Run the same command again: it goes on from where the release is.",
    ),
    # --- registries
    "registry-refused": (
        "The registry {host} does not accept this identity: {status}.",
        "It lacks the role AcrPull on the registry (or `Container Registry Repository Reader`).",
        "az role assignment create --role AcrPull --assignee {client} --scope $(az acr show --name {name} --query id -o tsv)",
    ),
    "registry-away": (
        "The registry {host} gave no usable response.",
        "It is misspelt, unreachable, or its firewall does not let this machine in: {why}.",
        "Check --chart and the registry's network settings.",
    ),
}  # fmt: skip


# Microsoft Entra's numbers -> our code. The first that is in its message decides.
ENTRA = (
    ("AADSTS7002138", "wrong-subject"),
    ("AADSTS700213", "wrong-subject"),
    ("AADSTS700211", "wrong-issuer"),
    ("AADSTS700212", "wrong-audience"),
    ("AADSTS70021", "wrong-subject"),
    ("AADSTS700024", "assertion-expired"),
    ("AADSTS50013", "assertion-expired"),
    ("AADSTS7000215", "secret-wrong"),
    ("AADSTS7000222", "secret-expired"),
    ("AADSTS700027", "certificate-unknown"),
    ("AADSTS700016", "no-application"),
    ("AADSTS90002", "no-tenant"),
    ("AADSTS900023", "no-tenant"),
    ("AADSTS900021", "no-tenant"),
    ("AADSTS500011", "no-aks-application"),
)
PASSING = (408, 429, 500, 502, 503, 504)


def of_entra(message: str, skew_s: float | None) -> str:
    """The code of a refusal of Entra's."""
    number = re.search(r"AADSTS\d+", message)
    code = next((code for sign, code in ENTRA if number and number.group(0) == sign), "entra-refused")
    if code in ("assertion-expired", "certificate-unknown", "entra-refused") and skew_s and abs(skew_s) > SKEW_S:
        return "clock-skew"
    return code


def of_arm(status: int, arm_code: str, message: str, *, admin: bool, skew_s: float | None) -> str:
    """The code of a refusal of Azure Resource Manager's."""
    if "disable local accounts" in message.lower():
        return "local-accounts-disabled"
    if status == 401:
        if arm_code == "InvalidAuthenticationTokenTenant":
            return "wrong-tenant"
        return "clock-skew" if skew_s and abs(skew_s) > SKEW_S else "arm-unauthenticated"
    if arm_code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
        return "wrong-subscription"
    if status == 403:
        return "no-cluster-admin-role" if admin else "no-cluster-user-role"
    return {"ResourceGroupNotFound": "no-resource-group", "ResourceNotFound": "no-cluster"}.get(arm_code, "arm-refused")


FORBIDDEN = ("is forbidden", "(forbidden)", "does not have access to the resource in azure")
UNREACHABLE = ("no such host", "i/o timeout", "no route to host", "network is unreachable")


def of_kubernetes(stderr: str, *, private: bool, stopped: bool) -> str:
    """The code of what kubectl or helm met with these credentials; empty where the credentials have no part in it."""
    lowered = stderr.lower()
    if any(sign in lowered for sign in UNREACHABLE):
        if stopped:
            return "cluster-stopped"
        if private:
            return "private-cluster"
        return "host-unknown" if "no such host" in lowered else ""
    if is_unauthorized(stderr):
        return "token-refused"
    return "no-kubernetes-role" if any(sign in lowered for sign in FORBIDDEN) else ""
