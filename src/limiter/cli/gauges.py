"""What `limiter top` shows: gauges of limits, and which buckets are the busiest. The arithmetic, without the calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.records import BucketKey
    from ..core.state import BucketState
    from ..models import BaseLimit, LimitStatus

_UNUSED = -1


@dataclass(frozen=True, slots=True)
class Gauge:
    """One limit of one bucket. `rate` is in units per second since the last look, None at the first one.

    `limit`, `available` and `reset_after` are None for a bucket whose limits are not stored, since they are given in code.
    """

    entity_id: str
    resource: str
    limit: BaseLimit | None = None
    available: int | None = None
    reset_after: float | None = None
    rate: float | None = None

    @property
    def fill(self) -> float | None:
        """The share of the capacity that is available; 0 in debt."""
        if self.limit is None or self.available is None:
            return None
        return max(0.0, self.available / self.limit.capacity)


def gauges(statuses: Sequence[LimitStatus], before: Sequence[Gauge], seconds: float) -> list[Gauge]:
    """Return the gauges of the statuses, with rates where `before` holds the same limits, seen `seconds` ago."""
    seen = {(each.entity_id, each.resource, each.limit): each for each in before}
    found: dict[tuple[str, str, BaseLimit], Gauge] = {}
    for status in statuses:
        key = (status.entity_id, status.resource, status.limit)
        rate = _rate(seen[key], status, seconds) if key in seen and seconds > 0 else None
        found[key] = Gauge(*key, status.available, status.reset_after, rate)
    return list(found.values())


def _rate(before: Gauge, status: LimitStatus, seconds: float) -> float | None:
    """Return the units consumed per second: the units that are missing, given those that were refilled since."""
    if before.available is None:
        return None
    from ..core.limits import Limit

    limit = status.limit
    refilled = limit.refill_amount / limit.refill_period * seconds if isinstance(limit, Limit) else 0.0
    expected = min(limit.capacity, before.available + refilled)
    return max(0.0, (expected - status.available) / seconds)


def busiest(
    states: Mapping[BucketKey, BucketState], before: Mapping[BucketKey, BucketState], since: int | None, most: int
) -> list[BucketKey]:
    """Return the keys of the busiest buckets, the busiest first.

    A bucket's load is the time that its limits need to refill what was consumed since the time `since`, in nanoseconds since the
    epoch. At the first look, with `since` None, it is the time until the bucket is full.
    """

    def load(key: BucketKey) -> int:
        earlier = before.get(key)
        loads = [
            level.tat - max(_UNUSED if earlier is None else earlier.level(name).tat, since or 0)
            for name, level in states[key].levels.items()
        ]
        return max(loads, default=0)

    return sorted(states, key=lambda key: (-load(key), key))[:most]
