"""The pipelines that users copy, expanded, with this repository in place of the one on GitHub."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.azure_pipelines.expander import expand

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pipelines/azure"
# Each file, with what a person gives who starts it.
PARAMETERS: dict[str, dict[str, Any]] = {
    "release": {},
    "release-kubeconfig": {"tag": "84"},
    "release-server": {"tag": "84"},
    "several-services": {},
    "rollback": {},
}
RELEASES = [name for name in PARAMETERS if name != "rollback"]


@lru_cache
def pipeline(name: str) -> dict[str, Any]:
    """One of them as it runs; not to be changed."""
    return expand(FOLDER / f"{name}.yml", PARAMETERS[name], repositories={"helm-canary": ROOT})
