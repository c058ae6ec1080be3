# twin: sync_acquirer.py
"""Decides a call: on the table, or, where that cannot be reached, as the call says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple

from .commit.charge import Verdict, charge
from .commit.committer import Committer
from .config_cache import ConfigCache
from .core import status
from .core.chain import demands
from .core.limits import gcra
from .core.records import BucketKey
from .core.request import Refusal, Request
from .core.share import check_remembered, fitting, local_demands, unbounded
from .exceptions import RateLimiterUnavailable, RateLimitExceeded
from .lease import Lease
from .runtime.concurrency import gather, shielded, within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .commit.breaker import Breaker
    from .commit.committer import CommitterOptions
    from .core.chain import Bucket, Demand
    from .core.record_cache import RecordCache
    from .core.resolution import Question
    from .core.share import Owed
    from .core.state import BucketState
    from .lease import SettleAlone
    from .memory_repository import MemoryRepository
    from .models import Prefetch
    from .outage.log import Degradation
    from .repository_protocol import RepositoryProtocol
    from .statistics import Counters

OnUnavailable = Literal["block", "allow", "local"]

SLACK = 2 * gcra.NANOSECONDS
"""Nanoseconds by which an answer may set the clock back and its start be waited for nevertheless."""
MAX_ROUNDS = 10
"""Charges for what was allowed here that other processes may defeat before the rest is forgotten."""


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
    limits on, at `share` of every limit, and `owed` is what the table has not been told of that.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        records: RecordCache,
        options: CommitterOptions,
        breaker: Breaker,
        counters: Counters,
        degradation: Degradation,
        local: MemoryRepository,
        owed: Owed,
        *,
        share: float,
        share_fetches: bool,
    ) -> None:
        self.committer = Committer(repository, options, breaker, counters)
        observe = self.committer.observe
        self.config = ConfigCache(repository, records, observe, breaker, counters, options.patience, share=share_fetches)
        self.fallback = Committer(local, replace(options, linger=0))
        self._repository = repository
        self._local = local
        self._share = share
        self._patience = options.patience
        self._sleep = options.sleep
        self._breaker = breaker
        self.counters = counters
        self._ready = False
        self._last: tuple[tuple[Bucket, ...], Mapping[str, int] | None, tuple[Demand, ...]] | None = None
        self._degradation = degradation
        self._owed = owed

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
        expires = monotonic() + self._patience
        try:
            chain = self.config.known(call.question)
            if chain is None:
                ready = self._ready
                chain = await self.chain(call.question)
                expires = expires if ready else monotonic() + self._patience
            asked = self._asked(chain, call.amounts)
            for bucket in chain:
                if bucket.key in self._owed:
                    await self._hand_back(bucket.key, expires)
            lease = await self._take(self.committer, chain, asked, call, expires)
        except RateLimiterUnavailable as error:
            if call.on_unavailable == "block":
                raise
            self._degradation.note(error, call.on_unavailable)
            cause = error
        else:
            # With the breaker open it was decided by what had been taken in advance.
            if self._degradation.active and self._breaker.state == "closed":
                self._degradation.end()
            return lease
        try:
            return await self._decide_alone(call, cause)
        except RateLimitExceeded as refusal:
            refusal.degraded = True
            raise

    async def look(self, question: Question, amounts: Mapping[str, int] | None) -> list[tuple[Demand, BucketState]]:
        """What is asked of each bucket, and its state, by a consistent read."""
        asked = demands(await self.chain(question), amounts)
        calls = [partial(self._repository.read_bucket, demand.key) for demand in asked]
        with self._breaker.guard():
            self.counters.add("calls", count=len(calls))
            states = await gather(calls)
            errors = [state for state in states if isinstance(state, BaseException)]
            for error in errors:
                self.counters.add_failure(error)
            if errors:
                raise errors[0]
        return [(demand, state) for demand, state in zip(asked, states, strict=True) if not isinstance(state, BaseException)]

    def _asked(self, chain: tuple[Bucket, ...], amounts: Mapping[str, int] | None) -> tuple[Demand, ...]:
        """What a call asks of each bucket; of the same chain the same as the last, for whom it need not be worked out again."""
        last = self._last
        if last is not None and last[0] is chain and last[1] == amounts:
            return last[2]
        asked = demands(chain, amounts)
        status.check_satisfiable(asked)
        self._last = chain, amounts, asked
        return asked

    async def _decide_alone(self, call: Call, cause: RateLimiterUnavailable) -> Lease:
        chain, whole = self.config.remembered(call.question)
        if not whole:
            if call.on_unavailable == "local":
                check_remembered(chain, call.amounts, cause)
            chain = unbounded(chain, call.amounts)
        asked = demands(chain, call.amounts)
        status.check_satisfiable(asked)
        if call.on_unavailable == "allow":
            return Lease(None, self.committer.home, chain, Verdict(), asked, degraded=True)
        for bucket in chain:
            self._owed.note(bucket.key, bucket.limits)
        lease = await self._take(self.fallback, chain, local_demands(asked, self._share), call, None, share=self._share)
        lease.degraded = True
        return lease

    async def _take(
        self,
        committer: Committer,
        chain: Sequence[Bucket],
        asked: Sequence[Demand],
        call: Call,
        expires: float | None,
        *,
        share: float = 1.0,
    ) -> Lease:
        clock = self._repository.clock
        verdict = await charge(committer, asked, clock() + call.patience, call.prefetch, expires)
        if not verdict.allowed:
            raise RateLimitExceeded(verdict.statuses)
        now = clock()
        if verdict.start - now > call.patience + SLACK:
            # The table did not heed the condition, or an answer has set the clock back, and the deadline was told by a wrong one.
            await shielded(committer.give_back([(demand.key, grant.receipts) for demand, grant in verdict.grants]))
            raise RateLimiterUnavailable("the start that the table has answered is later than this caller would wait")
        delay = max(0, verdict.start - now) / gcra.NANOSECONDS
        alone = self._settle_alone(call)
        lease = Lease(committer, committer.home, chain, verdict, asked, waited=delay, share=share, settle_alone=alone)
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
        self._degradation.note(error, call.on_unavailable)
        if call.on_unavailable == "local" and asked:
            for demand in asked:
                self._owed.note(demand.key, [limit for limit, _ in demand.charges])
            verdict = await charge(self.fallback, local_demands(asked, self._share), deadline=0)
            if not verdict.allowed:
                raise RateLimitExceeded(verdict.statuses)
        self.committer.note_lost(BucketKey(*call.question[:3]), error)

    async def _hand_back(self, key: BucketKey, expires: float) -> None:
        """Charge the table with what was allowed here meanwhile and has not refilled since, but into no debt."""
        claim = self._owed.claim(key, self._share, await self._local.read_bucket(key), self._repository.clock())
        charges = claim.charges
        try:
            for _ in range(MAX_ROUNDS):
                outcome = await self.committer.submit(key, Request(charges), expires) if charges else None
                if not isinstance(outcome, Refusal):
                    return
                charges = fitting(charges, outcome.levels, outcome.now)
        except BaseException:
            self._owed.disclaim(claim)
            raise
