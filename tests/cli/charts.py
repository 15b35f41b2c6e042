"""A small chart that fits, and what to leave out or replace so that it does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: small@SUFFIX@}
spec:
  replicas: {{ .Values.@TRACK@Deployment.replicaCount }}
  selector: {matchLabels: {app: small, track: @TRACK@}}
  template:
    metadata: {labels: {app: small, track: @TRACK@}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: app
          image: "{{ .Values.@TRACK@Deployment.image.repository }}:{{ .Values.@TRACK@Deployment.image.tag }}"
          ports: [{name: http, containerPort: 9080}]
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: small}
spec:
  selector: {app: small}
  ports: [{name: http, port: 9080}]
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: small}
spec:
  host: small.{{ .Release.Namespace }}.svc.cluster.local
  subsets:
    - {name: production, labels: {track: production}}
    - {name: canary, labels: {track: canary}}
"""
ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: small}
spec:
  hosts: ["{{ .Release.Namespace }}.example.com"]
  gateways: [small]
  http:
    - route:
        - destination: {host: small.{{ .Release.Namespace }}.svc.cluster.local, subset: production}
          weight: {{ .Values.productionDeployment.weight }}
        - destination: {host: small.{{ .Release.Namespace }}.svc.cluster.local, subset: canary}
          weight: {{ .Values.canaryDeployment.weight }}
"""
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: small}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["{{ .Release.Namespace }}.example.com"]}]
"""
NOTES = "A chart's own words: ##vso[task.setvariable variable=x]notes and\n::error::notes\n"


def _deployment(track: str, suffix: str) -> str:
    return DEPLOYMENT.replace("@TRACK@", track).replace("@SUFFIX@", suffix)


FILES = {
    "templates/production.yaml": _deployment("production", ""),
    "templates/canary.yaml": _deployment("canary", "-canary"),
    "templates/service.yaml": SERVICE,
    "templates/rule.yaml": RULE,
    "templates/route.yaml": ROUTE,
    "templates/gateway.yaml": GATEWAY,
    "templates/NOTES.txt": NOTES,
}
VALUES: dict[str, Any] = {
    f"{track}Deployment": {
        "replicaCount": 1,
        "weight": weight,
        "image": {"repository": "localhost/cli-app", "tag": "83"},
    }
    for track, weight in (("production", 100), ("canary", 0))
}


def write_chart(folder: Path, changes: Mapping[str, str | None] | None = None) -> Path:
    """The small chart in `folder`; `changes`: file -> other text, or None to leave it out."""
    whole = {
        "Chart.yaml": json.dumps({"apiVersion": "v2", "name": "small", "version": "1.0.0"}),
        "values.yaml": json.dumps(VALUES),
        **FILES,
        **(changes or {}),
    }
    for name, text in whole.items():
        if text is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def schema_without_release() -> str:
    """A closed schema, as a chart may have one, that knows the values of the chart and nothing else."""
    properties = {name: {"type": "object"} for name in VALUES}
    return json.dumps({"type": "object", "additionalProperties": False, "properties": properties})
