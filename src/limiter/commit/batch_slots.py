# twin: sync_batch_slots.py
"""What one batch does to the process's slots of its bucket, and the grants that wait for their fence numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.request import Grant, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.request import Receipt, Refusal
    from ..core.slots import Side
    from ..core.state import BucketState, Update
    from ..exceptions import UnreadableItem
    from .bucket_queue import BucketQueue, PendingRequest
    from .slots import BucketSlots
    from .writer import BatchWriter

    Outcome = Grant | Refusal | UnreadableItem
    Outcomes = Mapping[int, Outcome]


class BatchSlots:
    """The slots of one batch. Each method does nothing if the process never asked for a slot of the bucket.

    If a write was lost and another process has written since, the fence numbers that it drew are unknown. Its grants are held
    back until the next write has drawn others. The caller holds the writer's lock.
    """

    __slots__ = ("_held_back", "_queue", "_writer")

    def __init__(self, writer: BatchWriter, queue: BucketQueue) -> None:
        self._writer = writer
        self._queue = queue
        self._held_back: dict[PendingRequest, Grant] = {}

    @property
    def holds_back(self) -> bool:
        """Whether grants are held back."""
        return bool(self._held_back)

    def settle(self, requests: Sequence[PendingRequest]) -> Side | None:
        """Return what a plan needs to know. Requests that only wait for a write of slots are finished if none is needed."""
        slots = self._queue.slots
        if slots is None:
            return None
        if not self._held_back and not slots.is_unsettled:
            for pending in requests:
                if pending.request.is_settlement and not pending.done:
                    self._queue.finish(pending, Grant((), self._writer.clock()))
        return slots.side(draws=bool(self._held_back))

    def start(self, update: Update, side: Side | None) -> bool:
        """Record the sending of an update; return False if a slot that it frees was handed on: then plan again."""
        slots = self._queue.slots
        return slots is None or side is None or slots.ledger.start(update, side.mono)

    def fail(self, update: Update) -> None:
        """Record that the last update had no effect."""
        if self._queue.slots is not None:
            self._queue.slots.ledger.fail(update)

    def doubt(self, update: Update) -> None:
        """Record that the last update got no response."""
        if self._queue.slots is not None:
            self._queue.slots.doubt(update)

    def verdict(self, update: Update, state: BucketState) -> bool | None:
        """Tell whether the last update was applied, by a state read since; None if the process's entries do not show it."""
        slots, writer = self._queue.slots, self._writer
        return None if slots is None else slots.ledger.verdict(update, state.slots, writer.clock(), writer.timer())

    def learn(self, state: BucketState, planned: Sequence[PendingRequest], outcomes: Outcomes, update: Update | None) -> Outcomes:
        """Record a state, and the grants of an update that was applied; return the outcomes that can be delivered."""
        slots = self._queue.slots
        if slots is None:
            return outcomes
        writes = update.slots if update is not None and outcomes and state.stamp == update.stamp else None
        new = [outcome for place, outcome in outcomes.items() if self._is_new(planned[place])]
        slots.learn(state.slots, [receipt for outcome in new for receipt in _slots_of(outcome)], writes or ())
        told: dict[int, Outcome] = {}
        for place, outcome in outcomes.items():
            pending = planned[place]
            if pending in self._held_back:
                if writes is not None:
                    told[place] = self._numbered(slots, self._held_back.pop(pending))
            elif writes is None and isinstance(outcome, Grant) and self._is_new(pending) and _slots_of(outcome):
                self._hold_back(pending, outcome)
            else:
                told[place] = outcome
        return told

    def let_go(self, planned: Sequence[PendingRequest], grants: Mapping[int, Grant]) -> Outcomes:
        """Return grants that need no write, with those that were held back: their slots are lost, and need no number."""
        return {place: self._held_back.pop(planned[place], grant) for place, grant in grants.items()}

    def give_up(self, update: Update | None) -> None:
        """End the leases of grants that cannot be delivered; the `update` under way may be applied."""
        slots = self._queue.slots
        if slots is None:
            return
        receipts = [receipt for grant in self._held_back.values() for receipt in _slots_of(grant)]
        slots.ledger.release([receipt.refund() for receipt in receipts], self._writer.timer())
        self._held_back = {}
        if update is not None:
            slots.doubt(update)

    def _is_new(self, pending: PendingRequest) -> bool:
        """Tell whether a request for slots is undecided, and no grant of it is held back."""
        return pending.request.slots and not pending.done and pending not in self._held_back

    def _numbered(self, slots: BucketSlots, grant: Grant) -> Grant:
        return Grant([slots.ledger.numbered(receipt) for receipt in grant.receipts], grant.now)

    def _hold_back(self, pending: PendingRequest, grant: Grant) -> None:
        self._held_back[pending] = grant
        self._queue.returning += not pending.returns  # It stays in its batch even if its caller has gone.
        pending.returns = True
        pending.request = Request(self._queue.key, slots=True)


def _slots_of(outcome: Outcome) -> list[Receipt]:
    """Return the receipts of slots in an outcome."""
    receipts = outcome.receipts if isinstance(outcome, Grant) else ()
    return [receipt for receipt in receipts if receipt.limit.holds and receipt.cost > 0]
