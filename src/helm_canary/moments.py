"""What is set when a chart is rendered to see whether it takes what is set: each track's tag, weight and replicas. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from helm_canary.core.model import Split, Track


class Moment(str, Enum):
    """The moments of a release that a chart is rendered as at: each shows what no other does."""

    BETWEEN = (
        "between"  # one version on both tracks, production's replicas as the user has them: this makes the version
    )
    START = "start"  # the canary has no pods, no weight, and another tag
    END = "end"  # production has no weight, and another tag


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Values to render with. `replicas` of a track that is not in it are the user's."""

    moment: Moment
    tags: Mapping[Track, str]
    split: Split
    replicas: Mapping[Track, int] = field(default_factory=dict)

    def arguments(self) -> list[str]:
        tags = ",".join(f"{track.value}Deployment.image.tag={self.tags[track]}" for track in Track)
        pairs = [f"{track.value}Deployment.weight={self.split.of(track)}" for track in Track]
        pairs += [f"{track.value}Deployment.replicaCount={count}" for track, count in self.replicas.items()]
        return ["--set-string", tags, "--set", ",".join(pairs)]


def probes(tag: str) -> tuple[Probe, Probe, Probe]:
    """Of every moment one; no number is a stage's, none is there twice, so that what is fixed in the chart is seen."""
    other = other_tag(tag)
    production, canary = Track.PRODUCTION, Track.CANARY
    return (
        Probe(
            moment=Moment.BETWEEN,
            tags={production: tag, canary: tag},
            split=Split.of_canary(37),
            replicas={canary: 3},
        ),
        Probe(
            moment=Moment.START,
            tags={production: tag, canary: other},
            split=Split.of_canary(0),
            replicas={production: 2, canary: 0},
        ),
        Probe(
            moment=Moment.END,
            tags={production: other, canary: tag},
            split=Split.of_canary(100),
            replicas={production: 4, canary: 5},
        ),
    )


def other_tag(tag: str) -> str:
    """A tag of the same form, which a chart takes where it takes this one: a number, a version or a hash stays one."""
    for index in range(len(tag) - 1, -1, -1):
        char = tag[index]
        for row in ("0123456789", "abcdef", "ABCDEF", "ghijklmnopqrstuvwxyz", "GHIJKLMNOPQRSTUVWXYZ"):
            if char in row:
                return tag[:index] + row[(row.index(char) + 1) % len(row)] + tag[index + 1 :]
    return tag + "0"
