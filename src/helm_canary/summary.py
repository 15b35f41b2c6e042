"""The outcome of a command as Markdown, for the page that a CI shows beside a run. Pure.

What comes from a cluster or a tool is text on this page and nothing else: no table, heading, link or HTML of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from helm_canary.core.model import Result, Track
from helm_canary.errors import CanaryError
from helm_canary.outcome import Outcome, describe_traffic
from helm_canary.report import harmless, outputs, step_line

PUNCTUATION = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$&@:/=^'\"])")
BACKTICKS = re.compile(r"`+")
SIGNS = {
    Result.DONE: "done",
    Result.NOTHING: "nothing to do",
    Result.ALREADY_PAST: "already past",
    Result.FIRST_INSTALL: "first installation",
    Result.REFUSED: "refused, nothing was changed",
    Result.USAGE: "wrong input, nothing was changed",
    Result.FAILED: "failed",
    Result.VERIFICATION_FAILED: "verification failed, nothing was moved",
    Result.CANCELLED: "cancelled",
}


def plain(text: str) -> str:
    """A text in one line that means nothing to Markdown or HTML."""
    return PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", " ".join(harmless(text).split()))


def block(lines: tuple[str, ...]) -> str:
    """Lines as they are, in a fence that none of them can close."""
    text = harmless("\n".join(lines))
    fence = "`" * max(3, *(len(found) + 1 for found in BACKTICKS.findall(text)), 3)
    return f"{fence}text\n{text}\n{fence}"


def outcome_markdown(outcome: Outcome, asked: str, hide: Callable[[str], str] = str) -> str:
    """`asked`: the command, such as `stage 3`. `hide` takes secrets out of a text, before anything in it is escaped."""

    def say(text: str) -> str:
        return plain(hide(text))

    parts = [f"### {say(asked)}: {SIGNS[outcome.result]}"]
    if outcome.plan:
        parts.append(say(outcome.plan.because))
    if outcome.error:
        parts += _error(outcome.error, hide)
    parts += [say(_approval(outcome)), *_tracks(outcome)]
    if outcome.plan and outcome.plan.changes:
        parts.append(
            "\n".join(f"{number}. {say(step_line(step))}" for number, step in enumerate(outcome.plan.steps, 1))
        )
    parts += [f"> {say(text)}" for text in warnings(outcome)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _approval(outcome: Outcome) -> str:
    """Whose word it was carried out on; empty where nothing was, or nobody was asked."""
    record = outcome.observed.record if outcome.observed else None
    if not outcome.changed or record is None or not record.by.approver:
        return ""
    return f"On the word of {record.by.approver}" + (f": {record.by.comment}" if record.by.comment else ".")


def _error(error: CanaryError, hide: Callable[[str], str]) -> list[str]:
    happened, means, do_next = (plain(hide(text)) for text in (error.happened, error.means, error.do_next))
    details = block(tuple(map(hide, error.details))) if error.details else ""
    return [f"**{happened}**" if happened else "", means, do_next, details]


def _tracks(outcome: Outcome) -> list[str]:
    observed = outcome.observed
    if observed is None or observed.asked is None:
        return [plain(describe_traffic(observed))] if not outcome.error else []
    rows = ["| track | image tag | weight | pods Ready |", "|---|---|---|---|"]
    for track in Track:
        state = observed.track(track)
        tag = plain(state.version.tag) if state.version else "none"
        rows.append(f"| {track.value} | {tag} | {observed.asked.of(track)} % | {state.ready} of {state.replicas} |")
    said = outputs(outcome)
    where = f"Stage {said['stage-number']} ({said['stage']}), " if said["stage"] else ""
    facts = (
        f"{where}release {plain(said['release-id'] or 'unknown')}, revision {said['revision']}, proof: {said['proof']}."
    )
    return ["\n".join(rows), facts]


def warnings(outcome: Outcome) -> list[str]:
    """What a person should see although the command went well."""
    found = list(outcome.plan.notes) if outcome.plan else []
    if outcome.changed and outcome.proof == "unproven" and not outcome.error:
        found.append("The weights could not be proven in the proxies.")
    if outcome.in_flight_cut:
        found.append(f"{outcome.in_flight_cut} requests were in flight when their pods went.")
    return found
