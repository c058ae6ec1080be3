"""The account of slots in a batch.

A process that takes slots holds them in one entry of the bucket, and frees them when a lease ends. A process that needs slots
removes expired entries, which other processes have not renewed in time, in the same write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..request import Grant, Refusal
from ..slots import MILLISECOND, NONE, RESERVE, Own, SlotWrite, count_of, drawn, entry_of, until_of
from ..state import UNBOUNDED, Level
from ..units import NANOSECONDS
from .concurrency import Concurrency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..request import NotTried, Receipt, Refund, Request
    from ..state import BucketState, Draft, View
    from .protocol import Birth

MAX_DEAD = 25
"""Most entries of others that one write removes: each needs 2 of the 300 operators that a condition may have."""
UNKNOWN_WAIT = NANOSECONDS
"""Nanoseconds after which a slot is expected to be free if no lease has ended yet."""


class SlotAccount:
    """The charges of a batch to the slots of one limit, of which `held` are held by all processes.

    The batch takes `total`. Before that it frees `ended` of the process's own slots, whose leases have ended. It can remove the
    entries in `dead`, which frees `spare` slots. If at most `room` slots were held before, all charges fit. If at least `least`
    are held, the charges that were left out do not fit.
    """

    __slots__ = (
        *("birth", "born", "dead", "due", "ended", "enforced", "error", "held", "identity", "inherits", "last", "least", "level"),
        *("limit", "name", "now", "own", "room", "seen", "side", "soonest", "spare", "takes", "total"),
    )

    books = False
    """No future start is promised."""

    def __init__(self, limit: Concurrency, view: View, others: Mapping[str, object]) -> None:
        self.limit = limit
        self.name = limit.name
        self.identity = limit.identity
        self.now = view.now
        self.last = UNBOUNDED
        self.error = view.error
        self.side = side = view.slots
        slots = view.state.slots
        entries = slots.entries.get(limit.name, {})
        self.held = slots.held.get(limit.name, 0)
        self.level = Level(self.held)
        holder = "" if side is None else side.holder
        self.own = Own() if side is None else side.own.get(limit.name, Own())
        self.seen = entries.get(holder, NONE)
        self.ended = 0 if side is None else max(0, count_of(self.seen) - self.own.leases)
        foreign = [(each, entry) for each, entry in entries.items() if each != holder]
        dead = sorted([each for each in foreign if self._is_over(each[1])], key=lambda each: -count_of(each[1]))
        earlier = [len(each.dead) for each in others.values() if isinstance(each, SlotAccount)]
        left = MAX_DEAD - sum(earlier)
        self.dead: tuple[tuple[str, int], ...] = tuple(dead[: max(0, left)])
        self.spare = sum(count_of(entry) for _, entry in self.dead)
        self.soonest = min([until_of(each[1]) for each in foreign if each not in dead], default=UNBOUNDED)
        self.due = side is not None and any(each.name == limit.name for each in side.due)
        self.birth: Birth | None = None
        self.inherits = self.born = self.enforced = self.takes = False
        self.total = 0
        self.room = UNBOUNDED
        self.least = 0

    def _is_over(self, entry: int) -> bool:
        """Tell whether the entry of another process has certainly expired, even with the clock's error.

        Uses a time after the response that showed the entry, because the clock may have jumped since.
        """
        return until_of(entry) < (self.now if self.side is None else self.side.confirmed) - self.error

    @staticmethod
    def cost(limit: Concurrency, units: int) -> int:
        """Return the cost of units in this account's measure: slots."""
        return units

    @staticmethod
    def units(limit: Concurrency, cost: int) -> int:
        """Return the units of a cost."""
        return cost

    @staticmethod
    def price(limit: Concurrency, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """Return the capacity and the cost; for slots there is no reserve, and no amount above the capacity."""
        return limit.capacity, units

    @staticmethod
    def reserve(limit: Concurrency, numerator: int, denominator: int) -> int:
        """Return 0: a share of the slots cannot be reserved."""
        return 0

    @staticmethod
    def standing(limit: Concurrency, level: Level, now: int) -> tuple[int, int | None]:
        """Return the slots that are free at a level, and None, since the time at which all are free is unknown."""
        return limit.capacity - level.tat, None

    def met(self) -> Level:
        """Return the level that the next request of the batch meets: the slots held, without those that can be removed."""
        return Level(self.held - self.ended - self.spare + self.total)

    def earliest(self, bound: int, cost: int) -> int:
        """Return now if enough slots are free; otherwise the time at which they are expected to be free, UNBOUNDED if never.

        If they are free, the caller may hold them while it waits for another limit; otherwise no start is promised.
        """
        if not cost or self.met().tat + cost <= bound:
            self.last = UNBOUNDED
            return self.now
        self.last = self.now
        return self._expected(cost) if cost <= bound else UNBOUNDED

    def _expected(self, cost: int) -> int:
        wait = UNKNOWN_WAIT if self.own.wait is None else self.own.wait * cost // max(1, self.held)
        return max(self.now + MILLISECOND, min(self.now + wait, self.soonest + self.error))

    def fits(self, bound: int, cost: int, most: int) -> int:
        """Return how many such charges fit now in a row, up to `most`."""
        return min(most, max(0, bound - self.met().tat) // cost) if cost else most

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter charges of a write that was planned at the time `planned`."""
        self.held += count * cost

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a charge, which has to fit, and return the total so far."""
        if cost:
            self.takes = True
            self.total += cost
            self.room = min(self.room, bound - self.total)
        return self.total

    def leave_out(self, bound: int, cost: int, patience: int) -> None:
        """Record that a charge does not fit, so that a write of the batch asserts it."""
        if cost <= bound:
            self.least = max(self.least, bound - self.total - cost + 1 + self.ended + self.spare)

    def give(self, refund: Refund) -> None:
        """Do nothing: freed slots were taken out of the process's ledger before."""

    def withdraw(self, draft: Draft, units: int) -> int:
        """Do nothing: a process cannot free slots that another process holds."""
        return self.total

    def write(self, draft: Draft) -> int:
        """Add the slots' part of the update, and return until when the item is needed."""
        if not (self.total or self.ended or self.due) or self.side is None:
            if self.least and (draft.conditions or draft.changes or draft.slots):
                draft.slots += (SlotWrite(self.limit, "", NONE, None, least=self.least),)
            return self.now
        until, count = self._until(), self.own.leases + self.total
        # Only a process that needs slots removes entries, and then all of them, so that other processes do not have to.
        dead = self.dead if self.total and self.held - self.ended > self.room else ()
        freed = self.ended + sum(count_of(entry) for _, entry in dead)
        draft.slots += (
            SlotWrite(
                self.limit,
                self.side.holder,
                self.seen,
                entry_of(until, count),
                self.total - freed,
                self.room + freed if self.total else None,
                self.least,
                dead,
                self.total,
                self.total + RESERVE if self.total or self.side.draws else 0,
                self.now,
            ),
        )
        return until * MILLISECOND if count else self.now

    def _until(self) -> int:
        """Return the milliseconds until which the slots are held: the clock's error is added, and it exceeds earlier ones."""
        return max(-(-(self.now + self.limit.ttl_ns + self.error) // MILLISECOND), self.own.last + 1)

    def ground(self, after: BucketState) -> tuple[int, int]:
        """Return the slots held before the batch took its own, and the generation of the leases that hold those."""
        return after.slots.held.get(self.name, 0) - self.total, self.own.generation

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """Return the most slots that can have been held before the batch; other processes have written too."""
        return min(self.room, self.limit.capacity), self.own.generation


def short_of_slots(requests: Sequence[Request], outcomes: Sequence[object], deadline: int) -> int | None:
    """Return the place of the first request that was refused for lack of slots; None if waiting for one would not help."""
    found = None
    for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
        if not isinstance(outcome, Refusal):
            continue
        for (limit, units), level, start in zip(request.charges, outcome.levels, outcome.starts, strict=True):
            if not limit.enforce:
                continue
            if isinstance(limit, Concurrency):
                found = place if found is None and units and level.tat + units > limit.capacity else found
            elif start > deadline:
                return None
    return found


def without_room(look: Refusal | NotTried, request: Request) -> Refusal:
    """Return the refusal of a request for slots that other callers wait for already."""
    starts = tuple(
        [
            max(start, look.now + UNKNOWN_WAIT) if isinstance(limit, Concurrency) and units else start
            for (limit, units), start in zip(request.charges, look.starts, strict=True)
        ]
    )
    return Refusal(look.levels, starts, look.now, True, max(starts))


def numbered(grants: dict[int, Grant], writes: Sequence[SlotWrite], after: BucketState) -> dict[int, Grant]:
    """Return the grants of an update that took slots. Their field `earlier` holds the number of the fence."""
    before = drawn(writes, after.slots.fence)
    if not before:
        return grants
    taken = {write.name: write.taken for write in writes if write.numbers}

    def number(receipt: Receipt) -> Receipt:
        name = receipt.limit.name
        if not isinstance(receipt.limit, Concurrency) or not receipt.cost or name not in before:
            return receipt
        place = receipt.tat - after.slots.held.get(name, 0) + taken[name]
        return receipt._replace(earlier=before[name] + place)

    return {
        place: Grant(tuple([number(each) for each in grant.receipts]), grant.now) if len(grant) > 2 else grant
        for place, grant in grants.items()
    }
