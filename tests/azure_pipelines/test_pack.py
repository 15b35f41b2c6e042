"""The VSIX: what is in it, what refuses to be one, and the wheels for agents without an index."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.azure_pipelines.conftest import PYTHON, Packed
from tools import pack_task
from tools.icon import icon
from tools.pack_task import LOCK, PLATFORMS, ROOT, PackError, check_package, lock_for


def test_the_package_has_all_that_the_task_needs(packed: Packed) -> None:
    """Program, chart, lock, licences and icons travel, and nothing that Python or an editor left behind."""
    with zipfile.ZipFile(packed.vsix) as package:
        names = set(package.namelist())
    source = {f"HelmCanary/{path.relative_to(ROOT)}" for path in (ROOT / "src").rglob("*.py")}
    source |= {f"HelmCanary/{path.relative_to(ROOT)}" for path in (ROOT / "charts").rglob("*") if path.is_file()}
    assert source - names == set()
    needed = {"overview.md", "icon.png", "LICENSE", "HelmCanary/icon.png", "HelmCanary/LICENSE", "HelmCanary/start.py"}
    assert needed - names == set()
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


def test_the_package_is_small(packed: Packed) -> None:
    """With the wheels for one Python it can be published to every Azure DevOps."""
    assert packed.vsix.stat().st_size < 10_000_000


def test_a_large_package_is_refused(tmp_path: Path, packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be refused when it is published is refused here, and does not stay."""
    monkeypatch.setattr(pack_task, "LIMIT_BYTES", 1000)
    copy = tmp_path / "large.vsix"
    copy.write_bytes(packed.vsix.read_bytes())
    with pytest.raises(PackError, match="MB"):
        check_package(copy)
    assert not copy.exists()


def test_a_package_without_its_task_is_refused(tmp_path: Path) -> None:
    """tfx packs an extension whose manifest names no folder; it is not taken for one."""
    path = tmp_path / "empty.vsix"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("overview.md", "")
    with pytest.raises(PackError, match=r"lacks .*task\.json"):
        check_package(path)


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.14"])
@pytest.mark.parametrize("name", PLATFORMS)
def test_the_lock_for_another_python_has_one_version_of_each(name: str, python: str) -> None:
    """Entries are chosen for the agent's machine and Python, not for those that pack; each keeps its hashes."""
    text = lock_for(LOCK.read_text(encoding="utf-8"), PLATFORMS[name], python)
    names = [line.split("==")[0] for line in text.splitlines() if "==" in line]
    assert len(names) == len(set(names))
    assert {"azure-identity", "pyyaml", "requests", "cryptography"} <= set(names)
    assert ("pycparser==3.11" in text) == (python == "3.10")
    assert text.count("--hash=sha256:") >= len(names)
    assert ";" not in text


def test_the_bundle_is_the_lock(packed: Packed) -> None:
    """A bundled task has a wheel for each entry of the lock, and says for whom they are."""
    wheels = sorted((packed.task / "wheelhouse").glob("*.whl"))
    found = {wheel.name.split("-")[0].lower().replace("_", "-") for wheel in wheels}
    platform = next(iter(PLATFORMS.values()))
    text = lock_for(LOCK.read_text(encoding="utf-8"), platform, PYTHON)
    assert found == {line.split("==")[0].lower() for line in text.splitlines() if "==" in line}
    assert PYTHON in (packed.task / "wheelhouse" / "made-for.json").read_text()


@pytest.mark.parametrize("side", [32, 128])
def test_the_icon_is_a_png(side: int) -> None:
    """The icons have the sizes that the marketplace and the editor ask for, and every chunk's checksum is right."""
    data = icon(side)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (side, side)
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        at += 12 + length


def test_no_address_of_a_registry_is_kept() -> None:
    """The lock of what packs names versions and checksums; where they come from is each machine's own setting."""
    assert '"resolved"' not in (pack_task.TFX / "package-lock.json").read_text(encoding="utf-8")
    assert '"integrity"' in (pack_task.TFX / "package-lock.json").read_text(encoding="utf-8")
