"""What one process knows of its own slots of one bucket, and which of them it may hand on without a write.

A lease that ends leaves its slots to the process, as *spare* ones: the next caller of the process takes them, or the next write
gives them up. What a write says is counted from the open leases, so that what a lost answer has leaked heals with the next
write. No clock is read here: `mono` is monotonic time, `now` the table's, both in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .request import Receipt
from .slots import MILLISECOND, NONE, RESERVE, Own, Side, count_of, drawn, until_of
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .limits.concurrency import Concurrency
    from .request import Charge, Refund
    from .slots import Slots, SlotWrite
    from .state import BucketState

DRIFT = 1_000
"""The part of a lease's time by which the clocks of two machines may run apart: one in so many."""
RENEW_ALONG = 6
"""The part of `ttl` after which a renewal rides on a write that goes there anyway: one in so many."""
RENEW = 3
"""The part of `ttl` after which a renewal is written for its own sake: one in so many."""
RETRY = 12
"""The part of `ttl` after which a renewal that failed is written again: one in so many."""
TURNS = NANOSECONDS
"""Nanoseconds for which slots are handed on within the process while all are taken; then one is left to other processes."""
REST = NANOSECONDS // 10
"""Nanoseconds for which the process does not take it back."""
LOSSES = 64
"""Generations of leases whose last renewal is remembered after they were lost."""
REMEMBERED = 64
"""Leases whose time counts for the observed one; older ones count less and less."""


class _Sent(NamedTuple):
    """A write whose fate is not known: the entry that it leaves, and the slots that the process keeps in either case.

    It was planned at the monotonic time `at`, when the limit's time to live was `ttl`. It `draws` fence numbers, or not.
    """

    entry: int
    keeps: int
    at: int
    ttl: int
    draws: bool = False


@dataclass(slots=True, eq=False)
class _Tenure:
    """The process's slots of one limit: its `entry` as last known, and how many of its slots open `leases` hold.

    `sent` are writes whose fate is not known; with one among them that was not answered the tenure is in `doubt`, and nothing is
    handed on. `deadline` is the monotonic time up to which the slots are surely the process's own. The fence numbers from
    `number` up to `numbers` are for slots that are handed on. All slots of the limit have been taken since `full`; none is looked
    for before `rest`, and `left` ones are not handed on, so that others can have them. Leases have held slots for `area`
    nanoseconds in all, and have freed `ended` of them. `losses` are the last renewals of generations that were lost.
    """

    limit: Concurrency
    entry: int = NONE
    leases: int = 0
    generation: int = 1
    last: int = 0
    renewed: int = 0
    deadline: int = 0
    failed: int | None = None
    sent: list[_Sent] = field(default_factory=list)
    doubt: bool = False
    number: int = 0
    numbers: int = 0
    full: int | None = None
    rest: int = 0
    left: int = 0
    area: int = 0
    ended: int = 0
    changed: int = 0
    losses: dict[int, int] = field(default_factory=dict)

    @property
    def spare(self) -> int:
        """Slots that no lease holds, and that no write under way gives up."""
        kept = min([count_of(self.entry), *(each.keeps for each in self.sent)])
        return 0 if self.doubt else max(0, kept - self.leases - self.left)

    def is_due(self, mono: int, part: int) -> bool:
        """Whether the slots have to be renewed, after that part of their time to live."""
        return self.leases > 0 and mono - self.renewed >= self.limit.ttl_ns // part

    def is_unsettled(self, mono: int) -> bool:
        """Whether there is something to write: slots to give up, a renewal, or a write whose fate has to be found out."""
        return self.doubt or count_of(self.entry) > self.leases or self.is_due(mono, RENEW_ALONG)

    def count(self, units: int, mono: int) -> None:
        """Enter that leases hold so many slots more, or fewer."""
        self.area += self.leases * max(0, mono - self.changed)
        self.changed = mono
        self.leases += units
        if units < 0:
            self.ended -= units
            if self.ended > REMEMBERED:
                self.ended, self.area = self.ended // 2, self.area // 2

    @property
    def time(self) -> int | None:
        """Nanoseconds for which a slot was held on average; None before the first one was freed."""
        return self.area // self.ended if self.ended else None

    @property
    def renewal(self) -> int:
        """The table's time of the last renewal, or a little later, as the entry tells."""
        return until_of(self.entry) - self.limit.ttl_ns

    def lose(self, entry: int) -> None:
        """End all leases, since the entry that held their slots has gone."""
        self.losses = {**dict(list(self.losses.items())[-LOSSES:]), self.generation: self.renewal}
        self.generation += 1
        self.leases, self.entry, self.deadline = 0, entry, 0
        self.number = self.numbers = 0


class SlotLedger:
    """The slots that one process holds in one bucket under the id `holder`. Not safe for threads: the caller holds a lock."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._tenures: dict[str, _Tenure] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, and nothing is in doubt."""
        return not any(each.leases or each.entry >= 0 or each.sent for each in self._tenures.values())

    @property
    def is_spare(self) -> bool:
        """Whether the process has slots that no lease holds."""
        return any(count_of(each.entry) > each.leases for each in self._tenures.values())

    def is_unsettled(self, mono: int) -> bool:
        """Whether a write to the bucket has something to say of the process's slots."""
        return any(each.is_unsettled(mono) for each in self._tenures.values())

    def side(self, confirmed: int, mono: int, *, draws: bool = False) -> Side:
        """What a plan has to know, by a state that was seen at the table's time `confirmed`; whether it draws numbers anyway."""
        own = {name: Own(each.leases, each.generation, each.last, each.time) for name, each in self._tenures.items()}
        due = [
            each.limit
            for each in self._tenures.values()
            if draws * each.leases or count_of(each.entry) > each.leases or each.is_due(mono, RENEW_ALONG)
        ]
        return Side(self.holder, confirmed, own, tuple(due), draws)

    def start(self, writes: Sequence[SlotWrite], mono: int) -> bool:
        """Enter that a write is sent which was planned at `mono`; false if slots that it gives up were handed on since."""
        own = [(self._tenure(write.limit), write) for write in writes if write.entry is not None]
        if any(tenure.leases > count_of(write.entry or 0) - write.taken for tenure, write in own):
            return False
        for tenure, write in own:
            entry = NONE if write.entry is None else write.entry
            tenure.sent.append(_Sent(entry, count_of(entry) - write.taken, mono, write.limit.ttl_ns, write.numbers > 0))
            tenure.last = max(tenure.last, until_of(entry) // MILLISECOND)
            tenure.left = 0
        return True

    def fail(self, writes: Iterable[SlotWrite]) -> None:
        """Enter that the last write certainly had no effect."""
        for tenure in self._written(writes):
            if tenure.sent:
                tenure.sent.pop()

    def doubt(self, writes: Iterable[SlotWrite]) -> None:
        """Enter that the last write was not answered: it may be applied yet, and then take slots away that seem to be spare."""
        for tenure in self._written(writes):
            tenure.doubt = True

    def verdict(self, writes: Sequence[SlotWrite], slots: Slots) -> bool | None:
        """Whether the last write was applied, by a state that was read since; None where the process's entry does not tell."""
        for write in writes:
            tenure = self._tenures.get(write.name)
            if tenure is None or write.entry is None:
                continue
            own = slots.entry(write.name, self.holder)
            if own >= 0 and any(own == each.entry for each in tenure.sent):
                return True
            if own == write.seen:
                return False
        return None

    def learn(self, slots: Slots) -> None:
        """Enter what the table holds, and find out what became of the writes that were sent."""
        for name, tenure in self._tenures.items():
            own = slots.entry(name, self.holder)
            applied = next((each for each in tenure.sent if each.entry == own), None)
            if applied is not None:
                tenure.entry, tenure.renewed, tenure.failed = own, applied.at, None
                tenure.deadline = applied.at + applied.ttl - applied.ttl // DRIFT
                if applied.draws or own < 0:  # Others may have drawn later ones since those that are left.
                    tenure.number = tenure.numbers = 0
            elif own != tenure.entry:
                tenure.lose(own)
            else:
                continue
            # Each other one asserts an entry that has gone.
            tenure.sent.clear()
            tenure.doubt = False

    def grant(self, receipts: Iterable[Receipt], mono: int) -> None:
        """Enter what a write has granted to a lease."""
        for receipt in receipts:
            tenure = self._tenures.get(receipt.limit.name)
            if tenure is not None and receipt.limit.identity == tenure.limit.identity and receipt.cost:
                tenure.count(receipt.cost, mono)

    def number(self, writes: Sequence[SlotWrite], fence: int) -> None:
        """Keep the numbers that a write has drawn beyond its own grants, once it has left the fence at `fence`."""
        before = drawn(writes, fence)
        for write in writes:
            if write.name in before:
                tenure = self._tenures[write.name]
                tenure.number = before[write.name] + write.taken
                tenure.numbers = tenure.number + RESERVE

    def numbered(self, receipt: Receipt) -> Receipt:
        """A receipt for slots with the next number that is left."""
        tenure = self._tenures.get(receipt.limit.name)
        if not receipt.limit.holds or tenure is None or not receipt.cost:
            return receipt
        tenure.number += 1
        return receipt._replace(earlier=tenure.number)

    def release(self, refunds: Iterable[Refund], mono: int) -> None:
        """End leases of slots; those of an older generation were lost, and have nothing to give back."""
        for refund in refunds:
            tenure = self._tenures.get(refund.limit.name)
            if tenure is not None and refund.since == tenure.generation:
                tenure.count(-min(refund.cost, tenure.leases), mono)

    def hand_over(self, charges: Sequence[Charge], state: BucketState, now: int, mono: int) -> list[Receipt] | None:
        """Give spare slots to a caller who asks for nothing else; None where that needs a write."""
        found = [(self._tenures.get(limit.name), limit, units) for limit, units in charges]
        receipts = []
        if state.paused > now:
            return None
        for tenure, limit, units in found:
            if tenure is None or tenure.limit.identity != limit.identity or not units:
                return None
            if not self._may_hand_over(tenure, limit, state, units, mono, now):
                return None
        for tenure, limit, units in found:
            if tenure is not None:
                tenure.number += 1
                tenure.count(units, mono)
                held = state.slots.held.get(limit.name, 0)
                receipts.append(Receipt(limit, units, units, tenure.generation, now, held, tenure.number))
        return receipts

    def _may_hand_over(self, tenure: _Tenure, limit: object, state: BucketState, units: int, mono: int, now: int) -> bool:
        capacity, held = getattr(limit, "capacity", 0), state.slots.held.get(tenure.limit.name, 0)
        if units > tenure.spare or mono >= tenure.deadline or now > until_of(tenure.entry) or held > capacity:
            return False
        if tenure.number >= tenure.numbers:
            return False
        if held < capacity:
            tenure.full = None
        elif tenure.full is None:
            tenure.full = mono
        elif mono - tenure.full >= TURNS:
            tenure.full, tenure.rest, tenure.left = None, mono + REST, 1
            return units <= tenure.spare
        return True

    def is_lost(self, name: str, generation: int, now: int, mono: int) -> bool:
        """Whether slots that were granted in a generation may be held by others by now."""
        tenure = self._tenures.get(name)
        if tenure is None or tenure.generation != generation:
            return True
        return mono >= tenure.deadline or now > until_of(tenure.entry)

    def last_renewal(self, name: str, generation: int) -> int:
        """The table's time of the last renewal of a generation; 0 where that is forgotten."""
        tenure = self._tenures.get(name)
        if tenure is None:
            return 0
        return tenure.renewal if tenure.generation == generation else tenure.losses.get(generation, 0)

    def rests(self, mono: int) -> bool:
        """Whether no slot is taken for now, so that other processes have a chance."""
        return any(mono < each.rest for each in self._tenures.values())

    def turn(self, slots: Slots) -> int | None:
        """Nanoseconds after which one of all slots that are held is freed, by how long they were held here; None if unknown."""
        found = [each.time // max(1, slots.held.get(name, 0)) for name, each in self._tenures.items() if each.time is not None]
        return min(found) if found else None

    def note_failure(self, mono: int) -> None:
        """Enter that a renewal has failed."""
        for tenure in self._tenures.values():
            if tenure.is_due(mono, RENEW):
                tenure.failed = mono

    def next_renewal(self, mono: int) -> int | None:
        """Nanoseconds until the slots have to be renewed for their own sake; None where nothing is held or in doubt."""
        waits = []
        for tenure in self._tenures.values():
            if tenure.leases or tenure.entry >= 0 or tenure.sent:
                ttl = tenure.limit.ttl_ns
                retry = mono if tenure.failed is None else tenure.failed + ttl // RETRY
                waits.append(max(tenure.renewed + ttl // RENEW, retry) - mono)
        return max(0, min(waits)) if waits else None

    def _tenure(self, limit: Concurrency) -> _Tenure:
        tenure = self._tenures.get(limit.name)
        if tenure is None:
            tenure = self._tenures[limit.name] = _Tenure(limit)
        tenure.limit = limit
        return tenure

    def _written(self, writes: Iterable[SlotWrite]) -> Iterable[_Tenure]:
        return [self._tenures[write.name] for write in writes if write.entry is not None]
