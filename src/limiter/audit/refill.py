"""Finds refusals of a rate that fit, by computing how full and how empty the bucket can have been."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from .reader import FOREVER, LATE
from .uses import Uses, reserve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .reader import Account, History
    from .rules import Rule
    from .uses import Doubt

REFUSED, TAKEN, GIVING, GIVEN = range(4)
"""Kinds of events at one time, in the order that excuses most, since the real order is unknown."""

Step = tuple[int, int, int, int, int]
"""What happens: time, what, nanoseconds or units, the other end of its interval, a number.

The number is a refund's or a refusal's place in its list; of a taking it is the nanoseconds rounded down.
"""


def fits_rate(account: Account, whole: Account, history: History, doubt: Doubt) -> Iterator[int]:
    """Return the refusals that fit: a bucket that fills as late as possible still has room."""
    rule, cost = account.rule, functools.cache(account.rule.cost)
    taken = [(begin, end, units) for _, begin, end, units, *_ in whole.takings]
    taken += [(begin, end, units) for begin, end, units, _ in (*whole.forced, *whole.doubts)]
    held = [(begin, end + doubt.denial_ttl, units) for begin, end, units, _ in whole.passing]
    if whole.booked or (whole.passing and whole.doubts):  # What a refused call gives back may be held back for those who wait.
        taken, held = taken + held, []
    bucket = _Bucket(whole, rule, doubt)
    uses = Uses((begin, end, cost(units)) for begin, end, units in taken + held)
    steps = [(end, TAKEN, cost(units), begin, rule.worth(units)) for begin, end, units in taken]
    steps += [(begin - doubt.clock_error, REFUSED, units, end, number) for begin, end, units, number in account.refusals]
    steps += [(begin, GIVING, cost(units), end, number) for number, (begin, end, units, _) in enumerate(whole.refunds)]
    steps += [(begin, GIVING, min(cost(units), end - begin), end, -1) for begin, end, units, _ in whole.passing]
    steps += [(begin, GIVING, cost(units), end, -1) for begin, end, units, _ in whole.withdrawals]
    steps += [(begin, GIVING, FOREVER, end, -1) for begin, end, _, _ in whole.resets]
    steps.sort()
    for time, _, amount, other, number in bucket.refused(steps, uses):
        end = other + doubt.clock_error
        most = bucket.level(time) + uses.touching(time, end) + end - time
        if most + cost(amount) + reserve(history.refusals[number].share(rule.name), rule.window) <= rule.window:
            yield number


class _Bucket:
    """Two bounds of a bucket: how full it is at most, and how long it has certainly not been idle.

    A refund has a worth only while the bucket has not been idle since the units were consumed, and while it takes nothing from
    callers who wait for their turn. Otherwise it counts as lost, so that more counts as in use.
    """

    def __init__(self, account: Account, rule: Rule, doubt: Doubt) -> None:
        self._refunds = account.refunds
        self._delay = doubt.denial_ttl + doubt.clock_error
        self._clock_error = doubt.clock_error
        self._most = self._least = self._before = self._then = self._checked = 0
        self._busy_since = -1
        self._promised = 0
        self._unseen: list[tuple[int, int]] = []
        self._returning = 0
        concerned = {each[3] for each in account.refunds}
        self._first: dict[str, int] = {}
        for begin, identifier in itertools.chain(
            ((each[1], each[4]) for each in account.takings), ((each[0], each[3]) for each in account.forced)
        ):
            if identifier in concerned:
                self._first[identifier] = min(begin, self._first.get(identifier, begin))
        turns = [(begin, start) for start, begin, *_ in account.takings if start > begin] if account.booked else []
        # What a refused call had booked, and for how long, is in no record.
        patient = {each[3] for each in account.doubts}
        turns += [(begin, FOREVER) for begin, _, _, identifier in account.passing if identifier in patient]
        self._turns = deque(sorted(turns))
        self._rule = rule

    def level(self, time: int) -> int:
        """Return the nanoseconds until the bucket is full again, at most. Times must not decrease from call to call."""
        left = self._most - (time - self._then)
        return max(0, left)

    def refused(self, steps: Iterable[Step], uses: Uses) -> Iterator[Step]:
        """Enter one step after another, and hand on each refusal at its time; refunds count when they are surely seen."""
        for step in steps:
            time, what, amount, other, number = step
            self._see(time)
            if what == REFUSED:
                yield step
                continue
            self._pass(time)
            if what == TAKEN:
                self._enter_most(time, amount)
                self._enter_least(time, other, number)
                continue
            worth = self._worth(number, time, other)
            if worth > 0:
                heapq.heappush(self._unseen, (other + self._delay, worth))
                self._returning += worth
            if self._before <= amount:  # The bucket may have been idle before anything else was taken.
                self._busy_since = max(self._busy_since, min(other, time + LATE))
            # Units consumed at the same time may come first, and be refunded in part.
            self._least = max(self._least - amount, min(0, self._least), -uses.touching(time, other))

    def _see(self, time: int) -> None:
        """Count the refunds that everybody has seen before a time."""
        while self._unseen and self._unseen[0][0] < time:
            at, worth = heapq.heappop(self._unseen)
            self._returning -= worth
            self._most, self._then = max(0, self.level(at) - worth), at

    def _enter_most(self, time: int, cost: int) -> None:
        """Take as late as can be; of a refund that is not seen yet, what would have refilled by now is worth nothing any more."""
        level = self.level(time)
        while self._returning > level:
            at, worth = heapq.heappop(self._unseen)
            left = max(0, worth - (self._returning - level))
            self._returning -= worth - left
            if left:
                heapq.heappush(self._unseen, (at, left))
        self._most, self._then = level + cost, time

    def _pass(self, time: int) -> None:
        """Let time pass for units that are certainly in use; a refund applies to units from before its own time."""
        if time > self._checked:
            if self._least > 0:
                self._least = max(0, self._least - (time - self._checked))
            self._checked, self._before = time, self._least

    def _enter_least(self, time: int, begin: int, cost: int) -> None:
        least = self._least
        left = least + cost - (time - begin)
        if least <= 0:
            if left > 0:
                self._busy_since = max(self._busy_since, begin)
            self._least = max(left, least)
        else:
            self._least = max(left, 0)

    def _worth(self, number: int, begin: int, end: int) -> int:
        """Return the nanoseconds that a refund certainly returns."""
        if number < 0:
            return 0
        while self._turns and self._turns[0][0] <= end:
            self._promised = max(self._promised, self._turns.popleft()[1])
        _, _, units, identifier = self._refunds[number]
        first = self._first.get(identifier, -1)
        if first < self._busy_since or self._busy_since < 0 or self._promised > begin:
            return 0
        return min(self._rule.worth(units), self._before - (end - begin) - self._clock_error)
