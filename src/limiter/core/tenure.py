"""A process's slots of one limit in one bucket: what its entry holds, what its leases use, and what it may hand on.

No clock is read here: `mono` is monotonic time, `now` is the table's time, both in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .request import Receipt
from .slots import MILLISECOND, NONE, RESERVE, Own, count_of, until_of
from .units import NANOSECONDS

if TYPE_CHECKING:
    from .limits.concurrency import Concurrency
    from .request import Charge
    from .slots import SlotWrite

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


class Sent(NamedTuple):
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

    @property
    def deadline(self) -> int:
        """The monotonic time until which the entry certainly holds its slots, if the write was applied."""
        return self.at + self.ttl - self.ttl // DRIFT


@dataclass(slots=True, eq=False)
class Turns:
    """When a process leaves a slot to other processes, so that it does not hand them on among its own callers for ever.

    All slots of the limit have been taken since `full`. The process looks for none before `rest`, and leaves `left` of its own
    slots to others with its next write.
    """

    full: int | None = None
    rest: int = 0
    left: int = 0

    def take(self, held: int, capacity: int, mono: int) -> None:
        """Note that slots are handed on. After some time in which all were taken, one of them is left to other processes."""
        if held < capacity:
            self.full = None
        elif self.full is None:
            self.full = mono
        elif mono - self.full >= TURNS:
            self.full, self.rest, self.left = None, mono + REST, 1


@dataclass(slots=True, eq=False)
class HoldTime:
    """For how long leases hold slots, on average.

    `area` is the sum of the nanoseconds for which leases have held slots, as of `changed`; `ended` counts the slots that they
    have freed.
    """

    area: int = 0
    ended: int = 0
    changed: int = 0

    @property
    def mean(self) -> int | None:
        """Nanoseconds for which a slot was held on average; None before the first one was freed."""
        return self.area // self.ended if self.ended else None

    def count(self, held: int, units: int, mono: int) -> None:
        """Note that `held` slots have been held up to now, and that leases take `units` more; negative units were freed."""
        self.area += held * max(0, mono - self.changed)
        self.changed = mono
        if units < 0:
            self.ended -= units
            if self.ended > REMEMBERED:
                self.ended, self.area = self.ended // 2, self.area // 2


@dataclass(slots=True, eq=False)
class Tenure:
    """The process's slots of one limit: its `entry` as last known, and how many of its slots open `leases` hold.

    `sent` are writes with an unknown result. If one of them got no response, the tenure is in `doubt`, and nothing is handed on.
    Until the monotonic time `deadline` the slots certainly belong to the process. They were `renewed` by the write of that time,
    and a heartbeat last `tried` to renew them. The fence numbers from `number` to `numbers` are for slots that are handed on.
    `last` is the latest time, in milliseconds, until which an entry was to hold slots. `losses` are the last renewals of
    generations that were lost.
    """

    limit: Concurrency
    entry: int = NONE
    leases: int = 0
    generation: int = 1
    last: int = 0
    renewed: int = 0
    deadline: int = 0
    tried: int = 0
    sent: list[Sent] = field(default_factory=list)
    doubt: bool = False
    number: int = 0
    numbers: int = 0
    turns: Turns = field(default_factory=Turns)
    time: HoldTime = field(default_factory=HoldTime)
    losses: dict[int, int] = field(default_factory=dict)

    @property
    def surplus(self) -> int:
        """Slots of the entry that no lease holds any more: the next write frees them."""
        return max(0, count_of(self.entry) - self.leases)

    @property
    def spare(self) -> int:
        """Slots that no lease holds, and that no write in flight frees."""
        kept = min([count_of(self.entry), *(each.keeps for each in self.sent)])
        return 0 if self.doubt else max(0, kept - self.leases - self.turns.left)

    @property
    def own(self) -> Own:
        """What a plan needs to know."""
        return Own(self.leases, self.generation, self.last, self.time.mean)

    def is_due(self, mono: int, part: int) -> bool:
        """Tell whether the slots have to be renewed: one part in `part` of their time to live has passed."""
        return self.leases > 0 and mono - self.renewed >= self.limit.ttl_ns // part

    def is_unsettled(self, mono: int) -> bool:
        """Tell whether there is something to write: slots to free, a renewal, or a write with an unknown result."""
        return self.doubt or self.surplus > 0 or self.is_due(mono, RENEW_ALONG)

    def next_renewal(self, mono: int) -> int | None:
        """Return the nanoseconds until a heartbeat has to renew the slots; None if nothing is held or in doubt."""
        if not self.leases and self.entry < 0 and not self.sent:
            return None
        ttl = self.limit.ttl_ns
        return max(0, max(self.renewed + ttl // RENEW, self.tried + ttl // RETRY) - mono)

    def send(self, write: SlotWrite, entry: int, stamp: str, mono: int) -> None:
        """Record the sending of a write that was planned at `mono` and leaves that entry."""
        self.sent.append(Sent(stamp, entry, count_of(entry) - write.taken, mono, write.limit.ttl_ns, write.numbers > 0))
        self.last = max(self.last, until_of(entry) // MILLISECOND)
        self.turns.left = 0

    def verdict(self, stamp: str, seen: int, own: int, now: int, mono: int) -> bool | None:
        """Tell whether the last update, with that stamp, was applied, by its process's `own` entry, which was `seen` before.

        None if the entry does not tell, because others may have removed it.
        """
        applied = next((each for each in self.sent if own >= 0 and each.entry == own), None)
        if applied is not None:
            return applied.stamp == stamp  # The last one asserts an entry that an earlier one has replaced.
        last = self.sent[-1] if self.sent else None
        gone = own < 0 and (last is None or mono >= last.deadline or now > until_of(last.entry))
        return False if own == seen and not gone else None

    def learn(self, own: int, mono: int) -> None:
        """Record the entry that the table shows, and determine which of the sent writes was applied."""
        applied = next((each for each in self.sent if each.entry == own), None)
        if applied is None and own == self.entry:
            self._forget_late(mono)
            return
        if applied is None:
            self.lose(own)
        else:
            self._keep(applied)
        # Each of the other writes asserts an entry that no longer exists.
        self.sent.clear()
        self.doubt = False

    def _keep(self, applied: Sent) -> None:
        self.entry, self.renewed = applied.entry, applied.at
        self.deadline = applied.deadline
        if applied.draws or applied.entry < 0:  # Other processes may have drawn later numbers than those that are left.
            self.number = self.numbers = 0

    def _forget_late(self, mono: int) -> None:
        """Forget writes that hold and free nothing if they arrive now, because the time for which they hold slots is over."""
        self.sent = [each for each in self.sent if mono < max(self.deadline, each.at + each.ttl)]
        self.doubt = self.doubt and bool(self.sent)

    def lose(self, entry: int) -> None:
        """End all leases, because the entry that held their slots was removed; `entry` is in its place."""
        self.losses[self.generation] = self._renewal
        for oldest in tuple(self.losses)[:-LOSSES]:
            del self.losses[oldest]
        self.generation += 1
        self.leases, self.entry, self.deadline = 0, entry, 0
        self.number = self.numbers = 0

    def grant(self, receipt: Receipt, mono: int) -> None:
        """Record the slots that a write has granted to a lease. It is lost from the beginning if no entry holds its slots."""
        if receipt.since != self.generation:
            return
        if self.leases + receipt.cost > count_of(self.entry):
            self.lose(self.entry)
        else:
            self.count(receipt.cost, mono)

    def reserve(self, number: int) -> None:
        """Keep the numbers after `number`, which a write has drawn beyond its own grants."""
        self.number, self.numbers = number, number + RESERVE

    def numbered(self, receipt: Receipt) -> Receipt:
        """Return the receipt with the next fence number that is left; slots that were lost get none."""
        if receipt.since != self.generation:
            return receipt
        self.number += 1
        return receipt._replace(earlier=self.number)

    def count(self, units: int, mono: int) -> None:
        """Add `units` to the slots that leases hold; negative units were freed."""
        self.time.count(self.leases, units, mono)
        self.leases += units

    def may_hand_over(self, units: int, held: int, capacity: int, now: int, mono: int) -> bool:
        """Tell whether spare slots may be given to a caller, while so many of the limit's capacity are held in all."""
        return units <= self.spare and held <= capacity and self.number < self.numbers and not self._has_expired(now, mono)

    def hand_over(self, charge: Charge, held: int, now: int, mono: int) -> Receipt:
        """Give spare slots to a caller."""
        self.number += 1
        self.count(charge.units, mono)
        return Receipt(charge.limit, charge.units, charge.units, self.generation, now, held, self.number)

    def is_lost(self, generation: int, now: int, mono: int) -> bool:
        """Tell whether other processes may hold the slots that were granted in a generation."""
        return generation != self.generation or self._has_expired(now, mono)

    def last_renewal(self, generation: int) -> int:
        """Return the table's time of the last renewal of a generation; 0 if that is forgotten."""
        return self._renewal if generation == self.generation else self.losses.get(generation, 0)

    @property
    def _renewal(self) -> int:
        """The table's time of the last renewal, or a little later, as the entry tells."""
        return until_of(self.entry) - self.limit.ttl_ns

    def _has_expired(self, now: int, mono: int) -> bool:
        return mono >= self.deadline or now > until_of(self.entry)
