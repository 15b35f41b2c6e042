"""Helm's Secrets: the newest revision, the newest that was applied, and Secrets that cannot be read."""

from __future__ import annotations

import base64
import copy
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.core.model import Change, Direction, Record, Split, TrackTarget, Upgrade, Version
from helm_canary.errors import CanaryError, RefusedError
from helm_canary.helm import (
    ChartSource,
    Helm,
    missing_dependencies,
    native_arguments,
    parse_storage,
    step_arguments,
    write_stub,
)
from helm_canary.manifest import parse_objects
from helm_canary.process import Connection, Processes
from tests.adapters.recordings import items, text

if TYPE_CHECKING:
    from collections.abc import Callable


def test_nothing_is_stored() -> None:
    """No Secret, no release."""
    assert parse_storage('{"items": []}').newest is None


def test_the_newest_revision_failed() -> None:
    """After a failed upgrade the newest revision has the values, and an older one is what was applied."""
    stored = parse_storage(text("storage.json"))

    assert stored.newest is not None
    assert stored.applied is not None
    assert (stored.newest.number, stored.newest.status, stored.newest.applied) == (3, "failed", False)
    assert stored.newest.values["productionDeployment"]["weight"] == "ninety"
    assert (stored.applied.number, stored.applied.status) == (2, "deployed")
    assert stored.newest.chart_name == "small 1.0.0"
    assert {thing["kind"] for thing in parse_objects(stored.applied.manifest)} >= {"Deployment", "VirtualService"}


def decoded(secret: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"])))))


def encoded(body: object) -> str:
    packed = base64.b64encode(gzip.compress(json.dumps(body).encode()))
    return base64.b64encode(packed).decode()


def with_status(secret: dict[str, Any], status: str, number: int | None = None) -> dict[str, Any]:
    made, body = copy.deepcopy(secret), decoded(secret)
    body["info"]["status"] = made["metadata"]["labels"]["status"] = status
    if number is not None:
        body["version"], made["metadata"]["labels"]["version"] = number, str(number)
    made["data"]["release"] = encoded(body)
    return made


ONE, TWO, THREE = items("storage.json")

# statuses by revision -> (newest, applied)
HISTORIES: list[tuple[list[str], int, int | None]] = [
    (["deployed"], 1, 1),
    (["superseded", "deployed"], 2, 2),
    (["deployed", "pending-upgrade"], 2, 1),
    (["deployed", "failed", "pending-upgrade"], 3, 1),
    (["superseded", "failed", "deployed"], 3, 3),
    (["pending-install"], 1, None),
    (["failed"], 1, None),
    (["failed", "failed", "pending-rollback"], 3, None),
    (["superseded", "superseded", "failed"], 3, 2),
    (["deployed", "uninstalling"], 2, 1),
    (["superseded", "uninstalled", "deployed"], 3, 3),
    (["superseded", "uninstalled", "failed"], 3, None),
    (["uninstalled", "superseded", "failed"], 3, 2),
]


@pytest.mark.parametrize(("statuses", "newest", "applied"), HISTORIES)
def test_newest_and_applied(statuses: list[str], newest: int, applied: int | None) -> None:
    """Whatever the order of the answer: the newest revision of any status, and the newest that was applied whole."""
    secrets = [with_status(ONE, status, number) for number, status in enumerate(statuses, start=1)]
    for found in (secrets, secrets[::-1]):
        stored = parse_storage(json.dumps({"items": found}))
        assert stored.newest is not None
        assert (stored.newest.number, stored.applied.number if stored.applied else None) == (newest, applied)


def removed(secret: dict[str, Any]) -> dict[str, Any]:
    """A revision whose objects `helm uninstall` deleted, whatever a later installation calls it."""
    made, body = copy.deepcopy(secret), decoded(secret)
    body["info"]["deleted"] = "2026-01-31T09:00:00Z"
    made["data"]["release"] = encoded(body)
    return made


def test_an_uninstalled_release_is_no_release() -> None:
    """What `helm uninstall --keep-history` leaves is history: nothing is installed, and its revision is known."""
    secrets = [with_status(ONE, "superseded", 1), removed(with_status(ONE, "uninstalled", 2))]

    stored = parse_storage(json.dumps({"items": secrets}))

    assert (stored.newest, stored.applied, list(stored.earlier())) == (None, None, [])
    assert stored.uninstalled is not None
    assert stored.uninstalled.number == 2


@pytest.mark.parametrize("status", ["superseded", "uninstalled"])
def test_what_was_uninstalled_is_not_of_the_release_that_came_after(status: str) -> None:
    """An installation calls the uninstalled revision superseded; neither it nor what was before it was applied here."""
    before = [with_status(ONE, "superseded", 1), removed(with_status(ONE, status, 2))]

    failed = parse_storage(json.dumps({"items": [*before, with_status(ONE, "failed", 3)]}))
    later = parse_storage(
        json.dumps({"items": [*before, with_status(ONE, "superseded", 3), with_status(ONE, "deployed", 4)]})
    )

    assert failed.applied is None
    assert [revision.number for revision in later.earlier()] == [3]


def test_revisions_are_ordered_as_numbers() -> None:
    """Revision 10 is newer than 9, which it is not as text."""
    stored = parse_storage(json.dumps({"items": [with_status(ONE, "deployed", 10), with_status(ONE, "superseded", 9)]}))

    assert stored.newest is not None
    assert stored.newest.number == 10


def test_other_secrets_are_no_revisions() -> None:
    """Only Secrets of Helm's own type count, whatever labels others have."""
    other = {"type": "Opaque", "metadata": {"name": "x", "labels": {"owner": "helm", "name": "small", "version": "99"}}}

    stored = parse_storage(json.dumps({"items": [other, TWO]}))

    assert stored.newest is not None
    assert stored.newest.number == 2


def _flip(secret: dict[str, Any], at: int) -> None:
    packed = bytearray(base64.b64decode(base64.b64decode(secret["data"]["release"])))
    packed[at] ^= 0xFF
    secret["data"]["release"] = base64.b64encode(base64.b64encode(bytes(packed))).decode()


def _cut(secret: dict[str, Any]) -> None:
    packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
    secret["data"]["release"] = base64.b64encode(base64.b64encode(packed[:-20])).decode()


def _body(**changes: object) -> Callable[[dict[str, Any]], None]:
    def spoil(secret: dict[str, Any]) -> None:
        secret["data"]["release"] = encoded(decoded(secret) | changes)

    return spoil


CORRUPT: dict[str, Callable[[dict[str, Any]], object]] = {
    "no data": lambda secret: secret.pop("data"),
    "empty data": lambda secret: secret.update(data=None),
    "no release": lambda secret: secret["data"].pop("release"),
    "an empty release": lambda secret: secret["data"].update(release=""),
    "no base64": lambda secret: secret["data"].update(release="%%%"),
    "base64 once": lambda secret: secret["data"].update(release=base64.b64encode(b"{}").decode()),
    "not packed": lambda secret: secret["data"].update(release=base64.b64encode(base64.b64encode(b"{}")).decode()),
    "a byte flipped early": lambda secret: _flip(secret, 11),
    "a byte flipped in the middle": lambda secret: _flip(secret, 1000),
    "a byte flipped in the checksum": lambda secret: _flip(secret, -6),
    "cut off": _cut,
    "no object": lambda secret: secret["data"].update(release=encoded(["x"])),
    "not UTF-8": lambda secret: secret["data"].update(
        release=base64.b64encode(base64.b64encode(gzip.compress(b'"\xff"'))).decode()
    ),
    "no info": _body(info=None),
    "no version": _body(version=None),
    "no labels": lambda secret: secret["metadata"].pop("labels"),
    "no version label": lambda secret: secret["metadata"]["labels"].pop("version"),
    "a version label that is no number": lambda secret: secret["metadata"]["labels"].update(version="two"),
}


@pytest.mark.parametrize("spoil", CORRUPT.values(), ids=[*CORRUPT])
def test_a_corrupt_secret_is_an_error_in_three_parts(spoil: Callable[[dict[str, Any]], object]) -> None:
    """A Secret that cannot be read is named; it is neither a traceback nor a release that is not there."""
    secret = copy.deepcopy(TWO)
    spoil(secret)

    with pytest.raises(CanaryError) as told:
        parse_storage(json.dumps({"items": [ONE, secret]}))

    assert all((told.value.happened, told.value.means, told.value.do_next))
    assert "sh.helm.release.v1.small.v2" in told.value.happened


# --- what is written ----------------------------------------------------------------------------------------------------


def test_what_a_rollback_gives_helm_renders_nothing(tmp_path: Path) -> None:
    """Name, version and values of the stored chart, without templates and subcharts; the user's values without the record."""
    secret = copy.deepcopy(TWO)
    body = decoded(secret)
    body["chart"]["metadata"]["dependencies"] = [{"name": "base", "version": "1", "repository": "file://../base"}]
    secret["data"]["release"] = encoded(body)
    stored = parse_storage(json.dumps({"items": [secret]})).newest
    assert stored is not None

    source = write_stub(stored, tmp_path)

    chart = tmp_path / "chart"
    metadata = json.loads((chart / "Chart.yaml").read_text())
    assert (source.chart, metadata["name"], "dependencies" in metadata) == (str(chart), "small", False)
    assert not list((chart / "templates").iterdir())
    assert json.loads((chart / "values.yaml").read_text()) == body["chart"]["values"]
    (values,) = source.values
    assert "release" not in json.loads(Path(values).read_text())
    assert {path.stat().st_mode & 0o777 for path in (Path(values), chart / "values.yaml")} == {0o600}


def step(tag: str) -> Upgrade:
    version = Version(tag=tag, digest="d")
    record = Record(
        direction=Direction.FORWARD,
        previous=None,
        new=version,
        reached="steady",
        toward="canary-10",
        weights=(10, 100),
        replicas=2,
    )
    return Upgrade(
        change=Change.WEIGHT, production=TrackTarget(version=Version(tag="0123", digest="e"), replicas=3),
        canary=TrackTarget(version=version, replicas=2), split=Split(production=90, canary=10), record=record, why="",
    )  # fmt: skip


def test_a_step_says_what_the_eight_commands_said() -> None:
    """The same value names, tags as text, and the whole of both tracks in every step."""
    assert step_arguments(step("1e5")) == [
        "--set-string",
        "productionDeployment.image.tag=0123,canaryDeployment.image.tag=1e5",
        "--set",
        "productionDeployment.replicaCount=3,productionDeployment.weight=90,canaryDeployment.replicaCount=2,canaryDeployment.weight=10",
    ]
    assert native_arguments("0123")[:2] == [
        "--set-string", "productionDeployment.image.tag=0123,canaryDeployment.image.tag=0123",
    ]  # fmt: skip


def test_an_uninstalled_release_is_replaced_by_helm_install() -> None:
    """`helm upgrade --install` looks for it in the order of names, in which revision 10 comes before 9."""
    helm = Helm(
        processes=Processes(environment={}),
        connection=Connection(),
        release="small",
        source=ChartSource(chart="c"),
        folder=Path(),
    )

    assert helm.command(step("84"))[:4] == ["helm", "upgrade", "small", "c"]
    assert helm.command(replace(step("84"), anew=True))[:5] == ["helm", "install", "small", "c", "--replace"]
    assert "--install" not in helm.command(replace(step("84"), anew=True))


@pytest.mark.parametrize("driver", ["configmap", "memory", "sql", "configmaps", "SQL", "nonsense"])
def test_releases_kept_elsewhere_are_refused(driver: str) -> None:
    """Where Helm does not keep releases in Secrets, the release under way could not be seen."""
    with pytest.raises(RefusedError, match="HELM_DRIVER"):
        Helm.check_driver(driver)


def test_releases_in_secrets_are_read() -> None:
    """Helm's default, however it is written."""
    for driver in ("", "secret", "secrets", "Secret"):
        Helm.check_driver(driver)


DEPENDENCIES = "dependencies:\n- {name: lib, version: 1.x.x, repository: file://../lib}\n- {name: db, version: 1.0.0}\n"
LAID_OUT: dict[str, tuple[str, list[str]]] = {
    "nothing": ("", ["lib", "db"]),
    "one packed": ("charts/lib-1.2.3.tgz", ["db"]),
    "one of a name that goes on": ("charts/lib-extra-1.2.3.tgz", ["lib", "db"]),
    "one as a folder": ("charts/db/Chart.yaml", ["lib"]),
}


@pytest.mark.parametrize(("file", "missing"), LAID_OUT.values(), ids=[*LAID_OUT])
def test_the_dependencies_that_a_checkout_lacks_are_known(file: str, missing: list[str], tmp_path: Path) -> None:
    """Those that are neither packed nor laid out below `charts`; a chart without any, or from a registry, lacks none."""
    (tmp_path / "Chart.yaml").write_text(DEPENDENCIES)
    if file:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("")

    assert missing_dependencies(tmp_path) == missing
    assert missing_dependencies(tmp_path / "nowhere") == []
