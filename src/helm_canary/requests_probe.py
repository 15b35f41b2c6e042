"""Requests through the gateway, as a client sends them: for `verify`, and for `--proof requests`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from helm_canary.errors import RefusedError, VerificationError
from helm_canary.process import Connection, Processes
from helm_canary.rights import Right, advice, forbidden

TRACK_HEADER = "x-canary-track"
REQUEST_TIMEOUT_S = 10.0
AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer: its status (0: none came), the track that its header names, and its time in milliseconds."""

    status: int
    track: str
    latency_ms: float


class HasSelectors(Protocol):
    """The gateway proxies, as far as they are needed here: the label selectors of their pods, `key=value,...`."""

    selectors: tuple[str, ...]


@dataclass
class Requests:
    """Sends GETs to one URL with the service's Host header."""

    processes: Processes
    connection: Connection
    url: str
    path: str
    host: str = ""
    gateways: HasSelectors | None = None

    def count(self, number: int) -> Mapping[str, int] | None:
        """How many of so many requests each track answered; None where no answer names its track, or no address is known."""
        try:
            replies = self.send(number)
        except RefusedError:
            return None
        counts = Counter(reply.track for reply in replies if reply.track)
        return counts if counts else None

    def send(self, number: int) -> list[Reply]:
        """So many requests, a few at once. Raises RefusedError where the gateway's address is not known."""
        import requests

        url = self.url or self._gateway_url()
        session = requests.Session()
        session.trust_env = False

        def one(_: int) -> Reply:
            began = time.monotonic()
            try:
                headers = {"Host": self.host} if self.host else {}
                answer = session.get(url.rstrip("/") + "/" + self.path.lstrip("/"), headers=headers,
                                     timeout=REQUEST_TIMEOUT_S, allow_redirects=False)  # fmt: skip
                status, track = answer.status_code, answer.headers.get(TRACK_HEADER, "")
            except requests.RequestException:
                status, track = 0, ""
            return Reply(status=status, track=track, latency_ms=(time.monotonic() - began) * 1000)

        with session, ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, range(number)))

    def _gateway_url(self) -> str:
        """The address of the load balancer Service in front of the gateway pods."""
        missing: list[Right] = []
        for selector in self.gateways.selectors if self.gateways else ():
            labels = dict(pair.split("=", 1) for pair in selector.split(","))
            done = self.processes.run(
                self.connection.kubectl("get", "services", "--all-namespaces", "--output", "json", namespace=""),
                check=False,
            )
            missing = forbidden(done.stderr) if done.code else []
            for service in json.loads(done.stdout)["items"] if done.code == 0 else []:
                found = service["spec"].get("selector") or {}
                ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
                if found and found.items() <= labels.items() and ingress:
                    address = ingress[0].get("ip") or ingress[0].get("hostname")
                    return f"http://{address}"
        raise RefusedError(
            "The gateway's address is not known.",
            "No Service of type LoadBalancer with an address selects the gateway's pods, or the account is not allowed to "
            "list Services.",
            f"Give --url http://ADDRESS. {advice(missing)}".strip(),
        )


def judge(replies: list[Reply], asked: Mapping[str, int]) -> dict[str, object]:
    """What `verify` says of its requests. Raises VerificationError where one failed or a track answered that has no weight."""
    statuses = Counter(reply.status for reply in replies)
    tracks = Counter(reply.track or "unnamed" for reply in replies)
    latencies = sorted(reply.latency_ms for reply in replies)
    said: dict[str, object] = {
        "requests": len(replies),
        "status": {str(status) if status else "no answer": count for status, count in sorted(statuses.items())},
        "split": dict(tracks),
        "asked": dict(asked),
        "latency-ms": {
            name: round(latencies[min(int(len(latencies) * share), len(latencies) - 1)], 1)
            for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
        },
    }
    bad = sum(count for status, count in statuses.items() if not 200 <= status < 400)
    stray = [track for track, weight in asked.items() if weight == 0 and tracks.get(track)]
    if bad or stray:
        what = f"{bad} of {len(replies)} requests failed" if bad else f"{', '.join(stray)} answered with weight 0"
        raise VerificationError(
            f"Verification failed: {what}.",
            "The service answers with errors, the host or path is wrong, or a weight is not in force.",
            "Look at the counts below and at `helm-canary status`, correct the cause, then verify again. Nothing was moved.",
            (json.dumps(said),),
        )
    return said
