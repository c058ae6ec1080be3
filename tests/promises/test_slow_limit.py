"""A slow limit beside a busy one in the same bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine, FakeClock

    from limiter.sync_repository_protocol import SyncRepositoryProtocol

SLOW, BUSY = Limit.per_day("slow", 50), Limit.per_second("busy", 10)
HOURS, STEP = 12, 36
BURST = 4


def open_repository(engine: Engine, table_name: str, clock: FakeClock) -> SyncRepositoryProtocol:
    """Open a repository of a new table."""
    if engine.endpoint_url is None:
        return SyncMemoryRepository(clock=clock)
    create_table(table_name, endpoint_url=engine.endpoint_url)
    return SyncRepository(table_name, endpoint_url=engine.endpoint_url, clock=clock, connect_timeout=30.0, read_timeout=30.0)


@pytest.mark.engines("memory", "dynoxide")
def test_a_slow_limit_beside_a_busy_one_loses_no_refill(engine: Engine, table_name: str, clock: FakeClock) -> None:
    """For 12 hours, a limit of 10 a second is busy; a limit of 50 a day allows its 50 and then exactly one every 28.8 minutes."""
    with open_repository(engine, table_name, clock) as repository:
        limiter = SyncRateLimiter(repository, [SLOW, BUSY], decision_timeout=60)
        assert sum(limiter.try_acquire("user", "api", {"slow": 1}).allowed for _ in range(60)) == 50
        admitted = []
        for _ in range(HOURS * 3_600 // STEP):
            clock.advance(STEP)
            assert all(limiter.try_acquire("user", "api", {"busy": 3}).allowed for _ in range(BURST - 1))
            admitted.append(limiter.try_acquire("user", "api", {"busy": 1, "slow": 1}).allowed)
    every = SLOW.period_ns // SLOW.refill_amount // (STEP * 1_000_000_000)
    assert [place for place, each in enumerate(admitted, 1) if each] == list(range(every, len(admitted) + 1, every))
    assert sum(admitted) == 25
