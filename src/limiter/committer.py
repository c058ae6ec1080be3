# twin: sync_committer.py
"""Group commit: while a write to a bucket is in flight, requests for the same bucket queue up, and the next write carries them.

Nothing is admitted that was not written, so batching is exact. Whoever finds a bucket at rest leads: it writes its own request
at once. On its way out it hands the lead directly to the head of the queue, which takes all that have gathered. (With a lock
instead, callers barge past those who wait, and batches shrink to one.)
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import bucket
from ._compat import begin, shielded
from .bucket import Credit, Grant, Receipt, Refusal, Request
from .exceptions import LimiterError, RateLimiterUnavailable, anew
from .gcra import NANOSECONDS
from .purse import Purse
from .state import EMPTY, Outcome, Update
from .table import ATTEMPTS, pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from .bucket import Plan
    from .records import BucketKey
    from .repository_protocol import RepositoryProtocol
    from .state import BucketState

_log = logging.getLogger("limiter.committer")

MAX_BATCH = 1_000
"""Requests that one write carries at most."""
MAX_LANES = 100_000
"""Buckets whose last state is remembered; a forgotten one costs a second write when it is used again."""
MAX_ROUNDS = 50
"""Writes that other processes may defeat before a batch gives up."""


class _Ticket:
    """One request on its way through a lane. Its event is set when it is decided, or when it is to lead."""

    __slots__ = ("done", "entered", "event", "leads", "outcome", "request", "returns")

    def __init__(self, request: Request, *, returns: bool = False) -> None:
        self.request = request
        self.returns = returns
        self.leads = False
        self.entered = False
        self.done = False
        self.event = asyncio.Event()
        self.outcome: Grant | Refusal | Exception = LimiterError("the request was never decided")

    def result(self) -> Grant | Refusal:
        """The outcome; an error is raised, anew for everybody who shares it."""
        if isinstance(self.outcome, Grant | Refusal):
            return self.outcome
        raise anew(self.outcome) from self.outcome.__cause__

    def finish(self, outcome: Grant | Refusal | Exception) -> None:
        """Settle the ticket and wake whoever waits for it."""
        self.outcome, self.done, self.entered = outcome, True, True
        self.event.set()


class _Lane:
    """What this process knows of one bucket, and the requests that wait for it.

    `denies` says that the last batch met refusals, `returning` how many requests on their way give something back.
    `state` is the last one seen, at the time `seen`, and `fresh` when the present batch has seen it. `sent` is an update without
    an answer yet, with the tickets that it carries; `stamp` names it, and stays until the update is known to have been applied.
    """

    __slots__ = ("batch", "busy", "denies", "fresh", "key", "purse", "queue", "returning", "seen", "sent", "stamp", "state")

    def __init__(self, key: BucketKey) -> None:
        self.key = key
        self.state = EMPTY
        self.seen: int | None = None
        self.purse: Purse | None = None
        self.fresh = False
        self.busy = False
        self.queue: list[_Ticket] = []
        self.returning = 0
        self.denies = False
        self.batch: list[_Ticket] = []
        self.sent: tuple[Plan, Update, list[_Ticket]] | None = None
        self.stamp = ""


@dataclass(frozen=True, slots=True)
class CommitterOptions:
    """How to spend fewer calls, in nanoseconds.

    For `denial_ttl` after a state was seen it proves refusals, though never admissions; so long nobody is told of what others
    have given back meanwhile. `linger` is the least time between two writes of this process to one bucket.
    """

    denial_ttl: int = 0
    linger: int = 0
    sleep: Callable[[float], Awaitable[None]] | None = None


class Committer:
    """Carries requests to their buckets, one write at a time for each bucket.

    Belongs to one event loop, or to the threads and greenlets of one process.
    """

    def __init__(self, repository: RepositoryProtocol, options: CommitterOptions) -> None:
        self._repository = repository
        self._options = options
        self._lock = threading.Lock()
        self._lanes: OrderedDict[BucketKey, _Lane] = OrderedDict()
        self._writer = os.urandom(6).hex()
        self._stamps = itertools.count(1)

    async def submit(self, key: BucketKey, request: Request) -> Grant | Refusal:
        """Have `request` decided and written; raises `RateLimiterUnavailable` when the store does not answer.

        When the caller is interrupted (cancelled, killed, timed out), whatever had been taken for it is given back before the
        interruption goes on.
        """
        ticket = _Ticket(request, returns=bool(request.credits))
        try:
            lane = self._enter(key, ticket)
            if lane is not None:
                await ticket.event.wait()
                if ticket.leads:
                    ticket.event = asyncio.Event()  # which from now on stands for the outcome
                    begin(self._lead(lane, ticket))
                    await ticket.event.wait()
            return ticket.result()
        except BaseException:
            await shielded(self._withdraw(key, ticket))
            raise

    async def close(self) -> None:
        """Give back what was taken in advance."""
        with self._lock:
            held = [(lane.key, lane.purse.empty()) for lane in self._lanes.values() if lane.purse is not None]
        for key, credits in held:
            await self.credit(key, credits)

    def observe(self, key: BucketKey, state: BucketState) -> None:
        """Learn a bucket's state that was read for another purpose, unless it is known already."""
        with self._lock:
            if key not in self._lanes:
                lane = self._lanes[key] = _Lane(key)
                lane.state, lane.seen = state, self._repository.clock()
                self._forget_oldest()

    async def give_back(self, key: BucketKey, receipts: Iterable[Receipt]) -> None:
        """Return what the receipts say was taken, as far as it is still worth something; see `credit`."""
        await self.credit(key, tuple(each.credit() for each in receipts if each.cost))

    async def credit(self, key: BucketKey, credits: tuple[Credit, ...]) -> None:
        """Write credits alone.

        A store that cannot be reached is logged and not raised: what was taken then stays taken until it has refilled.
        """
        if not credits:
            return
        try:
            await self.submit(key, Request(credits=credits))
        except LimiterError as error:
            _log.warning("a refund to %s was not written: %s", key, error)

    def _enter(self, key: BucketKey, ticket: _Ticket) -> _Lane | None:
        """Queue the ticket, and make it lead where nobody does; None when it was decided by what is known here already."""
        with self._lock:
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = _Lane(key)
                self._forget_oldest()
            else:
                self._lanes.move_to_end(key)
            if ticket.request.prefetch is not None and self._pay_from_purse(lane, ticket):
                return None
            if lane.denies and not lane.returning and self._deny(lane, ticket):
                return None
            if not lane.busy:
                ticket.event.set()
                lane.busy = ticket.leads = True
            lane.returning += ticket.returns
            ticket.entered = True
            lane.queue.append(ticket)
        return lane

    def _deny(self, lane: _Lane, ticket: _Ticket) -> bool:
        """Refuse at once what the last state seen proves a refusal for, also while a write is in flight."""
        now = self._repository.clock()
        if ticket.request.forced or ticket.returns or not self._proves_refusals(lane, now):
            return False
        refused = bucket.refused_by(lane.state, {0: ticket.request}, now)
        if refused:
            ticket.finish(refused[0])
        return bool(refused)

    def _proves_refusals(self, lane: _Lane, now: int) -> bool:
        return lane.seen is not None and 0 <= now - lane.seen < self._options.denial_ttl

    def _pay_from_purse(self, lane: _Lane, ticket: _Ticket) -> bool:
        if lane.purse is None:
            lane.purse = Purse()
        prefetch, now = ticket.request.prefetch, self._repository.clock()
        grant = lane.purse.spend(ticket.request.charges, prefetch, now) if prefetch is not None else None
        if grant is not None:
            ticket.finish(grant)
        return grant is not None

    def _forget_oldest(self) -> None:
        if len(self._lanes) > MAX_LANES:
            oldest = next(iter(self._lanes.values()))
            if not oldest.busy:
                del self._lanes[oldest.key]

    async def _withdraw(self, key: BucketKey, ticket: _Ticket) -> None:
        lane = self._lanes.get(key)
        queued = False
        if lane is not None:
            with self._lock:
                queued = ticket in lane.queue
                if queued:
                    lane.queue.remove(ticket)
                    lane.returning -= ticket.returns
            if queued and ticket.leads:
                self._hand_over(lane)
        if queued or not ticket.entered:
            return
        await ticket.event.wait()
        if isinstance(ticket.outcome, Grant):
            await self.give_back(key, ticket.outcome.receipts)

    async def _lead(self, lane: _Lane, ticket: _Ticket) -> None:
        """Carry out one batch, then hand over; after an interruption begin again, which the stamps make safe."""
        block = None
        try:
            ticket.leads = False  # From here on the lead is the work's, which goes on when the caller is cancelled.
            try:
                await self._linger(lane)
            finally:
                block = self._take_batch(lane)
            await self._commit(lane)
            if block is not None and lane.purse is not None and isinstance(block.outcome, Grant):
                with self._lock:
                    lane.purse.deposit(block.outcome, self._repository.clock())
        except Exception as error:
            self._fail(lane, error)
        except BaseException:
            await self._finish_interrupted(lane)
            raise
        finally:
            try:
                self._hand_over(lane)
            except BaseException:
                self._hand_over(lane)
                raise

    async def _linger(self, lane: _Lane) -> None:
        """Keep the least time between two writes to a bucket, in which more requests gather."""
        if self._options.linger and lane.seen is not None:
            delay = lane.seen + self._options.linger - self._repository.clock()
            if 0 < delay <= self._options.linger:
                await (self._options.sleep or asyncio.sleep)(delay / NANOSECONDS)

    def _take_batch(self, lane: _Lane) -> _Ticket | None:
        with self._lock:
            lane.batch, lane.queue = lane.queue[:MAX_BATCH], lane.queue[MAX_BATCH:]
            lane.fresh = lane.denies = False
            return self._order_block(lane)

    def _order_block(self, lane: _Lane) -> _Ticket | None:
        """Have the batch take a block in advance, and give back what has gone stale."""
        if lane.purse is None or not any(ticket.request.prefetch for ticket in lane.batch):
            return None
        now = self._repository.clock()
        stale = lane.purse.empty(now)
        if stale:
            lane.batch.append(_Ticket(Request(credits=stale)))
        charges = lane.purse.order(now)
        block = _Ticket(Request(charges)) if charges else None
        if block is not None:
            lane.batch.append(block)
        return block

    async def _finish_interrupted(self, lane: _Lane) -> None:
        try:
            await self._commit(lane)
        except BaseException as error:
            self._fail(lane, RateLimiterUnavailable(f"the write of this batch was interrupted: {error!r}"))
            raise

    async def _commit(self, lane: _Lane) -> None:
        """Decide the lane's batch, with as many calls as it takes: one when the last state seen is still right."""
        failures = 0
        for _ in range(MAX_ROUNDS):
            if not lane.batch:
                return
            try:
                await self._step(lane)
            except RateLimiterUnavailable:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                await pause(failures)
        if lane.batch:
            raise RateLimiterUnavailable(f"{MAX_ROUNDS} writes to {lane.key} were overtaken by other processes", unsent=True)

    async def _step(self, lane: _Lane) -> None:
        """Make one call, or deliver what the last one has decided."""
        if lane.sent is not None:
            await self._recover(lane)
            return
        if lane.seen is None and any(ticket.request.credits for ticket in lane.batch):
            # What a refund is worth depends on the state, which an update of other limits alone would not assert.
            self._see(lane, await self._repository.read_bucket(lane.key))
            return
        lane.stamp = lane.stamp or f"{self._writer}{next(self._stamps):x}"
        tickets, now = lane.batch, self._repository.clock()
        plan = bucket.plan(lane.state, [ticket.request for ticket in tickets], now, lane.stamp)
        if lane.fresh or self._proves_refusals(lane, now):
            self._deliver(lane, tickets, {place: each for place, each in plan.refused.items() if each.by_state})
        if plan.update is not None:
            lane.sent = plan, plan.update, tickets
            self._answer(lane, await self._write(lane, plan.update))
        elif lane.fresh:
            self._deliver(lane, tickets, plan.grants(lane.state))
        elif lane.batch:
            self._see(lane, await self._repository.read_bucket(lane.key))

    async def _write(self, lane: _Lane, update: Update) -> Outcome:
        try:
            return await self._repository.write_bucket(lane.key, update)
        except LimiterError as error:
            if not isinstance(error, RateLimiterUnavailable) or error.unsent:
                lane.sent = None
            raise

    async def _recover(self, lane: _Lane) -> None:
        """Find out what became of a write whose answer was lost.

        If it is the last one on record, it was applied. If not, what it took is taken again, under the same stamp: at worst it
        counts twice. What it gave back is not given back again: at worst it is lost.
        """
        state = await self._repository.read_bucket(lane.key)
        applied = state.stamp == lane.stamp
        if not applied and lane.sent is not None:
            for ticket in lane.sent[2]:
                ticket.request = replace(ticket.request, credits=())
        self._answer(lane, Outcome(applied, state))

    def _answer(self, lane: _Lane, outcome: Outcome) -> None:
        self._see(lane, outcome.state)
        if lane.sent is not None and outcome.applied:
            plan, _, tickets = lane.sent
            self._deliver(lane, tickets, plan.grants(outcome.state))
            # Whoever did not fit beside the others is refused as of their write, not by a state that has refilled since.
            left = {place: tickets[place].request for place in plan.refused if not tickets[place].done}
            self._deliver(lane, tickets, bucket.refused_by(outcome.state, left, plan.now))
            lane.stamp = ""
        lane.sent = None

    def _see(self, lane: _Lane, state: BucketState) -> None:
        lane.state, lane.seen, lane.fresh = state, self._repository.clock(), True

    def _deliver(self, lane: _Lane, tickets: Sequence[_Ticket], outcomes: Mapping[int, Grant | Refusal]) -> None:
        with self._lock:
            for index, outcome in outcomes.items():
                if not tickets[index].done:
                    lane.denies |= isinstance(outcome, Refusal)
                    lane.returning -= tickets[index].returns
                    tickets[index].finish(outcome)
            lane.batch = [ticket for ticket in lane.batch if not ticket.done]

    def _fail(self, lane: _Lane, error: Exception) -> None:
        with self._lock:
            for ticket in lane.batch:
                lane.returning -= ticket.returns
                ticket.finish(error)
            lane.batch, lane.sent, lane.stamp = [], None, ""

    def _hand_over(self, lane: _Lane) -> None:
        with self._lock:
            if not lane.queue:
                lane.busy = False
                return
            lane.queue[0].leads = True
            lane.queue[0].event.set()
