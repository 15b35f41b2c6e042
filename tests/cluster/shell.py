"""How this package starts short commands, tells of its progress, and fails."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class ClusterError(Exception):
    """What happened, what it usually means and what to do next."""

    def __init__(self, happened: str, means: str, do_next: str) -> None:
        super().__init__(f"{happened}\n  usually: {means}\n  next:    {do_next}")
        self.happened, self.means, self.do_next = happened, means, do_next


def home() -> Path:
    """Everything this package keeps between two runs."""
    chosen = os.environ.get("HELM_CANARY_CLUSTER_HOME")
    return Path(chosen).resolve() if chosen else Path.home() / ".cache/helm-canary/cluster"


def say(text: str) -> None:
    """Progress goes to stderr: stdout belongs to what a caller asked for."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def run(
    *argv: str | Path,
    timeout_s: float = 60,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, never longer than timeout_s; with check, anything but success raises."""
    words = [str(word) for word in argv]
    # A child that reads the terminal would hang where nobody types.
    text = "" if stdin is None else stdin
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=timeout_s, env=env, cwd=cwd)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"`{' '.join(words)}` had not ended after {timeout_s:g} s",
            "the machine is very busy, or what the command talks to has died",
            "look at `python -m tests.cluster status`, then try again",
        ) from error
    except FileNotFoundError as error:
        raise ClusterError(
            f"there is no `{words[0]}` on this machine",
            "a package that the cluster needs is not installed, or PATH lacks /usr/sbin",
            "run `python -m tests.cluster up`: it installs, or lists, what is missing",
        ) from error
    if check and done.returncode != 0:
        tail = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ClusterError(
            f"`{' '.join(words)}` ended with {done.returncode}: {tail}",
            "the command's own words above say what it could not do",
            "run it by hand, inside the cluster's network with `python -m tests.cluster exec ...`",
        )
    return done


@contextmanager
def locked(path: Path, what: str, limit_s: float) -> Iterator[None]:
    """Hold a lock that dies with its process, so that two test runs on a machine do the work once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        began, told = time.monotonic(), 0.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
            if waited > limit_s:
                raise ClusterError(
                    f"another process has held {path} for {limit_s:g} s",
                    f"it is busy with: {what}",
                    f"find it with `fuser {path}`, let it end or end it, and try again",
                )
            if waited >= told:
                say(f"waiting for another process: {what}")
                told += 30
            time.sleep(0.1)
        yield
