"""The long-running programs: what each is started with, and starting, watching and stopping one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .network import inside
from .packages import search_path
from .places import BRIDGE_ADDRESS, SOCKET, Places
from .shell import ClusterError, run

STOP_LIMIT_S = 5


@dataclass(frozen=True)
class Daemon:
    """`ready` is a command that succeeds once the daemon serves; `stamp` is all that it depends on besides."""

    name: str
    argv: tuple[str, ...]
    ready: tuple[str, ...]
    stamp: str
    env: Mapping[str, str] = field(default_factory=dict)

    def spec(self) -> str:
        return json.dumps([self.argv, dict(self.env), self.stamp])


def environment(places: Places) -> dict[str, str]:
    """What programs in the cluster's network see: our programs first, our kubeconfig, and no way out by a proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, "KUBECONFIG": str(places.kubeconfig), "PATH": f"{places.bin}{os.pathsep}{search_path()}"}


def daemons(places: Places, binaries: Mapping[str, Path], stamp: str) -> dict[str, Daemon]:
    """In the order of their start."""
    described = (
        *_control_plane(places, binaries),
        (
            "containerd",
            ("containerd", "-c", f"{places.run}/containerd.toml"),
            ("ctr", "-a", str(SOCKET), "version"),
            {},
        ),
        *_node(places, binaries),
        ("istiod", _istiod(places, binaries), _curl("http://127.0.0.1:8080/ready"), ISTIOD_SWITCHES),
    )
    return {name: Daemon(name, argv, ready, stamp, env) for name, argv, ready, env in described}


Description = tuple[str, tuple[str, ...], tuple[str, ...], Mapping[str, str]]


def _control_plane(places: Places, binaries: Mapping[str, Path]) -> tuple[Description, ...]:
    run_folder, etcd = places.run, "http://127.0.0.1:2379"
    kubeconfig = f"--kubeconfig={places.kubeconfig}"
    store = (str(binaries["etcd"]), f"--data-dir={run_folder}/etcd", "--unsafe-no-fsync", "--log-level=warn")
    listens = (
        f"--listen-client-urls={etcd}",
        f"--advertise-client-urls={etcd}",
        "--listen-peer-urls=http://127.0.0.1:2380",
    )
    # Logs and exec reach the kubelet by its address on the bridge: nothing here resolves a node's name.
    server = (
        *(str(binaries["kube-apiserver"]), f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--secure-port=6443"),
        *(f"--advertise-address={BRIDGE_ADDRESS}", "--endpoint-reconciler-type=none", f"--cert-dir={run_folder}/certs"),
        *("--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--allow-privileged=true"),
        *(f"--token-auth-file={run_folder}/tokens.csv", "--service-account-issuer=https://kubernetes.default.svc"),
        *(f"--service-account-key-file={run_folder}/sa.pub", f"--service-account-signing-key-file={run_folder}/sa.key"),
        "--kubelet-preferred-address-types=InternalIP",
    )
    alone = ("--leader-elect=false", "--bind-address=127.0.0.1")
    controllers = (
        *(str(binaries["kube-controller-manager"]), kubeconfig, *alone),
        f"--service-account-private-key-file={run_folder}/sa.key",
        f"--flex-volume-plugin-dir={run_folder}/volume-plugins",
    )
    (str(binaries["kube-scheduler"]), kubeconfig, *alone)
    kubectl = (str(binaries["kubectl"]), kubeconfig, "--request-timeout=2s")
    return (
        ("etcd", store + listens, _curl(f"{etcd}/health"), {}),
        ("apiserver", server, (*kubectl, "get", "--raw", "/readyz"), {}),
        ("controllers", controllers, _curl("https://127.0.0.1:10257/healthz"), {}),
        (
            "scheduler",
            (str(binaries["kube-scheduler"]), kubeconfig, *alone),
            _curl("https://127.0.0.1:10259/healthz"),
            {},
        ),
    )


def _node(places: Places, binaries: Mapping[str, Path]) -> tuple[Description, ...]:
    common = (f"--kubeconfig={places.kubeconfig}", "--hostname-override=node-1")
    kubelet = (
        *(f"--config={places.run}/kubelet.yaml", f"--node-ip={BRIDGE_ADDRESS}"),
        *(f"--root-dir={places.run}/kubelet", f"--cert-dir={places.run}/kubelet-certs"),
    )
    # conntrack-max-per-core: its limits are the whole machine's, and not for a test to set.
    proxy = (
        *("--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/24", "--conntrack-max-per-core=0"),
        *(f"--bind-address={BRIDGE_ADDRESS}", "--healthz-bind-address=127.0.0.1", "--metrics-bind-address=127.0.0.1"),
    )
    return (
        ("kubelet", (str(binaries["kubelet"]), *common, *kubelet), _curl("http://127.0.0.1:10248/healthz"), {}),
        ("kube-proxy", (str(binaries["kube-proxy"]), *common, *proxy), _curl("http://127.0.0.1:10256/healthz"), {}),
    )


# A stock Envoy lacks the filters that only Istio's own build has; the first two keep istiod from sending them, which it
# would refuse to load. Nothing is injected and there is no mTLS, so there is no certificate authority either.
ISTIOD_SWITCHES = {
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECT_ENABLED": "false",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "POD_NAMESPACE": "istio-system",
    "POD_NAME": "istiod-0",
    "CLUSTER_ID": "Kubernetes",
}


def _istiod(places: Places, binaries: Mapping[str, Path]) -> tuple[str, ...]:
    return (
        *(str(binaries["pilot-discovery"]), "discovery", "--kubeconfig", str(places.kubeconfig)),
        *("--meshConfig", f"{places.run}/mesh.yaml", "--httpAddr", "127.0.0.1:8080", "--grpcAddr", ":15010"),
        *("--secureGRPCAddr=", "--httpsAddr=", "--monitoringAddr", "127.0.0.1:15014", "--ctrlz_port", "0"),
        *("--shutdownDuration", "1s"),
    )


def _curl(url: str) -> tuple[str, ...]:
    return ("curl", "--silent", "--fail", "--insecure", "--max-time", "2", url)


# --- starting, watching, stopping ------------------------------------------------------------------------------


def start(places: Places, daemon: Daemon) -> None:
    """Start it, unless it runs with exactly this command line and these files."""
    note = _read(places, daemon.name)
    if note and _alive(note):
        if note["spec"] == daemon.spec():
            return
        stop(places, [daemon.name])
    places.log.mkdir(parents=True, exist_ok=True)
    pid = _spawn(inside(*daemon.argv), {**environment(places), **daemon.env}, places.log / f"{daemon.name}.log")
    path = _note(places, daemon.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"pid": pid, "born": _born(pid), "spec": daemon.spec()}))
    scratch.replace(path)


def _spawn(argv: list[str], env: Mapping[str, str], log: Path) -> int:
    """Not subprocess: it warns of each process that outlives its object, and these outlive the program."""
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), write, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    # In a session of its own no Ctrl-C reaches it; Python ignores SIGPIPE, and a child would inherit that.
    whole = shutil.which(argv[0], path=env["PATH"]) or argv[0]
    return os.posix_spawn(whole, argv, env, file_actions=files, setsid=True, setsigdef=[signal.SIGPIPE])


def alive(places: Places, daemon: Daemon) -> bool:
    """Does it run, and as this version of it?"""
    note = _read(places, daemon.name)
    return bool(note and _alive(note) and note["spec"] == daemon.spec())


def wait_ready(places: Places, daemon: Daemon, limit_s: float = 90) -> None:
    deadline = time.monotonic() + limit_s
    while run(*inside(*daemon.ready), env=environment(places), check=False, timeout_s=15).returncode != 0:
        if time.monotonic() > deadline or not alive(places, daemon):
            log = places.log / f"{daemon.name}.log"
            raise ClusterError(
                f"{daemon.name} does not serve: {_tail(log)}",
                "it ended at once over its configuration, or the machine is too busy to start it in time",
                f"read {log}, then `python -m tests.cluster down` and `up`",
            )
        time.sleep(0.1)


def stop(places: Places, names: Iterable[str]) -> None:
    """All at once: each gets a few seconds for a clean end, then none."""
    notes = [note for note in (_read(places, name) for name in names) if note and _alive(note)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for note in notes:
            _signal(note, number)
        deadline = time.monotonic() + STOP_LIMIT_S
        while time.monotonic() < deadline and (notes := [note for note in notes if _alive(note)]):
            time.sleep(0.05)


def _signal(note: Mapping[str, str | int], number: signal.Signals) -> None:
    try:
        os.kill(int(note["pid"]), number)
    except ProcessLookupError:
        return


def _note(places: Places, name: str) -> Path:
    return places.run / "daemons" / f"{name}.json"


def _read(places: Places, name: str) -> dict[str, str | int] | None:
    try:
        note: dict[str, str | int] = json.loads(_note(places, name).read_text())
    except (OSError, ValueError):
        return None
    return note


def _alive(note: Mapping[str, str | int]) -> bool:
    """A process id alone may be somebody else's by now: the moment of its birth goes with it."""
    return _born(int(note["pid"])) == note["born"]


def _born(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 for none, or one that only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _tail(log: Path) -> str:
    try:
        return log.read_text(errors="replace").strip()[-600:]
    except OSError:
        return "it wrote no log"
