"""The eight commands that a team typed before: one `helm upgrade --install --set ... --wait` a stage, and one to go back.

Settings make this chart behave as theirs did: no preStop sleep, and probes at Kubernetes' own period of ten seconds.
"""

from __future__ import annotations

from .service import RELEASE, Service

PREVIOUS, NEW = "previous", "new"
VALUES = {
    "pod": {"preStopSleepSeconds": 0, "readinessProbe": {"periodSeconds": 10}, "livenessProbe": {"periodSeconds": 10}}
}
# Of production, then of the canary: version, weight, replicas.
STAGES = {
    1: ((PREVIOUS, 100, 2), (PREVIOUS, 0, 0)),
    2: ((PREVIOUS, 90, 2), (NEW, 10, 2)),
    3: ((PREVIOUS, 10, 2), (NEW, 90, 2)),
    4: ((PREVIOUS, 0, 2), (NEW, 100, 2)),
    5: ((NEW, 0, 2), (NEW, 100, 2)),
    6: ((NEW, 100, 2), (NEW, 0, 2)),
    7: ((NEW, 100, 2), (NEW, 0, 0)),
}
LIMIT_S = 120


def upgrade(service: Service, stage: int, previous: str, new: str, *, helm: str = "helm") -> None:
    """One of the commands, by the Helm of this name; stage 1 is also the rollback."""
    tags = {PREVIOUS: previous, NEW: new}
    pairs = []
    for name, (version, weight, replicas) in zip(("production", "canary"), STAGES[stage], strict=True):
        of = f"{name}Deployment"
        pairs += [f"{of}.image.tag={tags[version]}", f"{of}.weight={weight}", f"{of}.replicaCount={replicas}"]
    service.cluster.run(
        *(helm, "upgrade", "--install", "--namespace", service.namespace, "--values", service.values_file()),
        *("--set", ",".join(pairs), "--wait", RELEASE, service.chart),
        timeout_s=LIMIT_S,
    )
