"""The extension for Azure Pipelines as a VSIX: the task with the program, the chart and the lock in it.

python -m tools.pack_task [--bundle linux-x64 --python 3.10 --python 3.12] [--publisher NAME --extension-id ID]

`--bundle` puts the wheels of the lock into the task, for agents that reach no package index.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helm_canary import __version__
from tools.icon import icon
from tools.task import EXTENSION, NAME, PUBLISHER

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "azure-pipelines-task"
LOCK = ROOT / "requirements.lock"
TFX = ROOT / "tools" / "tfx"
SCHEMA = ROOT / "tools" / "task.schema.json"
DIST = ROOT / "dist"
# The marketplace takes more; servers in a company's own network take little more.
LIMIT_BYTES = 10_000_000
LIMIT_S = 900
TRAVEL = ("main.js", "start.py", "task_variables.py", "task.json")


class PackError(Exception):
    """There is no package; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A kind of agents: what pip calls it, what Python there says of itself, and what the lock's markers see."""

    pip: tuple[str, ...]
    python: str
    markers: Mapping[str, str]


PLATFORMS = {
    "linux-x64": Platform(
        pip=("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        python="linux-x86_64",
        markers={"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    ),
    "linux-arm64": Platform(
        pip=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        python="linux-aarch64",
        markers={
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "platform_machine": "aarch64",
        },
    ),
    "win-x64": Platform(
        pip=("win_amd64",),
        python="win-amd64",
        markers={"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    ),
}


def pack(build: Path, bundle: str = "", pythons: Sequence[str] = (), override: Mapping[str, str] | None = None) -> Path:
    """The VSIX, made in the folder `build`. Raises PackError."""
    check(json.loads((SOURCE / NAME / "task.json").read_text(encoding="utf-8")))
    folder = lay_out(build / "extension")
    if bundle:
        add_wheels(folder / NAME / "wheelhouse", bundle, pythons)
    kind = f"-{bundle}" if bundle else ""
    wanted = build / f"{PUBLISHER}.{EXTENSION}-{__version__}{kind}.vsix"
    wanted.unlink(missing_ok=True)
    words = [str(tfx()), "extension", "create", "--root", str(folder), "--manifest-globs", "vss-extension.json"]
    words += ["--output-path", str(wanted), "--no-prompt", "--no-color"]
    words += ["--override", json.dumps(override)] if override else []
    said = _run(words, "tfx did not pack the extension", cwd=folder)
    if "warning" in said.lower():
        raise PackError(f"tfx warns:\n{said}\nIt packs all the same, and Azure DevOps refuses it later: correct it.")
    check_package(wanted)
    return wanted


def check(task: Mapping[str, Any]) -> None:
    """Raises PackError unless task.json is as agents read it; tfx only warns, and not of everything."""
    from jsonschema import Draft7Validator

    validator = Draft7Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    found = [
        f"{'/'.join(map(str, error.path)) or 'task.json'}: {error.message}" for error in validator.iter_errors(task)
    ]
    names = [one["name"] for one in task.get("inputs", ())]
    names += [alias for one in task.get("inputs", ()) for alias in one.get("aliases", ())]
    twice = {name for name in names if [other.lower() for other in names].count(name.lower()) > 1}
    found += [f"the input {name} is there twice" for name in sorted(twice)]
    groups = {group["name"] for group in task.get("groups", ())}
    found += [
        f"{one['name']}: no such group"
        for one in task.get("inputs", ())
        if one.get("groupName", "") not in {*groups, ""}
    ]
    if found:
        raise PackError("task.json is wrong:\n" + "\n".join(found) + "\nCorrect tools/task.py and run `make generate`.")


def lay_out(folder: Path) -> Path:
    """Everything that travels, in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    task = folder / NAME
    task.mkdir(parents=True)
    for name in TRAVEL:
        shutil.copy(SOURCE / NAME / name, task / name)
    for name in ("vss-extension.json", "overview.md"):
        shutil.copy(SOURCE / name, folder / name)
    for target in (folder, task):
        shutil.copy(ROOT / "LICENSE", target / "LICENSE")
    shutil.copy(LOCK, task / LOCK.name)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "src" / "helm_canary", task / "src" / "helm_canary", ignore=ignored)
    shutil.copytree(ROOT / "charts", task / "charts", ignore=ignored)
    (folder / "icon.png").write_bytes(icon(128))
    (task / "icon.png").write_bytes(icon(32))
    return folder


def check_package(path: Path) -> None:
    """Raises PackError for a VSIX without its task, or too large to publish everywhere."""
    with zipfile.ZipFile(path) as package:
        names = set(package.namelist())
    missing = {f"{NAME}/task.json", f"{NAME}/src/helm_canary/__main__.py", f"{NAME}/requirements.lock"} - names
    if missing:
        raise PackError(f"{path.name} lacks {', '.join(sorted(missing))}: vss-extension.json does not name its folder.")
    size = path.stat().st_size
    if size >= LIMIT_BYTES:
        path.unlink()
        raise PackError(
            f"The VSIX has {size / 1e6:.1f} MB, and may have {LIMIT_BYTES / 1e6:.0f}.\n"
            "Azure DevOps refuses large packages, each version at another size.\nBundle for fewer versions of Python."
        )


# --- wheels --------------------------------------------------------------------------------------------------------------


def add_wheels(folder: Path, bundle: str, pythons: Sequence[str]) -> None:
    """The lock's wheels for one platform and some Pythons, and a note for whom they are."""
    folder.mkdir(parents=True)
    for python in sorted(pythons, key=lambda text: tuple(map(int, text.split(".")))):
        for wheel in wheels(bundle, python).glob("*.whl"):
            # A wheel of the stable ABI serves every later Python as well; the largest of them has a second one.
            if not any(folder.glob("-".join(wheel.name.split("-")[:2]) + "-*-abi3-*.whl")):
                shutil.copy(wheel, folder / wheel.name)
    made_for = {"platforms": [PLATFORMS[bundle].python], "pythons": list(pythons)}
    (folder / "made-for.json").write_text(json.dumps(made_for) + "\n", encoding="utf-8")


def wheels(bundle: str, python: str) -> Path:
    """A folder with the wheels for one Python; downloaded once for a lock."""
    lock = lock_for(LOCK.read_text(encoding="utf-8"), PLATFORMS[bundle], python)
    digest = hashlib.sha256(lock.encode()).hexdigest()[:12]
    made = DIST / "cache" / f"wheels-{bundle}-{python}-{digest}"
    with _made_once(made) as new:
        if new is not None:
            (new / "lock.txt").write_text(lock, encoding="utf-8")
            platforms = [word for name in PLATFORMS[bundle].pip for word in ("--platform", name)]
            words = [*pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
            words += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python, *platforms]
            _run(
                [*words, "--dest", str(new), "--requirement", str(new / "lock.txt")],
                "The wheels could not be downloaded",
            )
    return made


def lock_for(lock: str, platform: Platform, python: str) -> str:
    """The lock's entries for one machine and Python: pip judges markers by the Python that it runs on itself."""
    from packaging.requirements import Requirement

    seen = {**platform.markers, "python_version": python, "python_full_version": f"{python}.99", "extra": ""}
    seen |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    kept, keeping = [], False
    for line in lock.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            requirement = Requirement(line.removesuffix("\\").strip())
            keeping = requirement.marker is None or requirement.marker.evaluate(seen)
            line = f"{requirement.name}{requirement.specifier} \\" if keeping else ""
        if keeping and not line.strip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def pip() -> list[str]:
    """An environment that uv made has no pip."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [sys.executable, "-m", "uv", "tool", "run", "pip"]


# --- tfx -----------------------------------------------------------------------------------------------------------------


def tfx() -> Path:
    """tfx-cli of the version that tools/tfx locks; installed once. Raises PackError."""
    npm = shutil.which("npm")
    if npm is None:
        raise PackError(
            "npm is not on PATH.\nThe extension is packed by Microsoft's tfx-cli.\nInstall Node 20 or newer."
        )
    digest = hashlib.sha256((TFX / "package-lock.json").read_bytes()).hexdigest()[:12]
    made = DIST / "cache" / f"tfx-{digest}"
    with _made_once(made) as new:
        if new is not None:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(TFX / name, new / name)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
            _run(words, "tfx-cli could not be installed", cwd=new)
    return made / "node_modules" / ".bin" / ("tfx.cmd" if sys.platform == "win32" else "tfx")


@contextlib.contextmanager
def _made_once(folder: Path) -> Iterator[Path | None]:
    """A new folder to fill, which becomes `folder` when the block ends well; None where it is there already."""
    if folder.exists():
        yield None
        return
    new = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        with contextlib.suppress(OSError):
            new.rename(folder)
        # Another process may have made it meanwhile.
        if not folder.exists():
            raise PackError(
                f"{folder} could not be made.\nThe disk is full, or the folder may not be written.\nMake room."
            )
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _run(words: Sequence[str], problem: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise PackError(f"{problem}:\n{done.stdout.strip()}")
    return done.stdout


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.pack_task", description=__doc__)
    parser.add_argument("--bundle", choices=tuple(PLATFORMS), default="", help="put the wheels for these agents in")
    parser.add_argument("--python", action="append", help="for this Python (repeatable); default: 3.10 and 3.12")
    parser.add_argument("--publisher", help="another publisher, for a private test")
    parser.add_argument("--extension-id", help="another id, likewise")
    parser.add_argument("--to", type=Path, default=DIST / "azure-pipelines", help="folder for the VSIX")
    asked = parser.parse_args(arguments)
    override = {key: value for key, value in (("publisher", asked.publisher), ("id", asked.extension_id)) if value}
    try:
        made = pack(asked.to.resolve(), asked.bundle, asked.python or ("3.10", "3.12"), override)
    except PackError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{made}: {made.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
