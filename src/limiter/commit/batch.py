# twin: sync_batch.py
"""One batch of a bucket's requests: plans it, writes it in one call if possible, and reports the outcomes.

After a write without a response, the batch looks for its stamp before anything is written again.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from ..core import plan as planning
from ..core import preview
from ..core.request import Refusal
from ..core.state import WriteResult
from ..core.units import NANOSECONDS
from ..exceptions import CircuitOpen, LimiterError, RateLimiterUnavailable, Throttled
from ..runtime.retry import ATTEMPTS, backoff
from ..runtime.wakeup import Relay
from .batch_slots import BatchSlots
from .block_orders import BlockOrders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.plan import Plan
    from ..core.slots import Side
    from ..core.state import BucketState, Update
    from .batch_slots import Outcomes
    from .bucket_queue import BucketQueue, PendingRequest
    from .writer import BatchWriter

MAX_BATCH = 1_000
"""Most requests of callers in one write. Requests for blocks come on top."""
MAX_ROUNDS = 50
"""Writes that other processes may overtake before a batch fails."""
TRIED = 0.8
"""The part of the time for a decision in which writes are repeated. The rest lets callers learn the reason before it is over."""
WRITES_A_TURN = 2
"""Writes of a batch while a pace is kept: the second one knows what the first has seen. The rest waits for its turn."""
WRITES_IN_PLENTY = 4
"""The same while units are not scarce: there a defeat says only that the bucket was idle or busy against expectation."""
_NONE: Outcomes = {}
NOT_IN_FLIGHT = (0, 0, 0)
"""No write is in flight."""


class Batch:
    """Requests that are decided together.

    `in_flight` is the time at which the write under way was planned, how many of the counted requests it carries, and how many it
    carries or has refused. `sent` is when its first call was sent (monotonic seconds), None while it waits at the gate.
    `last_error` is the failure of the last call. `blocks` are taken in advance along with it.

    `_fresh` means that the batch has seen the bucket's state itself. `_sent` is an update without an answer yet, with the
    requests that it was planned for; `_stamp` names it, and `_first` is the plan sent first under that stamp. While a lost
    update may still arrive, `_carried` are its requests, and `_covered` says that enough others have written since for it to
    have been applied.
    """

    __slots__ = (
        *("_called", "_carried", "_covered", "_failure", "_first", "_fresh", "_queue", "_sent", "_slots"),
        *("_stamp", "_writer", "_writes", "blocks", "in_flight", "last_error", "requests", "sent"),
    )

    def __init__(self, writer: BatchWriter, queue: BucketQueue, requests: list[PendingRequest]) -> None:
        self._writer = writer
        self._queue = queue
        self.requests = requests
        self.in_flight = NOT_IN_FLIGHT
        self.sent: float | None = None
        self.last_error: Exception | None = None
        self._fresh = False
        self._called = False
        self._writes = 0
        self._carried: list[PendingRequest] = []
        self._covered = False
        self._sent: tuple[Plan, Update, list[PendingRequest]] | None = None
        self._stamp = ""
        self._first: Plan | None = None
        self._failure: Exception | None = None
        self._slots = BatchSlots(writer, queue)
        self.blocks = BlockOrders(writer, queue)

    def resume(self, plan: Plan, update: Update, sent: float, answer: WriteResult | Exception | None) -> None:
        """Continue after an update that was sent at that time without a batch; `answer` is None if its result is unknown."""
        self._called, self._stamp, self.sent, self._writes = True, update.stamp, sent, 1
        self._start_write(plan, update, self.requests)
        if isinstance(answer, WriteResult):
            self._answer(plan, update, self.requests, answer)
        elif answer is not None:
            self._failure = answer
            self._note_unsent(answer)

    async def carry_out(self) -> None:
        """Decide every request. Repeats failed attempts as long as another one is likely to end in time.

        Raises the error of the last attempt. The caller then passes it to the undecided requests by `fail`.
        """
        with self._writer.breaker.guard() as attempt:
            await self._try(attempt)
            attempt.is_moot = not self._fresh
        if self.requests:
            raise RateLimiterUnavailable(
                f"{MAX_ROUNDS} writes to {self._queue.key} were overtaken by other processes", unsent=True
            )

    def fail(self, error: Exception) -> None:
        """End every undecided request with the error."""
        if isinstance(error, RateLimiterUnavailable) and error.unsent and (self._sent or self._carried or self._slots.holds_back):
            error = _in_doubt(error)
        with self._writer.lock:
            self._slots.give_up(None if self._sent is None else self._sent[1])
            lost = [pending.request for pending in self.requests if pending.waiter is None and pending.returns]
            for pending in self.requests:
                self._queue.finish(pending, error)
            self.requests, self._carried, self._sent, self.in_flight = [], [], None, NOT_IN_FLIGHT
        for request in lost:
            self._writer.record_lost_refund(request, error)

    def keep_blocks(self) -> None:
        """Keep the blocks that the batch has taken, however it ended."""
        self.blocks.keep()

    async def _try(self, attempt: object) -> None:
        failures, began = 0, 0.0
        for _ in range(MAX_ROUNDS):
            if self._has_had_its_turn():
                self._leave_the_rest()
            if not self.requests:
                return
            try:
                if self._failure is not None and self.sent is not None:
                    began, failure, self._failure = self.sent, self._failure, None
                    raise failure
                waits = self._writer.gate.is_full
                async with self._writer.gate:
                    if waits:
                        self._leave_line(attempt)
                    began = monotonic()
                    self.sent = self.sent or began
                    await self._step()
            except CircuitOpen:
                raise
            except RateLimiterUnavailable as error:
                self.last_error = error
                self._writer.counters.add_failure(error)
                hot = isinstance(error, Throttled) and error.hot_key
                failures += not hot
                delay = self._writer.note_throttled(self._queue) / NANOSECONDS if hot else 0
                # The next attempt may take as long as this one.
                until = (self.sent or began) + TRIED * self._writer.patience
                if failures == ATTEMPTS or 2 * monotonic() - began + delay > until:
                    raise
                await (asyncio.sleep(delay) if hot else backoff(failures))
                self.gather_more()

    def _leave_line(self, attempt: object) -> None:
        """Start after a wait at the gate, with the requests that have queued up; raises the refusal of an open breaker."""
        refusal = self._writer.breaker.refusal(attempt)
        if refusal is not None:
            raise refusal
        self.gather_more()

    def _has_had_its_turn(self) -> bool:
        """Tell whether the bucket's pace demands a wait before the next write, and nothing of the batch is in doubt."""
        if not self._queue.is_paced or self._sent or self._carried or self._failure or self._slots.holds_back:
            return False
        return self._writes >= (WRITES_A_TURN if self._queue.is_scarce(self._writer.clock()) else WRITES_IN_PLENTY)

    def _leave_the_rest(self) -> None:
        """Put the undecided requests back at the head of the queue, for the next batch, which waits for its turn.

        So no caller leads for longer than one turn. A process that saw little free refuses those which blocks might pay for.
        """
        self._drop_blocks(defeated=False)  # No batch but this one would hold them.
        self.gather_more()
        self._drop_abandoned()
        with Relay() as relay, self._writer.lock:
            queue, now, error = self._queue, self._writer.clock(), self._writer.error()
            queue.refuse_until_turn(error)
            found = [queue.turned_away(pending.request, now, error) for pending in self.requests]
            self._tell(self.requests, {place: refusal for place, refusal in enumerate(found) if refusal is not None}, relay)
            queue.requests[:0], self.requests = self.requests, []

    def gather_more(self) -> None:
        """Add the requests that have queued up since."""
        with self._writer.lock:
            queue, room = self._queue, MAX_BATCH - len(self.requests)
            self.requests, queue.requests = self.requests + queue.requests[:room], queue.requests[room:]

    async def _step(self) -> None:
        """Make one call, or deliver the outcomes of the last one."""
        if self._sent is not None:
            await self._recover(*self._sent)
        elif self._must_look():
            await self._look()
        else:
            await self._plan()

    async def _plan(self) -> None:
        queue = self._queue
        self._drop_abandoned()
        if queue.state.unreadable:
            requests = [pending.request for pending in self.requests]
            self._deliver(self.requests, preview.unreadable(queue.state, requests))
        self._carried = [pending for pending in self._carried if not pending.done]
        if not self._carried:
            self._stamp, self._covered, self._first = next(self._writer.stamps), False, None
            self.blocks.date()
        slots = self._settle_slots()
        planned, now, error = self._carried or self.requests, self._writer.clock(), self._writer.error()
        requests = [pending.request for pending in planned]
        count, part = self._writer.toll(queue), 1.0 if self._carried else queue.part(now)
        plan = planning.plan(
            queue.state, requests, now, self._stamp, fresh=self._fresh, error=error, slots=slots, count=count, part=part
        )
        self._writer.warn_of_rivals(queue, plan)
        self._deliver_refusals(plan, planned, now)
        if plan.update is not None:
            if self._start_write(plan, plan.update, planned):
                self._answer(plan, plan.update, planned, await self._write(plan.update), definite=True)
        elif self._fresh:
            self._deliver(planned, self._slots.let_go(planned, plan.grants(queue.state)))
        elif self.requests:
            await self._look()

    def _settle_slots(self) -> Side | None:
        """Return what a plan needs to know of the process's slots; requests that only wait for a write of them may end."""
        if self._queue.slots is None:
            return None
        with self._writer.lock:
            side = self._slots.settle(self.requests)
            self.requests = [pending for pending in self.requests if not pending.done]
        return side

    def _deliver_refusals(self, plan: Plan, planned: Sequence[PendingRequest], now: int) -> None:
        """Deliver the refusals that the state proves, alone or, while a pace is kept, with equal requests ahead."""
        if plan.refused and self._fresh:
            self._queue.denied = max(self._queue.denied, now)  # Others take what these lack, whether they are told yet or not.
        # The refunds of the batch may be what the others lack: then its write decides them.
        returns = plan.update is not None and any(pending.returns for pending in planned)
        if not plan.refused or returns or not (self._fresh or self._writer.proves_refusals(self._queue, now)):
            return
        proven = plan.proven(behind_equals=self._queue.is_paced)
        if not self._fresh:
            self._writer.counters.add("cache_hits", count=sum([not planned[place].done for place in proven]))
        self._deliver(planned, proven)

    def _drop_abandoned(self) -> None:
        """Leave out requests whose callers have gone, unless they contain refunds."""
        with self._writer.lock:
            for pending in self.requests:
                if pending.abandoned and not pending.returns and not pending.done:
                    pending.done = True
                    self._queue.discount(pending)
            self.requests = [pending for pending in self.requests if not pending.done]

    def _must_look(self) -> bool:
        """Tell whether the known state is not enough to plan an update."""
        queue = self._queue
        if not self._writer.is_on_time():
            return True
        if queue.seen is None and any(pending.request.refunds for pending in self.requests):
            return True  # The value of a refund depends on the state, which an update of other limits would not assert.
        return bool(queue.state.unreadable) and not self._fresh  # The item may have been deleted since.

    def _count_call(self) -> None:
        """Count a call, and with the first call the batch."""
        self._writer.counters.add("calls", *(() if self._called else ("batches",)))
        self._called = True

    async def _look(self) -> None:
        self._count_call()
        self._see(await self._writer.store.read_bucket(self._queue.key))

    def _start_write(self, plan: Plan, update: Update, planned: list[PendingRequest]) -> bool:
        """Record the sending of an update; return False if it has to be planned again, because slots were handed on."""
        with self._writer.lock:
            if not self._slots.start(update, plan.view.slots):
                return False
            self._sent = plan, update, planned
            self._first = self._first or plan
            carried = sum([planned[place].counted for place in plan.shares])
            self.in_flight = plan.now, carried, carried + sum([planned[place].counted for place in plan.refused])
        return True

    async def _write(self, update: Update) -> WriteResult:
        self._count_call()
        self._writes += 1
        self._queue.wrote = self._writer.clock()
        try:
            return await self._writer.store.write_bucket(self._queue.key, update)
        except LimiterError as error:
            self._note_unsent(error)
            raise

    def _note_unsent(self, error: Exception) -> None:
        """Forget the update if the error says that it had no effect."""
        if isinstance(error, LimiterError) and (not isinstance(error, RateLimiterUnavailable) or error.unsent):
            with self._writer.lock:
                if self._sent is not None:
                    self._slots.fail(self._sent[1])
                self._sent, self.in_flight = None, NOT_IN_FLIGHT

    async def _recover(self, plan: Plan, update: Update, planned: list[PendingRequest]) -> None:
        """Determine whether a write was applied whose response was lost.

        If its stamp is one of the last three on record, it was applied. If not, its units are taken again, with the same stamp.
        They count twice if three other writes have covered the first one, so this is done only once. Its refunds are not
        repeated, but counted as lost.
        """
        self._count_call()
        queue = self._queue
        with self._writer.lock:
            self._slots.doubt(update)
        state = await self._writer.store.read_bucket(queue.key)
        with self._writer.lock:
            told = self._slots.verdict(update, state)
        applied = bool(told) or state.has_stamp(self._stamp)
        if not applied and told is not None:
            # The process's entry is not what this write leaves. The next write asserts and changes it, which voids this one.
            self._carried = [planned[place] for place in plan.shares]
        elif not applied:
            covered = not state.has_stamp(queue.state.stamp)  # Otherwise every write since the last one seen is on record.
            if covered and self._covered:
                self.fail(RateLimiterUnavailable(f"two writes to {queue.key} were lost, and covered by those of others"))
                return
            self._carried, self._covered = [planned[place] for place in plan.shares], self._covered or covered
            self._drop_refunds(covered=covered)
        self._answer(plan, update, planned, WriteResult(applied, state))

    def _drop_refunds(self, *, covered: bool) -> None:
        """Remove the refunds from a second write, because the first one may still arrive and make them.

        Units that may be taken twice, because the result of the first write is unknown, are counted as lost too.
        """
        what = "may have been applied" if covered else "was not applied"
        error = RateLimiterUnavailable(f"no answer to its write, which {what}")
        for pending in self._carried:
            request = pending.request
            if covered or request.refunds:
                pending.request = request._replace(refunds=())
                self._writer.record_lost_refund(request if covered else request._replace(charges=()), error)

    def _answer(
        self, plan: Plan, update: Update, planned: list[PendingRequest], result: WriteResult, *, definite: bool = False
    ) -> None:
        """Deliver what an update has decided, or see what prevented it; `definite` if that is the answer to its own call."""
        self._writer.note_count(self._queue, update, result.state, plan.now, applied=result.applied)
        if result.applied:
            self._see(result.state, planned, plan.outcomes(result.state, self._first))
            self._carried = []
        else:
            if definite:
                with self._writer.lock:
                    self._slots.fail(update)
            self._see(result.state)
        if not self._carried:
            self._drop_blocks(defeated=not result.applied)
        self._sent = None

    def _drop_blocks(self, *, defeated: bool) -> None:
        if self.blocks.drop(defeated=defeated):
            self.requests = [pending for pending in self.requests if not pending.done]

    def _see(self, state: BucketState, planned: Sequence[PendingRequest] = (), outcomes: Outcomes = _NONE) -> None:
        """Keep a state and finish the requests decided by it, in one step: otherwise their units would count twice."""
        self._writer.breaker.note_answer()
        with Relay() as relay, self._writer.lock:
            queue = self._queue
            queue.state, queue.seen, self._fresh, self.last_error = state, self._writer.clock(), True, None
            self.in_flight = NOT_IN_FLIGHT
            told = self._slots.learn(state, planned, outcomes, None if self._sent is None else self._sent[1])
            if told:
                self._tell(planned, told, relay)

    def _deliver(self, planned: Sequence[PendingRequest], outcomes: Outcomes) -> None:
        with Relay() as relay, self._writer.lock:
            self._tell(planned, outcomes, relay)

    def _tell(self, planned: Sequence[PendingRequest], outcomes: Outcomes, relay: Relay) -> None:
        """Finish requests, the last first, as a relay needs it. The caller holds the writer's lock."""
        queue = self._queue
        for place, outcome in reversed(tuple(outcomes.items())):
            if not planned[place].done:
                if isinstance(outcome, Refusal):
                    queue.denied = max(queue.denied, outcome.now)
                queue.finish(planned[place], outcome, relay)
        queue.relay = relay if relay.is_crowd else None
        self.requests = [pending for pending in self.requests if not pending.done]


def _in_doubt(error: RateLimiterUnavailable) -> RateLimiterUnavailable:
    """Return an error for requests of which an earlier write may have been applied, although the last call had no effect."""
    doubtful = RateLimiterUnavailable(str(error))
    doubtful.__cause__ = error.__cause__ if isinstance(error, CircuitOpen) else error
    return doubtful
