# twin: sync_decider.py
"""Decides a call: on the table, or, where that cannot be reached, as the call says."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple

from . import decision, gcra
from ._compat import gather, shielded, within
from .bucket import Refusal, Request
from .charging import Verdict, charge
from .committer import Committer
from .config_cache import ConfigCache
from .demand import demands
from .exceptions import RateLimiterUnavailable, RateLimitExceeded
from .lease import Lease
from .local_share import fitting, local_chain, local_demands, outstanding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .breaker import Breaker
    from .committer import CommitterOptions
    from .config import Question
    from .demand import Bucket, Demand
    from .lease import SettleAlone
    from .memory_repository import MemoryRepository
    from .models import Limit, Prefetch
    from .record_cache import RecordCache
    from .records import BucketKey
    from .repository_protocol import RepositoryProtocol
    from .state import BucketState
    from .statistics import Counters

OnUnavailable = Literal["block", "allow", "local"]

_log = logging.getLogger("limiter")


class Call(NamedTuple):
    """What a caller asks: `amounts` of which limits, to start within `patience` nanoseconds, and what to do without the table."""

    question: Question
    amounts: Mapping[str, int] | None
    patience: int
    on_unavailable: OnUnavailable
    prefetch: Prefetch | None


class Decider:
    """What belongs to one event loop, or to all threads of a process: open writes, fetches under way.

    A decision that takes longer than `options.patience` seconds has failed. `local` is the store that `on_unavailable="local"`
    limits on, at `share` of every limit.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        records: RecordCache,
        options: CommitterOptions,
        breaker: Breaker,
        counters: Counters,
        local: MemoryRepository,
        *,
        share: float,
        share_fetches: bool,
    ) -> None:
        self.committer = Committer(repository, options, breaker, counters)
        self.config = ConfigCache(repository, records, self.committer.observe, breaker, counters, share=share_fetches)
        self.fallback = Committer(local, options)
        self._repository = repository
        self._local = local
        self._share = share
        self._patience = options.patience
        self._sleep = options.sleep
        self._breaker = breaker
        self.counters = counters
        self._ready = False
        self._alone: RateLimiterUnavailable | None = None
        self._owed: dict[BucketKey, tuple[Limit, ...]] = {}

    async def chain(self, question: Question) -> tuple[Bucket, ...]:
        """The buckets that a call charges; raises `RateLimiterUnavailable` when they cannot be known in time."""
        known = self.config.known(question)
        if known is not None:
            return known
        if not self._ready:
            # To import and open the first client takes longer than a decision may.
            await self._repository.prepare()
            self._ready = True
        try:
            return await within(self._patience, partial(self.config.chain, question))
        except TimeoutError as error:
            raise RateLimiterUnavailable(f"the limits could not be read within {self._patience} s", unsent=True) from error

    async def decide(self, call: Call) -> Lease:
        """Take what the call asks for; raises `RateLimitExceeded` where a limit stands in the way."""
        try:
            lease = await self._decide_together(call)
        except RateLimiterUnavailable as error:
            if call.on_unavailable == "block":
                raise
            self._note_alone(error, call.on_unavailable)
        else:
            self._note_together()
            return lease
        return await self._decide_alone(call)

    async def look(self, question: Question, amounts: Mapping[str, int] | None) -> list[tuple[Demand, BucketState]]:
        """What is asked of each bucket, and its state, by a consistent read."""
        asked = demands(await self.chain(question), amounts)
        calls = [partial(self._repository.read_bucket, demand.key) for demand in asked]
        self.counters.add("calls", len(calls))
        with self._breaker.guard():
            states = await gather(calls)
            for error in states:
                if isinstance(error, BaseException):
                    raise error
        return [(demand, state) for demand, state in zip(asked, states, strict=True) if not isinstance(state, BaseException)]

    async def _decide_together(self, call: Call) -> Lease:
        expires = monotonic() + self._patience
        chain = self.config.known(call.question)
        if chain is None:
            ready = self._ready
            chain = await self.chain(call.question)
            expires = expires if ready else monotonic() + self._patience
        asked = demands(chain, call.amounts)
        decision.check_satisfiable(asked)
        if self._owed:
            await self._hand_back([bucket.key for bucket in chain])
        return await self._take(self.committer, chain, asked, call, expires)

    async def _decide_alone(self, call: Call) -> Lease:
        chain = self.config.remembered(call.question)
        asked = demands(chain, call.amounts)
        decision.check_satisfiable(asked)
        if call.on_unavailable == "allow":
            self.counters.add("degraded")
            return Lease(None, chain, Verdict(), asked, degraded=True)
        self._owed |= {bucket.key: bucket.limits for bucket in chain}
        local = local_chain(chain, self._share)
        lease = await self._take(self.fallback, local, local_demands(asked, self._share), call, None)
        self.counters.add("degraded")
        lease.degraded = True
        return lease

    async def _take(
        self, committer: Committer, chain: Sequence[Bucket], asked: Sequence[Demand], call: Call, expires: float | None
    ) -> Lease:
        clock = self._repository.clock
        verdict = await charge(committer, asked, clock() + call.patience, call.prefetch, expires)
        if not verdict.allowed:
            raise RateLimitExceeded(verdict.statuses)
        delay = max(0, verdict.start - clock()) / gcra.NANOSECONDS
        lease = Lease(committer, chain, verdict, asked, waited=delay, settle_alone=self._settle_alone(call))
        if delay:
            await self._wait(committer, verdict, delay)
        return lease

    async def _wait(self, committer: Committer, verdict: Verdict, delay: float) -> None:
        try:
            await (self._sleep or asyncio.sleep)(delay)
        except BaseException:
            await shielded(committer.give_back([(demand.key, grant.receipts) for demand, grant in verdict.grants]))
            raise

    def _settle_alone(self, call: Call) -> SettleAlone | None:
        """What a lease does with a correction that the table cannot take; None to raise."""
        if call.on_unavailable == "block":
            return None
        return partial(self._correct_alone, call)

    async def _correct_alone(self, call: Call, asked: Sequence[Demand], error: RateLimiterUnavailable) -> None:
        """Take more without the table: as it comes, or as far as this process allows by itself."""
        self._note_alone(error, call.on_unavailable)
        self.counters.add("corrections_lost")
        if call.on_unavailable == "local" and asked:
            verdict = await charge(self.fallback, local_demands(asked, self._share), deadline=0)
            if not verdict.allowed:
                raise RateLimitExceeded(verdict.statuses)

    async def _hand_back(self, keys: Sequence[BucketKey]) -> None:
        """Charge the table with what was allowed here meanwhile and has not refilled since, but into no debt."""
        for key in keys:
            limits = self._owed.pop(key, None)
            if limits is None:
                continue
            try:
                await self._charge_outstanding(key, limits)
            except BaseException:
                self._owed[key] = limits
                raise

    async def _charge_outstanding(self, key: BucketKey, limits: tuple[Limit, ...]) -> None:
        now = self._repository.clock()
        charges = outstanding(limits, self._share, await self._local.read_bucket(key), now)
        outcome = await self.committer.submit(key, Request(charges)) if charges else None
        if isinstance(outcome, Refusal):
            await self.committer.submit(key, Request(fitting(charges, outcome.levels, outcome.now)))

    def _note_alone(self, error: RateLimiterUnavailable, policy: OnUnavailable) -> None:
        if self._alone is None:
            _log.warning("limiting without the table from now on (%s): %s", policy, error)
        self._alone = error

    def _note_together(self) -> None:
        if self._alone is not None:
            self._alone = None
            _log.warning("limiting on the table again")
