"""Units taken in advance by one write, and spent here without any.

For callers that come one after another, whose requests therefore cannot share a write. The long-run rate is kept: every unit was
taken from the bucket before it is spent. But a unit taken now and spent later can meet a bucket that has refilled meanwhile, so
within any span the burst is bounded by the capacity plus the unspent blocks of all processes. Units that go stale are given back
with the next write, or at close; those of a process that falls silent or dies come back by refill. See ADR-132.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..core.allocation import Allocation
from ..core.request import Charge, Grant, Receipt, Refund
from ..core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..core.limits import Limit
    from ..models import Prefetch

MEMORY = NANOSECONDS
"""Nanoseconds after which an observation counts for 1/e in the rate."""
FORGET = 20 * MEMORY
"""Nanoseconds after which the rate of a limit that nobody asks for has come down to nothing."""


class _Units:
    """What is held of one limit, until when it may be spent, and the rate at which it is asked for."""

    def __init__(self, limit: Limit) -> None:
        self.allocation = Allocation(limit)
        self.until = 0
        self.tat = 0
        self.level = 0.0
        self.observed = 0

    def observe(self, units: int, now: int) -> None:
        self.level = self.level * math.exp((self.observed - now) / MEMORY) + units if now > self.observed else self.level + units
        self.observed = max(now, self.observed)

    def wanted(self, prefetch: Prefetch) -> int:
        """Units that are missing from a full block."""
        per_horizon = self.level * prefetch.horizon * NANOSECONDS / MEMORY
        return int(min(per_horizon, self.allocation.limit.capacity * prefetch.fraction)) - self.allocation.units

    def covers(self, units: int, now: int) -> bool:
        return 0 < units <= self.allocation.units and now < self.until

    def matters(self, now: int) -> bool:
        return self.allocation.units > 0 or now - self.observed < FORGET

    def pay(self, units: int, now: int) -> Receipt:
        self.allocation, refund = self.allocation.release(units)
        return Receipt(self.allocation.limit, units, refund.cost, refund.since, now, self.tat)

    def clear(self) -> Refund:
        self.allocation, refund = self.allocation.release(self.allocation.units)
        return refund


class PrefetchBuffer:
    """What one process holds in advance of one bucket. Not safe for threads: the caller holds a lock."""

    def __init__(self) -> None:
        self._held: dict[Limit, _Units] = {}
        self._prefetch: Prefetch | None = None

    def take(self, charges: Sequence[Charge], prefetch: Prefetch, now: int) -> Grant | None:
        """Pay from what is held, if all of it is there and not stale; notes in any case what was asked for."""
        self._prefetch = prefetch
        asked = [(self._units_of(limit), units) for limit, units in charges]
        for units_of, units in asked:
            units_of.observe(units, now)
        if not self.covers(charges, now):
            return None
        return Grant(tuple(units_of.pay(units, now) for units_of, units in asked), now)

    def covers(self, charges: Sequence[Charge], now: int) -> bool:
        """Whether all of it is held, and not stale."""
        return all(self._units_of(limit).covers(units, now) for limit, units in charges)

    def wanted(self, asked: Iterable[Charge]) -> tuple[Charge, ...]:
        """The block to take along with a write that carries what is `asked`; empty when no rate asks for one."""
        if self._prefetch is None:
            return ()
        # Of a limit that is asked for in several versions the last counts: a request names each limit once.
        latest = {limit.name: limit for limit, _ in asked}
        block = [Charge(limit, self._units_of(limit).wanted(self._prefetch)) for limit in latest.values()]
        return tuple(charge for charge in block if charge.units > 0)

    def add(self, grant: Grant, now: int) -> None:
        """Keep a block that was granted; what was left of an older one is as fresh from now on."""
        for receipt in grant.receipts:
            units_of = self._units_of(receipt.limit)
            units_of.allocation, units_of.tat = units_of.allocation.add(receipt), receipt.tat
            if self._prefetch is not None:
                units_of.until = now + int(self._prefetch.horizon * NANOSECONDS)

    def drain(self, now: int | None = None) -> tuple[Refund, ...]:
        """Take out what is stale at `now`, or everything, to be given back; forgets limits that nobody asks for any more."""
        stale = [units_of for units_of in self._held.values() if now is None or now >= units_of.until]
        refunds = [units_of.clear() for units_of in stale if units_of.allocation.units]
        if now is not None:
            self._held = {limit: units_of for limit, units_of in self._held.items() if units_of.matters(now)}
        return tuple(refund for refund in refunds if refund.cost)

    def _units_of(self, limit: Limit) -> _Units:
        return self._held.setdefault(limit, _Units(limit))
