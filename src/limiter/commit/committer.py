# twin: sync_committer.py
"""Group commit: while a write to a bucket is in flight, requests for the same bucket queue up, and the next write carries them.

Nothing is admitted that was not written, so batching is exact. Whoever finds a bucket at rest leads: it writes its own request
at once. On its way out it hands the lead directly to one who waits, for a batch of all that have gathered. (With a lock
instead, callers barge past those who wait, and batches shrink to one.)
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from ..core import plan
from ..core.limits.gcra import NANOSECONDS
from ..core.request import Grant, Receipt, Refusal, Request, Unsent
from ..exceptions import LimiterError, RateLimiterUnavailable
from ..runtime.concurrency import Home, begin, shielded
from ..runtime.wakeup import Alarm
from ..statistics import Counters
from .batch import MAX_BATCH, BatchWriter
from .breaker import Breaker
from .bucket_queue import Caller, Lane, Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ..core.records import BucketKey
    from ..core.request import Credit
    from ..core.state import BucketState
    from ..repository_protocol import RepositoryProtocol

Outcome = Grant | Refusal | Unsent | Exception | None

MAX_LANES = 100_000
"""Buckets whose last state is remembered; a forgotten one costs a second write when it is used again."""
CLOSED_AT_ONCE = 32
"""Buckets that are given back together at the end."""
GATHERING = 50_000_000
"""Nanoseconds at most for which a crowd gathers that has to wait anyway; never more than a quarter of what its first has to."""


@dataclass(frozen=True, slots=True)
class CommitterOptions:
    """How to spend fewer calls, in nanoseconds, and how long to wait for them, in seconds.

    For `denial_ttl` after a state was seen it proves refusals, though never admissions; so long nobody is told of what others
    have given back meanwhile. `linger` is the least time between two writes of this process to one bucket. A request that was
    not decided within `patience` has failed.
    """

    denial_ttl: int = 0
    linger: int = 0
    patience: float = 1.0
    sleep: Callable[[float], Awaitable[None]] | None = None


class Committer:
    """Carries requests to their buckets, one write at a time for each bucket.

    Belongs to one event loop, or to the threads and greenlets of one process.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        options: CommitterOptions,
        breaker: Breaker | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.home = Home()
        self._repository = repository
        self._options = options
        self._counters = counters or Counters()
        self._lock = threading.Lock()
        self._alarm = Alarm()
        self._breaker = breaker or Breaker()
        self._lanes: OrderedDict[BucketKey, Lane] = OrderedDict()
        self._patience = options.patience + options.linger / NANOSECONDS
        self._writer = BatchWriter(
            repository,
            self._lock,
            self._breaker,
            self._counters,
            denial_ttl=options.denial_ttl,
            max_pace=int(options.patience / 2 * NANOSECONDS),
        )

    async def submit(self, key: BucketKey, request: Request, expires: float | None = None) -> Grant | Refusal:
        """Have one request decided and written; raises what `decide` returns of errors."""
        outcome = (await self.decide([(key, request)], expires))[0]
        if isinstance(outcome, Grant | Refusal):
            return outcome
        raise outcome if isinstance(outcome, Exception) else LimiterError("the request was never decided")

    async def decide(self, requests: Sequence[tuple[BucketKey, Request]], expires: float | None = None) -> list[Outcome]:
        """Have requests to different buckets decided and written, all at once; return their outcomes in the same order.

        Where one can be refused by what is known here, the others are not sent: `Unsent`, or None where nothing is known. What
        is not decided when `expires`, in seconds of the monotonic clock, has come is a `RateLimiterUnavailable`. When the
        caller is interrupted (cancelled, killed, timed out), whatever had been taken for it is given back before the
        interruption goes on.
        """
        caller = Caller(monotonic() + self._patience if expires is None else expires)
        try:
            self._enter(caller, requests)
            while caller.pending:
                caller.clear()
                if caller.leads:
                    leads = [partial(self._lead, lane, caller) for lane in caller.leads]
                    await begin(leads, partial(self._alarm.wait, caller))
                elif caller.pending:
                    await self._alarm.wait(caller)
                if caller.pending and monotonic() >= caller.expires:
                    self._abandon(caller)
            outcomes = [ticket.result() for ticket in caller.tickets]
            caller.tickets = ()  # Which refer to the caller: a circle would be left to the garbage collector.
            return outcomes
        except BaseException as interruption:
            try:
                await shielded(self._withdraw(caller))
            except Exception as error:
                raise interruption from error
            raise

    async def close(self) -> None:
        """Give back what was taken in advance, of some buckets at a time: all at once would not be done in a decision's time."""
        with self._lock:
            purses = [(lane.key, lane.purse) for lane in self._lanes.values() if lane.purse is not None]
        for first in range(0, len(purses), CLOSED_AT_ONCE):
            with self._lock:
                held = [(key, purse.empty()) for key, purse in purses[first : first + CLOSED_AT_ONCE]]
            await self.credit(held)

    def observe(self, key: BucketKey, state: BucketState) -> None:
        """Learn a bucket's state that was read for another purpose, unless it is known already."""
        with self._lock:
            if key not in self._lanes:
                lane = self._lane(key)
                lane.state, lane.seen = state, self._repository.clock()

    async def give_back(self, taken: Iterable[tuple[BucketKey, Iterable[Receipt]]]) -> None:
        """Return what the receipts say was taken of each bucket, as far as it is still worth something; see `credit`."""
        await self.credit([(key, tuple(each.credit() for each in receipts if each.cost)) for key, receipts in taken])

    async def credit(self, credits: Iterable[tuple[BucketKey, tuple[Credit, ...]]]) -> None:
        """Write credits alone, for all buckets at once.

        A store that cannot be reached is logged and not raised: what was taken then stays taken until it has refilled.
        """
        requests = [(key, Request(credits=each)) for key, each in credits if each]
        if not requests:
            return
        for (key, _), outcome in zip(requests, await self.decide(requests), strict=True):
            if isinstance(outcome, LimiterError):
                self.note_lost(key, outcome)
            elif isinstance(outcome, Exception):
                raise outcome

    def note_lost(self, key: BucketKey, error: Exception) -> None:
        """Count a correction or refund that could not be written, and tell the log."""
        self._writer.note_lost(key, error)

    def _enter(self, caller: Caller, requests: Sequence[tuple[BucketKey, Request]]) -> None:
        """Queue the caller's tickets, and have it lead where nobody does, unless all is decided by what is known here already."""
        with self._lock:
            now = self._repository.clock()
            caller.tickets = tuple([Ticket(request, self._lane(key), caller) for key, request in requests])
            caller.pending = len(caller.tickets)
            if self._deny(caller, now):
                return
            for ticket in caller.tickets:
                paid = ticket.lane.pay(ticket.request, now)
                if paid is not None:
                    ticket.finish(paid)
                    self._counters.add("cache_hits")
                    continue
                refusal = self._breaker.refusal()
                if refusal is not None:
                    ticket.finish(refusal)  # Nor does anybody wait for the one who looks.
                    continue
                lane = ticket.lane
                lane.add(ticket, now)
                if lane.leader is None:
                    caller.leads = (*caller.leads, lane)
                    lane.leader = caller

    def _lane(self, key: BucketKey) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
            oldest = next(iter(self._lanes.values()))
            if len(self._lanes) > MAX_LANES:
                if oldest.leader is None and not oldest.queue:
                    del self._lanes[oldest.key]
                else:
                    self._lanes.move_to_end(oldest.key)  # Or nothing would be forgotten as long as that one is busy.
        else:
            self._lanes.move_to_end(key)
        return lane

    def _deny(self, caller: Caller, now: int) -> bool:
        """Refuse everything at once if a part cannot fit by what is known here; tell of the other parts what is known too."""
        if not any(self._denies(ticket.lane, now) for ticket in caller.tickets):
            return False
        looks = [self._look(ticket, now) for ticket in caller.tickets]
        refused = sum([isinstance(look, Refusal) for look in looks])
        if refused:
            for ticket, look in zip(caller.tickets, looks, strict=True):
                if isinstance(look, Refusal):
                    ticket.lane.denied = now
                if look is not None:
                    ticket.finish(look)
            caller.pending = 0
            self._counters.add("cache_hits", count=refused)
        return bool(refused)

    def _denies(self, lane: Lane, now: int) -> bool:
        """Whether somebody was refused lately: looking costs time, also those who are not."""
        return now - lane.denied < self._options.denial_ttl

    def _look(self, ticket: Ticket, now: int) -> Refusal | Unsent | None:
        """What the last state seen says, behind those who have asked for the same before; None where it proves nothing."""
        lane, request = ticket.lane, ticket.request
        if lane.returning or lane.state.unreadable or request.forced or ticket.returns:
            return None
        if not self._writer.proves_refusals(lane, now):
            return None
        if lane.covers(request, now):
            return None
        return plan.look(lane.state, request, now, lane.before(request, now))

    def _abandon(self, caller: Caller) -> None:
        """Wait no longer for what is undecided: it is taken out of the queue, or given back by whoever finds it granted."""
        with self._lock:
            for ticket in caller.tickets:
                lane = ticket.lane
                if ticket.done:
                    continue
                queued = lane.remove(ticket)
                error = RateLimiterUnavailable(f"no answer from the table within {self._patience} s", unsent=queued)
                error.__cause__ = lane.trouble or TimeoutError(str(error))
                ticket.outcome, ticket.done, ticket.abandoned = error, queued, not queued
            caller.pending = 0
        self._renounce(caller)

    def _renounce(self, caller: Caller) -> None:
        """Hand over every lane that the caller was to lead, and has not begun to."""
        for lane in caller.leads:
            self._hand_over(lane, caller, stop=True)
        caller.leads = ()

    async def _withdraw(self, caller: Caller) -> None:
        """Undo what the caller has asked for, as far as its patience lets it see what became of it."""
        with self._lock:
            for ticket in caller.tickets:
                if ticket.lane.remove(ticket) or not ticket.entered:
                    ticket.done = True
            caller.pending = sum([not ticket.done for ticket in caller.tickets])
        await self._lead_for_nobody(caller)
        while caller.pending and monotonic() < caller.expires:
            caller.clear()
            if caller.pending:
                await self._alarm.wait(caller)
        self._abandon(caller)
        granted = [(each.lane.key, each.outcome.receipts) for each in caller.tickets if isinstance(each.outcome, Grant)]
        await self.give_back(granted)

    async def _lead_for_nobody(self, caller: Caller) -> None:
        """Hand over every lane that the caller was to lead; carry on where only refunds wait, whose callers have gone."""
        leads, caller.leads = caller.leads, ()
        for lane in leads:
            self._hand_over(lane, caller)
            if lane.leader is caller:
                await self._lead(lane, caller)

    async def _lead(self, lane: Lane, caller: Caller) -> None:
        """Carry out a batch, and hand over; when nobody waits for what is left in the queue, carry on."""
        lead = object()
        caller.leading += 1
        try:
            self._claim(lane, caller, lead)
            while lane.leader is lead:
                await self._lead_batch(lane, caller.expires)
                self._hand_over(lane, lead)
        finally:
            caller.leading -= 1
            self._hand_over(lane, lead, stop=True)

    def _claim(self, lane: Lane, caller: Caller, lead: object) -> None:
        """Make the lead the work's, which goes on when the caller is cancelled."""
        with self._lock:
            if lane.leader is caller:
                lane.leader = lead
            caller.leads = tuple([each for each in caller.leads if each is not lane])

    async def _lead_batch(self, lane: Lane, until: float) -> None:
        """Carry out one batch; after an interruption begin again, which the stamps make safe."""
        block = None
        try:
            try:
                await self._linger(lane)
            finally:
                block = self._take_batch(lane)
            await self._writer.carry_out(lane, until)
        except Exception as error:
            self._writer.fail(lane, error)
        except BaseException:
            await self._finish_interrupted(lane, until)
            raise
        finally:
            if block is not None:
                with self._lock:
                    lane.deposit(block, self._repository.clock())

    async def _linger(self, lane: Lane) -> None:
        """Keep the least time between two writes to a bucket, in which more requests gather, and give a crowd that waits time."""
        now, least = self._repository.clock(), max(self._options.linger, lane.pace)
        if least and lane.wrote is not None and len(lane.queue) < MAX_BATCH:
            delay = lane.wrote + least - now
            if 0 < delay <= least:
                await (self._options.sleep or asyncio.sleep)(delay / NANOSECONDS)
        elif (spare := self._spare(lane, now)) > 0:
            await asyncio.sleep(spare)

    def _spare(self, lane: Lane, now: int) -> float:
        """Seconds that callers can spare who have to wait for their turn anyway, while others like them arrive."""
        with self._lock:
            crowd = lane.queue
            if not 1 < len(crowd) < MAX_BATCH or any(ticket.request.deadline <= now for ticket in crowd):
                return 0.0
            if not self._writer.proves_refusals(lane, now):
                return 0.0
            return min(plan.wait(lane.state, crowd[0].request, now) // 4, GATHERING) / NANOSECONDS

    def _take_batch(self, lane: Lane) -> Ticket | None:
        with self._lock:
            lane.batch, lane.queue = lane.queue[:MAX_BATCH], lane.queue[MAX_BATCH:]
            lane.fresh = lane.called = False
            lane.carried = []  # A lost update of the last batch must not, arriving late, pass for one of this.
            return lane.order_block(self._repository.clock())

    async def _finish_interrupted(self, lane: Lane, until: float) -> None:
        try:
            await self._writer.carry_out(lane, until)
        except BaseException as error:
            self._writer.fail(lane, RateLimiterUnavailable(f"the write of this batch was interrupted: {error!r}"))
            raise

    def _hand_over(self, lane: Lane, leader: object, *, stop: bool = False) -> None:
        """Give the lead to somebody who waits; where nobody does, `leader` keeps it for what is left in the queue.

        With `stop` it is given up in any case, and what is left waits for the next who comes.
        """
        with self._lock:
            if lane.leader is not leader:
                return
            heir = lane.heir()
            if heir is None:
                lane.leader = leader if lane.queue and not stop else None
                return
            if lane not in heir.leads:
                heir.leads = (*heir.leads, lane)
            lane.leader = heir
        heir.set()
