"""Inputs and service connections -> what the program is started with."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from task_variables import Handed, variables

from helm_canary.ci.azure_reviews import AzureRun
from helm_canary.ci.reviews import run_of
from helm_canary.clouds import parse_cloud
from helm_canary.errors import UsageError
from helm_canary.options import gather
from tests.azure_pipelines.agent import ACCESS_TOKEN, SYSTEM_CONNECTION, Endpoint

ID = "0f0e0d0c-0b0a-0908-0706-050403020100"
CLIENT, TENANT = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"
SUBSCRIPTION = "cccccccc-0000-0000-0000-000000000003"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
PUBLIC = {
    "subscriptionId": SUBSCRIPTION,
    "environment": "AzureCloud",
    "activeDirectoryAuthority": "https://login.microsoftonline.com/",
}
PRINCIPAL = {"serviceprincipalid": CLIENT, "tenantid": TENANT}
COMMON = {
    "HELM_CANARY_TENANT_ID": TENANT,
    "HELM_CANARY_CLIENT_ID": CLIENT,
    "HELM_CANARY_SUBSCRIPTION": SUBSCRIPTION,
    "HELM_CANARY_CLOUD": "public",
}


def azure(scheme: str, parameters: Mapping[str, str], **data: str) -> Endpoint:
    return Endpoint(
        id=ID, scheme=scheme, parameters=parameters, data={**PUBLIC, **data}, url="https://management.azure.com/"
    )


def handed(given: Mapping[str, str], *endpoints: Endpoint) -> Handed:
    """What the program gets of an agent with these variables and connections."""
    whole = dict(given)
    for endpoint in (SYSTEM_CONNECTION, *endpoints):
        whole |= endpoint.environment()
    return variables(whole)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A service connection, what it must become, and what of it must be masked."""

    endpoint: Endpoint
    expected: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    certificate: str = ""
    absent: tuple[str, ...] = ("AZURE_CLIENT_SECRET", "SYSTEM_ACCESSTOKEN")
    inputs: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "federated": Case(
        endpoint=azure("WorkloadIdentityFederation", PRINCIPAL),
        expected=COMMON
        | {
            "HELM_CANARY_AUTH": "azure-pipelines",
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": ID,
            "SYSTEM_ACCESSTOKEN": ACCESS_TOKEN,
        },
        secrets=(ACCESS_TOKEN,),
        absent=("AZURE_CLIENT_SECRET",),
    ),
    "federated-lower-case": Case(
        endpoint=azure("workloadidentityfederation", PRINCIPAL),
        expected={"HELM_CANARY_AUTH": "azure-pipelines"},
        secrets=(ACCESS_TOKEN,),
        absent=("AZURE_CLIENT_SECRET",),
    ),
    "secret": Case(
        endpoint=azure(
            "ServicePrincipal", PRINCIPAL | {"authenticationType": "spnKey", "serviceprincipalkey": "p$1\n;]"}
        ),
        expected=COMMON | {"HELM_CANARY_AUTH": "client-secret", "AZURE_CLIENT_SECRET": "p$1\n;]"},
        secrets=("p$1\n;]",),
        absent=("SYSTEM_ACCESSTOKEN",),
    ),
    "secret-of-long-ago": Case(
        endpoint=azure("", PRINCIPAL | {"serviceprincipalkey": "key"}),
        expected={"HELM_CANARY_AUTH": "client-secret", "AZURE_CLIENT_SECRET": "key"},
        secrets=("key",),
        absent=("SYSTEM_ACCESSTOKEN",),
    ),
    "certificate": Case(
        endpoint=azure(
            "ServicePrincipal",
            PRINCIPAL | {"authenticationType": "spnCertificate", "servicePrincipalCertificate": PEM},
        ),
        expected=COMMON | {"HELM_CANARY_AUTH": "client-certificate"},
        secrets=(PEM,),
        certificate=PEM,
    ),
    "managed-identity": Case(
        endpoint=azure("ManagedServiceIdentity", {"tenantid": TENANT}),
        expected={"HELM_CANARY_AUTH": "managed-identity", "HELM_CANARY_TENANT_ID": TENANT},
        absent=("AZURE_CLIENT_SECRET", "SYSTEM_ACCESSTOKEN", "HELM_CANARY_CLIENT_ID"),
    ),
    "managed-identity-of-a-user": Case(
        endpoint=azure("ManagedServiceIdentity", {"tenantid": TENANT}, msiclientId=CLIENT),
        expected={"HELM_CANARY_AUTH": "managed-identity", "HELM_CANARY_CLIENT_ID": CLIENT},
    ),
    "inputs-win": Case(
        endpoint=azure("WorkloadIdentityFederation", PRINCIPAL),
        inputs={"INPUT_AUTH": "azure-cli", "INPUT_SUBSCRIPTION": "mine", "INPUT_CLOUD": "china", "INPUT_TENANTID": "t"},
        expected={
            "HELM_CANARY_AUTH": "azure-cli",
            "HELM_CANARY_SUBSCRIPTION": "mine",
            "HELM_CANARY_CLOUD": "china",
            "HELM_CANARY_TENANT_ID": "t",
            "HELM_CANARY_CLIENT_ID": CLIENT,
        },
    ),
    "connection-before-variables": Case(
        endpoint=azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "key"}),
        inputs={"HELM_CANARY_CLIENT_ID": "another", "HELM_CANARY_AUTH": "azure-cli"},
        expected=COMMON | {"HELM_CANARY_AUTH": "client-secret"},
        secrets=("key",),
        absent=("SYSTEM_ACCESSTOKEN",),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_connection_becomes_the_programs_variables(case: Case) -> None:
    """Each kind of Azure connection gives exactly the identity it stands for, and tells what of it is secret."""
    found = handed({"INPUT_COMMAND": "status", "INPUT_AZURESUBSCRIPTION": ID, **case.inputs}, case.endpoint)
    assert {name: found.environment.get(name) for name in case.expected} == dict(case.expected)
    assert [name for name in case.absent if name in found.environment] == []
    assert (found.secrets, found.certificate) == (case.secrets, case.certificate)


CLOUDS = {
    "china": ("AzureChinaCloud", "https://login.chinacloudapi.cn/", "https://management.chinacloudapi.cn/", "china"),
    "us": (
        "AzureUSGovernment",
        "https://login.microsoftonline.us/",
        "https://management.usgovcloudapi.net/",
        "usgovernment",
    ),
    "unnamed": ("", "", "", "public"),
    "former-authority": ("AzureCloud", "https://login.windows.net/", "https://management.azure.com", "public"),
    "other-endpoints": (
        "AzureCloud",
        "https://login.example.com/",
        "https://management.example.com/",
        "public,authority=https://login.example.com,management=https://management.example.com",
    ),
    "own": (
        "AzureStack",
        "https://login.stack.example/",
        "https://arm.stack.example/",
        "authority=https://login.stack.example,management=https://arm.stack.example",
    ),
}


@pytest.mark.parametrize("case", CLOUDS.values(), ids=CLOUDS)
def test_the_cloud_is_the_connections(case: tuple[str, str, str, str]) -> None:
    """A connection's cloud is named as the program names it, with the connection's endpoints where they are others."""
    environment, authority, url, expected = case
    data = {"environment": environment, "activeDirectoryAuthority": authority}
    endpoint = Endpoint(id=ID, scheme="ManagedServiceIdentity", data=data, url=url)
    cloud = handed({"INPUT_AZURESUBSCRIPTION": ID}, endpoint).environment["HELM_CANARY_CLOUD"]
    assert cloud == expected
    assert parse_cloud(cloud).authority.startswith("https://")


BAD = {
    "unknown-scheme": (azure("PublishProfile", PRINCIPAL), "publishprofile"),
    "no-such-connection": (Endpoint(id="another"), "scheme"),
    "no-key": (azure("ServicePrincipal", PRINCIPAL), "serviceprincipalkey"),
    "no-client": (azure("WorkloadIdentityFederation", {}), "serviceprincipalid"),
    "unknown-cloud": (Endpoint(id=ID, scheme="ManagedServiceIdentity", data={"environment": "Moon"}), "Moon"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_connection_that_cannot_be_used_is_told(case: tuple[Endpoint, str]) -> None:
    """What is wrong with a connection is told in three parts before anything starts."""
    endpoint, word = case
    with pytest.raises(UsageError) as caught:
        handed({"INPUT_COMMAND": "status", "INPUT_AZURESUBSCRIPTION": ID}, endpoint)
    assert word in caught.value.happened
    assert caught.value.means
    assert caught.value.do_next


def kubernetes(kind: str, **parameters: str) -> Endpoint:
    return Endpoint(
        id=ID, scheme="Token", parameters=parameters, data={"authorizationType": kind}, url="https://api.example:6443/"
    )


def test_a_kubeconfig_connection_is_handed_on() -> None:
    """The kubeconfig arrives byte for byte, with the context that the connection chose."""
    text = "apiVersion: v1\nkind: Config\n# ##vso[x] %0A\n"
    for kind in ("Kubeconfig", ""):
        found = handed(
            {"INPUT_KUBERNETESSERVICECONNECTION": ID}, kubernetes(kind, kubeconfig=text, clusterContext="blue")
        ).environment
        assert found["HELM_CANARY_KUBECONFIG_DATA"] == text
        assert found["HELM_CANARY_CONTEXT"] == "blue"


@pytest.mark.parametrize("kind", ["ServiceAccount", "AzureSubscription"])
@pytest.mark.parametrize("kept", [base64.b64encode(TOKEN.encode()).decode(), TOKEN], ids=["base64", "as-it-is"])
def test_a_service_account_becomes_a_kubeconfig(kind: str, kept: str) -> None:
    """Address, certificate and token make a kubeconfig that names its own context; the token is masked."""
    found = handed(
        {"INPUT_KUBERNETESSERVICECONNECTION": ID}, kubernetes(kind, apiToken=kept, serviceAccountCertificate="Q0E=")
    )
    config = json.loads(found.environment["HELM_CANARY_KUBECONFIG_DATA"])
    assert config["clusters"][0]["cluster"] == {
        "server": "https://api.example:6443/", "certificate-authority-data": "Q0E="
    }  # fmt: skip
    assert config["users"][0]["user"] == {"token": TOKEN}
    assert config["current-context"] == config["contexts"][0]["name"]
    assert TOKEN in found.secrets


@pytest.mark.parametrize("endpoint", [kubernetes("AzureSubscription"), kubernetes("Moon", apiToken="x")])
def test_a_kubernetes_connection_that_cannot_be_used_names_the_way_for_aks(endpoint: Endpoint) -> None:
    """Where a Kubernetes connection holds no credentials, the error names azureSubscription and clusterName."""
    with pytest.raises(UsageError) as caught:
        handed({"INPUT_KUBERNETESSERVICECONNECTION": ID}, endpoint)
    assert "azureSubscription" in caught.value.do_next
    assert "clusterName" in caught.value.do_next


def test_two_clusters_are_refused() -> None:
    """A Kubernetes connection beside another kubeconfig is an error, not a silent choice."""
    with pytest.raises(UsageError, match="together"):
        handed({"INPUT_KUBERNETESSERVICECONNECTION": ID, "INPUT_KUBECONFIGDATA": "x"}, kubernetes("", kubeconfig="y"))


GATES = {
    "environment": ({"INPUT_REQUIREAPPROVAL": "true", "ENVIRONMENT_NAME": "prod-10"}, "prod-10"),
    "stage": ({"INPUT_REQUIREAPPROVAL": "True"}, "canary_10"),
    "empty": ({"INPUT_REQUIREAPPROVAL": ""}, "canary_10"),
    "named": ({"INPUT_REQUIREAPPROVAL": "my gate"}, "my gate"),
    "not-by-a-variable": ({"INPUT_REQUIREAPPROVAL": "true", "HELM_CANARY_REQUIRE_APPROVAL": "false"}, "canary_10"),
    "none": ({"INPUT_REQUIREAPPROVAL": "false", "HELM_CANARY_REQUIRE_APPROVAL": "x"}, None),
    "rollback": ({"INPUT_REQUIREAPPROVAL": "true", "INPUT_COMMAND": "rollback"}, None),
}


@pytest.mark.parametrize("case", GATES.values(), ids=GATES)
def test_the_gate_is_the_jobs_environment(case: tuple[Mapping[str, str], str | None]) -> None:
    """A stage requires the approval of its own environment unless the input says otherwise; no variable changes that."""
    given, gate = case
    found = handed({"INPUT_COMMAND": "stage", "SYSTEM_STAGENAME": "canary_10", **given})
    assert found.environment.get("HELM_CANARY_REQUIRE_APPROVAL") == gate
    assert (found.environment.get("SYSTEM_ACCESSTOKEN") == ACCESS_TOKEN) == (gate is not None)
    assert found.secrets == ((ACCESS_TOKEN,) if gate is not None else ())


@pytest.mark.parametrize("variables", [{}, {"ENVIRONMENT_NAME": "False"}, {"SYSTEM_STAGENAME": "false"}], ids=str)
def test_a_gate_without_a_name_is_refused(variables: dict[str, str]) -> None:
    """Where neither an environment nor a stage has a name, or it reads as no gate, the stage does not run without one."""
    with pytest.raises(UsageError, match="gate"):
        handed({"INPUT_COMMAND": "stage", "INPUT_REQUIREAPPROVAL": "true", **variables})


def test_no_variable_sends_the_question_elsewhere() -> None:
    """Variables that are called as GitHub's would have a server of anybody's asked who approved: they are withheld."""
    given = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "1", "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_API_URL": "http://127.0.0.1:9", "TF_BUILD": "True", "SYSTEM_STAGENAME": "canary_10", "INPUT_COMMAND": "stage",
        "SYSTEM_COLLECTIONURI": "https://dev.example.com/shop/", "SYSTEM_TEAMPROJECT": "shop", "BUILD_BUILDID": "84",
    }  # fmt: skip
    found = handed(given).environment
    assert not [name for name in found if name.startswith(("GITHUB_", "ACTIONS_"))]
    assert isinstance(run_of(found, lambda secret: None), AzureRun)


def test_the_server_that_is_asked_is_the_connections() -> None:
    """A variable SYSTEM_COLLECTIONURI, which hides the agent's own, neither answers who approved nor gets the job's token."""
    given = {"INPUT_COMMAND": "stage", "SYSTEM_STAGENAME": "canary_10", "SYSTEM_COLLECTIONURI": "http://127.0.0.1:9/"}
    assert handed(given).environment["SYSTEM_COLLECTIONURI"] == SYSTEM_CONNECTION.url


TWINS = {
    "in the pipeline": ({"VSTS_PUBLIC_VARIABLES": ["system.stageName", "SYSTEM_STAGENAME"]}, True),
    "by a secret": ({"VSTS_PUBLIC_VARIABLES": ["build.buildId"], "VSTS_SECRET_VARIABLES": ["BUILD_BuildId"]}, True),
    "with a space": ({"VSTS_PUBLIC_VARIABLES": ["system.oidcRequestUri", "system oidcRequestUri"]}, True),
    "the agent's own, twice": ({"VSTS_PUBLIC_VARIABLES": ["Build.BuildId", "build.buildid"]}, False),
    "of no meaning here": ({"VSTS_PUBLIC_VARIABLES": ["my.name", "MY_NAME", "build.buildId"]}, False),
}


@pytest.mark.parametrize(("lists", "refused"), TWINS.values(), ids=TWINS)
def test_a_variable_that_hides_the_agents_own_is_refused(lists: dict[str, list[str]], refused: bool) -> None:
    """Where two variables are written under one name and it says which run this is, nothing is done."""
    given = {"INPUT_COMMAND": "status", **{name: json.dumps(names) for name, names in lists.items()}}
    if refused:
        with pytest.raises(UsageError, match="written the same"):
            handed(given)
    else:
        assert handed(given).environment["HELM_CANARY_COMMAND"] == "status"


@pytest.mark.parametrize("name", ["AZURE_AUTHORITY_HOST", "AZURE_CLIENT_CERTIFICATE_PASSWORD"])
def test_no_variable_takes_a_connections_secret_elsewhere(name: str) -> None:
    """With a connection to Azure its own authority gets its secret, whatever a variable says; without one, variables count."""
    connection = azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "unused"})
    given = {"INPUT_COMMAND": "status", name: "https://elsewhere.example.com"}
    assert name not in handed({**given, "INPUT_AZURESUBSCRIPTION": ID}, connection).environment
    assert name in handed(given).environment


def test_nothing_of_the_agents_own_remains() -> None:
    """No input, connection, secret or secure file of the job is in the program's environment under the agent's names."""
    given = {
        "INPUT_COMMAND": "status", "SECRET_PASSWORD": "x", "SECUREFILE_TICKET_1": "x", "VSTS_TASKVARIABLE_A": "x",
        "Secret_b": "x", "PATH": "/bin", "BUILD_BUILDID": "84",
    }  # fmt: skip
    found = handed(given, azure("ServicePrincipal", PRINCIPAL | {"serviceprincipalkey": "unused"})).environment
    own = {"SYSTEM_COLLECTIONURI": SYSTEM_CONNECTION.url}
    assert dict(found) == {"PATH": "/bin", "BUILD_BUILDID": "84", "HELM_CANARY_COMMAND": "status", **own}


def test_an_input_that_is_empty_leaves_a_variable() -> None:
    """An empty input is not given: what a variable of the pipeline says stays; a given one replaces it."""
    given = {"INPUT_DRAIN": "", "HELM_CANARY_DRAIN": "5s", "INPUT_TIMEOUT": "3m", "HELM_CANARY_TIMEOUT": "9m"}
    found = handed(given).environment
    assert (found["HELM_CANARY_DRAIN"], found["HELM_CANARY_TIMEOUT"]) == ("5s", "3m")


@pytest.mark.parametrize(
    "text", ["##vso[task.complete result=Failed]x", "a]b;c=d", "%AZP25%0A", "one\ntwo\r\n", "$(x) `y` \"'", "é\u2028"]
)
def test_inputs_are_data(text: str) -> None:
    """Whatever an input holds, the program's option has it byte for byte."""
    found = handed({"INPUT_COMMENT": text, "INPUT_SET": text, "INPUT_COMMAND": "rollback"}).environment
    texts = gather({}, found)
    assert (texts["comment"], texts["set"]) == (text, text)
