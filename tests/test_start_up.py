"""What the program loads: a start that only prints must not pay for what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
TRACE = """\
import json, sys
from helm_canary.__main__ import main
code = 0
try:
    code = main(json.loads(sys.argv[1]))
except SystemExit as ended:
    code = ended.code or 0
sys.stderr.write("\\n" + json.dumps({"code": code, "modules": sorted(sys.modules)}))
"""
HEAVY = {"requests", "urllib3", "azure", "msal", "cryptography"}


def loaded(arguments: Sequence[str], path: str = "") -> set[str]:
    """The top-level names of what a run has imported."""
    words = [sys.executable, "-c", TRACE, json.dumps([*arguments])]
    done = subprocess.run(words, env={"PYTHONPATH": str(ROOT / "src"), "PATH": path, "HOME": "/"},
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["code"] == 0, done.stderr
    return {name.split(".")[0] for name in told["modules"]}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["stage", "--help"], ["verify", "--help"], ["--version"]], ids=" ".join
)
def test_help_loads_next_to_nothing(arguments: list[str]) -> None:
    """`--help` loads no YAML, no HTTP and no cloud library, and starts no process."""
    names = loaded(arguments)

    assert names & (HEAVY | {"yaml", "subprocess", "tempfile", "concurrent", "difflib"}) == set()


def test_a_plan_without_a_cluster_loads_no_http_and_no_cloud() -> None:
    """`plan --from` renders a chart, and needs helm and YAML for that and nothing else."""
    helm = ensure("helm")["helm"]
    chart = ("--release", "page", "--chart", str(ROOT / "charts/productpage"))

    names = loaded(["plan", "all", *chart, "--tag", "84", "--from", "83"], str(helm.parent))

    assert names & HEAVY == set()


def test_wrong_input_loads_no_more_than_help() -> None:
    """A usage error is told without loading what a command would need."""
    words = [sys.executable, "-X", "importtime", "-m", "helm_canary", "stage", "9"]
    done = subprocess.run(
        words, env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""}, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    modules = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
    assert modules & (HEAVY | {"yaml"}) == set()


def test_a_usage_error_of_aks_loads_no_cloud() -> None:
    """What is wrong with the options of AKS is told without the SDK."""
    words = ["-X", "importtime", "-m", "helm_canary", "status", "--release", "page", "--cluster-name", "aks-shop"]
    done = subprocess.run(
        [sys.executable, *words],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    modules = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
    assert modules & (HEAVY | {"yaml"}) == set()
