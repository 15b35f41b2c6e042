"""The architecture, held by reading the imports of `src/helm_canary`. What does not exist yet is not asked about."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "helm_canary"
PACKAGE = "helm_canary"

# Who may import which modules of the package. `core` alone means: any of its modules.
CORE = {
    "core.model": set[str](),
    "core.stages": {"core.model"},
    "core.refusals": {"core.model", "core.stages"},
    "core.planner": {"core.model", "core.refusals", "core.stages"},
    "core.invariants": {"core.model", "core.stages"},
    "core.foresee": {"core.model"},
    "core.ways": {"core.model", "core.planner"},
}
OUTSIDE_WORLD = {
    "time", "datetime", "os", "pathlib", "socket", "subprocess", "random", "secrets", "uuid", "tempfile", "shutil", "signal",
    "threading", "asyncio", "http", "urllib", "ssl", "select", "io", "logging", "requests", "yaml",
}  # fmt: skip
ADAPTERS = {"helm", "cluster", "routing", "proxies", "lease", "azure", "process", "requests_probe", "pod_requests"}
LAZY = {"azure", "cryptography", "msal", "requests"}
EDGE = ("__main__", "ci")
WIRING = ("__main__", "access", "commands")


@dataclass(frozen=True)
class Import:
    """One import: of what, whether it runs when the module is imported, and whether only a type checker sees it."""

    name: str
    at_top: bool
    for_types: bool


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below the package."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> list[Import]:
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), at_top=True, for_types=False))


def _walk(node: ast.AST, *, at_top: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_top, for_types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (Import(f"{child.module}.{alias.name}", at_top, for_types) for alias in child.names)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(child, at_top=at_top and not inside, for_types=for_types or types)


def own(path: Path) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for each in imports(path):
        if each.name.split(".")[0] != PACKAGE:
            continue
        below = each.name.split(".", 1)[1] if "." in each.name else ""
        while below and below not in MODULES:
            below = below.rpartition(".")[0]
        found.add(below)
    return found - {""}


def foreign(path: Path) -> set[str]:
    """The top packages outside this one that a module imports when it runs."""
    return {each.name.split(".")[0] for each in imports(path) if not each.for_types} - {PACKAGE, "__future__"}


def in_(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("module", [name for name in MODULES if in_(name, "core")])
def test_the_core_is_pure(module: str) -> None:
    """The core imports the standard library and itself, along the arrows, and nothing that reaches the outside world."""
    assert module == "core" or module in CORE, "a new module of the core needs its place in the order"
    assert own(MODULES[module]) <= CORE.get(module, set())
    assert foreign(MODULES[module]) <= sys.stdlib_module_names
    assert not foreign(MODULES[module]) & OUTSIDE_WORLD


@pytest.mark.parametrize("module", ["report", "rights"])
def test_what_makes_text_of_values_is_pure(module: str) -> None:
    """Reports, and rules for rights, are made of values: no clock, environment, file or network."""
    assert foreign(MODULES[module]) <= sys.stdlib_module_names
    assert not foreign(MODULES[module]) & OUTSIDE_WORLD
    assert not own(MODULES[module]) & (ADAPTERS | {"execute", "__main__", "core.planner", "core.invariants"})


@pytest.mark.parametrize("module", sorted(ADAPTERS & set(MODULES)))
def test_adapters_stand_alone(module: str) -> None:
    """An adapter imports no other adapter but the one that starts processes, and nothing that decides."""
    imported = own(MODULES[module])
    assert not imported & (ADAPTERS - {"process", module})
    assert not imported & {"execute", *WIRING, "core.planner", "core.invariants"}
    assert not any(in_(name, "ci") for name in imported)


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ADAPTERS and not in_(name, *WIRING)])
def test_what_decides_knows_ports_only(module: str) -> None:
    """But for the wiring, a module may name the values of an adapter, and never the adapter that reaches the outside."""
    names = {each.name for each in imports(MODULES[module]) if not each.for_types}
    assert not names & {f"{PACKAGE}.{adapter}.{adapter.capitalize()}" for adapter in ADAPTERS}
    assert not any(in_(name, f"{PACKAGE}.process", f"{PACKAGE}.azure") for name in names)
    assert not any(in_(name, *WIRING) for name in own(MODULES[module]))


@pytest.mark.parametrize("module", [name for name in MODULES if not in_(name, *EDGE)])
def test_only_the_edge_talks_to_the_outside(module: str) -> None:
    """Only the command line and the CI modules print or read the environment."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"{module} prints, line {node.lineno}"
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        assert text not in ("os.environ", "os.getenv"), f"{module} reads the environment"


@pytest.mark.parametrize("module", list(MODULES))
def test_what_is_heavy_is_imported_when_used(module: str) -> None:
    """Azure and HTTP are not imported by a command that does not need them."""
    top = {each.name.split(".")[0] for each in imports(MODULES[module]) if each.at_top and not each.for_types}
    assert not top & LAZY


def test_only_one_module_starts_processes() -> None:
    """Every process is started in one place: there it is echoed, redacted and bounded in time."""
    assert {name for name, path in MODULES.items() if "subprocess" in foreign(path)} <= {"process"}
