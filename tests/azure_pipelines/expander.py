"""Templates of Azure Pipelines -> the plain pipeline that runs: parameters, each, if, insert, templates.

https://learn.microsoft.com/azure/devops/pipelines/process/templates and .../template-expressions. All scalars are texts, as in
the file. What is not known here is an error, so that nothing is expanded in another way than there without being seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests.azure_pipelines.expressions import Closed, ExpressionError, Scope, evaluate, to_boolean, to_text

Node = Any
EXPRESSION = re.compile(r"\$\{\{((?:'(?:[^']|'')*'|(?!\}\})[^'])*)\}\}")
EACH = re.compile(r"each\s+(\w+)\s+in\s+(.+)", re.DOTALL)
# A template is put in place of an item of one of these lists, and is a list of the same name itself.
KINDS = ("stages", "jobs", "steps", "variables")
# Here the service expands nothing.
PLAIN = ("trigger", "pr", "schedules", "resources")
CONTEXTS = ("parameters", "variables", "resources", "dependencies", "stageDependencies", "pipeline")


class ExpansionError(Exception):
    """A template that the service would refuse, or one that uses what is not known here."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an expression stands: its file, its file's repository, all repositories by alias, and the names in reach."""

    file: Path
    root: Path
    repositories: Mapping[str, Path]
    scope: Scope = field(default_factory=lambda: Scope(names={}))

    def with_name(self, name: str, value: Node) -> Place:
        if name in CONTEXTS or name in self.scope.names:
            raise ExpansionError(f"{self.file.name}: the loop variable {name!r} hides a name that is there")
        return replace(self, scope=Scope(names={**self.scope.names, name: value}))


def expand(
    file: Path,
    parameters: Mapping[str, Node] | None = None,
    *,
    root: Path | None = None,
    repositories: Mapping[str, Path] | None = None,
) -> dict[str, Node]:
    """The pipeline of a file with nothing left to expand. `repositories`: alias of a resource -> its folder here."""
    repositories = {"self": root or file.parent, **(repositories or {})}
    return _expanded(Place(file=file, root=root or file.parent, repositories=repositories), parameters or {})


def _expanded(place: Place, given: Mapping[str, Node]) -> dict[str, Node]:
    document = yaml.load(place.file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    if not isinstance(document, dict):
        raise ExpansionError(f"{place.file.name} is no mapping")
    declared = document.pop("parameters", [])
    plain = {key: document.pop(key) for key in PLAIN if key in document}
    if "${{" in str(plain):
        raise ExpansionError(f"{place.file.name}: no expression is expanded below {', '.join(plain)}")
    values = Closed(_parameters(place.file.name, declared, given))
    try:
        found = _mapping(document, replace(place, scope=Scope(names={"parameters": values})))
    except ExpressionError as error:
        raise ExpansionError(f"{place.file.name}: {error}") from error
    return {**plain, **found}


# --- parameters --------------------------------------------------------------------------------------------------------


def _parameters(file: str, declared: Node, given: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    if not isinstance(declared, list):
        raise ExpansionError(f"{file}: parameters are written as a list of names here")
    names = [entry["name"] for entry in declared]
    if len(names) != len(set(names)):
        raise ExpansionError(f"{file}: a parameter is declared twice")
    if unknown := set(given) - set(names):
        raise ExpansionError(f"{file}: there is no parameter {', '.join(sorted(unknown))}")
    for entry in declared:
        if unknown := set(entry) - {"name", "displayName", "type", "default", "values"}:
            raise ExpansionError(f"{file}: a parameter has no {', '.join(unknown)}")
        if entry["name"] not in given and "default" not in entry:
            raise ExpansionError(f"{file}: the parameter {entry['name']} is missing")
        value = given.get(entry["name"], entry.get("default"))
        if "values" in entry and value not in entry["values"]:
            raise ExpansionError(f"{file}: {entry['name']} is none of {', '.join(entry['values'])}: {value!r}")
        yield entry["name"], _typed(f"{file}: {entry['name']}", entry.get("type", "string"), value)


def _typed(name: str, kind: str, value: Node) -> Node:
    match kind, value:
        case "string", str():
            return value
        case "boolean", str() if value.lower() in ("true", "false"):
            return value.lower() == "true"
        case "boolean", bool():
            return value
        case "number", str() if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value) if "." in value else int(value)
        case "object", _:
            return value
        case (("stageList" | "jobList" | "stepList"), list()):
            return value
        case (("string" | "boolean" | "number" | "stageList" | "jobList" | "stepList"), _):
            raise ExpansionError(f"{name} is no {kind}: {value!r}")
        case _:
            raise ExpansionError(f"{name} has the type {kind}, which is not known here")


# --- nodes -------------------------------------------------------------------------------------------------------------


def _node(node: Node, place: Place, kind: str = "") -> Node:
    match node:
        case str():
            return _text(node, place)
        case list():
            return list(_list(node, place, kind))
        case dict():
            return _mapping(node, place)
        case _:
            raise ExpansionError(f"{place.file.name}: not readable: {node!r}")


def _directive(key: str) -> str | None:
    """What a key `${{ ... }}` says; nothing for a plain key."""
    found = EXPRESSION.fullmatch(key.strip())
    return found[1].strip() if found else None


def _word(directive: str | None) -> str:
    return (directive or "").split(maxsplit=1)[0] if directive else ""


DIRECTIVES = ("each", "if", "elseif", "else", "insert")


def _mapping(node: Mapping[str, Node], place: Place) -> dict[str, Node]:
    found: dict[str, Node] = {}
    branch: bool | None = None
    for key, value in node.items():
        directive = _directive(key)
        word = _word(directive)
        if directive is None or word not in DIRECTIVES:
            branch = None
            name = to_text(_text(key, place))
            _add(found, {name: _node(value, place, name)}, place)
            continue
        if word in ("if", "elseif", "else"):
            taken, branch = _branch(word, directive, branch, place)
            bodies: list[tuple[Node, Place]] = [(value, place)] if taken else []
        elif word == "each":
            branch, bodies = None, [(value, inner) for inner in _each(directive, place)]
        else:
            branch, bodies = None, [(value, place)]
        for body, inner in bodies:
            _add(found, _node(body, inner), inner)
    return found


def _add(found: dict[str, Node], more: Node, place: Place) -> None:
    if not isinstance(more, dict):
        raise ExpansionError(f"{place.file.name}: only a mapping can be inserted into a mapping, not {more!r}")
    if twice := set(found) & set(more):
        raise ExpansionError(f"{place.file.name}: {', '.join(sorted(twice))} stands there twice")
    found.update(more)


def _list(node: list[Node], place: Place, kind: str) -> Iterator[Node]:
    branch: bool | None = None
    for item in node:
        directive = _directive(next(iter(item))) if isinstance(item, dict) and len(item) == 1 else None
        word = _word(directive)
        if directive is None or word not in ("each", "if", "elseif", "else"):
            branch = None
            yield from _item(item, place, kind)
            continue
        (body,) = item.values()
        if word == "each":
            branch, places = None, list(_each(directive, place))
        else:
            taken, branch = _branch(word, directive, branch, place)
            places = [place] if taken else []
        for inner in places:
            # A mapping below the directive is one item; a list is as many as it has.
            yield from _list(body, inner, kind) if isinstance(body, list) else _item(body, inner, kind)


def _item(item: Node, place: Place, kind: str) -> Iterator[Node]:
    if isinstance(item, dict) and "template" in item:
        yield from _template(item, place, kind)
        return
    found = _node(item, place)
    if isinstance(item, str) and isinstance(found, list):
        yield from found
    else:
        yield found


def _each(directive: str, place: Place) -> Iterator[Place]:
    found = EACH.fullmatch(directive)
    if found is None:
        raise ExpansionError(f"{place.file.name}: not readable: {directive!r}")
    values = evaluate(found[2], place.scope)
    if isinstance(values, dict):
        values = [{"key": key, "value": value} for key, value in values.items()]
    if not isinstance(values, list):
        raise ExpansionError(f"{place.file.name}: neither a list nor a mapping: {directive!r}")
    for value in values:
        yield place.with_name(found[1], value)


def _branch(word: str, directive: str, before: bool | None, place: Place) -> tuple[bool, bool | None]:
    """Whether this branch is taken, and whether one of its chain was; none: the chain is over."""
    condition = directive[len(word) :].strip()
    if word == "else":
        if before is None or condition:
            raise ExpansionError(f"{place.file.name}: an else without an if, or with a condition")
        return not before, None
    if word == "elseif" and before is None:
        raise ExpansionError(f"{place.file.name}: an elseif without an if")
    holds = to_boolean(evaluate(condition, place.scope))
    before = bool(before) if word == "elseif" else False
    return holds and not before, holds or before


# --- texts and templates -----------------------------------------------------------------------------------------------


def _text(text: str, place: Place) -> Node:
    """A text that is one expression has its value, of any type; in a longer text each is a text."""
    if (whole := EXPRESSION.fullmatch(text.strip())) is not None:
        return _scalars(_value(whole[1], place))
    found = EXPRESSION.sub(lambda found: to_text(_value(found[1], place)), text)
    if "${{" in EXPRESSION.sub("", text):
        raise ExpansionError(f"{place.file.name}: an expression does not end: {text!r}")
    return found


def _value(expression: str, place: Place) -> Node:
    if _word(expression.strip()) in DIRECTIVES:
        raise ExpansionError(f"{place.file.name}: {expression.strip()!r} can only be a key")
    return evaluate(expression, place.scope)


def _scalars(value: Node) -> Node:
    match value:
        case dict():
            return {key: _scalars(entry) for key, entry in value.items()}
        case list():
            return [_scalars(entry) for entry in value]
        case _:
            return to_text(value)


def _template(item: Mapping[str, Node], place: Place, kind: str) -> Iterator[Node]:
    if kind not in KINDS or set(item) - {"template", "parameters"}:
        raise ExpansionError(f"{place.file.name}: a template cannot stand here, or not so: {dict(item)!r}")
    name, _, alias = to_text(_text(item["template"], place)).partition("@")
    if alias and alias not in place.repositories:
        raise ExpansionError(f"{place.file.name}: there is no repository {alias!r}")
    root = place.repositories[alias] if alias else place.root
    folder = root if alias or name.startswith("/") else place.file.parent
    file = folder / name.lstrip("/")
    if not file.is_file():
        raise ExpansionError(f"{place.file.name}: there is no template {name!r}")
    given = _node(item.get("parameters", {}), place)
    found = _expanded(Place(file=file, root=root, repositories=place.repositories), given)
    if list(found) != [kind]:
        raise ExpansionError(f"{place.file.name}: {name} is no template of {kind}")
    yield from found[kind]
