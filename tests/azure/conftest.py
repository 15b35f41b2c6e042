"""The servers on loopback, anew for each test, and a runner that is pointed at them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.azure.program import Runner
from tests.azure.servers import Azure, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Azure]:
    folder = tmp_path / "platform"
    folder.mkdir()
    with serving(folder) as found:
        yield found


@pytest.fixture
def runner(azure: Azure, tmp_path: Path) -> Runner:
    return Runner(azure=azure, folder=tmp_path)
