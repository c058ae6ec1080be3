# twin: ../sync/test_regions.py
"""Several regions on one strongly consistent table: writes that conflict are repeated, and limits stay exact."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter import Decision, Limit, RateLimiter, Throttled
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from support.engines import FakeClock

    from limiter.repository_protocol import BucketKey, Update, WriteResult

LIMITS = [Limit.per_hour("requests", 60)]


class Region:
    """The store as a region sees it: many of its writes are in conflict with those of another one, and not applied."""

    def __init__(self, store: Any, seed: int) -> None:
        self._store = store
        self._chance = random.Random(seed)  # noqa: S311 - draws conflicts
        self.conflicts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def open(self) -> None:
        """Open the store."""
        await self._store.open()

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Apply the update, if it is not in conflict."""
        if self._chance.random() < 0.5:
            self.conflicts += 1
            raise Throttled("ReplicatedWriteConflictException", hot_key=True)
        written: WriteResult = await self._store.write_bucket(key, update)
        return written


async def test_conflicts_between_regions_cost_no_unit_and_give_none(
    open_repository: Callable[..., Any], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three regions allow together what the limit allows, and what one gives back is free for the others."""
    monkeypatch.setattr("limiter.core.pace.Pace.wait", lambda _: 0)
    monkeypatch.setattr("limiter.runtime.retry.BACKOFF", 0.0)
    store = open_repository()
    regions = [Region(store, seed) for seed in range(3)]
    limiters = [RateLimiter(region, LIMITS, decision_timeout=60) for region in regions]
    for entity in ("a", "b", "c"):
        decisions: list[Decision] = []
        for _ in range(9):
            outcomes = await gather([partial(limiter.try_acquire, entity, "api") for limiter in limiters * 3])
            decisions += [each for each in outcomes if isinstance(each, Decision)]
        assert (len(decisions), sum(each.allowed for each in decisions)) == (81, 60)
    async with limiters[0].acquire("other", "api", {"requests": 50}) as lease:
        await lease.release(requests=20)
    assert (await limiters[1].check("other", "api")).statuses[0].available == 30
    assert sum(region.conflicts for region in regions) > 3
