"""What a person can do after a command that failed, beside correcting the cause: only what the planner would carry out."""

from __future__ import annotations

from helm_canary.core.model import Direction, Observed, Plan, WantedRollback
from helm_canary.core.planner import plan


def way_back(observed: Observed | None) -> str:
    """A sentence, with a blank before it, that says how the release under way is undone, and that alone; else nothing."""
    record = observed.record if observed else None
    if observed is None or record is None or record.previous is None or record.direction is not Direction.FORWARD:
        return ""
    back = plan(observed, WantedRollback(of=record.new.id))
    able = isinstance(back, Plan) and back.changes
    return f" Or roll back to {record.previous.tag} with `rollback --of {record.new.id}`." if able else ""
