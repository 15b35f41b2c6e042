"""A managed identity of a virtual machine, whose tokens come from the metadata service at its own link-local address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.azure.imds import PATH, isolated
from tests.azure.program import ROOT
from tests.azure.servers import CANARY, CLIENT, SERVER_ID, TENANT
from tests.cli.program import Ran

NEEDED = sys.platform == "linux" and os.geteuid() == 0 and all(map(shutil.which, ("unshare", "ip")))
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not NEEDED, reason="a network of its own needs root on Linux, unshare and ip"),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the program said, and what the metadata service was asked for."""

    ran: Ran
    requests: list[dict[str, Any]]


def token(folder: Path, fault: str, *more: str) -> Asked:
    words = (sys.executable, "-m", "helm_canary", "token", "--auth", "managed-identity", *more)
    environment = {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        isolated(fault, *words), env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    *said, last = done.stderr.splitlines() or [""]
    assert last.startswith("["), done.stderr
    return Asked(ran=Ran(code=done.returncode, stdout=done.stdout, stderr="\n".join(said)), requests=json.loads(last))


@pytest.mark.parametrize("more", [(), ("--client-id", CLIENT, "--tenant-id", TENANT)], ids=["system", "user"])
def test_a_virtual_machine_s_identity_gets_a_token(more: tuple[str, ...], tmp_path: Path) -> None:
    """The machine's own identity, or the one of --client-id, gets a token for AKS's server application."""
    asked = token(tmp_path, "none", *more)

    assert asked.ran.code == 0, asked
    assert json.loads(asked.ran.stdout)["status"]["token"] == f"{CANARY}-imds"
    last = asked.requests[-1]
    assert (last["path"], last["marked"]) == (PATH, True)
    assert last["query"]["resource"].startswith(SERVER_ID)
    assert last["query"].get("client_id") == (CLIENT if more else None)


def test_a_throttled_metadata_service_is_asked_again(tmp_path: Path) -> None:
    """It answers 429 twice and then with a token."""
    asked = token(tmp_path, "throttled")

    assert asked.ran.code == 0, asked
    assert sum(1 for one in asked.requests if one["marked"]) == 3


@pytest.mark.parametrize("fault", ["away", "no-identity"])
def test_a_machine_without_an_identity_is_told_so(fault: str, tmp_path: Path) -> None:
    """Nobody at the address, or nobody who knows an identity: refused within the time limit, with what it means."""
    asked = token(tmp_path, fault, "--timeout", "20s")

    assert asked.ran.code == 3, asked
    assert "This machine has no managed identity" in asked.ran.stderr
    assert CANARY not in asked.ran.stderr
