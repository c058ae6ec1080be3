"""Units taken in advance by one write, and spent here without any.

For callers that come one after another, whose requests therefore cannot share a write. The long-run rate is kept: every unit was
taken from the bucket before it is spent. But a unit taken now and spent later can meet a bucket that has refilled meanwhile, so
within any span the burst is bounded by the capacity plus the unspent blocks of all processes. Units that go stale are given back
with the next write, or at close; those of a process that falls silent or dies come back by refill. See ADR-132.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..core.allocation import Holding
from ..core.limits import gcra
from ..core.request import Charge, Credit, Grant, Receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..models import Limit, Prefetch

MEMORY = gcra.NANOSECONDS
"""Nanoseconds after which an observation counts for 1/e in the rate."""
FORGET = 20 * MEMORY
"""Nanoseconds after which the rate of a limit that nobody asks for has come down to nothing."""


class _Stock:
    """What is held of one limit, until when it may be spent, and the rate at which it is asked for."""

    def __init__(self, limit: Limit) -> None:
        self.holding = Holding(limit)
        self.until = 0
        self.tat = 0
        self.level = 0.0
        self.observed = 0

    def observe(self, units: int, now: int) -> None:
        self.level = self.level * math.exp((self.observed - now) / MEMORY) + units if now > self.observed else self.level + units
        self.observed = max(now, self.observed)

    def wanted(self, prefetch: Prefetch) -> int:
        """Units that are missing from a full block."""
        per_horizon = self.level * prefetch.horizon * gcra.NANOSECONDS / MEMORY
        return int(min(per_horizon, self.holding.limit.capacity * prefetch.fraction)) - self.holding.units

    def covers(self, units: int, now: int) -> bool:
        return 0 < units <= self.holding.units and now < self.until

    def matters(self, now: int) -> bool:
        return self.holding.units > 0 or now - self.observed < FORGET

    def pay(self, units: int, now: int) -> Receipt:
        self.holding, credit = self.holding.release(units)
        return Receipt(self.holding.limit, units, credit.cost, credit.since, now, self.tat)

    def clear(self) -> Credit:
        self.holding, credit = self.holding.release(self.holding.units)
        return credit


class Purse:
    """What one process holds in advance of one bucket. Not safe for threads: the caller holds a lock."""

    def __init__(self) -> None:
        self._stocks: dict[Limit, _Stock] = {}
        self._prefetch: Prefetch | None = None

    def spend(self, charges: Sequence[Charge], prefetch: Prefetch, now: int) -> Grant | None:
        """Pay from what is held, if all of it is there and not stale; notes in any case what was asked for."""
        self._prefetch = prefetch
        asked = [(self._stock(limit), units) for limit, units in charges]
        for stock, units in asked:
            stock.observe(units, now)
        if not self.covers(charges, now):
            return None
        return Grant(tuple(stock.pay(units, now) for stock, units in asked), now)

    def covers(self, charges: Sequence[Charge], now: int) -> bool:
        """Whether all of it is held, and not stale."""
        return all(self._stock(limit).covers(units, now) for limit, units in charges)

    def order(self, asked: Iterable[Charge]) -> tuple[Charge, ...]:
        """The block to take along with a write that carries what is `asked`; empty when no rate asks for one."""
        if self._prefetch is None:
            return ()
        # Of a limit that is asked for in several versions the last counts: a request names each limit once.
        latest = {limit.name: limit for limit, _ in asked}
        block = [Charge(limit, self._stock(limit).wanted(self._prefetch)) for limit in latest.values()]
        return tuple(charge for charge in block if charge.units > 0)

    def deposit(self, grant: Grant, now: int) -> None:
        """Keep a block that was granted; what was left of an older one is as fresh from now on."""
        for receipt in grant.receipts:
            stock = self._stock(receipt.limit)
            stock.holding, stock.tat = stock.holding.add(receipt), receipt.tat
            if self._prefetch is not None:
                stock.until = now + int(self._prefetch.horizon * gcra.NANOSECONDS)

    def empty(self, now: int | None = None) -> tuple[Credit, ...]:
        """Take out what is stale at `now`, or everything, to be given back; forgets limits that nobody asks for any more."""
        stale = [stock for stock in self._stocks.values() if now is None or now >= stock.until]
        credits = [stock.clear() for stock in stale if stock.holding.units]
        if now is not None:
            self._stocks = {limit: stock for limit, stock in self._stocks.items() if stock.matters(now)}
        return tuple(credit for credit in credits if credit.cost)

    def _stock(self, limit: Limit) -> _Stock:
        return self._stocks.setdefault(limit, _Stock(limit))
