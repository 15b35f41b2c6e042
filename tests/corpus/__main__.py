"""A chart of the corpus, to look at.

python -m tests.corpus SEED [FEATURE=PIECE,...] [FOLDER]    the chart that a seed makes, with these features otherwise
python -m tests.corpus NAME [FOLDER]                        a chart of charts.yaml (needs helm on PATH where it is created)
"""

from __future__ import annotations

import sys
from pathlib import Path

from .generator import changed, features
from .table import entries


def main(argv: list[str]) -> int:
    match argv:
        case [name, *words] if name.isdigit():
            made = changed(features(int(name)), [word for word in words if "=" in word])
            print(made, f"change: {made.change}", f"refused: {made.refused}", sep="\n")
            print(made.write(_folder(words, name)))
        case [name, *words] if name in entries():
            print(entries()[name].write(_folder(words, name)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def _folder(words: list[str], name: str) -> Path:
    given = [word for word in words if "=" not in word]
    return Path(given[0]) if given else Path("/tmp/corpus") / name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
