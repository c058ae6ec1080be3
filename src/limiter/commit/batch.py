# twin: sync_batch.py
"""Carries out the batch of a lane: decides it, writes what it takes, and finds out what became of a write without an answer."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..aws.table import ATTEMPTS, pause
from ..core import plan as planning
from ..core.limits.gcra import NANOSECONDS
from ..core.request import Refusal
from ..core.state import Outcome
from ..exceptions import CircuitOpen, LimiterError, RateLimiterUnavailable, Throttled, UnreadableItem
from .bucket_queue import GROUNDED

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from ..core.records import BucketKey
    from ..core.request import Grant
    from ..core.state import BucketState, Update
    from ..repository_protocol import RepositoryProtocol
    from ..statistics import Counters
    from .breaker import Breaker
    from .bucket_queue import Lane, Ticket

_log = logging.getLogger("limiter.committer")

MAX_BATCH = 1_000
"""Requests that one write carries at most."""
MAX_ROUNDS = 50
"""Writes that other processes may defeat before a batch gives up."""
FIRST_PACE = 50_000_000
"""Nanoseconds between two writes to a key that DynamoDB has throttled once; doubled each time, and eased by success."""


class BatchWriter:
    """Decides batches, with as many calls as it takes: one when the last state seen is still right.

    For `denial_ttl` nanoseconds after a state was seen it proves refusals. `max_pace` nanoseconds is the longest that throttling
    makes a lane wait between two writes. `lock` guards the lanes.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        lock: threading.Lock,
        breaker: Breaker,
        counters: Counters,
        *,
        denial_ttl: int,
        max_pace: int,
    ) -> None:
        self._repository = repository
        self._lock = lock
        self._breaker = breaker
        self._counters = counters
        self._denial_ttl = denial_ttl
        self._max_pace = max_pace
        self._writer = os.urandom(6).hex()
        self._stamps = itertools.count(1)

    async def carry_out(self, lane: Lane, until: float) -> None:
        """Decide every ticket of the batch; attempts that fail are repeated while they can be expected to end by `until`.

        Raises what the last attempt failed with; the tickets that are left have to be told.
        """
        with self._breaker.guard():
            await self._try(lane, until)
        if lane.batch:
            raise RateLimiterUnavailable(f"{MAX_ROUNDS} writes to {lane.key} were overtaken by other processes", unsent=True)

    def fail(self, lane: Lane, error: Exception) -> None:
        """Tell everybody who is left in the batch what went wrong."""
        if isinstance(error, CircuitOpen) and lane.sent is not None:
            cause, error = error.__cause__, RateLimiterUnavailable(str(error), unsent=False)
            error.__cause__ = cause
        with self._lock:
            lost = sum(ticket.caller is None and ticket.returns for ticket in lane.batch)
            for ticket in lane.batch:
                lane.finish(ticket, error)
            lane.batch, lane.carried, lane.sent, lane.flight = [], [], None, GROUNDED
        for _ in range(lost):
            self.note_lost(lane.key, error)

    def note_lost(self, key: BucketKey, error: Exception) -> None:
        """Count a correction or refund that could not be written, and tell the log; what was taken stays taken meanwhile."""
        self._counters.add("corrections_lost")
        # An open breaker has been told of, and holds back any number of them.
        level = logging.DEBUG if isinstance(error, CircuitOpen) else logging.WARNING
        fields = key._asdict() | {"error": str(error)}
        _log.log(level, "a correction of %s/%s was not written: %s", key.entity_id, key.resource, error, extra=fields)

    def proves_refusals(self, lane: Lane, now: int) -> bool:
        """Whether the last state was seen so lately that it proves refusals, though never admissions."""
        return lane.seen is not None and 0 <= now - lane.seen < self._denial_ttl

    async def _try(self, lane: Lane, until: float) -> None:
        failures = 0
        for _ in range(MAX_ROUNDS):
            if not lane.batch:
                return
            began = monotonic()
            try:
                await self._step(lane)
            except RateLimiterUnavailable as error:
                lane.trouble = error
                self._counters.add_failure(error)
                hot = isinstance(error, Throttled) and error.hot_key
                failures += not hot
                delay = self._slow_down(lane) if hot else 0
                # The next attempt may well take as long as this one did.
                if failures == ATTEMPTS or 2 * monotonic() - began + delay > until:
                    raise
                await (asyncio.sleep(delay) if hot else pause(failures))
                self._gather_more(lane)

    def _slow_down(self, lane: Lane) -> float:
        """Write to the lane less often from now on, so that its batches grow; return the seconds until the next attempt."""
        lane.pace = min(max(2 * lane.pace, FIRST_PACE), self._max_pace)
        return lane.pace / NANOSECONDS * random.uniform(0.5, 1)  # noqa: S311 - spreads processes, hides nothing

    def _gather_more(self, lane: Lane) -> None:
        """Take along what has queued up meanwhile."""
        with self._lock:
            room = MAX_BATCH - len(lane.batch)
            lane.batch, lane.queue = lane.batch + lane.queue[:room], lane.queue[room:]

    async def _step(self, lane: Lane) -> None:
        """Make one call, or deliver what the last one has decided."""
        if lane.sent is not None:
            await self._recover(lane)
            return
        if self._must_look(lane):
            await self._look(lane)
            return
        with self._lock:
            lane.drop_abandoned()
        if lane.state.unreadable:
            self._deliver(lane, lane.batch, planning.unreadable(lane.state, [ticket.request for ticket in lane.batch]))
        lane.carried = [ticket for ticket in lane.carried if not ticket.done]
        if not lane.carried:
            lane.stamp, lane.covered = f"{self._writer}{next(self._stamps):x}", False
        tickets, now = lane.carried or lane.batch, self._repository.clock()
        plan = planning.plan(lane.state, [ticket.request for ticket in tickets], now, lane.stamp)
        # What the batch gives back may be just what the others lack: then they are judged by the state that its write leaves.
        returns = plan.update is not None and any(ticket.returns for ticket in tickets)
        if plan.refused and not returns and (lane.fresh or self.proves_refusals(lane, now)):
            proven = {place: each for place, each in plan.refused.items() if each.by_state}
            if not lane.fresh:
                self._counters.add("cache_hits", count=sum(not tickets[place].done for place in proven))
            self._deliver(lane, tickets, proven)
        if plan.update is not None:
            with self._lock:
                lane.sent = plan, plan.update, tickets
                lane.board([tickets[place] for place in plan.shares], now)
            self._answer(lane, await self._write(lane, plan.update))
        elif lane.fresh:
            self._deliver(lane, tickets, plan.grants(lane.state))
        elif lane.batch:
            await self._look(lane)

    def _must_look(self, lane: Lane) -> bool:
        """Whether no update can be planned by what is known."""
        if lane.seen is None and any(ticket.request.credits for ticket in lane.batch):
            return True  # What a refund is worth depends on the state, which an update of other limits alone would not assert.
        return bool(lane.state.unreadable) and not lane.fresh  # Somebody may have deleted the item since.

    def _count_call(self, lane: Lane) -> None:
        """Count a call, and its batch with the first one."""
        self._counters.add("calls", *(() if lane.called else ("batches",)))
        lane.called = True

    async def _look(self, lane: Lane) -> None:
        self._count_call(lane)
        self._see(lane, await self._repository.read_bucket(lane.key))

    async def _write(self, lane: Lane, update: Update) -> Outcome:
        self._count_call(lane)
        lane.wrote = self._repository.clock()
        try:
            return await self._repository.write_bucket(lane.key, update)
        except LimiterError as error:
            if not isinstance(error, RateLimiterUnavailable) or error.unsent:
                with self._lock:
                    lane.sent, lane.flight = None, GROUNDED
            raise

    async def _recover(self, lane: Lane) -> None:
        """Find out what became of a write whose answer was lost.

        If it is the last one on record, it was applied. If not, what it took is taken again, under the same stamp, and counts
        twice if others have covered it; so that is done once. What it gave back is not given back again: at worst it is lost.
        """
        self._count_call(lane)
        state = await self._repository.read_bucket(lane.key)
        applied = state.stamp == lane.stamp
        if not applied and lane.sent is not None:
            covered = state.stamp != lane.state.stamp
            if covered and lane.covered:
                self.fail(lane, RateLimiterUnavailable(f"two writes to {lane.key} were lost, and covered by those of others"))
                return
            plan, _, tickets = lane.sent
            lane.carried, lane.covered = [tickets[place] for place in plan.shares], lane.covered or covered
            for ticket in lane.carried:
                if ticket.request.credits:
                    ticket.request = ticket.request._replace(credits=())
        self._answer(lane, Outcome(applied, state))

    def _answer(self, lane: Lane, outcome: Outcome) -> None:
        state = outcome.state
        if lane.sent is not None and outcome.applied:
            plan, _, tickets = lane.sent
            # Whoever did not fit beside the others is refused as of their write, not by a state that has refilled since.
            outcomes: dict[int, Grant | Refusal] = {**plan.grants(state)}
            # Where something has become unreadable, the next look tells whom it concerns.
            for place in () if state.unreadable else plan.refused:
                look = planning.look(state, tickets[place].request, plan.now)
                if isinstance(look, Refusal):
                    outcomes[place] = look
            self._see(lane, state, tickets, outcomes)
            lane.carried = []
            lane.pace = lane.pace * 9 // 10 if lane.pace > FIRST_PACE else 0
        else:
            self._see(lane, state)
        lane.sent = None

    def _see(
        self,
        lane: Lane,
        state: BucketState,
        tickets: Sequence[Ticket] = (),
        outcomes: Mapping[int, Grant | Refusal | UnreadableItem] = MappingProxyType({}),
    ) -> None:
        """Keep a state, and tell the tickets whose outcomes are in it: at once, or what they took would count twice."""
        with self._lock:
            lane.state, lane.seen, lane.fresh, lane.trouble = state, self._repository.clock(), True, None
            lane.flight = GROUNDED
            self._tell(lane, tickets, outcomes)

    def _deliver(self, lane: Lane, tickets: Sequence[Ticket], outcomes: Mapping[int, Grant | Refusal | UnreadableItem]) -> None:
        with self._lock:
            self._tell(lane, tickets, outcomes)

    def _tell(self, lane: Lane, tickets: Sequence[Ticket], outcomes: Mapping[int, Grant | Refusal | UnreadableItem]) -> None:
        for index, outcome in outcomes.items():
            if not tickets[index].done:
                if isinstance(outcome, Refusal):
                    lane.denied = max(lane.denied, outcome.now)
                lane.finish(tickets[index], outcome)
        lane.batch = [ticket for ticket in lane.batch if not ticket.done]
