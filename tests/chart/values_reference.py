"""The comments of values.yaml, and the two places that repeat them: values.schema.json and the chart's README.

`python -m tests.chart.values_reference` writes both anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import yaml

from tests.chart.render import CHART, JSON, JSONObject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README, SCHEMA, VALUES = CHART / "README.md", CHART / "values.schema.json", CHART / "values.yaml"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One value: its dotted path, the default, and the comment above it ("" if there is none)."""

    path: str
    default: JSON
    text: str


def entries(values: str) -> list[Entry]:
    """Every path of values.yaml in the file's order."""
    root = yaml.compose(values, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return list(_walk(root, "", values.splitlines(), cast("JSONObject", yaml.safe_load(values))))


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str], values: JSONObject) -> Iterator[Entry]:
    for key, value in node.value:
        default = values[key.value]
        yield Entry(path=prefix + key.value, default=default, text=_comment_above(lines, key.start_mark.line))
        if isinstance(value, yaml.MappingNode) and isinstance(default, dict):
            yield from _walk(value, f"{prefix}{key.value}.", lines, default)


def _comment_above(lines: list[str], line: int) -> str:
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.strip().removeprefix("#").strip() for text in lines[first:line])


def node(schema: JSONObject, path: str) -> JSONObject | None:
    """What the schema says about a path; None where the path lies inside an open map."""
    here = schema
    for key in path.split("."):
        properties = resolve(schema, here).get("properties")
        if not isinstance(properties, dict) or key not in properties:
            return None
        here = cast("JSONObject", properties[key])
    return here


def resolve(schema: JSONObject, here: JSONObject) -> JSONObject:
    """The definition a node refers to, or the node itself."""
    reference = here.get("$ref")
    if not isinstance(reference, str):
        return here
    return cast("JSONObject", cast("JSONObject", schema["$defs"])[reference.removeprefix("#/$defs/")])


def described(schema: JSONObject, values: str) -> JSONObject:
    """The schema with every comment of values.yaml as the description of its value."""
    schema = cast("JSONObject", json.loads(json.dumps(schema)))
    for entry in entries(values):
        found = node(schema, entry.path)
        if found is not None:
            rest = {key: value for key, value in found.items() if key != "description"}
            found.clear()
            found.update({"description": entry.text, **rest})
    return schema


def table(schema: JSONObject, values: str) -> str:
    """The README's table: one row for each value that the schema knows."""
    rows = ["| value | default | |", "|---|---|---|"]
    for entry in entries(values):
        found = node(schema, entry.path)
        if found is None:
            continue
        group = resolve(schema, found).get("additionalProperties") is False and entry.default != {}
        default = "" if group else f"`{json.dumps(entry.default)}`"
        text = entry.text.replace("|", "\\|")
        rows.append(f"| `{entry.path}` | {default} | {f'**{text}**' if group else text} |")
    return "\n".join(rows) + "\n"


def with_table(readme: str, new: str) -> str:
    """The README with the table between its two marks replaced."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + new + END + tail


def write(readme: Path = README, schema: Path = SCHEMA, values: Path = VALUES) -> None:
    """Write the descriptions and the table from the comments."""
    text = values.read_text()
    new = described(cast("JSONObject", json.loads(schema.read_text())), text)
    schema.write_text(json.dumps(new, indent=2, ensure_ascii=False) + "\n")
    readme.write_text(with_table(readme.read_text(), table(new, text)))


if __name__ == "__main__":
    write()
