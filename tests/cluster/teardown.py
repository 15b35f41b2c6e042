"""Taking the cluster away, whatever state it is in: after `down`, after a crash, after a reboot.

Nothing here asks the cluster's own programs for help, because any of them may be what died. What belongs to it is found
by its folders, and by the bundle that containerd keeps of each container: that names its network namespace and its
control group.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .network import mounts
from .places import NETNS_FILE, VOLATILE, Places
from .shell import ClusterError, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL_LIMIT_S = 20
CONTAINERD = Path("/run/containerd")
KUBELET, KUBELET_MADE = Path("/var/lib/kubelet"), "made-var-lib-kubelet"


def clear(places: Places) -> None:
    bundles = _bundles()
    namespaces = [NETNS_FILE, *_pod_namespaces(bundles)]
    _kill(namespaces)
    _unmount(places)
    for namespace in namespaces:
        run("umount", "-l", namespace, check=False)
        namespace.unlink(missing_ok=True)
    _remove_groups(bundles)
    for bundle in bundles:
        _forget_shim(bundle.folder)
    kubelet_made = (VOLATILE / KUBELET_MADE).exists()
    for folder in (places.run, places.log, VOLATILE, *([KUBELET] if kubelet_made else [])):
        shutil.rmtree(folder, ignore_errors=True)
    _remove_if_empty(CONTAINERD / "runc/k8s.io", CONTAINERD / "runc", CONTAINERD / "s", CONTAINERD)
    left = [str(path) for path in (places.run, VOLATILE, NETNS_FILE) if path.exists()]
    if left:
        raise ClusterError(
            f"could not be removed: {', '.join(left)}",
            "something of the cluster is still mounted or running",
            "see `findmnt` and `ls -l /proc/*/cwd`, end what uses them, and run `down` again",
        )


def note_kubelet_folder() -> None:
    """The kubelet makes one folder that no setting moves; only where none was there before may it be removed."""
    if not KUBELET.exists():
        (VOLATILE / KUBELET_MADE).touch()


def anything_left(places: Places) -> bool:
    return any(path.exists() for path in (places.run, VOLATILE, NETNS_FILE))


@dataclass(frozen=True)
class Bundle:
    folder: Path
    namespace: str
    group: str


def _bundles() -> list[Bundle]:
    found = []
    for folder in VOLATILE.glob("io.containerd.runtime.v2.task/k8s.io/*"):
        try:
            linux = json.loads((folder / "config.json").read_text())["linux"]
        except (OSError, ValueError):
            linux = {}  # killed while containerd wrote it: nothing of it runs yet
        paths = [entry.get("path", "") for entry in linux.get("namespaces", ()) if entry["type"] == "network"]
        found.append(Bundle(folder, "".join(paths), linux.get("cgroupsPath", "")))
    return found


def _pod_namespaces(bundles: list[Bundle]) -> list[Path]:
    """A pod's sandbox names the file of its namespace; its other containers go by the sandbox's process."""
    paths = {Path(bundle.namespace) for bundle in bundles}
    # Others make such files as well: only those that a container of ours is in are ours.
    return sorted(NETNS_FILE.parent / path.name for path in paths if path.name.startswith("cni-"))


def _kill(namespaces: list[Path]) -> None:
    """Daemons, containers, their shims, load generators: whatever lives in one of the namespaces."""
    sound = {target for target, kind in mounts() if kind == "nsfs"}
    numbers = {path.stat().st_ino for path in namespaces if str(path) in sound}
    spared = set(_ancestors())
    deadline = time.monotonic() + KILL_LIMIT_S
    while numbers and (pids := [pid for pid in _inhabitants(numbers) if pid not in spared]):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"processes {', '.join(map(str, pids))} of the cluster do not end",
                "they hang in the kernel, mostly over a mount",
                "look at /proc/PID/stack, then run `down` again",
            )
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _inhabitants(numbers: set[int]) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "ns/net").stat().st_ino in numbers:
                    yield int(folder.name)
            except OSError:
                continue


def _ancestors() -> Iterator[int]:
    """`down` may itself be run through `exec`: it must not end itself or who called it."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _unmount(places: Places) -> None:
    ours = (f"{places.run}/", f"{VOLATILE}/")
    for target, _ in reversed(mounts()):
        if target.startswith(ours):
            run("umount", "-l", target, check=False)


def _forget_shim(folder: Path) -> None:
    """What containerd's shims, runc and CNI keep outside of the folders that their settings name."""
    try:
        address = (folder / "address").read_text().removeprefix("unix://")
    except OSError:
        address = ""  # a container that never started has no shim
    if address.startswith(f"{CONTAINERD}/s/"):
        Path(address).unlink(missing_ok=True)
    shutil.rmtree(CONTAINERD / "runc/k8s.io" / folder.name, ignore_errors=True)
    for path in Path("/var/lib/cni/results").glob(f"*-{folder.name}-*"):
        path.unlink(missing_ok=True)


def _remove_groups(bundles: list[Bundle]) -> None:
    """Each container has one group on the new control groups, one for each controller on the old."""
    groups = [path for bundle in bundles if bundle.group for path in _group_folders(bundle.group)]
    deadline = time.monotonic() + KILL_LIMIT_S
    while groups := [path for path in groups if path.exists()]:
        _remove_if_empty(*groups)
        if time.monotonic() > deadline:
            say(f"control groups could not be removed: {', '.join(map(str, groups))}")
            return
        # A killed process leaves its group a moment after it is gone.
        time.sleep(0.02)
    _remove_if_empty(*_group_folders("k8s.io"))


def _group_folders(name: str) -> list[Path]:
    root, inner = Path("/sys/fs/cgroup"), name.strip("/")
    return [path for path in (root / inner, *(top / inner for top in root.iterdir())) if path.is_dir()]


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
