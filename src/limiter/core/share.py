"""What one process allows by itself while the table cannot be reached."""

from __future__ import annotations

import threading
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import RateLimiterUnavailable
from ..models import MAX_AMOUNT, Limit
from .chain import Demand
from .limits import gcra
from .request import Charge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .chain import Bucket
    from .records import BucketKey
    from .state import BucketState


LONGEST = 50 * 366 * 86_400 * gcra.NANOSECONDS
"""Nanoseconds that an empty bucket takes to fill at most, however small the share: the half of what a limit may."""


def local_limit(limit: Limit, share: float, units: int = 1) -> Limit:
    """The limit at a share of its rate and of its capacity, of which at least `units` remain, so that one request fits."""
    share = max(share, limit.window / LONGEST, limit.period_ns / LONGEST)
    if share >= 1:
        return limit
    return replace(limit, capacity=max(ceil(limit.capacity * share), units), refill_period=limit.refill_period / share)


def local_demands(asked: Sequence[Demand], share: float) -> tuple[Demand, ...]:
    """The same demands, on limits at that share."""
    return tuple(
        Demand(key, tuple(Charge(local_limit(limit, share, units), units) for limit, units in charges)) for key, charges in asked
    )


def check_remembered(chain: Sequence[Bucket], amounts: Mapping[str, int] | None, cause: RateLimiterUnavailable) -> None:
    """Raise `RateLimiterUnavailable` when a call names limits that were never read, so that nothing can keep them."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    if not known or not known.issuperset(amounts or ()):
        text = "the limits of this call were never read, so this process cannot keep them by itself"
        raise RateLimiterUnavailable(text, unsent=True) from cause


def unbounded(chain: Sequence[Bucket], amounts: Mapping[str, int] | None) -> tuple[Bucket, ...]:
    """The chain with a limit that stands in no way for every name that it lacks, of limits that could not be read."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    names = set(amounts or ()) - known or (set() if known else {Limit.DEFAULT_NAME})
    added = tuple(Limit(name, MAX_AMOUNT, 10**9, 1.0) for name in sorted(names))
    return (chain[0]._replace(limits=chain[0].limits + added), *chain[1:])


class Owed:
    """What was allowed here and the table has not been charged with, bucket by bucket. Safe for threads.

    It is known from the buckets' local states: whatever of a limit's `tat` lies ahead, and beyond the one that was claimed last.
    So a local lease that takes more when the table is back is noticed too, and nothing is charged twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[BucketKey, dict[str, Limit]] = {}
        self._claimed: dict[BucketKey, dict[str, int]] = {}

    def __contains__(self, key: BucketKey) -> bool:
        return key in self._limits

    def note(self, key: BucketKey, limits: Iterable[Limit]) -> None:
        """Something is about to be allowed here."""
        with self._lock:
            self._limits[key] = self._limits.get(key, {}) | {limit.name: limit for limit in limits}

    def claim(self, key: BucketKey, share: float, state: BucketState, now: int) -> Claim:
        """What the table is to be charged with, which nobody else claims then."""
        with self._lock:
            limits, before = self._limits.get(key, {}), self._claimed.get(key, {})
            ahead = {name: state.level(name).tat for name in limits if state.level(name).tat > now}
            self._claimed[key] = ahead
        spans = {name: tat - max(now, before.get(name, now)) for name, tat in ahead.items()}
        charges = (Charge(limits[name], _units(limits[name], share, span)) for name, span in spans.items())
        return Claim(key, tuple(charge for charge in charges if charge.units > 0), before)

    def disclaim(self, claim: Claim) -> None:
        """The charges could not be made, and are owed as before."""
        with self._lock:
            claimed = self._claimed.get(claim.key, {})
            for name in claimed:
                claimed[name] = min(claimed[name], claim.before.get(name, 0))


class Claim(NamedTuple):
    """Charges to be made to a bucket for what was allowed here, and up to where that was claimed `before`."""

    key: BucketKey
    charges: tuple[Charge, ...]
    before: Mapping[str, int]


def _units(limit: Limit, share: float, span: int) -> int:
    """The units that take so many nanoseconds to refill here; a part of one counts as one, lest many parts be forgotten."""
    local = local_limit(limit, share)
    return min(-(-span * local.refill_amount // local.period_ns), limit.capacity)


def fitting(charges: Sequence[Charge], levels: Sequence[int], now: int) -> tuple[Charge, ...]:
    """As much of the charges as fits beside what the limits' levels are, so that no bucket goes into debt."""
    fits = (
        Charge(limit, min(units, gcra.available(limit, tat, now))) for (limit, units), tat in zip(charges, levels, strict=True)
    )
    return tuple(charge for charge in fits if charge.units > 0)
