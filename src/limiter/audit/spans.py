"""The most that was allowed in any interval, beyond what was refunded and what refilled in it.

A charge counts at its `start`. No interval of charges exceeds the limit, however clocks differ, because the bucket stores times
of the same clocks: the last charge found room by its own clock, and the first was made by its own. A refund is written at some
time in an interval, and counts in every interval that may contain it, so no correct history is reported.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from .reader import Change, Taking

RETURN, TAKE, REMEMBER, FORCE, RETURNED = range(5)
"""Kinds of events at one time, in the order that excuses most, since the real order is unknown."""


class Peak(NamedTuple):
    """The worst interval: units beyond the refill times `period`, its begin and end, and the last call that was allowed."""

    level: int
    begin: int
    end: int
    last: str


NONE = Peak(0, 0, 0, "")


def peak(takings: Sequence[Taking], amount: int, period: int) -> Peak:
    """Return the worst interval of `takings`, in the order of their starts, if nothing is refunded.

    `amount` units refill in `period` nanoseconds; with an amount of 0 nothing refills.
    """
    worst = level = opened = then = begin = end = 0
    last = ""
    for start, _, _, units, identifier, _ in takings:
        level -= (start - then) * amount
        if level <= 0:
            level, opened = 0, start
        level += units * period
        then = start
        if level > worst:
            worst, begin, end, last = level, opened, start, identifier
    return Peak(worst, begin, end, last)


class Changing:
    """The worst interval if units are also consumed unconditionally and refunded.

    A refund may be in any interval that touches the time in which it was written, even one that begins while it is pending.
    Unconditional charges count in the intervals that certainly contain them, and do not end one. A call for more than the
    capacity that a full bucket allows (`oversized`) counts as the capacity in its own interval.
    """

    def __init__(self, amount: int, period: int, capacity: int, oversized: Container[str] = ()) -> None:
        self._amount = amount
        self._period = period
        self._capacity = capacity
        self._oversized = oversized
        self._pending = self._total = 0
        self._remembered: dict[int, tuple[int, int, int, int]] = {}

    def peak(self, takings: Iterable[Taking], forced: Iterable[Change], returned: Iterable[tuple[int, int, int]]) -> Peak:
        """Return the worst interval. A refund in `returned` has a begin, an end, and a worth in units times `period`."""
        steps: list[tuple[int, int, int, int, str]] = [(each[0], TAKE, each[3], 0, each[4]) for each in takings]
        for number, (begin, end, units, _) in enumerate(forced):
            steps += (begin, REMEMBER, 0, number, ""), (end, FORCE, units, number, "")
        for begin, end, worth in returned:
            steps += (begin, RETURN, worth, 0, ""), (end, RETURNED, worth, 0, "")
        steps.sort()
        amount, period, oversized = self._amount, self._period, self._oversized
        worst, level, opened, then = NONE, 0, 0, 0
        for time, what, value, number, identifier in steps:
            level -= (time - then) * amount
            then = time
            if what != TAKE:
                level, opened = self._change(what, value, number, (level, opened, time))
                continue
            if not value:
                continue  # It adds nothing. It may have been decided before an earlier call for more than the capacity.
            if level <= -self._pending:
                level, opened = -self._pending, time
            level += value * period
            self._total += value * period
            beyond = level - max(0, value - self._capacity) * period if identifier in oversized else level
            if beyond > worst.level:
                worst = Peak(beyond, opened, time, identifier)
        return worst

    def _change(self, what: int, value: int, number: int, state: tuple[int, int, int]) -> tuple[int, int]:
        """Update the level and the begin of the worst interval after an event that is not an admission."""
        level, opened, time = state
        if what == RETURN:
            self._pending += value
            self._total -= value
            return level - value, opened
        if what == RETURNED:
            self._pending -= value
        elif what == REMEMBER:
            begun = (level, opened) if level > -self._pending else (-self._pending, time)
            self._remembered[number] = *begun, self._total, time
        else:
            # Add to the intervals that began before the charge did; those that began since may not contain it.
            before, since, total, at = self._remembered.pop(number)
            before += self._total - total - (time - at) * self._amount + value * self._period
            return (before, since) if before > level else (level, opened)
        return level, opened


def earliest_uses(takings: Iterable[Taking]) -> tuple[list[int], list[int]]:
    """Return the ends of `takings` in order, and for each of them the earliest start among the takings that end then or later."""
    pairs = sorted((end, start) for start, _, end, *_ in takings)
    earliest: list[int] = []
    least = 1 << 100
    for _, start in reversed(pairs):
        least = min(least, start)
        earliest.append(least)
    return [end for end, _ in pairs], earliest[::-1]


def first_use(time: int, ends: Sequence[int], earliest: Sequence[int]) -> int:
    """Return the earliest start that units refunded at `time` can have helped: of a call that was undecided at that time."""
    place = bisect.bisect_left(ends, time)
    return min(time, earliest[place]) if place < len(earliest) else time
