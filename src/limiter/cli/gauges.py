"""What `limiter top` shows: gauges of limits, and which buckets are the busiest. The arithmetic, without the calls."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..models import BaseLimit
from .buckets import NOTHING, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.limits import Access
    from ..core.records import BucketKey
    from ..core.state import BucketState
    from ..models import LimitStatus
    from .buckets import Seen
    from .holders import SlotUse


@dataclass(frozen=True, slots=True)
class Gauge:
    """One limit of one bucket. `rate` is in units per second since the last look, None at the first one.

    `limit`, `available` and `reset_after` are None for a bucket whose limits are not stored, since they are given in code. Under
    UNLIMITED or BLOCKED, `limit` is the constant. `reset_after` is None also of what never resets. `paused_for` is the seconds
    for which the bucket is paused yet, None when it is not. `use` is that of a limit's slots.
    """

    entity_id: str
    resource: str
    limit: BaseLimit | Access | None = None
    available: int | None = None
    reset_after: float | None = None
    rate: float | None = None
    paused_for: float | None = None
    use: SlotUse | None = None

    @property
    def fill(self) -> float | None:
        """The share of the capacity that is available; 0 in debt."""
        if not isinstance(self.limit, BaseLimit) or self.available is None:
            return None
        return max(0.0, self.available / self.limit.capacity)


def gauges(
    statuses: Sequence[LimitStatus],
    before: Sequence[Gauge],
    seconds: float,
    seen: Mapping[tuple[str, str], Seen] = MappingProxyType({}),
) -> list[Gauge]:
    """Return the gauges of the statuses, with rates where `before` holds the same limits, as of `seconds` ago.

    `seen` is what the buckets tell besides.
    """
    earlier = {(each.entity_id, each.resource, each.limit): each for each in before}
    found: dict[tuple[str, str, BaseLimit], Gauge] = {}
    for status in statuses:
        key = (status.entity_id, status.resource, status.limit)
        rate = _rate(earlier[key], status, seconds) if key in earlier and seconds > 0 else None
        bucket = seen.get(key[:2], NOTHING)
        found[key] = Gauge(*key, status.available, status.reset_after, rate, bucket.paused_for, bucket.use(status.limit))
    return list(found.values())


def _rate(before: Gauge, status: LimitStatus, seconds: float) -> float | None:
    """Return the units consumed per second: the units that are missing, given those that were refilled since; None for slots."""
    from ..core.limits import Concurrency, Limit

    limit = status.limit
    if before.available is None or isinstance(limit, Concurrency):
        return None
    refilled = limit.refill_amount / limit.refill_period * seconds if isinstance(limit, Limit) else 0.0
    expected = min(limit.capacity, before.available + refilled)
    return max(0.0, (expected - status.available) / seconds)


def busiest(
    states: Mapping[BucketKey, BucketState], before: Mapping[BucketKey, BucketState], since: int | None, most: int
) -> list[BucketKey]:
    """Return the keys of the busiest buckets, the busiest first.

    `load` says how busy one is. Rates come before what is counted otherwise, since units and times do not compare. `since` is the
    time of the look before, in nanoseconds since the epoch; None at the first look.
    """

    def order(key: BucketKey) -> tuple[int, int, BucketKey]:
        time, units = load(states[key], before.get(key), since)
        return -time, -units, key

    return sorted(states, key=order)[:most]
