"""What a batch of requests does to one rate: what it takes and gives back, and the conditions that this was built on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state import Change, Condition
from ..units import NANOSECONDS
from . import gcra

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..request import Refund
    from ..state import Draft, Level
    from .rate import Limit

DEBT_MARGIN = 86_400 * NANOSECONDS
"""Nanoseconds by which a bucket's debt may have grown unseen before a settlement has to look again."""
UNBOUNDED = 1 << 100
"""Later than any time in nanoseconds, and no less so where Python's words have 32 bits."""


class RateAccount:
    """What the batch does to one rate, starting from `tat`, which is not before `now`.

    It takes `total` in all; `takes` is true also where that is 0. Where callers have to wait, the last of them leaves the bucket
    at `tat` moved on by `booked`, and `ceiling` is the latest `tat` from which the requests up to that one are still right. The
    requests behind it are still right up to `patient` if they may wait, and up to `prompt` if they must not. Up to `tightest` no
    request of the batch would have to wait.
    """

    __slots__ = (
        *("booked", "ceiling", "idle", "level", "name", "now", "patient", "prompt", "refunded", "refunds", "takes"),
        *("tat", "tightest", "total"),
    )

    def __init__(self, name: str, level: Level, now: int) -> None:
        self.name = name
        self.level = level
        self.now = now
        self.tat = max(level.tat, now)
        self.idle = level.tat <= now
        self.takes = False
        self.total = 0
        self.tightest = self.ceiling = self.patient = self.prompt = UNBOUNDED
        self.booked: int | None = None
        self.refunds: list[Refund] = []
        self.refunded = 0

    def take(self, limit: Limit, cost: int, patience: int | None) -> int:
        """Enter a taking that may start up to `patience` nanoseconds after now, and return the total so far.

        It has to fit, but for one whose `patience` is None: that is forced, into debt if need be.
        """
        self.takes = True
        self.total += cost
        if patience is not None:
            self._admit(limit, cost, patience)
        return self.total

    def _admit(self, limit: Limit, cost: int, patience: int) -> None:
        """Lower the bounds to what the taking, which is in the total already, was built on."""
        room = self.now + limit.window - self.total
        if not cost:
            self.ceiling = min(self.ceiling, room + patience)
            return
        self.tightest = min(self.tightest, room)
        if self.tat > room:
            self.booked = self.total
            self.ceiling = min(self.ceiling, self.patient, room + patience)
            self.patient = self.prompt = UNBOUNDED
        else:
            self.patient = min(self.patient, room + patience)
            self.prompt = min(self.prompt, room)

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after everything that the batch takes."""
        self.refunds.append(refund)

    def write(self, draft: Draft) -> int:
        """Add the rate's part of the update, and return how far into the future its `tat` can be left.

        The cases, by what is taken and by the state that it is taken from:

        1. nothing is taken: the refunds alone;
        2. amounts of 0: only the ceiling is asserted;
        3. idle: `tat` starts again from now, and a new busy period begins, which voids every refund of an older one;
        4. busy: `tat` moves on by the total;
        5. busy with callers who wait: the start of the last of them is stored as well, and nothing is given back.
        """
        if not self.takes:
            self._write_refunds(draft)
            return self.now
        ceiling = self._ceiling()
        if not self.total:
            draft.conditions.append(Condition(self.name, "tat", None, ceiling, absent=True))
            self._write_refunds(draft)
            return self.now
        if self.idle:
            draft.conditions.append(Condition(self.name, "tat", None, self.now, absent=True))
            draft.changes.append(Change(self.name, "tat", None, self.now + self.total))
            draft.changes.append(Change(self.name, "since", None, self.now))
            self._write_booking(draft)
            return self.now + self.total
        if self._keeps_booked():
            ceiling = min(ceiling, self.tat)
        draft.conditions.append(Condition(self.name, "tat", self.now + 1, ceiling))
        self._write_booking(draft)
        if self.booked is None:
            self._write_refunds(draft)
        if not self.refunded:
            draft.changes.append(Change(self.name, "tat", "tat", self.total))
        return ceiling + self.total

    def ground(self, after: Level) -> tuple[int, int]:
        """The `tat` that the batch met in fact, and the busy period that it belongs to, once the update has left `after`."""
        if self.idle and self.total:
            return self.now, after.since
        return max(self.now, after.tat - self.total + self.refunded), after.since

    def _ceiling(self) -> int:
        """The latest `tat` from which every taking of the batch is still right, in its order.

        Behind the last planned booking no taking may have to wait in fact, since its start would not be on record.
        """
        ceiling = min(self.ceiling, self.prompt)
        return self.tat + DEBT_MARGIN if ceiling == UNBOUNDED else ceiling

    def _keeps_booked(self) -> bool:
        """Whether a caller under another window was promised a later start, which has to stay on record."""
        return self.booked is not None and self.tat + self.now - self.tightest < self.level.booked

    def _write_booking(self, draft: Draft) -> None:
        if self.booked is None:
            return
        base, origin = (None, self.now) if self.idle else ("tat", 0)
        draft.changes.append(Change(self.name, "floor", base, origin + self.booked))
        if self._keeps_booked():
            draft.conditions.append(Condition(self.name, "booked", self.tat + self.now - self.tightest, None))
        else:
            draft.changes.append(Change(self.name, "booked", base, origin + self.now - self.tightest))

    def _write_refunds(self, draft: Draft) -> None:
        """Add what the rate gets back: nothing of an older busy period, nothing that a pending booking was built on."""
        if not self.refunds:
            return
        level = self.level
        alive = [refund for refund in self.refunds if refund.since == level.since]
        undone, booked = undo_last_bookings(level, alive, self.now)
        plain = sum(refund.cost for refund in alive) - undone
        if plain and booked > self.now:
            # Other callers were promised starts up to the floor; only what was taken above it is free.
            floor = level.floor - undone
            plain = min(plain, max(0, self.tat + self.total - undone - floor))
            if plain:
                draft.conditions.append(Condition(self.name, "tat", floor + undone + plain - self.total, None))
        self.refunded = undone + plain
        reasons = self._reasons_of_refunds()
        if not self.refunded:
            # What bookings hold back may be free by now: any other write of the batch asserts that it is not.
            draft.reasons += reasons if alive else []
            return
        draft.conditions += reasons
        draft.changes.append(Change(self.name, "tat", "tat", self.total - self.refunded))
        if undone:
            draft.changes.append(Change(self.name, "floor", "floor", -undone))
        if booked < level.booked:
            draft.changes.append(Change(self.name, "booked", None, booked))

    def _reasons_of_refunds(self) -> list[Condition]:
        level = self.level
        reasons = [Condition(self.name, "since", level.since, level.since)]
        if level.booked > self.now:
            reasons.append(Condition(self.name, "booked", level.booked, level.booked))
            reasons.append(Condition(self.name, "floor", level.floor, level.floor))
        else:
            reasons.append(Condition(self.name, "booked", None, self.now, absent=True))
        return reasons


def fitting(limit: Limit, tat: int, cost: int, most: int, now: int) -> int:
    """How many takings of `cost` fit at `now` one after another, `most` at most; in debt not even one of 0 does."""
    room = now - gcra.start(limit, tat)
    if room < 0:
        return 0
    return min(most, room // cost) if cost else most


def undo_last_bookings(level: Level, refunds: Iterable[Refund] | Sequence[Refund], now: int) -> tuple[int, int]:
    """Take back bookings that nothing was built on, the latest first; return their cost and the latest start left.

    The booking that reaches up to the floor is the last. With it gone, no pending start under its window can lie after its own
    less its cost; under other windows, none that was known can lie after the latest at that time.
    """
    undone, booked = 0, level.booked
    for refund in sorted(refunds, key=lambda each: each.level, reverse=True):
        if refund.start > now and refund.level == level.floor - undone:
            undone += refund.cost
            booked = max(refund.start - refund.cost, refund.earlier) if refund.start == booked else booked
    return undone, booked
