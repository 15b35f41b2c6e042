"""Comments, schema and README say the same about every value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from tests.chart import values_reference as reference

if TYPE_CHECKING:
    from tests.chart.render import JSON, JSONObject

VALUES = reference.VALUES.read_text()
SCHEMA = cast("JSONObject", json.loads(reference.SCHEMA.read_text()))
ENTRIES = reference.entries(VALUES)
KNOWN = [entry for entry in ENTRIES if reference.node(SCHEMA, entry.path) is not None]


def schema_paths(here: JSONObject, prefix: str = "") -> list[str]:
    """Every path that the schema names."""
    found = []
    for key, below in cast("dict[str, JSONObject]", reference.resolve(SCHEMA, here).get("properties", {})).items():
        found += [prefix + key, *schema_paths(below, f"{prefix}{key}.")]
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_every_value_is_in_the_schema(entry: reference.Entry) -> None:
    """A value is described, or lies in a map that Kubernetes or the user fills."""
    paths = [entry.path.rsplit(".", cut)[0] for cut in range(entry.path.count(".") + 1)]
    nearest = next(node for path in paths if (node := reference.node(SCHEMA, path)) is not None)

    described = reference.node(SCHEMA, entry.path) is not None
    assert described or reference.resolve(SCHEMA, nearest).get("additionalProperties") is not False


@pytest.mark.parametrize("entry", KNOWN, ids=lambda entry: entry.path)
def test_a_description_is_the_comment(entry: reference.Entry) -> None:
    """What the schema says of a value is what values.yaml says, and it is a sentence."""
    node = cast("JSONObject", reference.node(SCHEMA, entry.path))

    assert entry.text.endswith(".")
    assert entry.text == node["description"]


def test_the_schema_describes_no_value_that_is_not_there() -> None:
    """A path of the schema has a default, or belongs to Helm, to the tool, or to a track's own pod settings."""
    elsewhere = ("global", "release.pods", "productionDeployment.pod.", "canaryDeployment.pod.")
    optional = {"pod.istioProxyConfig.terminationDrainDuration"}
    there = {entry.path for entry in ENTRIES} | optional

    assert [path for path in schema_paths(SCHEMA) if path not in there and not path.startswith(elsewhere)] == []


def test_every_group_is_closed() -> None:
    """Wherever the schema names values, a misspelt one is refused; only three maps name some and stay open."""
    open_groups = [
        path
        for path in schema_paths(SCHEMA)
        if "properties" in (node := reference.resolve(SCHEMA, cast("JSONObject", reference.node(SCHEMA, path))))
        and node.get("additionalProperties") is not False
    ]

    assert {"pod.istioProxyConfig", "release", "release.pods"} == {
        path.removeprefix("productionDeployment.").removeprefix("canaryDeployment.") for path in open_groups
    }
    assert SCHEMA["additionalProperties"] is False


def test_the_readme_is_up_to_date() -> None:
    """The README's table is what the comments make; `python -m tests.chart.values_reference` writes it."""
    readme = reference.README.read_text()

    assert readme == reference.with_table(readme, reference.table(SCHEMA, VALUES))
    assert [entry.path for entry in KNOWN if f"| `{entry.path}` |" not in readme] == []


def test_a_missing_comment_is_found() -> None:
    """A value without a comment has no text, which the tests above refuse."""
    entries = reference.entries("# A.\na: 1\nb:\n  # C.\n  # D.\n  c: {}\n")
    found: dict[str, tuple[JSON, str]] = {entry.path: (entry.default, entry.text) for entry in entries}

    assert found == {"a": (1, "A."), "b": ({"c": {}}, ""), "b.c": ({}, "C. D.")}
