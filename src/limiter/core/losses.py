"""What a request that was not written, or whose response was lost, leaves wrong in its bucket."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .limits import accounts

if TYPE_CHECKING:
    from .request import Request


def units_at_stake(request: Request) -> dict[str, int]:
    """Return, for each limit, the units that stay taken or untaken at most: those of the request's charges and refunds."""
    units: Counter[str] = Counter()
    for limit, charged in request.charges:
        units[limit.name] += abs(charged)
    for refund in request.refunds:
        units[refund.limit.name] += accounts.units(refund.limit, refund.cost)
    return {name: count for name, count in units.items() if count}
