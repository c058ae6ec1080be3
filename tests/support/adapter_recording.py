"""Limiters in memory that record the calls of adapters, and wait by moving the clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock


class Recorded(SyncRateLimiter):
    """A sync limiter that records pauses."""

    def __init__(self, clock: FakeClock, *limits: str, **options: Any) -> None:
        self.pauses: list[tuple[str, str, float]] = []
        parsed = [Limit.parse(limit) for limit in limits]
        super().__init__(SyncMemoryRepository(clock=clock), parsed, sleep=clock.advance, denial_ttl=0, **options)

    def pause(self, entity_id: str, resource: str, seconds: float) -> None:
        """Record a pause."""
        self.pauses.append((entity_id, resource, seconds))


class AsyncRecorded(RateLimiter):
    """An async limiter that records pauses."""

    def __init__(self, clock: FakeClock, *limits: str, **options: Any) -> None:
        self.pauses: list[tuple[str, str, float]] = []

        async def sleep(seconds: float) -> None:
            clock.advance(seconds)

        parsed = [Limit.parse(limit) for limit in limits]
        super().__init__(MemoryRepository(clock=clock), parsed, sleep=sleep, denial_ttl=0, **options)

    async def pause(self, entity_id: str, resource: str, seconds: float) -> None:
        """Record a pause."""
        self.pauses.append((entity_id, resource, seconds))


def recorded(kind: str, clock: FakeClock, *limits: str, **options: Any) -> Any:
    """Return a limiter of the kind "sync" or "async"."""
    return (Recorded if kind == "sync" else AsyncRecorded)(clock, *limits, **options)


def left(limiter: Any, entity_id: str, resource: str = "default") -> dict[str, int]:
    """Return the units that are left of each limit; not for use inside an event loop."""
    found = limiter.check(entity_id, resource)
    decision = asyncio.run(found) if asyncio.iscoroutine(found) else found
    return {status.limit.name: status.available for status in decision.statuses}
