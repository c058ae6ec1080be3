"""What a limiter has done so far, counted as it goes and shown as one frozen value."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .breaker import BreakerState
    from .models import LimitStatus


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one limiter has done in this process; counts since it was made.

    `decisions` are calls of acquire and try_acquire that were decided, of which `refusals` were refused and `degraded` went on
    without the table. `calls` to the store carried them, in `batches` of requests to one bucket; `failures` of them got no
    usable answer, and `throttled` were turned away. `cache_hits` are requests to a bucket that were refused or granted by what
    was known here, without a call. `corrections_lost` are settlements and refunds that could not be written. `breaker` is
    "closed", "open" or "half-open". `skew` is the seconds that this machine's clock is ahead of the store's; None when unknown.
    """

    decisions: int
    refusals: int
    degraded: int
    calls: int
    failures: int
    throttled: int
    batches: int
    cache_hits: int
    corrections_lost: int
    breaker: BreakerState
    skew: float | None


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One decision, as `on_decision` is told of it.

    `seconds` is what deciding took, without the `waited` seconds of a caller that was willing to wait for its turn.
    """

    entity_id: str
    resource: str
    allowed: bool
    degraded: bool
    waited: float
    seconds: float
    statuses: tuple[LimitStatus, ...]


class Counters:
    """Counts that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Add to one of the counts."""
        with self._lock:
            self._counts[name] += count

    def statistics(self, breaker: BreakerState, skew: float | None) -> Statistics:
        """All counts so far."""
        with self._lock:
            counts = {name: self._counts[name] for name in Statistics.__dataclass_fields__ if name not in ("breaker", "skew")}
        return Statistics(**counts, breaker=breaker, skew=skew)
