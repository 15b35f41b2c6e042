"""What `helm template` cannot know, found in a chart's own files, packed or not."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from helm_canary.revisions import INSTALLS, REVISION, Use, mentions, unpacked, uses, with_another_revision

TEMPLATE = "kind: ConfigMap\ndata:\n  a: {{ .root.Release.Revision | quote }}\n"


def chart(folder: Path, name: str, template: str) -> Path:
    """A chart with one template, and things beside it that are not the chart's."""
    root = folder / name
    (root / "templates").mkdir(parents=True)
    (root / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
    (root / "templates/x.yaml").write_text(template)
    (root / "templates/NOTES.txt").write_text("revision {{ .Release.Revision }}")
    (root / ".git").mkdir()
    (root / ".git/big").write_text(TEMPLATE)
    (root / "gone").symlink_to("nowhere")
    return root


def packed(root: Path) -> Path:
    path = root.with_suffix(".tgz")
    with tarfile.open(path, "w:gz") as archive:
        for name in ("Chart.yaml", "templates", "charts"):
            if (root / name).exists():
                archive.add(root / name, f"{root.name}/{name}")
    return path


@pytest.mark.parametrize("as_archive", [False, True])
@pytest.mark.parametrize("nested", ["no", "folder", "archive"])
def test_a_line_that_asks_for_the_revision_is_found(as_archive: bool, nested: str, tmp_path: Path) -> None:
    """In the chart or in a subchart, as a folder or packed; what is beside the templates is none of it."""
    root = chart(tmp_path, "shop", "kind: Service\n" if nested != "no" else TEMPLATE)
    if nested != "no":
        below = chart(tmp_path / "base", "base", TEMPLATE)
        (root / "charts").mkdir()
        if nested == "archive":
            packed(below).rename(root / "charts/base.tgz")
        else:
            below.rename(root / "charts/base")
    given = packed(root) if as_archive else root

    assert mentions(given, REVISION)
    assert not mentions(given, INSTALLS)
    (tmp_path / "work").mkdir()
    made = unpacked(given, tmp_path / "work")
    file = "templates/x.yaml" if nested == "no" else "charts/base/templates/x.yaml"
    assert uses(made, REVISION) == [Use(file=file, line=3)]
    with_another_revision(made)
    assert uses(made, REVISION) == []
    assert "4242" in (made / file).read_text()
    assert not (made / ".git").exists()


@pytest.mark.parametrize("text", ["{{ .Release.Revision }}", "{{ $.Release.Revision }}", "{{ $root.Release.Revision }}",
                                  "{{ (.ctx.Release.Revision) }}"])  # fmt: skip
def test_every_way_to_ask_for_it_is_replaced(text: str) -> None:
    """However the context is called; another word that begins alike is not it."""
    assert REVISION.sub("1", text) in ("{{ 1 }}", "{{ (1) }}")
    assert REVISION.sub("1", "{{ .Release.RevisionHistory }}") == "{{ .Release.RevisionHistory }}"


def test_a_chart_without_it_costs_nothing_more(tmp_path: Path) -> None:
    """NOTES.txt is no object."""
    assert not mentions(chart(tmp_path, "shop", "kind: Service\n"), REVISION)
