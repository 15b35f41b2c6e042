"""Templates expand by the documented rules; what is not known is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.azure_pipelines.expander import ExpansionError, expand
from tests.azure_pipelines.expressions import ExpressionError, Scope, evaluate

PARAMETERS = """
- {name: word, type: string, default: shop}
- {name: none, type: string, default: ""}
- {name: on, type: boolean, default: true}
- {name: many, type: number, default: 3}
- {name: list, type: object, default: [a, b]}
- {name: map, type: object, default: {x: "1", y: "2"}}
- {name: items, type: object, default: [{n: 1, name: one}, {n: 2, name: two}]}
"""

# What stands in the file -> what runs.
EXPANDED: dict[str, tuple[str, Any]] = {
    "a whole value keeps its type": ("a: ${{ parameters.map }}", {"a": {"x": "1", "y": "2"}}),
    "by its index": ("a: ${{ parameters['map'].y }}", {"a": "2"}),
    "in a text": ("a: '${{ parameters.word }}-${{ parameters.many }}.'", {"a": "shop-3."}),
    "a boolean in a text": ("a: is ${{ parameters.on }}", {"a": "is True"}),
    "in a key": ("${{ parameters.word }}: 1", {"shop": "1"}),
    "what is not there in a mapping": ("a: x${{ parameters.map.z }}", {"a": "x"}),
    "a literal": ("a: ${{ 'it''s ${{ }}' }}", {"a": "it's ${{ }}"}),
    "macros and runtime expressions stay": ("a: $(x) $[ y ]", {"a": "$(x) $[ y ]"}),
    "each of a list": ("a:\n- ${{ each i in parameters.list }}:\n  - x${{ i }}\n- y", {"a": ["xa", "xb", "y"]}),
    "each of a list of mappings": (
        "${{ each i in parameters.items }}:\n  ${{ i.name }}: ${{ i.n }}",
        {"one": "1", "two": "2"},
    ),
    "each of a mapping": ("${{ each p in parameters.map }}:\n  k${{ p.key }}: ${{ p.value }}", {"kx": "1", "ky": "2"}),
    "each of all parameters": (
        "${{ each p in parameters }}:\n  ${{ if and(in(p.key, 'word', 'none'), ne(p.value, '')) }}:\n    ${{ p.key }}: x",
        {"word": "x"},
    ),
    "each as one item": (
        "a:\n- ${{ each p in parameters.map }}:\n    ${{ p.key }}: z",
        {"a": [{"x": "z"}, {"y": "z"}]},
    ),
    "if in a mapping": ("a:\n  ${{ if parameters.on }}:\n    x: 1\n  ${{ else }}:\n    x: 2", {"a": {"x": "1"}}),
    "else in a mapping": ("a:\n  ${{ if parameters.none }}:\n    x: 1\n  ${{ else }}:\n    x: 2", {"a": {"x": "2"}}),
    "elseif": (
        "${{ if eq(parameters.many, 1) }}:\n  x: 1\n${{ elseif eq(parameters.many, 3) }}:\n  x: 3\n${{ else }}:\n  x: 0",
        {"x": "3"},
    ),
    "only the first that holds": (
        "${{ if eq(parameters.many, 3) }}:\n  x: 1\n${{ elseif parameters.on }}:\n  x: 3\n${{ else }}:\n  x: 0",
        {"x": "1"},
    ),
    "if in a list": ("a:\n- ${{ if parameters.on }}:\n  - x\n  - y\n- ${{ else }}:\n  - z", {"a": ["x", "y"]}),
    "else in a list": ("a:\n- ${{ if not(parameters.on) }}:\n  - x\n- ${{ else }}:\n  - z", {"a": ["z"]}),
    "insert": ("a:\n  z: 0\n  ${{ insert }}: ${{ parameters.map }}", {"a": {"z": "0", "x": "1", "y": "2"}}),
    "insert nothing": ("a:\n  z: 0\n  ${{ insert }}: {}", {"a": {"z": "0"}}),
    "a list in a list is flat": ("a:\n- z\n- ${{ parameters.list }}", {"a": ["z", "a", "b"]}),
}


@pytest.mark.parametrize("case", EXPANDED.values(), ids=EXPANDED)
def test_what_is_expanded(case: tuple[str, Any], tmp_path: Path) -> None:
    """Each construct gives what the documentation says."""
    text, expected = case
    assert expand(written(tmp_path, text)) == expected


def written(folder: Path, text: str, name: str = "main.yml") -> Path:
    file = folder / name
    file.write_text("parameters:" + PARAMETERS + text, encoding="utf-8")
    return file


WRONG = {
    "an unknown parameter": "a: ${{ parameters.wrod }}",
    "an unknown context": "a: ${{ variables.x }}",
    "an unknown function": "a: ${{ upper(parameters.word) }}",
    "an unknown directive": "${{ unless parameters.on }}:\n  a: 1",
    "a directive as a value": "a: ${{ if parameters.on }}",
    "an expression that does not end": "a: ${{ parameters.word }",
    "too much in an expression": "a: ${{ parameters.word parameters.word }}",
    "too many values": "a: ${{ eq(1, 2, 3) }}",
    "a status function": "a: ${{ succeeded() }}",
    "an else without an if": "${{ else }}:\n  a: 1",
    "an else after something else": "${{ if parameters.on }}:\n  a: 1\nb: 2\n${{ else }}:\n  c: 1",
    "the same key twice": "x: 0\n${{ insert }}: ${{ parameters.map }}",
    "a text into a mapping": "${{ if parameters.on }}: text",
    "a list in a text": "a: x ${{ parameters.list }}",
    "each of a text": "${{ each i in parameters.word }}:\n  a: 1",
    "each without a list": "${{ each i }}:\n  a: 1",
    "a loop variable that hides a context": "${{ each parameters in parameters.list }}:\n  a: 1",
    "an expression in a trigger": "trigger: ['${{ parameters.word }}']",
    "an expression in a resource": "resources: {repositories: [{repository: '${{ parameters.word }}'}]}",
    "a template where none can be": "pool:\n- template: other.yml",
    "a template that is not there": "steps:\n- template: nowhere.yml",
    "a repository that is not there": "steps:\n- template: other.yml@nowhere",
    "a template beside other keys": "steps:\n- template: other.yml\n  displayName: x",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_not_known_is_an_error(text: str, tmp_path: Path) -> None:
    """Nothing is passed over in silence."""
    written(tmp_path, "steps: []", "other.yml")
    with pytest.raises(ExpansionError):
        expand(written(tmp_path, text))


# A declaration, what is given -> what it has; nothing: it is refused.
GIVEN: dict[str, tuple[str, dict[str, Any], Any]] = {
    "the default": ("{name: p, type: string, default: x}", {}, "x"),
    "what is given": ("{name: p, type: string, default: x}", {"p": "y"}, "y"),
    "no default": ("{name: p, type: string}", {}, None),
    "empty": ("{name: p, type: string}", {"p": ""}, ""),
    "another name": ("{name: p, type: string, default: x}", {"q": "y"}, None),
    "one of the values": ("{name: p, type: string, values: [x, y]}", {"p": "y"}, "y"),
    "none of the values": ("{name: p, type: string, values: [x, y]}", {"p": "z"}, None),
    "a boolean": ("{name: p, type: boolean}", {"p": "true"}, "True"),
    "no boolean": ("{name: p, type: boolean}", {"p": "yes"}, None),
    "a number": ("{name: p, type: number}", {"p": "12"}, "12"),
    "no number": ("{name: p, type: number}", {"p": "12m"}, None),
    "a list for a text": ("{name: p, type: string}", {"p": ["x"]}, None),
    "a list of stages": ("{name: p, type: stageList}", {"p": [{"stage": "x"}]}, [{"stage": "x"}]),
    "no list of stages": ("{name: p, type: stageList}", {"p": "x"}, None),
    "a type that is not known": ("{name: p, type: legacyObject, default: x}", {}, None),
    "a key that is not known": ("{name: p, type: string, defualt: x}", {"p": "x"}, None),
}


@pytest.mark.parametrize("case", GIVEN.values(), ids=GIVEN)
def test_parameters(case: tuple[str, dict[str, Any], Any], tmp_path: Path) -> None:
    """A parameter has its type, its default and its values, or the file is refused."""
    declared, given, expected = case
    file = tmp_path / "main.yml"
    file.write_text(f"parameters:\n- {declared}\na: ${{{{ parameters.p }}}}", encoding="utf-8")
    if expected is None:
        with pytest.raises(ExpansionError):
            expand(file, given)
    else:
        assert expand(file, given) == {"a": expected}


STEPS = "parameters:\n- {name: who, type: string}\nsteps:\n- script: hello ${{ parameters.who }}\n"


def test_templates_are_found_beside_their_file_at_the_root_and_in_repositories(tmp_path: Path) -> None:
    """A path is the including file's, `/` its repository's, and `@` another one's; a template's own stay in its repository."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "deep", there / "deep"):
        folder.mkdir(parents=True)
    (here / "root.yml").write_text(STEPS, encoding="utf-8")
    (here / "deep/near.yml").write_text(STEPS, encoding="utf-8")
    (there / "deep/near.yml").write_text(STEPS.replace("hello", "over"), encoding="utf-8")
    (there / "deep/first.yml").write_text("steps:\n- template: near.yml\n  parameters: {who: b}\n", encoding="utf-8")
    steps = [
        {"template": "near.yml", "parameters": {"who": "c"}},
        {"template": "/root.yml", "parameters": {"who": "d"}},
        {"template": "deep/first.yml@other"},
        {"template": "root.yml@self", "parameters": {"who": "e"}},
    ]
    file = here / "deep/main.yml"
    file.write_text(yaml.safe_dump({"steps": steps}), encoding="utf-8")
    found = expand(file, root=here, repositories={"other": there})
    assert [step["script"] for step in found["steps"]] == ["hello c", "hello d", "over b", "hello e"]


def test_a_template_is_of_the_kind_that_stands_there(tmp_path: Path) -> None:
    """A template of steps is no template of jobs."""
    (tmp_path / "steps.yml").write_text("steps: []", encoding="utf-8")
    file = tmp_path / "main.yml"
    file.write_text("jobs:\n- template: steps.yml", encoding="utf-8")
    with pytest.raises(ExpansionError, match="no template of jobs"):
        expand(file)


VALUES: list[tuple[str, Any]] = [
    ("eq('A', 'a')", True),
    ("eq('1', 1)", True),
    ("eq(1, '1')", True),
    ("eq(1, 'x')", False),
    ("eq(true, 'no')", True),
    ("eq(true, '')", False),
    ("eq('True', true)", True),
    ("eq(null, '')", True),
    ("ne(text, 'shop')", False),
    ("and(true, 'x', 1)", True),
    ("and(true, 0)", False),
    ("or(false, '', null)", False),
    ("not('')", True),
    ("in(text, 'a', 'SHOP')", True),
    ("notIn(text, 'a', 'b')", True),
    ("contains(list, 'B')", True),
    ("contains(text, 'ho')", True),
    ("startsWith(text, 'SH')", True),
    ("length(list)", 2),
    ("length(text)", 4),
    ("format('{1}-{0}', text, 2)", "2-shop"),
    ("join(';', list)", "a;b"),
    ("coalesce('', null, text)", "shop"),
    ("convertToJson(list)", '[\n  "a",\n  "b"\n]'),
    ("list[1]", "b"),
    ("text.nothing", None),
    ("'it''s'", "it's"),
    ("-1.5", -1.5),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_expressions(expression: str, value: Any) -> None:
    """The right value is converted to the left one's type, and case does not count."""
    found = evaluate(expression, Scope(names={"text": "shop", "list": ["a", "b"]}))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "expression", ["", "eq(1", "eq 1", "'x", "a b", "text.", "text[1", "format('{3}', 1)", "#", "1x"]
)
def test_what_is_no_expression(expression: str) -> None:
    """It is told, never guessed."""
    with pytest.raises(ExpressionError):
        evaluate(expression, Scope(names={"text": "shop", "a": 1, "b": 2}))
