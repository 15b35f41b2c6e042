"""What `helm create` makes, and the changes by which a person makes two tracks of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

NAME = "demo"
LIMIT_S = 60
PORT = 9080


def create(folder: Path, changes: Iterable[str]) -> Path:
    """The chart, in `folder`, with these changes in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["helm", "create", NAME], cwd=folder, check=True, capture_output=True, timeout=LIMIT_S)
    chart = folder / NAME
    for change in changes:
        CHANGES[change](chart)
    return chart


def _edit(path: Path, changes: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{path.name} of helm create does not hold {old!r}"
        text = text.replace(old, new)
    return text


def _copies(path: Path, changes: Mapping[str, str]) -> None:
    """A copy of a template for each track, with these changes; `@` stands for the track, `%` for its suffix."""
    for track, suffix in (("production", ""), ("canary", "-canary")):
        text = _edit(path, {old: new.replace("@", track).replace("%", suffix) for old, new in changes.items()})
        path.with_name(f"{track}-{path.name}").write_text(text, encoding="utf-8")
    path.unlink()


def _tracks(chart: Path) -> None:
    _copies(
        chart / "templates/deployment.yaml",
        {
            f'name: {{{{ include "{NAME}.fullname" . }}}}\n': f'name: {{{{ include "{NAME}.fullname" . }}}}%\n',
            ".Values.replicaCount": ".Values.@Deployment.replicaCount",
            ".Values.image.repository": ".Values.@Deployment.image.repository",
            ".Values.image.tag": ".Values.@Deployment.image.tag",
            'selectorLabels" . | nindent 6 }}': 'selectorLabels" . | nindent 6 }}\n      track: @',
            'labels" . | nindent 8 }}': 'labels" . | nindent 8 }}\n        track: @',
        },
    )
    _copies(
        chart / "templates/hpa.yaml",
        {f'name: {{{{ include "{NAME}.fullname" . }}}}\n': f'name: {{{{ include "{NAME}.fullname" . }}}}%\n'},
    )
    image = {"repository": "localhost/quick", "tag": "83"}
    values = {
        "productionDeployment": {"replicaCount": 2, "weight": 100, "image": image},
        "canaryDeployment": {"replicaCount": 0, "weight": 0, "image": image},
        "host": "shop.example.com",
    }
    more = "".join(f"\n{key}: {json.dumps(value)}" for key, value in values.items())
    text = _edit(chart / "values.yaml", {"  port: 80\n": f"  port: {PORT}\n"})
    (chart / "values.yaml").write_text(text + more + "\n", encoding="utf-8")


def _rule(chart: Path) -> None:
    (chart / "templates/destinationrule.yaml").write_text(RULE, encoding="utf-8")


def _routing(chart: Path) -> None:
    _rule(chart)
    (chart / "templates/gateway.yaml").write_text(GATEWAY, encoding="utf-8")
    (chart / "templates/virtualservice.yaml").write_text(ROUTE, encoding="utf-8")


def _autoscaling(chart: Path) -> None:
    old = "autoscaling:\n  enabled: false\n  minReplicas: 1\n"
    text = _edit(chart / "values.yaml", {old: "autoscaling:\n  enabled: true\n  minReplicas: 2\n"})
    (chart / "values.yaml").write_text(text, encoding="utf-8")


def _http_route(chart: Path) -> None:
    text = _edit(
        chart / "values.yaml", {"httpRoute:\n  # HTTPRoute enabled.\n  enabled: false": "httpRoute:\n  enabled: true"}
    )
    (chart / "values.yaml").write_text(text, encoding="utf-8")


CHANGES: Mapping[str, Callable[[Path], None]] = {
    "tracks": _tracks,
    "rule": _rule,
    "routing": _routing,
    "autoscaling": _autoscaling,
    "httproute": _http_route,
}
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {{ include "demo.fullname" . }}
  labels:
    {{- include "demo.labels" . | nindent 4 }}
spec:
  host: {{ include "demo.fullname" . }}.{{ .Release.Namespace }}.svc.cluster.local
  subsets:
    - name: production
      labels: {track: production}
    - name: canary
      labels: {track: canary}
"""
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: {{ include "demo.fullname" . }}
  labels:
    {{- include "demo.labels" . | nindent 4 }}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [{{ .Values.host | quote }}]
"""
ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {{ include "demo.fullname" . }}
  labels:
    {{- include "demo.labels" . | nindent 4 }}
spec:
  hosts: [{{ .Values.host | quote }}]
  gateways: [{{ include "demo.fullname" . }}]
  http:
    - route:
        - destination: {host: {{ include "demo.fullname" . }}.{{ .Release.Namespace }}.svc.cluster.local, subset: production}
          weight: {{ .Values.productionDeployment.weight }}
        - destination: {host: {{ include "demo.fullname" . }}.{{ .Release.Namespace }}.svc.cluster.local, subset: canary}
          weight: {{ .Values.canaryDeployment.weight }}
"""
