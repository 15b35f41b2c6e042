"""What a chart renders besides its pods: made, changed and removed at its stage, and put back by a rollback, under load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Traffic

from .conftest import QUICK, Lab
from .ledger import Ledger
from .service import Service, copy_chart
from .states import Release
from .walk import Walk

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RPS = 100
PINNED = "{{- $pinned := get ((.root.Values.release).pods | default dict) .track -}}"
PULL = "      imagePullPolicy: {{ $deployment.image.pullPolicy }}\n"
# A chart as many teams have it: the tag in labels and names of objects that both tracks share, settings with a name of their
# content, a worker of the same image, an object that is rendered once and kept, hooks; and no `release.pods`.
BUSY = (
    ("templates/_pod.tpl", PINNED, '{{- $pinned := "" -}}'),
    (
        "templates/_pod.tpl",
        PULL,
        PULL + "      envFrom: [{configMapRef: {name: settings-{{ $deployment.image.tag }}}}]\n",
    ),
    (
        "templates/busy.yaml",
        "",
        """\
{{- $tag := .Values.productionDeployment.image.tag }}
apiVersion: v1
kind: ConfigMap
metadata: {name: settings-{{ $tag }}}
data: {SETTING: "{{ $tag }}"}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: shared
  labels: {app.kubernetes.io/version: "{{ $tag }}", helm.sh/chart: "{{ .Chart.Name }}-{{ $tag }}"}
data: {tag: "{{ $tag }}"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      containers:
        - name: worker
          image: {{ include "productpage.image" .Values.productionDeployment.image | quote }}
          resources: {requests: {cpu: 1m, memory: 8Mi}}
{{- if .Release.IsInstall }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: once, annotations: {helm.sh/resource-policy: keep}}
data: {made: at the installation}
{{- end }}
{{- range $event := list "pre" "post" }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $event }}-hook
  annotations: {helm.sh/hook: "{{ $event }}-install,{{ $event }}-upgrade"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: job
          image: {{ include "productpage.image" $.Values.productionDeployment.image | quote }}
          args: [job]
          resources: {requests: {cpu: 1m, memory: 8Mi}}
{{- end }}
""",
    ),
)


def _config(service: Service) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["data"] for item in service.read("configmaps") if "data" in item}


def _worker(service: Service) -> str:
    (deployment,) = (item for item in service.read("deployments") if item["metadata"]["name"] == "worker")
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    ready = deployment["status"].get("readyReplicas", 0) == deployment["status"].get("updatedReplicas", 0) == 1
    return image.rpartition(":")[2] + ("" if ready else " not Ready")


def _shared(service: Service) -> dict[str, object]:
    """What the busy chart makes besides the tracks, as it is now."""
    found = _config(service)
    return {
        "settings": {name for name in found if name.startswith("settings-")},
        "shared": found["shared"]["tag"],
        "worker": _worker(service),
        "once": "once" in found,
    }


OLD = {"settings": {"settings-83"}, "shared": "83", "worker": "83", "once": True}
CANARY = {**OLD, "settings": {"settings-83", "settings-84"}}
PROMOTED = {**CANARY, "shared": "84", "worker": "84"}
FINISHED = {**PROMOTED, "settings": {"settings-84"}}
AT = {2: CANARY, 3: CANARY, 4: CANARY, 5: PROMOTED, 6: PROMOTED, 7: FINISHED}


def _jobs(service: Service) -> dict[str, str]:
    """Each hook's Job -> its uid: a new one means that the hook ran again."""
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in service.read("jobs")}


@pytest.mark.parametrize(
    "last", [pytest.param(3, marks=pytest.mark.matrix), 5, pytest.param(7, marks=pytest.mark.matrix)]
)
def test_what_both_tracks_share_moves_at_its_stage(lab: Lab, ledger: Ledger, tmp_path: Path, last: int) -> None:
    """New objects come at 2, changed ones and a worker move at 5, old ones go at 7, a rollback undoes all; nothing is lost."""
    service = lab.service(QUICK, options=("--drain", "5s", "--timeout", "90s")).having(
        chart=copy_chart(tmp_path, *BUSY)
    )
    service.install("83")
    assert (_shared(service), set(_jobs(service))) == (OLD, {"pre-hook", "post-hook"})
    changed = service.having(values={"pod": {"env": {"MODE": "new"}}})
    pods, first, second = service.pods("production"), _jobs(service), dict[str, str]()
    with Traffic(service.cluster, service.host, rps=RPS) as traffic:
        walk = Walk(changed, traffic, ledger, "a chart with much besides its pods", Release("83", "84"))
        for stage in range(2, last + 1):
            walk.stage(stage)
            assert _shared(service) == AT[stage], stage
            if stage < 5:
                assert service.pods("production") == pods
            if stage == 2:
                second = _jobs(service)
                assert not set(first.values()) & set(second.values()), "each hook runs once more"
            assert _jobs(service) == second
        walk.rollback(last)
        assert _shared(service) == OLD
        assert _jobs(service) == second
        walk.settle()
    again = changed.stage(2, "84").expect(0, "done")
    assert "These objects change at promote" in json.dumps(again.answer["notes"])
    assert _shared(service) == CANARY
    changed.rollback().expect(0, "done")
    assert _shared(service) == OLD
    lab.delete(service.namespace)
