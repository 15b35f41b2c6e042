"""A kubeconfig that a CI keeps as a secret."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm_canary.access import Outside, access
from helm_canary.errors import UsageError
from helm_canary.options import Command, Options, gather, resolve
from helm_canary.process import Processes

TOKEN, KEY, OTHER = "c4n4ry-token-of-a-user", "YzRuNHJ5LWtleQ==", "c4n4ry-refresh-token"
BODY = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "shop",
    "clusters": [{"name": "shop", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "contexts": [{"name": "shop", "context": {"cluster": "shop", "user": "one"}}],
    "users": [
        {"name": "one", "user": {"token": TOKEN, "client-key-data": KEY}},
        {"name": "two", "user": {"auth-provider": {"name": "oidc", "config": {"refresh-token": OTHER}}}},
        {"name": "three", "user": None},
    ],
}
PLAIN = yaml.safe_dump(BODY)
ENCODED = base64.encodebytes(PLAIN.encode()).decode()


def options(**more: str) -> Options:
    return resolve(Command.STATUS, "", gather({"release": "shop", **more}, {}))


def outside(given: str, folder: Path, masked: list[str]) -> Outside:
    environment = {"HELM_CANARY_KUBECONFIG_DATA": given, "RUNNER_TEMP": str(folder)}
    return Outside(environment=environment, processes=Processes(environment={}), mask=masked.append, note=masked.append)


@pytest.mark.parametrize("given", [PLAIN, ENCODED], ids=["as it is", "as base64"])
def test_it_is_a_private_file_for_as_long_as_the_command_runs(given: str, tmp_path: Path) -> None:
    """Mode 0600 in a folder of mode 0700, every secret in it masked, gone at the end."""
    masked: list[str] = []
    with access(options(), outside(given, tmp_path, masked)) as reached:
        path = Path(reached.kubeconfig)
        assert yaml.safe_load(path.read_text()) == BODY
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(tmp_path.iterdir()) == []
    assert {TOKEN, KEY, OTHER} <= set(masked)


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ("c4n4ry", {}, "does not hold a kubeconfig"),
        ("users: 3", {}, "does not hold a kubeconfig"),
        ("{c4n4ry: [", {}, "does not hold a kubeconfig"),
        # What only looks like a date, and more brackets than Python goes into.
        (f"{PLAIN}c4n4ry: 2024-13-45\n", {}, "does not hold a kubeconfig"),
        ("[" * 3000, {}, "does not hold a kubeconfig"),
        (PLAIN, {"kubeconfig": "/tmp/config"}, "together with"),
    ],
)  # fmt: skip
def test_what_is_none_is_told_without_its_text(given: str, more: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A secret with something else in it, or two answers to which cluster is meant: exit code 2, and nothing of the secret."""
    with pytest.raises(UsageError, match=words) as error, access(options(**more), outside(given, tmp_path, [])):
        pass
    assert "c4n4ry" not in error.value.text
    assert list(tmp_path.iterdir()) == []
