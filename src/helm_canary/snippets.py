"""YAML to paste into a chart's template: fragments of objects, with values where the chart must take them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from helm_canary.manifest import RESOLVERS

PLACED = "in place of what is there"


class Given(str):
    """Text of a template, to be left as it is: `{{ .Values.name }}`."""


class Whole(str):
    """A key whose value replaces what is there; any other is merged into it."""


class _Dumper(yaml.SafeDumper):
    """Quotes what the API server's clients would not read as text."""


_Dumper.yaml_implicit_resolvers = RESOLVERS


def value(track: str, path: str) -> Given:
    return Given("{{ .Values.%sDeployment.%s }}" % (track, path))  # noqa: UP031 - braces


def lines(fragment: Mapping[str, Any]) -> tuple[str, ...]:
    """A fragment as lines of a template. What a template engine would run in its texts is made text again."""
    given: list[str] = []

    def marked(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {marked(key): marked(below) for key, below in node.items()}
        if isinstance(node, (list, tuple)):
            return [marked(item) for item in node]
        if isinstance(node, Whole):
            given.append(f"{node}: # {PLACED}")
            return f"WHOLE{len(given) - 1}E"
        if isinstance(node, Given):
            given.append(str(node))
            return f"GIVEN{len(given) - 1}E"
        return node

    text = yaml.dump(marked(fragment), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    text = text.replace("{{", '{{ "{{" }}')
    text = re.sub(r"WHOLE(\d+)E:", lambda found: given[int(found.group(1))], text)
    return tuple(re.sub(r"GIVEN(\d+)E", lambda found: given[int(found.group(1))], text).splitlines())
