# twin: sync_config_cache.py
"""Finds the buckets that a call charges, from records that are read together and kept for a bounded time."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from .core import resolution
from .core.chain import next_change
from .core.records import CacheableKeys
from .core.resolution import MISSING, MissingRecords
from .exceptions import RateLimiterUnavailable, anew
from .runtime.concurrency import catch_up, in_line, outlast, start, wait_event, with_timeout
from .runtime.gate import Gate
from .statistics import CacheStatistics

if TYPE_CHECKING:
    from .commit.breaker import Breaker
    from .core.call import Call
    from .core.chain import Bucket
    from .core.record_cache import RecordCache
    from .core.records import BucketKey, Limits, RecordKey
    from .core.resolution import Lookup
    from .repository_protocol import RepositoryProtocol
    from .statistics import Counters


MAX_CHAINS = 100_000
"""Chains that are remembered; when there are more, all are forgotten."""
LOADS = 4
"""Reads in progress at once; further requests gather for the next read."""
LOAD_SIZE = 100
"""The most items of one read, which is the bound of BatchGetItem."""


class _Load:
    """One read of records for any number of callers, and its results."""

    def __init__(self) -> None:
        self.records: dict[RecordKey, Lookup] = {}
        self.wanted: dict[RecordKey, None] = {}
        self.sent = asyncio.Event()
        self.landed = asyncio.Event()
        self.error: Exception | None = None


class _Resolved(NamedTuple):
    """A chain that holds until one of its records expires, a schedule brings other limits, or this process writes something."""

    chain: tuple[Bucket, ...]
    expires: int
    generation: int


class _Reading:
    """The records that one call uses: cached ones that are not too old, and those fetched for it."""

    def __init__(self, records: RecordCache, now: int) -> None:
        self._records = records
        self._now = now
        self.fetched: dict[RecordKey, Lookup] = {}
        self.expires = sys.maxsize

    def lookup(self, key: RecordKey) -> Lookup:
        """Return the record, None if it does not exist, or MISSING."""
        value, expires = self._records.lookup(key)
        if expires > self._now:
            self.expires = min(self.expires, expires)
            return value
        self.expires = 0
        return self.fetched.get(key, MISSING)


class ConfigCache:
    """Resolves calls to chains of buckets, from records that are at most the time to live old.

    Reads gather as writes do: one call to the store serves many callers. Callers of the same bucket continue in the order in
    which they asked. With a time to live of 0 (`share` is false) every call reads from the store, and what was written last. A
    read may take `patience` seconds.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        records: RecordCache,
        breaker: Breaker,
        counters: Counters,
        gate: Gate,
        patience: float,
        *,
        share: bool,
    ) -> None:
        self._repository = repository
        self._records = records
        self._breaker = breaker
        self._counters = counters
        self._gate = gate
        self._loads = Gate(LOADS)
        self._patience = patience
        self._share = share
        self._lock = threading.Lock()
        self._gathering: _Load | None = None
        self._under_way: dict[RecordKey, _Load] = {}
        self._line: dict[tuple[BucketKey, Limits | None], asyncio.Event] = {}
        self._resolved: dict[tuple[object, ...], _Resolved] = {}
        self._counts: Counter[str] = Counter()

    @property
    def statistics(self) -> CacheStatistics:
        """Return how the cache has served so far."""
        return CacheStatistics(len(self._records), *(self._counts[name] for name in ("hits", "misses", "fetches")))

    def known(self, call: Call) -> tuple[Bucket, ...] | None:
        """Return the chain of a call as it was resolved before, if that still holds."""
        known = self._resolved.get(_place(call))
        if known is None or known.expires <= self._records.now() or known.generation != self._records.generation:
            return None
        if self._line and (call.key, call.limits) in self._line:
            return None  # Callers who asked before have not continued yet.
        with self._lock:
            self._counts["hits"] += 1
        return known.chain

    async def chain(self, call: Call) -> tuple[Bucket, ...]:
        """Return the buckets that a call charges, the entity's own first.

        Raises `RateLimiterUnavailable` if a record that matters cannot be read in time, `UnreadableItem` if it is malformed.
        """
        if not self._share:
            return await self._resolve(call)
        place, gone = (call.key, call.limits), asyncio.Event()
        with self._lock:
            before, self._line[place] = self._line.get(place), gone
        try:
            chain = await self._resolve(call)
            if before is not None:
                await self._wait(before)
            return chain
        finally:
            gone.set()
            with self._lock:
                if self._line.get(place) is gone:
                    del self._line[place]

    async def _resolve(self, call: Call) -> tuple[Bucket, ...]:
        now, generation, clock = self._records.now(), self._records.generation, self._repository.clock
        reading = _Reading(self._records, now)
        answer = resolution.resolve(call, reading.lookup, clock())
        self._count("misses" if isinstance(answer, MissingRecords) else "hits")
        while isinstance(answer, MissingRecords):
            reading.fetched |= await self._fetch(answer)
            answer = resolution.resolve(call, reading.lookup, clock())  # The read may have set the clock.
        if len(self._resolved) >= MAX_CHAINS:
            self._resolved.clear()
        if reading.expires > now:
            change = next_change(answer)
            expires = reading.expires if change is None else min(reading.expires, change)
            self._resolved[_place(call)] = _Resolved(answer, expires, generation)
        return answer

    def remembered(self, call: Call) -> tuple[tuple[Bucket, ...], bool]:
        """Return the chain from known records of any age, unknown ones taken as absent, and whether nothing was unknown.

        For when nothing can be read.
        """
        now = self._repository.clock()
        whole = not isinstance(resolution.resolve(call, lambda key: self._records.lookup(key)[0], now), MissingRecords)
        answer = resolution.resolve(call, lambda key: _known(self._records.lookup(key)[0]), now)
        return () if isinstance(answer, MissingRecords) else answer, whole

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    async def _fetch(self, needs: MissingRecords) -> dict[RecordKey, Lookup]:
        """Read what is needed, together with what other callers need."""
        own: list[_Load] = []
        with self._lock:
            loads = {key: self._place(key, own) for key in needs.records}
        distinct = tuple({id(load): load for load in loads.values()}.values())
        if own:
            # The caller waits in the same line as callers that join its load, and before them.
            await start([partial(self._carry_out, load) for load in own], partial(self._end_of, own[0]))
        for load in distinct:
            await self._end_of(load)
            if load.error is not None:
                raise anew(load.error) from load.error.__cause__
        return {key: load.records[key] for key, load in loads.items() if key in load.records}

    def _place(self, key: RecordKey, own: list[_Load]) -> _Load:
        """Return the load that reads a record: one in progress, or the one that gathers; a new one is for the caller to run."""
        load = self._under_way.get(key) if self._share else None
        if load is not None:
            return load
        load = self._gathering
        if load is None or len(load.wanted) >= LOAD_SIZE:
            load = self._gathering = _Load()
            own.append(load)
        load.wanted[key] = None
        self._under_way[key] = load
        return load

    async def _end_of(self, load: _Load) -> None:
        """Wait until a read has ended, which bounds itself from its sending on: so it is known how it ended."""
        await self._wait(load.sent)
        await outlast(load.landed, partial(self._wait, load.landed))

    async def _wait(self, event: asyncio.Event) -> None:
        """Wait for another caller's work, for as long as the store responds."""
        patience = in_line(self._patience)
        deadline = monotonic() + patience
        while True:
            try:
                await wait_event(event, max(0.0, deadline - monotonic()))
                return
            except TimeoutError as error:
                now, before = monotonic(), self._breaker.answered
                deadline = self._breaker.extended(deadline, now, before + patience)
                if deadline <= now and not await catch_up(partial(self._moves, event, before)):
                    text = f"the limits could not be read within {self._patience} s"
                    raise RateLimiterUnavailable(text, unsent=True) from error

    def _moves(self, event: asyncio.Event, before: float) -> bool:
        """Tell whether the work is done, or the store has responded since the response `before`."""
        return event.is_set() or self._breaker.answered > before

    async def _carry_out(self, load: _Load) -> None:
        """Read the gathered records, as soon as a read may be sent."""
        try:
            with self._breaker.guard() as attempt:
                async with self._loads, self._gate:
                    refusal = self._breaker.refusal(attempt)
                    if refusal is not None:
                        raise refusal
                    await self._read(load)
        except Exception as error:
            load.error = error
        finally:
            self._seal(load)
            with self._lock:
                for key in load.wanted:
                    if self._under_way.get(key) is load:
                        del self._under_way[key]
            load.sent.set()
            load.landed.set()

    def _seal(self, load: _Load) -> None:
        with self._lock:
            if self._gathering is load:
                self._gathering = None

    async def _read(self, load: _Load) -> None:
        self._seal(load)
        load.sent.set()
        generation = self._records.generation
        self._count("fetches")
        self._counters.add("calls")
        try:
            keys = CacheableKeys(load.wanted) if self._share else tuple(load.wanted)
            load.records, _ = await with_timeout(self._patience, partial(self._repository.read_records, keys, ()))
        except TimeoutError as error:
            failure = RateLimiterUnavailable(f"the limits could not be read within {self._patience} s", unsent=True)
            self._counters.add_failure(failure)
            raise failure from error
        except Exception as error:
            self._counters.add_failure(error)
            raise
        self._breaker.note_answer()
        self._records.store(load.records, generation)


def _place(call: Call) -> tuple[object, ...]:
    """Return what the buckets of a call depend on; equal for calls that charge the same ones."""
    also = tuple([target.key for target in call.also]) if call.also else ()
    return (call.key, call.limits, also)


def _known(value: Lookup) -> Lookup:
    return None if value is MISSING else value
