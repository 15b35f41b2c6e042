"""The bounded waits between two upgrades: until pods are Ready, weights in force, requests ended; and the watch.

Each says all the time what it waits for and since when. None decides what comes next: it returns, or raises `WaitFailed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helm_canary import diagnose
from helm_canary.beside import lacking, pods_beside
from helm_canary.cluster import Live
from helm_canary.core.model import Drain, Prove, Split, Track, TrackState, Version, WaitReady, Watch
from helm_canary.errors import CanaryError, ToolError
from helm_canary.helm import Stored
from helm_canary.manifest import Shape
from helm_canary.observe import observe
from helm_canary.ports import Clock, ClusterPort, ProxiesPort, Reporter, RequestsPort
from helm_canary.proxies import Answers

POLL_S = 0.25
SLOW_POLL_S = 0.5
LEAST_DRAIN_S = 1.0
REQUESTS_A_ROUND = 60
PROOFS = ("unproven", "gateways", "proven")


class WaitFailedError(CanaryError):
    """A wait did not end well; `execute` adds where the traffic is and gives it its exit code."""


@dataclass
class Waits:
    """The waits of one command. `proof` is the weakest that any of them had to be content with.

    `target`: the version that chart and values render; a release without a record names it nowhere.
    """

    cluster: ClusterPort
    proxies: ProxiesPort
    requests: RequestsPort
    clock: Clock
    report: Reporter
    shape: Shape
    stored: Stored
    timeout_s: float
    drain_s: float
    mode: str
    target: Version | None = None
    proof: str = "proven"
    in_flight_cut: int = 0
    _said: frozenset[str] = frozenset()

    def say_once(self, text: str) -> None:
        if text not in self._said:
            self._said |= {text}
            self.report.note(text)

    # --- Ready -------------------------------------------------------------------------------------------------------

    def ready(self, step: WaitReady, live: Live | None = None) -> bool:
        """Rule 1: every pod updated and available, and known to every proxy that can be read. True: so at the first look.

        `live` is what was read just now.
        """
        began, patience, at_once = self.clock.now(), diagnose.Patience(), True
        while True:
            live = live or self.cluster.read()
            state, waited = self._state(live, step.track), self.clock.now() - began
            missing, sign = self._missing(step, state) or lacking(live, step.beside), None
            if not missing:
                return at_once
            if state.ready < state.replicas:
                sign = diagnose.find_sign(self._pods(live, step.track), self._deployment(live, step.track))
            detail = missing + (f" ({sign.what})" if sign else "")
            self.report.waiting(f"{step.track.value} to be Ready at {step.version.tag}", detail, waited)
            certain = patience.is_over(sign, waited)
            if certain or waited > self.timeout_s:
                raise self._not_ready(live, step, state, waited, sign.what if sign and certain else "")
            self.clock.sleep(SLOW_POLL_S)
            live, at_once = None, False

    def _missing(self, step: WaitReady, state: TrackState) -> str:
        """What a track lacks of Ready, in words; empty where it lacks nothing."""
        enough = step.replicas if step.enough is None else step.enough
        done = state.version == step.version and state.ready >= enough
        if step.enough is None:
            done = done and state.settled and state.replicas >= step.replicas and state.ready >= state.replicas
        said = f"{state.ready} of {state.replicas} pods Ready"
        if not done:
            return said
        known = self._known_endpoints(step.track)
        return "" if known is None or known >= min(state.ready, enough) else f"{said}, a gateway knows {known}"

    def _state(self, live: Live, track: Track) -> TrackState:
        return observe(self.stored, live, self.shape, target=self.target).track(track)

    def _known_endpoints(self, track: Track) -> int | None:
        """The fewest healthy endpoints that a proxy lists; None where none can be asked or the subset is not sent to it."""
        if self.mode in ("requests", "wait"):
            return None
        return fewest(self._endpoints()).get(track)

    def _endpoints(self) -> Answers:
        try:
            return self.proxies.endpoints()
        except ToolError as error:
            self.say_once(f"The gateway proxies cannot be read: {error.happened} {error.means}")
            return Answers()

    def requests_of(self, track: Track) -> tuple[int, int] | None:
        """Requests that the gateways sent to a track's pods, and how many failed; None where no proxy says so."""
        if self.mode in ("requests", "wait"):
            return None
        known = [(answer or {}).get(track) for answer in self._endpoints().endpoints.values()]
        counted = [endpoints for endpoints in known if endpoints is not None]
        return (sum(each.sent for each in counted), sum(each.failed for each in counted)) if counted else None

    def _not_ready(
        self, live: Live, step: WaitReady, state: TrackState, waited: float, certainly: str
    ) -> WaitFailedError:
        """`certainly`: what does not pass by itself; empty where the time ran out."""
        means = f"Waiting does not help: {certainly}." if certainly else ""
        late = lacking(live, step.beside)
        if late and state.ready >= state.replicas:
            return WaitFailedError(
                f"{late} after {waited:.0f} s.",
                "It moves with production and does not start, or its readiness probe never succeeds.",
                "Look at its pods with `kubectl describe`, correct the cause, then run the same command again.",
            )
        return WaitFailedError(
            f"{step.track.value.capitalize()} is not Ready at {step.version.tag} after {waited:.0f} s: "
            f"{state.ready} of {state.replicas} pods.",
            means or "The new version does not start, or its readiness probe never succeeds.",
            "Look at the pod below, correct the cause, then run the same command again.",
            self._description(live, step.track),
        )

    def _description(self, live: Live, track: Track) -> tuple[str, ...]:
        return diagnose.describe(
            self._pods(live, track),
            self._deployment(live, track),
            self.cluster.events_of,
            lambda pod, container, previous: self.cluster.log_of(pod, container, previous=previous),
        )

    def _deployment(self, live: Live, track: Track) -> Mapping[str, Any] | None:
        return live.find("Deployment", self.shape.deployment(track))

    # --- in force ----------------------------------------------------------------------------------------------------

    def prove(self, step: Prove, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until every proxy has the weights; how well that is known goes into `proof`. `meanwhile` may raise."""
        mode = self.mode
        if mode in ("auto", "proxies"):
            if self._prove_by_proxies(step.split, meanwhile):
                return
            mode = "requests" if mode == "auto" else "wait"
        self._weaken("unproven")
        if mode == "requests" and self._prove_by_requests(step.split):
            return
        self.say_once(f"The weights cannot be proven; each time {self.drain_s:g} s are waited instead.")
        self._pass_time(f"the weights {step.split} to be in force", self.drain_s)

    def _prove_by_proxies(self, split: Split, meanwhile: Callable[[], None]) -> bool:
        """True when decided by the proxies; False when none can be asked."""
        began = self.clock.now()
        what = f"the weights {split} (production/canary) in every gateway"
        while True:
            try:
                answers = self.proxies.splits().splits
            except ToolError as error:
                self.say_once(f"The gateway proxies cannot be read: {error.happened} {error.means}")
                return False
            if not answers:
                self.say_once("No gateway pod is running that this VirtualService is bound to.")
                return False
            waited = self.clock.now() - began
            silent = [str(pod) for pod, found in answers.items() if found is None]
            other = {str(pod): found for pod, found in answers.items() if found not in (None, frozenset({split}))}
            if not other and not silent:
                if not self.proxies.everywhere:
                    self.say_once(
                        "The account is not allowed to list gateway pods in other namespaces: whether there are any is not known."
                    )
                self._weaken(proof_where_all_agree(self.proxies, self.shape))
                return True
            if not other and waited > self.drain_s:
                return self._leave_out(silent, len(answers))
            self.report.waiting(what, _who_differs(other, silent), waited)
            meanwhile()
            if other and waited > self.timeout_s:
                raise _not_in_force(split, _who_differs(other, silent), waited, routed=any(answers.values()))
            self.clock.sleep(POLL_S)

    def _leave_out(self, silent: list[str], asked: int) -> bool:
        self.say_once(f"No answer from {', '.join(silent)}: left out of the proof.")
        self._weaken("unproven")
        return len(silent) < asked

    def _prove_by_requests(self, split: Split) -> bool:
        began = self.clock.now()
        what = f"the weights {split} (production/canary) in the answers to requests"
        while True:
            counts = self.requests.count(REQUESTS_A_ROUND)
            if counts is None:
                self.say_once(
                    "Requests prove nothing: the gateway's address is not known, or no answer names its track."
                )
                return False
            wrong = [track for track in Track if (split.of(track) == 0) != (counts.get(track.value, 0) == 0)]
            detail = ", ".join(f"{track.value} answered {counts.get(track.value, 0)}" for track in Track)
            waited = self.clock.now() - began
            if not wrong:
                self.report.note(f"{what}: {detail} of {REQUESTS_A_ROUND}.")
                return True
            self.report.waiting(what, detail, waited)
            if waited > self.timeout_s:
                raise _not_in_force(split, detail, waited)
            self.clock.sleep(POLL_S)

    def _weaken(self, proof: str) -> None:
        self.proof = min(self.proof, proof, key=PROOFS.index)

    # --- drained -----------------------------------------------------------------------------------------------------

    def drain(self, step: Drain) -> None:
        """Rule 2: until no request is in flight to the track, one second at least; the whole time where that is not seen."""
        began = self.clock.now()
        what = f"requests in flight to {step.track.value}"
        if self.shape.unknown_callers or self.mode in ("requests", "wait"):
            self._pass_time(f"{what} (callers in the mesh are not seen)", self.drain_s)
            self.in_flight_cut += self._in_flight(step.track) or 0
            return
        while True:
            count = self._in_flight(step.track)
            waited = self.clock.now() - began
            if count == 0 and waited >= LEAST_DRAIN_S:
                return
            if waited >= self.drain_s:
                self.in_flight_cut += count or 0
                if count:
                    self.report.note(
                        f"{count} {what} were still in flight after {self.drain_s:g} s; their pods are removed now."
                    )
                return
            self.report.waiting(what, "not known" if count is None else str(count), waited)
            self.clock.sleep(POLL_S)

    def _in_flight(self, track: Track) -> int | None:
        """Requests in flight in all gateways together; None while any of them does not answer."""
        answers = self._endpoints().endpoints
        if not answers or any(found is None for found in answers.values()):
            return None
        known = [found[track] for found in answers.values() if found is not None]
        return sum(endpoints.in_flight for endpoints in known if endpoints is not None)

    def _pass_time(self, what: str, seconds: float) -> None:
        began = self.clock.now()
        while (waited := self.clock.now() - began) < seconds:
            self.report.waiting(what, f"{seconds:g} s in all", waited)
            self.clock.sleep(min(SLOW_POLL_S, seconds - waited))

    # --- watched -----------------------------------------------------------------------------------------------------

    def watch(self, step: Watch) -> None:
        """Rule 5: raises when a container is restarted, or too few pods are available at the end."""
        began = self.clock.now()
        what = f"{step.track.value}, which has all traffic now"
        live = self.cluster.read()
        before = diagnose.restarts(self._watched(live, step))
        while True:
            now = diagnose.restarts(self._watched(live, step))
            again = [name for name, count in now.items() if count > before.get(name, 0)]
            state, waited = self._state(live, step.track), self.clock.now() - began
            if again:
                raise self._watch_failed(live, step, f"a container of {', '.join(again)} was restarted")
            # Pods that are being replaced, as by `kubectl rollout restart`, are no failure: how that ends is waited for.
            if waited >= (self.drain_s if state.settled else max(self.drain_s, self.timeout_s)):
                least = min(step.replicas, state.replicas)
                if state.ready < max(least, 1):
                    raise self._watch_failed(live, step, f"{state.ready} of {step.replicas} pods are Ready")
                if missing := lacking(live, step.beside):
                    raise self._watch_failed(live, step, missing)
                return
            self.report.waiting(what, f"{state.ready} of {state.replicas} pods Ready, none restarted", waited)
            self.clock.sleep(SLOW_POLL_S)
            live = self.cluster.read()

    def _watched(self, live: Live, step: Watch) -> list[Mapping[str, Any]]:
        return [*self._pods(live, step.track), *pods_beside(live, step.beside)]

    def _pods(self, live: Live, track: Track) -> list[Mapping[str, Any]]:
        selector = ((live.find("Service", self.shape.service) or {}).get("spec") or {}).get("selector") or {}
        return diagnose.pods_of(live.of_kind("Pod"), self.shape.subset_labels(track), selector)

    def _watch_failed(self, live: Live, step: Watch, why: str) -> WaitFailedError:
        return WaitFailedError(
            f"{step.track.value.capitalize()} failed while it was watched: {why}.",
            "The new version does not hold under all of the traffic.",
            "Look at the pod below, correct the cause, then run the same command again.",
            self._description(live, step.track),
        )


def proof_where_all_agree(proxies: ProxiesPort, shape: Shape) -> str:
    """How good a proof it is that every gateway pod which was found agrees."""
    if not proxies.everywhere or (shape.delegate and not shape.all_roots):
        return "unproven"
    return "gateways" if "mesh" in shape.gateways else "proven"


def fewest(answers: Answers) -> dict[Track, int]:
    """Per track the fewest healthy endpoints that any answering proxy lists; a track no proxy was given is missing."""
    found: dict[Track, int] = {}
    for endpoints in answers.endpoints.values():
        for track, known in (endpoints or {}).items():
            if known is not None:
                found[track] = min(found.get(track, known.healthy), known.healthy)
    return found


def _who_differs(other: Mapping[str, frozenset[Split] | None], silent: list[str]) -> str:
    said = [
        f"{pod} has {' and '.join(map(str, sorted(map(str, found or ())))) or 'no route'}"
        for pod, found in other.items()
    ]
    return "; ".join(said + [f"{pod} does not answer" for pod in silent])


def _not_in_force(split: Split, detail: str, waited: float, *, routed: bool = True) -> WaitFailedError:
    """`routed`: whether any gateway has a route to the service."""
    causes = "istiod does not run, or another VirtualService or EnvoyFilter decides there."
    if not routed:
        causes = (
            "istiod does not run; or the VirtualService is not exported to the gateways' namespace (`exportTo`); or istiod gives "
            "a Gateway only to pods of its own namespace (PILOT_SCOPE_GATEWAY_TO_NAMESPACE), and these are of another."
        )
    return WaitFailedError(
        f"The weights {split} are not in force after {waited:.0f} s: {detail}.",
        causes,
        "Look at `istioctl proxy-status`, correct the cause, then run the same command again.",
    )
