"""Which requests may be paid from units that their process took in advance, and how many units to take."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

from .limits import CalendarQuota, Limit, SessionQuota
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .request import Charge

MEMORY = NANOSECONDS
"""Nanoseconds after which an observation counts for 1/e in the rate."""
INSTANT = MEMORY // 1_000
"""Nanoseconds within which observations count as made at once."""
FORGET = 20 * MEMORY
"""Nanoseconds after which the rate of what is no longer asked for has come down to nothing."""
GROWTH, STEP, CUT = 1.1, 0.5, 0.75
"""What a block that was granted makes of the most that is asked for, and what one makes of it that others have defeated."""
SURE_PART = 4
"""The part of what is free that may be asked for in any case is one in so many."""


def allots(charges: Iterable[Charge]) -> bool:
    """Tell whether requests for the charges may be paid from a block.

    Every rate among them has an allotment, and there is one. Beside it may be quotas of a period and sessions. A total and slots
    are never taken in advance, since what a dead process held of them would not come back. An amount of 0 has nothing to pay.
    """
    rates = 0
    for limit, units in charges:
        if isinstance(limit, Limit) and limit.allotment_ns:
            rates += 1
        elif not isinstance(limit, CalendarQuota | SessionQuota):
            return False
        if units <= 0:
            return False
    return rates > 0


def lifetime(limits: Iterable[object]) -> int:
    """Return the nanoseconds for which units of all these limits may be spent: the shortest allotment of a rate among them."""
    return min(limit.allotment_ns for limit in limits if isinstance(limit, Limit))


def span(life: int) -> int:
    """Return for how many nanoseconds a block of that lifetime is to last: not to its end, since what is left then is lost."""
    return min(life * 3 // 4, MEMORY)


class Sizing:
    """For how many requests to take units in advance: what the observed rate spends in a span, if others leave that much.

    A block that other processes defeat makes the next one smaller, and each one that is granted makes it larger again.
    """

    __slots__ = ("_level", "_most", "_observed")

    def __init__(self) -> None:
        self._level = 0.0
        self._observed = 0
        self._most = float("inf")

    def observe(self, now: int, count: float = 1.0) -> None:
        """Note requests that came at `now`."""
        if now - self._observed >= INSTANT:
            self._level *= exp((self._observed - now) / MEMORY)
            self._observed = now
        self._level += count

    @property
    def level(self) -> float:
        """The requests of about the last second, as of the last one."""
        return self._level

    def order(self, span: int, held: float, room: int) -> int:
        """For how many requests to take units that last for a span, beside those `held`, where there is `room` for so many."""
        # The latest request says nothing of the time until the next.
        wanted = int((self._level - 1) * span / MEMORY - held)
        return max(0, min(wanted, room, int(max(min(self._most, wanted), room // SURE_PART))))

    def exceeds(self, room: int, span: int) -> bool:
        """Tell whether the rate spends more in a span than the part of `room` that one of many processes may count on."""
        return room // SURE_PART < self._level * span / MEMORY

    def note(self, asked: int, *, granted: bool) -> None:
        """Learn from what became of an order."""
        if not granted:
            self._most = max(1.0, CUT * asked)
        elif asked >= int(min(self._most, asked + 1)):
            self._most = GROWTH * self._most + STEP

    def is_idle(self, now: int) -> bool:
        """Tell whether no requests have come for long."""
        return now - self._observed >= FORGET
