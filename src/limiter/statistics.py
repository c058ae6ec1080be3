"""What a limiter has done so far: counters and their frozen values."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from .exceptions import RateLimiterUnavailable, Throttled

BreakerState = Literal["closed", "open", "half-open"]
"""Whether calls reach the store: always, not at all, or one at a time to test whether it is back."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one limiter has done in this process since it was made. A forked child counts from 0.

    - `decisions`: calls of `acquire` and `try_acquire` that were allowed or refused. A call that raised another error, or was
      cancelled, does not count.
    - `refusals`: decisions that refused.
    - `degraded`: decisions that were made without the table, allowed or refused.
    - `calls`: calls to the store for decisions, corrections and checks: reads and writes of buckets, and reads of stored limits.
    - `failures`: calls without a response in time, or with an error on the store's side.
    - `throttled`: failures that the store throttled, as a whole or for one hot key.
    - `batches`: groups of requests to one bucket that shared a call.
    - `cache_hits`: requests to a bucket that were decided by what was known in this process, without a call.
    - `corrections_lost`: corrections and refunds, one for each bucket, that could not be written.
    - `breaker`: the circuit breaker, "closed", "open" or "half-open".
    - `skew`: seconds that this machine's clock is ahead of the store's; None when unknown.
    - `transport`: how frequent calls are sent: "direct", or "botocore" for the `transport_reason`. None before the first call,
      and for a store that makes no calls.
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
    transport: str | None = None
    transport_reason: str = ""


DESCRIPTIONS = {
    "decisions": "Calls of acquire and try_acquire, decided",
    "degraded": "Decisions that were made without the table",
    "calls": "Calls to the table for decisions, corrections and checks",
    "failures": "Calls without a response in time, or with an error on the table's side",
    "throttled": "Failed calls that the table throttled, as a whole or for one hot key",
    "batches": "Groups of requests to one bucket that shared a call",
    "cache_hits": "Requests to a bucket that were decided without a call",
    "corrections_lost": "Corrections and refunds that could not be written",
    "breaker": "Circuit breakers that hold calls back: 1 while the table fails repeatedly, 0 otherwise",
    "skew": "Seconds that this machine's clock is ahead of the table's",
}
"""Fields of `Statistics`, as metrics describe them."""


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How a configuration cache has served so far; `fetches` counts calls, `hits` and `misses` count chains."""

    entries: int
    hits: int
    misses: int
    fetches: int


class Counters:
    """Counts that several threads add to. All counts of one addition change together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, *names: str, count: int = 1) -> None:
        """Add to each of the named counts."""
        with self._lock:
            for name in names:
                self._counts[name] += count

    def add_decision(self, *, refused: bool, degraded: bool) -> None:
        """Count a decision."""
        with self._lock:
            self._counts["decisions"] += 1
            if refused:
                self._counts["refusals"] += 1
            if degraded:
                self._counts["degraded"] += 1

    def add_failure(self, error: BaseException) -> None:
        """Count an error of a call to the store, if it is a failure of the store."""
        if isinstance(error, Throttled):
            self.add("failures", "throttled")
        elif isinstance(error, RateLimiterUnavailable):
            self.add("failures")

    def statistics(self, breaker: BreakerState, skew: float | None, transport: tuple[str, str] | None = None) -> Statistics:
        """Return all counts so far."""
        with self._lock:
            counts = {name: self._counts[name] for name in _COUNTED}
        name, reason = (None, "") if transport is None else transport
        return Statistics(**counts, breaker=breaker, skew=skew, transport=name, transport_reason=reason)


_COUNTED = [name for name in Statistics.__dataclass_fields__ if name not in {"breaker", "skew", "transport", "transport_reason"}]
