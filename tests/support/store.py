"""A bucket, and a client that plans one batch after another from what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.bucket_world import EPOCH, KEY

from limiter.core import plan as planning
from limiter.core.allocation import Allocation
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.state import EMPTY

if TYPE_CHECKING:
    from limiter.core.state import BucketState
    from limiter.models import BaseLimit


class Store:
    """A bucket, and a client that knows its state."""

    def __init__(self, now: int = EPOCH, error: int = 0) -> None:
        self.now, self.error = now, error
        self.state: BucketState = EMPTY
        self.known: BucketState = EMPTY
        self.planned = 0
        self.plan = planning.plan(EMPTY, [], now, "none")

    def ask(self, *requests: Request, fresh: bool = True) -> list[Grant | Refusal | None]:
        """Plan once, write, and return the outcomes; None for a request that has to be planned again."""
        self.planned += 1
        stamp = f"stamp-{self.planned}"
        self.plan = plan = planning.plan(self.known, requests, self.now, stamp, error=self.error, fresh=fresh)
        outcomes: dict[int, Grant | Refusal] = dict(plan.refused)
        if plan.update is None:
            outcomes |= plan.grants(self.state)
        elif plan.update.holds(self.state):
            self.state = plan.update.apply(self.state)
            outcomes |= plan.grants(self.state)
        else:
            outcomes = {}
        self.known = self.state
        return [outcomes.get(place) for place in range(len(requests))]

    def try_take(self, *limits: BaseLimit, units: int = 1, wait: int = 0) -> Grant | Refusal:
        """Ask for units of each limit, with as many plans as necessary."""
        request = Request(KEY, tuple(Charge(limit, units) for limit in limits), deadline=self.now + wait)
        outcome = self.ask(request)[0] or self.ask(request)[0]
        assert outcome is not None
        return outcome

    def take(self, *limits: BaseLimit, units: int = 1, wait: int = 0) -> Grant:
        """Consume, and expect to be allowed."""
        outcome = self.try_take(*limits, units=units, wait=wait)
        assert isinstance(outcome, Grant)
        return outcome

    def refusal(self, *limits: BaseLimit, units: int = 1, wait: int = 0) -> Refusal:
        """Ask, and expect to be refused."""
        outcome = self.try_take(*limits, units=units, wait=wait)
        assert isinstance(outcome, Refusal)
        return outcome

    def give(self, grant: Grant, units: int) -> None:
        """Refund a part of what was granted of one limit."""
        (receipt,) = grant.receipts
        self.ask(Request(KEY, refunds=(Allocation.of(receipt).release(units)[1],)))

    def force(self, limit: BaseLimit, units: int) -> Grant:
        """Correct, whether it fits or not."""
        outcome = self.ask(Request(KEY, (Charge(limit, units),), forced=True))[0]
        assert isinstance(outcome, Grant)
        return outcome

    def tat(self, limit: BaseLimit) -> int:
        """Return the item's `tat` of a limit, or its used units."""
        return self.state.level(limit.identity).tat
