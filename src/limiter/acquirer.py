# twin: sync_acquirer.py
"""The steps of one acquire: find the chain, charge it, wait for the start; without the table, use the fallback."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from .commit.breaker import Breaker
from .commit.charge import Admission, charge_in_turn, wait_for_change
from .commit.committer import Committer
from .config_cache import ConfigCache
from .core import status
from .core.chain import Bucket, blocked, call_requests, check_held, next_change, own_requests
from .core.limits import BLOCKED
from .core.record_cache import RecordCache
from .core.request import Grant
from .core.resolution import in_code
from .core.trust import error_of, relied_on, timer_of
from .exceptions import RateLimiterUnavailable
from .memory_repository import MemoryRepository
from .models import Decision
from .outage.fallback import Fallback
from .outage.log import OutageLog
from .outage.unreported import UnreportedUsage
from .statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .commit.writer import CommitterOptions
    from .core.call import Call
    from .core.records import BucketKey
    from .core.request import Request
    from .core.state import BucketState
    from .models import LimitStatus
    from .repository_protocol import RepositoryProtocol

MAX_RECORDS = 100_000
"""Most stored limits and entities that are remembered, absent ones included."""

MAX_LOCAL_QUEUES = 1_000
"""Buckets whose local state is remembered outside of the local store; few, because reading that store costs nothing."""


@dataclass(frozen=True, slots=True)
class AcquirerSettings:
    """How a limiter decides: `config_ttl` in nanoseconds, and the `local_share` of every limit without the table.

    If limits are not `stored`, only buckets are read.
    """

    committer: CommitterOptions
    config_ttl: int
    local_share: float
    stored: bool = True


class _Last(NamedTuple):
    """The last call's buckets, its parameters, and its requests to the buckets."""

    chain: tuple[Bucket, ...]
    asks: tuple[object, ...]
    requests: tuple[Request, ...]


class Process:
    """The parts that all event loops and threads of one process share: records, counts, the breaker, and a local store.

    `id` and `numbers` make the ids of calls, for hooks.
    """

    def __init__(self, repository: RepositoryProtocol, config_ttl: int) -> None:
        self.repository = repository
        self.records = RecordCache(repository.clock, config_ttl, MAX_RECORDS)
        self.counters = Counters()
        self.breaker = Breaker()
        self.outage_log = OutageLog(repository.clock)
        self.unreported = UnreportedUsage()
        self.local = MemoryRepository(namespace=repository.namespace, clock=relied_on(repository.clock))
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
        # A response may set the server's clock by any amount, so spans are measured by its monotonic source.
        self._timer = timer_of(process.repository.clock)
        self._ready = False
        self._stored = settings.stored
        self._last: _Last | None = None
        alone = Committer(process.local, replace(options, linger=0, max_queues=MAX_LOCAL_QUEUES))
        self.fallback = Fallback(
            self.committer,
            alone,
            process.local,
            process.unreported,
            process.outage_log,
            settings.local_share,
            process.counters,
        )

    async def acquire(self, call: Call) -> Admission:
        """Charge the call or refuse it. The call's patience counts from here, the reading of limits included."""
        began = self._timer() if call.patience else 0
        try:
            chain = self.known(call)
            if chain is None:
                if (refusal := _refused_unread(call)) is not None:
                    return refusal
                chain = await self._resolve(call)
            admission = await (self._charge_in_time(call, chain, began) if call.patience else self._charge(call, chain))
        except RateLimiterUnavailable as error:
            if call.on_unavailable == "block":
                raise
            remembered = self.config.remembered(call) if self._stored else (in_code(call), True)
            return await self.fallback.acquire(self._at_present(call, began), *remembered, error)
        # With the breaker open the call was decided by units taken in advance.
        if self._outage_log.active and self._breaker.state == "closed":
            self._outage_log.end()
        return admission

    async def _charge_in_time(self, call: Call, chain: tuple[Bucket, ...], began: int) -> Admission:
        """Charge for a caller that can wait. It is promised no start after a change of its limits; then it asks again."""
        waited, clock = 0.0, self._repository.clock
        while True:
            asked, change = self._at_present(call, began), next_change(chain)
            left = asked.patience if change is None else change - clock()
            cut = left - 1 if 0 < left < asked.patience else None
            admission = await self._charge(asked if cut is None else asked._replace(patience=cut), chain)
            admission.waited += waited
            admission.retried |= waited > 0
            if admission.allowed or change is None or cut is None:
                return admission
            left = max(0, change - clock())
            waited = admission.waited + await wait_for_change(self.committer, left, self._at_present(call, began).patience)
            chain = await self.chain(call)

    def _at_present(self, call: Call, began: int) -> Call:
        """Return the call, which `began` at that time, with the patience that is left of it."""
        return call._replace(patience=max(0, call.patience - (self._timer() - began))) if call.patience else call

    async def chain(self, call: Call) -> tuple[Bucket, ...]:
        """Return the buckets that a call charges; raises `RateLimiterUnavailable` if they cannot be read in time."""
        known = self.known(call)
        return await self._resolve(call) if known is None else known

    async def check(self, call: Call) -> Decision:
        """Return the decision that the call would get now, by one consistent read of each bucket."""
        if call.limits is BLOCKED or blocked(chain := await self.chain(call)) is not None:
            return Decision(False, (), None)
        asked = call_requests(chain, call)
        states = await self._read([request.key for request in asked])
        now, error = self._repository.clock(), error_of(self._repository.clock)
        told: list[LimitStatus] = []
        for request, state in zip(asked, states, strict=True):
            told += status.preview(request.key, request.charges, state, now, request, error=error)
        paused = any(state.paused > now for state in states)
        return Decision.refused(told) if paused else Decision.of(told)

    async def order(self, call: Call, make: Callable[[Bucket], Request]) -> Grant | None:
        """Write the request that `make` returns for the call's own bucket; return None if nothing is counted there."""
        own = (await self.chain(call))[0]
        if own.access is not None:
            return None
        (outcome,) = await self.committer.decide([make(own)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Grant) else None

    async def _read(self, keys: Sequence[BucketKey]) -> list[BucketState]:
        """Return the states of buckets, by one call."""
        if not keys:
            return []
        with self._breaker.guard():
            self.counters.add("calls")
            try:
                if len(keys) == 1:
                    return [await self._repository.read_bucket(keys[0])]
                _, states = await self._repository.read_records((), keys)
            except Exception as error:
                self.counters.add_failure(error)
                raise
        return [states[key] for key in keys]

    def known(self, call: Call) -> tuple[Bucket, ...] | None:
        """Return the buckets of a call as far as they are known without a call to the store."""
        if self._stored:
            return self.config.known(call)
        return in_code(call) if self._ready else None

    def charged(self, call: Call) -> tuple[Bucket, ...]:
        """Return the buckets that a failed call may have charged, by known records of any age."""
        return self.config.remembered(call)[0] if self._stored else in_code(call)

    async def _resolve(self, call: Call) -> tuple[Bucket, ...]:
        """Read the chain of a call."""
        if not self._ready:
            # Importing and opening the first client takes longer than a decision may.
            await self._repository.prepare()
            self._ready = True
        return await self.config.chain(call) if self._stored else in_code(call)

    async def _charge(self, call: Call, chain: tuple[Bucket, ...]) -> Admission:
        last, asks = self._last, (call.amounts, call.also, call.headroom, call.oversize)
        # Callers that ask the same of the same chain as the last one make the same requests.
        if last is not None and last.chain == chain and last.asks == asks:
            asked = last.requests
        else:
            asked = call_requests(chain, call)
            if (key := blocked(chain)) is not None:
                return Admission(None, chain, (), blocked=key)
            if never := status.never_satisfiable(asked):
                return Admission(None, chain, asked, never=never)
            self._last = _Last(chain, asks, asked)
        if call.for_good:
            check_held(asked)
        if self._unreported.any:
            await self.fallback.report(chain)
        return await charge_in_turn(self.committer, chain, asked, call.patience)


def _refused_unread(call: Call) -> Admission | None:
    """Return the refusal of a call that its own limits refuse, so stored limits are not needed; None if they do not."""
    if call.limits is BLOCKED:
        return Admission(None, (Bucket.of(call.key, BLOCKED),), (), blocked=call.key)
    asked = own_requests(call)
    never = status.never_satisfiable(asked)
    return Admission(None, (Bucket.of(call.key, call.limits or ()),), asked, never=never) if never else None
