"""Where one command's time goes: stand-ins for helm and kubectl, put before them on PATH, note when each call ran."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.service import Service, Timed
from tests.cluster import Cluster

SHOWN = 100
STAND_IN = """\
#!/bin/bash
began=$EPOCHREALTIME
{program} "$@"
code=$?
words="$*"
echo "$began $EPOCHREALTIME {name} ${{words//$'\\n'/ }}" >> {notes}
exit $code
"""


@dataclass(frozen=True)
class Call:
    """A helm or kubectl that the tool ran; times in seconds from the tool's start."""

    began_s: float
    ended_s: float
    words: str


@contextmanager
def stand_ins(cluster: Cluster, service: Service) -> Iterator[Path]:
    """Calls of this service's commands are noted in the file that it gives, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="helm-canary-bench-") as folder:
        notes = Path(folder) / "notes"
        for name in ("helm", "kubectl"):
            program = Path(folder) / name
            program.write_text(STAND_IN.format(program=cluster.bin / name, name=name, notes=notes))
            program.chmod(0o755)
        service.path = folder
        try:
            yield notes
        finally:
            service.path = ""


def read(notes: Path, run: Timed) -> list[Call]:
    """The calls of the latest run, in order."""
    began = run.began_ms / 1000
    rows = (line.split(" ", 2) for line in notes.read_text().splitlines())
    calls = [Call(float(first) - began, float(last) - began, words) for first, last, words in rows]
    return sorted((call for call in calls if call.began_s >= 0), key=lambda call: call.began_s)


def own_seconds(calls: list[Call], run: Timed) -> float:
    """Time in which no helm and no kubectl ran: the tool's own, its sleeps included."""
    busy, reached = 0.0, 0.0
    for call in calls:
        busy += max(call.ended_s - max(call.began_s, reached), 0)
        reached = max(reached, call.ended_s)
    return run.seconds - busy


def describe(title: str, calls: list[Call], run: Timed) -> str:
    """The run's steps and calls on one line of time."""
    lines = [(said.at_s, said.text.strip()[:SHOWN]) for said in run.lines if said.text.startswith("[")]
    lines += [(call.began_s, f"  {call.ended_s - call.began_s:5.2f}  {call.words[:SHOWN]}") for call in calls]
    head = f"{title}: {run.seconds:.2f} s, of them {own_seconds(calls, run):.2f} s without helm or kubectl"
    return "\n".join([head, *(f"  {at:6.2f}  {text}" for at, text in sorted(lines))])
