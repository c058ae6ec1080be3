"""The time of the servers that hold the table, told from the `Date` of their answers.

A `Date` is cut to the second. An answer that says D, to a request sent at t0 and answered at t1 by this machine's monotonic
clock, was made at a server's time between D and D + 1 s, and at a monotonic time between t0 and t1. So what has to be added to
monotonic time to get the server's lies between D - t1 and D + 1 s - t0. Every answer gives such an interval, and the truth lies
in all of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

DRIFT = 500
"""Parts per million by which a monotonic clock may run fast or slow: the most by which NTP slews it (RFC 5905; adjtimex(2))."""
SLACK = NANOSECONDS // 100
"""Nanoseconds by which the servers behind one address may disagree, or stamp an answer late."""
MAX_SKEW = 1.0
"""Seconds by which this machine's clock may differ from the server's before that is worth a warning."""


class _Anchor(NamedTuple):
    """What is added to monotonic time, and the bounds on it as of the monotonic time `at`; nanoseconds."""

    offset: int
    low: int
    high: int
    at: int

    def widened(self, now: int) -> tuple[int, int]:
        """The bounds as of `now`, after as much drift as there can have been since."""
        drift = _drift(now - self.at)
        return self.low - drift, self.high + drift


class ServerClock:
    """Tells the server's time: called, it returns integer nanoseconds since the epoch.

    Before the first answer it is this machine's own time. Then it counts on from an offset that changes only when an answer
    excludes it: to this machine's own time if the evidence allows that, since most machines are synchronised to milliseconds, and
    to the middle of what is possible if not. Between answers it never goes back, whatever becomes of the machine's clock; an
    answer moves it, either way, by what the evidence demands. `wall` and `monotonic` are this machine's clocks in nanoseconds.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._own = self._wall_offset()
        # Replaced as a whole, so that whoever reads sees one state. Of two threads that replace it at once, one loses what its
        # answer would have added to what is known; that makes nothing wrong, and so there is no lock.
        self._anchor: _Anchor | None = None
        self._parsed: tuple[str, int | None] = "", None

    def __call__(self) -> int:
        """The server's time, as far as it is known."""
        anchor = self._anchor
        return self.monotonic() + (self._own if anchor is None else anchor.offset)

    @property
    def error(self) -> float | None:
        """Seconds by which the time told may be wrong at most; None before the first answer."""
        anchor = self._anchor
        if anchor is None:
            return None
        low, high = anchor.widened(self.monotonic())
        return max(high - anchor.offset, anchor.offset - low) / NANOSECONDS

    @property
    def skew(self) -> float | None:
        """Seconds that this machine's own time is ahead, 0.0 while no answer contradicts it; None before the first answer."""
        anchor = self._anchor
        if anchor is None:
            return None
        own = self._look()[1]
        low, high = anchor.widened(self.monotonic())
        return 0.0 if low <= own <= high else (own - anchor.offset) / NANOSECONDS

    def observe(self, date: str, sent: int, answered: int) -> None:
        """Learn from the `Date` of an answer to a request made between two monotonic times; one that is no date is ignored.

        Where it contradicts all before it (the machine was suspended, the server's clock was set), it alone counts.
        """
        second = self._second(date)
        if second is None:
            return
        slack = SLACK + _drift(answered - sent)
        low, high = second - answered - slack, second + NANOSECONDS - sent + slack
        anchor = self._anchor
        if anchor is not None:
            before = anchor.widened(answered)
            if max(low, before[0]) <= min(high, before[1]):
                low, high = max(low, before[0]), min(high, before[1])
            if low <= anchor.offset <= high:
                self._anchor = _Anchor(anchor.offset, low, high, answered)
                return
        own = self._wall_offset()
        self._anchor = _Anchor(own if low <= own <= high else (low + high) // 2, low, high, answered)

    def observe_answer(self, answer: object, sent: int) -> None:
        """Learn from what botocore returned just now, or from the `response` of its error; without a date nothing is learnt."""
        answered = self.monotonic()
        try:
            date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]  # type: ignore[index] # whatever else it is has no date
        except (KeyError, TypeError):
            return
        self.observe(date, sent, answered)

    def _second(self, date: str) -> int | None:
        """The header's time in nanoseconds; most answers come in the same second as the one before."""
        text, second = self._parsed
        if text != date:
            second = _parse(date)
            self._parsed = date, second
        return second

    def _wall_offset(self) -> int:
        """What the machine's own time is ahead of its monotonic; of three looks the one least disturbed."""
        return min(self._look() for _ in range(3))[1]

    def _look(self) -> tuple[int, int]:
        before = self.monotonic()
        wall = self._wall()
        after = self.monotonic()
        return after - before, wall - (before + after) // 2


def _drift(elapsed: int) -> int:
    return abs(elapsed) * DRIFT // 1_000_000 + 1


def _parse(date: str) -> int | None:
    from email.utils import parsedate_to_datetime  # which imports sockets

    try:
        moment = parsedate_to_datetime(date)
        return int(moment.timestamp()) * NANOSECONDS if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
