"""Where the cluster keeps its things, and the names that set it apart from any other on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .shell import home

NETNS = "helm-canary"
NETNS_FILE = Path("/run/netns") / NETNS
# Sockets and mounts of running containers: short paths (a socket's may have 107 characters) that a reboot clears.
VOLATILE = Path("/run/helm-canary")
SOCKET = VOLATILE / "containerd.sock"
API_SERVER = "https://127.0.0.1:6443"
BRIDGE_ADDRESS = "10.244.0.1"
GATEWAY_ADDRESS = "10.244.0.240"
GATEWAYS = 2


@dataclass(frozen=True)
class Places:
    home: Path

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"


def places() -> Places:
    return Places(home())
