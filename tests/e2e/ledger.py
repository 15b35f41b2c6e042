"""Requests sent and lost, move by move, of all tests of a run; the end of the run prints them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

OURS, PLAIN = "helm-canary", "plain commands"


@dataclass
class Count:
    sent: int = 0
    lost: int = 0


@dataclass
class Ledger:
    """(who, under which conditions, move) -> what was sent and lost, summed over the runs of it."""

    counts: dict[tuple[str, str, str], Count] = field(default_factory=lambda: defaultdict(Count))
    blows: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, who: str, conditions: str, move: str, sent: int, lost: int) -> None:
        count = self.counts[who, conditions, move]
        count.sent += sent
        count.lost += lost

    def add_blow(self, conditions: str, blow: str) -> None:
        """What was done to a command under these conditions, such as killing it."""
        self.blows[conditions, blow] += 1

    def tables(self) -> Iterable[tuple[str, str]]:
        """(title, table) of every set of conditions; both columns where the plain commands ran under them too."""
        for conditions in dict.fromkeys(conditions for _, conditions, _ in self.counts):
            yield f"requests lost, {conditions}", self._table(conditions)

    def _table(self, conditions: str) -> str:
        moves = sorted({move for _, of, move in self.counts if of == conditions}, key=_order)
        columns = [who for who in (PLAIN, OURS) if any((who, conditions, move) in self.counts for move in moves)]
        rows = [["move", *(text for who in columns for text in ("sent", f"lost with {who}"))]]
        total = {who: Count() for who in columns}
        for move in moves:
            row = [move]
            for who in columns:
                count = self.counts.get((who, conditions, move))
                row += [str(count.sent), str(count.lost)] if count else ["", ""]
                if count:
                    total[who].sent += count.sent
                    total[who].lost += count.lost
            rows.append(row)
        rows.append(["all", *(str(part) for who in columns for part in (total[who].sent, total[who].lost))])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        blows = [f"{count} x {blow}" for (of, blow), count in sorted(self.blows.items()) if of == conditions]
        return "\n".join((lines[0], "-" * max(map(len, lines)), *lines[1:], *blows))


def _order(move: str) -> tuple[int, str]:
    """Forward moves by their stages, then rollbacks by theirs, then the rest."""
    return (0 if "->" in move else 1 if move.startswith("rollback") else 2, move)
