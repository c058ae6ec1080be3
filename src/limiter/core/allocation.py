"""What a lease holds of one limit in one bucket, and the refund for releasing a part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .limits.accounts import cost
from .request import Refund

if TYPE_CHECKING:
    from ..models import BaseLimit
    from .request import Receipt


class Allocation(NamedTuple):
    """`units` of `limit` and their `cost`, of which `refundable` was taken in the busy period, or of the opening, `since`.

    What was consumed in an older one cannot be refunded: the bucket has been full since. Costs are in the measure of the limit's
    account: nanoseconds of refill for a rate, units for the other kinds.
    """

    limit: BaseLimit
    units: int = 0
    cost: int = 0
    refundable: int = 0
    since: int = -1

    @classmethod
    def of(cls, receipt: Receipt) -> Allocation:
        """Return the allocation of one grant."""
        return cls(receipt.limit, receipt.units, receipt.cost, receipt.cost, receipt.since)

    def add(self, receipt: Receipt) -> Allocation:
        """Return the allocation after one more grant."""
        kept = self.refundable if receipt.since == self.since else 0
        return Allocation(self.limit, self.units + receipt.units, self.cost + receipt.cost, kept + receipt.cost, receipt.since)

    def release(self, units: int) -> tuple[Allocation, Refund]:
        """Return the allocation without `units` of it, and the refund for them.

        The refund rounds down, so that what stays held is never worth less than it cost. What was consumed last is released
        first.
        """
        left = self.units - units
        given = max(0, self.cost - cost(self.limit, left))
        refund = Refund(self.limit, min(given, self.refundable), self.since)
        return Allocation(self.limit, left, self.cost - given, self.refundable - refund.cost, self.since), refund
