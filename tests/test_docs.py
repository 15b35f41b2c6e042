"""What the pages say exists: links, targets, options, stages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helm_canary import __version__
from helm_canary.core.stages import DEFAULT_WEIGHTS, stages_for
from helm_canary.options import TABLE, Command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "charts").glob("*/*.md")]
# Options of other programs that the pages name.
FOREIGN = {"install", "server-side", "force-conflicts", "wait", "atomic", "reuse-values", "namespace", "set-string"}
FOREIGN |= {"show-managed-fields", "no-hooks", "help", "role", "query", "name", "keep-history"}
GAP = "\0"
# Values of a message that a page shows as they are.
VALUES = ("is not installed", "release of the Helm", "v3", "pending-upgrade")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def _anchors(page: Path) -> Iterator[str]:
    for title in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link inside the project leads to a file that is there, and to a heading that it has."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_that_are_named_exist(page: Path) -> None:
    """No page names an option that the program has not."""
    known = {option.name for option in TABLE} | FOREIGN
    named = set(re.findall(r"`[^`\n]*?--([a-z][a-z-]+)", page.read_text(encoding="utf-8")))
    assert named <= known


def _literals(path: Path) -> Iterator[str]:
    """Every text of a module, with a gap where an f-string puts a value in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield GAP.join(part.value if isinstance(part, ast.Constant) else "" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_messages_that_are_quoted_exist() -> None:
    """What the tables of troubleshooting quote is what the program says; `...` stands for a value, or for the rest."""
    known = "\n".join(text for path in (ROOT / "src").rglob("*.py") for text in _literals(path))
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        row
        for rows in re.findall(r"^\| message begins.*\n((?:\|.*\n)+)", page, re.MULTILINE)
        for row in rows.splitlines()
    ]
    texts = [text for row in quoted for text in re.findall(r"`([^`]+)`", row.split("|")[1]) if "(by helm)" not in row]
    parts = [part.strip() for text in texts for part in re.split(r"\.\.\.|" + "|".join(VALUES), text)]
    # The track, a number or a name may be the first word, and is no part of the program's text.
    unknown = [part for part in parts if not any(way in known for way in (part, part.partition(" ")[2] or part))]
    assert len(texts) > 30
    assert unknown == []


def test_make_targets_that_are_named_exist() -> None:
    """Each `make TARGET` of a page is a target of the Makefile, and `make help` has a word for each target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert named <= targets
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert targets - explained == {"cluster-for-tests"}


def test_the_readme_has_every_stage_and_command() -> None:
    """The README's table of stages is the program's, and its quick start shows each command that moves something."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [f"| {stage.number} | `{stage.name}` |" for stage in stages_for(DEFAULT_WEIGHTS)]
    assert [row for row in rows if row not in readme] == []
    assert [c.value for c in Command if c is not Command.VERIFY and f"helm-canary {c.value}" not in readme] == []


def test_the_changelog_has_this_version() -> None:
    """Users find the version that they have."""
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_continuous_integration_runs_the_documented_command() -> None:
    """What passes there is what the README tells everybody to run."""
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
