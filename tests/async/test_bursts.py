# twin: ../sync/test_bursts.py
"""Many new buckets at once: what this process's own load delays is no failure of the table."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter import Limit, MemoryRepository, RateLimiter, RateLimiterUnavailable
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 300
LIMITS = [Limit.per_minute("requests", 5)]


class Narrow(MemoryRepository):
    """A store with few connections that counts its calls, and hangs from call number `until` on until it is let go."""

    max_connections = 4

    def __init__(self, until: int | None = None) -> None:
        super().__init__()
        self.until = until
        self.calls = self.under_way = self.most = 0

    async def read_records(self, *arguments: Any) -> Any:
        return await self._counted(partial(super().read_records, *arguments))

    async def write_bucket(self, *arguments: Any) -> Any:
        return await self._counted(partial(super().write_bucket, *arguments))

    async def _counted(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.until is not None and self.calls >= self.until:
                raise RateLimiterUnavailable("the table has gone")
            await asyncio.sleep(0.01)  # So that a burst takes much longer than the table may.
            return await call()
        finally:
            self.under_way -= 1


async def test_a_burst_of_new_buckets_is_decided_by_the_table() -> None:
    """However long the line of this process takes, every caller is served while the table responds, with few calls at once."""
    store = Narrow()
    limiter = RateLimiter(store, LIMITS, "allow", decision_timeout=0.3)
    calls = [partial(limiter.try_acquire, f"user-{number}", "api") for number in range(BURST)]
    decisions = await gather(calls)
    assert [bool(decision) for decision in decisions] == [True] * BURST
    statistics = limiter.stats()
    assert (statistics.decisions, statistics.degraded, statistics.failures) == (BURST, 0, 0)
    assert store.most <= store.max_connections
    await limiter.close()


async def test_an_outage_in_the_middle_of_a_burst_answers_everybody() -> None:
    """The callers that the table has not served when it goes are told so, and none is let through uncounted."""
    limiter = RateLimiter(Narrow(until=BURST // 2), LIMITS)
    outcomes = await gather([partial(limiter.try_acquire, f"user-{number}", "api") for number in range(BURST)])
    served = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, RateLimiterUnavailable) for outcome in outcomes if isinstance(outcome, BaseException))
    assert 0 < len(served) < BURST
    assert limiter.stats().degraded == 0
