# twin: sync_leading.py
"""The leader of a queue carries out one batch after another, and hands over to a waiting caller."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from ..core import plan as planning
from ..core import preview
from ..core.trust import UNTRUSTED, reading
from ..core.units import NANOSECONDS
from ..exceptions import RateLimiterUnavailable
from .batch import MAX_BATCH, Batch

if TYPE_CHECKING:
    from ..core.plan import Plan
    from ..core.request import Grant
    from ..core.state import BucketState, WriteResult
    from .bucket_queue import BucketQueue, CurrentBatch, PendingRequest, Waiter
    from .writer import BatchWriter, CommitterOptions

GATHERING = 50_000_000
"""Most nanoseconds for which requests gather that have to wait anyway; at most a quarter of the first one's wait."""


class Leader:
    """Leads the queues of a committer, each for one caller at a time."""

    def __init__(self, writer: BatchWriter, options: CommitterOptions) -> None:
        self._writer = writer
        self._lock = writer.lock
        self._options = options

    async def lead(self, queue: BucketQueue, waiter: Waiter) -> None:
        """Carry out a batch and hand over. If no caller waits for the rest of the queue, continue."""
        lead = object()
        waiter.leading += 1
        try:
            self._claim(queue, waiter, lead)
            await self._lead_on(queue, lead)
        finally:
            waiter.leading -= 1
            self.hand_over(queue, lead, stop=True)

    async def write_at_once(self, pending: PendingRequest) -> None:
        """Write the only request of a bucket at rest without a batch; its caller leads.

        If anything happens other than that the update is applied, a batch continues from there. So after an interruption at any
        step, the request is decided, or in a batch that knows what was sent.
        """
        queue = pending.queue
        if queue.leader is not pending:
            return  # Its caller was interrupted earlier, and has handed over.
        try:
            try:
                await self._send_at_once(pending)
            except BaseException:
                if queue.batch is not None:
                    await self._finish_interrupted(queue.batch)
                raise
            if queue.leader is pending:
                if queue.batch is None:
                    self.hand_over(queue, pending)
                await self._lead_on(queue, pending)
        finally:
            if queue.leader is pending:
                self._end_batch(queue)
                self.hand_over(queue, pending, stop=True)

    async def _send_at_once(self, pending: PendingRequest) -> None:
        queue, writer = pending.queue, self._writer
        plan: Plan | None = None
        answer: WriteResult | Exception | None = None
        sent, enters = 0.0, False
        try:
            pending.entered = True
            if queue.requests:
                return  # Others have asked in the same moment, and share the write.
            sent, (now, error) = monotonic(), reading(writer.clock)
            count = writer.attempt if queue.pace is None else writer.toll(queue)
            made = planning.plan(queue.state, (pending.request,), now, next(writer.stamps), error=error, fresh=False, count=count)
            enters = bool(now < UNTRUSTED and made.update and made.shares) and writer.gate.try_enter()
            if enters and made.update is not None:
                plan, queue.wrote = made, now
                if made.rivals or made.dropped:
                    writer.warn_of_rivals(queue, made)
                writer.counters.add("calls", "batches")
                answer = await writer.store.write_bucket(queue.key, made.update)
                writer.breaker.answered = monotonic()
                if writer.breaker.failures:
                    writer.breaker.note_recovery()
                if answer.applied:
                    if answer.state.count != queue.state.count + count or queue.pace is not None:
                        writer.note_count(queue, made.update, answer.state, now, applied=True)
                    self._finish_at_once(pending, made.grants(answer.state)[0], answer.state, now)
        except Exception as error:
            answer = error
        finally:
            if enters:
                writer.gate.leave()
            if not pending.done:
                self._make_batch(pending, plan, sent, answer)

    def _finish_at_once(self, pending: PendingRequest, grant: Grant, state: BucketState, now: int) -> None:
        """Keep the state, finish the request, and leave the bucket at rest unless others have come."""
        queue = pending.queue
        with self._lock:
            queue.state, queue.seen = state, now
            if pending.waiter is None:
                pending.outcome, pending.done = grant, True
            else:
                queue.finish(pending, grant)
            if not queue.requests:
                queue.leader = None

    def _make_batch(
        self, pending: PendingRequest, plan: Plan | None, sent: float, answer: WriteResult | Exception | None
    ) -> None:
        """Make a batch that continues with a request that was not decided at once; unsent, it takes along the queued ones."""
        pending.queue.batch = batch = Batch(self._writer, pending.queue, [pending])
        if plan is not None and plan.update is not None:
            batch.resume(plan, plan.update, sent, answer)
        else:
            batch.gather_more()

    async def _lead_on(self, queue: BucketQueue, lead: object) -> None:
        while queue.leader is lead:
            await self._lead_batch(queue)
            self.hand_over(queue, lead)

    def _claim(self, queue: BucketQueue, waiter: Waiter, lead: object) -> None:
        """Transfer the lead from the caller to the work, because the work continues when the caller is cancelled."""
        with self._lock:
            if queue.leader is waiter:
                queue.leader = lead
            waiter.to_lead = tuple([each for each in waiter.to_lead if each is not queue])

    async def _lead_batch(self, queue: BucketQueue) -> None:
        """Carry out one batch; after an interruption start again, which the stamps make safe."""
        try:
            try:
                if queue.batch is None:
                    await self._linger(queue)
            finally:
                batch = queue.batch or self._take_batch(queue)
            await batch.carry_out()
        except Exception as error:
            if queue.batch is not None:
                queue.batch.fail(error)
        except BaseException:
            if queue.batch is not None:
                await self._finish_interrupted(queue.batch)
            raise
        finally:
            self._end_batch(queue)

    async def _linger(self, queue: BucketQueue) -> None:
        """Wait for the interval between two writes to a bucket, in which requests gather, or let waiting requests gather.

        Before that, wait until the callers of the last batch are awake. They may ask again, and threads that are being woken
        contend with the write for the interpreter: with 500 of them, a batch then carried 6 requests in place of 250.
        """
        relay, queue.relay = queue.relay, None
        if relay is not None:
            await relay.settle(GATHERING / NANOSECONDS)
        delay = self._writer.delay(queue) if len(queue.requests) < MAX_BATCH else 0.0
        if delay > 0:
            await (self._options.sleep or asyncio.sleep)(delay)
        elif (spare := self._spare(queue, self._writer.clock())) > 0:
            await asyncio.sleep(spare)

    def _spare(self, queue: BucketQueue, now: int) -> float:
        """Return the seconds for which requests can gather, because every caller in the queue has to wait for its turn anyway."""
        with self._lock:
            crowd = queue.requests
            if not 1 < len(crowd) < MAX_BATCH or any(pending.request.deadline <= now for pending in crowd):
                return 0.0
            if not self._writer.proves_refusals(queue, now):
                return 0.0
            return min(preview.wait(queue.state, crowd[0].request, now) // 4, GATHERING) / NANOSECONDS

    def _take_batch(self, queue: BucketQueue) -> Batch:
        with self._lock:
            batch = Batch(self._writer, queue, queue.requests[:MAX_BATCH])
            queue.batch, queue.requests = batch, queue.requests[MAX_BATCH:]
            batch.blocks.place(batch.requests)
            return batch

    def _end_batch(self, queue: BucketQueue) -> None:
        with self._lock:
            batch, queue.batch = queue.batch, None
            if batch is not None:
                batch.keep_blocks()

    async def _finish_interrupted(self, batch: CurrentBatch) -> None:
        try:
            await batch.carry_out()
        except BaseException as error:
            batch.fail(RateLimiterUnavailable(f"the write of this batch was interrupted: {error!r}"))
            raise

    def hand_over(self, queue: BucketQueue, leader: object, *, stop: bool = False) -> None:
        """Pass the lead to a waiting caller; if no caller waits, `leader` keeps it for the rest of the queue.

        With `stop`, `leader` gives it up in any case, and the rest of the queue waits for the next caller.
        """
        with self._lock:
            if queue.leader is not leader:
                return
            waiter = queue.next_leader()
            if waiter is None:
                queue.leader = leader if queue.requests and not stop else None
                return
            if queue not in waiter.to_lead:
                waiter.to_lead = (*waiter.to_lead, queue)
            queue.leader = waiter
        waiter.set()
