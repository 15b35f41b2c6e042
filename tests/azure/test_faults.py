"""What is refused and what breaks between a pipeline and its cluster: an own code for each, in time, and nothing touched."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.__main__ import main
from helm_canary.azure_faults import FAULTS
from helm_canary.identities import AUTHS
from tests.azure.program import CLUSTER, IDS
from tests.azure.servers import CANARY, Azure, cases
from tests.cli.program import Ran, check_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.azure.program import Runner

pytestmark = pytest.mark.timeout(60)
REFUSALS, NETWORK = cases("refusals"), cases("network")
LIMIT_S = 6


@pytest.fixture
def credentials(
    azure: Azure, runner: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """`credentials --write`, inside this process."""
    monkeypatch.setattr("helm_canary.__main__._listen", lambda processes: None)

    def run(*more: str, auth: str, **variables: str) -> Ran:
        environment = runner.whole(auth, **variables)
        monkeypatch.setattr("os.environ", environment)
        for name in ("REQUESTS_CA_BUNDLE", "NO_PROXY", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            if name in environment:
                monkeypatch.setenv(name, environment[name])
        words = ["credentials", *CLUSTER, *IDS, "--cloud", azure.cloud, "--auth", auth, "--output", "json"]
        code = main([*words, "--write", str(runner.folder / "config"), "--timeout", f"{LIMIT_S}s", *more])
        said = capsys.readouterr()
        return Ran(code=code, stdout=said.out, stderr=said.err)

    return run


def published(case: dict[str, Any]) -> dict[str, Any]:
    """The answer of a case, in the form in which Entra and Azure Resource Manager publish theirs."""
    body = case.get("body", {})
    if "entra" in case:
        body = {
            "error": "invalid_client",
            "error_description": case["says"] + " Trace ID: 0 Correlation ID: 0 Timestamp: 2026-11-23 15:00:00Z",
            "error_codes": [case["entra"]],
            "timestamp": "2026-11-23 15:00:00Z",
            "trace_id": "0",
            "correlation_id": "0",
            "error_uri": f"https://login.microsoftonline.com/error?code={case['entra']}",
        }
    elif "arm" in case:
        body = {"error": {"code": case["arm"], "message": case["says"]}}
    return {"status": case.get("status", 401), "json": body, "skew": case.get("skew", 0)}


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case["case"])
def test_a_refusal_has_its_own_code(case: dict[str, Any], azure: Azure, credentials: Callable[..., Ran]) -> None:
    """Each refusal is told in three parts that send a person to the right place, and is not tried again."""
    azure.faults[case["where"]] = [{**published(case), "forever": True}]
    ran = credentials(*case.get("more", []), auth=case.get("auth", "github-oidc"))

    check_refusal(ran, 3, "refused", *case["needles"])
    assert ran.answer["error"]["code"] == case["code"]
    assert CANARY not in ran.stdout + ran.stderr
    # A credential of msal's asks where to ask first.
    assert len([seen for seen in azure.asked(case["where"]) if seen.method == "POST" or case["where"] == "oidc"]) <= 1


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case["case"])
def test_what_was_corrected_at_azure_is_all_that_stood_in_the_way(
    case: dict[str, Any], azure: Azure, runner: Runner, credentials: Callable[..., Ran]
) -> None:
    """Once Azure answers as it does where the advice was taken there, the same command writes its file."""
    auth, path = case.get("auth", "github-oidc"), runner.folder / "config"
    azure.faults[case["where"]] = [{**published(case), "forever": True}]
    assert credentials(*case.get("more", []), auth=auth).code == 3
    assert not path.exists()

    azure.faults.clear()
    assert credentials(*case.get("more", []), auth=auth).code == 0
    assert path.exists()


@pytest.mark.parametrize("case", NETWORK, ids=lambda case: case["case"])
def test_what_breaks_ends_in_time(
    case: dict[str, Any], azure: Azure, runner: Runner, credentials: Callable[..., Ran]
) -> None:
    """What passes is tried again; what does not ends within the deadline, with its own code, and nothing is written."""
    azure.faults[case["where"]] = list(case["faults"])
    began = time.monotonic()
    ran = credentials(auth=case.get("auth", "github-oidc"))

    # The deadline is each operation's: a token, then the kubeconfig.
    assert time.monotonic() - began < 2 * LIMIT_S + 3
    assert (runner.folder / "config").exists() == (ran.code == 0)
    if "code" not in case:
        assert ran.code == 0, ran
        assert len(azure.asked(case["where"])) > 1
        return
    check_refusal(ran, 3, "refused", *case.get("needles", []))
    assert ran.answer["error"]["code"] == case["code"], ran


def test_a_certificate_that_is_not_trusted_is_said_so(
    azure: Azure, credentials: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that reads along is named as what it is, not tried again."""
    azure.ca = azure.folder / "other.pem"
    azure.ca.write_bytes(azure.client_pem)
    ran = credentials(auth="github-oidc")
    check_refusal(ran, 3, "refused", "REQUESTS_CA_BUNDLE")
    assert ran.answer["error"]["code"] == "tls-not-trusted"


MISSING = [(auth.name, name) for auth in AUTHS for name in auth.needs]


@pytest.mark.parametrize(("auth", "name"), MISSING, ids=[name for _, name in MISSING])
def test_a_variable_that_is_missing_is_named(
    auth: str, name: str, azure: Azure, credentials: Callable[..., Ran]
) -> None:
    """An identity that lacks what it needs says what and why, before anybody is asked."""
    ran = credentials(auth=auth, **{name: ""})
    check_refusal(ran, 3, "refused", name)
    assert ran.answer["error"]["code"] == "no-variable"
    assert azure.seen == []


UNUSABLE = (
    ("workload-identity", "AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token", "no-file"),
    ("client-certificate", "AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere/client.pem", "no-file"),
    ("client-certificate", "AZURE_CLIENT_CERTIFICATE_PATH", __file__, "certificate-unusable"),
)


@pytest.mark.parametrize(("auth", "name", "value", "code"), UNUSABLE, ids=[f"{case[0]} {case[3]}" for case in UNUSABLE])
def test_a_file_that_is_no_use_is_named(
    auth: str, name: str, value: str, code: str, azure: Azure, credentials: Callable[..., Ran]
) -> None:
    """A file that is not there, or holds something else, is an error about the variable that names it."""
    ran = credentials(auth=auth, **{name: value})
    check_refusal(ran, 3, "refused", name)
    assert ran.answer["error"]["code"] == code
    assert azure.asked("arm") == []


@pytest.mark.parametrize("code", sorted(FAULTS))
def test_every_fault_says_three_things(code: str) -> None:
    """What happened, what it means, what to do: each a sentence or more."""
    assert all(len(part) > 2 for part in FAULTS[code])
