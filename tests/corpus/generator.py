"""A chart out of a seed: which features it has is drawn, and what they are is in pieces.yaml.

A chart that fails is made smaller by hand: `python -m tests.corpus 17 hooks= pods=liveness` writes it with fewer features.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tests.e2e.service import merge

from .chart import named, write
from .table import Refused

NAME = "made"
# A feature of which a chart has one or none: its pieces, as often as they are to come up; "" is none.
ONE_OF: Mapping[str, Sequence[str]] = {
    "labels": ("", "helmLabels", "helmLabels", "oldLabels", "tagLabels", "library"),
    "track": ("", "", "trackIsBoolean", "trackIsStable", "trackIsDeploymentType"),
    "deployment": ("", "", "strategy", "recreate", "emptyFields"),
    "scratch": ("", "", "mounts", "memoryVolume"),
    "config": ("", "", "config", "hashedConfig"),
    "secret": ("", "", "secret", "secretOnceMade", "secretOnInstall"),
    "replicas": ("", "", "", "autoscaled"),
    "port": ("", "", "", "webPort", "socketPort"),
    "service": ("", "", "", "loadBalancer"),
    "host": ("", "", "shortHost"),
    "gateway": ("", "", "meshToo"),
    "route": ("", "", "", "delegate"),
    "namespace": ("", "namespaceOfRelease"),
    "image": ("", "", "imageWithV", "imageWithSuffix", "imageWithRegistry"),
    "schema": ("", "openSchema", "closedSchemaWithRelease"),
    "layout": ("", "twoFiles"),
    "release": ("", "", "pinned"),
}
# Features of which a chart has any number.
SOME_OF: Mapping[str, Sequence[str]] = {
    "pods": (
        "serviceAccount", "security", "liveness", "startup", "preStop", "resources", "spread", "podFields", "rendered",
        "scraped", "sidecar", "waitsForIt", "componentLabels", "tagInPods",
    ),
    "objects": (
        "worker", "cron", "disruption", "networkPolicy", "metricsService", "serviceMonitor", "kept", "tagInConfig", "notes",
        "helmTest", "subchart",
    ),
    "hooks": ("migration", "smoke"),
    "routing": ("secondPort", "grpcPort", "secondRoute", "redirect", "routeOptions"),
}  # fmt: skip
# What does not fit -> who refuses it first, and words of what is said.
MISFITS: Mapping[str, Refused] = {
    "closedSchema": Refused(by="plan", says=("release", "schema")),
    "noTag": Refused(by="plan", says=("image", "tag")),
    "oneSelector": Refused(by="plan", says=("selector",)),
    "ownReplicas": Refused(by="plan", says=("replicaCount",)),
    "ownWeights": Refused(by="plan", says=("canaryDeployment.weight",)),
    "testersHeader": Refused(by="plan", says=("canary", "weights")),
    "statefulSet": Refused(by="plan", says=("Deployment", "production")),
    "rollout": Refused(by="plan", says=("Deployment", "production"), there=("Rollout",)),
    "revisionInPods": Refused(by="stage 1", says=("Revision",)),
    "randomInPods": Refused(by="stage 1", says=("Deployment/shop",)),
    "timeInPods": Refused(by="stage 1", says=("Deployment/shop",)),
    "randomSecretInPods": Refused(by="stage 1", says=("Secret/shop-login",)),
    "newCertificate": Refused(by="stage 1", says=("Secret/shop-tls",)),
    "ownRelease": Refused(by="stage 1", says=("Deployment/shop",)),
    "onlyWithWeight": Refused(by="plan", says=("shop-canary",)),
    "plainJob": Refused(by="stage 2", says=("Job",)),
}
MISFIT_IN = 4


@dataclass(frozen=True, kw_only=True)
class Features:
    """What a made chart has: names of pieces, a feature with none or several of them as a tuple."""

    seed: int
    labels: str = ""
    track: str = ""
    deployment: str = ""
    scratch: str = ""
    config: str = ""
    secret: str = ""
    replicas: str = ""
    port: str = ""
    service: str = ""
    host: str = ""
    gateway: str = ""
    route: str = ""
    namespace: str = ""
    image: str = ""
    schema: str = ""
    layout: str = ""
    release: str = ""
    pods: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    routing: tuple[str, ...] = ()
    misfit: str = ""

    @property
    def pieces(self) -> list[str]:
        """In an order in which a later one may change what an earlier one wrote."""
        each = [getattr(self, one.name) for one in fields(self) if one.name not in ("seed", "misfit")]
        flat = [name for value in each for name in (value if isinstance(value, tuple) else (value,))]
        return [name for name in (*flat, self.misfit) if name]

    @property
    def refused(self) -> Refused | None:
        """Why it must not be released, and who finds that first."""
        return MISFITS[self.misfit] if self.misfit else None

    @property
    def change(self) -> dict[str, Any]:
        """Values that its release changes beside the tag: whatever of it can change."""
        changed: dict[str, Any] = {"mode": "changed"}
        if self.config:
            changed = merge(changed, {"config": {"greeting": "good day"}})
        if "rendered" in self.pods:
            changed = merge(changed, {"extraEnv": {"ADDED": "{{ .Chart.Name }}"}})
        if "resources" in self.pods:
            changed = merge(changed, {"resources": {"limits": {"memory": "160Mi"}}})
        return changed

    @property
    def allow(self) -> tuple[str, ...]:
        """Objects that the release may change early: what both tracks read."""
        return ("ConfigMap/shop-config",) if self.config == "config" else ()

    @property
    def install(self) -> tuple[str, ...]:
        """Further arguments of the installation: a Secret that is rendered once."""
        once = self.secret in ("secretOnceMade", "secretOnInstall")
        return ("--allow", "Secret/shop-login") if once else ()

    @property
    def images(self) -> tuple[str, ...]:
        """The tags that its images have."""
        forms = {"imageWithV": "v{}", "imageWithSuffix": "{}-alpine"}
        return tuple(forms.get(self.image, "{}").format(tag) for tag in (83, 84))

    def write(self, folder: Path) -> Path:
        return write(folder / NAME, NAME, named(self.pieces))

    def __str__(self) -> str:
        """As the command that writes it takes it."""
        given = [(one.name, getattr(self, one.name)) for one in fields(self) if one.name != "seed"]
        shown = [f"{name}={','.join(value) if isinstance(value, tuple) else value}" for name, value in given if value]
        return " ".join([str(self.seed), *shown])


def features(seed: int) -> Features:
    """The features of a seed: always the same ones."""
    dice = random.Random(seed)
    drawn: dict[str, Any] = {name: dice.choice(list(pieces)) for name, pieces in ONE_OF.items()}
    for name, pieces in SOME_OF.items():
        drawn[name] = tuple(piece for piece in pieces if dice.random() < 0.3)
    if dice.randrange(MISFIT_IN) == 0:
        drawn["misfit"] = dice.choice(list(MISFITS))
    return _agreeing(Features(seed=seed, **drawn))


def _agreeing(drawn: Features) -> Features:
    """Without what cannot stand in one chart."""
    if drawn.misfit == "closedSchema":
        drawn = replace(drawn, schema="")
    if drawn.misfit == "noTag":
        drawn = replace(drawn, image="")
    if drawn.misfit == "ownReplicas":
        drawn = replace(drawn, replicas="")
    if drawn.misfit in ("testersHeader", "ownWeights") or "secondRoute" in drawn.routing:
        drawn = replace(drawn, route="")
    if drawn.misfit in ("randomSecretInPods",):
        drawn = replace(drawn, secret="")
    if "podFields" in drawn.pods and "resources" not in drawn.pods:
        drawn = replace(drawn, pods=(*drawn.pods, "resources"))
    return drawn


def changed(made: Features, words: Sequence[str]) -> Features:
    """With these features otherwise: `name=piece,piece`, nothing after the `=` for none."""
    for word in words:
        name, _, value = word.partition("=")
        several = isinstance(getattr(made, name), tuple)
        other: dict[str, Any] = {name: tuple(filter(None, value.split(","))) if several else value}
        made = replace(made, **other)
    return made
