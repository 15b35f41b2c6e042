"""What a chart is, told from its content alone: two checkouts of one commit are one chart, whenever their parts were packed. Pure
but for reading the files.

`helm dependency build` packs the times of the files of a `file://` dependency into its archive, and writes its own time into
Chart.lock (helm/helm#8850). What .helmignore names is not the chart's either (Helm's pkg/ignore/rules.go).
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

LOCKS = ("Chart.lock", "requirements.lock")
ARCHIVES = (".tgz", ".tar.gz")


def chart_digest(chart: str, version: str) -> str:
    """16 digits of a folder's or an archive's content; of a chart from a registry, which is read by Helm alone, of its name."""
    path = Path(chart)
    if path.is_dir():
        return _digest(_files_of(path))
    if path.is_file():
        return hashlib.sha256(_content(path.name, path.read_bytes())).hexdigest()[:16]
    return hashlib.sha256(f"{chart}@{version}".encode()).hexdigest()[:16]


def _digest(files: Iterator[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files):
        digest.update(f"{name}\0".encode() + _content(name, content) + b"\0")
    return digest.hexdigest()[:16]


def _content(name: str, content: bytes) -> bytes:
    """What of a file is the same each time it is made: of an archive the digest of what is in it, of a lock all but its time."""
    if name.endswith(ARCHIVES):
        try:
            return _digest(_members(content)).encode()
        except (tarfile.TarError, OSError, EOFError):
            return content  # no archive, whatever its name says
    if PurePosixPath(name).name in LOCKS:
        return re.sub(rb"(?m)^generated:.*$", b"", content)
    return content


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def _files_of(root: Path) -> Iterator[tuple[str, bytes]]:
    rules = _rules(root / ".helmignore")
    for path in root.rglob("*"):
        parts = PurePosixPath(path.relative_to(root).as_posix())
        if path.is_file() and not _is_ignored(parts, rules):
            yield str(parts), path.read_bytes()


def _rules(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return ["templates/.?*", *(line.strip() for line in lines if line.strip() and not line.startswith("#"))]


def _is_ignored(file: PurePosixPath, rules: Sequence[str]) -> bool:
    """Whether a file, or a folder that it is in, is left out. A rule that ends in `/` is for folders; `!` turns one round."""
    folders = list(file.parents)[:-1]
    return any(
        _matches(place, rule.rstrip("/")) is not rule.startswith("!")
        for rule in rules
        for place in (*folders, *([] if rule.endswith("/") else [file]))
    )


def _matches(place: PurePosixPath, rule: str) -> bool:
    rule = rule.removeprefix("!")
    if "/" not in rule:
        return fnmatchcase(place.name, rule)
    wanted = PurePosixPath(rule.lstrip("/")).parts
    return len(wanted) == len(place.parts) and all(map(fnmatchcase, place.parts, wanted))
