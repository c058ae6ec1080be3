"""What a batch of requests does to one rate: what it takes and gives back, and the conditions that this was built on.

Every kind of account has the methods of this one; `plan` knows no more of a kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state import ABSENT, UNBOUNDED, Change, Condition, Level
from ..units import NANOSECONDS
from . import gcra
from .births import birth, put_mark, rate_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..request import Refund
    from ..state import BucketState, Draft, View
    from .protocol import Account, Birth
    from .rate import Limit

DEBT_MARGIN = 86_400 * NANOSECONDS
"""Nanoseconds by which a bucket's debt may have grown unseen before a settlement has to look again."""


class RateAccount:
    """What the batch does to one rate, starting from `tat`, which is not before `now`.

    It takes `total` in all; `takes` is true also where that is 0. Where callers have to wait, the last of them leaves the bucket
    at `tat` moved on by `booked`, and `ceiling` is the latest `tat` from which the requests up to that one are still right. The
    requests behind it are still right up to `patient` if they may wait, and up to `prompt` if they must not. Up to `tightest` no
    request of the batch would have to wait. From `least` on those that were left out are left out rightly.

    A rate is `idle` when the bucket is full. One that is not stored yet, while others of its name are, `inherits` what they have
    used, and begins later than now; it is `born` when the update stores it. `enforced` says that not only shadows ask for it.
    """

    last = UNBOUNDED
    """The latest start that a caller may be promised: of a rate, any."""
    books = True
    """Whether a start ahead may be promised."""
    birth: Birth | None = None
    inherits = born = enforced = takes = False
    total = refunded = least = 0
    tightest = ceiling = patient = prompt = UNBOUNDED
    booked: int | None = None
    refunds: list[Refund] | None = None

    def __init__(self, limit: Limit, view: View, others: Mapping[str, Account]) -> None:
        # What most batches never change is left to the class.
        self.name = limit.name
        self.identity = limit.identity
        self.level = level = view.state.levels.get(limit.identity, ABSENT)
        self.now = now = view.now
        self.idle = level.tat <= now
        self.tat = now if self.idle else level.tat
        if level.tat < 0:
            self._bear(limit, view, others)

    def _bear(self, limit: Limit, view: View, others: Mapping[str, Account]) -> None:
        """Begin with the largest use of the name's other rates, though owing for no longer than the rate it is taken from."""
        self.birth = birth(limit, view, others)
        self.inherits = self.birth.inherits
        for identity in self.birth.siblings:
            rate, sibling = rate_of(identity), others.get(identity)
            tat = (view.state.level(identity) if sibling is None else sibling.met()).tat
            if rate is not None and tat > view.now:
                units, seconds = rate
                used = -(-(tat - view.now) * units // (seconds * NANOSECONDS))
                lag = min(gcra.cost(limit, min(used, limit.capacity)), tat - view.now)
                self.tat = max(self.tat, view.now + lag)

    @staticmethod
    def cost(limit: Limit, units: int) -> int:
        """What units cost, in the measure in which this kind of account counts."""
        return gcra.cost(limit, units)

    @staticmethod
    def price(limit: Limit, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """How far the account may be used by a request for units that leaves so much to others; and what they cost."""
        cost = gcra.cost(limit, units)
        if not cost:
            return limit.window, cost
        return max(limit.depth, cost) if oversize else limit.depth - reserve, cost

    @staticmethod
    def reserve(limit: Limit, numerator: int, denominator: int) -> int:
        """What a share of the limit, as a fraction, is worth in the account's measure; rounded up."""
        return -(-limit.window * numerator // denominator)

    @staticmethod
    def standing(limit: Limit, level: Level, now: int) -> tuple[int, int | None]:
        """Units that are available at a level, and nanoseconds until all are."""
        return gcra.available(limit, level.tat, now), max(0, level.tat - now)

    def met(self) -> Level:
        """The level that the next request of the batch meets."""
        return Level(self.tat + self.total)

    def earliest(self, bound: int, cost: int) -> int:
        """The time from which the rate allows a taking; not after now where that is at once, UNBOUNDED where it never is."""
        return self.tat + self.total + cost - bound if cost <= bound else UNBOUNDED

    def fits(self, bound: int, cost: int, most: int) -> int:
        """How many such takings fit now one after another, `most` at most; in debt not even one of 0 does."""
        room = self.now + bound - self.tat - self.total
        if room < 0:
            return 0
        return min(most, room // cost) if cost else most

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter takings that a write carries which was planned at the time `planned`."""
        tat = self.tat if self.inherits else max(self.level.tat, planned)
        self.tat = max(tat + count * cost, self.now)

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a taking that may start up to `patience` nanoseconds after now, and return the total so far.

        It has to fit, but for one whose `patience` is None: that is forced, into debt if need be.
        """
        self.takes = True
        self.total += cost
        if patience is not None:
            self._admit(bound, cost, patience)
        return self.total

    def _admit(self, bound: int, cost: int, patience: int) -> None:
        """Lower the bounds to what the taking, which is in the total already, was built on."""
        room = self.now + bound - self.total
        if not cost:
            self.ceiling = min(self.ceiling, room + patience)
            return
        if room < self.tightest:
            self.tightest = room
        if self.tat > room:
            self.booked = self.total
            self.ceiling = min(self.ceiling, self.patient, room + patience)
            self.patient = self.prompt = UNBOUNDED
            return
        if room < self.prompt:
            self.prompt = room
        if room + patience < self.patient:
            self.patient = room + patience

    def leave_out(self, bound: int, cost: int, patience: int) -> None:
        """Enter that a taking does not fit, so that a write of the batch asserts it."""
        if cost <= bound and not self.idle:
            self.least = max(self.least, self.now + bound + patience - self.total - cost + 1)

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after everything that the batch takes."""
        if self.refunds is None:
            self.refunds = []
        self.refunds.append(refund)

    def withdraw(self, draft: Draft, units: int) -> int:
        """Give back up to `units` of cost, of any caller, and return what that changes the total by.

        Nothing is given back beyond a full bucket, nor what a pending booking was built on.
        """
        level = self.level
        base = max(self.now, level.floor) if level.booked > self.now else self.now
        given = max(0, min(units, self.tat - base))
        if given and not self.inherits:
            draft.conditions.append(Condition(self.identity, "tat", base + given, None))
            draft.conditions += self._bookings_as_seen()
            draft.changes.append(Change(self.identity, "tat", "tat", -given))
            self.total -= given
        return self.total

    def write(self, draft: Draft) -> int:
        """Add the rate's part of the update, and return how far into the future its `tat` can be left.

        The cases, by what is taken and by the state that it is taken from:

        1. nothing is taken: the refunds alone;
        2. born beside others: the account is written also where nothing is taken, since its refill begins there;
        3. amounts of 0: only the ceiling is asserted;
        4. idle: `tat` starts again from now, and a new busy period begins, which voids every refund of an older one;
        5. busy: `tat` moves on by the total;
        6. busy with callers who wait: the start of the last of them is stored as well, and nothing is given back.
        """
        if self.inherits and (self.takes or self.tat > self.now):
            return self._write_birth(draft)
        if not self.takes:
            if self.least > self.now:
                draft.reasons.append(Condition(self.identity, "tat", self.least, None))
            self._write_refunds(draft)
            return self.now
        ceiling = self._ceiling()
        if not self.total:
            least = self.least or None
            draft.conditions.append(Condition(self.identity, "tat", least, ceiling, absent=least is None))
            self._write_refunds(draft)
            return self.now
        if self.idle:
            draft.conditions.append(Condition(self.identity, "tat", None, self.now, absent=True))
            self._write_start(draft)
            return self.now + self.total
        if self._keeps_booked():
            ceiling = min(ceiling, self.tat)
        draft.conditions.append(Condition(self.identity, "tat", max(self.now + 1, self.least), ceiling))
        if self.booked is not None:
            self._write_booking(draft)
        elif self.refunds:
            self._write_refunds(draft)
        if not self.refunded:
            draft.changes.append(Change(self.identity, "tat", "tat", self.total))
        return ceiling + self.total

    def _write_birth(self, draft: Draft) -> int:
        """Add the account's first state, on condition that its name was not used by a newer account since."""
        if self.birth is None or not (self.takes or self.enforced or draft.changes):
            return self.now
        draft.conditions.append(Condition(self.identity, "tat", None, None, absent=True))
        if self.total or self.tat > self.now:
            self._write_start(draft)
            self.born = True
        return self.tat + self.total

    def _write_start(self, draft: Draft) -> None:
        if self.birth is not None:
            put_mark(draft, self.birth.mark)
        draft.changes.append(Change(self.identity, "tat", None, self.tat + self.total))
        draft.changes.append(Change(self.identity, "since", None, self._new_since()))
        self._write_booking(draft)

    def _new_since(self) -> int:
        # Later than the last, also within the nanosecond of a reset, which ends what was taken before it.
        return max(self.now, self.level.since + 1)

    def ground(self, after: BucketState) -> tuple[int, int]:
        """The `tat` that the batch met in fact, and the busy period that it belongs to, once the update has left `after`."""
        level = after.levels.get(self.identity, ABSENT)
        if (self.idle and self.total) or self.inherits:
            return self.tat, level.since
        return max(self.now, level.tat - self.total + self.refunded), level.since

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """The latest `tat` that the batch can have met, and the busy period it was planned for, once others have written too.

        A busy period that is over voids refunds. The one in `after` may have begun since, and would pay out of what others took.
        """
        if (self.idle and self.total) or self.inherits:
            return self.tat, self._new_since()
        met = after.level(self.identity).tat - self.total + self.refunded
        return max(self.now, min(met, self._ceiling())), self.level.since

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
        base, origin = (None, self.tat) if self.idle else ("tat", 0)
        draft.changes.append(Change(self.identity, "floor", base, origin + self.booked))
        if self._keeps_booked():
            draft.conditions.append(Condition(self.identity, "booked", self.tat + self.now - self.tightest, None))
        else:
            draft.changes.append(Change(self.identity, "booked", base, origin + self.now - self.tightest))

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
                draft.conditions.append(Condition(self.identity, "tat", floor + undone + plain - self.total, None))
        self.refunded = undone + plain
        reasons = [Condition(self.identity, "since", level.since, level.since), *self._bookings_as_seen()]
        if not self.refunded:
            # What bookings hold back may be free by now: any other write of the batch asserts that it is not.
            draft.reasons += reasons if alive else []
            return
        draft.conditions += reasons
        draft.changes.append(Change(self.identity, "tat", "tat", self.total - self.refunded))
        if undone:
            draft.changes.append(Change(self.identity, "floor", "floor", -undone))
        if booked < level.booked:
            draft.changes.append(Change(self.identity, "booked", None, booked))

    def _bookings_as_seen(self) -> list[Condition]:
        """The conditions that the pending bookings are those of the state, or that there are none."""
        level = self.level
        if level.booked <= self.now:
            return [Condition(self.identity, "booked", None, self.now, absent=True)]
        return [
            Condition(self.identity, "booked", level.booked, level.booked),
            Condition(self.identity, "floor", level.floor, level.floor),
        ]


def undo_last_bookings(level: Level, refunds: Iterable[Refund] | Sequence[Refund], now: int) -> tuple[int, int]:
    """Take back bookings that nothing was built on, the latest first; return their cost and the latest start left.

    The booking that reaches up to the floor is the last. With it gone, no pending start under its window can lie after the level
    that it was built on less that window; under other windows, none that was known can lie after the latest at that time.
    """
    undone, booked = 0, level.booked
    for refund in sorted(refunds, key=lambda each: each.level, reverse=True):
        if refund.start > now and refund.level == level.floor - undone and refund.earlier < UNBOUNDED:
            undone += refund.cost
            # For an amount within the capacity this is its start less its cost.
            left = max(refund.level - refund.cost - refund.limit.depth, refund.earlier)  # type: ignore[attr-defined] # a rate
            booked = left if refund.start == booked else booked
    return undone, booked
