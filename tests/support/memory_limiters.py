"""Limiters in memory for tests of adapters, which wait by moving the clock; two of them can stand for two processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock


def sync_limiter(
    clock: FakeClock, *limits: str, repository: SyncMemoryRepository | None = None, **options: Any
) -> SyncRateLimiter:
    """A synchronous limiter, on a repository of its own unless one is given."""
    parsed = [Limit.parse(limit) for limit in limits]
    kept = repository or SyncMemoryRepository(clock=clock)
    return SyncRateLimiter(kept, parsed, sleep=clock.advance, denial_ttl=0, **options)


def async_limiter(clock: FakeClock, *limits: str, **options: Any) -> RateLimiter:
    """An asynchronous limiter on a repository of its own."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    parsed = [Limit.parse(limit) for limit in limits]
    return RateLimiter(MemoryRepository(clock=clock), parsed, sleep=sleep, denial_ttl=0, **options)


def new_limiter(kind: str, clock: FakeClock, *limits: str, **options: Any) -> Any:
    """A limiter of the kind "sync" or "async"."""
    return (sync_limiter if kind == "sync" else async_limiter)(clock, *limits, **options)


def left(limiter: Any, entity_id: str, resource: str = "default") -> dict[str, int]:
    """What is left of each limit; not for use inside an event loop."""
    return {status.limit.name: status.available for status in _run(limiter.check(entity_id, resource)).statuses}


def wait(limiter: Any, entity_id: str, resource: str = "default") -> float | None:
    """Seconds until a bucket admits, as another limiter on its repository is told; not for use inside an event loop."""
    decision = _run(other(limiter).check(entity_id, resource))
    return 0.0 if decision.allowed else decision.retry_after


def other(limiter: Any) -> Any:
    """A limiter on the same repository that has seen nothing of what the first has done, as in another process."""
    return type(limiter)(limiter.repository, limiter.limits, denial_ttl=0)


def _run(found: Any) -> Any:
    return asyncio.run(found) if asyncio.iscoroutine(found) else found
