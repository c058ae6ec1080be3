"""Units that may have been in use in an interval, as far as a record tells."""

from __future__ import annotations

import bisect
import itertools
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Interval = tuple[int, int, int]
"""A use or a request at some time: begin, end, and nanoseconds of refill, or units."""


class Doubt(NamedTuple):
    """The most by which two clocks differ, and the longest time for which a refusal is remembered; in nanoseconds."""

    clock_error: int
    denial_ttl: int


class Uses:
    """Units requested, or in use, in intervals that touch another interval."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        begins, ends = [], []
        for begin, end, amount in intervals:
            begins.append((begin, amount))
            ends.append((end, amount))
        begins.sort()
        ends.sort()
        self._begins, self._begun = [each[0] for each in begins], self._sums(begins)
        self._ends, self._ended = [each[0] for each in ends], self._sums(ends)

    @staticmethod
    def _sums(pairs: Sequence[tuple[int, int]]) -> list[int]:
        return [0, *itertools.accumulate(each[1] for each in pairs)]

    def begun(self, time: int) -> int:
        """Return the units that had begun by a time."""
        return self._begun[bisect.bisect_right(self._begins, time)]

    def ended(self, time: int) -> int:
        """Return the units that had ended before a time."""
        return self._ended[bisect.bisect_left(self._ends, time)]

    def touching(self, begin: int, end: int) -> int:
        """Return the units that began by `end` and did not end before `begin`."""
        return self.begun(end) - self.ended(begin)


def reserve(headroom: float, whole: int) -> int:
    """Return the units that a call with headroom leaves to others, rounded up."""
    return -(-whole * Fraction(headroom) // 1).__floor__() if headroom else 0
