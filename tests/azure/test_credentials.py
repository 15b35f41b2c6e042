"""The real SDK against Entra, Azure Resource Manager and the OIDC endpoints on loopback: every --auth, every kubeconfig."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.__main__ import read_arguments
from helm_canary.access import Outside, access
from helm_canary.azure_faults import AzureError
from helm_canary.errors import ToolError
from helm_canary.identities import AUTHS
from helm_canary.options import Options
from helm_canary.process import Processes
from tests.azure.program import CLUSTER, IDS
from tests.azure.servers import CANARY, SERVER_ID, TENANT, Azure
from tests.cli.program import check_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.azure.program import Runner

pytestmark = pytest.mark.timeout(120)
EVERY_AUTH = [auth.name for auth in AUTHS]


@pytest.mark.parametrize("auth", EVERY_AUTH)
def test_every_identity_gets_a_token(auth: str, azure: Azure, runner: Runner) -> None:
    """`token` prints an ExecCredential with a token for AKS's server application, whatever proves who asks."""
    ran = runner.run("token", auth=auth)

    assert ran.code == 0, ran
    assert ran.answer["kind"] == "ExecCredential"
    assert ran.answer["apiVersion"] == "client.authentication.k8s.io/v1beta1"
    assert ran.answer["status"]["token"] == azure.given[-1]
    if auth == "azure-cli":
        asked = (azure.folder / "bin" / "calls").read_text()
    else:
        asked = azure.seen[-1].form.get("scope") or azure.seen[-1].query["resource"]
    assert SERVER_ID in asked


@pytest.mark.parametrize("auth", EVERY_AUTH)
def test_every_identity_gets_a_kubeconfig(auth: str, azure: Azure, runner: Runner) -> None:
    """`credentials` asks Azure Resource Manager with the identity's own token, and for the exec form at a named version."""
    path = runner.folder / "config"
    ran = runner.run("credentials", *CLUSTER, "--write", str(path), auth=auth)

    assert ran.code == 0, ran
    [asked] = azure.asked("arm")
    assert asked.method == "POST"
    assert asked.path.endswith("/managedClusters/aks-shop/listClusterUserCredential")
    assert asked.query == {"api-version": "2025-10-01", "format": "exec"}
    assert asked.headers["Authorization"] == f"Bearer {azure.given[-1]}"
    assert path.stat().st_mode & 0o777 == 0o600
    assert CANARY not in path.read_text()


def test_a_written_kubeconfig_gets_its_token_by_itself(azure: Azure, runner: Runner) -> None:
    """kubectl with the written kubeconfig calls `helm-canary token`, and the API server takes what that gives."""
    path = runner.folder / "config"
    assert runner.run("credentials", *CLUSTER, "--write", str(path)).code == 0
    words = ["kubectl", "--kubeconfig", str(path), "get", "--raw", "/version"]
    done = subprocess.run(words, env=runner.whole("github-oidc"), capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "v1.32.4" in done.stdout
    assert azure.asked("api")[-1].headers["Authorization"] == f"Bearer {azure.given[-1]}"


def test_a_file_of_somebody_else_is_not_overwritten(azure: Azure, runner: Runner) -> None:
    """`--write` replaces a file that it wrote, and refuses any other, which may hold other clusters."""
    path = runner.folder / "config"
    path.write_text("apiVersion: v1\n")
    ran = runner.run("credentials", *CLUSTER, "--write", str(path))
    assert ran.code == 2
    assert path.read_text() == "apiVersion: v1\n"
    assert azure.seen == []

    path.unlink()
    assert [runner.run("credentials", *CLUSTER, "--write", str(path)).code for _ in range(2)] == [0, 0]


def test_a_cluster_with_local_accounts_is_written_with_admin_alone(azure: Azure, runner: Runner) -> None:
    """Credentials that give everything are written only where `--admin`, which the refusal names, accepts that."""
    azure.kind, path = "certificate", runner.folder / "config"
    ran = runner.run("credentials", *CLUSTER, "--write", str(path), "--output", "json")
    check_refusal(ran, 3, "refused", "has local accounts", "--admin")
    assert not path.exists()

    assert runner.run("credentials", *CLUSTER, "--write", str(path), "--admin").code == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_said(runner: Runner) -> None:
    """A file that cannot be written is wrong usage, and a path that can is all that is wanted."""
    folder = runner.folder / "there"
    words = ("credentials", *CLUSTER, "--write", str(folder / "config"), "--output", "json")
    check_refusal(runner.run(*words), 2, "usage", "cannot be written", "--write")

    folder.mkdir()
    assert runner.run(*words).code == 0


@pytest.mark.parametrize("asked", ["v1", "v1beta1"])
def test_the_answer_speaks_the_caller_s_version(asked: str, runner: Runner) -> None:
    """client-go takes an ExecCredential of the version that it asked in, and no other."""
    info = {
        "apiVersion": f"client.authentication.k8s.io/{asked}",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    ran = runner.run("token", KUBERNETES_EXEC_INFO=json.dumps(info))
    assert ran.answer["apiVersion"] == info["apiVersion"]


@dataclass
class Notes:
    """What a person would read, and what was masked."""

    lines: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)


def options(azure: Azure, *more: str, auth: str = "github-oidc") -> Options:
    words = [
        "status",
        "--release",
        "page",
        "--namespace",
        "shop",
        *CLUSTER,
        *IDS,
        "--cloud",
        azure.cloud,
        "--auth",
        auth,
    ]
    return read_arguments([*words, "--timeout", "20s", *more], {})


@pytest.fixture
def reach(azure: Azure, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The way to the cluster, inside this process; what it yields has a kubeconfig."""

    def opened(*more: str, auth: str = "github-oidc") -> Any:
        environment = runner.whole(auth)
        for name in ("REQUESTS_CA_BUNDLE", "NO_PROXY"):
            monkeypatch.setenv(name, environment[name])
        passed_on = {name: environment[name] for name in ("PATH", "HOME", "NO_PROXY")}
        processes, notes = Processes(environment=passed_on), Notes()
        outside = Outside(
            environment=environment, processes=processes, mask=notes.masked.append, note=notes.lines.append
        )
        return access(options(azure, *more, auth=auth), outside), processes, notes

    return opened


def version(kubeconfig: str) -> list[str]:
    return ["kubectl", "--kubeconfig", kubeconfig, "get", "--raw", "/version"]


@pytest.mark.parametrize("kind", ["exec", "auth-provider", "certificate"])
def test_every_kind_of_kubeconfig_reaches_the_cluster(kind: str, azure: Azure, reach: Callable[..., Any]) -> None:
    """kubectl reaches the API server with what is made of each kind, without kubelogin, from files that nobody else can read."""
    azure.kind = kind
    opened, processes, notes = reach()
    with opened as reached:
        folder = Path(reached.kubeconfig).parent
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert folder.stat().st_mode & 0o777 == 0o700
        assert set(modes.values()) == {0o600}
        assert ("token" in modes) == (kind != "certificate")
        assert "v1.32.4" in processes.run(version(reached.kubeconfig)).stdout
    assert not folder.exists()
    assert any("cluster admin's" in line for line in notes.lines) == (kind == "certificate")
    if kind == "certificate":
        assert f"{CANARY}-static-token" in notes.masked
        assert azure.client_key.decode() in notes.masked


def test_the_cluster_s_own_tenant_is_asked(azure: Azure, reach: Callable[..., Any]) -> None:
    """The token for the cluster comes from the tenant that the kubeconfig names, the one for Azure from the user's."""
    azure.tenant_of_cluster = "99999999-8888-7777-6666-555555555555"
    opened, *_ = reach()
    with opened:
        assert [seen.path.split("/")[1] for seen in azure.asked("entra")] == [TENANT, azure.tenant_of_cluster]


def test_admin_and_public_name_are_asked_only_when_spelled_out(azure: Azure, reach: Callable[..., Any]) -> None:
    """--admin takes the other operation, which knows no `format`; --public-fqdn asks for the public name."""
    azure.kind = "certificate"
    opened, *_ = reach("--admin", "--public-fqdn")
    with opened:
        [asked] = azure.asked("arm")
    assert asked.path.endswith("/listClusterAdminCredential")
    assert asked.query == {"api-version": "2025-10-01", "server-fqdn": "public"}


def test_a_token_that_expires_is_replaced(azure: Azure, reach: Callable[..., Any]) -> None:
    """While a command runs, the file gets a new token before the old one is of no use; a helm started later uses it."""
    azure.life_s = 3
    opened, processes, _ = reach()
    with opened as reached:
        token = Path(reached.kubeconfig).parent / "token"
        first = token.read_text()
        end = time.monotonic() + 60
        while token.read_text() == first and time.monotonic() < end:
            time.sleep(0.1)
        azure.refused.add(first)
        assert token.read_text() != first
        assert token.stat().st_mode & 0o777 == 0o600
        assert "v1.32.4" in processes.run(version(reached.kubeconfig)).stdout
    assert len(azure.asked("oidc")) >= 3, "each token takes a new assertion"


def test_a_token_that_the_server_refuses_is_replaced(azure: Azure, reach: Callable[..., Any]) -> None:
    """After a rotation the API server answers 401 to a token that has time left: a new one is fetched, and kubectl run again."""
    opened, processes, _ = reach()
    with opened as reached:
        azure.refused.add((Path(reached.kubeconfig).parent / "token").read_text())
        assert "v1.32.4" in processes.run(version(reached.kubeconfig)).stdout


def test_reads_that_are_refused_side_by_side_all_go_on(azure: Azure, reach: Callable[..., Any]) -> None:
    """Of several reads that meet a refused token at once, one fetches a new one, and all are run again with it."""
    opened, processes, _ = reach()
    with opened as reached, ThreadPoolExecutor(4) as pool:
        azure.refused.add((Path(reached.kubeconfig).parent / "token").read_text())
        said = list(pool.map(lambda _: processes.run(version(reached.kubeconfig)).stdout, range(4)))
    assert all("v1.32.4" in text for text in said)
    assert len(azure.asked("oidc")) == 3, "one token for Azure, one for the cluster, and one in place of it"


def test_a_token_that_cannot_be_replaced_is_said_so(azure: Azure, reach: Callable[..., Any]) -> None:
    """An API server that takes none of the identity's tokens is an error about the token, with its own code."""
    opened, processes, _ = reach()
    with pytest.raises(AzureError) as raised, opened as reached:  # noqa: PT012 - what is raised inside is explained outside
        azure.refused.update(f"{CANARY}-access-{number}" for number in range(20))
        processes.run(version(reached.kubeconfig))
    assert raised.value.code == "token-refused"


def test_a_token_that_expired_and_was_not_renewed_is_said_so(azure: Azure, reach: Callable[..., Any]) -> None:
    """Where Entra has gone away since the start, the error is about that and says that the run can be taken up again."""
    opened, processes, _ = reach("--timeout", "2s")
    with pytest.raises(AzureError) as raised, opened as reached:  # noqa: PT012 - what is raised inside is explained outside
        azure.faults["entra"] = [{"status": 503, "forever": True}]
        azure.refused.update(azure.given)
        processes.run(version(reached.kubeconfig))
    assert raised.value.code == "token-not-renewed"
    assert "Entra" in raised.value.means


UNREACHABLE = (
    ("no-kubernetes-role", "exec", "https://HOST:443", "Running", "pods is forbidden: User cannot list resource"),
    (
        "private-cluster",
        "exec",
        "https://aks.1b2c.privatelink.westeurope.azmk8s.io:443",
        "Running",
        "lookup x: no such host",
    ),
    ("cluster-stopped", "exec", "https://aks-1b2c.hcp.westeurope.azmk8s.io:443", "Stopped", "lookup x: no such host"),
    ("host-unknown", "exec", "https://aks-1b2c.hcp.westeurope.azmk8s.io:443", "Running", "lookup x: no such host"),
)


@pytest.mark.parametrize(
    ("code", "kind", "server", "power", "stderr"), UNREACHABLE, ids=[case[0] for case in UNREACHABLE]
)
def test_what_kubectl_met_is_explained(
    code: str, kind: str, server: str, power: str, stderr: str, azure: Azure, reach: Callable[..., Any]
) -> None:
    """A failure of kubectl that the identity or the cluster's state is behind says which, and what to do."""
    azure.kind, azure.api_server, azure.power = kind, server, power
    opened, *_ = reach()
    with pytest.raises(AzureError) as raised, opened:
        raise ToolError("kubectl failed", stderr=stderr)
    assert raised.value.code == code
    assert raised.value.exit_code == 3
    assert raised.value.means
    assert raised.value.do_next
    assert "?" not in raised.value.text.replace("query", "")


def test_auto_prints_its_choice(azure: Azure, runner: Runner) -> None:
    """`auto` takes the first identity whose variables exist, says which, and asks nothing of the network to find it."""
    process = subprocess.run(
        [sys.executable, "-m", "helm_canary", "token", "--cloud", azure.cloud, *IDS],
        env=runner.whole("client-secret"), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "--auth auto: client-secret, since AZURE_CLIENT_SECRET is set" in process.stderr
    assert azure.asked("oidc") == []


def test_auto_that_finds_nothing_says_what_it_looked_for(azure: Azure, runner: Runner) -> None:
    """Without any variable `auto` asks nobody: no request, one error, nothing on standard output."""
    process = subprocess.run(
        [sys.executable, "-m", "helm_canary", "token", "--cloud", azure.cloud, *IDS],
        env=runner.whole("azure-cli"), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 3
    assert process.stdout == ""
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" in process.stderr
    assert azure.seen == []
