"""The most that was admitted in any span of time, beyond what was given back and what refilled in it.

What is admitted counts at its `start`. No span of it exceeds what the limit allows, whatever the processes' clocks, since the
bucket stores times of the same clocks: the last one that was admitted found room by its own clock, and the first one took by its
own. A refund is written at some time in an interval. It counts in every span that it may have fallen into, so no right history is
found wrong.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from .reader import Change, Taking

RETURN, TAKE, REMEMBER, FORCE, RETURNED = range(5)
"""What happens at one time, in its order: whatever the order was in fact, this one excuses most."""


class Peak(NamedTuple):
    """The worst span: what is beyond the refill, in units times `period`, where it begins and ends, and who was admitted last."""

    level: int
    begin: int
    end: int
    last: str


NONE = Peak(0, 0, 0, "")


def peak(takings: Sequence[Taking], amount: int, period: int) -> Peak:
    """The worst span of `takings`, in the order of their starts, where nothing is given back.

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
    """The worst span where units are also taken unconditionally and given back.

    A refund may be in any span that touches the time in which it was written, also in one that begins while it is still pending.
    Unconditional takings count in the spans that surely contain them, and do not end one. A call of more than the capacity that a
    full bucket admits (`oversized`) counts as the capacity in its own span.
    """

    def __init__(self, amount: int, period: int, capacity: int, oversized: Container[str] = ()) -> None:
        self._amount = amount
        self._period = period
        self._capacity = capacity
        self._oversized = oversized
        self._pending = self._total = 0
        self._remembered: dict[int, tuple[int, int, int, int]] = {}

    def peak(self, takings: Iterable[Taking], forced: Iterable[Change], returned: Iterable[tuple[int, int, int]]) -> Peak:
        """The worst span. What is `returned` has a begin, an end, and a worth in units times `period`."""
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
            if level <= -self._pending:
                level, opened = -self._pending, time
            level += value * period
            self._total += value * period
            beyond = level - max(0, value - self._capacity) * period if identifier in oversized else level
            if beyond > worst.level:
                worst = Peak(beyond, opened, time, identifier)
        return worst

    def _change(self, what: int, value: int, number: int, state: tuple[int, int, int]) -> tuple[int, int]:
        """The level and the begin of the worst span after something other than an admission."""
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
            # Add to the spans that began before the taking did; those that began since may not contain it.
            before, since, total, at = self._remembered.pop(number)
            before += self._total - total - (time - at) * self._amount + value * self._period
            return (before, since) if before > level else (level, opened)
        return level, opened


def earliest_uses(takings: Iterable[Taking]) -> tuple[list[int], list[int]]:
    """The ends of `takings` in order, and for each of them the earliest start among the takings that end then or later."""
    pairs = sorted((end, start) for start, _, end, *_ in takings)
    earliest: list[int] = []
    least = 1 << 100
    for _, start in reversed(pairs):
        least = min(least, start)
        earliest.append(least)
    return [end for end, _ in pairs], earliest[::-1]


def first_use(time: int, ends: Sequence[int], earliest: Sequence[int]) -> int:
    """The earliest start that units given back at `time` can have helped: of a call that was not decided yet at that time."""
    place = bisect.bisect_left(ends, time)
    return min(time, earliest[place]) if place < len(earliest) else time
