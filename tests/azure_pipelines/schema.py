"""The published schema of Azure Pipelines, with this project's task in it. It is for expanded files: it knows no `${{ }}`.

The schema comes with check-jsonschema; the task is appended from its task.json.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, validators

TASK = Path("azure-pipelines-task/HelmCanary/task.json")
BOOLEANS, NUMBERS = ("true", "false"), re.compile(r"-?\d+")


def problems(pipeline: Mapping[str, Any], task: Mapping[str, Any]) -> list[str]:
    """What the schema says against a pipeline, in the words of its deepest complaint; nothing: it fits."""
    return [_told(error) for error in _validator(json.dumps(task)).iter_errors(pipeline)]


def unknown_inputs(pipeline: Any, task: Mapping[str, Any]) -> list[str]:
    """Inputs that the task does not have. The schema's own tasks have aliases besides, so it names only some of them."""
    known = {name for entry in task["inputs"] for name in (entry["name"], *entry.get("aliases", []))}
    return sorted(
        {name for step in steps(pipeline) if step["task"] == name_of(task) for name in step.get("inputs", {})} - known
    )


def steps(node: Any) -> Iterator[dict[str, Any]]:
    """Every step of a pipeline that is a task."""
    if isinstance(node, dict):
        if "task" in node:
            yield node
        for value in node.values():
            yield from steps(value)
    elif isinstance(node, list):
        for value in node:
            yield from steps(value)


def name_of(task: Mapping[str, Any]) -> str:
    return f"{task['name']}@{task['version']['Major']}"


@lru_cache
def _validator(task: str) -> Any:
    file = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/azure-pipelines.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    _append(schema["definitions"]["task"], json.loads(task))
    # Scalars are texts here, as in the file; the service reads them as what the input is.
    checker = Draft7Validator.TYPE_CHECKER.redefine_many(
        {
            "boolean": lambda _, value: isinstance(value, bool) or value in BOOLEANS,
            "integer": lambda _, value: isinstance(value, str) and NUMBERS.fullmatch(value) is not None,
        }
    )
    return validators.extend(Draft7Validator, type_checker=checker)(schema)  # type: ignore[no-untyped-call]


def _append(tasks: dict[str, Any], task: Mapping[str, Any]) -> None:
    """As the schema has the other tasks: its name among the names, and its inputs among the alternatives."""
    name = name_of(task)
    inputs = {
        name: {"enum": list(entry["options"]), "ignoreCase": "all"} if entry.get("options") else {"type": "string"}
        for entry in task["inputs"]
        for name in (entry["name"], *entry.get("aliases", []))
    }
    tasks["properties"]["task"]["anyOf"].append({"enum": [name], "ignoreCase": "value"})
    shape = {"type": "object", "properties": inputs, "additionalProperties": False}
    tasks["anyOf"].append({"properties": {"task": {"pattern": f"^{name}$"}, "inputs": shape}})


def _told(error: Any) -> str:
    """The complaint that goes deepest is about what was meant; the others are about the alternatives to it."""
    while error.context:
        error = max(error.context, key=lambda inner: (len(inner.absolute_path), _weight(inner.context or [])))
    return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


def _weight(errors: Sequence[Any]) -> int:
    return max((len(error.absolute_path) for error in errors), default=0)
