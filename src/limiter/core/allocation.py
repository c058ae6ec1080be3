"""What a lease holds of one limit in one bucket, and what giving a part of it back is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .limits import gcra
from .request import Refund

if TYPE_CHECKING:
    from .limits import Limit
    from .request import Receipt


@dataclass(frozen=True, slots=True)
class Allocation:
    """`units` of `limit`, which cost `cost` nanoseconds, of which `refundable` were taken in the busy period `since`.

    What was taken in an older period cannot be given back: the bucket has been full since.
    """

    limit: Limit
    units: int = 0
    cost: int = 0
    refundable: int = 0
    since: int = -1

    @classmethod
    def of(cls, receipt: Receipt) -> Allocation:
        """The holding of one taking."""
        return cls(receipt.limit, receipt.units, receipt.cost, receipt.cost, receipt.since)

    def add(self, receipt: Receipt) -> Allocation:
        """The holding after one more taking."""
        kept = self.refundable if receipt.since == self.since else 0
        return Allocation(self.limit, self.units + receipt.units, self.cost + receipt.cost, kept + receipt.cost, receipt.since)

    def release(self, units: int) -> tuple[Allocation, Refund]:
        """The holding without `units` of it, and the credit for them.

        The credit rounds down, so that what stays held is never worth less than it cost. What was taken last goes first.
        """
        left = self.units - units
        given = max(0, self.cost - gcra.cost(self.limit, left))
        refund = Refund(self.limit, min(given, self.refundable), self.since)
        return replace(self, units=left, cost=self.cost - given, refundable=self.refundable - refund.cost), refund
