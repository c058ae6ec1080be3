"""What a limiter has done so far, counted as it goes and shown as one frozen value."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .exceptions import RateLimiterUnavailable, Throttled

if TYPE_CHECKING:
    from .models import BaseLimit, LimitStatus

BreakerState = Literal["closed", "open", "half-open"]
"""Whether calls reach the store: always, not at all, or one at a time to see whether it is back."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one limiter has done in this process; counts since it was made. A forked child counts from 0.

    `decisions` are calls of acquire and try_acquire that were decided, of which `refusals` were refused; one that raised anything
    else, or was cancelled, is none. `degraded` of them were decided without the table, either way. `calls` were made to the store
    for decisions, corrections and checks: reads and writes of buckets, and reads of stored limits. `batches` are groups of
    requests to one bucket that calls carried together. `failures` are calls without an answer in time, or with an error on the
    store's side, of which `throttled` were turned away because a table or a key takes no more. `cache_hits` are requests to a
    bucket that were refused or granted by what was known here, without a call. `corrections_lost` are corrections and refunds,
    one for each bucket, that could not be written. `breaker` is "closed", "open" or "half-open". `skew` is the seconds that this
    machine's clock is ahead of the store's; None when unknown. `transport` is how frequent calls are made: "direct",
    or "botocore" for the `transport_reason`; None before the first call, and for a store that makes no calls.
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


@dataclass(frozen=True, slots=True)
class Charged:
    """What a call asks, takes or gives back of one limit of one bucket.

    `start` is the time from which units may be used, in nanoseconds of the repository's clock; None where nothing was taken.
    `since` is the time from which the bucket counts them.
    """

    entity_id: str
    resource: str
    limit: BaseLimit
    units: int
    start: int | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class DecisionEvent:
    """One decision, as `on_decision` is told of it.

    It was made without the table where it is `degraded`. `seconds` is what deciding took, without the `waited` seconds of a
    caller that was willing to wait for its turn (`waits`).

    `id` names the call, and the lease that it got. `process_id` names the limiter in this process; both are unique. The call
    came at `begin` and was decided at `end`, in nanoseconds of the repository's clock. `buckets` are the entity and resource of
    all that it is about, and `charges` what it took of their limits, or asked for.
    """

    entity_id: str
    resource: str
    allowed: bool
    degraded: bool
    waited: float
    seconds: float
    statuses: tuple[LimitStatus, ...]
    id: str
    process_id: str
    begin: int
    end: int
    waits: bool
    buckets: tuple[tuple[str, str], ...]
    charges: tuple[Charged, ...]

    @property
    def kind(self) -> str:
        """`decision`."""
        return "decision"

    @property
    def outcome(self) -> str:
        """`allowed` or `refused`."""
        return "allowed" if self.allowed else "refused"


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """What became of a call or its lease besides a decision, as a hook is told of it that has a method `note`.

    `kind` is `decision` for a call that failed, `consume` where the lease asked for more, `correction` where more was taken in
    any case, `refund` for what is about to be given back, `written` when the refund of the same `begin` is known to be written.
    `outcome` is `allowed`, `refused`, or `failed`: not known. `end` is None where the end is not known yet.
    """

    kind: str
    id: str
    process_id: str
    begin: int
    end: int | None
    outcome: str
    degraded: bool
    waits: bool
    buckets: tuple[tuple[str, str], ...]
    charges: tuple[Charged, ...]


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
        """Add to each of the counts named."""
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
        """Count what a call to the store raised, if it is a failure of the store."""
        if isinstance(error, Throttled):
            self.add("failures", "throttled")
        elif isinstance(error, RateLimiterUnavailable):
            self.add("failures")

    def statistics(self, breaker: BreakerState, skew: float | None, transport: tuple[str, str] | None = None) -> Statistics:
        """All counts so far."""
        with self._lock:
            counts = {name: self._counts[name] for name in _COUNTED}
        name, reason = (None, "") if transport is None else transport
        return Statistics(**counts, breaker=breaker, skew=skew, transport=name, transport_reason=reason)


_COUNTED = [name for name in Statistics.__dataclass_fields__ if name not in {"breaker", "skew", "transport", "transport_reason"}]
