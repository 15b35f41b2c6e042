"""Writes charts: the base of base.yaml, and on it the pieces of pieces.yaml or of a chart's own, each said once."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.service import merge

HERE = Path(__file__).parent
# A mark in a template, and the text of the base or of a chart that goes there.
SLOT = re.compile(r"^(?P<indent> *)#\+ (?:(?P<key>\w+): )?(?P<slot>\w+)$")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What a chart has besides, or otherwise.

    slots     slot of the base -> text there
    helpers   named template -> its body, in place of the base's
    replace   template -> {this text: that text instead}; the text must be there
    files     file of the chart -> its text; None: it has no such file
    chart     fields of Chart.yaml
    values    defaults of values.yaml
    schema    `open`, `closed` or `closed with release`: a schema of the values that is made of their names
    copies    each Deployment has a file of its own, in place of a loop over the tracks
    defined   the base's templates are named ones, which one of `files` includes
    """

    slots: Mapping[str, str] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)
    chart: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    schema: str = ""
    copies: bool = False
    defined: bool = False


@cache
def load(name: str) -> Any:
    """One of the YAML files of this folder."""
    return yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))


def named(names: Iterable[str]) -> list[Piece]:
    """The pieces of these names."""
    known: Mapping[str, Any] = load("pieces")
    return [Piece(**known[name]) for name in names]


def write(folder: Path, name: str, pieces: Iterable[Piece]) -> Path:
    """The chart of these pieces, in `folder`."""
    for path, text in compose(name, list(pieces)).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def compose(name: str, pieces: list[Piece]) -> dict[str, str]:
    """File -> text of the chart of these pieces; of two that say the same thing the later one counts."""
    base = load("base")
    chart: dict[str, Any] = {"apiVersion": "v2", "name": name, "version": "1.4.2", "appVersion": "83"}
    helpers, values, texts = dict(base["helpers"]), dict(base["values"]), dict(base["templates"])
    files: dict[str, str | None] = {}
    for piece in pieces:
        helpers |= piece.helpers
        values, needs = merge(values, piece.values), chart.get("dependencies", [])
        chart |= piece.chart
        if needs:
            chart["dependencies"] = [*needs, *piece.chart.get("dependencies", [])]
        files |= piece.files
    for template, changes in ((template, piece.replace[template]) for piece in pieces for template in piece.replace):
        for old, new in changes.items():
            assert old in texts[template], f"{name}: {template} does not hold {old!r}"
            texts[template] = texts[template].replace(old, new)
    if any(piece.copies for piece in pieces):
        texts |= _copies(texts.pop("deployments.yaml"))
    schema = next((piece.schema for piece in reversed(pieces) if piece.schema), "")
    known = [*values, *(one["name"] for one in chart.get("dependencies", []))]
    made: dict[str, str | None] = {
        "Chart.yaml": json.dumps(chart, indent=2),
        "values.yaml": yaml.safe_dump(values, sort_keys=False),
        "values.schema.json": _schema(schema, known) if schema else None,
        "templates/_helpers.tpl": "\n".join(_define(key, body) for key, body in helpers.items()),
        **_templates({key: _fill(text, pieces) for key, text in texts.items()}, any(piece.defined for piece in pieces)),
        **files,
    }
    return {path: text.replace('"app.', f'"{name}.') for path, text in made.items() if text is not None}


def _define(name: str, body: str) -> str:
    return f'{{{{- define "app.{name}" -}}}}\n{body.rstrip()}\n{{{{- end }}}}\n'


def _templates(texts: Mapping[str, str], defined: bool) -> dict[str, str]:
    if not defined:
        return {f"templates/{key}": text for key, text in texts.items()}
    names = {key: key.removesuffix(".yaml") for key in texts}
    return {f"templates/_{names[key]}.tpl": _define(names[key], text) for key, text in texts.items()}


def _schema(kind: str, values: Iterable[str]) -> str:
    names = ["global", *values, *(["release"] if kind == "closed with release" else [])]
    properties: dict[str, Any] = {name: {} for name in names}
    return json.dumps({"type": "object", "additionalProperties": kind == "open", "properties": properties})


def _copies(text: str) -> dict[str, str]:
    """A file a track, of the loop over both."""
    first, *body, last = text.rstrip().splitlines()
    assert (first.split()[1], last) == ("range", "{{- end }}"), text
    return {
        f"{track}.yaml": "\n".join([f'{{{{- $track := "{track}" }}}}', *body]) for track in ("production", "canary")
    }


def _fill(text: str, pieces: Iterable[Piece]) -> str:
    lines = []
    for line in text.splitlines():
        found = SLOT.match(line)
        if found is None:
            lines.append(line)
            continue
        texts = [piece.slots[found["slot"]] for piece in pieces if found["slot"] in piece.slots]
        indent = found["indent"]
        if texts and found["key"]:
            lines.append(f"{indent}{found['key']}:")
            indent += "  "
        lines += [textwrap.indent(_deeper(text, len(indent)), indent) for text in texts]
    return "\n".join(lines) + "\n"


def _deeper(text: str, by: int) -> str:
    """A slot's text says `nindent` as if it stood at the margin."""
    return re.sub(r"nindent (\d+)", lambda found: f"nindent {int(found[1]) + by}", text.rstrip("\n"))
