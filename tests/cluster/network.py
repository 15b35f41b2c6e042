"""The network namespace that the whole cluster lives in: nothing of it is reachable from outside."""

from __future__ import annotations

from pathlib import Path

from .places import BRIDGE_ADDRESS, NETNS, NETNS_FILE
from .shell import run


def inside(*argv: str | Path) -> list[str]:
    """nsenter, not `ip netns exec`: the latter remounts /sys and hides the control groups that pods need."""
    return ["nsenter", f"--net={NETNS_FILE}", *map(str, argv)]


def mounted() -> bool:
    """After a reboot, or in a new container, the file may still be there without a namespace behind it."""
    return any(target == str(NETNS_FILE) and kind == "nsfs" for target, kind in mounts())


def mounts() -> list[tuple[str, str]]:
    """Where something is mounted, and its kind; in the order of mounting."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        found.append((left.split()[4], right.split()[0]))
    return found


def create() -> None:
    if not mounted():
        run("ip", "netns", "add", NETNS)
    run(*inside("ip", "link", "set", "lo", "up"))
    if run(*inside("ip", "link", "show", "cni0"), check=False).returncode != 0:
        run(*inside("ip", "link", "add", "cni0", "type", "bridge"))
        run(*inside("ip", "address", "add", f"{BRIDGE_ADDRESS}/24", "dev", "cni0"))
    run(*inside("ip", "link", "set", "cni0", "up"))
    run(*inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))
