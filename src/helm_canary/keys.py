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
from collections.abc import Iterator, Mapping
from pathlib import Path

PREFIX = "helm-canary-keys-"
# Of a folder whose lock is not held yet: a sweep would take it for a dead run's.
UNLOCKED = "helm-canary-new-"
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


def write_secret(path: Path, content: str | bytes) -> None:
    """Never a moment with another mode than 0600, nor with half of the content."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
        file.write(content.encode() if isinstance(content, str) else content)
    new.replace(path)


def folder_of(environment: Mapping[str, str]) -> str:
    """The runner's temporary folder, which it empties itself after a job; elsewhere "", the system's."""
    found = (environment.get(name, "") for name in ("RUNNER_TEMP", "AGENT_TEMPDIRECTORY"))
    return next((name for name in found if name and Path(name).is_dir()), "")


@contextlib.contextmanager
def keys_in(base: str) -> Iterator[Keys]:
    """A folder below `base` (empty: the system's temporary folder) for as long as the block runs."""
    root = Path(base or tempfile.gettempdir())
    sweep(root)
    path, held = locked_folder(root)
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


def locked_folder(root: Path) -> tuple[Path, int | None]:
    """A new folder of mode 0700 that the next sweeps leave alone, and what holds its lock; None where there are no locks."""
    new = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=root))
    held = _lock(new)
    path = root / new.name.replace(UNLOCKED, PREFIX, 1)
    new.rename(path)
    return path, held


def sweep(root: Path) -> None:
    """Remove the folders of runs that are dead. What is another user's, or cannot be read, stays.

    Windows has no such locks: there the platform's own cleaning of its temporary folder has to do.
    """
    if sys.platform == "win32":
        return
    for path in root.glob(PREFIX + "*"):
        try:
            if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
                continue
        except FileNotFoundError:
            # Its run has just ended, or another one sweeps too.
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
