# twin: sync_block_orders.py
"""The blocks of units that one batch takes in advance for limits with an allotment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.request import Grant, Request
from ..core.state import View
from .bucket_queue import PendingRequest

if TYPE_CHECKING:
    from .allotment import Order
    from .bucket_queue import BucketQueue
    from .writer import BatchWriter


class BlockOrders:
    """The requests of one batch that ask for blocks, each with its order. `place` and `keep` need the writer's lock."""

    __slots__ = ("_orders", "_queue", "_writer")

    def __init__(self, writer: BatchWriter, queue: BucketQueue) -> None:
        self._writer = writer
        self._queue = queue
        self._orders: list[tuple[PendingRequest, Order]] = []

    def place(self, requests: list[PendingRequest]) -> None:
        """Add to the requests of the batch one for each block, and one that gives back what may not be spent any more."""
        queue, writer = self._queue, self._writer
        if queue.allotments is None:
            return
        now, age = writer.clock(), writer.timer()
        ended = queue.allotments.end(now, age)
        if ended:
            requests.append(PendingRequest(Request(queue.key, refunds=ended), queue))
            queue.returning += 1
        if queue.seen is None or not writer.is_on_time():
            return  # It is unknown how much is free.
        view = View(queue.state, now, writer.error())
        asked = [pending.request for pending in requests]
        for request, order in queue.allotments.orders(queue.key, asked, view, age):
            pending = PendingRequest(request, queue)
            self._orders.append((pending, order))
            requests.append(pending)

    def date(self) -> None:
        """Have the blocks that are planned under a new stamp live from now on."""
        if not self._orders:
            return
        now, age = self._writer.clock(), self._writer.timer()
        for pending, order in self._orders:
            if not pending.done:
                order.planned = now, age

    def drop(self, *, defeated: bool) -> bool:
        """Stop asking for blocks that an answered write has not taken, so that they defeat no other request.

        Return whether there are orders at all.
        """
        for pending, order in self._orders:
            if not pending.done:
                pending.done = True
                if defeated:
                    order.stock.note(order.count, granted=False)
        return bool(self._orders)

    def keep(self) -> None:
        """Keep the blocks that were taken, however the batch ended, and pay from them for requests that have come since."""
        queue, writer = self._queue, self._writer
        for pending, order in self._orders:
            if isinstance(pending.outcome, Grant):
                order.stock.add(pending.outcome, order.planned, writer.error())
                order.stock.note(order.count, granted=True)
        queue.refuse_until_turn(writer.error())
        if self._orders and writer.is_on_time():
            writer.counters.add("cache_hits", count=queue.pay_waiting(writer.clock(), writer.timer()))
