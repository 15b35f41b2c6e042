"""One request to one pod: what is sent, what is made of every kind of answer, and the way that is opened and closed for it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from helm_canary import __version__, pod_requests
from helm_canary.errors import ToolError
from helm_canary.pod_requests import PodRequests, ask
from helm_canary.probing import Reply, Request
from helm_canary.process import Connection, Processes

PLAIN = Request(host="shop.example.com", path="/ready?a=b c")


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose one connection is handled by this."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(timeout=10)


def saying(text: bytes, heard: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        received = connection.recv(65536)
        if heard is not None:
            heard.append(received)
        connection.sendall(text)

    return answer


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def test_the_request_names_the_host_and_who_asks() -> None:
    """A GET with the service's host and our name; what no URL may hold is escaped."""
    heard: list[bytes] = []
    with listening(saying(b"HTTP/1.1 204 No Content\r\n\r\n", heard)) as port:
        assert ask(port, PLAIN) == Reply(status=204, heard=True)
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /ready?a=b%20c HTTP/1.1"
    assert {"Host: shop.example.com", f"User-Agent: helm-canary/{__version__}"} <= set(lines)


FROM_POD = b"HTTP/1.1 503 X\r\nx-envoy-upstream-service-time: 3\r\ncontent-length: 900\r\n\r\nsecret"
FROM_PROXY = b"HTTP/1.1 503 X\r\ncontent-length: 31\r\n\r\nupstream connect error\nor reset"
ANSWERS = {
    "a pod's answer, whose body is not read": (FROM_POD, Reply(status=503, from_pod=True, heard=True)),
    "a proxy's own": (FROM_PROXY, Reply(status=503, heard=True, said="upstream connect error or reset")),
    "an answer without a body": (b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", Reply(status=404, heard=True)),
    "another protocol": (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Reply(heard=True)),
    "nothing": (b"", Reply()),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_told_from_none(name: str) -> None:
    """What is no HTTP/1 is an answer of something that listens; only an end without a byte is none."""
    text, reply = ANSWERS[name]
    with listening(saying(text)) as port:
        assert ask(port, PLAIN) == reply


def test_a_port_that_refuses_is_no_answer() -> None:
    """As one that hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert ask(port, PLAIN) == Reply()


def test_no_answer_is_waited_for_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the first byte nor for the rest of a body."""
    monkeypatch.setattr(pod_requests, "ANSWER_TIMEOUT_S", 0.3)
    until = threading.Event()
    for text, reply in ((b"", Reply()), (FROM_PROXY[:-20], Reply(status=503, heard=True))):

        def answer(connection: socket.socket, text: bytes = text) -> None:
            saying(text)(connection)
            until.wait(3)

        began = time.monotonic()
        with listening(answer) as port:
            assert ask(port, PLAIN) == reply
            assert time.monotonic() - began < 2
            until.set()
        until.clear()


@pytest.fixture(scope="module")
def served_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("another.example.org").configure_cert(context)
    return context


def test_tls_names_the_host_and_takes_any_certificate(served_tls: ssl.SSLContext) -> None:
    """A gateway chooses by SNI; whether clients trust its certificate is another question."""
    named: list[str | None] = []
    served_tls.sni_callback = lambda connection, name, context: named.append(name)

    def answer(connection: socket.socket) -> None:
        with served_tls.wrap_socket(connection, server_side=True) as secure:
            saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")(secure)

    with listening(answer) as port:
        assert ask(port, Request(host="shop.example.com", path="/", tls=True)) == Reply(status=200, heard=True)
    assert named == ["shop.example.com"]


@pytest.mark.parametrize(
    ("answer", "reply"), [(hang_up, Reply()), (saying(b"HTTP/1.1 400 X\r\n\r\n"), Reply(heard=True))]
)
def test_tls_that_does_not_come_about_is_no_http_answer(answer: Callable[[socket.socket], None], reply: Reply) -> None:
    """A server that hangs up, as Envoy does without a certificate; and one that speaks something else."""
    with listening(answer) as port:
        assert ask(port, Request(host="shop.example.com", path="/", tls=True)) == reply


# --- the way there -----------------------------------------------------------------------------------------------------

KUBECTL = """#!{python}
import json, os, sys, time
words = sys.argv[1:]
open({told!r}, "a").write(json.dumps([words, os.getpid()]) + "\\n")
given = json.load(open({given!r}))
if "port-forward" in words:
    if given["stderr"]:
        sys.exit(given["stderr"])
    print(f"Forwarding from 127.0.0.1:{{given['port']}} -> 9080", flush=True)
    time.sleep(60)
found = next((given[key] for key in given if key in words), None)
sys.exit("forbidden") if found is None else print(json.dumps(found))
"""


class Kubectl:
    """A kubectl that forwards to a port of the test's own, or fails with a text."""

    def __init__(self, folder: Path, port: int = 0, stderr: str = "", objects: dict[str, object] | None = None) -> None:
        self.told = folder / "told"
        given = folder / "given"
        given.write_text(json.dumps({"port": port, "stderr": stderr} | (objects or {})))
        script = folder / "kubectl"
        script.write_text(KUBECTL.format(python=sys.executable, told=str(self.told), given=str(given)))
        script.chmod(0o755)
        processes = Processes(environment={"PATH": f"{folder}:{os.environ['PATH']}"})
        self.requests = PodRequests(processes=processes, connection=Connection(context="here", namespace="shop"))

    def calls(self) -> list[tuple[list[str], int]]:
        return [(words, pid) for words, pid in map(json.loads, self.told.read_text().splitlines())]


def test_the_way_to_a_pod_is_open_for_one_request(tmp_path: Path) -> None:
    """A port of the machine itself that the system chooses, in the pod's namespace; nothing of it stays."""
    with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as port:
        kubectl = Kubectl(tmp_path, port)
        assert kubectl.requests.send("istio-system", "gateway-1", 8080, PLAIN).status == 200
    ((words, pid),) = kubectl.calls()
    assert words == [
        "--context", "here", "--namespace", "istio-system", "port-forward", "pod/gateway-1", ":8080", "--address", "127.0.0.1",
    ]  # fmt: skip
    assert not Path(f"/proc/{pid}").exists()


def test_a_way_that_cannot_be_opened_names_the_right(tmp_path: Path) -> None:
    """As it is to be added to a Role."""
    text = 'User "x" cannot create resource "pods/portforward" in API group "" in the namespace "shop"'
    with pytest.raises(ToolError) as told:
        Kubectl(tmp_path, stderr=f"Error from server (Forbidden): {text}").requests.send("shop", "a", 1, PLAIN)
    assert 'resources: ["pods/portforward"], verbs: ["create"]' in told.value.do_next


POD = {
    "metadata": {"labels": {"istio": "ingressgateway", "app": "gw"}},
    "spec": {"containers": [{"ports": [{"name": "http2", "containerPort": 8080}]}]},
}


def service(target: object, number: int = 80, **selector: str) -> dict[str, object]:
    port = {"port": number} | ({} if target is None else {"targetPort": target})
    return {"spec": {"selector": selector or {"istio": "ingressgateway"}, "ports": [{"port": 15021}, port]}}


PORTS = {
    "a number": ([service(8080)], 8080),
    "a name": ([service("http2")], 8080),
    "a name that no container has": ([service("web")], 80),
    "none": ([service(None)], 80),
    "another's Service first": ([service(9999, istio="other"), service(8080)], 8080),
    "a Service without a selector first": ([{"spec": {"ports": [{"port": 80, "targetPort": 1}]}}, service(8080)], 8080),
    "a number that no Service has": ([service(8443, number=443)], 80),
    "no Service": ([], 80),
    "Services may not be listed": (None, 80),
}


@pytest.mark.parametrize("name", PORTS)
def test_a_gateways_port_is_what_its_service_makes_of_it(name: str, tmp_path: Path) -> None:
    """As istiod does it (resolvePorts in pilot/pkg/model/gateway.go)."""
    services, port = PORTS[name]
    objects: dict[str, object] = {"pod/gw-1": POD}
    if services is not None:
        objects["services"] = {"items": services}
    assert Kubectl(tmp_path, objects=objects).requests.port_of_gateway("istio-system", "gw-1", 80) == port
