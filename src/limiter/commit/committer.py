# twin: sync_committer.py
"""Group commit: while a write to a bucket is in flight, requests for the same bucket queue up, and the next write carries them.

A request is admitted only by a write that includes it, so batching is exact. A caller that finds a bucket at rest leads: it
writes its own request at once. Then it passes the lead directly to a waiting caller, for a batch of all queued requests. (With a
lock instead, new callers overtake waiting ones, and batches shrink to one.)
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from ..core import preview
from ..core.request import Grant, Refusal, Request, refund_of
from ..exceptions import LimiterError, RateLimiterUnavailable
from ..runtime.concurrency import shielded, start
from ..runtime.gate import Gate
from ..runtime.scope import Origin
from ..runtime.wakeup import Deadlines
from ..statistics import Counters
from .allotment import Payment
from .breaker import Breaker
from .bucket_queue import BucketQueue, PendingRequest, Waiter
from .leading import Leader
from .queues import Queues
from .slots import BucketSlots, SlotKeeper
from .writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..core.records import BucketKey
    from ..core.request import NotTried
    from ..repository_protocol import BucketStore
    from .bucket_queue import Outcome
    from .writer import CommitterOptions

CALLS = 64
"""Most concurrent calls of one committer to its store, unless the store states how many connections it has."""
CLOSED_AT_ONCE = 32
"""Buckets whose units in advance are given back together at the end."""


class Committer:
    """Carries requests to their buckets, one write at a time for each bucket.

    Belongs to one event loop, or to the threads and greenlets of one process.
    """

    def __init__(
        self,
        store: BucketStore,
        options: CommitterOptions,
        breaker: Breaker | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.origin = Origin()
        self.gate = Gate(getattr(store, "max_connections", CALLS))
        self.clock = store.clock
        self.sleep = options.sleep
        self._options = options
        self._counters = counters or Counters()
        self.lock = threading.Lock()
        self.deadlines = Deadlines()
        self._breaker = breaker or Breaker()
        self._queues: Queues[BucketQueue] = Queues(BucketQueue, options.max_queues, store.clock)
        self._slots: SlotKeeper | None = None
        self._writer = BatchWriter(store, self.lock, self._breaker, self._counters, self.gate, options)
        self._leader = Leader(self._writer, options)
        self.record_lost_refund = self._writer.record_lost_refund

    async def decide(self, requests: Sequence[Request]) -> list[Outcome]:
        """Decide and write requests to different buckets in parallel; return their outcomes in the same order.

        If one can be refused by the known state, the others are not sent: `NotTried`, or None if nothing is known. If the table
        does not respond to a request's call in time, its outcome is a `RateLimiterUnavailable`; a queue that moves may take
        longer. If the caller is interrupted (cancelled, killed, timed out), everything taken for it is refunded before the
        interruption continues. A single request without refunds is written without a batch if its bucket is at rest.
        """
        waiter: Waiter | None = None
        pending: PendingRequest | None = None
        try:
            if len(requests) == 1:
                with self.lock:
                    queue = self._queue(requests[0].key)
                    if requests[0].allots:
                        pending = PendingRequest(requests[0], queue)
                        self._pay_at_once(pending)
                    elif self._is_at_rest(queue, requests[0]):
                        pending = PendingRequest(requests[0], queue)
                        queue.leader = pending
            if pending is not None and pending.queue.leader is pending:
                await start([partial(self._leader.write_at_once, pending)], partial(self._join, pending))
                waiter = None if pending.done else self._waiter_left(pending)
            if pending is not None and pending.done:
                return [pending.outcome if isinstance(pending.outcome, Grant) else pending.result()]
            if waiter is None:
                waiter = self._waiter()
                self._enter(waiter, requests)
            await self._wait(waiter)
            outcomes = [each.result() for each in waiter.requests]
            waiter.requests = ()  # They refer to the waiter: the cycle would be left to the garbage collector.
            return outcomes
        except BaseException as interruption:
            waiter = waiter or (self._waiter() if pending is None else self._waiter_of(pending))
            try:
                await shielded(self._withdraw(waiter, requests))
            except Exception as error:
                raise interruption from error
            raise
        finally:
            if waiter is not None:
                waiter.pass_on()

    def _is_at_rest(self, queue: BucketQueue, request: Request) -> bool:
        """Tell whether a request that no block may pay can be written at once: no other is in progress, no read is needed."""
        if queue.leader is not None or queue.requests or queue.state.unreadable or self._options.linger:
            return False
        if request.slots or queue.slots is not None or (queue.pace is not None and queue.pace.interval):
            return False
        if request.refunds or request.forced or request.clear or request.pause is not None or not self._breaker.is_closed:
            return False
        return not queue.denied or self.clock() - queue.denied >= self._options.denial_ttl

    def _pay_at_once(self, pending: PendingRequest) -> None:
        """Pay for a request, without a waiter, to a bucket that has refused nothing lately."""
        now = self.clock()
        if now - pending.queue.denied >= self._options.denial_ttl:
            pending.outcome = self._pay(pending.queue, pending.request, now)
            if pending.outcome is not None:
                pending.done = True
                self._counters.add("cache_hits")

    def _waiter(self) -> Waiter:
        return Waiter(monotonic(), self._writer.patience)

    def _waiter_of(self, pending: PendingRequest) -> Waiter:
        """Return the waiter of a caller that wrote its request at once and has to wait after all."""
        waiter = pending.waiter
        if waiter is None:
            waiter = pending.waiter = self._waiter()
        waiter.requests, waiter.pending = (pending,), not pending.done
        return waiter

    def _waiter_left(self, pending: PendingRequest) -> Waiter | None:
        """Return the waiter of a request that was not decided at once; None if it never was in the queue.

        It is there if a batch has put it back, so that others lead after one turn. Asked anew, it would be charged twice.
        """
        with self.lock:
            return self._waiter_of(pending) if pending.entered else pending.waiter

    async def _join(self, pending: PendingRequest) -> None:
        """Wait for the task that writes a request at once."""
        await self.deadlines.wait(self._waiter_of(pending))

    async def _wait(self, waiter: Waiter) -> None:
        """Wait until everything is decided or abandoned; lead the queues that the caller has to lead."""
        while waiter.pending:
            waiter.clear()
            if waiter.to_lead:
                leads = [partial(self._leader.lead, queue, waiter) for queue in waiter.to_lead]
                await start(leads, partial(self.deadlines.wait, waiter))
            elif waiter.pending:
                await self.deadlines.wait(waiter)
            if waiter.pending and monotonic() >= waiter.expires and not self._may_wait_on(waiter):
                self._abandon(waiter)

    async def close(self) -> None:
        """Renew no slots, and give back what blocks hold of quotas, to some buckets at a time. Each takes the time to decide."""
        if self._slots is not None:
            await self._slots.close(self._writer.patience)
        with self.lock:
            held = [(queue.key, queue.allotments.leave()) for queue in self._queues.values() if queue.allotments is not None]
        asked = [Request(key, refunds=refunds) for key, refunds in held if refunds]
        for first in range(0, len(asked), CLOSED_AT_ONCE):
            await self.write_refunds(asked[first : first + CLOSED_AT_ONCE])

    async def refund_grants(self, grants: Iterable[tuple[BucketKey, Grant]]) -> None:
        """Give back what was granted and not used: to its block, or to its bucket as far as it is still worth something."""
        written = []
        with self.lock:
            for key, grant in grants:
                if isinstance(grant, Payment):
                    written.append(Request(key, refunds=tuple(grant.give_back())))
                else:
                    written.append(refund_of(key, grant.receipts))
        await self.write_refunds(written)

    async def write_refunds(self, requests: Iterable[Request]) -> bool:
        """Write requests that contain only refunds, in parallel; return whether all of them were written.

        An unreachable store is logged and not raised: the units then stay taken until they have refilled. While the interpreter
        shuts down, any error is logged, because a client may be unable to import what it needs.
        """
        sent = [request for request in requests if request.refunds]
        outcomes = await self.decide(sent) if sent else []
        for request, outcome in zip(sent, outcomes, strict=True):
            if isinstance(outcome, LimiterError) or (isinstance(outcome, Exception) and sys.is_finalizing()):
                self.record_lost_refund(request, outcome)
            elif isinstance(outcome, Exception):
                raise outcome
        return not any(isinstance(outcome, Exception) for outcome in outcomes)

    def _enter(self, waiter: Waiter, requests: Sequence[Request]) -> None:
        """Queue the requests, unless the known state decides all of them; the caller leads each queue without a leader."""
        with self.lock:
            now = self.clock()
            waiter.requests = tuple([PendingRequest(request, self._queue(request.key), waiter) for request in requests])
            waiter.pending = len(waiter.requests)
            for pending in waiter.requests:
                if pending.request.slots:
                    self._open_slots(pending.queue).absorb(pending)
            if self._deny(waiter, now):
                return
            for pending in waiter.requests:
                queue = pending.queue
                if pending.request.slots and queue.slots is not None:
                    pending.outcome = queue.slots.serve(pending)
                else:
                    pending.outcome = self._pay(queue, pending.request, now)
                if pending.outcome is not None:
                    pending.finish(pending.outcome)
                    self._counters.add("cache_hits")
                    continue
                if pending.request.allots and self._writer.is_on_time():
                    queue.observe(pending.request, now)
                refusal = self._breaker.refusal()
                if refusal is not None:
                    pending.finish(refusal)  # It does not wait for the caller that tests the store.
                    continue
                queue.add(pending, now)
                if queue.leader is None:
                    waiter.to_lead = (*waiter.to_lead, queue)
                    queue.leader = waiter

    def _pay(self, queue: BucketQueue, request: Request, now: int) -> Grant | None:
        """Pay for a request from units that were taken in advance; None where its limits have no allotment, or no block does."""
        if not request.allots or not self._writer.is_on_time():
            return None
        return queue.pay(request, now, self._writer.timer())

    def _slots_of(self, key: BucketKey) -> BucketSlots | None:
        """Return the slots that the process holds or waits for in a bucket; None if there are none."""
        queue = self._queues.get(key)
        return None if queue is None else queue.slots

    def has_lost(self, key: BucketKey, name: str, generation: int) -> bool:
        """Tell whether other processes may hold the slots that were granted in a generation of leases."""
        slots = self._slots_of(key)
        return slots is None or slots.ledger.is_lost(name, generation, self.clock(), self._writer.timer())

    def last_renewal(self, key: BucketKey, name: str, generation: int) -> int:
        """Return the table's time of the last renewal of slots that were lost."""
        slots = self._slots_of(key)
        return 0 if slots is None else slots.ledger.last_renewal(name, generation)

    @property
    def has_line(self) -> bool:
        """Whether callers wait in line for slots of any bucket."""
        return self._slots is not None and self._slots.waiting > 0

    def open_slots(self, key: BucketKey) -> BucketSlots:
        """Return the slots that the process holds or waits for in a bucket; creates an empty record if there is none."""
        with self.lock:
            return self._open_slots(self._queue(key))

    def _open_slots(self, queue: BucketQueue) -> BucketSlots:
        if self._slots is None:
            self._slots = SlotKeeper(self.clock, self.decide, self.lock)
        if queue.slots is None:
            queue.slots = BucketSlots(self._slots, queue)
        return queue.slots

    def _queue(self, key: BucketKey) -> BucketQueue:
        queue = self._queues[key]
        self._queues.move_to_end(key)
        return queue

    def _deny(self, waiter: Waiter, now: int) -> bool:
        """Refuse everything at once if a part cannot fit by the known state; report what is known of the other parts."""
        # A look costs time even if the requests fit, so it is made only if one was refused recently.
        if not any(now - pending.queue.denied < self._options.denial_ttl for pending in waiter.requests):
            return False
        looks = [self._look(pending, now) for pending in waiter.requests]
        refused = sum([isinstance(look, Refusal) for look in looks])
        if refused:
            for pending, look in zip(waiter.requests, looks, strict=True):
                if isinstance(look, Refusal):
                    pending.queue.denied = now
                if look is not None:
                    pending.finish(look)
            waiter.pending = 0
            self._counters.add("cache_hits", count=refused)
        return bool(refused)

    def _look(self, pending: PendingRequest, now: int) -> Refusal | NotTried | None:
        """Return the outcome by the last state, behind earlier equal requests; None if the state proves nothing."""
        queue, request = pending.queue, pending.request
        if queue.returning or queue.state.unreadable or request.forced or request.is_order or pending.returns or request.slots:
            return None
        if not self._writer.is_on_time() or queue.covers(request, now, self._writer.timer()):
            return None
        refusal = queue.turned_away(request, now, self._writer.error())
        if refusal is not None:
            queue.observe(request, now)
            return refusal
        if not self._writer.proves_refusals(queue, now):
            return None
        return preview.look(queue.state, request, now, queue.before(request, now), error=self._writer.error())

    def _may_wait_on(self, waiter: Waiter) -> bool:
        """Tell whether a caller may wait on after its time: the table still responds, and none of its own calls is overdue."""
        now = monotonic()
        with self.lock:
            deadlines = [self._deadline(pending, waiter.patience) for pending in waiter.requests if not pending.done]
        waiter.expires = self._breaker.extended(waiter.expires, now, min(deadlines, default=now))
        return waiter.expires > now

    def _deadline(self, pending: PendingRequest, patience: float) -> float:
        """Return until when a request may be undecided: counted from its own call, or from the last response to any call."""
        batch = pending.queue.batch
        if batch is not None and batch.sent is not None and pending in batch.requests:
            return batch.sent + patience
        if batch is None and pending.queue.leader is pending:
            return 0.0  # Its own call was sent when the request arrived.
        return self._breaker.answered + patience

    def _abandon(self, waiter: Waiter) -> None:
        """Stop waiting for undecided requests. They leave the queue, or are refunded if they are granted later."""
        with self.lock:
            for pending in waiter.requests:
                if pending.done:
                    continue
                queue = pending.queue
                queued = queue.remove(pending)
                error = RateLimiterUnavailable(f"no answer from the table within {self._writer.patience} s", unsent=queued)
                last_error = None if queue.batch is None else queue.batch.last_error
                error.__cause__ = last_error or TimeoutError(str(error))
                pending.outcome, pending.done, pending.abandoned = error, queued, not queued
            waiter.pending = 0
        self._renounce(waiter)

    def _renounce(self, waiter: Waiter) -> None:
        """Hand over every queue that the caller should lead and has not started to lead."""
        for queue in waiter.to_lead:
            self._leader.hand_over(queue, waiter, stop=True)
        waiter.to_lead = ()

    async def _withdraw(self, waiter: Waiter, requests: Sequence[Request]) -> None:
        """Undo the requests of an interrupted caller, except its refunds, which stay in the queue without it."""
        with self.lock:
            if not waiter.requests:  # It was interrupted before it came into any queue.
                waiter.requests = tuple([PendingRequest(request, self._queue(request.key), waiter) for request in requests])
            for pending in waiter.requests:
                if pending.queue.leader is pending and not pending.entered:
                    pending.queue.leader, waiter.to_lead = waiter, (pending.queue,)
                if not pending.done and (pending.queue.remove(pending) or not pending.entered):
                    pending.done = True
                    self._leave_refunds(pending, waiter)
            waiter.pending = sum([not pending.done for pending in waiter.requests])
        await self._lead_without_waiters(waiter)
        try:
            while waiter.pending and (monotonic() < waiter.expires or self._may_wait_on(waiter)):
                waiter.clear()
                if waiter.pending:
                    await self.deadlines.wait(waiter)
        finally:  # Also if it is interrupted again. What is granted later goes back when it is.
            self._abandon(waiter)
            self._record_lost(waiter)
            granted = [(each.queue.key, each.outcome) for each in waiter.requests if isinstance(each.outcome, Grant)]
            await self.refund_grants(granted)

    def _leave_refunds(self, pending: PendingRequest, waiter: Waiter) -> None:
        """Queue the refunds of a request that was taken out of a queue again; the caller leads them if there is no leader."""
        queue, request = pending.queue, pending.request
        if request.refunds or request.is_settlement:
            queue.add(PendingRequest(Request(queue.key, refunds=request.refunds, slots=request.slots), queue))
            if queue.leader is None:
                waiter.to_lead = (*waiter.to_lead, queue)
                queue.leader = waiter

    def _record_lost(self, waiter: Waiter) -> None:
        """Count the losses of an interrupted caller: refunds that were not written, and units that may stay taken."""
        for pending in waiter.requests:
            error = pending.outcome
            if isinstance(error, RateLimiterUnavailable) and (pending.returns or not error.unsent):
                self.record_lost_refund(pending.request, error)

    async def _lead_without_waiters(self, waiter: Waiter) -> None:
        """Hand over every queue that the caller should lead; lead those in which only refunds without a caller wait."""
        leads, waiter.to_lead = waiter.to_lead, ()
        for queue in leads:
            self._leader.hand_over(queue, waiter)
            if queue.leader is waiter:
                await self._leader.lead(queue, waiter)
