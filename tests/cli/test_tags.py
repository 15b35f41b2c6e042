"""Tags that look like something else reach the image as they are, and come back as they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import REPOSITORY
from tests.cli.program import CHART, Service, run
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TAGS = (
    "17012345678", "0123", "1e5", "true", "1.10", "0x10", "1_000", "null", "on", "y", "No", "1.", "0", "00", "-".join("ab"),
    "_", "0b1", "0o17", "1e400", "2024-01-01", "9007199254740993", "18446744073709551616", "NaN", "a" * 128, "v1.0.0-rc.1_x",
)  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_a_plan_has_the_tag_as_it_is(tag: str) -> None:
    """The new tag and the one before reach helm's --set-string, and from there the image, unchanged."""
    helm = ensure("helm")["helm"]
    chart = ("--release", "page", "--chart", str(CHART), "--output", "json")

    ran = run("plan", "all", *chart, "--tag", tag, "--from", "before", env={"PATH": str(helm.parent)})

    assert ran.code == 0, ran
    plans = ran.answer["plans"]
    second = "productionDeployment.image.tag=before,canaryDeployment.image.tag="
    last = f"productionDeployment.image.tag={tag},canaryDeployment.image.tag={tag}"
    assert f"--set-string {second}{tag} " in plans[1]["commands"][0]
    assert f"--set-string {last} " in plans[-1]["commands"][-1]
    assert any(f"at {tag})" in step for step in plans[1]["steps"])


@pytest.mark.cluster
def test_strange_tags_go_through_a_release(make_service: Callable[..., Service], app: Callable[..., None]) -> None:
    """Installed, canaried beside a pinned old version, rolled back and released again, each tag stays what it is."""
    app("0123", "17012345678", "1e5")
    service = make_service("tags")

    assert service.stage("1", "0123").answer["production-tag"] == "0123"
    ran = service.stage("2", "17012345678", "--set", "pod.securityContext.fsGroup=1000650000,pod.env.LONG=17012345678")
    assert ran.code == 0, ran
    assert (service.image("production"), service.image("canary")) == (f"{REPOSITORY}:0123", f"{REPOSITORY}:17012345678")
    status = service.json("status").answer
    assert (status["previous-tag"], status["production"]["tag"], status["canary"]["tag"]) == (
        "0123",
        "0123",
        "17012345678",
    )
    assert status["release-id"].startswith("17012345678-")
    assert status["differences"] == []

    back = service.json("rollback", "--of", "17012345678")
    assert (back.code, back.answer["production-tag"], back.answer["canary-tag"]) == (0, "0123", "0123"), back
    assert (service.image("production"), service.image("canary")) == (f"{REPOSITORY}:0123", f"{REPOSITORY}:0123")

    ran = service.stage("2", "1e5")
    assert (ran.code, ran.answer["canary-tag"], ran.answer["previous-tag"]) == (0, "1e5", "0123"), ran
    assert service.image("canary") == f"{REPOSITORY}:1e5"


@pytest.mark.cluster
def test_tags_of_a_values_file_are_read_back(
    make_service: Callable[..., Service], app: Callable[..., None], tmp_path: Path
) -> None:
    """A release that plain helm made from a values file, with a number for a tag, is seen with that tag, and taken on."""
    app("17012345678", "0123")
    service = make_service("plain")
    values = tmp_path / "tags.yaml"
    values.write_text(
        json.dumps({f"{track}Deployment": {"image": {"tag": 17012345678}} for track in ("production", "canary")})
    )
    files = ("--values", str(service.values), "--values", str(values))
    service.cluster.run(
        "helm", "install", service.release, CHART, *files, "--namespace", service.namespace, "--wait", timeout_s=90
    )

    assert service.image("production") == f"{REPOSITORY}:17012345678"
    assert service.json("status").answer["production"]["tag"] == "17012345678"
    ran = service.stage("2", "0123", "--values", str(values))
    assert (ran.code, ran.answer["previous-tag"], ran.answer["canary-tag"]) == (0, "17012345678", "0123"), ran
