# twin: ../sync/test_memory.py
"""A store in memory keeps what limits need, and no more."""

from __future__ import annotations

from support.engines import FakeClock

from limiter import Limit, MemoryRepository, Quota, RateLimiter


async def test_full_buckets_are_forgotten() -> None:
    """Buckets whose time to live has passed go with the writes of others, two at a time; those in use stay."""
    clock = FakeClock()
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
