"""The cluster, for the one test here that compares a parser with the real program."""

from __future__ import annotations

import pytest

from tests.cluster import Cluster, up


@pytest.fixture(scope="session")
def real_cluster() -> Cluster:
    return up()
