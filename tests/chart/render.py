"""Renders the chart with the real helm, and finds things in what comes out."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JSONObject: TypeAlias = "dict[str, JSON]"

CHART = Path(__file__).parents[2] / "charts" / "productpage"
TIMEOUT_S = 60


class RenderError(Exception):
    """helm refused; the text is what it said."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a user gives to helm."""

    release: str = "productpage"
    namespace: str = "shop"
    values: Mapping[str, JSON] = field(default_factory=dict)
    value_files: Sequence[Path] = ()
    set: Sequence[str] = ()
    set_string: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """The arguments after `helm template`; the values go to its standard input."""
        return [
            self.release, str(CHART), f"--namespace={self.namespace}",
            *(f"--values={path}" for path in self.value_files), "--values=-",
            *(f"--set={text}" for text in self.set),
            *(f"--set-string={text}" for text in self.set_string),
        ]  # fmt: skip


def render(helm: Path, situation: Situation) -> dict[str, JSONObject]:
    """The rendered objects by `Kind/name`."""
    done = subprocess.run(
        [helm, "template", *situation.arguments()],
        # Not PyYAML's dump: it writes the text 1e5 without quotes, which helm reads as a number. Nor JSON's \u escapes:
        # helm's YAML reader refuses those beyond the basic plane.
        input=json.dumps(dict(situation.values), ensure_ascii=False),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise RenderError(done.stderr)
    found = [cast("JSONObject", document) for document in yaml.safe_load_all(done.stdout) if document]
    objects = {f"{one['kind']}/{at(one, '/metadata/name')}": one for one in found}
    assert len(objects) == len(found), "two objects have the same name"
    return objects


def at(document: JSON, pointer: str) -> JSON:
    """The value at a JSON pointer (RFC 6901); KeyError if there is none."""
    here = document
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list) and int(key) < len(here):
            here = here[int(key)]
        elif isinstance(here, dict) and key in here:
            here = here[key]
        else:
            raise KeyError(f"{pointer}: no {key}")
    return here


def is_istio(document: JSONObject) -> bool:
    """Whether Istio's own validation has a word about this object."""
    return "istio.io/" in str(document["apiVersion"])
