# twin: sync_acquirer.py
"""The story of one acquire: find the chain, charge it, wait for the start; without the table, ask the fallback."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from .commit.breaker import Breaker
from .commit.charge import Admission, charge_in_turn
from .commit.committer import Committer, CommitterOptions
from .config_cache import ConfigCache
from .core import status
from .core.chain import Bucket, own_requests, requests
from .core.record_cache import RecordCache
from .exceptions import RateLimiterUnavailable
from .memory_repository import MemoryRepository
from .outage.fallback import Fallback
from .outage.log import OutageLog
from .outage.unreported import UnreportedUsage
from .runtime.concurrency import gather
from .statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .core.call import Call
    from .core.request import Request
    from .core.state import BucketState
    from .models import Prefetch
    from .repository_protocol import RepositoryProtocol

MAX_RECORDS = 100_000
"""Stored limits and entities that are remembered, absent ones included."""


@dataclass(frozen=True, slots=True)
class AcquirerSettings:
    """How a limiter decides: `config_ttl` in nanoseconds, and the `local_share` of every limit without the table."""

    committer: CommitterOptions
    config_ttl: int
    local_share: float


class Process:
    """What all event loops and threads of one process share: records, counts, the health of the store, and a local store.

    `id` and `numbers` make the ids of calls, for hooks.
    """

    def __init__(self, repository: RepositoryProtocol, config_ttl: int) -> None:
        self.repository = repository
        self.records = RecordCache(repository.clock, config_ttl, MAX_RECORDS)
        self.counters = Counters()
        self.breaker = Breaker()
        self.outage_log = OutageLog(repository.clock)
        self.unreported = UnreportedUsage()
        self.local = MemoryRepository(namespace=repository.namespace, clock=repository.clock)
        self.id = os.urandom(6).hex()
        self.numbers = itertools.count(1)


class Acquirer:
    """Decides calls for one event loop, or for all threads of a process."""

    def __init__(self, process: Process, settings: AcquirerSettings) -> None:
        options = settings.committer
        self.counters = process.counters
        self.committer = Committer(process.repository, options, process.breaker, process.counters)
        self.config = ConfigCache(
            process.repository,
            process.records,
            self.committer.observe,
            process.breaker,
            process.counters,
            self.committer.gate,
            options.patience,
            share=settings.config_ttl > 0,
        )
        self._unreported = process.unreported
        self._outage_log = process.outage_log
        self._breaker = process.breaker
        self._repository = process.repository
        self._patience = options.patience
        self._ready = False
        self._last: tuple[tuple[Bucket, ...], Mapping[str, int] | None, Prefetch | None, tuple[Request, ...]] | None = None
        alone = Committer(process.local, replace(options, linger=0))
        self.fallback = Fallback(
            self.committer, alone, process.local, process.unreported, process.outage_log, settings.local_share
        )

    async def acquire(self, call: Call) -> Admission:
        """Take what the call asks for, or refuse it."""
        try:
            chain = self.config.known(call)
            if chain is None:
                if never := status.never_satisfiable(own_requests(call)):
                    return Admission(None, (Bucket(call.key, call.limits or ()),), (), never=never)
                chain = await self._resolve(call)
            admission = await self._charge(call, chain)
        except RateLimiterUnavailable as error:
            if call.on_unavailable == "block":
                raise
            return await self.fallback.acquire(call, *self.config.remembered(call), error)
        # With the breaker open the call was decided by prefetched units.
        if self._outage_log.active and self._breaker.state == "closed":
            self._outage_log.end()
        return admission

    async def chain(self, call: Call) -> tuple[Bucket, ...]:
        """The buckets that a call charges; raises `RateLimiterUnavailable` if they cannot be read in time."""
        known = self.config.known(call)
        return await self._resolve(call) if known is None else known

    async def look(self, call: Call) -> list[tuple[Request, BucketState]]:
        """The requests of a call, each with the state of its bucket by a consistent read."""
        asked = requests(await self.chain(call), call.amounts)
        calls = [partial(self._repository.read_bucket, request.key) for request in asked]
        with self._breaker.guard():
            self.counters.add("calls", count=len(calls))
            states = await gather(calls)
            errors = [state for state in states if isinstance(state, BaseException)]
            for error in errors:
                self.counters.add_failure(error)
            if errors:
                raise errors[0]
        return [(request, state) for request, state in zip(asked, states, strict=True) if not isinstance(state, BaseException)]

    async def _resolve(self, call: Call) -> tuple[Bucket, ...]:
        """Read the chain of a call."""
        if not self._ready:
            # Importing and opening the first client takes longer than a decision may.
            await self._repository.prepare()
            self._ready = True
        return await self.config.chain(call)

    async def _charge(self, call: Call, chain: tuple[Bucket, ...]) -> Admission:
        last = self._last
        # Callers that ask the same of the same chain as the last one make the same requests.
        if last is not None and last[0] is chain and last[1] == call.amounts and last[2] == call.prefetch:
            asked = last[3]
        else:
            asked = requests(chain, call.amounts, call.prefetch)
            if never := status.never_satisfiable(asked):
                return Admission(None, chain, asked, never=never)
            self._last = chain, call.amounts, call.prefetch, asked
        if self._unreported.any:
            await self.fallback.report(chain)
        return await charge_in_turn(self.committer, chain, asked, call.patience)
