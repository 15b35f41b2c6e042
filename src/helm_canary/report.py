"""Plan, refusal and outcome as text, Markdown and outputs. Pure: values in, strings out; who prints them is the edge's."""

from __future__ import annotations

import json
import re
from typing import Any

from helm_canary.core.model import (
    Change,
    Drain,
    Observed,
    Plan,
    Prove,
    Result,
    Shared,
    Step,
    Track,
    TrackState,
    Upgrade,
    WaitReady,
    Watch,
)
from helm_canary.core.stages import stage_named, stages_for
from helm_canary.errors import CanaryError
from helm_canary.outcome import Outcome, describe_traffic

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029]")


def harmless(text: str) -> str:
    """Text from a cluster or a tool, so that neither a terminal nor a CI log takes any of it for a command.

    Both CI platforms find `##[` anywhere in a line, Azure Pipelines `##vso[` too, GitHub `::` at the start of one.
    """
    text = CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))
    return re.sub(r"#(?=#)", "#\u200b", text).replace("::", ":\u200b:")


def step_line(step: Step) -> str:
    """What a step does, in one line."""
    match step:
        case Upgrade():
            return f"helm upgrade: {step.why} ({_upgrade_facts(step)})"
        case WaitReady(enough=None):
            beside = f", and {', '.join(step.beside)}" if step.beside else ""
            return f"wait: {step.track.value} Ready, {step.replicas} pods at {step.version.tag}{beside}"
        case WaitReady():
            return f"wait: {step.track.value} has {step.enough} Ready pod at {step.version.tag}"
        case Prove():
            return f"prove: the weights {step.split} (production/canary) are in force in every proxy"
        case Drain():
            return f"drain: no request is in flight to {step.track.value}"
        case Watch():
            return f"watch: {step.track.value} holds under all of the traffic"


def _upgrade_facts(step: Upgrade) -> str:
    return ", ".join([_own_facts(step), *_shared_facts(step.shared)])


def _shared_facts(shared: Shared) -> list[str]:
    doing = (
        ("creates", shared.create),
        ("changes", shared.change),
        ("removes", shared.remove),
        ("restores", shared.restore),
    )
    return [f"{word} {', '.join(names)}" for word, names in doing if names]


def _own_facts(step: Upgrade) -> str:
    match step.change:
        case Change.WEIGHT:
            return f"production {step.split.production} %, canary {step.split.canary} %"
        case Change.SCALE:
            assert step.track is not None
            target = step.target(step.track)
            return f"{step.track.value} to {target.replicas} pods at {target.version.tag}"
        case Change.INSTALL:
            return f"production to {step.production.replicas} pods at {step.production.version.tag}"
        case Change.SHARED | Change.RECORD:
            return "no pod and no weight changes"


def plan_text(plan: Plan, commands: dict[int, str] | None = None) -> str:
    """The plan for a person; `commands`: step index -> the Helm command."""
    lines = [plan.because] + [f"note: {note}" for note in plan.notes]
    for index, step in enumerate(plan.steps):
        lines.append(f"  {index + 1}. {step_line(step)}")
        if commands and index in commands:
            lines.append(f"     {commands[index]}")
    if not plan.changes:
        lines.append("  nothing will be changed")
    return "\n".join(lines)


def error_text(error: CanaryError) -> str:
    """The three parts, and the details below them."""
    lines = [f"error: {error.happened}"]
    lines += [f"  what it means: {error.means}"] if error.means else []
    lines += [f"  what to do:    {error.do_next}"] if error.do_next else []
    return "\n".join([*lines, *(f"  | {line}" for line in error.details)])


def outputs(outcome: Outcome) -> dict[str, str]:
    """The pipeline outputs, every one present, as text."""
    observed = outcome.observed
    record = observed.record if observed else None
    stage = _stage_of(observed)
    asked = observed.asked if observed else None
    tags = {track: _tag(observed.track(track)) if observed else "" for track in Track}
    return {
        "result": outcome.result.value,
        "changed": str(outcome.changed).lower(),
        "stage": stage[0],
        "stage-number": stage[1],
        "release-id": record.new.id if record else "",
        "tag": record.new.tag if record else "",
        "previous-tag": record.previous.tag if record and record.previous else "",
        "production-tag": tags[Track.PRODUCTION],
        "production-weight": str(asked.production) if asked else "",
        "canary-tag": tags[Track.CANARY],
        "canary-weight": str(asked.canary) if asked else "",
        "revision": str(observed.revision) if observed and observed.revision else "",
        "traffic": outcome.traffic,
        "proof": outcome.proof,
        "in-flight-cut": str(outcome.in_flight_cut),
        "version-id": outcome.version_id,
        "headline": headline(outcome),
        "next-changes": "" if outcome.next_changes is None else str(outcome.next_changes).lower(),
    }


def headline(outcome: Outcome) -> str:
    """Where the traffic is, in a few words for the name of a gate: `10 % on 84, 0 of 812 failed`."""
    observed = outcome.observed
    if observed is None or observed.asked is None:
        return ""
    canary = observed.track(Track.CANARY)
    if not observed.asked.canary:
        return harmless(f"all on {_tag(observed.production)}")
    said = f"{observed.asked.canary} % on {_tag(canary)}"
    if outcome.canary_requests is not None:
        sent, failed = outcome.canary_requests
        said += f", {failed:,} of {sent:,} failed"
    return harmless(said)


def _stage_of(observed: Observed | None) -> tuple[str, str]:
    record = observed.record if observed else None
    if record is None:
        return "", ""
    if record.direction.value in ("rolled-back", "installing"):
        stage = stages_for(record.weights)[0]
    else:
        stage = stage_named(record.weights, record.reached)
    return stage.name, str(stage.number)


def _tag(state: TrackState) -> str:
    return state.version.tag if state.version else ""


def outcome_text(outcome: Outcome) -> str:
    """The last lines of a run."""
    words = {
        Result.DONE: "done",
        Result.NOTHING: "nothing to do",
        Result.ALREADY_PAST: "already past",
        Result.FIRST_INSTALL: "first installation",
    }
    lines = [f"{words.get(outcome.result, outcome.result.value)}: {outcome.plan.because if outcome.plan else ''}"]
    lines.append(describe_traffic(outcome.observed) + f" Proof: {outcome.proof}.")
    if outcome.in_flight_cut:
        lines.append(f"{outcome.in_flight_cut} requests were in flight when their pods went.")
    return "\n".join(lines)


def outcome_json(outcome: Outcome) -> str:
    """The outputs as one JSON object, with the plan's steps or the error's three parts."""
    body: dict[str, Any] = dict(outputs(outcome))
    for key in ("production-weight", "canary-weight", "revision", "in-flight-cut", "stage-number"):
        body[key] = int(body[key]) if body[key] else None
    body["changed"], body["next-changes"] = outcome.changed, outcome.next_changes
    if outcome.plan:
        body["because"] = outcome.plan.because
        body["notes"] = list(outcome.plan.notes)
        body["steps"] = [step_line(step) for step in outcome.plan.steps]
    if outcome.error:
        body["error"] = error_values(outcome.error)
    return to_json(body)


def to_json(body: object) -> str:
    """JSON for standard output, which a CI reads as a log: its strings are the same, and no CI finds a command in them."""
    return json.dumps(body, indent=2).replace("##", "#\\u0023")


def error_values(error: CanaryError) -> dict[str, Any]:
    return {
        "happened": error.happened,
        "means": error.means,
        "do-next": error.do_next,
        "details": list(error.details),
        "exit-code": error.exit_code,
        **({"code": error.code} if error.code else {}),
    }


def nothing_known(error: CanaryError) -> Outcome:
    """An error before anything was carried out: the same keys as ever, with nothing known of the cluster."""
    return Outcome(
        result=error.result, changed=False, plan=None, observed=None, traffic="unknown", proof="unproven", error=error
    )


def status_values(observed: Observed, in_force: dict[str, str], proof: str) -> dict[str, Any]:
    """What is live, for `status`: stage, tags, weights asked and in force, replicas, who, since when, commit."""
    record = observed.record
    stage = _stage_of(observed)
    values: dict[str, Any] = {
        "stage": stage[0],
        "stage-number": int(stage[1]) if stage[1] else None,
        "direction": record.direction.value if record else None,
        "toward": record.toward if record else None,
        "release-id": record.new.id if record else None,
        "previous-tag": record.previous.tag if record and record.previous else None,
        "revision": observed.revision,
        "revision-applied": observed.applied,
        "weights-in-force": in_force,
        "proof": proof,
        "traffic": describe_traffic(observed),
    }
    for track in Track:
        state = observed.track(track)
        values[track.value] = {
            "tag": _tag(state),
            "weight": observed.asked.of(track) if observed.asked else None,
            "replicas": state.replicas,
            "ready": state.ready,
        }
    if record:
        values["by"] = {key: value for key, value in vars(record.by).items() if value}
        values["since"] = record.since
        values["history"] = [f"{past.id} {past.outcome} {past.at}".strip() for past in record.history]
    values["differences"] = [f"{edit.where}: {edit.found} (by {edit.manager or 'unknown'})" for edit in observed.edits]
    values["obstacles"] = list(map(str, observed.obstacles))
    return values


def status_text(values: dict[str, Any]) -> str:
    where = f"{values['stage-number']} ({values['stage']})" if values["stage"] else "no record"
    lines = [f"stage       {where}, {values['direction'] or 'made without helm-canary'}"]
    if values["toward"] and values["toward"] != values["stage"] and values["direction"] in ("forward", "rolling-back"):
        lines.append(f"toward      {values['toward']}")
    if values["release-id"]:
        lines.append(f"release     {values['release-id']}, previous tag {values['previous-tag'] or 'none'}")
    for track in Track:
        of = values[track.value]
        lines.append(
            f"{track.value:<11} tag {of['tag']}, weight {of['weight']}, {of['ready']} of {of['replicas']} pods Ready"
        )
    for pod, split in values["weights-in-force"].items():
        lines.append(f"in force    {split} in {pod}")
    lines.append(f"proof       {values['proof']}")
    lines.append(f"revision    {values['revision']}" + ("" if values["revision-applied"] else ", not applied whole"))
    by = values.get("by") or {}
    if by:
        lines.append("by          " + ", ".join(f"{key} {value}" for key, value in by.items()))
    lines += [f"since       {values['since']}"] if values.get("since") else []
    lines += [f"different   {text}" for text in values["differences"]]
    lines += [f"obstacle    {text}" for text in values["obstacles"]]
    return "\n".join(lines)
