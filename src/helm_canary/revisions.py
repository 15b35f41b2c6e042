"""What `helm template` cannot know of an upgrade: its revision, and whether it installs. Found in the chart's own files.

`helm template` calls every rendering the first revision (helm#9252), so a template with `.Release.Revision` renders something
else in each step than what was checked. Whether that shows is seen by rendering a copy of the chart with another number.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from helm_canary.composing import by_name, solid
from helm_canary.errors import RefusedError
from helm_canary.manifest import Object

REVISION = re.compile(r"[$\w.]*\.Release\.Revision\b")
INSTALLS = re.compile(r"[$\w.]*\.Release\.Is(?:Install|Upgrade)\b")
ANOTHER = "4242"
# A chart may be the root of a repository.
NOT_THE_CHARTS = (".git", "node_modules", ".venv")


@dataclass(frozen=True, kw_only=True)
class Use:
    """A line of a template: its file below the chart, and its number."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def unpacked(chart: Path, folder: Path) -> Path:
    """The chart as a folder of ours, subcharts unpacked; `chart` is a folder or an archive."""
    target = folder / "unpacked"
    if chart.is_dir():
        ignored = shutil.ignore_patterns(*NOT_THE_CHARTS)
        shutil.copytree(chart, target / chart.name, ignore=ignored, ignore_dangling_symlinks=True)
    else:
        _unpack(chart, target)
    for archive in list(target.rglob("charts/*.tgz")):
        _unpack(archive, archive.parent)
        archive.unlink()
    return next(path.parent for path in sorted(target.glob("*/Chart.yaml")))


def _unpack(archive: Path, folder: Path) -> None:
    """What is in an archive, but for names that lead out of the folder."""
    with tarfile.open(archive) as opened:
        root = folder.resolve()
        for member in opened.getmembers():
            if member.isfile() and root in (root / member.name).resolve().parents:
                path = root / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = opened.extractfile(member)
                path.write_bytes(content.read() if content else b"")


def mentions(chart: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a template of a chart (a folder or an archive), or of a subchart of its, matches; nothing is unpacked for it."""
    if not chart.is_dir():
        return _archive_mentions(chart.read_bytes(), pattern)
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in _templates(chart))
    packed = (chart / "charts").glob("*.tgz")
    return any(map(pattern.search, texts)) or any(_archive_mentions(path.read_bytes(), pattern) for path in packed)


def _archive_mentions(content: bytes, pattern: re.Pattern[str]) -> bool:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        for member in opened.getmembers():
            file = opened.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if member.name.endswith(".tgz"):
                if _archive_mentions(file.read(), pattern):
                    return True
            elif "templates" in Path(member.name).parts and pattern.search(file.read().decode(errors="replace")):
                return True
    return False


def uses(chart: Path, pattern: re.Pattern[str]) -> list[Use]:
    """The lines of the chart's templates that match."""
    return [
        Use(file=path.relative_to(chart).as_posix(), line=number)
        for path in _templates(chart)
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if pattern.search(text)
    ]


def _templates(chart: Path) -> Iterator[Path]:
    for folder in (chart / "templates", chart / "charts"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "templates" in path.relative_to(chart).parts and path.name != "NOTES.txt":
                yield path


def with_another_revision(chart: Path) -> None:
    """Let an unpacked chart render as in another revision."""
    for path in _templates(chart):
        text = path.read_bytes().decode(errors="surrogateescape")
        path.write_bytes(REVISION.sub(ANOTHER, text).encode(errors="surrogateescape"))


def changed(one: Sequence[Object], other: Sequence[Object], namespace: str) -> list[str]:
    """The objects, by name, that two renderings have otherwise."""
    first, second = by_name(one, namespace), by_name(other, namespace)
    return [name for name in first if solid(first[name]) != solid(second.get(name))]


def changes_with_each_revision(names: Sequence[str], lines: Sequence[Use]) -> RefusedError:
    where = ", ".join(map(str, lines))
    return RefusedError(
        f"{', '.join(names)} changes with each Helm revision: {where}.",
        "Each step of a release is a Helm revision, so `.Release.Revision` would replace pods in each step, also those that have "
        "all of the traffic.",
        f"Take `.Release.Revision` out of {where}. Where it is there to restart pods, use a checksum of what "
        "they read. Then run the same command again.",
    )


def changes_after_installation(names: Sequence[str], lines: Sequence[Use]) -> RefusedError:
    where = ", ".join(map(str, lines)) or "a `lookup`"
    return RefusedError(
        f"{', '.join(names)} has other pods in an installation than in an upgrade: {where}.",
        "The first upgrade would replace the pods that the installation made.",
        f"Let the pods not depend on it, {where}; then run the same command again.",
    )
