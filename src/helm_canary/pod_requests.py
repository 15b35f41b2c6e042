"""One request to one pod, through the API server: a runner often cannot reach a pod or a gateway in another way.

`kubectl port-forward` ends in the pod's own network at localhost, so neither a Service nor a sidecar is on the way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from helm_canary import __version__
from helm_canary.probing import Reply, Request
from helm_canary.process import Connection, Processes

LOCAL = "127.0.0.1"
FORWARDING = re.compile(rf"Forwarding from {re.escape(LOCAL)}:(\d+)")
FORWARD_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 5.0
SAID_LENGTH = 200
FROM_POD = "x-envoy-upstream-service-time"
# All that a path and a query may hold as they stand.
URL_CHARACTERS = "/?%:@!$&'()*+,;=~"


@dataclass(frozen=True, kw_only=True)
class PodRequests:
    """Sends GETs to pods by name."""

    processes: Processes
    connection: Connection

    def send(self, namespace: str, pod: str, port: int, request: Request) -> Reply:
        """What a pod answers at this port. Raises ToolError where the way to it cannot be opened."""
        command = self.connection.kubectl(
            "port-forward", f"pod/{pod}", f":{port}", "--address", LOCAL, namespace=namespace
        )
        with self.processes.beside(command, FORWARDING, timeout_s=FORWARD_TIMEOUT_S) as found:
            return ask(int(found[1]), request)

    def port_of_gateway(self, namespace: str, pod: str, number: int) -> int:
        """Where a gateway pod listens for what a Gateway calls this port.

        Istio looks the number up in the Services of the proxy and listens at their target port, or else at the number itself
        (resolvePorts in pilot/pkg/model/gateway.go). Without the right to read them it is taken to be the number.
        """
        services = self._read(namespace, "services")
        found = self._read(namespace, f"pod/{pod}")
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        for service in (services or {}).get("items") or []:
            selector = service["spec"].get("selector") or {}
            for port in service["spec"].get("ports") or []:
                if selector and selector.items() <= labels.items() and port.get("port") == number:
                    return _target(port, found or {})
        return number

    def _read(self, namespace: str, what: str) -> Mapping[str, Any] | None:
        command = self.connection.kubectl("get", what, "--output", "json", namespace=namespace)
        done = self.processes.run(command, timeout_s=READ_TIMEOUT_S, check=False, once=True)
        return dict(json.loads(done.stdout)) if done.code == 0 else None


def _target(port: Mapping[str, Any], pod: Mapping[str, Any]) -> int:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for container in pod["spec"].get("containers") or []:
        for one in container.get("ports") or []:
            if one.get("name") == target:
                return int(one["containerPort"])
    return int(port["port"])


def ask(port: int, request: Request) -> Reply:
    """The answer of what listens at this port of the machine itself, in a few seconds."""
    try:
        connection = http.client.HTTPConnection(LOCAL, port, timeout=ANSWER_TIMEOUT_S)
        connection.sock = _connect(port, request)
        try:
            headers = {"Host": request.host, "User-Agent": f"helm-canary/{__version__}", "Connection": "close"}
            connection.request("GET", quote(request.path, safe=URL_CHARACTERS), headers=headers)
            return _reply(connection.getresponse())
        finally:
            connection.close()
    except (http.client.RemoteDisconnected, ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return Reply()
    except (ssl.SSLError, http.client.HTTPException):
        return Reply(heard=True)
    except OSError:
        return Reply()


def _connect(port: int, request: Request) -> socket.socket:
    """The certificate is not looked at: it is for the host's clients, and nothing is told to whoever shows it."""
    plain = socket.create_connection((LOCAL, port), timeout=ANSWER_TIMEOUT_S)
    if not request.tls:
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=request.host)
    except BaseException:
        plain.close()
        raise


def _reply(answer: http.client.HTTPResponse) -> Reply:
    """Only the proxy's own words are read: the body of an app's answer may never end."""
    from_pod, said = answer.getheader(FROM_POD) is not None, b""
    if not from_pod and answer.status >= 400:
        with contextlib.suppress(OSError, http.client.HTTPException):
            said = answer.read(SAID_LENGTH)
    words = " ".join(said.decode(errors="replace").split())
    return Reply(status=answer.status, from_pod=from_pod, heard=True, said=words)
