"""Why a step is not taken that would change more than it is for, and what to do about it. Pure.

What a step writes is what is stored, and what it is for. So what would change besides was changed by somebody else, or is changed
by the API server as it is written: an admission policy or webhook that came later.
"""

from __future__ import annotations

from collections.abc import Sequence

from helm_canary.core.model import Change, Record, Track, Upgrade
from helm_canary.errors import RefusedError
from helm_canary.guard import Difference
from helm_canary.manifest import Shape
from helm_canary.rendering import unsteady


def too_much(step: Upgrade, found: Sequence[Difference], before: Record | None, shape: Shape) -> RefusedError:
    """`found`: the differences that the step is not for; `before`: the record before it."""
    if step.change is Change.INSTALL:
        return unsteady(found)
    tracks = [f"Deployment/{shape.deployment(track)}" for track in Track]
    hands = sorted({difference.manager for difference in found if difference.manager})
    names = tuple(dict.fromkeys(difference.where for difference in found))
    own = tuple(name for name in names if name in tracks)
    if hands:
        return _edited(step, found, before, names, own, hands)
    if own:
        return _changed_by_the_server(step, found, own)
    return _not_as_stored(step, found, before, names)


def _edited(
    step: Upgrade,
    found: Sequence[Difference],
    before: Record | None,
    names: Sequence[str],
    own: Sequence[str],
    hands: Sequence[str],
) -> RefusedError:
    ways = ["Undo that change and run the same command again"]
    if back := _roll_back(before):
        ways.append(f"{back}, which overwrites it")
    elif not own:
        ways.append(f"overwrite it in stage 2 with {_allowing(names)}")
    return RefusedError(
        f"The step `{step.why}` would also change {', '.join(names)}, which {' and '.join(hands)} changed.",
        "It was changed outside helm-canary after this release was written; going on would undo that unseen.",
        ", or ".join(ways) + ".",
        tuple(map(str, found)),
    )


def _changed_by_the_server(step: Upgrade, found: Sequence[Difference], own: Sequence[str]) -> RefusedError:
    """No permission covers this: the pods would be replaced while they have traffic."""
    return RefusedError(
        f"The API server would change {', '.join(own)} in the step `{step.why}`, although it is written as it is stored.",
        "An admission policy or webhook that came after the last release changes it, so its pods would be replaced while they "
        "have traffic.",
        f"Exempt {', '.join(own)} from that policy or webhook, then run the same command again.",
        tuple(map(str, found)),
    )


def _not_as_stored(
    step: Upgrade, found: Sequence[Difference], before: Record | None, names: Sequence[str]
) -> RefusedError:
    back = _roll_back(before)
    way = f"R{back[1:]}, which overwrites it" if back else f"Overwrite it in stage 2 with {_allowing(names)}"
    return RefusedError(
        f"The step `{step.why}` would also change {', '.join(names)}, which is not as Helm stored it.",
        "An admission policy, a webhook or another Helm changed it after this release was written.",
        f"{way}.",
        tuple(map(str, found)),
    )


def _roll_back(before: Record | None) -> str:
    """Nothing for a release that is not under way, or has changed nothing yet: there is nothing to roll back."""
    if before is None or not before.under_way or before.reached == "steady" or before.previous is None:
        return ""
    return f"roll back to {before.previous.tag} with `rollback --of {before.new.id}`"


def _allowing(names: Sequence[str]) -> str:
    return "`" + " ".join(f"--allow {name}" for name in names) + "`"
