"""The clouds of Azure: one table of what differs between them, and endpoints that a user names."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

# The application that stands for the API server of every AKS cluster with Entra, the same in all clouds.
AKS_SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Where one cloud's services are.

    authority   Entra, which gives tokens
    management  Azure Resource Manager, and `scope` what a token for it is asked with
    audience    for whom a CI's OIDC token must be made out, to be taken by Entra
    registry    what the host name of a container registry ends with, and `registry_scope` what it takes a token for
    """

    name: str
    authority: str
    management: str
    scope: str
    audience: str
    registry: str
    registry_scope: str

    def has_registry(self, host: str) -> bool:
        """Whether a host is one of this cloud's container registries."""
        return bool(self.registry) and (host == self.registry or host.endswith("." + self.registry))


CLOUDS = (
    Cloud(
        name="public",
        authority="https://login.microsoftonline.com",
        management="https://management.azure.com",
        scope="https://management.azure.com/.default",
        audience="api://AzureADTokenExchange",
        registry="azurecr.io",
        registry_scope="https://containerregistry.azure.net/.default",
    ),
    Cloud(
        name="china",
        authority="https://login.partner.microsoftonline.cn",
        management="https://management.chinacloudapi.cn",
        scope="https://management.chinacloudapi.cn/.default",
        audience="api://AzureADTokenExchangeChina",
        registry="azurecr.cn",
        registry_scope="https://management.chinacloudapi.cn/.default",
    ),
    Cloud(
        name="usgovernment",
        authority="https://login.microsoftonline.us",
        management="https://management.usgovcloudapi.net",
        scope="https://management.core.usgovcloudapi.net/.default",
        audience="api://AzureADTokenExchangeUSGov",
        registry="azurecr.us",
        registry_scope="https://management.core.usgovcloudapi.net/.default",
    ),
)
# What Azure's own tasks, the Azure CLI and the kubeconfigs of AKS call them.
ALIASES = {
    "azurecloud": "public",
    "azurepubliccloud": "public",
    "azurechinacloud": "china",
    "azureusgovernment": "usgovernment",
    "azureusgovernmentcloud": "usgovernment",
}
ENDPOINTS = tuple(field.name for field in fields(Cloud) if field.name != "name")
NAMES = tuple(cloud.name for cloud in CLOUDS)


def find_cloud(name: str) -> Cloud | None:
    """A cloud of the table by its name, or by the one that Azure's own tools use."""
    wanted = ALIASES.get(name.lower(), name.lower())
    return next((cloud for cloud in CLOUDS if cloud.name == wanted), None)


def parse_cloud(text: str) -> Cloud:
    """`NAME`, or endpoints: `authority=URL,management=URL,...`, with a name before them for the rest. Raises ValueError."""
    first, *rest = [part.strip() for part in text.split(",")]
    cloud = find_cloud(first)
    if cloud is None:
        cloud, rest = CLOUDS[0], [first, *rest]
    given = dict(part.split("=", 1) for part in rest if "=" in part)
    strange = [part for part in rest if part.split("=", 1)[0] not in ENDPOINTS or "=" not in part]
    if strange:
        raise ValueError(
            f"{strange[0]!r} is neither a cloud ({', '.join(NAMES)}) nor one of {', '.join(ENDPOINTS)}=..."
        )
    for key in ("authority", "management"):
        # The SDK refuses anything else, late and in its own words.
        if key in given and not re.fullmatch(r"https://[^/\s?#]+/?", given[key]):
            raise ValueError(f"{key}={given[key]} is no address such as https://host")
    if "management" in given and "scope" not in given:
        given["scope"] = given["management"].rstrip("/") + "/.default"
    return replace(cloud, **given, name="custom") if given else cloud
