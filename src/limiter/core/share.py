"""Limits at a share of their rate, which one process uses without the table."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, TypeVar

from ..exceptions import RateLimiterUnavailable
from ..models import BaseLimit
from .limits import Limit, Quota
from .limits.accounts import standing
from .request import Charge
from .units import NANOSECONDS
from .validation import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from .chain import Bucket
    from .request import Request
    from .state import Level


_Each = TypeVar("_Each", bound=BaseLimit)
LONGEST = 50 * 366 * 86_400 * NANOSECONDS
"""Most nanoseconds in which an empty bucket fills, regardless of the share: half of the maximum for a limit."""


def local_limit(limit: _Each, share: float | None, units: int = 1) -> _Each:
    """Return the limit at a share of its rate and capacity; the capacity is at least `units`, so that one request fits.

    With a share of None, the table keeps the limit, which stays as it is.
    """
    if share is None:
        return limit
    if not isinstance(limit, Limit):
        return limit if share >= 1 else replace(limit, capacity=max(ceil(limit.capacity * share), units))
    share = max(share, limit.window / LONGEST, limit.period_ns / LONGEST)
    if share >= 1:
        return limit if limit.allotment is None else replace(limit, allotment=None)
    capacity = max(ceil(limit.capacity * share), units)
    return replace(limit, capacity=capacity, refill_period=limit.refill_period / share, allotment=None)


def local_requests(requests: Sequence[Request], share: float | None) -> tuple[Request, ...]:
    """Return the same requests with limits at that share. Nothing is taken in advance, since no other process is asked."""
    if share is None:
        return tuple(requests)
    return tuple(
        request._replace(
            charges=tuple(Charge(local_limit(limit, share, units), units) for limit, units in request.charges), allots=False
        )
        for request in requests
    )


def check_remembered(chain: Sequence[Bucket], names: AbstractSet[str], cause: RateLimiterUnavailable) -> None:
    """Raise `RateLimiterUnavailable` if a call names limits that were never read, so this process cannot keep them."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    if not any(bucket.access for bucket in chain) and not (known and known >= names):
        text = "the limits of this call were never read, so this process cannot keep them by itself"
        raise RateLimiterUnavailable(text, unsent=True) from cause


def unbounded(chain: Sequence[Bucket], names: AbstractSet[str]) -> tuple[Bucket, ...]:
    """Return the chain with a practically unlimited limit for each name that it lacks because it could not be read."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    if any(bucket.access for bucket in chain):
        return tuple(chain)
    lacking = names - known or (set() if known else {Limit.DEFAULT_NAME})
    added = tuple(Limit(name, MAX_AMOUNT, 10**9, 1.0) for name in sorted(lacking))
    return (chain[0]._replace(limits=chain[0].limits + added), *chain[1:])


def fitting(charges: Sequence[Charge], levels: Sequence[Level], now: int) -> tuple[Charge, ...]:
    """Return as much of the charges as fits at the limits' levels, so that no bucket goes into debt."""
    fits = (
        Charge(limit, min(units, standing(limit, level, now)[0])) for (limit, units), level in zip(charges, levels, strict=True)
    )
    return tuple(charge for charge in fits if charge.units > 0)


def is_reported(limit: BaseLimit) -> bool:
    """Tell whether local usage of a limit is reported to the table. Slots are not: they end with their leases."""
    return isinstance(limit, Limit | Quota)


def unreported_units(limit: BaseLimit, share: float, level: Level, before: Level, now: int) -> int:
    """Return the units that were used locally since the last report, when the limit was at the level `before`.

    Units that have refilled do not count, nor do units of a period or session that has ended: units are reported to the period in
    which they were used, or not at all.
    """
    if isinstance(limit, Limit):
        span = level.tat - max(now, before.tat)
        return local_units(limit, share, span) if span > 0 else 0
    if not isinstance(limit, Quota) or limit.is_over(level.since, level.tat, now):
        return 0
    return max(0, level.tat - max(0, before.tat))


def local_units(limit: Limit, share: float, span: int) -> int:
    """Return the units that refill in `span` nanoseconds at the local share. Rounds up, so repeated fractions are not lost."""
    local = local_limit(limit, share)
    return min(-(-span * local.refill_amount // local.period_ns), limit.capacity)
