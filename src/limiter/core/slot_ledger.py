"""The ledger of one process's slots of one bucket, which also decides which of them it may hand on without a write.

When a lease ends, its slots become *spare* slots of the process: its next caller takes them, or its next write frees them. Each
write counts the open leases anew, so a slot that leaked by a lost response is freed by the next write. No clock is read here:
`mono` is monotonic time, `now` is the table's time, both in nanoseconds.
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
"""Clocks of two machines may drift apart by one part in this many of a lease's time."""
RENEW_ALONG = 6
"""After one part in this many of `ttl`, any write to the bucket also renews."""
RENEW = 3
"""After one part in this many of `ttl`, a heartbeat renews by a separate write."""
RETRY = 12
"""After one part in this many of `ttl`, a heartbeat tries again."""
TURNS = NANOSECONDS
"""Nanoseconds for which slots are handed on within the process while all are taken; then one is left to other processes."""
REST = NANOSECONDS // 10
"""Nanoseconds for which the process does not take that slot back."""
LOSSES = 64
"""Generations of leases whose last renewal is remembered after they were lost."""
REMEMBERED = 64
"""Leases that count for the average time of a lease; older ones count less and less."""


class _Sent(NamedTuple):
    """A write with an unknown result: the entry that it leaves, and the slots that the process keeps in either case.

    Its update has the `stamp`. It was planned at the monotonic time `at`, when the limit's time to live was `ttl`. `draws` tells
    whether it draws fence numbers.
    """

    stamp: str
    entry: int
    keeps: int
    at: int
    ttl: int
    draws: bool = False


@dataclass(slots=True, eq=False)
class _Tenure:
    """The process's slots of one limit: its `entry` as last known, and how many of its slots open `leases` hold.

    `sent` are writes with an unknown result. If one of them got no response, the tenure is in `doubt`, and nothing is handed on.
    Until the monotonic time `deadline` the slots certainly belong to the process. They were `renewed` by the write of that time,
    and a heartbeat last `tried` to renew them. The fence numbers from `number` to `numbers` are for slots that are handed on.
    All slots of the limit have been taken since `full`. The process looks for none before `rest`, and leaves `left` of its slots
    to other processes. `area` is the sum of the nanoseconds for which leases have held slots; `ended` counts the slots that they
    have freed. `losses` are the last renewals of generations that were lost.
    """

    limit: Concurrency
    entry: int = NONE
    leases: int = 0
    generation: int = 1
    last: int = 0
    renewed: int = 0
    deadline: int = 0
    tried: int = 0
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
        """Slots that no lease holds, and that no write in flight frees."""
        kept = min([count_of(self.entry), *(each.keeps for each in self.sent)])
        return 0 if self.doubt else max(0, kept - self.leases - self.left)

    def is_due(self, mono: int, part: int) -> bool:
        """Tell whether the slots have to be renewed: one part in `part` of their time to live has passed."""
        return self.leases > 0 and mono - self.renewed >= self.limit.ttl_ns // part

    def is_unsettled(self, mono: int) -> bool:
        """Tell whether there is something to write: slots to free, a renewal, or a write with an unknown result."""
        return self.doubt or count_of(self.entry) > self.leases or self.is_due(mono, RENEW_ALONG)

    def count(self, units: int, mono: int) -> None:
        """Add `units` to the slots that leases hold; negative units were freed."""
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

    def forget_late(self, mono: int) -> None:
        """Forget writes that hold and free nothing if they arrive now, because the time for which they hold slots is over."""
        self.sent = [each for each in self.sent if mono < max(self.deadline, each.at + each.ttl)]
        self.doubt = self.doubt and bool(self.sent)

    def lose(self, entry: int) -> None:
        """End all leases, because the entry that held their slots was removed."""
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
        """Tell whether the process's slots need a write to the bucket."""
        return any(each.is_unsettled(mono) for each in self._tenures.values())

    def side(self, confirmed: int, mono: int, *, draws: bool = False) -> Side:
        """Return what a plan needs to know, by a state seen at the table's time `confirmed`; `draws` forces new fence numbers."""
        own = {name: Own(each.leases, each.generation, each.last, each.time) for name, each in self._tenures.items()}
        due = [
            each.limit
            for each in self._tenures.values()
            if draws * each.leases or count_of(each.entry) > each.leases or each.is_due(mono, RENEW_ALONG)
        ]
        return Side(self.holder, confirmed, own, tuple(due), draws)

    def start(self, writes: Sequence[SlotWrite], stamp: str, mono: int) -> bool:
        """Record the sending of a write that was planned at `mono`; return False if slots that it frees were handed on since."""
        own = [(self._tenure(write.limit), write) for write in writes if write.entry is not None]
        if any(tenure.leases > count_of(write.entry or 0) - write.taken for tenure, write in own):
            return False
        for tenure, write in own:
            entry = NONE if write.entry is None else write.entry
            tenure.sent.append(_Sent(stamp, entry, count_of(entry) - write.taken, mono, write.limit.ttl_ns, write.numbers > 0))
            tenure.last = max(tenure.last, until_of(entry) // MILLISECOND)
            tenure.left = 0
        return True

    def fail(self, writes: Iterable[SlotWrite]) -> None:
        """Record that the last write certainly had no effect."""
        for tenure in self._written(writes):
            if tenure.sent:
                tenure.sent.pop()

    def doubt(self, writes: Iterable[SlotWrite]) -> None:
        """Record that the last write got no response: it may still be applied, and then free slots that seem to be spare."""
        for tenure in self._written(writes):
            tenure.doubt = True

    def verdict(self, writes: Sequence[SlotWrite], stamp: str, slots: Slots) -> bool | None:
        """Tell whether the last write was applied, by a state read since; None if the process's entry does not show it."""
        for write in writes:
            tenure = self._tenures.get(write.name)
            if tenure is None or write.entry is None:
                continue
            own = slots.entry(write.name, self.holder)
            applied = next((each for each in tenure.sent if own >= 0 and each.entry == own), None)
            if applied is not None:
                return applied.stamp == stamp  # The last write asserts an entry that an earlier one has replaced.
            if own == write.seen:
                return False
        return None

    def learn(self, slots: Slots, mono: int) -> None:
        """Record the table's state, and determine which of the sent writes was applied."""
        for name, tenure in self._tenures.items():
            own = slots.entry(name, self.holder)
            applied = next((each for each in tenure.sent if each.entry == own), None)
            if applied is not None:
                tenure.entry, tenure.renewed = own, applied.at
                tenure.deadline = applied.at + applied.ttl - applied.ttl // DRIFT
                if applied.draws or own < 0:  # Other processes may have drawn later numbers than those that are left.
                    tenure.number = tenure.numbers = 0
            elif own != tenure.entry:
                tenure.lose(own)
            else:
                tenure.forget_late(mono)
                continue
            # Each of the other writes asserts an entry that no longer exists.
            tenure.sent.clear()
            tenure.doubt = False

    def grant(self, receipts: Iterable[Receipt], mono: int) -> None:
        """Record the slots that a write has granted to a lease. It is lost from the beginning if no entry holds its slots."""
        for receipt in receipts:
            tenure = self._tenures.get(receipt.limit.name)
            if tenure is None or receipt.limit.identity != tenure.limit.identity or not receipt.cost:
                continue
            if receipt.since != tenure.generation:
                continue
            if tenure.leases + receipt.cost > count_of(tenure.entry):
                tenure.lose(tenure.entry)
            else:
                tenure.count(receipt.cost, mono)

    def number(self, writes: Sequence[SlotWrite], fence: int) -> None:
        """Keep the numbers that a write has drawn beyond its own grants; the fence is now at `fence`."""
        before = drawn(writes, fence)
        for write in writes:
            if write.name in before:
                tenure = self._tenures[write.name]
                tenure.number = before[write.name] + write.taken
                tenure.numbers = tenure.number + RESERVE

    def numbered(self, receipt: Receipt) -> Receipt:
        """Return the receipt with the next fence number that is left; slots that were lost get none."""
        tenure = self._tenures.get(receipt.limit.name)
        if not receipt.limit.holds or tenure is None or not receipt.cost or receipt.since != tenure.generation:
            return receipt
        tenure.number += 1
        return receipt._replace(earlier=tenure.number)

    def release(self, refunds: Iterable[Refund], mono: int) -> None:
        """End leases of slots. Leases of an older generation were lost, and free nothing."""
        for refund in refunds:
            tenure = self._tenures.get(refund.limit.name)
            if tenure is not None and refund.since == tenure.generation:
                tenure.count(-min(refund.cost, tenure.leases), mono)

    def hand_over(self, charges: Sequence[Charge], state: BucketState, now: int, mono: int) -> list[Receipt] | None:
        """Give spare slots to a caller that asks for nothing else; return None if that needs a write."""
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
        """Tell whether other processes may hold the slots that were granted in a generation."""
        tenure = self._tenures.get(name)
        if tenure is None or tenure.generation != generation:
            return True
        return mono >= tenure.deadline or now > until_of(tenure.entry)

    def last_renewal(self, name: str, generation: int) -> int:
        """Return the table's time of the last renewal of a generation; 0 if that is forgotten."""
        tenure = self._tenures.get(name)
        if tenure is None:
            return 0
        return tenure.renewal if tenure.generation == generation else tenure.losses.get(generation, 0)

    def rests(self, mono: int) -> bool:
        """Tell whether the process takes no slot for now, so that other processes can."""
        return any(mono < each.rest for each in self._tenures.values())

    def turn(self, slots: Slots) -> int | None:
        """Return the expected nanoseconds until one of all held slots is freed, by leases of this process; None if unknown."""
        found = [each.time // max(1, slots.held.get(name, 0)) for name, each in self._tenures.items() if each.time is not None]
        return min(found) if found else None

    def note_attempt(self, mono: int) -> None:
        """Record that a heartbeat tries to renew the slots."""
        for tenure in self._tenures.values():
            tenure.tried = mono

    def next_renewal(self, mono: int) -> int | None:
        """Return the nanoseconds until a heartbeat has to renew the slots; None if nothing is held or in doubt."""
        waits = []
        for tenure in self._tenures.values():
            if tenure.leases or tenure.entry >= 0 or tenure.sent:
                ttl = tenure.limit.ttl_ns
                waits.append(max(tenure.renewed + ttl // RENEW, tenure.tried + ttl // RETRY) - mono)
        return max(0, min(waits)) if waits else None

    def _tenure(self, limit: Concurrency) -> _Tenure:
        tenure = self._tenures.get(limit.name)
        if tenure is None:
            tenure = self._tenures[limit.name] = _Tenure(limit)
        tenure.limit = limit
        return tenure

    def _written(self, writes: Iterable[SlotWrite]) -> Iterable[_Tenure]:
        return [self._tenures[write.name] for write in writes if write.entry is not None]
