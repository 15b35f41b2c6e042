"""The chart of docs/what-a-chart-needs.md, what to change in it so that it does not fit, and a person who takes the advice.

The person reads what the program prints and nothing else: the files and objects that it names, and the lines below each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/what-a-chart-needs.md"
LISTS = Path(__file__).parent / "misfits"
REPLACED = " # in place of what is there"
Files = dict[str, str]


def page_chart() -> Files:
    """The files of the whole chart on the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = dict(re.findall(r"^`([\w./]+)`\n\n```yaml\n(.*?)```", text, re.MULTILINE | re.DOTALL))
    assert len(found) == 7, sorted(found)
    return found


def page_chart_with_pods() -> Files:
    """The same with `release.pods`, as the page's last snippet has it for production and says it for the canary."""
    files, text = page_chart(), PAGE.read_text(encoding="utf-8")
    (snippet,) = re.findall(r"from `template:` on\n\n```yaml\n(.*?)```", text, re.DOTALL)
    for track in ("production", "canary"):
        name = f"templates/{track}.yaml"
        files[name] = files[name].partition("  template:\n")[0] + snippet.replace("production", track)
    return files


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a chart differs from the page's."""

    name: str
    replace: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    remove: Sequence[str] = ()
    tag: str = "84"

    def chart(self) -> Files:
        found = page_chart()
        for file, pairs in self.replace.items():
            for old, new in pairs:
                assert old in found[file], (self.name, file, old)
                found[file] = found[file].replace(old, new)
        return {file: text for file, text in {**found, **self.files}.items() if file not in self.remove}


@dataclass(frozen=True, kw_only=True)
class Misfit(Variant):
    """A chart that does not fit: what is said, and where.

    count   how many pieces of advice, but for the one about values.yaml
    advice  whether lines are given that make it fit
    """

    said: Sequence[str]
    where: Sequence[str] = ()
    count: int = 1
    advice: bool = True


def _cases(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from yaml.safe_load((LISTS / name).read_text(encoding="utf-8")).items()


def misfits() -> list[Misfit]:
    return [Misfit(name=name, **case) for name, case in _cases("charts.yaml")]


def fitting() -> list[Variant]:
    return [Variant(name=name, **case) for name, case in _cases("fits.yaml")]


def write(files: Mapping[str, str], folder: Path) -> Path:
    """As the folder of a chart, which is empty of anything else."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


# --- a person who takes the advice -------------------------------------------------------------------------------------

ITEM = re.compile(
    r"^\d+\. (?P<file>the chart|[^:,\s]+)(?:, (?P<thing>\w+/[\w.-]+))?: (?P<what>.*)\. (?P<do>[A-Z][^.:]*[.:])$"
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One numbered piece of advice."""

    file: str
    what: str
    do: str
    lines: tuple[str, ...]


def advice(details: Sequence[str]) -> Iterator[Item]:
    """The numbered pieces of what was printed, each with its lines."""
    at = [index for index, line in enumerate(details) if ITEM.match(line)]
    for begin, end in zip(at, [*at[1:], len(details)], strict=True):
        match = ITEM.match(details[begin])
        assert match
        lines = tuple(line[5:] for line in details[begin + 1 : end])
        # The chart's own name comes first, as Helm writes it.
        yield Item(file=match["file"].partition("/")[2], what=match["what"], do=match["do"], lines=lines)


def take(files: Files, item: Item) -> None:
    """Do what a piece of advice says, to the text of the files."""
    match item.do:
        case "Add the file:":
            assert item.file not in files
            files[item.file] = "\n".join(item.lines) + "\n"
        case "Take it out.":
            del files[item.file]
        case "Take the condition around it out.":
            kept = [line for line in files[item.file].splitlines() if not re.match(r"\s*\{\{-? *(if|end)\b", line)]
            files[item.file] = "\n".join(kept) + "\n"
        case "Add what is not there yet:":
            files[item.file] = yaml.safe_dump(
                _added(yaml.safe_load(files.get(item.file, "")) or {}, yaml.safe_load("\n".join(item.lines)))
            )
        case "Set:" | "Give --namespace elsewhere, or set:":
            lines = files[item.file].splitlines()
            _put(lines, range(len(lines)), 0, _nodes(item.lines))
            files[item.file] = "\n".join(lines) + "\n"
        case other:
            raise AssertionError(f"a person does not know how to do {other!r}")


def _added(there: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if isinstance(value, Mapping):
            there[key] = _added(there.get(key) or {}, value)
        else:
            there.setdefault(key, value)
    return there


@dataclass(frozen=True)
class Node:
    """A key of a fragment: its value on the same line, and what is below it, as lines that begin at the margin."""

    key: str
    value: str
    below: tuple[str, ...]
    whole: bool

    def lines(self, indent: int) -> list[str]:
        head = f"{self.key}: {self.value}".rstrip()
        deeper = "" if self.below and self.below[0].startswith("- ") else "  "
        return [" " * indent + line for line in (head, *(deeper + line for line in self.below))]


def _nodes(lines: Sequence[str]) -> list[Node]:
    """The keys at the margin. The items of a list stand at the margin of its key."""
    at = [index for index, line in enumerate(lines) if line[:1] not in (" ", "-")]
    made = []
    for begin, end in zip(at, [*at[1:], len(lines)], strict=True):
        key, _, value = lines[begin].removesuffix(REPLACED).partition(":")
        below = lines[begin + 1 : end]
        deep = 0 if below and below[0].startswith("-") else 2
        made.append(Node(key, value.strip(), tuple(line[deep:] for line in below), lines[begin].endswith(REPLACED)))
    return made


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_inert(line: str) -> bool:
    """A line that is the template engine's alone, or empty: where it stands says nothing."""
    return not line.strip() or line.lstrip().startswith("{{")


def _block(lines: Sequence[str], here: range, key: str, indent: int) -> range | None:
    """The lines of a key, and of all that is below it, but for the template engine's at the end: they may close what is above."""
    for first in here:
        if _indent(lines[first]) == indent and re.match(rf"(['\"]?){re.escape(key)}\1:", lines[first].lstrip()):
            last = first + 1
            while last < here.stop and (
                _is_inert(lines[last]) or _indent(lines[last]) > indent or lines[last][indent:].startswith("- ")
            ):
                last += 1
            while _is_inert(lines[last - 1]):
                last -= 1
            return range(first, last)
    return None


def _put(lines: list[str], here: range, indent: int, nodes: Sequence[Node]) -> int:
    """Write nodes into the lines of a mapping, as little as can be; by how many lines it has become longer."""
    before = len(lines)
    for node in nodes:
        now = range(here.start, here.stop + len(lines) - before)
        block = _block(lines, now, node.key, indent)
        if block is None:
            lines[now.start : now.start] = node.lines(indent)
        elif node.whole or not node.below:
            lines[block.start : _closed(lines, block)] = node.lines(indent)
        elif node.below[0].startswith("- "):
            _put_item(lines, block, node)
        else:
            inside = range(block.start + 1, block.stop)
            deeper = [_indent(lines[index]) for index in inside if lines[index].strip()]
            _put(lines, inside, deeper[0] if deeper else indent + 2, _nodes(node.below))
    return len(lines) - before


def _closed(lines: Sequence[str], block: range) -> int:
    """The end of a block with the `end` of each condition that begins in it."""
    text, stop = [lines[index] for index in block], block.stop
    opened = sum(len(re.findall(r"\{\{-? *(?:if|with|range)\b", line)) for line in text)
    opened -= sum(len(re.findall(r"\{\{-? *end\b", line)) for line in text)
    while opened > 0 and _is_inert(lines[stop]):
        opened -= "end" in lines[stop]
        stop += 1
    return stop


def _put_item(lines: list[str], block: range, node: Node) -> None:
    """Into the item of a list that has the same name, or is the only one."""
    fragment = [line[2:] for line in node.below]
    items = [index for index in block if lines[index].lstrip().startswith("- ")]
    items = [index for index in items if _indent(lines[index]) == _indent(lines[items[0]])]
    named = [index for index in items if lines[index].strip() == f"- {fragment[0]}"]
    (first,) = named or items
    after = [index for index in items if index > first]
    indent = _indent(lines[first])
    lines[first] = lines[first].replace("- ", "  ", 1)
    grown = _put(lines, range(first, after[0] if after else block.stop), indent + 2, _nodes(fragment[1:]))
    at = first
    assert grown >= 0
    lines[at] = lines[at][:indent] + "- " + lines[at][indent + 2 :]
