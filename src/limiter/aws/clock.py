"""The time of the servers that hold the table, told from the `Date` of their responses.

A `Date` is cut to the second. An answer that says D, to a request sent at t0 and answered at t1 by this machine's monotonic
clock, was made at a server's time between D and D + 1 s, and at a monotonic time between t0 and t1. So what has to be added to
monotonic time to get the server's lies between D - t1 and D + 1 s - t0. Every answer gives such an interval, and the truth lies
in all of them.

Monotonic time stands still while a function is frozen, a snapshot is restored or a laptop is suspended. The machine's wall clock
shows that: since the last answer it has moved apart from monotonic time. Then the clock is not `trusted` until an answer sets it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ..core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

DRIFT = 500
"""Parts per million by which a monotonic clock may be fast or slow: the most by which NTP slews it (RFC 5905; adjtimex(2))."""
SLACK = NANOSECONDS // 100
"""Nanoseconds by which the servers behind one address may disagree, or stamp a response late."""
MAX_SKEW = 1.0
"""Seconds by which this machine's clock may differ from the server's without a warning."""
JUMP = 3 * NANOSECONDS
"""Nanoseconds by which one response may move the time alone; for more, the wall clock or a second response has to agree."""
UNDISTURBED = 2_000
"""Nanoseconds that reading both clocks takes at most if nothing interrupts it."""
LEAST_APART, MOST_APART = NANOSECONDS // 20, NANOSECONDS
"""Nanoseconds by which wall and monotonic time may move apart: the stated error, within these bounds."""


class _Anchor(NamedTuple):
    """The offset from monotonic time, and its bounds as of the monotonic time `at`; in nanoseconds."""

    offset: int
    low: int
    high: int
    at: int

    def widened(self, now: int) -> tuple[int, int]:
        """Return the bounds as of `now`, after the largest possible drift."""
        drift = _drift(now - self.at)
        return self.low - drift, self.high + drift

    def agrees(self, low: int, high: int, now: int) -> bool:
        """Tell whether the bounds of a response at `now` overlap with these."""
        before = self.widened(now)
        return max(low, before[0]) <= min(high, before[1])

    def narrowed(self, low: int, high: int, now: int, own: int) -> _Anchor:
        """Return the anchor after a response that agrees; its offset moves only if the bounds exclude it."""
        before = self.widened(now)
        low, high = max(low, before[0]), min(high, before[1])
        return _Anchor(self.offset, low, high, now) if low <= self.offset <= high else _anchored(low, high, now, own)

    def error(self, now: int) -> int:
        """Return the nanoseconds by which the offset may be wrong at most."""
        return max(self.high - self.offset, self.offset - self.low) + _drift(now - self.at)


class _Doubt(NamedTuple):
    """The content of a response that needs a second one to agree, and the offset of the wall clock when it came."""

    anchor: _Anchor
    wall: int


class _Known(NamedTuple):
    """The known state: the anchor (None before the first response), the wall clock's offset at the last one, and the doubt."""

    anchor: _Anchor | None
    wall: int
    doubt: _Doubt | None = None

    @property
    def offset(self) -> int:
        """The offset from monotonic time; before the first response, the one that gives the machine's own time."""
        return self.wall if self.anchor is None else self.anchor.offset

    def apart(self, now: int) -> int:
        """Return the nanoseconds by which wall and monotonic time may have moved apart since the last response."""
        error = MOST_APART if self.anchor is None else self.anchor.error(now)
        return min(max(error, LEAST_APART), MOST_APART)


class ServerClock:
    """Tells the server's time: called, it returns integer nanoseconds since the epoch.

    Before the first answer it is this machine's own time. Then it counts on from an offset that changes only when an answer
    excludes it: to this machine's own time if the evidence allows that, since most machines are synchronised to milliseconds, and
    to the middle of what is possible if not. Between responses it never goes back, even if the machine's clock is set. A
    response moves it, either way, as far as evidence requires. `wall` and `monotonic` are this machine's clocks in nanoseconds.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns) -> None:
        self.monotonic = monotonic
        self._wall = wall
        # Replaced as a whole, so that a reader sees one state. If two threads replace it at once, one loses what its
        # response would have added. That makes nothing wrong, so there is no lock.
        self._known = _Known(None, self._wall_offset())
        self._parsed: tuple[str, int | None] = "", None

    def __call__(self) -> int:
        """Return the server's time in nanoseconds since the epoch, as far as it is known."""
        return self.monotonic() + self._known.offset

    @property
    def error(self) -> float | None:
        """Seconds by which the time may be wrong at most; None before the first response."""
        known, now = self._known, self.monotonic()
        if known.anchor is None:
            return None
        moved = self._moved(known)
        apart = moved > LEAST_APART and moved > known.apart(now)  # Most of the time the first comparison suffices.
        return (known.anchor.error(now) + (moved if apart else 0)) / NANOSECONDS

    @property
    def trusted(self) -> bool:
        """Whether the time can be trusted. If not, a response has to come before anything is written by it.

        It is false once wall and monotonic time have moved apart by more than the stated error since the last answer (the machine
        was suspended, or its clock was set), and after an answer that needs a second one to agree.
        """
        known = self._known
        if known.doubt is not None:
            return False
        moved = self._moved(known)
        return moved <= LEAST_APART or moved <= known.apart(self.monotonic())

    @property
    def skew(self) -> float | None:
        """Seconds that this machine's own time is ahead, 0.0 while no response contradicts it; None before the first response."""
        anchor = self._known.anchor
        if anchor is None:
            return None
        own = self._look()[1]
        low, high = anchor.widened(self.monotonic())
        return 0.0 if low <= own <= high else (own - anchor.offset) / NANOSECONDS

    def observe(self, date: str, sent: int, answered: int) -> None:
        """Learn from the `Date` of a response to a request made between two monotonic times; an invalid date is ignored.

        An answer that contradicts all before it counts alone if it moves the time by little, or if the wall clock agrees. If not,
        or if wall and monotonic time have moved apart although the answer agrees with those before (the machine may have been
        suspended during the call), the next answer decides.
        """
        second = self._second(date)
        if second is None:
            return
        slack = SLACK + _drift(answered - sent)
        low, high = second - answered - slack, second + NANOSECONDS - sent + slack
        known, wall = self._known, self._wall_offset()
        doubt, calm = known.doubt, abs(wall - known.wall) <= known.apart(answered)
        agrees = known.anchor is not None and known.anchor.agrees(low, high, answered)
        if doubt is not None and _confirms(doubt, low, high, sent, answered, wall):
            self._known = _Known(doubt.anchor.narrowed(low, high, answered, wall), wall)
            return
        if known.anchor is not None and agrees and calm:
            anchor, counts = known.anchor.narrowed(low, high, answered, wall), True
        else:  # Bounds from before a freeze say nothing of the time after it, also where they overlap.
            anchor = _anchored(low, high, answered, wall)
            counts = not agrees and _moves_rightly(known, anchor, wall, calm=calm)
        if counts:
            self._known = _Known(anchor, wall)
        elif known.anchor is None:
            self._known = _Known(anchor, wall, _Doubt(anchor, wall))
        else:
            self._known = known._replace(doubt=_Doubt(anchor, wall))

    def observe_answer(self, answer: object, sent: int) -> None:
        """Learn from what botocore has just returned, or from the `response` of its error."""
        answered = self.monotonic()
        try:
            date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]  # type: ignore[index] # an answer of another type has no date
        except (KeyError, TypeError):
            self.observe_undated()
            return
        self.observe(date, sent, answered)

    def observe_undated(self) -> None:
        """Learn from a response without a time. An untrusted time goes back to what was known, or to the wall clock."""
        known = self._known
        if self.trusted:
            return
        first = known.doubt is not None and known.doubt.anchor is known.anchor
        stood_still = self._moved(known) > known.apart(self.monotonic())
        self._known = _Known(None, self._wall_offset()) if first or stood_still else known._replace(doubt=None)

    def _second(self, date: str) -> int | None:
        """Return the header's time in nanoseconds; most responses come in the same second as the one before."""
        text, second = self._parsed
        if text != date:
            second = _parse(date)
            self._parsed = date, second
        return second

    def _moved(self, known: _Known) -> int:
        """Return the nanoseconds by which wall and monotonic time have certainly moved apart since the last response."""
        before = self.monotonic()
        wall = self._wall()
        after = self.monotonic()
        return abs(wall - (before + after) // 2 - known.wall) - (after - before)

    def _wall_offset(self) -> int:
        """Return the machine's own time minus its monotonic time; of three readings the least disturbed, unless one suffices."""
        first = self._look()
        return first[1] if first[0] <= UNDISTURBED else min(first, self._look(), self._look())[1]

    def _look(self) -> tuple[int, int]:
        before = self.monotonic()
        wall = self._wall()
        after = self.monotonic()
        return after - before, wall - (before + after) // 2


def _anchored(low: int, high: int, now: int, own: int) -> _Anchor:
    """Return an anchor at the machine's own time if the bounds allow that, and in their middle otherwise."""
    return _Anchor(own if low <= own <= high else (low + high) // 2, low, high, now)


def _confirms(doubt: _Doubt, low: int, high: int, sent: int, answered: int, wall: int) -> bool:
    """Tell whether a response confirms an earlier one: it agrees, was requested later, and no suspension came between."""
    return sent > doubt.anchor.at and abs(wall - doubt.wall) <= LEAST_APART and doubt.anchor.agrees(low, high, answered)


def _moves_rightly(known: _Known, anchor: _Anchor, wall: int, *, calm: bool) -> bool:
    """Tell whether a response may move the time alone: by little, or to where the wall clock is, or as far as that has moved."""
    if calm and abs(anchor.offset - known.offset) <= JUMP:
        return True
    low, high = anchor.low - LEAST_APART, anchor.high + LEAST_APART
    return low <= wall <= high or low <= known.offset + wall - known.wall <= high


def _drift(elapsed: int) -> int:
    return abs(elapsed) * DRIFT // 1_000_000 + 1


def _parse(date: str) -> int | None:
    from email.utils import parsedate_to_datetime  # This imports sockets.

    try:
        moment = parsedate_to_datetime(date)
        return int(moment.timestamp()) * NANOSECONDS if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
