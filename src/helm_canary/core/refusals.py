"""Why there is no safe plan: every refusal of the planner in its three parts, each with the numbers of its case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helm_canary.core.model import Direction, Observed, Reason, Record, Refusal, Stage, Version
from helm_canary.core.stages import stage_named, stages_for

if TYPE_CHECKING:
    from collections.abc import Sequence

# How an edit of the weights begins; a refusal that names the edit need not name the weights again.
WEIGHTS = "the weights"


def listed(weights: Sequence[int]) -> str:
    return ", ".join(map(str, weights))


def _carried_out_by(record: Record) -> str:
    by = record.by
    return (
        (f" by {by.who}" if by.who else "")
        + (f" ({by.run})" if by.run else "")
        + (f" since {record.since}" if record.since else "")
    )


def _roll_back(record: Record, before: str = ", or ") -> str:
    """How to undo a release, and only this one: whatever runs when the advice is taken. Nothing where it undoes nothing."""
    if record.previous is None:
        return ""
    return f"{before}roll back to {record.previous.tag} with `rollback --of {record.new.id}`"


def _next_stage(record: Record) -> str:
    reached = stage_named(record.weights, record.reached).number
    return f"`stage {min(reached + 1, len(stages_for(record.weights)))} --tag {record.new.tag}`"


def _commit(record: Record) -> str:
    return f" (commit {record.by.commit})" if record.by.commit else ""


def refuse_unknown_stage(number: int, stages: Sequence[Stage], weights: Sequence[int]) -> Refusal:
    return Refusal(
        reason=Reason.UNKNOWN_STAGE,
        happened=f"There is no stage {number}.",
        means=f"A release with the weights {listed(weights)} has the stages 1 to {len(stages)}.",
        do_next="Give one of " + ", ".join(stage.name for stage in stages) + ".",
    )


def refuse_not_begun(stage: Stage, version: Version, *, again: bool = False) -> Refusal:
    return Refusal(
        reason=Reason.SKIPPED,
        happened=f"Stage {stage} of {version.id} was asked for, but no release of it is under way.",
        means="An earlier stage was skipped, or the release was rolled back since.",
        do_next=f"Start it with `stage 2 --tag {version.tag}{' --again' if again else ''}`.",
    )


def refuse_not_ready(observed: Observed, version: Version) -> Refusal:
    seen = observed.production
    return Refusal(
        reason=Reason.NOT_READY,
        happened=f"Production runs {version.id}, but {seen.ready} of {seen.replicas} pods are Ready.",
        means="The first installation has lost pods; there is no other version to take its traffic.",
        do_next="Look at the pods, correct what keeps them from Ready, then run the same command again.",
    )


def refuse_not_installed(observed: Observed, stage: Stage, version: Version) -> Refusal:
    absent = "was uninstalled" if observed.uninstalled else "is not installed"
    state = absent if not observed.installed else "never served" if observed.unserved else "was never Ready"
    do_next = f"Install it with `stage 1 --tag {version.tag}`."
    if observed.record is not None and observed.production.serving:
        # What serves is not to be replaced under its traffic, so its own installation comes first.
        first = f"Finish its installation with `stage 1 --tag {observed.record.new.tag}`"
        do_next = f"{first}, then start {version.id} with `stage 2 --tag {version.tag}`."
    return Refusal(
        reason=Reason.NOT_INSTALLED,
        happened=f"Stage {stage} was asked for, but the release {state}.",
        means="A first installation has no previous version to share traffic with.",
        do_next=do_next,
    )


def refuse_other_weights(record: Record, asked: Sequence[int]) -> Refusal:
    under_way = f"The release {record.new.id} is under way with the weights {listed(record.weights)}"
    return Refusal(
        reason=Reason.OTHER_WEIGHTS,
        happened=f"{under_way}; now {listed(asked)} was asked for.",
        means="The list was changed in the middle of a release, so that stage numbers mean something else.",
        do_next=f"Go on with `--weights {','.join(map(str, record.weights))}`{_roll_back(record)}.",
    )


def refuse_skipped(record: Record, stage: Stage, reached: Stage, following: Stage) -> Refusal:
    return Refusal(
        reason=Reason.SKIPPED,
        happened=f"Stage {stage} was asked for, but the release {record.new.id} has reached {reached}.",
        means="A stage was skipped, or its job failed or was never run.",
        do_next=f"First run `stage {following.number} --tag {record.new.tag}`, which is {following.name}.",
    )


def refuse_other_release(record: Record, version: Version) -> Refusal:
    """Rule 3 of the order."""
    at = f"{record.new.id} is at {record.reached}, toward {record.toward}{_carried_out_by(record)}"
    if record.direction is Direction.ROLLING_BACK and record.previous is None:
        return Refusal(
            reason=Reason.ROLLING_BACK,
            happened=f"The installation of {record.new.id} is being put back as it was{_carried_out_by(record)}.",
            means="That was started after a change made outside helm-canary, and has not finished.",
            do_next=f"Run `stage 1 --tag {record.new.tag}`, then start {version.id} with `stage 2 --tag {version.tag}`.",
        )
    if record.direction is Direction.ROLLING_BACK:
        return Refusal(
            reason=Reason.ROLLING_BACK,
            happened=f"The release {at}, and is being rolled back.",
            means="A rollback was started and has not finished, so no stage can go forward.",
            do_next=f"Run `rollback --of {record.new.id}`, then start {version.id} with `stage 2 --tag {version.tag}`.",
        )
    if record.new.tag == version.tag:
        return Refusal(
            reason=Reason.OTHER_DIGEST,
            happened=f"The release {at}; chart and values now render {version.id} for the same tag.",
            means="Chart, values or settings were changed in the middle of the release.",
            do_next=f"Go on with the chart and values that it was started with{_commit(record)}"
            + _roll_back(record)
            + (f" and start again with `stage 2 --tag {version.tag}`." if record.previous else "."),
        )
    return Refusal(
        reason=Reason.OTHER_RELEASE,
        happened=f"Another release is under way: {at}.",
        means="Two releases of one service cannot share its two tracks.",
        do_next=f"Run its remaining stages, of which {_next_stage(record)} is the next{_roll_back(record)}; "
        f"then start {version.id} with `stage 2 --tag {version.tag}`.",
    )


def refuse_unfinished(record: Record, reached: Stage, strange: Sequence[str]) -> Refusal:
    return Refusal(
        reason=Reason.SKIPPED,
        happened=f"Stage {reached} of {record.new.id} is not complete: {'; '.join(strange)}.",
        means="The command that was to reach it stopped half-way.",
        do_next=f"Run `stage {reached.number} --tag {record.new.tag}` again{_roll_back(record)}.",
    )


def refuse_different(observed: Observed, record: Record | None, before: Stage, strange: Sequence[str]) -> Refusal:
    if any(edit.where.startswith(WEIGHTS) for edit in observed.edits):
        strange = [text for text in strange if not text.startswith(WEIGHTS)]
    edits = [
        f"{edit.where}: {edit.found}, not {edit.expected}" + (f" (by {edit.manager} {edit.at})" if edit.manager else "")
        for edit in observed.edits
    ]
    way_out = _what_overwrites(record) if record is not None else ""
    return Refusal(
        reason=Reason.DIFFERENT,
        happened=f"The cluster is not as {before} left it: " + "; ".join([*strange, *edits]) + ".",
        means="It was changed outside of helm-canary; going on could send traffic where no pods are.",
        do_next=f"Undo that change and run the same command again{way_out}.",
    )


def refuse_uninstalling(observed: Observed) -> Refusal:
    """To put the objects back harms nobody; to delete the rest is named only where it serves nobody."""
    number, serves = observed.revision, observed.production.ready or observed.canary.ready
    way_on = (
        f"`helm rollback RELEASE {number}` puts its objects back"
        if serves
        else "`helm uninstall RELEASE --keep-history` deletes what is left; then run `stage 1 --tag TAG`"
    )
    return Refusal(
        reason=Reason.UNINSTALLING,
        happened=f"The release is being uninstalled: Helm revision {number} is `uninstalling`.",
        means="A `helm uninstall` is running, or stopped half-way: some of its objects are deleted.",
        do_next=f"Wait until it has ended. Where it stopped: {way_on}.",
    )


def refuse_not_served(observed: Observed, because: str, gaps: Sequence[str]) -> Refusal:
    way_out = _what_overwrites(observed.record) if observed.record is not None else ""
    return Refusal(
        reason=Reason.NOT_SERVED,
        happened=f"{because} But it is not served: {'; '.join(gaps)}.",
        means="Pods are not Ready, or what was installed was deleted or changed since.",
        do_next=f"Look at the pods (`helm-canary status`), mend what is named, then run the same command again{way_out}.",
    )


def refuse_without_route(before: Stage, version: Version) -> Refusal:
    return Refusal(
        reason=Reason.DIFFERENT,
        happened=f"The cluster is not as {before} left it: there is no VirtualService.",
        means="It was deleted. Nothing reaches the service until it is written again, and this stage only looks.",
        do_next=f"Run `stage 2 --tag {version.tag}`, which writes it again before anything else.",
    )


def _what_overwrites(record: Record) -> str:
    if record.previous is not None:
        return f"{_roll_back(record)}, which overwrites it"
    if record.direction is Direction.FORWARD:  # a release that was taken over, with nothing to go back to
        return ""
    return f", or run `stage 1 --tag {record.new.tag}`, which overwrites it"


def refuse_obstacles(observed: Observed) -> Refusal:
    """What is named may carry traffic, so each obstacle says how to change it; nothing is to be deleted."""
    do_next = "; ".join(dict.fromkeys(one.do_next for one in observed.obstacles))
    return Refusal(
        reason=Reason.OBSTACLE,
        happened="; ".join(map(str, observed.obstacles)) + ".",
        means="The weights would not decide where the service's traffic goes."
        if observed.installed
        else "An installation could take traffic from what serves now, or get none by the weights.",
        do_next=f"{do_next}; then run the same command again.",
    )


def refuse_needed_early(version: Version, names: Sequence[str]) -> Refusal:
    return Refusal(
        reason=Reason.NEEDED_EARLY,
        happened=f"The pods of {version.id} need {', '.join(names)}, which changes in this release.",
        means="Production's pods use the same object, and would get the new content before their stage.",
        do_next=(
            "Give the object a name that changes with its content, such as a suffix with a checksum of its data, and run the "
            "same command again; or, to change it for both versions before the first canary pod starts, add "
            f"`{' '.join(f'--allow {name}' for name in names)}`."
        ),
    )


def refuse_no_previous(observed: Observed) -> Refusal:
    happened, do_next = _no_previous(observed)
    return Refusal(
        reason=Reason.NO_PREVIOUS, happened=happened, means="There is nothing to go back to.", do_next=do_next
    )


def _no_previous(observed: Observed) -> tuple[str, str]:
    """What there is in the previous version's place, and how another version is released from there."""
    record, other = observed.record, "elease the tag that you want with `stage 2 --tag TAG`"
    if not observed.installed:
        happened = "The release was uninstalled." if observed.uninstalled else "There is no such release."
        return happened, "Where it is to be installed, run `stage 1 --tag TAG`."
    if record is None:
        return "The release has no record, and its previous version cannot be determined.", f"R{other}."
    if record.direction is Direction.FORWARD:
        happened = f"The release {record.new.id} is under way, and its previous version cannot be determined."
        return happened, f"Run its remaining stages, of which {_next_stage(record)} is the next; then r{other}."
    happened = f"The record knows no version before {record.new.id}: it was the first installation."
    if not observed.ever_ready and not observed.production.serving:
        return happened, "No pod of it is Ready: install the tag that you want with `stage 1 --tag TAG`."
    undo = f"`stage 1 --tag {record.new.tag}` takes back what was changed outside of helm-canary."
    return happened, f"R{other}. {undo}"
