"""Steps, states and records in one short line each: for the case files, and for what a failed walk prints."""

from __future__ import annotations

from helm_canary.core.model import (
    Change,
    Direction,
    Drain,
    Hooks,
    Plan,
    Prove,
    Record,
    Refusal,
    Step,
    TrackTarget,
    Upgrade,
    Version,
    WaitReady,
    Wanted,
    WantedRollback,
    Watch,
)


def brief(step: Step) -> str:
    """`scale canary 84 x3 [steady > canary-10] with hooks`, `weights 90/10 [canary-10]`, `prove 90/10`, ..."""
    match step:
        case Prove(split=split):
            return f"prove {split}"
        case Drain(track=track):
            return f"drain {track.value}"
        case WaitReady(track=track, version=version, replicas=replicas, enough=enough):
            beside = f" and {', '.join(step.beside)}" if step.beside else ""
            return f"wait {track.value} {named(version)} x{replicas}" + (f", {enough} is enough" if enough else beside)
        case Watch(track=track, replicas=replicas, on_failure=way_out):
            beside = f" and {', '.join(step.beside)}" if step.beside else ""
            return f"watch {track.value} x{replicas}{beside}, else " + (", ".join(map(brief, way_out)) or "nothing")
        case Upgrade():
            return _upgrade(step)


def _upgrade(step: Upgrade) -> str:
    words = [step.change.value]
    match step.change:
        case Change.SCALE:
            assert step.track is not None
            words += [step.track.value, _target(step.target(step.track))]
        case Change.WEIGHT:
            words = ["weights", str(step.split)]
        case Change.INSTALL:
            words += [_target(step.production), "and", _target(step.canary), str(step.split)]
            words += ["anew"] if step.anew else []
        case Change.SHARED | Change.RECORD:
            pass
    words.append(f"[{place(step.record)}]")
    for doing, names in vars(step.shared).items():
        words += [f"{doing} {', '.join(names)}"] if names else []
    hooks = "" if step.hooks is Hooks.NONE else f" with {step.hooks.value} hooks"
    return " ".join(words) + hooks + (" at once" if step.at_once else "")


def named(version: Version) -> str:
    """The tag; with the digest where the case files tell two digests of a tag apart: `84~b`."""
    return version.tag if len(version.digest) > 1 or version.digest == "a" else f"{version.tag}~{version.digest}"


def _target(target: TrackTarget) -> str:
    return f"{named(target.version)} x{target.replicas}"


def place(record: Record) -> str:
    """Where a record says the release is: `canary-10 > canary-90`, `rolling-back promote`, `return watched`."""
    words = [] if record.direction is Direction.FORWARD else [record.direction.value]
    if record.direction is not Direction.INSTALLING:
        words.append(record.reached if record.reached == record.toward else f"{record.reached} > {record.toward}")
    if record.watched and record.direction is Direction.FORWARD:
        words.append("watched")
    return " ".join(words)


def command(wanted: Wanted) -> str:
    """The command line, shortened."""
    if isinstance(wanted, WantedRollback):
        return "rollback" + (f" --of {wanted.of}" if wanted.of else "")
    return f"stage {wanted.number} --tag {wanted.version.id} --weights {','.join(map(str, wanted.weights))}"


def outcome(made: Plan | Refusal) -> list[str]:
    """A plan's steps with its result, or a refusal with its words."""
    if isinstance(made, Refusal):
        return [f"refused: {made.reason.value}", made.happened, made.means, made.do_next]
    return [f"{made.result.value}: {made.because}", *map(brief, made.steps), *made.notes]
