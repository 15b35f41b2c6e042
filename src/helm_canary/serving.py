"""Whether what is about to be called served is: one request before a command says so, and one before a version gets traffic.

What cannot be asked is a note, and never holds anything up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from helm_canary.cluster import Live
from helm_canary.core.model import Track
from helm_canary.diagnose import pods_of
from helm_canary.errors import ToolError
from helm_canary.manifest import Shape
from helm_canary.ports import Clock, PodRequestsPort, ProxiesPort, Reporter
from helm_canary.probing import (
    NO_WAY_STATUSES,
    NOTHING_SENT,
    Counted,
    Failed,
    Pod,
    Reply,
    Request,
    Server,
    UnaskableError,
    Verdict,
    cause,
    gateway_request,
    is_ready,
    judge,
    paths_to_try,
    pod_to_ask,
    tls_mode,
)
from helm_canary.proxies import GatewayPod
from helm_canary.waits import WaitFailedError

# A route or an endpoint may come a moment after its proof, and one bad answer is none.
PATIENCE_S = 4.0
POLL_S = 0.5


Found = TypeVar("Found")


class NotServedError(WaitFailedError):
    """Pods are Ready and weights in force, and yet no request arrives."""


@dataclass(kw_only=True)
class Serving:
    """The requests of one command. `path`: what the user asked for; empty: what the readiness probe asks; `none`: no request."""

    proxies: ProxiesPort
    pods: PodRequestsPort
    clock: Clock
    report: Reporter
    shape: Shape
    path: str
    mode: str = "auto"
    _answered: set[tuple[Track, str]] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    # --- through a gateway -------------------------------------------------------------------------------------------

    def check_installation(self, live: Live) -> None:
        """Raises NotServedError where a gateway has no way to production."""
        failed = self._asked_of_gateway(live, PATIENCE_S)
        if failed is not None:
            means, do_next = cause(failed)
            said = (f"The gateway says: {failed.reply.said}",) if failed.reply.said else ()
            raise NotServedError(
                f"No request arrives: a gateway answers {failed.reply.status} to {failed.request}.",
                means,
                do_next,
                said,
            )

    def never_served(self, live: Live) -> bool:
        """Whether an installation that was not finished is one that no request reaches."""
        return self._asked_of_gateway(live, 0.0) is not None

    def _asked_of_gateway(self, live: Live, patience_s: float) -> Failed | None:
        return self._unless_unaskable("through a gateway", lambda: self._ask_gateway(live, patience_s))

    def _ask_gateway(self, live: Live, patience_s: float) -> Failed | None:
        route = live.find("VirtualService", self.shape.route)
        items = self._ready_pods(live, Track.PRODUCTION)
        if route is None or not items:
            raise UnaskableError("there is no VirtualService, or no Ready pod of production")
        pod = self._pod(live, Track.PRODUCTION, items[0])
        server, request = gateway_request(
            route, self.proxies.gateways, self.shape, paths_to_try(self.path, pod.ready_path)
        )
        found = self.proxies.selected_by(server.gateway)
        if not found:
            raise UnaskableError(f"no pod of the Gateway {server.gateway} is running")
        port = self.pods.port_of_gateway(found[0].namespace, found[0].name, server.number)
        verdict, reply, counted = self._answer_of(found[0], port, request, patience_s)
        if verdict is Verdict.UNSURE:
            verdict = self._answer_of_pod_itself(pod, request, reply)
        if verdict is Verdict.NO_ROUTE and self.shape.delegate:
            verdict = Verdict.POLICY  # its roots may hand on other paths
        if verdict in (Verdict.NO_ROUTE, Verdict.NO_WAY):
            return self._failed(live, verdict, request, reply, server, counted, pod)
        if verdict is not Verdict.SERVED:
            status = f": {reply.status}" if reply.status else ""
            self._note(f"{request}, sent to the gateway {found[0]}{status}: {verdict.value}.")
        return None

    def _answer_of(
        self, gateway: GatewayPod, port: int, request: Request, patience_s: float
    ) -> tuple[Verdict, Reply, Counted | None]:
        """What a gateway answers, and goes on answering: a failure must last. The counters are the last ones."""
        began, before, last = self.clock.now(), None, patience_s == 0
        while True:
            self.report.waiting(f"an answer to {request}", f"sent to the gateway {gateway}", self.clock.now() - began)
            reply = self.pods.send(gateway.namespace, gateway.name, port, request)
            bad = not reply.from_pod and reply.status in (404, *NO_WAY_STATUSES)
            after = self._counted(gateway) if bad else None
            verdict = judge(reply, before, after)
            if not bad or last:
                return verdict, reply, after
            last = self.clock.now() - began >= patience_s
            before = after
            self.clock.sleep(POLL_S)

    def _counted(self, gateway: GatewayPod) -> Counted | None:
        if self.mode in ("requests", "wait"):
            return None
        try:
            answers = self.proxies.endpoints().endpoints.get(gateway)
        except ToolError:
            return None
        found = (answers or {}).get(Track.PRODUCTION)
        if found is None:
            return None
        return Counted(healthy=found.healthy, sent=found.sent, connect_failed=found.connect_failed)

    def _answer_of_pod_itself(self, pod: Pod, request: Request, reply: Reply) -> Verdict:
        """Whose status it was that a gateway gave: the mesh may have turned off the header that says so."""
        try:
            own = self._send(pod, request.path, request.host)
        except ToolError:
            return Verdict.UNSURE
        if not own.status:
            return Verdict.UNSURE
        return Verdict.APP if own.status == reply.status else Verdict.NO_WAY

    def _failed(self, live: Live, verdict: Verdict, request: Request, reply: Reply, server: Server,
                counted: Counted | None, pod: Pod) -> Failed:  # fmt: skip
        rule = live.find("DestinationRule", self.shape.rule)
        return Failed(
            verdict=verdict,
            request=request,
            reply=reply,
            server=server,
            shape=self.shape,
            tls_mode=tls_mode(rule, self.shape, Track.PRODUCTION),
            sidecar=pod.sidecar,
            counted=counted,
            port=pod.port,
        )

    # --- to a pod ----------------------------------------------------------------------------------------------------

    def check_before_weight(self, track: Track, version: str, live: Live) -> None:
        """Raises WaitFailedError where a track that is about to get traffic does not answer, and the one that has it does."""
        if (track, version) in self._answered:
            return
        self._answered.add((track, version))
        silent = self._unless_unaskable(f"to {track.value}", lambda: self._silent_pod(track, live))
        if silent is not None:
            raise WaitFailedError(
                f"{track.value.capitalize()} does not answer: its pod {silent.name} is Ready, and no answer to a request comes "
                f"from its port {silent.port}. It has got no weight.",
                f"The new version listens at another port than the Service sends to, or does not answer. "
                f"The {track.other.value} answers at its own.",
                "A corrected version needs a rollback first, then `stage 2`. Where this one is right, run the stage again "
                f"with `--path {NOTHING_SENT}`, which sends no such request.",
            )

    def _silent_pod(self, track: Track, live: Live) -> Pod | None:
        """A pod that does not answer, twice, where one of the other track does: else the way there may be what is silent."""
        items, others = self._ready_pods(live, track), self._ready_pods(live, track.other)
        if not items:
            return None
        first, last = (self._pod(live, track, item) for item in (items[0], items[-1]))
        if self._answers(live, track, first):
            return None
        self.clock.sleep(POLL_S)
        if self._answers(live, track, last):
            return None
        if not others:
            raise UnaskableError(f"no answer came, and there is no pod of the {track.other.value} to compare with")
        if not self._answers(live, track.other, self._pod(live, track.other, others[0])):
            raise UnaskableError("no answer came, nor from the version that serves")
        return last

    def _answers(self, live: Live, track: Track, pod: Pod) -> bool:
        """Whether anything comes from a pod's port. An error of the app is a note."""
        reply = self._send(pod, paths_to_try(self.path, pod.ready_path)[0], self._host())
        if reply.status >= 500:
            self._note(f"{track.value.capitalize()} itself answers {reply.status}, asked in its pod {pod.name}.")
        return reply.heard

    def _send(self, pod: Pod, path: str, host: str) -> Reply:
        self.report.waiting(f"an answer to GET {path}", f"sent to the pod {pod.name}", 0)
        return self.pods.send(self.shape.namespace, pod.name, pod.port, Request(host=host, path=path, tls=pod.tls))

    def _host(self) -> str:
        return next((host for host in self.shape.hosts if "*" not in host), self.shape.host)

    def _pod(self, live: Live, track: Track, item: Mapping[str, Any]) -> Pod:
        service = live.find("Service", self.shape.service)
        if service is None:
            raise UnaskableError(f"there is no Service {self.shape.service}")
        return pod_to_ask(
            item, service, tls_mode(live.find("DestinationRule", self.shape.rule), self.shape, track), self.shape
        )

    def _ready_pods(self, live: Live, track: Track) -> list[Mapping[str, Any]]:
        selector = ((live.find("Service", self.shape.service) or {}).get("spec") or {}).get("selector") or {}
        found = pods_of(live.of_kind("Pod"), self.shape.subset_labels(track), selector)
        return [pod for pod in found if is_ready(pod)]

    # --- notes -------------------------------------------------------------------------------------------------------

    def _unless_unaskable(self, where: str, ask: Callable[[], Found | None]) -> Found | None:
        if self.path == NOTHING_SENT:
            return None
        try:
            return ask()
        except UnaskableError as error:
            self._note(f"No request was sent {where}: {error}.")
        except ToolError as error:
            self._note(f"No request was sent {where}: {error.happened} {error.do_next}")
        return None

    def _note(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.report.note(text)
