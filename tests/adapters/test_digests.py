"""What a chart is, told from its content: no matter when, where and by whom it was packed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from helm_canary.digests import chart_digest


def chart(folder: Path, **files: str) -> Path:
    """A chart's folder; `__` stands for a slash in a name, and `_dot_` for a dot."""
    for name, text in {"Chart_dot_yaml": "name: x", "templates__a_dot_yaml": "a: 1", **files}.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def packed(path: Path, *, at: int, text: str = "a: 1", backwards: bool = False) -> None:
    """A subchart's archive, as `helm dependency build` makes it at a time."""
    names = ["sub/Chart.yaml", "sub/templates/a.yaml"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in reversed(names) if backwards else names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text), at
            archive.addfile(member, io.BytesIO(text.encode()))


def test_a_packed_dependency_counts_by_what_is_in_it(tmp_path: Path) -> None:
    """Other times and another order in an archive are the same chart; another file in it is not."""
    ways: list[dict[str, Any]] = [{"at": 1}, {"at": 2}, {"at": 3, "backwards": True}, {"at": 1, "text": "a: 2"}]
    digests = []
    for number, how in enumerate(ways):
        root = chart(tmp_path / str(number))
        packed(root / "charts/sub-1.0.0.tgz", **how)
        digests.append(chart_digest(str(root), ""))
    assert digests[0] == digests[1] == digests[2] != digests[3]


def test_the_time_of_a_lock_does_not_count(tmp_path: Path) -> None:
    """Chart.lock says when it was made; which versions it locks counts."""
    lock = 'dependencies:\n- name: sub\n  version: {}\ndigest: sha256:1\ngenerated: "{}"\n'
    one, other, newer = (
        chart_digest(str(chart(tmp_path / str(number), Chart_dot_lock=lock.format(version, time))), "")
        for number, (version, time) in enumerate((("1", "2026-01-01"), ("1", "2026-02-02"), ("2", "2026-01-01")))
    )
    assert one == other != newer


IGNORE = "# what an editor leaves\n*.swp\nnotes/\n/only-here\ndocs/*.md\n"
IGNORED = {
    "a_dot_swp": True, "templates__b_dot_swp": True, "notes__x": True, "deep__notes__x": True, "only-here": True,
    "docs__a_dot_md": True, "deep__only-here": False, "docs__deep__a_dot_md": False, "notes_dot_txt": False,
    "templates___dot_hidden": True,
}  # fmt: skip


@pytest.mark.parametrize(("name", "ignored"), IGNORED.items())
def test_what_helm_ignores_is_not_the_charts(name: str, ignored: bool, tmp_path: Path) -> None:
    """A file that .helmignore leaves out of the chart changes nothing; every other file does."""
    without = chart_digest(str(chart(tmp_path / "a", _dot_helmignore=IGNORE)), "")
    with_it = chart_digest(str(chart(tmp_path / "b", _dot_helmignore=IGNORE, **{name: "x"})), "")
    assert (with_it == without) is ignored


def test_an_archive_counts_by_what_is_in_it(tmp_path: Path) -> None:
    """A packed chart has the same digest whenever it was packed; what is no archive counts as it is."""
    ways: dict[str, dict[str, Any]] = {"a.tgz": {"at": 1}, "b.tgz": {"at": 2}, "c.tgz": {"at": 1, "text": "b: 1"}}
    for name, how in ways.items():
        packed(tmp_path / name, **how)
    (tmp_path / "d.tgz").write_text("no archive")
    a, b, c, d = (chart_digest(str(tmp_path / f"{name}.tgz"), "") for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_a_charts_digest_tells_its_content(tmp_path: Path) -> None:
    """A changed, renamed or added file of a chart's folder is another chart; its place is none."""
    chart = tmp_path / "a"
    (chart / "templates").mkdir(parents=True)
    (chart / "templates/x.yaml").write_text("x")
    first = chart_digest(str(chart), "")
    digests = {first}
    (chart / "templates/x.yaml").write_text("y")
    digests.add(chart_digest(str(chart), ""))
    (chart / "templates/x.yaml").rename(chart / "templates/y.yaml")
    digests.add(chart_digest(str(chart), ""))
    (chart / "z").write_text("")
    digests.add(chart_digest(str(chart), ""))
    assert len(digests) == 4

    twin = tmp_path / "b"
    (twin / "templates").mkdir(parents=True)
    (twin / "templates/x.yaml").write_text("x")
    assert chart_digest(str(twin), "") == first
    assert chart_digest("repo/page", "1.0.0") != chart_digest("repo/page", "1.0.1")
