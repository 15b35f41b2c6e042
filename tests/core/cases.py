"""Reads planner cases: what is observed and wanted, each in a short line, so that adding a case needs no code.

live       production and canary: `83 x3` (three pods, all Ready), `83 1/3` (one of three is Ready), `84 x3 known 2` (the
           proxies list two), `84 1/3 replacing` (pods of another template are left), `none`. A version is a tag, or
           `84~b` for another digest of the same tag. weights: `90/10`, or `none` without a VirtualService.
record     `canary-10 > canary-90`, `return watched`, `rolling-back promote`, `finished finish`, ..., or `none`
wanted     a command line: `stage 3 --tag 84`, `rollback --of 84`
given      what else differs from the defaults in `GIVEN`
"""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from helm_canary.core.model import (
    Direction,
    Edit,
    Observed,
    Obstacle,
    Past,
    Record,
    Shared,
    Split,
    TrackState,
    Version,
    Wanted,
    WantedRollback,
    WantedStage,
)

FOLDER = Path(__file__).parent / "plans"
GIVEN: dict[str, Any] = {
    "previous": "83",
    "new": "84",
    "weights": "10,90,100",
    "R": 3,
    "canary-replicas": None,
    "history": ["83 found"],
    "written": 3,
    "applied": True,
    "hpa": False,
    "installed": True,
    "uninstalled": False,
    "uninstalling": False,
    "ever-ready": True,
    "unserved": False,
    "edits": [],
    "obstacles": [],
    "changes": {},
    "early": [],
    "shared": {},
    "bypasses": [],
    "made-shared": [],
    "created": [],
    "moved": [],
    "removed": [],
}
KEYS = {"live", "record", "wanted", "given", "result", "because", "steps", "notes", "refused", "text", "R"}


@dataclass(frozen=True)
class Case:
    """One situation: what is observed, what is wanted, and what the file says comes of it."""

    name: str
    observed: Observed
    wanted: Wanted
    expected: dict[str, Any]


def all_cases() -> list[Case]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for name, case in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            unknown = set(case) - KEYS
            assert not unknown, f"{path.name}: {name}: unknown {unknown}"
            found.append(read(f"{path.stem}: {name}", case))
    return found


def read(name: str, case: dict[str, Any]) -> Case:
    assert not set(case.get("given", {})) - set(GIVEN), f"{name}: unknown {set(case['given']) - set(GIVEN)}"
    given = GIVEN | case.get("given", {})
    live = {"production": "none", "canary": "none", "weights": "none"} | case.get("live", {})
    observed = Observed(
        installed=given["installed"],
        uninstalled=given["uninstalled"],
        uninstalling=given["uninstalling"],
        ever_ready=given["ever-ready"],
        unserved=given["unserved"],
        revision=7 if given["installed"] else 0,
        applied=given["applied"],
        written_replicas=given["written"],
        production=track(str(live["production"])),
        canary=track(str(live["canary"])),
        asked=split(str(live["weights"])),
        route_missing=given["installed"] and str(live["weights"]) == "none",
        hpa=given["hpa"],
        record=record(str(case.get("record", "none")), given),
        edits=tuple(Edit(**edit) for edit in given["edits"]),
        obstacles=tuple(Obstacle(text=text, do_next=f"Mend {text}") for text in given["obstacles"]),
        bypasses=tuple(given["bypasses"]),
        changes=shared(given["changes"]),
        early=tuple(given["early"]),
        shared=shared(given["shared"]),
    )
    return Case(name, observed, command(case["wanted"]), case)


def shared(given: dict[str, list[str]]) -> Shared:
    return Shared(**{doing: tuple(names) for doing, names in given.items()})


def version(text: str) -> Version:
    tag, _, digest = text.partition("~")
    return Version(tag=tag, digest=digest or "a")


def split(text: str) -> Split | None:
    if text == "none":
        return None
    production, canary = map(int, text.split("/"))
    return Split(production=production, canary=canary)


def track(text: str) -> TrackState:
    if text == "none":
        return TrackState(version=None)
    match = re.fullmatch(r"(\S+) (?:x(\d+)|(\d+)/(\d+))(?: known (\d+))?( replacing)?", text)
    assert match, f"not a track: {text}"
    name, all_ready, ready, wanted, known, replacing = match.groups()
    replicas = int(all_ready or wanted or 0)
    return TrackState(
        version=version(name),
        replicas=replicas,
        pods=replicas + bool(replacing),
        ready=replicas if ready is None else int(ready),
        endpoints=None if known is None else int(known),
        settled=not replacing,
    )


def record(text: str, given: dict[str, Any]) -> Record | None:
    if text == "none":
        return None
    words = text.split()
    watched = "watched" in words
    words = [word for word in words if word not in ("watched", ">")]
    directions = {direction.value for direction in Direction}
    direction = Direction(words.pop(0)) if words[0] in directions else Direction.FORWARD
    past = [entry.split(" ", 1) for entry in given["history"]]
    return Record(
        direction=direction,
        previous=None if given["previous"] is None else version(str(given["previous"])),
        new=version(str(given["new"])),
        reached=words[0] if words else "steady",
        toward=words[-1] if words else "steady",
        weights=tuple(map(int, given["weights"].split(","))),
        replicas=given["R"],
        canary_replicas=given["canary-replicas"],
        watched=watched or direction is Direction.FINISHED,
        shared=tuple(given["made-shared"]),
        created=tuple(given["created"]),
        moved=tuple(given["moved"]),
        removed=tuple(given["removed"]),
        history=tuple(Past(id=version(name).id, outcome=outcome) for name, outcome in past),
    )


def command(line: str) -> Wanted:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("verb", choices=["stage", "rollback"])
    parser.add_argument("number", nargs="?", type=int)
    parser.add_argument("--tag", default="84")
    parser.add_argument("--weights", default="10,90,100")
    parser.add_argument("--replica-count", type=int, default=3)
    parser.add_argument("--canary-replicas", type=int)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--of", default="")
    options = parser.parse_args(shlex.split(line))
    if options.verb == "rollback":
        return WantedRollback(of=options.of)
    return WantedStage(
        number=options.number,
        version=version(options.tag),
        weights=tuple(map(int, options.weights.split(","))),
        replica_count=options.replica_count,
        canary_replicas=options.canary_replicas,
        again=options.again,
    )
