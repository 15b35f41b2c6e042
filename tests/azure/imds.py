"""The metadata service of a virtual machine, at its own address: in a network of its own, where nothing else is.

python -m tests.azure.imds FAULT COMMAND...   FAULT: none, away, throttled, no-identity

Runs the command in a new network namespace whose loopback has the service's link-local address. Prints what was asked as JSON on
a last line of standard error; ends with the command's exit code. Needs root on Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.azure.servers import CANARY, CLIENT

ADDRESS = "169.254.169.254"
PATH = "/metadata/identity/oauth2/token"
FAULTS = ("none", "away", "throttled", "no-identity")


def isolated(fault: str, *command: str) -> list[str]:
    """The words that run a command next to the service."""
    inside = 'ip link set lo up && ip address add "$0" dev lo && exec "$@"'
    return ["unshare", "--net", "sh", "-c", inside, f"{ADDRESS}/32",
            sys.executable, "-m", "tests.azure.imds", fault, *command]  # fmt: skip


def _handler(fault: str, asked: list[dict[str, object]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            marked = self.headers.get("Metadata") == "true"
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            asked.append({"path": url.path, "marked": marked, "query": query})
            status, body = self._answer(url.path, query, marked)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        @staticmethod
        def _answer(path: str, query: dict[str, str], marked: bool) -> tuple[int, dict[str, str]]:
            if path != PATH:
                return 404, {"error": "not_found"}
            if not marked:
                return 400, {"error": "invalid_request", "error_description": "Required metadata header not specified"}
            if fault == "no-identity":
                return 400, {"error": "invalid_request", "error_description": "Identity not found"}
            if fault == "throttled" and sum(1 for one in asked if one["marked"]) < 3:
                return 429, {"error": "too_many_requests", "error_description": "Temporarily throttled"}
            until = str(int(time.time()) + 86400)
            return 200, {"access_token": f"{CANARY}-imds", "client_id": query.get("client_id", CLIENT), "token_type": "Bearer",
                         "expires_in": "86400", "expires_on": until, "ext_expires_in": "86400", "not_before": "0",
                         "resource": query["resource"]}  # fmt: skip

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def main(fault: str, command: list[str]) -> int:
    asked: list[dict[str, object]] = []
    if fault != "away":
        server = ThreadingHTTPServer((ADDRESS, 80), _handler(fault, asked))
        threading.Thread(target=server.serve_forever, daemon=True).start()
    done = subprocess.run(command, env=dict(os.environ), timeout=100, check=False)
    print(json.dumps(asked), file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
