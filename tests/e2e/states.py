"""The stage table, written out: what is true of each track when a command has ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackState:
    tag: str
    weight: int
    replicas: int


@dataclass(frozen=True)
class State:
    """What a cluster has to show, with the stage's number and name and the record's direction."""

    number: int
    name: str
    direction: str
    production: TrackState
    canary: TrackState

    @property
    def split(self) -> str:
        return f"{self.production.weight}/{self.canary.weight}"

    def share(self, tag: str) -> int:
        """The percentage of the answers that come from this tag."""
        return sum(track.weight for track in (self.production, self.canary) if track.tag == tag)


@dataclass(frozen=True)
class Release:
    """A release of `new` over `previous`: its weights, production's replicas, and the canary's for each weight."""

    previous: str
    new: str
    weights: tuple[int, ...] = (10, 90, 100)
    replicas: int = 2
    canary_replicas: tuple[int, ...] = (2, 2, 2)

    @property
    def last(self) -> int:
        return len(self.weights) + 4

    def at(self, stage: int) -> State:
        """The row of the table; stages are numbered from 1."""
        old, new, full = self.previous, self.new, self.replicas
        rows = [("steady", (old, 100, full), (old, 0, 0))]
        for weight, pods in zip(self.weights, self.canary_replicas, strict=True):
            rows.append((f"canary-{weight}", (old, 100 - weight, full), (new, weight, pods)))
        rows += [
            ("promote", (new, 0, full), (new, 100, full)),
            ("return", (new, 100, full), (new, 0, full)),
            ("finish", (new, 100, full), (new, 0, 0)),
        ]
        name, production, canary = rows[stage - 1]
        direction = "finished" if stage in (1, self.last) else "forward"
        return State(stage, name, direction, TrackState(*production), TrackState(*canary))

    @property
    def rolled_back(self) -> State:
        steady = self.at(1)
        return State(1, "steady", "rolled-back", steady.production, steady.canary)
