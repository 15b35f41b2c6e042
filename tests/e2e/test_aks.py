"""Credentials from Azure, in front of a real API server: fetched, checked by it, renewed in the middle of a stage.

Azure's part is played by servers on loopback under the real SDK; the tokens are the API server's own (of a ServiceAccount, bound
to a Secret), so that it takes them as long as they are good, and refuses them once the Secret is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.azure.program import Sampler
from tests.azure.servers import CLIENT, GROUP, NAME, SUBSCRIPTION, TENANT
from tests.cluster.places import places

from .conftest import Lab
from .service import ROOT, Service, Started
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
# An address that the API server's certificate has, so that it is checked as AKS's would be.
SERVER = "https://127.0.0.1:6443"
ACCOUNT = "deployer"
# So long an API server takes a token that it has looked up before.
KNOWN_FOR_S = 12.0
# By then helm has read its token, and has not ended.
IN_HELM_S = 0.2


@dataclass(frozen=True)
class OnAks(Service):
    """The same service, whose commands get their credentials from Azure and nothing else."""

    platform: Mapping[str, str] = field(default_factory=dict)
    # Where Entra and the Resource Manager are, and what a CI's variables are to a step, by --auth.
    azure_url: str = ""
    platforms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in super()._environment().items() if name != "KUBECONFIG"}
        return {**environment, **self.platform}

    def waiting_stage(self, stage: int, tag: str) -> Started:
        started = self.start_stage(stage, tag)
        started.wait_for_line("waiting")
        return started


@dataclass(frozen=True)
class Account:
    """A ServiceAccount of the namespace that may do everything, and tokens of it that can be made worthless."""

    service: Service
    token: Path

    def issue(self, secret: str) -> None:
        """A new token into the file that Entra gives out, good for as long as the Secret is there."""
        self.service.kubectl("create", "secret", "generic", secret)
        bound = ("--bound-object-kind", "Secret", "--bound-object-name", secret)
        self.token.write_text(self.service.kubectl("create", "token", ACCOUNT, *bound))

    def revoke(self, secret: str) -> None:
        self.service.kubectl("delete", "secret", secret)


@contextlib.contextmanager
def on_aks(lab: Lab, folder: Path, kind: str = "exec", life_s: int = 3600) -> Iterator[tuple[OnAks, Account]]:
    """A service in a namespace of its own on a cluster that pretends to be AKS."""
    plain = lab.service()
    token, temporary = folder / "token", folder / "temp"
    temporary.mkdir()
    account = Account(plain, token)
    plain.kubectl("create", "serviceaccount", ACCOUNT)
    account.issue("first")
    whole = f"--serviceaccount={plain.namespace}:{ACCOUNT}"
    plain.cluster.kubectl("create", "clusterrolebinding", plain.namespace, "--clusterrole=cluster-admin", whole)
    authority = places().run / "certs" / "apiserver.crt"
    words = [
        sys.executable,
        "-m",
        "tests.azure.servers",
        str(folder),
        kind,
        SERVER,
        str(authority),
        str(token),
        str(life_s),
    ]
    servers = subprocess.Popen(plain.cluster.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=plain.cluster.environment(), cwd=ROOT)  # fmt: skip
    try:
        assert servers.stdout is not None
        said = json.loads(servers.stdout.readline())
        aks = ("--cluster-name", NAME, "--resource-group", GROUP, "--subscription", SUBSCRIPTION, "--client-id", CLIENT,
               "--tenant-id", TENANT, "--cloud", said["cloud"], "--auth", "github-oidc")  # fmt: skip
        platform = said["environments"]["github-oidc"] | {"RUNNER_TEMP": str(temporary)}
        yield OnAks(plain.cluster, plain.namespace, plain.folder, values=plain.values, options=(*plain.options, *aks),
                    platform=platform, azure_url=said["url"], platforms=said["environments"]), account  # fmt: skip
        assert list(temporary.iterdir()) == [], "every command took its credentials away with it"
    finally:
        servers.communicate("", timeout=30)
        plain.cluster.kubectl("delete", "clusterrolebinding", plain.namespace)
        lab.delete(plain.namespace)


@pytest.mark.parametrize("kind", [
    "exec", pytest.param("auth-provider", marks=pytest.mark.matrix), pytest.param("certificate", marks=pytest.mark.matrix),
])  # fmt: skip
def test_a_release_with_credentials_of_aks(kind: str, lab: Lab, tmp_path: Path) -> None:
    """From an OIDC token of the CI to a stage that is carried out and rolled back: no kubeconfig was given."""
    release = Release("83", "84")
    with on_aks(lab, tmp_path, kind) as (service, account):
        service.install("83")
        service.stage(2, "84").expect(0, "done")
        service.check(release.at(2))
        service.rollback().expect(0, "done")
        service.check(release.rolled_back)
        token = account.token.read_text()
        run = service.stage(2, "84").expect(0, "done")
        assert token not in run.text


@pytest.mark.parametrize("life_s", [5, pytest.param(3600, marks=pytest.mark.matrix)], ids=["expires", "refused"])
def test_a_token_that_dies_in_mid_wait(life_s: int, lab: Lab, tmp_path: Path) -> None:
    """While a stage waits for pods its token becomes worthless, with and without notice: the stage goes on with another."""
    with on_aks(lab, tmp_path, life_s=life_s) as (service, account):
        service.install("83")
        started = service.waiting_stage(2, "late")
        account.issue("second")
        if life_s < 60:
            time.sleep(life_s)
        account.revoke("first")
        started.end().expect(0, "done")
        service.check(Release("83", "late").at(2))


@pytest.mark.matrix
def test_a_token_that_is_refused_in_the_middle_of_helm(lab: Lab, tmp_path: Path) -> None:
    """A token that becomes worthless while a `helm upgrade` runs, which has read it already: planned anew with another one."""
    with on_aks(lab, tmp_path) as (service, account):
        service.install("83")
        started = service.start_stage(2, "84")
        started.wait_for_line(r"\$ helm upgrade")
        while not (helm := started.helm()):
            time.sleep(0.01)
        time.sleep(IN_HELM_S)
        os.kill(helm, signal.SIGSTOP)
        account.issue("second")
        account.revoke("first")
        time.sleep(KNOWN_FOR_S)
        os.kill(helm, signal.SIGCONT)
        run = started.end().expect(0, "done")
        assert "refused Helm's token" in run.said, run.text
        service.check(Release("83", "84").at(2))


@pytest.mark.matrix
def test_a_token_that_dies_for_good_after_the_first_write(lab: Lab, tmp_path: Path) -> None:
    """Where no other token is to be had the release stops and says why; another run brings it to its end."""
    with on_aks(lab, tmp_path) as (service, account):
        service.install("83")
        started = service.waiting_stage(2, "late")
        account.revoke("first")
        run = started.end()
        assert run.code == 5, run.text
        assert run.answer["traffic"] == "unknown", run.text
        assert run.answer["error"]["code"] in ("token-refused", "token-not-renewed"), run.text
        account.issue("second")
        service.stage(2, "late").expect(0, "done")
        service.check(Release("83", "late").at(2))


def test_no_secret_is_seen_through_a_whole_stage(lab: Lab, tmp_path: Path) -> None:
    """With the CI's debug switch on, a stage that fetches charts and credentials shows no token to a neighbour or in the log."""
    with on_aks(lab, tmp_path) as (plain, account):
        files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        loud = replace(plain, platform={**plain.platform, **files, "RUNNER_DEBUG": "1", "GITHUB_ACTIONS": "true"})
        loud.install("83")
        started = loud.start_stage(2, "84")
        with Sampler(started.process.pid) as sampler:
            run = started.end().expect(0, "done")
        secrets = (account.token.read_text(), plain.platform["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
        for secret in secrets:
            assert f"::add-mask::{secret}\n" in run.said
        unmasked = "".join(line for line in run.said.splitlines(keepends=True) if not line.startswith("::add-mask::"))
        helms = [words for words in sampler.arguments if words.startswith("helm\0upgrade")]
        assert helms, "the upgrades were seen"
        published = [Path(name).read_text() for name in files.values()]
        assert all(published)
        seen = (unmasked, json.dumps(run.answer), *published, *sampler.arguments, *sampler.environments)
        assert not [text for text in seen for secret in secrets if secret in text]


def test_rights_that_are_missing_inside_the_cluster(lab: Lab, tmp_path: Path) -> None:
    """An identity that may fetch credentials and nothing more is told that the second of the two roles is missing."""
    with on_aks(lab, tmp_path) as (service, _):
        service.cluster.kubectl("delete", "clusterrolebinding", service.namespace)
        try:
            run = service.start("status").end().expect(3, "refused")
        finally:
            binding = f"--serviceaccount={service.namespace}:{ACCOUNT}"
            service.cluster.kubectl("create", "clusterrolebinding", service.namespace, "--clusterrole=view", binding)
        assert run.answer["error"]["code"] == "no-kubernetes-role"
        assert "RoleBinding" in run.answer["error"]["do-next"]
