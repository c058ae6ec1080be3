"""Changes of a bucket from outside a lease: clearing its limits, and pausing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .limits.births import counted, rate_of, siblings
from .state import TTL, Change, Condition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .state import Draft, View


def clear(draft: Draft, view: View, names: Iterable[str]) -> int:
    """Reset every account of these names as if nothing had been used; slots stay held. Return until when that is needed.

    Each opens anew, later than before, so that what was taken until now can no longer be given back.
    """
    reach = view.now
    for name in names:
        for identity in siblings(view.state, name):
            quota = counted(identity)
            if quota is None and rate_of(identity) is None:
                continue
            level = view.state.level(identity)
            opening = max(view.now, level.since + 1)
            draft.conditions.append(Condition(identity, "since", *_exactly(level.since)))
            # A later charge may come from a writer that has not seen it, and that asserts an earlier end.
            reach = max(reach, (quota and quota.ends(opening, opening)) or 0)
            draft.changes.append(Change(identity, "tat", None, 0 if quota else view.now))
            draft.changes.append(Change(identity, "since", None, opening))
            draft.removals += [(identity, each) for each in ("booked", "floor") if getattr(level, each) >= 0]
    return reach


def pause(draft: Draft, view: View, until: int) -> int:
    """Let the bucket allow nothing until then, unless it is paused for longer; 0 ends a pause.

    Return until when that is needed.
    """
    paused = view.state.paused
    if until <= view.now:
        if paused > view.now:
            draft.conditions.append(Condition(TTL, "paused", view.now + 1, None))
            draft.changes.append(Change(TTL, "paused", None, 0))
        else:
            draft.reasons.append(Condition(TTL, "paused", None, view.now, absent=True))
    elif paused >= until:
        draft.conditions.append(Condition(TTL, "paused", until, None))
    else:
        draft.conditions.append(Condition(TTL, "paused", None, until, absent=True))
        draft.changes.append(Change(TTL, "paused", None, until))
    return until


def _exactly(value: int) -> tuple[int | None, int | None, bool]:
    """Return the bounds of a condition that a field is as seen, or absent as seen."""
    return (None, None, True) if value < 0 else (value, value, False)
