"""A chart whose pods have lists that no name tells apart, and fields left empty, is released as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helm_canary.fields import SETS, keys_of
from tests.cluster import Cluster

from .service import Service, copy_chart
from .states import Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = Release("83", "84")
TMP = {
    "istioProxyConfig": None,  # the only annotation
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "volumeMounts": [{"name": "tmp", "mountPath": path} for path in ("/tmp", "/cache")],
}
ANNOTATIONS = '  {{- with include "productpage.podAnnotations" $pod }}\n  annotations:\n'
PORT = "          protocol: TCP\n"
LEFT_EMPTY = (
    (
        "templates/_pod.tpl",
        ANNOTATIONS,
        "  creationTimestamp: null\n  annotations:\n" + ANNOTATIONS.partition("\n")[0] + "\n",
    ),
    ("templates/_pod.tpl", "\n  containers:\n", "\n  hostAliases: []\n  shareProcessNamespace:\n  containers:\n"),
    (
        "templates/_pod.tpl",
        PORT,
        PORT
        + "        - {name: dns, containerPort: 5353}\n        - {name: dns-udp, containerPort: 5353, protocol: UDP}\n",
    ),
)
# The variable stands before the others, which must be no other ones for that.
FIRST = {"pod": {"env": {"AAA": "1", "GREETING": "hello"}}}


@pytest.mark.parametrize("last", [2, pytest.param(7, marks=pytest.mark.matrix)])
def test_two_mounts_of_one_volume(fresh: Service, tmp_path: Path, last: int) -> None:
    """Also one port for TCP and UDP, its protocol left out, and nulls that Helm owns: installed, released and taken back."""
    service = fresh.having(
        values={"pod": {**TMP, "env": {"GREETING": "hello"}}}, chart=copy_chart(tmp_path, *LEFT_EMPTY)
    )
    service.install("83")
    before = service.template("production")
    assert len(before["spec"]["containers"][0]["volumeMounts"]) == 2
    assert len(before["spec"]["containers"][0]["ports"]) == 3
    assert service.stage(1, "83").expect(0).answer["changed"] is False
    newer = service.having(values=FIRST)
    for number in range(2, last + 1):
        newer.stage(number, "84").expect(0, "done")
        newer.check(RELEASE.at(number))
    service.rollback().expect(0, "done")
    service.check(RELEASE.rolled_back)
    assert service.template("production") == before


GROUPS = (
    "api/v1", "apis/apps/v1", "apis/batch/v1", "apis/autoscaling/v2", "apis/policy/v1", "apis/networking.k8s.io/v1",
    "apis/networking.istio.io/v1", "apis/security.istio.io/v1",
)  # fmt: skip


def lists(schema: Any, name: str = "") -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(field, type, keys) of every list in a schema that says how it is merged."""
    if isinstance(schema, list):
        for below in schema:
            yield from lists(below, name)
    elif isinstance(schema, dict):
        if isinstance(schema.get("x-kubernetes-list-type"), str):
            yield name, schema["x-kubernetes-list-type"], tuple(schema.get("x-kubernetes-list-map-keys") or ())
        for key, below in schema.items():
            if key == "properties":
                for field, of in below.items():
                    yield from lists(of, field)
            elif key != "status":
                yield from lists(below, name)


def test_lists_have_the_keys_of_the_api_server(cluster: Cluster) -> None:
    """Every list that a chart's objects have is told apart by the keys that the API server and Istio's CRDs merge it by."""
    seen = set()
    for group in GROUPS:
        found = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3/{group}"))["components"]["schemas"]
        seen |= {one for kind, schema in found.items() if not kind.endswith("Status") for one in lists(schema)}
    ours = {(name, keys_of(name, [dict.fromkeys(keys, "x")]), keys) for name, kind, keys in seen if kind == "map"}
    assert len(ours) > 15
    # What only the API server writes, and conditions, which stand in a status.
    written = {"conditions", "healthConditions", "addresses", "podIPs", "resources"}
    assert {(name, keys) for name, found, keys in ours if set(found) != set(keys) and name not in written} == set()
    others = {"podCIDRs", "values", "failed", "succeeded"}  # of nodes, and of what a Job counts in its status
    assert {name for name, kind, _ in seen if kind == "set"} - set(SETS) <= others
