"""Entra, Azure Resource Manager, the CI's OIDC endpoints, a container registry and an API server on loopback.

The TLS, the addresses and the forms of the answers are those of the real ones, so that the real SDK, kubectl and helm talk to
them without a hook. Every secret that they give out holds `CANARY`, so that a search for it finds any that got somewhere.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
import yaml

CANARY = "c4n4ry-5ecret"
TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
SUBSCRIPTION, GROUP, NAME = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "rg-shop", "aks-shop"
SERVER_ID = "6dae42f8-4368-4678-94ff-3960e28e3630"
SUBJECT = "repo:acme/shop:environment:canary-10"
CASES = Path(__file__).parent / "cases"


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def jwt(**claims: object) -> str:
    """A token in the form of a JWT; its signature is the canary."""
    parts = [json.dumps({"alg": "RS256", "typ": "JWT"}), json.dumps(claims), f"{CANARY}-signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts[:2]) + "." + parts[2]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request that came in."""

    where: str
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    form: dict[str, str]


@dataclass
class Azure:
    """The servers, what they were asked, and what they are to answer.

    kind      which of the three kinds of kubeconfig is returned
    faults    where (oidc, discovery, entra, arm, registry, api) -> what to do to the next requests in place of an answer
    life_s    how long a token is good for
    given     the tokens that Entra gave out, which the API server takes but for those that are `refused`
    """

    folder: Path
    kind: str = "exec"
    tenant_of_cluster: str = TENANT
    life_s: int = 3600
    seen: list[Seen] = field(default_factory=list)
    faults: dict[str, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    given: list[str] = field(default_factory=list)
    assertions: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    power: str = "Running"
    static_token: str = f"{CANARY}-static-token"
    api_server: str = ""
    api_token: Callable[[], str] | None = None
    secure: str = ""
    plain: str = ""
    api: str = ""
    ca: Path = Path()
    client_pem: bytes = b""
    client_key: bytes = b""
    ca_pem: bytes = b""
    charts: dict[str, bytes] = field(default_factory=dict)

    def asked(self, where: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.where == where]

    @property
    def cloud(self) -> str:
        host = self.secure.removeprefix("https://")
        return f"authority={self.secure},management={self.secure},registry={host}"

    def environment(self, auth: str) -> dict[str, str]:
        """The variables that the platform of one --auth sets, with planted secrets."""
        common = {"REQUESTS_CA_BUNDLE": str(self.ca), "SSL_CERT_FILE": str(self.ca), "NO_PROXY": "127.0.0.1"}
        certificate = self.folder / "client.pem"
        federated = self.folder / "federated"
        federated.write_text(
            jwt(sub="system:serviceaccount:ci:runner", iss="https://oidc.aks/", aud="api://AzureADTokenExchange")
        )
        certificate.write_bytes(self.client_pem + self.client_key)
        return common | {
            "github-oidc": {
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.plain}/github?api-version=2.0",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": f"{CANARY}-runner-token",
            },
            "azure-pipelines": {
                "SYSTEM_OIDCREQUESTURI": f"{self.plain}/azp/_apis/distributedtask/hubs/build/plans/1/jobs/1/oidctoken",
                "SYSTEM_ACCESSTOKEN": f"{CANARY}-system-access-token",
                "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": "12121212-3434-5656-7878-909090909090",
            },
            "workload-identity": {"AZURE_FEDERATED_TOKEN_FILE": str(federated)},
            "client-secret": {"AZURE_CLIENT_SECRET": f"{CANARY}-client-secret"},
            "client-certificate": {"AZURE_CLIENT_CERTIFICATE_PATH": str(certificate)},
            "managed-identity": {"IDENTITY_ENDPOINT": f"{self.plain}/msi/token", "IDENTITY_HEADER": f"{CANARY}-msi-header"},
            "azure-cli": {"PATH": f"{self._az()}:{os.environ['PATH']}"},
        }[auth]  # fmt: skip

    def _az(self) -> Path:
        """A folder with an `az` that is logged in."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        said = {"accessToken": f"{CANARY}-access-cli", "expires_on": int(time.time()) + 3600,
                "expiresOn": "2099-01-01 00:00:00.000000", "tokenType": "Bearer", "tenant": TENANT}  # fmt: skip
        if f"{CANARY}-access-cli" not in self.given:
            self.given.append(f"{CANARY}-access-cli")
        (folder / "az").write_text(f"#!/bin/sh\necho \"$*\" >>{folder}/calls\ncat <<'END'\n{json.dumps(said)}\nEND\n")
        (folder / "az").chmod(0o755)
        return folder

    def publish(self, name: str, version: str, archive: bytes) -> str:
        """Put a packaged chart into the registry; what --chart says to get it."""
        config = json.dumps({"apiVersion": "v2", "name": name, "version": version}).encode()
        parts = ((HELM_CONFIG, config), (HELM_CONTENT, archive))
        about = [{"mediaType": kind, "digest": digest(part), "size": len(part)} for kind, part in parts]
        whole = {"schemaVersion": 2, "mediaType": MANIFEST, "config": about[0], "layers": about[1:]}
        manifest = json.dumps(whole).encode()
        for path in (version, digest(manifest)):
            self.charts[f"/v2/charts/{name}/manifests/{path}"] = manifest
        for _, part in parts:
            self.charts[f"/v2/charts/{name}/blobs/{digest(part)}"] = part
        return f"oci://{self.secure.removeprefix('https://')}/charts/{name}"

    # --- answers

    def answer(self, seen: Seen) -> Mapping[str, Any]:
        if seen.where == "oidc":
            return self._oidc(seen)
        if seen.where == "entra":
            return self._entra(seen)
        if seen.where == "arm":
            return self._arm(seen)
        if seen.where == "registry":
            return self._registry(seen)
        return self._api(seen)

    def _oidc(self, seen: Seen) -> Mapping[str, Any]:
        if seen.path.startswith("/github"):
            issuer = "https://token.actions.githubusercontent.com"
            return {"json": {"count": 1, "value": self._assertion(SUBJECT, issuer, seen.query["audience"])}}
        if seen.path.startswith("/azp"):
            subject = "sc://acme/shop/aks-connection"
            issuer = f"https://login.microsoftonline.com/{TENANT}/v2.0"
            return {"json": {"oidcToken": self._assertion(subject, issuer, "api://AzureADTokenExchange")}}
        return {
            "json": {
                **self._token(),
                "expires_on": str(int(time.time()) + self.life_s),
                "resource": seen.query["resource"],
            }
        }

    def _assertion(self, subject: str, issuer: str, audience: str) -> str:
        self.assertions.append(jwt(sub=subject, iss=issuer, aud=audience, jti=str(len(self.assertions))))
        return self.assertions[-1]

    def _token(self) -> dict[str, Any]:
        token = f"{CANARY}-access-{len(self.given)}" if self.api_token is None else self.api_token()
        self.given.append(token)
        return {"token_type": "Bearer", "expires_in": self.life_s, "ext_expires_in": self.life_s, "access_token": token}

    def _entra(self, seen: Seen) -> Mapping[str, Any]:
        tenant = seen.path.split("/")[1]
        if seen.path.endswith("openid-configuration"):
            base = f"{self.secure}/{tenant}"
            return {"json": {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "issuer": f"{base}/v2.0",
            }}  # fmt: skip
        return {"json": self._token()}

    def _arm(self, seen: Seen) -> Mapping[str, Any]:
        if seen.method == "GET":
            return {"json": {"id": seen.path, "name": NAME, "location": "westeurope",
                             "properties": {"powerState": {"code": self.power}}}}  # fmt: skip
        role = "clusterAdmin" if seen.path.endswith("listClusterAdminCredential") else "clusterUser"
        value = base64.b64encode(self.kubeconfig().encode()).decode()
        return {"json": {"kubeconfigs": [{"name": role, "value": value}]}}

    def kubeconfig(self) -> str:
        """As Azure returns it, filled in with this API server's address and keys."""
        text = (CASES / f"kubeconfig-{self.kind}.yaml").read_text()
        values = {
            "SERVER": self.api_server or self.api,
            "CA": base64.b64encode(self.ca_pem).decode(),
            "TENANT": self.tenant_of_cluster,
            "CERTIFICATE": base64.b64encode(self.client_pem).decode(),
            "KEY": base64.b64encode(self.client_key).decode(),
            "TOKEN": self.static_token,
        }
        for key, value in values.items():
            text = text.replace(f"<{key}>", value)
        return text

    def _registry(self, seen: Seen) -> Mapping[str, Any]:
        if seen.path == "/oauth2/exchange":
            return {"json": {"refresh_token": jwt(sub="refresh")}}
        if seen.path == "/oauth2/token":
            return {"json": {"access_token": f"{CANARY}-registry-access", "token": f"{CANARY}-registry-access"}}
        if not seen.headers.get("Authorization", "").startswith("Bearer "):
            host = self.secure.removeprefix("https://")
            challenge = (
                f'Bearer realm="{self.secure}/oauth2/token",service="{host}",scope="repository:charts/page:pull"'
            )
            return {
                "status": 401,
                "headers": {"WWW-Authenticate": challenge},
                "json": {"errors": [{"code": "UNAUTHORIZED"}]},
            }
        body = self.charts.get(seen.path)
        if body is None:
            return (
                {"json": {}}
                if seen.path == "/v2/"
                else {"status": 404, "json": {"errors": [{"code": "MANIFEST_UNKNOWN"}]}}
            )
        kind = MANIFEST if "/manifests/" in seen.path else "application/octet-stream"
        return {"body": body, "headers": {"Content-Type": kind, "Docker-Content-Digest": digest(body)}}

    def _api(self, seen: Seen) -> Mapping[str, Any]:
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        known = token in self.given or token == f"{CANARY}-static-token"
        if not known or token in self.refused:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized",
                      "reason": "Unauthorized", "code": 401}  # fmt: skip
            return {"status": 401, "json": status}
        return {"json": {"major": "1", "minor": "32", "gitVersion": "v1.32.4"}}


def where(path: str, server: str) -> str:
    if server == "api":
        return "api"
    if server == "plain":
        return "oidc"
    if path.startswith("/subscriptions/"):
        return "arm"
    return "registry" if path.startswith(("/v2/", "/oauth2/")) else "entra"


def handler(azure: Azure, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            seen = Seen(
                where=where(url.path, server),
                method=self.command,
                path=url.path,
                query={key: values[0] for key, values in parse_qs(url.query).items()},
                headers=dict(self.headers.items()),
                form={key: values[0] for key, values in parse_qs(body.decode(errors="replace")).items()},
            )
            azure.seen.append(seen)
            discovery = url.path.endswith("openid-configuration")
            queue = azure.faults["discovery" if discovery else seen.where]
            fault = queue[0] if queue else {}
            # The last one of a list stays: `503 for ever` is a list of one with `for ever`.
            if queue and not fault.get("forever"):
                queue.pop(0)
            self._send(dict(fault) if fault else azure.answer(seen))

        def _send(self, said: Mapping[str, Any]) -> None:
            if said.get("do") == "hang":
                time.sleep(float(said.get("seconds", 60)))
                return
            if said.get("do") == "reset":
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = said.get("body", b"")
            body = body.encode() if isinstance(body, str) else body
            body = json.dumps(said["json"]).encode() if "json" in said else body
            self.send_response_only(said.get("status", 200))
            headers = {
                "Content-Type": "application/json",
                "Date": formatdate(time.time() + said.get("skew", 0), usegmt=True),
            }
            for name, value in {**headers, **said.get("headers", {})}.items():
                self.send_header(name, str(value))
            self.send_header("Content-Length", str(len(body) * (2 if said.get("do") == "half" else 1)))
            if said.get("do") == "half":
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


class Quiet(ThreadingHTTPServer):
    """A client that goes away in the middle is part of the tests."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Azure]:
    """All servers, with a certificate authority of their own."""
    authority = trustme.CA()
    issued, client = (
        authority.issue_cert("127.0.0.1"),
        authority.issue_cert("admin@example.com", key_type=trustme.KeyType.RSA),
    )
    azure = Azure(folder=folder, ca=folder / "ca.pem", ca_pem=authority.cert_pem.bytes(),
                  client_pem=client.cert_chain_pems[0].bytes(), client_key=client.private_key_pem.bytes())  # fmt: skip
    authority.cert_pem.write_to_path(str(azure.ca))
    servers = []
    for name in ("plain", "secure", "api"):
        server = Quiet(("127.0.0.1", 0), handler(azure, name))
        if name != "plain":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issued.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        setattr(azure, name, f"{'http' if name == 'plain' else 'https'}://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
    yield azure
    for server in servers:
        server.shutdown()
        server.server_close()


def serve_for_a_cluster(folder: Path, kind: str, server: str, authority: Path, token: Path, life_s: int) -> None:
    """The servers in front of a real cluster, in a process of their own, since it may have another network.

    Entra gives out whatever token is in the file. Says where everything is on standard output; ends with standard input.
    """
    with serving(folder) as azure:
        azure.kind, azure.api_server, azure.ca_pem, azure.life_s = kind, server, authority.read_bytes(), life_s
        azure.api_token = lambda: token.read_text().strip()
        azure.static_token = token.read_text().strip()
        names = ("github-oidc", "azure-pipelines", "client-certificate", "managed-identity")
        environments = {name: azure.environment(name) for name in names}
        print(json.dumps({"url": azure.secure, "cloud": azure.cloud, "environments": environments}), flush=True)
        sys.stdin.read()
        print(json.dumps([[seen.where, seen.path] for seen in azure.seen]), flush=True)


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of a file; an id for each is its `case`."""
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return found


if __name__ == "__main__":
    where_to, kind_, server_, *files, life = sys.argv[1:]
    serve_for_a_cluster(Path(where_to), kind_, server_, Path(files[0]), Path(files[1]), int(life))
