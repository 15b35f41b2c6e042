"""A network that is left through a proxy: the usual variables lead every request of ours there, and past it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.azure.program import CLUSTER
from tests.azure.servers import CANARY

if TYPE_CHECKING:
    from tests.azure.program import Runner
    from tests.azure.servers import Azure

pytestmark = pytest.mark.timeout(120)


@dataclass
class Proxy:
    """Where it is, whom it was asked to reach, and whether it lets anybody through."""

    url: str = ""
    opens: bool = True
    asked: list[str] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Proxy]:
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.asked.append(self.path)
            if not proxy.opens:
                self.send_error(403, "not from here")
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as there:
                self.send_response(200)
                self.end_headers()
                self._pass_on(there)

        def _pass_on(self, there: socket.socket) -> None:
            ends = {self.connection: there, there: self.connection}
            while True:
                for ready in select.select(list(ends), [], [], 10)[0] or [None]:
                    content = ready.recv(65536) if ready is not None else b""
                    if not content:
                        self.close_connection = True
                        return
                    proxy.heard.append(content)
                    ends[ready].sendall(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    yield proxy
    server.shutdown()
    server.server_close()


def credentials(runner: Runner, **variables: str) -> tuple[int, str]:
    path = str(runner.folder / "config")
    ran = runner.run("credentials", *CLUSTER, "--write", path, "--timeout", "10s", auth="client-secret", **variables)
    return ran.code, ran.stderr


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_is_used(name: str, azure: Azure, runner: Runner) -> None:
    """Entra and Azure Resource Manager are reached through it, and it sees nothing of what is said."""
    with serving() as proxy:
        code, said = credentials(runner, NO_PROXY="", **{name: proxy.url})
    assert code == 0, said
    assert set(proxy.asked) == {azure.secure.removeprefix("https://")}
    assert len(proxy.asked) >= 2
    assert not any(CANARY.encode() in content for content in proxy.heard)


def test_a_host_that_needs_no_proxy_is_asked_without_it(azure: Azure, runner: Runner) -> None:
    """What NO_PROXY names is asked directly."""
    with serving() as proxy:
        code, said = credentials(runner, HTTPS_PROXY=proxy.url, NO_PROXY="127.0.0.1")
    assert code == 0, said
    assert proxy.asked == []
    assert azure.asked("arm")


def test_a_proxy_that_lets_nobody_through_is_named(azure: Azure, runner: Runner) -> None:
    """The error says that it is the proxy, and ends with exit code 3."""
    with serving() as proxy:
        proxy.opens = False
        code, said = credentials(runner, NO_PROXY="", HTTPS_PROXY=proxy.url)
    assert code == 3, said
    assert "the proxy does not let it through" in said
    assert azure.seen == []
