"""A chart whose pods have lists that no name tells apart, and fields left empty, is released as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

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
