"""Files that hold secrets: in a folder of this run's own, for nobody else to read, gone when the run is.

A run that was killed leaves its folder behind. Each folder has a lock that its run holds until it dies, however it dies, so
the next run knows which folders nobody needs any more and removes them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "helm-canary-keys-"
LOCK = "lock"


class Keys:
    """A folder of mode 0700 with files of mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        """Create or replace a file whole; a reader finds the old one or the new one."""
        path = self.path / name
        write_secret(path, text)
        return path


def write_secret(path: Path, text: str) -> None:
    """Never a moment with another mode than 0600, nor with half of the content."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    new.replace(path)


@contextlib.contextmanager
def keys_in(base: str) -> Iterator[Keys]:
    """A folder below `base` (empty: the system's temporary folder) for as long as the block runs."""
    root = Path(base or tempfile.gettempdir())
    sweep(root)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    held = _lock(path)
    try:
        yield Keys(path)
    finally:
        try:
            shutil.rmtree(path, ignore_errors=True)
        except BaseException:
            # A signal came just now; there is no second one.
            shutil.rmtree(path, ignore_errors=True)
            raise
        finally:
            if held is not None:
                os.close(held)


def sweep(root: Path) -> None:
    """Remove the folders of runs that are dead. What is another user's, or cannot be read, stays.

    Windows has no such locks: there the platform's own cleaning of its temporary folder has to do.
    """
    if sys.platform == "win32":
        return
    for path in root.glob(PREFIX + "*"):
        if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
            continue
        held = _lock(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)


def _lock(path: Path) -> int | None:
    """The lock of a folder, which ends with this process; None where another holds it, or there are none."""
    if sys.platform == "win32":
        return None
    import fcntl

    held = None
    try:
        held = os.open(path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if held is not None:
            os.close(held)
        return None
    return held
