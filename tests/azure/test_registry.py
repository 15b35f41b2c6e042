"""Charts from a registry: helm logs in with the identity, in a file of this run's own. The real helm, a registry on loopback."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.azure.program import Runner, Sampler
from tests.azure.servers import CANARY, TENANT, Azure
from tests.cli.program import CHART, Ran, check_refusal
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def chart(azure: Azure, runner: Runner, tmp_path: Path) -> str:
    """The project's chart in the registry."""
    helm = ensure("helm")["helm"]
    runner.path = f"{helm.parent}:{runner.path}"
    subprocess.run([helm, "package", str(CHART), "--version", "1.2.3", "--destination", str(tmp_path)], check=True,
                   capture_output=True, timeout=60)  # fmt: skip
    [archive] = tmp_path.glob("*.tgz")
    return azure.publish("productpage", "1.2.3", archive.read_bytes())


def plan(runner: Runner, chart: str, *more: str, **variables: str) -> Ran:
    words = (
        "plan",
        "2",
        "--release",
        "page",
        "--tag",
        "84",
        "--from",
        "83",
        "--chart",
        chart,
        "--chart-version",
        "1.2.3",
    )
    return runner.run(*words, *more, **variables)


def test_a_chart_is_taken_from_the_registry(azure: Azure, runner: Runner, chart: str) -> None:
    """helm renders the chart of an ACR after a login with the identity's refresh token; no login is left behind."""
    ran = plan(runner, chart)

    assert ran.code == 0, ran
    assert "helm upgrade page oci://" in ran.stdout
    [exchange] = [seen for seen in azure.asked("registry") if seen.path == "/oauth2/exchange"]
    assert exchange.form["grant_type"] == "access_token"
    assert exchange.form["access_token"] in azure.given
    assert exchange.form["tenant"] == TENANT
    assert f"https://{exchange.form['service']}" == azure.secure
    # helm hands the password on as an OAuth refresh token, or as basic authentication, as the registry's challenge has it.
    assert any("/manifests/" in seen.path for seen in azure.asked("registry"))
    assert list(runner.temporary.iterdir()) == []
    assert not list((runner.folder / "home").rglob("*registry*json"))


def test_the_password_is_on_standard_input(azure: Azure, runner: Runner, chart: str) -> None:
    """Neither the arguments nor the environment of helm hold the password, of ACR or of another registry."""
    process = runner.start("plan", "2", "--release", "page", "--tag", "84", "--from", "83", "--chart", chart,
                           "--chart-version", "1.2.3",
                           auth="client-secret", HELM_CANARY_REGISTRY_USER="ci",
                           HELM_CANARY_REGISTRY_PASSWORD=f"{CANARY}-registry-password")  # fmt: skip
    with Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate(timeout=100)

    assert process.returncode == 0, stderr
    assert any("registry\0login" in words for words in sampler.arguments)
    assert not any(CANARY in text for text in (*sampler.arguments, *sampler.environments, stdout, stderr))
    sent = [seen.headers.get("Authorization", "") for seen in azure.asked("registry")]
    expected = base64.b64encode(f"ci:{CANARY}-registry-password".encode()).decode()
    assert f"Basic {expected}" in sent
    assert azure.asked("entra") == [], "a user's own password needs no identity"


def test_a_registry_that_refuses_names_the_role(azure: Azure, runner: Runner, chart: str) -> None:
    """An identity without AcrPull is told so, before anything else is done."""
    azure.faults["registry"] = [{"status": 401, "json": {"errors": [{"code": "UNAUTHORIZED"}]}, "forever": True}]
    ran = plan(runner, chart, "--output", "json")
    check_refusal(ran, 3, "refused", "AcrPull")
    assert ran.answer["error"]["code"] == "registry-refused"


def test_a_registry_that_is_away_is_tried_again(azure: Azure, runner: Runner, chart: str) -> None:
    """A 503 passes; one for ever ends at the deadline with its own code."""
    azure.faults["registry"] = [{"status": 503}]
    assert plan(runner, chart).code == 0

    azure.faults["registry"] = [{"status": 503, "forever": True}]
    ran = plan(runner, chart, "--output", "json", "--timeout", "4s")
    check_refusal(ran, 3, "refused", "503")
    assert ran.answer["error"]["code"] == "registry-away"
