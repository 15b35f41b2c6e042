"""When a request is sent, how often, and what comes of its answers: a stop, a note, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from helm_canary.cluster import Live
from helm_canary.core.model import Plan, Step, Track
from helm_canary.errors import ToolError
from helm_canary.probing import Reply, Request
from helm_canary.proxies import Answers, Endpoints, GatewayPod
from helm_canary.serving import NotServedError, Serving
from helm_canary.waits import WaitFailedError
from tests.adapters.recordings import shape

SHAPE = replace(shape(), namespace="shop", hosts=("shop.example.com",), gateways=("shop/web",), ports=())
GATEWAY = GatewayPod(namespace="istio-system", name="gw-1")
OK, DEAD = Reply(status=200, from_pod=True, heard=True), Reply()
NO_WAY, NO_ROUTE = Reply(status=503, heard=True, said="no healthy upstream"), Reply(status=404, heard=True)
FORBIDDEN = ToolError("kubectl failed.", "", "Add pods/portforward.")


@dataclass
class World:
    """A gateway, pods that answer as scripted (the last answer again and again), a clock that only sleeps, and what is said."""

    gateway: list[Reply | ToolError] = field(default_factory=lambda: [OK])
    pods: Mapping[str, list[Reply | ToolError]] = field(default_factory=dict)
    counted: list[Endpoints] = field(default_factory=lambda: [Endpoints(healthy=2, in_flight=0)])
    gateway_pods: Sequence[GatewayPod] = (GATEWAY,)
    gateways: dict[str, Mapping[str, Any] | None] = field(
        default_factory=lambda: {
            "shop/web": {
                "spec": {
                    "servers": [{"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}],
                    "selector": {"a": "b"},
                }
            }
        }
    )
    everywhere: bool = True
    sent: list[tuple[str, int, Request]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    passed_s: float = 0.0

    def find(self, known_gateways: Sequence[Mapping[str, Any]]) -> None: ...
    def splits(self) -> Answers:
        raise NotImplementedError

    def endpoints(self) -> Answers:
        found = self.counted.pop(0) if len(self.counted) > 1 else self.counted[0]
        return Answers(endpoints={GATEWAY: {Track.PRODUCTION: found}})

    def selected_by(self, gateway: str) -> list[GatewayPod]:
        return list(self.gateway_pods)

    def port_of_gateway(self, namespace: str, pod: str, number: int) -> int:
        return number + 8000

    def send(self, namespace: str, pod: str, port: int, request: Request) -> Reply:
        self.sent.append((f"{namespace}/{pod}", port, request))
        script = self.gateway if pod == GATEWAY.name else self.pods[pod]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, ToolError):
            raise answer
        return answer

    def now(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds

    def plan(self, plan: Plan) -> None: ...
    def step(self, number: int, total: int, step: Step) -> None: ...
    def waiting(self, what: str, detail: str, since_s: float) -> None: ...
    def note(self, text: str) -> None:
        self.said.append(text)

    def serving(self, path: str = "") -> Serving:
        return Serving(proxies=self, pods=self, clock=self, report=self, shape=SHAPE, path=path)


def thing(kind: str, name: str, spec: Mapping[str, Any], **metadata: object) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def pod(track: Track, name: str, *, ready: bool = True) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/ready", "port": SHAPE.port}}
    made = thing(
        "Pod", name, {"containers": [{"readinessProbe": probe}]}, labels={"app": "shop", **SHAPE.subset_labels(track)}
    )
    return made | {"status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


def live(*pods: Mapping[str, Any], mode: str = "") -> Live:
    route = [{"destination": {"host": SHAPE.host, "subset": track.value}} for track in Track]
    policy = {"trafficPolicy": {"tls": {"mode": mode}}} if mode else {}
    return Live(
        items=(
            thing("VirtualService", SHAPE.route, {"http": [{"route": route}]}),
            thing("DestinationRule", SHAPE.rule, policy),
            thing("Service", SHAPE.service, {"selector": {"app": "shop"}, "ports": [{"port": SHAPE.port}]}),
            *pods,
        )
    )


OLD, NEW = pod(Track.PRODUCTION, "old"), pod(Track.CANARY, "new")
LIVE = live(OLD, NEW)


# --- an installation ----------------------------------------------------------------------------------------------------


def test_an_installation_that_answers_says_nothing() -> None:
    """One request, through a gateway's pod, with the readiness probe's path and the service's host."""
    world = World()
    world.serving().check_installation(LIVE)
    assert world.sent == [("istio-system/gw-1", 8080, Request(host="shop.example.com", path="/ready"))]
    assert world.said == []


@pytest.mark.parametrize("answer", [NO_WAY, NO_ROUTE], ids=["no way", "no route"])
def test_a_failure_must_last(answer: Reply) -> None:
    """What passes within a few seconds is none; what stays ends the command with the gateway's own words."""
    world = World(gateway=[answer, answer, OK])
    world.serving().check_installation(LIVE)
    world = World(gateway=[answer])
    with pytest.raises(NotServedError, match=f"a gateway answers {answer.status} to GET /ready") as told:
        world.serving().check_installation(LIVE)
    assert 4 <= world.passed_s < 10
    assert (told.value.details == ("The gateway says: no healthy upstream",)) is (answer is NO_WAY)
    assert told.value.means
    assert "run `stage 1` again" in told.value.do_next


def test_the_cause_is_read_from_the_destination_rule() -> None:
    """With the pods, which have no sidecar."""
    with pytest.raises(NotServedError) as told:
        World(gateway=[NO_WAY]).serving().check_installation(live(OLD, mode="ISTIO_MUTUAL"))
    assert "asks for ISTIO_MUTUAL" in told.value.means


APPS: dict[str, tuple[list[Reply | ToolError], str]] = {
    "an error of the app": ([replace(OK, status=500)], "500: the app answers so itself"),
    "a path that the app does not have": ([replace(OK, status=404)], "404: the app answers so itself"),
    "a login at the gateway": ([Reply(status=401, heard=True)], "401: the gateway answers so itself"),
    "no answer": ([DEAD], "no HTTP answer came from the gateway"),
    "a right that is missing": (
        [FORBIDDEN],
        "No request was sent through a gateway: kubectl failed. Add pods/portforward.",
    ),
}


@pytest.mark.parametrize("name", APPS)
def test_all_else_is_a_note(name: str) -> None:
    """An installation is not held up by what the app answers, or by what cannot be asked."""
    answers, said = APPS[name]
    world = World(gateway=[*answers])
    world.serving().check_installation(LIVE)
    assert said in "".join(world.said)
    assert len(world.said) == 1


SENT = [Endpoints(healthy=2, in_flight=0, sent=number) for number in range(99)]


@pytest.mark.parametrize(
    ("own", "fails"),
    [(Reply(status=503, heard=True), False), (Reply(status=200, heard=True), True), (DEAD, False), (FORBIDDEN, False)],
    ids=["the app's", "not the app's", "silent", "not asked"],
)
def test_whose_503_it_was_the_pod_itself_says(own: Reply | ToolError, fails: bool) -> None:
    """Where the mesh turns Envoy's headers off, counters say that pods are reached, not who answers."""
    world = World(gateway=[NO_WAY], pods={"old": [own]}, counted=[*SENT])
    if fails:
        with pytest.raises(NotServedError):
            world.serving().check_installation(LIVE)
    else:
        world.serving().check_installation(LIVE)
        (said,) = world.said
        assert ("503: the app answers so itself" in said) is (own == Reply(status=503, heard=True))


def test_without_a_pod_of_the_gateway_nothing_is_sent() -> None:
    """A note names the Gateway."""
    world = World(gateway_pods=())
    world.serving().check_installation(LIVE)
    assert "no pod of the Gateway shop/web" in "".join(world.said)
    assert world.sent == []


def test_a_delegates_404_is_a_note() -> None:
    """Which paths its roots hand on to it is not known."""
    world = World(gateway=[NO_ROUTE])
    serving = world.serving()
    serving.shape = replace(SHAPE, delegate=True)
    serving.check_installation(LIVE)
    assert len(world.said) == 1


def test_an_unfinished_installation_is_asked_once() -> None:
    """A plan does not wait for it."""
    world = World(gateway=[NO_WAY])
    assert world.serving().never_served(LIVE)
    assert (len(world.sent), world.passed_s) == (1, 0)
    assert not World().serving().never_served(LIVE)
    assert not World(gateway=[FORBIDDEN]).serving().never_served(LIVE)


# --- before weight ------------------------------------------------------------------------------------------------------


def test_a_version_that_answers_is_asked_once() -> None:
    """At its own port, with the service's host; a second look at the same version sends nothing more."""
    world = World(pods={"new": [OK]})
    serving = world.serving()
    serving.check_before_weight(Track.CANARY, "84", LIVE)
    serving.check_before_weight(Track.CANARY, "84", LIVE)
    assert world.sent == [("shop/new", SHAPE.port, Request(host="shop.example.com", path="/ready"))]
    assert world.said == []


def test_a_version_that_does_not_answer_where_the_other_does_gets_no_weight() -> None:
    """Asked twice, and compared with the version that serves."""
    world = World(pods={"new": [DEAD], "old": [OK]})
    with pytest.raises(WaitFailedError, match="Canary does not answer: its pod new is Ready") as told:
        world.serving().check_before_weight(Track.CANARY, "84", LIVE)
    assert [name for name, _, _ in world.sent] == ["shop/new", "shop/new", "shop/old"]
    assert "--path none" in told.value.do_next


GOES_ON: dict[str, tuple[dict[str, list[Reply | ToolError]], str]] = {
    "it answers the second time": ({"new": [DEAD, OK]}, ""),
    "any answer": ({"new": [replace(OK, status=404)]}, ""),
    "another protocol": ({"new": [Reply(heard=True)]}, ""),
    "an error": ({"new": [replace(OK, status=500)]}, "Canary itself answers 500"),
    "neither answers": ({"new": [DEAD], "old": [DEAD]}, "nor from the version that serves"),
    "a right is missing": ({"new": [FORBIDDEN]}, "No request was sent to canary: kubectl failed."),
    "the other cannot be asked": ({"new": [DEAD], "old": [FORBIDDEN]}, "No request was sent to canary"),
}


@pytest.mark.parametrize("name", GOES_ON)
def test_nothing_else_holds_a_weight(name: str) -> None:
    """Any answer is one, and where it cannot be told the stage goes on."""
    pods, said = GOES_ON[name]
    world = World(pods={key: [*script] for key, script in pods.items()})
    world.serving().check_before_weight(Track.CANARY, "84", LIVE)
    assert said in "".join(world.said)
    assert bool(said) is bool(world.said)


def test_without_a_version_to_compare_with_the_stage_goes_on() -> None:
    """Production that is not Ready tells nothing of the way."""
    world = World(pods={"new": [DEAD]})
    world.serving().check_before_weight(Track.CANARY, "84", live(pod(Track.PRODUCTION, "old", ready=False), NEW))
    assert "no pod of the production to compare with" in "".join(world.said)


def test_none_sends_nothing() -> None:
    """`--path none`, by whoever does not want the requests."""
    world = World(gateway=[NO_WAY], pods={"new": [DEAD], "old": [OK]})
    serving = world.serving(path="none")
    serving.check_installation(LIVE)
    serving.check_before_weight(Track.CANARY, "84", LIVE)
    assert not serving.never_served(LIVE)
    assert (world.sent, world.said) == ([], [])


def test_the_path_that_was_asked_for_is_sent() -> None:
    """To a gateway and to a pod."""
    world = World(pods={"new": [OK]})
    serving = world.serving(path="/shop")
    serving.check_installation(LIVE)
    serving.check_before_weight(Track.CANARY, "84", LIVE)
    assert [request.path for _, _, request in world.sent] == ["/shop", "/shop"]
