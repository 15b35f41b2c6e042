"""What is made from the program's tables is as it would be made now."""

from __future__ import annotations

from pathlib import Path

import pytest

from helm_canary.options import TABLE
from tools import generate


def test_generated_files_are_current() -> None:
    """A changed option, exit code, result or output reaches docs/reference.md in the same commit (`make generate`)."""
    assert generate.stale() == []


def test_every_option_is_in_the_reference() -> None:
    """No option is missing from the page."""
    page = generate.reference()
    assert [option.name for option in TABLE if f"| `--{option.name}" not in page] == []


@pytest.mark.parametrize("there", [None, "# Reference\n"])
def test_check_reports_a_difference_and_writes_nothing(
    there: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` exits 1 for a file that is missing or differs, names it, and leaves it as it is."""
    page = tmp_path / generate.REFERENCE
    page.parent.mkdir()
    if there is not None:
        page.write_text(there)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert str(generate.REFERENCE) in capsys.readouterr().out
    assert (page.read_text() if page.exists() else None) == there
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_tables_that_do_not_fit_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit code that the page has no words for stops the generator."""
    monkeypatch.setattr(generate, "EXIT_CODES", {0: "done"})
    with pytest.raises(generate.GenerateError, match="exit codes"):
        generate.reference()
