# twin: ../sync/test_memory.py
"""What a process keeps in memory is bounded by what is in use: a bucket that is full again is forgotten.

The test of `limiter.core.forgetting`.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, MemoryRepository, Quota, RateLimiter, RateLimiterUnavailable
from limiter.core.records import BucketKey
from limiter.core.state import BucketState

if TYPE_CHECKING:
    from support.engines import FakeClock

LIMITS = [Limit.per_minute("requests", 10)]
MANY = 3_000


def kept() -> int:
    """The states of used buckets that this process keeps, wherever that is."""
    gc.collect()
    return sum([type(each) is BucketState and bool(each.levels) for each in gc.get_objects()])


def noted() -> int:
    """The tables by bucket that this process keeps, counted by their entries."""
    tables = [each for each in gc.get_objects() if issubclass(type(each), dict) and type(next(iter(each), None)) is BucketKey]
    return max(map(len, tables), default=0)


async def use(limiter: RateLimiter, first: int, count: int) -> None:
    """Let as many identities ask once each."""
    for number in range(first, first + count):
        assert (await limiter.try_acquire(f"user-{number}", "api")).allowed


async def test_a_store_in_memory_forgets_what_is_full(clock: FakeClock) -> None:
    """Of any number of identities those remain that have used something lately."""
    repository = MemoryRepository(clock=clock)
    limiter = RateLimiter(repository, LIMITS, decision_timeout=60)  # a busy machine may stall
    await use(limiter, 0, MANY)
    assert len(await repository.buckets()) == MANY
    clock.advance(7)
    await use(limiter, MANY, MANY)
    assert len(await repository.buckets()) <= MANY + 10
    clock.advance(7)
    for number in range(MANY // 2):
        await limiter.try_acquire(f"last-{number}", "api")
    assert len(await repository.buckets()) <= MANY // 2 + 10


async def test_a_bucket_in_use_is_not_forgotten(clock: FakeClock) -> None:
    """What is taken, owed or booked stays, however many others come and go."""
    repository = MemoryRepository(clock=clock)
    limiter = RateLimiter(repository, LIMITS)
    async with limiter.acquire("debtor", "api") as lease:
        await lease.adjust(requests=100)
    assert (await limiter.try_acquire("user", "api", {"requests": 10})).allowed
    for round_ in range(8):
        await use(limiter, round_ * 100, 100)
        clock.advance(7)
    assert (await limiter.check("debtor", "api")).statuses[0].available == 10 - 101 + 9
    assert {"debtor", "user"} <= {key.entity_id for key in await repository.buckets()}
    assert (await limiter.check("user", "api")).statuses[0].available == 9


@pytest.mark.usefixtures("closed_for_long")
async def test_what_was_allowed_in_an_outage_is_not_kept_for_good(store: Any, clock: FakeClock) -> None:
    """Identities that were limited without the table are forgotten once they have refilled, in the outage and after it."""
    limiter = RateLimiter(store, LIMITS, on_unavailable="local", config_ttl=0)
    before = kept()
    store.error = RateLimiterUnavailable("gone", unsent=True)
    await use(limiter, 0, MANY)
    assert kept() >= MANY  # Some that earlier tests have left may be gone since.
    clock.advance(60)
    await use(limiter, MANY, MANY)
    assert kept() - before <= MANY + 1_100
    assert noted() <= MANY + 1_100


@pytest.mark.usefixtures("tried_at_once")
async def test_what_was_allowed_in_an_outage_is_forgotten_after_it(store: Any, clock: FakeClock) -> None:
    """Each decision on the table after an outage removes some of the outage's local state."""
    limiter = RateLimiter(store, LIMITS, on_unavailable="local")
    store.error = RateLimiterUnavailable("gone", unsent=True)
    await use(limiter, 0, MANY)
    before, store.error = kept(), None
    clock.advance(60)
    for _ in range(MANY // 2 + 10):
        await limiter.try_acquire("user-0", "api")
    assert before - kept() >= MANY - 1_100


async def test_usage_that_has_not_refilled_is_reported_still(store: Any, clock: FakeClock) -> None:
    """Usage that has not refilled reaches the table, regardless of how many other buckets were used."""
    limiter = RateLimiter(store, [Limit.per_hour("requests", 100)], on_unavailable="local")
    assert (await limiter.check("heavy", "api")).allowed
    store.error = RateLimiterUnavailable("gone", unsent=True)
    assert (await limiter.try_acquire("heavy", "api", {"requests": 50})).allowed
    for round_ in range(5):
        await use(limiter, round_ * 100, 100)
        clock.advance(40)
    store.error = None
    clock.advance(1)
    assert (await limiter.try_acquire("heavy", "api")).statuses[0].available in range(54, 57)


async def test_a_process_forgets_what_has_refilled(
    new_limiter: Any, repository: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any number of identities a process knows those that have used something lately; the others still cost one write."""
    monkeypatch.setattr("limiter.commit.queues.KEPT", 20)
    limiter = new_limiter("requests=10/minute", stored=False)
    await use(limiter, 0, 100)
    before = kept()
    clock.advance(7)
    await use(limiter, 100, 100)
    assert kept() <= before + 10
    clock.advance(7)
    repository.take()
    await use(limiter, 0, 20)
    assert repository.take()["write_bucket"] == 20


async def test_absent_records_share_their_memory(store: Any) -> None:
    """An absent record costs one dictionary entry, and no separate values."""
    import tracemalloc

    limiter = RateLimiter(store, LIMITS)
    await use(limiter, 0, 100)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for number in range(5_000):
            await limiter.resolve_limits(f"new-{number}", "api")
        entries = limiter.config_statistics.entries
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    grown = sum(each.size_diff for each in after.compare_to(before, "filename") if "record_cache" in each.traceback[0].filename)
    assert entries >= 15_000
    assert grown < 5_000 * 350


async def test_a_total_outlives_the_buckets_that_are_full(clock: FakeClock) -> None:
    """Buckets whose time to live has passed go with the writes of others, two at a time; those in use stay."""
    repository = MemoryRepository(clock=clock)
    limiter = RateLimiter(repository, [Limit.per_minute("requests", 10)])
    total = [Quota.total("credits", 10)]
    assert await limiter.try_acquire("customer", "api", limits=total)
    for number in range(100):
        assert await limiter.try_acquire(f"old-{number}", "api")
    clock.advance(2 * 3_600.0)
    for number in range(60):
        assert await limiter.try_acquire(f"new-{number}", "api")
    kept = [await limiter.list_resources(f"old-{number}") for number in range(100)]
    assert kept == [()] * 100
    assert await limiter.list_resources("new-0") == ("api",)
    assert not await limiter.try_acquire("customer", "api", {"credits": 10}, limits=total)
