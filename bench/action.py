"""What the action takes before the program starts: with uv and an empty cache, a full one, with pip, and at a second step.

python -m bench.action [--rounds 3]

Each round runs all of them, one after the other, in folders of their own; so they can be compared whatever else the machine does.
Packages come from where uv and pip are set up to get them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools/prepare-action.sh"
LIMIT_S = 300


def seconds_of(folder: Path, environment: Mapping[str, str]) -> float:
    """From the call of the script until the program has answered, in seconds."""
    folder.mkdir(exist_ok=True)
    output = folder / "output"
    output.write_text("")
    variables = {**environment, "RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(output)}
    began = time.monotonic()
    subprocess.run([SCRIPT], env=variables, check=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
    (python,) = [line.partition("=")[2] for line in output.read_text().splitlines() if line.startswith("python=")]
    subprocess.run(
        [python, "-I", "-m", "helm_canary", "--version"], env=variables, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def environments(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """With uv on PATH, and without."""
    place = folder / "bin"
    place.mkdir()
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        raise SystemExit("There is no uv; `make` installs it into .venv.")
    (place / "uv").symlink_to(found)
    (place / "python3").symlink_to(Path(sys.executable).resolve())
    outer = [part for part in os.environ["PATH"].split(os.pathsep) if not (Path(part) / "uv").exists()]
    without = {**os.environ, "PATH": os.pathsep.join(outer)}
    with_uv = {**without, "PATH": os.pathsep.join([str(place), *outer]), "UV_PYTHON": sys.executable}
    return with_uv, without


def one_round(folder: Path) -> dict[str, float]:
    with_uv, without = environments(folder)
    cold = {**with_uv, "UV_CACHE_DIR": str(folder / "cache")}
    pip = {**without, "PIP_NO_CACHE_DIR": "1"}
    return {
        "uv, empty cache": seconds_of(folder / "cold", cold),
        "uv, full cache": seconds_of(folder / "warm", cold),
        "pip": seconds_of(folder / "pip", pip),
        "second step of a job": seconds_of(folder / "warm", cold),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.action", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(arguments).rounds
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="helm-canary-bench-") as name:
            for what, seconds in one_round(Path(name)).items():
                found.setdefault(what, []).append(seconds)
    print(f"{'the action before its first call of helm':<44}{'median s':>10}{'best s':>8}")
    for what, values in found.items():
        print(f"{what:<44}{statistics.median(values):>10.2f}{min(values):>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
