"""What credentials of AKS cost: processes from start to end against servers on loopback, with the SDK and by plain requests.

python -m bench.credentials [--rounds 12]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.azure.program import CLUSTER, IDS
from tests.azure.servers import CLIENT, GROUP, NAME, SERVER_ID, SUBSCRIPTION, TENANT, Azure, serving

ROOT = Path(__file__).resolve().parents[1]
PLAIN = f"""\
import base64, os, requests
audience = "&audience=api%3A%2F%2FAzureADTokenExchange"
job = {{"Authorization": "Bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]}}
base = os.environ["AT"]
def token(scope):
    assertion = requests.get(os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + audience, headers=job).json()["value"]
    form = {{"client_id": "{CLIENT}", "scope": scope, "grant_type": "client_credentials", "client_assertion": assertion,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}
    return requests.post(base + "/{TENANT}/oauth2/v2.0/token", data=form).json()["access_token"]
path = ("/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerService/managedClusters/{NAME}"
        "/listClusterUserCredential?api-version=2025-10-01&format=exec")
bearer = {{"Authorization": "Bearer " + token(base + "/.default")}}
base64.b64decode(requests.post(base + path, headers=bearer).json()["kubeconfigs"][0]["value"])
token("{SERVER_ID}/.default")
"""


def cases(azure: Azure, folder: Path) -> Mapping[str, Sequence[str]]:
    """Name -> the process; the first ones are what the others hold."""
    ours = ("-m", "helm_canary")
    given = ("--auth", "github-oidc", "--cloud", azure.cloud, *IDS)
    return {
        "python": ("-c", ""),
        "import requests": ("-c", "import requests"),
        "import the SDK": ("-c", "import azure.identity, azure.mgmt.containerservice"),
        "helm-canary --help": (*ours, "--help"),
        "helm-canary token": (*ours, "token", *given),
        "helm-canary credentials": (*ours, "credentials", *CLUSTER, "--write", str(folder / "config"), *given),
        "the same three answers by plain requests": ("-c", PLAIN),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as azure:
        environment = {"PATH": os.environ["PATH"], "HOME": name, "TMPDIR": name, "PYTHONPATH": str(ROOT / "src"),
                       "AT": azure.secure, **azure.environment("github-oidc")}  # fmt: skip
        times: dict[str, list[float]] = {}
        for _ in range(rounds + 1):
            for label, words in cases(azure, Path(name)).items():
                began = time.monotonic()
                subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, timeout=60)
                times.setdefault(label, []).append((time.monotonic() - began) * 1000)
    print(f"{'':<42}{'median':>8}{'min':>8}{'max':>8}  ms, {rounds} rounds, interleaved")
    for label, values in times.items():
        # The first round fills caches.
        kept = values[1:]
        print(f"{label:<42}{statistics.median(kept):>8.0f}{min(kept):>8.0f}{max(kept):>8.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
