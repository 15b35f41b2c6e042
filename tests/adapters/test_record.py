"""The record to a release's values and back, for many records, as Helm stores them; and values that are no record."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from helm_canary.core.model import (
    Change,
    Direction,
    Past,
    Provenance,
    Record,
    Split,
    Track,
    TrackTarget,
    Upgrade,
    Version,
)
from helm_canary.core.stages import stages_for
from helm_canary.errors import RefusedError
from helm_canary.manifest import version_of
from helm_canary.record import from_values, release_values, to_text, to_values
from tests.cluster.binaries import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TAGS = ("84", "17012345678", "0123", "1e5", "true", "1.10", "null", "on", "0x10", "1_000", "-".join("ab"), "a" * 128)
TEXTS = (
    "", "x", "on", "1e5", "0123", "null", "~", "a: b", "# c", "{d}", "- e", "a\nb\n", " f ", "'", '"', "\\", "\t", "😀", "ä",
    "${{ x }}", "##vso[x]", "2024-01-01", "\x1b[31m", "=", "<<", "%x", "@y", "`z`", "9007199254740993",
    "a\x7fb", "a\x80b", "a\x85b", "a\u2028b", "a\u2029b", "\ufeffa", "a\ufffe", "a\uffff", "\u00a0", "\u200b", "\ue000",
)  # fmt: skip
WEIGHTS = ((100,), (10, 90, 100), (5, 25, 50, 100), tuple(range(1, 101)))


def a_version(chance: random.Random) -> Version:
    env = [{"name": f"V{index}", "value": chance.choice(TEXTS)} for index in range(chance.randrange(4))]
    ports = [{"containerPort": chance.choice((80, 9080))}]
    container = {"name": "page", "image": f"localhost/page:{chance.choice(TAGS)}", "env": env, "ports": ports}
    metadata = {"labels": {"app": "page"}, "annotations": {"note": chance.choice(TEXTS)}}
    spec = {"containers": [container], "securityContext": {"fsGroup": chance.choice((0, 1000650000))}}
    template: dict[str, Any] = {"metadata": metadata, "spec": spec}
    other = copy.deepcopy(template)
    other["metadata"]["annotations"]["track"] = chance.choice(TEXTS)
    return version_of(template, chance.choice((None, template, other)), "83")


def a_record(chance: random.Random) -> Record:
    weights = chance.choice(WEIGHTS)
    names = [stage.name for stage in stages_for(weights)]
    at = chance.randrange(len(names))
    texts = {name: chance.choice(TEXTS) for name in vars(Provenance())}
    history = tuple(
        Past(
            id=f"{chance.choice(TAGS)}-1f3a9c",
            outcome=chance.choice(("finished", "rolled-back")),
            run=chance.choice(TEXTS),
        )
        for _ in range(chance.randrange(21))
    )
    return Record(
        direction=chance.choice([*Direction]),
        previous=chance.choice((None, a_version(chance))),
        new=a_version(chance),
        reached=names[at],
        toward=names[min(at + chance.randrange(2), len(names) - 1)],
        weights=weights,
        replicas=chance.choice((1, 2, 50)),
        canary_replicas=chance.choice((None, 1, 3)),
        watched=chance.choice((True, False)),
        shared=chance.choice(((), ("Service/page",), ("Service/page", "ConfigMap/x"))),
        since=chance.choice(("", "2026-01-01T00:00:00Z")),
        by=Provenance(**texts),
        history=history,
    )


def records(number: int) -> Iterator[Record]:
    chance = random.Random(84)
    return (a_record(chance) for _ in range(number))


def templates(record: Record) -> list[str]:
    """The pod templates, which take no part in a record's comparison."""
    return [
        text for version in (record.previous, record.new) if version for text in (version.production, version.canary)
    ]


def test_records_come_back_as_they_went() -> None:
    """Five hundred records of every direction, stage, list of weights and strange text, through JSON."""
    for record in records(500):
        back = from_values({"release": json.loads(json.dumps(to_values(record)))})
        assert back == record
        assert back is not None
        assert templates(back) == templates(record)


def test_records_come_back_from_helm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Helm's own reading of its standard input changes no text of a record."""
    import subprocess

    chart = tmp_path_factory.mktemp("chart")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text('{"apiVersion": "v2", "name": "x", "version": "1.0.0"}')
    (chart / "templates/x.yaml").write_text("all: {{ .Values.all | toJson | b64enc }}\n")
    sent = [to_values(record) for record in records(60)]
    stdin = to_text({"all": sent})

    done = subprocess.run(
        [ensure("helm")["helm"], "template", "x", str(chart), "--values", "-"],
        input=stdin, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    line = next(line for line in done.stdout.splitlines() if line.startswith("all: "))
    got = json.loads(base64.b64decode(line.removeprefix("all: ")))
    for values, record in zip(got, records(60), strict=True):
        back = from_values({"release": values})
        assert back == record
        assert back is not None
        assert [json.loads(text) for text in templates(back)] == [json.loads(text) for text in templates(record)]


def test_every_field_of_a_record_is_kept() -> None:
    """A field that is added to the model and forgotten here is found."""
    filled = next(
        record
        for record in records(500)
        if record.shared and record.previous and record.canary_replicas and record.history
    )

    for name, value in vars(filled).items():
        assert getattr(from_values({"release": to_values(filled)}), name) == value


@pytest.mark.parametrize("values", [{}, {"release": None}, {"release": {}}, {"productionDeployment": {}}])
def test_a_release_without_a_record_has_none(values: dict[str, Any]) -> None:
    """Made by plain helm, or before the first step."""
    assert from_values(values) is None


GOOD = to_values(
    next(record for record in records(100) if record.previous and record.history and record.weights == (10, 90, 100))
)

SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "no format": lambda values: values.pop("format"),
    "a later format": lambda values: values.update(format=2),
    "a format as text": lambda values: values.update(format="1"),
    "no direction": lambda values: values.pop("direction"),
    "an unknown direction": lambda values: values.update(direction="sideways"),
    "a stage of no name": lambda values: values.update(reached="nowhere"),
    "a stage that is a number": lambda values: values.update(toward=3),
    "a stage of other weights": lambda values: values.update(reached="canary-50"),
    "weights that fall": lambda values: values.update(weights=[50, 10, 100], reached="steady", toward="steady"),
    "no weights": lambda values: values.update(weights=[]),
    "weights as text": lambda values: values.update(weights="10,100"),
    "weights of words": lambda values: values.update(weights=["ten"]),
    "replicas of words": lambda values: values.update(replicas="two"),
    "infinitely many replicas": lambda values: values.update(replicas=float("inf")),
    "no version": lambda values: values.pop("new"),
    "a version without pods": lambda values: values["new"].pop("pod"),
    "a version that is text": lambda values: values.update(new="84"),
    "a previous version that is text": lambda values: values.update(previous="83"),
    "provenance of another version": lambda values: values.update(by={"where": "x"}),
    "provenance that is text": lambda values: values.update(by="me"),
    "a history of text": lambda values: values.update(history=["84"]),
    "a history of other keys": lambda values: values.update(history=[{"name": "84"}]),
}
OTHER_USES: dict[str, Any] = {
    "text": "mine",
    "a list": [1],
    "a number": 5,
    "a map of the chart's own": {"channel": "stable"},
    "true": True,
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=[*SPOILT])
def test_what_is_no_record_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    """A record that was edited by hand, or that a newer program wrote, is told; nobody plans from it."""
    values = copy.deepcopy(GOOD)
    spoil(values)

    with pytest.raises(RefusedError, match="not a record that this version can read"):
        from_values({"release": values})


@pytest.mark.parametrize("value", OTHER_USES.values(), ids=[*OTHER_USES])
def test_another_use_of_the_name_is_refused(value: Any) -> None:
    """A chart that has `release` for something of its own."""
    with pytest.raises(RefusedError, match="not a record that this version can read") as told:
        from_values({"release": value})

    assert told.value.means
    assert told.value.do_next


def test_only_what_is_not_native_is_pinned() -> None:
    """A track at the version that chart and values render has no pod template; any other has its own, whole."""
    chance = random.Random(1)
    old, new = a_version(chance), a_version(chance)
    record = replace(a_record(chance), previous=old, new=new)

    def pods(native: Version | None, production: Version, canary: Version) -> list[str]:
        step = Upgrade(
            change=Change.WEIGHT, production=TrackTarget(version=production, replicas=1),
            canary=TrackTarget(version=canary, replicas=1), split=Split(production=90, canary=10), record=record, native=native,
            why="",
        )  # fmt: skip
        values = release_values(step)
        assert from_values({"release": values}) == record
        for track in Track:
            if track.value in values["pods"]:
                assert values["pods"][track.value] == json.loads(step.target(track).version.template(track))
        return sorted(values["pods"])

    assert pods(new, old, new) == ["production"]
    assert pods(new, new, new) == []
    assert pods(None, old, new) == ["canary", "production"]
    for production, canary in itertools.product((old, new), repeat=2):
        assert ("canary" in pods(old, production, canary)) is (canary is new)
