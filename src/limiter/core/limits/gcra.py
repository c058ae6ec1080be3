"""The generic cell rate algorithm in exact integer arithmetic.

A bucket stores one number per limit, the *theoretical arrival time* `tat`, in nanoseconds since the epoch: the moment at which
the bucket will be full again. Consuming units moves it into the future, and time catches up with it. The algorithm is the virtual
scheduling form of ITU-T Recommendation I.371, annex A.

`amount` units refill every `period` nanoseconds. Rounding always favours the limit: costs round up, availability rounds down.
"""

from __future__ import annotations

from typing import Protocol


class Rate(Protocol):
    """The numbers of a limit that the arithmetic needs."""

    @property
    def refill_amount(self) -> int:
        """Units that refill in a period."""

    @property
    def period_ns(self) -> int:
        """Nanoseconds of a period."""

    @property
    def window(self) -> int:
        """Nanoseconds in which an empty bucket fills."""

    @property
    def depth(self) -> int:
        """Nanoseconds of the window that requests can use: all but the allotment."""


def window(capacity: int, amount: int, period: int) -> int:
    """Return the nanoseconds in which an empty bucket fills: how far `tat` may be ahead of now.

    If a unit is not a whole number of nanoseconds, each of up to `capacity` charges may have rounded its cost up by less than
    one nanosecond, so that much slack is added, but less than the cost of one unit. So exactly `capacity` units always fit, in
    any division (if a unit costs at least `capacity` nanoseconds), and `capacity + 1` units never fit.
    """
    slack = min(capacity, period // amount) - 1 if period % amount else 0
    return _ceil_div(capacity * period, amount) + slack


def cost(limit: Rate, units: int) -> int:
    """Return the nanoseconds in which `units` refill."""
    return _ceil_div(units * limit.period_ns, limit.refill_amount)


def units(limit: Rate, cost: int) -> int:
    """Return the units that refill in `cost` nanoseconds, rounded down; of the cost of some units, those units."""
    return cost * limit.refill_amount // limit.period_ns


def available(limit: Rate, tat: int, now: int) -> int:
    """Return the units available at `now`; negative while the bucket is in debt."""
    return (now + limit.depth - max(tat, now)) * limit.refill_amount // limit.period_ns


def start(limit: Rate, tat: int) -> int:
    """Return the time from which a charge that leaves the bucket at `tat` is allowed."""
    return tat - limit.depth


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
