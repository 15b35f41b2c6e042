"""helm for the tests of this folder, which need no cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.binaries import ensure


@pytest.fixture(scope="session", autouse=True)
def helm_on_path() -> Iterator[None]:
    """The program, `helm create` and the tests find the one that the cluster's tests use."""
    folder = ensure("helm")["helm"].parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield
