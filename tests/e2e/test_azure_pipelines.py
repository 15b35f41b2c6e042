"""The templates for Azure Pipelines, walked by the documented rules with the packed task at every node, on the real cluster.

Real: the VSIX, its Node entry, helm, the cluster, its API server's tokens. Played on loopback: Entra, the Resource Manager, the
agent's OIDC endpoint, Azure DevOps' timeline and approvals.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from helm_canary.kubeconfig import secrets_of as kubeconfig_secrets
from tests.azure.servers import CLIENT, GROUP, NAME, SUBSCRIPTION, TENANT
from tests.azure_pipelines.agent import SYSTEM_CONNECTION, Agent, Ended, Endpoint
from tests.azure_pipelines.api import PROJECT, Approval, write_state
from tests.azure_pipelines.conftest import nodes
from tests.azure_pipelines.expander import expand
from tests.azure_pipelines.scheduler import Result, Run
from tests.cluster.places import places
from tests.cluster.traffic import Traffic
from tests.github.act import OFFLINE, fill_cache
from tools.pack_task import pack

from .conftest import Lab
from .ledger import Ledger
from .service import ROOT
from .settling import RPS, settle
from .states import Release
from .test_aks import SERVER, OnAks, on_aks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

RELEASE = Release("83", "84")
GATES = {f"canary-{number}" for number in range(2, 8)}
CONNECTION = "12121212-3434-5656-7878-909090909090"
REJECTED = (Result.FAILED, Result.SKIPPED, Result.CANCELED)


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task as an agent finds it: packed, and unpacked again."""
    folder = tmp_path_factory.mktemp("vsix")
    with zipfile.ZipFile(pack(folder)) as package:
        package.extractall(folder / "unpacked")
    fill_cache(tmp_path_factory.mktemp("warm") / "place")
    return folder / "unpacked" / "HelmCanary"


@dataclass
class Organisation:
    """A project of Azure DevOps with one service's pipeline. `ended`: every step of the task that ran."""

    service: OnAks
    agent: Agent
    folder: Path
    token: Path
    approvals: list[Approval] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    def pipeline(self, name: str, **more: Any) -> dict[str, Any]:
        """A template with this service's parameters."""
        parameters = {
            "release": self.service.release,
            "namespace": self.service.namespace,
            "azureSubscription": "shop-release",
            "clusterName": NAME,
            "resourceGroup": GROUP,
            "values": str(self.service.values_file()),
            "inputs": {"drain": "1s", "timeout": "90s"},
            **more,
        }
        return expand(ROOT / f"pipelines/azure/{name}.yml", parameters)

    def run(self, build: str, name: str = "canary", gates: set[str] = GATES, **more: Any) -> Run:
        """A run of it, up to where people decide."""
        rejected_as = more.pop("rejected_as", Result.FAILED)
        run = Run(
            self.pipeline(name, **more),
            run_task=self.run_task,
            approvals=gates,
            build_id=build,
            rejected_as=rejected_as,
        )
        self.approvals.clear()
        run.advance()
        return run

    def approve(self, run: Run, *stages: int, comment: str = "looks good") -> None:
        """Each when its turn has come; Azure DevOps knows of it from then on."""
        for number in stages:
            self.approvals.append(Approval(stage=f"stage_{number}", comment=comment))
            assert f"stage_{number}" in run.waiting(), self.ended[-1].issues
            run.approve(f"stage_{number}")

    def run_task(self, inputs: dict[str, str], variables: dict[str, str]) -> tuple[Result, dict[str, str]]:
        """One step of the task, by its own entry, in a job of its own."""
        write_state(self.folder / "state.json", self.approvals)
        given = {name: CONNECTION if name == "azureSubscription" else text for name, text in inputs.items()}
        public = {name.replace(".", "_").upper(): text for name, text in variables.items()}
        ended = self.agent.run(given, [self._connection()], public | self.variables())
        self.ended.append(ended)
        assert (ended.unknown, ended.refused) == ([], []), ended
        assert SYSTEM_CONNECTION.parameters["AccessToken"] not in ended.log
        return Result(ended.result), ended.outputs

    def variables(self) -> dict[str, str]:
        """What the agent of a new job says of itself."""
        found = {**self.service.platforms["azure-pipelines"], "SYSTEM_TEAMPROJECT": PROJECT, "SYSTEM_TEAMPROJECTID": ""}
        found["AGENT_TEMPDIRECTORY"] = str(self._job())
        # The agent hands them over in the connections alone.
        in_connections = ("SYSTEM_ACCESSTOKEN", "SYSTEM_COLLECTIONURI", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID")
        return {name: value for name, value in found.items() if name not in in_connections}

    def _job(self) -> Path:
        folder = self.folder / f"job-{len(self.ended)}"
        folder.mkdir()
        return folder

    def _connection(self) -> Endpoint:
        url = self.service.azure_url
        return Endpoint(
            id=CONNECTION,
            scheme="WorkloadIdentityFederation",
            parameters={"serviceprincipalid": CLIENT, "tenantid": TENANT},
            data={"subscriptionid": SUBSCRIPTION, "environment": "AzureCloud", "activeDirectoryAuthority": url},
            url=url,
        )


@contextmanager
def devops(service: OnAks, folder: Path) -> Iterator[str]:
    """Azure DevOps in the cluster's network."""
    write_state(folder / "state.json", [])
    words = service.cluster.command("python3", "-m", "tests.azure_pipelines.api", folder / "state.json")
    environment = {**service.cluster.environment(), "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as api:
        assert api.stdin is not None
        assert api.stdout is not None
        try:
            yield api.stdout.readline().strip()
        finally:
            api.stdin.close()
            api.wait(timeout=10)


@pytest.fixture
def azure(lab: Lab, task: Path, tmp_path: Path) -> Iterator[Organisation]:
    """A project whose service connection leads to the local cluster; nothing is installed yet."""
    with on_aks(lab, tmp_path) as (service, account), devops(service, tmp_path) as url:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "uv").symlink_to(Path(sys.executable).with_name("uv"))
        (tools / "python3").symlink_to(sys.executable)
        wrap: Callable[[Any], Any] = lambda words: service.cluster.command(*words)  # noqa: E731
        agent = Agent(
            task=task,
            temp=tmp_path,
            node=nodes()["20"],
            path=f"{tools}:{service.cluster.environment()['PATH']}",
            home=str(tmp_path),
            variables=OFFLINE,
            connection=replace(SYSTEM_CONNECTION, url=f"{url}/acme/"),
            wrap=wrap,
        )
        yield Organisation(service, agent, tmp_path, account.token)


@contextmanager
def traffic_to(organisation: Organisation, ledger: Ledger, name: str) -> Iterator[Traffic]:
    service = organisation.service
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        traffic.mark(name)
        yield traffic
        settle(traffic, ledger, f"{name}, the task of Azure Pipelines")


def check_results(run: Run, expected: Mapping[str, Result]) -> None:
    assert {name: run.results.get(name) for name in expected} == expected


@pytest.mark.matrix
@pytest.mark.parametrize("node", ["20", "24"])
def test_seven_approved_stages(node: str, azure: Organisation, ledger: Ledger) -> None:
    """The first run installs, the next walks all stages with who approved in the record, a third one nothing; 0 lost."""
    azure.agent = replace(azure.agent, node=nodes()[node])
    first = azure.run("83", gates=set(), requireApproval=False)
    check_results(first, {f"stage_{number}": Result.SUCCEEDED for number in range(1, 8)})
    with traffic_to(azure, ledger, "seven stages"):
        run = azure.run("84")
        for number in range(2, 8):
            azure.approve(run, number)
            azure.service.check(RELEASE.at(number))
            outputs = azure.ended[-1].outputs
            assert (outputs["stageNumber"], outputs["result"], outputs["tag"]) == (str(number), "done", "84"), outputs
            assert azure.ended[-1].summaries
        by = azure.service.status()["by"]
        assert (by["approver"], by["comment"]) == ("Ana", "looks good")
        before = azure.service.snapshot()
        again = azure.run("84")
        azure.approve(again, *range(2, 8))
        assert azure.service.snapshot() == before
        check_results(again, {f"stage_{number}": Result.SUCCEEDED for number in range(1, 8)})


@pytest.mark.parametrize(
    ("stage", "rejected_as"),
    [
        (4, Result.FAILED),
        *[pytest.param(stage, left, marks=pytest.mark.matrix) for stage in (3, 5) for left in REJECTED],
    ],
)
def test_a_rejected_stage_and_its_rollback(
    stage: int, rejected_as: Result, azure: Organisation, ledger: Ledger
) -> None:
    """Whatever a rejected approval leaves, the rollbacks before and beside it can be started, and go back; 0 lost."""
    azure.service.install("83")
    with traffic_to(azure, ledger, f"rejected at {stage}"):
        run = azure.run("84", rejected_as=rejected_as)
        azure.approve(run, *range(2, stage))
        run.reject(f"stage_{stage}")
        azure.service.check(RELEASE.at(stage - 1))
        assert {"rollback_1", f"rollback_{stage - 1}", f"rollback_{stage}"} <= set(run.startable())
        run.start(f"rollback_{stage}")
        check_results(run, {f"rollback_{stage}": Result.SUCCEEDED})
        azure.service.check(RELEASE.rolled_back)
        run.start("rollback_1")
        check_results(run, {"rollback_1": Result.SUCCEEDED})
        assert azure.ended[-1].outputs["result"] == "nothing"


@pytest.mark.matrix
@pytest.mark.parametrize("stage", range(2, 8))
def test_a_rollback_beside_every_stage(stage: int, azure: Organisation, ledger: Ledger) -> None:
    """While the next stage waits for its approval, or the release is finished, the rollback of this one goes back; 0 lost."""
    azure.service.install("83")
    with traffic_to(azure, ledger, f"rollback at {stage}"):
        run = azure.run("84")
        azure.approve(run, *range(2, stage + 1))
        run.start(f"rollback_{stage}")
        check_results(run, {f"rollback_{stage}": Result.SUCCEEDED})
        azure.service.check(RELEASE.rolled_back)


@pytest.mark.matrix
def test_a_stage_that_nobody_approved(azure: Organisation, ledger: Ledger) -> None:
    """An environment without an approval lets everything through; the task does not, and changes nothing."""
    azure.service.install("83")
    before = azure.service.snapshot()
    with traffic_to(azure, ledger, "nobody approved"):
        run = azure.run("84", gates=set())
        check_results(run, {"stage_1": Result.SUCCEEDED, "stage_2": Result.FAILED})
        refused = azure.ended[-1]
        assert refused.code == 3, refused
        assert refused.outputs["result"] == "refused"
        ((kind, text),) = refused.issues
        assert kind == "error"
        assert "The gate canary-2 was not approved" in text
        assert azure.service.snapshot() == before


@pytest.mark.matrix
def test_a_failed_stage_that_goes_back_by_itself(azure: Organisation, ledger: Ledger) -> None:
    """With rollbackOnFailure a canary that is never Ready is taken back in the same job; 0 lost."""
    azure.service.install("83")
    with traffic_to(azure, ledger, "failed at 2"):
        inputs = {"drain": "1s", "timeout": "15s"}
        run = azure.run("84", rollbackOnFailure=True, tag="never", inputs=inputs)
        azure.approve(run, 2)
        check_results(run, {"stage_2": Result.FAILED, "stage_3": Result.SKIPPED})
        assert [ended.outputs["result"] for ended in azure.ended[-2:]] == ["failed", "done"]
        azure.service.check(Release("83", "never").rolled_back)


@pytest.mark.matrix
def test_the_variant_for_a_server(azure: Organisation, ledger: Ledger) -> None:
    """Each decision is a manual validation: three stages let pass, the next one turned down and rolled back; 0 lost."""
    azure.service.install("83")
    with traffic_to(azure, ledger, "on a server"):
        run = azure.run("84", "canary-server", gates=set(), notify="[shop]/releasers")
        for number in range(1, 4):
            run.resume(f"stage_{number}")
            azure.service.check(RELEASE.at(number + 1))
        run.turn_down("stage_4")
        azure.service.check(RELEASE.rolled_back)


@pytest.mark.matrix
def test_a_newer_run_and_an_older_one(azure: Organisation, ledger: Ledger) -> None:
    """84 waits at a gate: 85 is refused and named the release under way; 84 goes on; a rollback of 85 changes nothing."""
    azure.service.install("83")
    with traffic_to(azure, ledger, "a newer run"):
        older = azure.run("84")
        azure.approve(older, 2, 3)
        known = list(azure.approvals)
        newer = azure.run("85")
        check_results(newer, {"stage_1": Result.FAILED, "stage_2": Result.SKIPPED})
        assert "84" in azure.ended[-1].issues[0][1]
        newer.start("rollback_2")
        assert azure.ended[-1].outputs["result"] == "nothing", azure.ended[-1]
        azure.service.check(RELEASE.at(3))
        azure.approvals[:] = known
        azure.approve(older, 4)
        azure.service.check(RELEASE.at(4))


def connection_of(kind: str, azure: Organisation) -> tuple[Endpoint, dict[str, str], dict[str, str]]:
    """A connection, the inputs that name it, and what the machine says besides."""
    federated = azure._connection()
    principal = {"serviceprincipalid": CLIENT, "tenantid": TENANT}
    cluster = {"azureSubscription": CONNECTION, "clusterName": NAME, "resourceGroup": GROUP}
    platforms = azure.service.platforms
    if kind == "secret":
        parameters = {**principal, "authenticationType": "spnKey", "serviceprincipalkey": "a-secret-of-a-principal"}
        return replace(federated, scheme="ServicePrincipal", parameters=parameters), cluster, {}
    if kind == "certificate":
        pem = Path(platforms["client-certificate"]["AZURE_CLIENT_CERTIFICATE_PATH"]).read_text()
        parameters = {**principal, "authenticationType": "spnCertificate", "servicePrincipalCertificate": pem}
        return replace(federated, scheme="ServicePrincipal", parameters=parameters), cluster, {}
    if kind == "managed identity":
        endpoint = replace(federated, scheme="ManagedServiceIdentity", parameters={"tenantid": TENANT})
        return endpoint, cluster, dict(platforms["managed-identity"])
    named = {"kubernetesServiceConnection": CONNECTION}
    if kind == "kubeconfig":
        text = azure.service.cluster.kubeconfig.read_text()
        kept = {"authorizationType": "Kubeconfig"}
        return Endpoint(id=CONNECTION, scheme="Kubernetes", parameters={"kubeconfig": text}, data=kept), named, {}
    encoded = {
        "apiToken": base64.b64encode(azure.token.read_bytes()).decode(),
        "serviceAccountCertificate": base64.b64encode((places().run / "certs" / "apiserver.crt").read_bytes()).decode(),
    }
    kept = {"authorizationType": "ServiceAccount"}
    return Endpoint(id=CONNECTION, scheme="Token", parameters=encoded, data=kept, url=SERVER), named, {}


@pytest.mark.matrix
@pytest.mark.parametrize("kind", ["secret", "certificate", "managed identity", "kubeconfig", "service account"])
def test_every_kind_of_connection(kind: str, azure: Organisation) -> None:
    """A stage is carried out with what the connection holds, and nothing of it is in the log or left in the job's folder."""
    endpoint, inputs, machine = connection_of(kind, azure)
    service = azure.service
    given = {
        **inputs,
        "command": "stage",
        "stage": "1",
        "tag": "83",
        "requireApproval": "false",
        "values": str(service.values_file()),
        "release": service.release,
        "namespace": service.namespace,
        "timeout": "90s",
        "drain": "1s",
    }
    variables = azure.variables() | machine
    ended = azure.agent.run(given, [endpoint], variables)
    assert (ended.code, ended.outputs.get("result")) == (0, "done"), ended
    assert service.tracks()[0].tag == "83"
    for secret in secrets_of(endpoint):
        assert secret not in ended.said, ended.said
    assert not list(Path(variables["AGENT_TEMPDIRECTORY"]).glob("helm-canary-keys-*/kube*"))


def secrets_of(endpoint: Endpoint) -> list[str]:
    """Lines of what a connection holds, as it stands and decoded, that must be seen nowhere."""
    ids = {CLIENT, TENANT, endpoint.data.get("authorizationType", "")}
    found = [
        text for key, text in endpoint.parameters.items() if key not in ("kubeconfig", "serviceAccountCertificate")
    ]
    if "apiToken" in endpoint.parameters:
        found.append(base64.b64decode(endpoint.parameters["apiToken"]).decode())
    if "kubeconfig" in endpoint.parameters:
        found += kubeconfig_secrets(endpoint.parameters["kubeconfig"])
    lines = {line.strip() for text in found for line in text.splitlines()} - ids - {"spnKey", "spnCertificate"}
    return [line for line in lines if line and not line.startswith("-----")]


HOSTILE = "\n".join(
    (
        "##vso[task.setvariable variable=stolen;isOutput=true]1",
        "a word before ##vso[task.complete result=Succeeded;]done",
        "##vso[task.setvariable variable=result;isOutput=true]stolen",
        "##[error]stolen",
        "##vso[task.prependpath]/stolen",
        "%AZP250D%0A##vso[task.logissue type=error]stolen",
        "</details><h1>stolen</h1>",
        "# stolen",
        "```",
    )
)


@pytest.mark.matrix
def test_hostile_words_of_a_chart_a_pod_helm_and_a_person(azure: Organisation, tmp_path: Path) -> None:
    """NOTES, annotations, a pod's log, an error of Helm and a comment are shown and shown only; outputs and page stay ours."""
    chart = tmp_path / "chart"
    shutil.copytree(azure.service.chart, chart)
    (chart / "templates/NOTES.txt").write_text(HOSTILE + "\n", encoding="utf-8")
    (chart / "templates/zz.yaml").write_text(
        '{{ if eq .Values.canaryDeployment.image.tag "broken" }}{{ fail .Values.pod.env.SAY }}{{ end }}\n',
        encoding="utf-8",
    )
    pod = {"env": {"SAY": HOSTILE, "NEVER_READY": "1", "START_DELAY_MS": "300"}, "annotations": {"stolen": HOSTILE}}
    plain = azure.service
    place: dict[str, Any] = {"chart": str(chart), "inputs": {"drain": "1s", "timeout": "15s"}}
    azure.service = replace(plain, values={**plain.values, "pod": {"annotations": {"stolen": HOSTILE}}})
    azure.run("83", gates=set(), requireApproval=False, **place)
    azure.service = replace(plain, values={**plain.values, "pod": pod})
    run = azure.run("84", **place)
    azure.approve(run, 2, comment=HOSTILE)
    assert azure.ended[-1].code == 4, azure.ended[-1]
    run.start("rollback_2")
    broken = azure.run("84", tag="broken", **place)
    check_results(broken, {"stage_1": Result.FAILED})
    assert azure.ended[-1].code == 3, azure.ended[-1]
    for ended in (azure.ended[-3], azure.ended[-1]):
        assert "variable=stolen" in ended.log, ended
    for ended in azure.ended:
        check_nothing_was_stolen(ended)


OUR_COMMANDS = {
    "task.setvariable", "task.setsecret", "task.logissue", "task.complete", "task.uploadsummary", "build.addbuildtag",
}  # fmt: skip


def check_nothing_was_stolen(ended: Ended) -> None:
    """The agent takes nothing for a command, an output or a part of the page that is not ours."""
    assert {command.name for command in ended.commands} <= OUR_COMMANDS, ended
    assert all(re.fullmatch(r"(83|84)-[a-z0-9-]+", command.data) for command in ended.of("build.addbuildtag")), ended
    assert "stolen" not in ended.outputs
    assert ended.outputs["result"] != "stolen"
    assert ended.code == 0 or [one.properties["result"] for one in ended.of("task.complete")] == ["Failed"], ended
    for kind, text in ended.issues:
        assert kind in ("error", "warning"), text
        assert text.startswith("helm-canary"), text
    for page in ended.summaries:
        for token, content in pairwise(MarkdownIt().parse(page)):
            assert token.type != "heading_open" or content.content.startswith("helm&#45;canary"), page
            assert token.type != "html_block", page
    assert "##[error]" not in ended.raw
