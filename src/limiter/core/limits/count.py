"""The account of a quota, session or total in a batch: a count of units since an opening.

The time of an opening decides whether it counts, never its units; a refund names the opening that it belongs to. No start in the
future is promised, because the units would be counted in one period and used in the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exceptions import UnreadableItem
from ..state import UNBOUNDED, Change, Condition, Level
from ..units import NANOSECONDS
from .births import Unseen, birth, counted, put_mark
from .quota import CalendarQuota, Quota
from .session import SessionQuota
from .total import TotalQuota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..request import Refund
    from ..state import BucketState, Draft, View
    from .protocol import Account, Birth

FAR = 9_999_999_999 * NANOSECONDS
"""The time until which the bucket of a total is kept."""


class CountAccount:
    """The charges and refunds of a batch to one count, starting from `used` units: 0 if the last opening is `over`.

    The batch takes `total`; `takes` is true if there is a charge, even of 0. If at most `room` units were used before, all
    charges fit. From `least` on, the charges that were left out do not fit. `opening` is the time of a new opening by the batch.
    """

    __slots__ = (
        *("birth", "born", "end", "enforced", "fresh", "given", "identity", "inherits", "instant", "last", "least", "level"),
        *("limit", "name", "now", "opening", "over", "refunds", "room", "takes", "total", "used"),
    )

    books = False
    """No start in the future is promised."""

    def __init__(self, limit: Quota, view: View, others: Mapping[str, Account]) -> None:
        self.limit = limit
        self.name = limit.name
        self.identity = limit.identity
        self.level = level = view.state.level(limit.identity)
        self.now = view.now
        self.fresh = view.fresh
        # By the table's time no process opens a period early.
        error = view.error if isinstance(limit, CalendarQuota) else 0
        self.instant = instant = view.now - error
        self.over = limit.is_over(level.since, level.tat, instant)
        if not self.over and level.tat < 0:
            raise UnreadableItem(f"the count of limit {limit.name!r} is missing beside its opening: delete the bucket's item")
        self.used = 0 if self.over else level.tat
        # A session may be opened again while its first opening is not past, and its refunds must not count for both.
        self.opening = instant if isinstance(limit, CalendarQuota) else max(instant, level.since + 1)
        end = limit.ends(-1, self.opening) if self.over else limit.ends(level.since, instant)
        self.end = UNBOUNDED if end is None else end + error
        self.last = self.end - 2 * error - 1
        self.birth: Birth | None = None
        self.inherits = self.born = False
        if level.since < 0:
            self._bear(view, others)
        self.enforced = self.takes = False
        self.total = 0
        self.room = UNBOUNDED
        self.least = 0
        self.refunds: list[Refund] = []
        self.given = 0

    def _bear(self, view: View, others: Mapping[str, Account]) -> None:
        """Begin with the largest count of the name's other counts that end no earlier, or have the same period."""
        self.birth = birth(self.limit, view, others)
        for identity in () if isinstance(self.limit, TotalQuota) else self.birth.siblings:
            quota = counted(identity)
            level = others[identity].met() if identity in others else view.state.level(identity)
            if quota is None or quota.is_over(level.since, level.tat, self.opening):
                continue
            end = quota.ends(level.since, self.opening)
            if end is None or end >= self.end or _same_period(quota, self.limit):
                self.used = max(self.used, min(level.tat, self.limit.capacity))
        self.inherits = self.used > 0

    @staticmethod
    def cost(limit: Quota, units: int) -> int:
        """Return the cost of units in this account's measure: units."""
        return units

    @staticmethod
    def units(limit: Quota, cost: int) -> int:
        """Return the units of a cost."""
        return cost

    @staticmethod
    def price(limit: Quota, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """Return how far the account may be used by a request that leaves a reserve to others, and the cost of its units."""
        if not units:
            return limit.capacity, units
        most = oversize and not isinstance(limit, TotalQuota)
        return max(limit.capacity, units) if most else limit.capacity - reserve, units

    @staticmethod
    def reserve(limit: Quota, numerator: int, denominator: int) -> int:
        """Return the units of a share of the limit, given as a fraction; rounded up."""
        return -(-limit.capacity * numerator // denominator)

    @staticmethod
    def standing(limit: Quota, level: Level, now: int) -> tuple[int, int | None]:
        """Return the units that are available at a level, and the nanoseconds until all are; None for a total."""
        end = limit.ends(level.since, level.since) if level.since >= 0 else now
        rest = None if isinstance(limit, TotalQuota) or end is None else max(0, end - now) if level.tat > 0 else 0
        return limit.capacity - level.tat, rest

    def met(self) -> Level:
        """Return the level that the next request of the batch meets."""
        return Level(self.used + self.total, self.opening if self.over else self.level.since)

    def earliest(self, bound: int, cost: int) -> int:
        """Return the time from which the count allows a charge: at most now if at once, UNBOUNDED if never."""
        if self.used + self.total + cost <= bound:
            return self.now
        return self.end if cost <= bound else UNBOUNDED

    def fits(self, bound: int, cost: int, most: int) -> int:
        """Return how many such charges fit now in a row, up to `most`; in debt not even one of 0 does."""
        room = bound - self.used - self.total
        if room < 0:
            return 0
        return min(most, room // cost) if cost else most

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter charges of a write that was planned at the time `planned`."""
        if not self.over or not self.limit.is_over(planned, 1, self.now):
            self.used += count * cost

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a charge, and return the total so far. It has to fit, unless its `patience` is None: then it is forced."""
        self.takes = True
        self.total += cost
        if patience is not None:
            self.room = min(self.room, bound - self.total)
        return self.total

    def leave_out(self, bound: int, cost: int, patience: int) -> None:
        """Record that a charge does not fit, so that a write of the batch asserts it."""
        if cost <= bound and not self.over:
            self.least = max(self.least, bound - self.total - cost + 1)

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after all charges of the batch."""
        self.refunds.append(refund)

    def withdraw(self, draft: Draft, units: int) -> int:
        """Refund up to `units`, of any caller, and return the change of the total."""
        given = max(0, min(units, self.used))
        if given and not self.over:
            most = None if given == units else self.used
            draft.conditions.append(Condition(self.identity, "since", self.level.since, self.level.since))
            draft.conditions.append(Condition(self.identity, "tat", given, most))
            draft.changes.append(Change(self.identity, "tat", "tat", -given))
            self.total -= given
        return self.total

    def write(self, draft: Draft) -> int:
        """Add the count's part of the update, and return until when it is needed.

        The cases: nothing is taken; the count is over or was never open, so the batch opens it; it is open. A count that is born
        beside others is written even if nothing is taken.
        """
        alive = [refund for refund in self.refunds if not self.over and refund.since == self.level.since]
        self.given = self._givable(sum(refund.cost for refund in alive)) if alive else 0
        if self.inherits:
            if not (self.takes or self.enforced or draft.changes or draft.slots):
                return self.now
        elif not self.takes and not self.given:
            if self.least:
                draft.reasons += self._as_seen()
            return self.now
        if self.over:
            self._write_opening(draft)
        else:
            draft.conditions += self._as_seen()
            if self.total or self.given:
                draft.changes.append(Change(self.identity, "tat", "tat", self.total - self.given))
        if not self.total and not self.born:
            return self.now
        return min(self.end, FAR)

    def _givable(self, units: int) -> int:
        """Return what can be given back of so many units: at most what is used, and if that is less, only while it is so.

        Others may have used more since the state was seen, and of a total what is not given back is gone for good.
        """
        if units > self.used:
            if not self.fresh:
                raise Unseen
            self.room = min(self.room, self.used)
        return min(self.used, units)

    def _write_opening(self, draft: Draft) -> None:
        """Assert that the count is over or was never open, and open it with the total."""
        if self.inherits or isinstance(self.limit, TotalQuota):
            draft.conditions.append(Condition(self.identity, "since", None, None, absent=True))
        elif isinstance(self.limit, CalendarQuota):
            start = self.limit.bounds(self.instant)[0]
            draft.conditions.append(Condition(self.identity, "since", None, start - 1, absent=True))
        elif self.level.since > self.now - self._length():
            draft.conditions.append(Condition(self.identity, "tat", None, 0))
            draft.conditions.append(Condition(self.identity, "since", None, self.opening - 1))
        else:
            draft.conditions.append(Condition(self.identity, "since", None, self.now - self._length(), absent=True))
        if not self.used + self.total:
            return
        draft.changes.append(Change(self.identity, "tat", None, self.used + self.total))
        draft.changes.append(Change(self.identity, "since", None, self.opening))
        if self.birth is not None:
            put_mark(draft, self.birth.mark)
            self.born = self.inherits

    def _as_seen(self) -> list[Condition]:
        """Return the conditions that the count is open, and that all charges and refunds of the batch are correct."""
        low = max(self.least, self.given, 1 if isinstance(self.limit, SessionQuota) else 0)
        high = self.room if self.room < UNBOUNDED else None
        conditions = []
        if self.given:
            conditions.append(Condition(self.identity, "since", self.level.since, self.level.since))
        elif isinstance(self.limit, CalendarQuota):
            conditions.append(Condition(self.identity, "since", self.limit.bounds(self.instant)[0], None))
        elif isinstance(self.limit, SessionQuota):
            conditions.append(Condition(self.identity, "since", self.now - self._length() + 1, None))
        if low > 0 or high is not None:
            conditions.append(Condition(self.identity, "tat", low if low > 0 else None, high))
        return conditions or [Condition(self.identity, "since", 0, None)]

    def ground(self, after: BucketState) -> tuple[int, int]:
        """Return the units used before the batch in fact, and the opening that they count for, once there is `after`."""
        level = after.level(self.identity)
        if self.over:
            return self.used, level.since
        return level.tat - self.total + self.given, level.since

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """Return the most units used before the batch, and the planned opening, once others have written too."""
        if self.over:
            return self.used, self.opening
        return max(0, min(after.level(self.identity).tat - self.total + self.given, self.room)), self.level.since

    def _length(self) -> int:
        return self.limit.length_ns if isinstance(self.limit, SessionQuota) else 0


def _same_period(one: Quota, other: Quota) -> bool:
    return isinstance(one, CalendarQuota) and isinstance(other, CalendarQuota) and one.period == other.period
