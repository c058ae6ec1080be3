"""Which buckets a store in memory or a process may forget: an idle bucket equals an absent one, as with a time to live."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .state import EMPTY, Level
from .units import NANOSECONDS

if TYPE_CHECKING:
    from .state import BucketState


def is_forgettable(state: BucketState, now: int) -> bool:
    """Tell whether all limits of a bucket are full at `now`, so that its state holds no information.

    A state with other kinds than rates is kept until its `ttl`, after which no use of any limit matters.
    """
    if 0 <= state.ttl * NANOSECONDS < now:
        return True
    if not all(_is_full_rate(level, now) for level in state.levels.values()):
        return False
    return replace(state, levels={}, ttl=EMPTY.ttl, stamp=EMPTY.stamp, marks={}, earlier=EMPTY.earlier) == EMPTY


def _is_full_rate(level: Level, now: int) -> bool:
    # The count of another kind of limit is less than its `since`.
    return 0 <= level.since <= level.tat <= now and level == Level(*level[:4])
