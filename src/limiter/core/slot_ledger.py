"""The ledger of one process's slots of one bucket, which also decides which of them it may hand on without a write.

When a lease ends, its slots become *spare* slots of the process: its next caller takes them, or its next write frees them. Each
write counts the open leases anew, so a slot that leaked by a lost response is freed by the next write. No clock is read here:
`mono` is monotonic time, `now` is the table's time, both in nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .slots import Side, count_of, drawn
from .tenure import RENEW_ALONG, Tenure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .limits.concurrency import Concurrency
    from .request import Charge, Receipt, Refund
    from .slots import Slots, SlotWrite
    from .state import BucketState, Update


class SlotLedger:
    """The slots that one process holds in one bucket under the id `holder`. Not safe for threads: the caller holds a lock.

    `is_lost` and `last_renewal` need no lock.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._tenures: dict[str, Tenure] = {}

    def may_look(self, mono: int) -> bool:
        """Tell whether a write may give slots of the process to a caller that needs more than that: some are held by no lease.

        For a while after one was left to other processes, the process takes none back.
        """
        tenures = self._tenures.values()
        return any(each.surplus for each in tenures) and not any(mono < each.turns.rest for each in tenures)

    def is_unsettled(self, mono: int) -> bool:
        """Tell whether the process's slots need a write to the bucket."""
        return any(each.is_unsettled(mono) for each in self._tenures.values())

    def side(self, confirmed: int, mono: int, *, draws: bool = False) -> Side:
        """Return what a plan needs to know, by a state seen at the table's time `confirmed`; `draws` forces new fence numbers."""
        tenures = self._tenures.values()
        due = [each.limit for each in tenures if (draws and each.leases) or each.surplus or each.is_due(mono, RENEW_ALONG)]
        return Side(self.holder, confirmed, mono, {name: each.own for name, each in self._tenures.items()}, tuple(due), draws)

    def start(self, update: Update, mono: int) -> bool:
        """Record the sending of an update that was planned at `mono`; return False if slots that it frees have been handed on."""
        own = [(self._tenure(write.limit), write, write.entry) for write in update.slots if write.entry is not None]
        if any(tenure.leases > count_of(entry) - write.taken for tenure, write, entry in own):
            return False
        for tenure, write, entry in own:
            tenure.send(write, entry, update.stamp, mono)
        return True

    def fail(self, update: Update) -> None:
        """Record that the last update certainly had no effect."""
        for tenure in self._written(update):
            if tenure.sent:
                tenure.sent.pop()

    def doubt(self, update: Update) -> None:
        """Record that the last update got no response: it may still be applied, and then free slots that seem to be spare."""
        for tenure in self._written(update):
            tenure.doubt = True

    def verdict(self, update: Update, slots: Slots, now: int, mono: int) -> bool | None:
        """Tell whether the last update was applied, by slots read since; None if the process's entries do not show it."""
        own = [write for write in update.slots if write.entry is not None]
        found = [
            self._tenures[write.name].verdict(update.stamp, write.seen, slots.entry(write.name, self.holder), now, mono)
            for write in own
        ]
        return next((verdict for verdict in found if verdict is not None), None)

    def learn(self, slots: Slots, mono: int, receipts: Iterable[Receipt] = (), writes: Sequence[SlotWrite] = ()) -> None:
        """Record what the table shows, and the receipts of an update that was applied.

        The update's `writes` are passed if it was the bucket's last: then it is known which fence numbers it has drawn.
        """
        for name, tenure in self._tenures.items():
            tenure.learn(slots.entry(name, self.holder), mono)
        before = drawn(writes, slots.fence)
        for write in writes:
            if write.numbers:
                self._tenures[write.name].reserve(before[write.name] + write.taken)
        for receipt in receipts:
            if (granting := self._holder_of(receipt)) is not None:
                granting.grant(receipt, mono)

    def numbered(self, receipt: Receipt) -> Receipt:
        """Return the receipt with the next fence number that is left; slots that were lost get none."""
        tenure = self._holder_of(receipt)
        return receipt if tenure is None else tenure.numbered(receipt)

    def release(self, refunds: Iterable[Refund], mono: int) -> None:
        """End leases of slots. Leases of an older generation were lost, and free nothing."""
        for refund in refunds:
            tenure = self._tenures.get(refund.limit.name)
            if tenure is not None and refund.since == tenure.generation:
                tenure.count(-min(refund.cost, tenure.leases), mono)

    def hand_over(self, charges: Sequence[Charge], state: BucketState, now: int, mono: int) -> list[Receipt] | None:
        """Give spare slots to a caller that asks for nothing else; return None if that needs a write."""
        found = [(self._tenures.get(charge.limit.name), charge, state.slots.held.get(charge.limit.name, 0)) for charge in charges]
        given = [(tenure, charge, held) for tenure, charge, held in found if tenure is not None]
        if len(given) < len(charges) or state.paused > now:
            return None
        for tenure, (limit, units), held in given:
            if limit.identity != tenure.limit.identity or not units:
                return None
            if not tenure.may_hand_over(units, held, limit.capacity, now, mono):
                return None
        for tenure, (limit, _), held in given:
            tenure.turns.take(held, limit.capacity, mono)
        if any(charge.units > tenure.spare for tenure, charge, _ in given):
            return None
        return [tenure.hand_over(charge, held, now, mono) for tenure, charge, held in given]

    def is_lost(self, name: str, generation: int, now: int, mono: int) -> bool:
        """Tell whether other processes may hold the slots that were granted in a generation."""
        tenure = self._tenures.get(name)
        return tenure is None or tenure.is_lost(generation, now, mono)

    def last_renewal(self, name: str, generation: int) -> int:
        """Return the table's time of the last renewal of a generation; 0 if that is forgotten."""
        tenure = self._tenures.get(name)
        return 0 if tenure is None else tenure.last_renewal(generation)

    def turn(self, slots: Slots) -> int | None:
        """Return the expected nanoseconds until one of all held slots is freed, by leases of this process; None if unknown."""
        means = {name: each.time.mean for name, each in self._tenures.items()}
        found = [mean // max(1, slots.held.get(name, 0)) for name, mean in means.items() if mean is not None]
        return min(found) if found else None

    def note_attempt(self, mono: int) -> None:
        """Record that a heartbeat tries to renew the slots, so that it waits before it tries again, even if that fails."""
        for tenure in self._tenures.values():
            tenure.tried = mono

    def next_renewal(self, mono: int) -> int | None:
        """Return the nanoseconds until a heartbeat has to renew the slots; None if nothing is held or in doubt."""
        waits = [each.next_renewal(mono) for each in self._tenures.values()]
        return min([wait for wait in waits if wait is not None], default=None)

    def _holder_of(self, receipt: Receipt) -> Tenure | None:
        """Return the tenure that the receipt's slots belong to; None if it is of another kind, or none were taken."""
        tenure = self._tenures.get(receipt.limit.name)
        return tenure if tenure is not None and receipt.limit.identity == tenure.limit.identity and receipt.cost else None

    def _tenure(self, limit: Concurrency) -> Tenure:
        tenure = self._tenures.get(limit.name)
        if tenure is None:
            tenure = self._tenures[limit.name] = Tenure(limit)
        tenure.limit = limit
        return tenure

    def _written(self, update: Update) -> Iterable[Tenure]:
        return [self._tenures[write.name] for write in update.slots if write.entry is not None]
