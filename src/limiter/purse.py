"""Units taken in advance by one write, and spent here without any.

For callers that come one after another, whose requests therefore cannot share a write. The long-run rate is kept: every unit was
taken from the bucket before it is spent. But a unit taken now and spent later can meet a bucket that has refilled meanwhile, so
within any span the burst is bounded by the capacity plus the unspent blocks of all processes. Units that go stale are given back
with the next write, or at close; those of a process that dies come back by refill.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from . import gcra
from .bucket import Charge, Credit, Grant, Receipt
from .holding import Holding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .models import Limit, Prefetch

MEMORY = gcra.NANOSECONDS
"""Nanoseconds after which an observation counts for 1/e in the rate."""


class _Stock:
    """What is held of one limit, and the rate at which it is spent."""

    def __init__(self, limit: Limit) -> None:
        self.holding = Holding(limit)
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


class Purse:
    """What one process holds in advance of one bucket. Not safe for threads: the caller holds a lock."""

    def __init__(self) -> None:
        self._stocks: dict[Limit, _Stock] = {}
        self._until = 0
        self._prefetch: Prefetch | None = None

    def spend(self, charges: Sequence[Charge], prefetch: Prefetch, now: int) -> Grant | None:
        """Pay from what is held, if all of it is there and not stale; notes in any case what was asked for."""
        self._prefetch = prefetch
        for limit, units in charges:
            self._stocks.setdefault(limit, _Stock(limit)).observe(units, now)
        covered = all(0 < units <= self._stocks[limit].holding.units for limit, units in charges)
        if not covered or now >= self._until:
            return None
        return Grant(tuple(self._pay(charge, now) for charge in charges), now)

    def order(self, now: int) -> tuple[Charge, ...]:
        """The block to take along with the next write; empty when the rate does not ask for one."""
        if self._prefetch is None:
            return ()
        # Of a limit that was given in several versions the latest counts: a request names each limit once.
        stocks = sorted(self._stocks.items(), key=lambda item: item[1].observed)
        latest = {limit.name: (limit, stock.wanted(self._prefetch)) for limit, stock in stocks}
        return tuple(Charge(limit, units) for limit, units in latest.values() if units > 0)

    def deposit(self, grant: Grant, now: int) -> None:
        """Keep a block that was granted."""
        if self._prefetch is not None:
            self._until = now + int(self._prefetch.horizon * gcra.NANOSECONDS)
        for receipt in grant.receipts:
            stock = self._stocks.setdefault(receipt.limit, _Stock(receipt.limit))
            stock.holding, stock.tat = stock.holding.add(receipt), receipt.tat

    def empty(self, now: int | None = None) -> tuple[Credit, ...]:
        """Take out what is stale at `now`, or everything, to be given back."""
        if now is not None and now < self._until:
            return ()
        credits = []
        for stock in self._stocks.values():
            if stock.holding.units:
                stock.holding, credit = stock.holding.release(stock.holding.units)
                credits.append(credit)
        return tuple(credit for credit in credits if credit.cost)

    def _pay(self, charge: Charge, now: int) -> Receipt:
        stock = self._stocks[charge.limit]
        stock.holding, credit = stock.holding.release(charge.units)
        return Receipt(charge.limit, charge.units, credit.cost, credit.since, now, stock.tat)
