"""The end of a command, as a CI takes it: annotations, outputs for the next job, and a summary for people."""

from __future__ import annotations

import sys

from helm_canary.ci.masks import Masks
from helm_canary.ci.platform import Laptop
from helm_canary.outcome import Outcome
from helm_canary.report import harmless, outputs
from helm_canary.summary import outcome_markdown, warnings


def publish(outcome: Outcome, asked: str, masks: Masks) -> None:
    """Say it to the CI that runs this. A file that cannot be written is said; the release went as it went."""
    platform = masks.platform
    if isinstance(platform, Laptop):
        return
    title = f"helm-canary {harmless(masks.hide(asked))}".strip()

    def clean(text: str) -> str:
        return harmless(masks.hide(text))

    lines = [platform.annotation("warning", title, clean(text)) for text in warnings(outcome)]
    if outcome.error is not None:
        lines.append(platform.annotation("error", title, clean(outcome.error.text)))
    values = outputs(outcome)
    if outcome.changed and outcome.error is None:
        reached = "rollback" if asked.startswith("rollback") else values["stage"]
        lines.append(platform.label(clean(f"{values['tag']}-{reached}")))
    try:
        lines += platform.outputs(values)
        lines += platform.summary(outcome_markdown(outcome, f"helm-canary {asked}".strip(), masks.hide))
    except OSError as error:
        lines.append(
            platform.annotation("warning", title, f"Outputs or summary could not be written: {error.strerror}.")
        )
    for line in filter(None, lines):
        print(line, file=sys.stderr, flush=True)
