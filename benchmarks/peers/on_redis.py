"""Limiters on Redis: another store with other guarantees, measured for comparison."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ..plan import AMPLE

if TYPE_CHECKING:
    from ..plan import Job


class Limits:
    """`limits` with its cheapest strategy, the fixed window."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job

    async def open(self) -> None:
        """Open the storage."""
        from limits import RateLimitItemPerSecond
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import FixedWindowRateLimiter

        self._limiter = FixedWindowRateLimiter(RedisStorage(f"async+{self.job.redis_url}"))
        self._item = RateLimitItemPerSecond(self.job.rate or AMPLE)

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - no such thing here
        """One hit."""
        return await self._limiter.hit(self._item, key)

    async def close(self) -> None:
        """Do nothing: the documentation names nothing to close."""


class ThreadedLimits:
    """The same for threads and greenlets."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job

    def open(self) -> None:
        """Open the storage."""
        from limits import RateLimitItemPerSecond
        from limits.storage import RedisStorage
        from limits.strategies import FixedWindowRateLimiter

        self._limiter = FixedWindowRateLimiter(RedisStorage(self.job.redis_url))
        self._item = RateLimitItemPerSecond(self.job.rate or AMPLE)

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """One hit."""
        return self._limiter.hit(self._item, key)

    def close(self) -> None:
        """Do nothing: the documentation names nothing to close."""


class Throttled:
    """`throttled-py` with GCRA, the algorithm of this library."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job

    async def open(self) -> None:
        """Open the store."""
        from throttled.asyncio import RateLimiterType, Throttled, rate_limiter, store

        rate = self.job.rate or AMPLE
        quota = rate_limiter.per_duration(timedelta(seconds=1), rate, burst=rate)
        redis = store.RedisStore(server=self.job.redis_url)
        self._throttle = Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=redis)

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - no such thing here
        """One limit call."""
        result = await self._throttle.limit(key)
        return not result.limited

    async def close(self) -> None:
        """Do nothing: the documentation names nothing to close."""
