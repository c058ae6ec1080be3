# twin: sync_config_cache.py
"""The limits and entities that calls need, read together and kept for a bounded time."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .core import resolution
from .core.record_cache import CacheStatistics
from .core.resolution import MISSING, MissingRecords
from .exceptions import anew
from .runtime.concurrency import start, wait_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from .commit.breaker import Breaker
    from .core.call import Call
    from .core.chain import Bucket
    from .core.limits import Limit
    from .core.record_cache import RecordCache
    from .core.records import BucketKey, RecordKey
    from .core.resolution import Lookup
    from .core.state import BucketState
    from .repository_protocol import RepositoryProtocol
    from .statistics import Counters


MAX_CHAINS = 100_000
"""Chains that are remembered before all are forgotten."""


class _Flight:
    """One fetch under way, and the records that it has brought."""

    def __init__(self) -> None:
        self.landed = asyncio.Event()
        self.records: dict[RecordKey, Lookup] = {}
        self.error: Exception | None = None


class _Resolved(NamedTuple):
    """A chain, for as long as every record that it follows from holds, and nothing is written through this process."""

    chain: tuple[Bucket, ...]
    expires: int
    generation: int


class _Reading:
    """The records that one call sees: those that are held and not too old, and those fetched for it."""

    def __init__(self, records: RecordCache, now: int) -> None:
        self._records = records
        self._now = now
        self.fetched: dict[RecordKey, Lookup] = {}
        self.expires = sys.maxsize

    def lookup(self, key: RecordKey) -> Lookup:
        """The record, None if it does not exist, or MISSING."""
        value, expires = self._records.lookup(key)
        if expires > self._now:
            self.expires = min(self.expires, expires)
            return value
        self.expires = 0
        return self.fetched.get(key, MISSING)


class ConfigCache:
    """Resolves calls to chains of buckets, from records that are at most the time to live old.

    Of each record at most one fetch is under way; a call that finds everything it needs waits for nobody. `observe` is told the
    state of each bucket that was read along, so that its first write is right. With a time to live of 0 every call reads anew.
    Nobody waits longer than `patience` seconds for another's fetch.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        records: RecordCache,
        observe: Callable[[BucketKey, BucketState], None],
        breaker: Breaker,
        counters: Counters,
        patience: float,
        *,
        share: bool,
    ) -> None:
        self._repository = repository
        self._records = records
        self._observe = observe
        self._breaker = breaker
        self._counters = counters
        self._patience = patience
        self._share = share
        self._lock = threading.Lock()
        self._flights: dict[RecordKey, _Flight] = {}
        self._resolved: dict[tuple[str, str, tuple[Limit, ...] | None], _Resolved] = {}
        self._counts: Counter[str] = Counter()

    @property
    def statistics(self) -> CacheStatistics:
        """How the cache has served so far."""
        return CacheStatistics(len(self._records), *(self._counts[name] for name in ("hits", "misses", "fetches")))

    def known(self, call: Call) -> tuple[Bucket, ...] | None:
        """The chain of a call as it was resolved before, if that still holds."""
        known = self._resolved.get((call.key.entity_id, call.key.resource, call.limits))
        if known is None or known.expires <= self._records.now() or known.generation != self._records.generation:
            return None
        self._count("hits")
        return known.chain

    async def chain(self, call: Call) -> tuple[Bucket, ...]:
        """The buckets that a call charges, the entity's own first.

        Raises `RateLimiterUnavailable` when what is needed cannot be read, `TimeoutError` when somebody else takes too long
        to read it, and `UnreadableItem` when it makes no sense.
        """
        now, generation = self._records.now(), self._records.generation
        reading = _Reading(self._records, now)
        answer = resolution.resolve(call, reading.lookup)
        self._count("misses" if isinstance(answer, MissingRecords) else "hits")
        while isinstance(answer, MissingRecords):
            reading.fetched |= await self._fetch(answer)
            answer = resolution.resolve(call, reading.lookup)
        if len(self._resolved) >= MAX_CHAINS:
            self._resolved.clear()
        if reading.expires > now:
            place = (call.key.entity_id, call.key.resource, call.limits)
            self._resolved[place] = _Resolved(answer, reading.expires, generation)
        return answer

    def remembered(self, call: Call) -> tuple[tuple[Bucket, ...], bool]:
        """The chain by what is known, however old, taking what is unknown for absent, and whether nothing was unknown.

        For when nothing can be read.
        """
        whole = not isinstance(resolution.resolve(call, lambda key: self._records.lookup(key)[0]), MissingRecords)
        answer = resolution.resolve(call, lambda key: _known(self._records.lookup(key)[0]))
        return () if isinstance(answer, MissingRecords) else answer, whole

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    async def _fetch(self, needs: MissingRecords) -> dict[RecordKey, Lookup]:
        """Read what is needed, together with whoever reads some of it already."""
        own = _Flight()
        with self._lock:
            others = {key: self._flights[key] for key in needs.records if key in self._flights} if self._share else {}
            mine = [key for key in needs.records if key not in others]
            self._flights |= dict.fromkeys(mine, own)
        if mine:
            # Whoever fetches waits in the same line as those who join it, and before them: callers go on in the order they came.
            landing = partial(wait_event, own.landed, self._patience)
            await start([partial(self._load, own, mine, needs.buckets)], landing)
            if own.error is not None:
                raise own.error
        for flight in {id(each): each for each in others.values()}.values():
            await wait_event(flight.landed, self._patience)
            if flight.error is not None:
                raise anew(flight.error) from flight.error.__cause__
        return own.records | {key: flight.records[key] for key, flight in others.items() if key in flight.records}

    async def _read(
        self, keys: list[RecordKey], buckets: tuple[BucketKey, ...]
    ) -> tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]]:
        self._counters.add("calls")
        try:
            return await self._repository.read_records(keys, buckets)
        except Exception as error:
            self._counters.add_failure(error)
            raise

    async def _load(self, flight: _Flight, keys: list[RecordKey], buckets: tuple[BucketKey, ...]) -> None:
        generation = self._records.generation
        self._count("fetches")
        try:
            with self._breaker.guard():
                flight.records, states = await self._read(keys, buckets)
            self._records.store(flight.records, generation)
            for bucket, state in states.items():
                self._observe(bucket, state)
        except Exception as error:
            flight.error = error
        finally:
            with self._lock:
                for key in keys:
                    if self._flights.get(key) is flight:
                        del self._flights[key]
            flight.landed.set()


def _known(value: Lookup) -> Lookup:
    return None if value is MISSING else value
