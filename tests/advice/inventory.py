"""Every place in the program that makes an error or a refusal, found in its source."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "helm_canary"
GAP = "{}"
# Texts that are rows of a table: module, name of the table -> the columns of a row's first words and of its advice, its class.
TABLES = {("azure_faults", "FAULTS"): (0, 2, "AzureError"), ("process", "CAUSES"): (1, 2, "ToolError")}
# Modules that make what a refusal is made of: each obstacle is one for itself, with an advice of its own.
YIELDING = ("routing", "installing")
# An error of this class takes its texts from a table.
BY_CODE = ("AzureError",)
COMMAND = re.compile(r"`((?:stage|rollback|helm|kubectl|az|istioctl|--|\{\} -)[^`]*)`")


@dataclass(frozen=True, kw_only=True)
class Site:
    """One message: where it is made, how it begins, its class, and what its advice says; `{}` stands for a value."""

    where: str
    begins: str
    error: str
    advice: tuple[str, ...] = ()

    @property
    def commands(self) -> frozenset[str]:
        """What the advice has in backticks."""
        return frozenset(found for text in self.advice for found in COMMAND.findall(text))

    def __str__(self) -> str:
        return f"{self.where}: {self.begins}"


def sites() -> list[Site]:
    """Every message of the program, in the order of its files."""
    trees = {_module(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    errors = _descendants(trees, "CanaryError") | {"Refusal"}
    found = [site for module, tree in trees.items() for site in _of_module(module, tree, errors - set(BY_CODE))]
    return list(dict.fromkeys(found))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def _descendants(trees: dict[str, ast.Module], root: str) -> set[str]:
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {root}
    while more := {c.name for c in classes if c.name not in found and {ast.unparse(base) for base in c.bases} & found}:
        found |= more
    return found


def _of_module(module: str, tree: ast.Module, errors: set[str]) -> Iterator[Site]:
    for (where, table), (begins, advice, error) in TABLES.items():
        if where == module:
            yield from _of_table(module, tree, table, begins, advice, error)
    for function, classes in _functions(tree):
        if module in YIELDING:
            yield from _yielded(f"{module}.{function.name}", _Scope(tree, function))
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if not _is_inside(function, call) and _makes(call, errors, classes):
                name = ast.unparse(call.func)
                error = next(each for each in classes if each in errors) if name == "cls" else name
                yield from _of_call(f"{module}.{function.name}", error, _Scope(tree, function), call)


def _yielded(where: str, scope: _Scope) -> Iterator[Site]:
    assert scope.function is not None
    for node in ast.walk(scope.function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Obstacle":
            obstacle, do_next = _argument(node, 0, "text"), _argument(node, 1, "do_next")
            assert obstacle is not None
            assert do_next is not None
            advice = tuple(scope.texts(do_next))
            yield from (
                Site(where=where, begins=text, error="Refusal", advice=advice) for text in scope.texts(obstacle)
            )


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
    """Each function with the names of the classes that it is in."""

    def below(node: ast.AST, classes: list[str]) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield child, classes
            yield from below(child, [*classes, child.name] if isinstance(child, ast.ClassDef) else classes)

    yield from below(tree, [])


def _is_inside(function: ast.FunctionDef, call: ast.Call) -> bool:
    """Whether a function within this one has the call."""
    inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node is not function]
    return any(call is node for each in inner for node in ast.walk(each))


def _makes(call: ast.Call, errors: set[str], classes: list[str]) -> bool:
    """Whether a call makes an error with words of its own, and does not pass those of another one on."""
    name = ast.unparse(call.func)
    made = name in errors or (name == "cls" and bool(set(classes) & errors))
    first = _argument(call, 0, "happened")
    empty = isinstance(first, ast.Constant) and not first.value
    return (
        made and first is not None and not empty and not (isinstance(first, ast.Attribute) and first.attr == "happened")
    )


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    named = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    return named if named is not None else call.args[place] if len(call.args) > place else None


def _of_call(where: str, error: str, scope: _Scope, call: ast.Call) -> Iterator[Site]:
    happened, do_next = _argument(call, 0, "happened"), _argument(call, 2, "do_next")
    advice = tuple(replace(scope, deep=True).texts(do_next)) if do_next is not None else ()
    assert happened is not None
    for begins in scope.texts(happened):
        yield Site(where=where, begins=begins, error=error, advice=advice)


def _of_table(module: str, tree: ast.Module, table: str, begins: int, advice: int, error: str) -> Iterator[Site]:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table:
            assert isinstance(node.value, (ast.Dict, ast.Tuple))
            rows = node.value.values if isinstance(node.value, ast.Dict) else node.value.elts
            for row in rows:
                row = row.value.elt if isinstance(row, ast.Starred) and isinstance(row.value, ast.GeneratorExp) else row
                assert isinstance(row, ast.Tuple), f"a row of {table} is not a tuple"
                texts = [_fill(next(_Scope(tree).texts(part))) for part in row.elts]
                yield Site(where=f"{module}.{table}", begins=texts[begins], error=error, advice=(texts[advice],))


def _fill(text: str) -> str:
    """The fields of a text that is a format."""
    return re.sub(r"\{\w*\}", GAP, text)


@dataclass(frozen=True)
class _Scope:
    """Where an expression stands: what its names and the module's own functions stand for. `deep`: within an f-string too."""

    tree: ast.Module
    function: ast.FunctionDef | None = None
    deep: bool = False

    def texts(self, node: ast.expr) -> Iterator[str]:
        """Every text that an expression can be, as far as it is written in the same function, or in one that it calls."""
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=values):
                yield from self._joined(values)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from _both(self.texts(left), self.texts(right))
            case ast.IfExp(body=body, orelse=other):
                yield from itertools.chain(self.texts(body), self.texts(other))
            case ast.BoolOp(values=values):
                yield from itertools.chain.from_iterable(self.texts(value) for value in values)
            case ast.Name(id=name) if given := list(self._given(name)):
                yield from dict.fromkeys(text for scope, value in given for text in scope.texts(value))
            case ast.Call(func=ast.Name(id=name)) if returned := list(self._returned(name)):
                yield from dict.fromkeys(text for scope, value in returned for text in scope.texts(value))
            case _:
                yield GAP

    def _joined(self, values: list[ast.expr]) -> Iterator[str]:
        """An f-string, with a gap for each value."""
        found = [""]
        for part in values:
            value = part.value if isinstance(part, ast.FormattedValue) else part
            assert isinstance(value, ast.expr)
            own = isinstance(value, ast.Constant) or (self.deep and isinstance(value, (ast.Call, ast.Name)))
            texts = list(self.texts(value)) if own else [GAP]
            found = list(_both(found, texts))
        yield from found

    def _returned(self, name: str) -> Iterator[tuple[_Scope, ast.expr]]:
        for function in self.tree.body:
            if isinstance(function, ast.FunctionDef) and function.name == name:
                for node in ast.walk(function):
                    if isinstance(node, ast.Return) and node.value is not None:
                        yield _Scope(self.tree, function, self.deep), node.value

    def _given(self, name: str) -> Iterator[tuple[_Scope, ast.expr]]:
        """What the function assigns to a name."""
        for node in ast.walk(self.function) if self.function else ():
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    yield from self._assigned(name, target, node.value)

    def _assigned(self, name: str, target: ast.expr, value: ast.expr) -> Iterator[tuple[_Scope, ast.expr]]:
        if ast.unparse(target) == name:
            yield self, value
        if not isinstance(target, ast.Tuple):
            return
        names = [ast.unparse(each) for each in target.elts]
        whole = [(self, value)]
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            whole = list(self._returned(value.func.id))
        for scope, found in whole:
            if name in names and isinstance(found, ast.Tuple):
                yield scope, found.elts[names.index(name)]


def _both(first: Iterable[str], second: Iterable[str]) -> Iterator[str]:
    """Each of the first before each of the second."""
    yield from dict.fromkeys(before + behind for before, behind in itertools.product(list(first), list(second)))
