"""The ways to prove to Azure who this is, and the one that `auto` takes: data, decided by which variables exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CERTIFICATE = ("AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_CLIENT_CERTIFICATE_PASSWORD")


@dataclass(frozen=True, kw_only=True)
class Auth:
    """One way to prove who this is.

    needs    the variables that it cannot do without; `hint` says what it means when one is missing
    secrets  the variables that must not be seen
    """

    name: str
    needs: tuple[str, ...]
    hint: str
    secrets: tuple[str, ...] = ()
    needs_ids: bool = True


AUTHS = (
    Auth(
        name="github-oidc",
        needs=("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
        secrets=("ACTIONS_ID_TOKEN_REQUEST_TOKEN",),
        hint="GitHub sets it for a job that has `permissions: id-token: write`, and not for one of a fork's pull request.",
    ),
    Auth(
        name="azure-pipelines",
        needs=("SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"),
        secrets=("SYSTEM_ACCESSTOKEN",),
        hint="A script step gets the first from the agent, the second by `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`, the "
        "third inside AzureCLI@2 or by hand: the id of the service connection.",
    ),
    Auth(
        name="workload-identity",
        needs=("AZURE_FEDERATED_TOKEN_FILE",),
        hint="The workload identity webhook of AKS sets it in pods with the label azure.workload.identity/use.",
    ),
    Auth(
        name="client-secret",
        needs=("AZURE_CLIENT_SECRET",),
        secrets=("AZURE_CLIENT_SECRET",),
        hint="Map the secret of the pipeline to it.",
    ),
    Auth(
        name="client-certificate",
        needs=CERTIFICATE[:1],
        secrets=CERTIFICATE[1:],
        hint="It names a PEM or PFX file with certificate and key.",
    ),
    Auth(
        name="managed-identity",
        needs=(),
        secrets=("IDENTITY_HEADER",),
        hint="This machine has no managed identity, or its endpoint does not answer.",
        needs_ids=False,
    ),
    Auth(
        name="azure-cli",
        needs=(),
        hint="`az` is not installed, or not logged in: run `az login`.",
        needs_ids=False,
    ),
)
# `auto` asks nothing of the network: what is silent there costs minutes.
LOOKED_FOR = AUTHS[:5]


def choose(environment: Mapping[str, str]) -> Auth | None:
    """The first way whose variables all exist."""
    return next((auth for auth in LOOKED_FOR if all(environment.get(name) for name in auth.needs)), None)


def find_auth(name: str) -> Auth:
    return next(auth for auth in AUTHS if auth.name == name)
