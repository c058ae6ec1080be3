"""The account of a rate in a batch: what the batch takes and refunds, and the conditions that this depends on.

Accounts of every kind have the same methods; `plan` knows nothing else of a kind.
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
"""Nanoseconds by which a bucket's debt may have grown unseen before a correction has to read the bucket again."""


class RateAccount:
    """The charges and refunds of a batch to one rate, starting from `tat`, which is not before `now`.

    The batch takes `total`; `takes` is true if there is a charge, even of 0. If callers have to wait, the last of them leaves the
    bucket at `tat` + `booked`, and `ceiling` is the latest `tat` from which the requests up to that one are still correct. The
    requests behind it are still correct up to `patient` if they may wait, and up to `prompt` if they must not. Up to `tightest`
    no request of the batch has to wait. From `least` on, the charges that were left out do not fit.

    A rate is `idle` when the bucket is full. A rate that is not stored yet, while others of its name are, `inherits` what they
    have used, and begins later than now; it is `born` when the update stores it. `enforced` means that not only shadows use it.
    """

    last = UNBOUNDED
    """The latest start that a caller may be promised; a rate has no bound."""
    books = True
    """Whether a future start may be promised."""
    birth: Birth | None = None
    inherits = born = enforced = takes = False
    total = refunded = least = 0
    tightest = ceiling = patient = prompt = UNBOUNDED
    booked: int | None = None
    refunds: list[Refund] | None = None

    def __init__(self, limit: Limit, view: View, others: Mapping[str, Account]) -> None:
        # Attributes that most batches never change are left to the class.
        self.name = limit.name
        self.identity = limit.identity
        self.level = level = view.state.levels.get(limit.identity, ABSENT)
        self.now = now = view.now
        self.idle = level.tat <= now
        self.tat = now if self.idle else level.tat
        if level.tat < 0:
            self._bear(limit, view, others)

    def _bear(self, limit: Limit, view: View, others: Mapping[str, Account]) -> None:
        """Begin with the largest use of the name's other rates, but refill it no later than that rate would."""
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
        """Return the cost of units in this account's measure: nanoseconds of refill."""
        return gcra.cost(limit, units)

    @staticmethod
    def units(limit: Limit, cost: int) -> int:
        """Return the units of a cost."""
        return gcra.units(limit, cost)

    @staticmethod
    def price(limit: Limit, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """Return how far the account may be used by a request that leaves a reserve to others, and the cost of its units."""
        cost = gcra.cost(limit, units)
        if not cost:
            return limit.window, cost
        return max(limit.depth, cost) if oversize else limit.depth - reserve, cost

    @staticmethod
    def reserve(limit: Limit, numerator: int, denominator: int) -> int:
        """Return the nanoseconds of a share of the limit, given as a fraction; rounded up."""
        return -(-limit.window * numerator // denominator)

    @staticmethod
    def standing(limit: Limit, level: Level, now: int) -> tuple[int, int | None]:
        """Return the units that are available at a level, and the nanoseconds until all are."""
        return gcra.available(limit, level.tat, now), max(0, level.tat - now)

    def met(self) -> Level:
        """Return the level that the next request of the batch meets."""
        return Level(self.tat + self.total)

    def earliest(self, bound: int, cost: int) -> int:
        """Return the time from which the rate allows a charge: at most now if at once, UNBOUNDED if never."""
        return self.tat + self.total + cost - bound if cost <= bound else UNBOUNDED

    def fits(self, bound: int, cost: int, most: int) -> int:
        """Return how many such charges fit now in a row, up to `most`; in debt not even one of 0 does."""
        room = self.now + bound - self.tat - self.total
        if room < 0:
            return 0
        return min(most, room // cost) if cost else most

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter charges of a write that was planned at the time `planned`."""
        tat = self.tat if self.inherits else max(self.level.tat, planned)
        self.tat = max(tat + count * cost, self.now)

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a charge that may start up to `patience` nanoseconds after now, and return the total so far.

        It has to fit, unless its `patience` is None: then it is forced, into debt if necessary.
        """
        self.takes = True
        self.total += cost
        if patience is not None:
            self._admit(bound, cost, patience)
        return self.total

    def _admit(self, bound: int, cost: int, patience: int) -> None:
        """Lower the bounds to the state that the charge, already in the total, depends on."""
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
        """Record that a charge does not fit, so that a write of the batch asserts it."""
        if cost <= bound and not self.idle:
            self.least = max(self.least, self.now + bound + patience - self.total - cost + 1)

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after all charges of the batch."""
        if self.refunds is None:
            self.refunds = []
        self.refunds.append(refund)

    def withdraw(self, draft: Draft, units: int) -> int:
        """Refund up to `units` of cost, of any caller, and return the change of the total.

        Nothing is refunded beyond a full bucket, nor units that a pending booking depends on.
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
        """Add the rate's part of the update, and return the latest `tat` that it can leave.

        The cases, by the charges and by the state before them:

        1. nothing is taken: only the refunds;
        2. born beside others: the account is written even if nothing is taken, because its refill begins there;
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
        """Add the account's first state, on condition that no newer account of its name exists."""
        if self.birth is None or not (self.takes or self.enforced or draft.changes or draft.slots):
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
        if self.level.since >= self.now:  # Others who know the same would give their busy period the same number.
            draft.conditions.append(Condition(self.identity, "since", self.level.since, self.level.since))
        self._write_booking(draft)

    def _new_since(self) -> int:
        # Later than the last, even within the nanosecond of a reset, which voids earlier refunds.
        return max(self.now, self.level.since + 1)

    def ground(self, after: BucketState) -> tuple[int, int]:
        """Return the `tat` that the batch actually met, and its busy period; the state is now `after`."""
        level = after.levels.get(self.identity, ABSENT)
        if (self.idle and self.total) or self.inherits:
            return self.tat, level.since
        return max(self.now, level.tat - self.total + self.refunded), level.since

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """Return the latest `tat` that the batch can have met, and its planned busy period; other processes have written too.

        The end of a busy period voids refunds. The busy period in `after` may be a later one, whose units others have taken.
        """
        if (self.idle and self.total) or self.inherits:
            return self.tat, self._new_since()
        met = after.level(self.identity).tat - self.total + self.refunded
        return max(self.now, min(met, self._ceiling())), self.level.since

    def _ceiling(self) -> int:
        """Return the latest `tat` from which every charge of the batch, in its order, is still correct.

        No charge behind the last planned booking may have to wait, because its start would not be on record.
        """
        ceiling = min(self.ceiling, self.prompt)
        return self.tat + DEBT_MARGIN if ceiling == UNBOUNDED else ceiling

    def _keeps_booked(self) -> bool:
        """Tell whether a caller with another window was promised a later start, which has to stay on record."""
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
        """Add the refunds of the rate, except those of an older busy period and of units that a pending booking depends on."""
        if not self.refunds:
            return
        level = self.level
        alive = [refund for refund in self.refunds if refund.since == level.since]
        undone, booked = undo_last_bookings(level, alive, self.now)
        plain = sum(refund.cost for refund in alive) - undone
        if plain and booked > self.now:
            # Other callers were promised starts up to the floor; only units above it can be refunded.
            floor = level.floor - undone
            plain = min(plain, max(0, self.tat + self.total - undone - floor))
            if plain:
                draft.conditions.append(Condition(self.identity, "tat", floor + undone + plain - self.total, None))
        self.refunded = undone + plain
        reasons = [Condition(self.identity, "since", level.since, level.since), *self._bookings_as_seen()]
        if not self.refunded:
            # Units that bookings hold back may be free by now: any other write of the batch asserts that they are not.
            draft.reasons += reasons if alive else []
            return
        draft.conditions += reasons
        draft.changes.append(Change(self.identity, "tat", "tat", self.total - self.refunded))
        if undone:
            draft.changes.append(Change(self.identity, "floor", "floor", -undone))
        if booked < level.booked:
            draft.changes.append(Change(self.identity, "booked", None, booked))

    def _bookings_as_seen(self) -> list[Condition]:
        """Return the conditions that the pending bookings are as in the state, or that there are none."""
        level = self.level
        if level.booked <= self.now:
            return [Condition(self.identity, "booked", None, self.now, absent=True)]
        return [
            Condition(self.identity, "booked", level.booked, level.booked),
            Condition(self.identity, "floor", level.floor, level.floor),
        ]


def undo_last_bookings(level: Level, refunds: Iterable[Refund] | Sequence[Refund], now: int) -> tuple[int, int]:
    """Undo bookings that no later booking depends on, the latest first; return their cost and the latest start that is left.

    The last booking is the one that reaches the floor. Without it, no pending start with the same window is later than the level
    before it less that window. With other windows, no known start is later than the latest one at that time.
    """
    undone, booked = 0, level.booked
    for refund in sorted(refunds, key=lambda each: each.level, reverse=True):
        if refund.start > now and refund.level == level.floor - undone and refund.earlier < UNBOUNDED:
            undone += refund.cost
            # For an amount within the capacity this is its start less its cost.
            left = max(refund.level - refund.cost - refund.limit.depth, refund.earlier)  # type: ignore[attr-defined] # a rate
            booked = left if refund.start == booked else booked
    return undone, booked
