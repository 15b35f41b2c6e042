"""The programs that the chart's tests call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm that users of the chart have."""
    return ensure("helm")["helm"]


@pytest.fixture(scope="session")
def istio_validate() -> Path:
    """Istio's own validation: reads YAML documents, exits 1 with what it would refuse."""
    return ensure("istio-validate")["istio-validate"]
