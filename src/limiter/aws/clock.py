"""The time of the servers that hold the table, told from the `Date` of their answers.

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
"""Parts per million by which a monotonic clock may run fast or slow: the most by which NTP slews it (RFC 5905; adjtimex(2))."""
SLACK = NANOSECONDS // 100
"""Nanoseconds by which the servers behind one address may disagree, or stamp an answer late."""
MAX_SKEW = 1.0
"""Seconds by which this machine's clock may differ from the server's before that is worth a warning."""
JUMP = 3 * NANOSECONDS
"""Nanoseconds by which one answer may move the time on its own; for more, the wall clock or a second answer has to agree."""
UNDISTURBED = 2_000
"""Nanoseconds that a look at both clocks takes at most when nothing comes between."""
LEAST_APART, MOST_APART = NANOSECONDS // 20, NANOSECONDS
"""Nanoseconds by which wall and monotonic time may move apart: the stated error, but no less and no more than these."""


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

    def agrees(self, low: int, high: int, now: int) -> bool:
        """Whether bounds that an answer gives at `now` have something in common with these."""
        before = self.widened(now)
        return max(low, before[0]) <= min(high, before[1])

    def narrowed(self, low: int, high: int, now: int, own: int) -> _Anchor:
        """The anchor after an answer that agrees; its offset moves only if the bounds exclude it."""
        before = self.widened(now)
        low, high = max(low, before[0]), min(high, before[1])
        return _Anchor(self.offset, low, high, now) if low <= self.offset <= high else _anchored(low, high, now, own)

    def error(self, now: int) -> int:
        """Nanoseconds by which the offset may be wrong at most."""
        return max(self.high - self.offset, self.offset - self.low) + _drift(now - self.at)


class _Doubt(NamedTuple):
    """What one answer says that needs a second one to agree, and the offset of the wall clock when it came."""

    anchor: _Anchor
    wall: int


class _Known(NamedTuple):
    """All that is known: the anchor (None before the first answer), the wall clock's offset at the last answer, and the doubt."""

    anchor: _Anchor | None
    wall: int
    doubt: _Doubt | None = None

    @property
    def offset(self) -> int:
        """What is added to monotonic time; before the first answer, what gives the machine's own time."""
        return self.wall if self.anchor is None else self.anchor.offset

    def apart(self, now: int) -> int:
        """Nanoseconds by which wall and monotonic time may have moved apart since the last answer."""
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
        # Replaced as a whole, so that a reader sees one state. Of two threads that replace it at once, one loses what its
        # answer would have added to what is known; that makes nothing wrong, and so there is no lock.
        self._known = _Known(None, self._wall_offset())
        self._parsed: tuple[str, int | None] = "", None

    def __call__(self) -> int:
        """The server's time, as far as it is known."""
        return self.monotonic() + self._known.offset

    @property
    def error(self) -> float | None:
        """Seconds by which the time told may be wrong at most; None before the first answer."""
        known, now = self._known, self.monotonic()
        if known.anchor is None:
            return None
        moved = self._moved(known)
        apart = moved > LEAST_APART and moved > known.apart(now)  # Most of the time the first says it.
        return (known.anchor.error(now) + (moved if apart else 0)) / NANOSECONDS

    @property
    def trusted(self) -> bool:
        """Whether the time told may be relied on. If it is false, an answer has to come before anything is written by it.

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
        """Seconds that this machine's own time is ahead, 0.0 while no answer contradicts it; None before the first answer."""
        anchor = self._known.anchor
        if anchor is None:
            return None
        own = self._look()[1]
        low, high = anchor.widened(self.monotonic())
        return 0.0 if low <= own <= high else (own - anchor.offset) / NANOSECONDS

    def observe(self, date: str, sent: int, answered: int) -> None:
        """Learn from the `Date` of an answer to a request made between two monotonic times; one that is no date is ignored.

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
        if known.anchor is not None and agrees:
            anchor, counts = known.anchor.narrowed(low, high, answered, wall), calm
        else:
            anchor = _anchored(low, high, answered, wall)
            counts = _moves_rightly(known, anchor, wall, calm=calm)
        if counts:
            self._known = _Known(anchor, wall)
        elif known.anchor is None:
            self._known = _Known(anchor, wall, _Doubt(anchor, wall))
        else:
            self._known = known._replace(doubt=_Doubt(anchor, wall))

    def observe_answer(self, answer: object, sent: int) -> None:
        """Learn from what botocore returned just now, or from the `response` of its error."""
        answered = self.monotonic()
        try:
            date = answer["ResponseMetadata"]["HTTPHeaders"]["date"]  # type: ignore[index] # an answer of another type has no date
        except (KeyError, TypeError):
            self.observe_undated()
            return
        self.observe(date, sent, answered)

    def observe_undated(self) -> None:
        """Learn of an answer that tells no time. A time that is not trusted goes back to what was known, or to the wall clock."""
        known = self._known
        if self.trusted:
            return
        first = known.doubt is not None and known.doubt.anchor is known.anchor
        stood_still = self._moved(known) > known.apart(self.monotonic())
        self._known = _Known(None, self._wall_offset()) if first or stood_still else known._replace(doubt=None)

    def _second(self, date: str) -> int | None:
        """The header's time in nanoseconds; most answers come in the same second as the one before."""
        text, second = self._parsed
        if text != date:
            second = _parse(date)
            self._parsed = date, second
        return second

    def _moved(self, known: _Known) -> int:
        """Nanoseconds by which wall and monotonic time have surely moved apart since the last answer."""
        before = self.monotonic()
        wall = self._wall()
        after = self.monotonic()
        return abs(wall - (before + after) // 2 - known.wall) - (after - before)

    def _wall_offset(self) -> int:
        """What the machine's own time is ahead of its monotonic; of three looks the one least disturbed, unless one suffices."""
        first = self._look()
        return first[1] if first[0] <= UNDISTURBED else min(first, self._look(), self._look())[1]

    def _look(self) -> tuple[int, int]:
        before = self.monotonic()
        wall = self._wall()
        after = self.monotonic()
        return after - before, wall - (before + after) // 2


def _anchored(low: int, high: int, now: int, own: int) -> _Anchor:
    """An anchor at the machine's own time if the bounds allow that, and in their middle if not."""
    return _Anchor(own if low <= own <= high else (low + high) // 2, low, high, now)


def _confirms(doubt: _Doubt, low: int, high: int, sent: int, answered: int, wall: int) -> bool:
    """Whether an answer confirms an earlier one: it agrees, was asked for later, and the machine was not suspended in between."""
    return sent > doubt.anchor.at and abs(wall - doubt.wall) <= LEAST_APART and doubt.anchor.agrees(low, high, answered)


def _moves_rightly(known: _Known, anchor: _Anchor, wall: int, *, calm: bool) -> bool:
    """Whether an answer may move the time on its own: by little, or to where the wall clock is, or as far as that has moved."""
    if calm and abs(anchor.offset - known.offset) <= JUMP:
        return True
    low, high = anchor.low - LEAST_APART, anchor.high + LEAST_APART
    return low <= wall <= high or low <= known.offset + wall - known.wall <= high


def _drift(elapsed: int) -> int:
    return abs(elapsed) * DRIFT // 1_000_000 + 1


def _parse(date: str) -> int | None:
    from email.utils import parsedate_to_datetime  # which imports sockets

    try:
        moment = parsedate_to_datetime(date)
        return int(moment.timestamp()) * NANOSECONDS if moment.tzinfo is not None else None
    except (TypeError, ValueError, OverflowError):
        return None
