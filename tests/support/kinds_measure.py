"""The arithmetic of every kind of limit, apart from the library's: what a state says is in use, and up to where it may be.

A rate is measured in nanoseconds of refill, the other kinds in units. Slots are judged elsewhere.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from limiter import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limiter import BaseLimit
    from limiter.core.state import BucketState, Level

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
PERIODS = {"hour": HOUR, "day": 24 * HOUR}
NEVER = 1 << 90
"""A time that does not come."""


class Terms(NamedTuple):
    """What a call leaves to others of each limit, "" standing for all, and whether it may exceed a capacity."""

    shares: Mapping[str, float] = {}
    oversize: bool = False

    def share(self, limit: BaseLimit) -> Fraction:
        """Return the share of a limit that is left to others."""
        return Fraction(str(self.shares.get(limit.name, self.shares.get("", 0))))


PLAIN = Terms()
"""The terms of a call that leaves nothing to others."""


def cost_of(limit: Any, units: int) -> int:
    """Return what units come to, rounded up."""
    return -(-units * limit.period_ns // limit.refill_amount) if isinstance(limit, Limit) else units


def rounds(limit: Any) -> bool:
    """Tell whether a unit is not a whole number of nanoseconds."""
    return isinstance(limit, Limit) and limit.period_ns % limit.refill_amount > 0


def bound_of(limit: Any, units: int, terms: Terms) -> int:
    """Return up to where a call for so many units may use a limit."""
    full: int = limit.window if isinstance(limit, Limit) else limit.capacity
    if not units:
        return full
    if terms.oversize:
        return full if kind_of(limit) == "total" else max(full, cost_of(limit, units))
    return int(full - -(-full * terms.share(limit) // 1))


def kind_of(limit: Any) -> str:
    """Return what a limit is: a rate, slots, a quota, a session, a total."""
    if isinstance(limit, Limit):
        return "rate"
    for attribute, kind in (("ttl", "slots"), ("period", "quota"), ("seconds", "session")):
        if hasattr(limit, attribute):
            return kind
    return "total"


def is_over(limit: Any, level: Level, now: int) -> bool:
    """Tell whether the last opening of a count has ended; of a rate, whether the bucket is full."""
    match kind_of(limit):
        case "rate":
            return level.tat <= now
        case "quota":
            return level.since < now - now % PERIODS[limit.period]
        case "session":
            return level.since < 0 or level.tat <= 0 or now - level.since >= round(limit.seconds * SECOND)
        case _:
            return level.since < 0


def end_of(limit: Any, level: Level, now: int) -> int:
    """Return when the present opening of a count ends, or that of a charge made now; NEVER for a rate and a total."""
    match kind_of(limit):
        case "quota":
            length = PERIODS[limit.period]
            latest = max(now, level.since)
            return latest - latest % length + length
        case "session":
            return (max(now, level.since + 1) if is_over(limit, level, now) else level.since) + round(limit.seconds * SECOND)
        case _:
            return NEVER


def used_of(limit: Any, level: Level, now: int) -> int:
    """Return what is in use of a limit that is stored."""
    if kind_of(limit) == "rate":
        return max(0, level.tat - now)
    return 0 if is_over(limit, level, now) else level.tat


def born_with(limit: Any, state: BucketState, now: int, beside: Mapping[str, int]) -> tuple[int, int]:
    """Return the least and the most that is in use of a limit when its account is born beside others of its name.

    The batch itself may have taken up to so much of each account `beside`, before the birth or after.
    """
    least = most = 0
    for identity in {**state.levels, **beside}:
        level = state.level(identity)
        name, _, rate = identity.rpartition("|")
        if name != limit.name or identity == limit.identity or kind_of(limit) == "total":
            continue
        more = beside.get(identity, 0)
        if kind_of(limit) == "rate":
            if "/" not in rate:
                continue
            least = max(least, _lag(limit, rate, level.tat - now))
            most = max(most, _lag(limit, rate, max(0, level.tat - now) + more))
        else:
            used = _inherited(limit, rate, level, now) or 0
            least, most = max(least, min(used, limit.capacity)), max(most, min(used + more, limit.capacity))
    return least, max(least, most)


def _lag(limit: Any, rate: str, ahead: int) -> int:
    """Return the nanoseconds by which a new rate begins late beside one that is full in so many nanoseconds."""
    if ahead <= 0:
        return 0
    units, seconds = map(int, rate.split("/"))
    used = -(-ahead * units // (seconds * SECOND))
    return min(cost_of(limit, min(used, limit.capacity)), ahead)


def _inherited(limit: Any, measure: str, level: Level, now: int) -> int | None:
    """Return the units that a new count takes over from another one of its name: one that ends no earlier, or has its period."""
    kind, _, rest = measure.partition(" ")
    end = end_of(limit, level._replace(tat=-1, since=-1), now)
    if kind in PERIODS:
        opened = now - now % PERIODS[kind]
        same = kind_of(limit) == "quota" and limit.period == kind
        return level.tat if level.since >= opened and (same or opened + PERIODS[kind] >= end) else None
    if kind == "session":
        last = level.since + round(float(rest) * SECOND)
        return level.tat if level.tat > 0 and level.since >= 0 and last > now and last >= end else None
    return level.tat if kind == "total" and level.since >= 0 else None
