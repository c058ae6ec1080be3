"""Limiters with repositories of their own keep a key cool that serves 200 writes a second: no decision fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client
from support.heat_proxy import HeatProxy

from limiter import Limit, RateLimiter, RateLimiterUnavailable, Repository
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine
    from support.heat_server import Counts

UNITS = 200
LATENCY = (0.015, 0.030)
TASKS = 20
SECONDS = 5.0
PLENTY, SCARCE = Limit.per_second("requests", 100_000), Limit.per_second("requests", 50)


async def flood(limiters: list[RateLimiter], seconds: float) -> Counter[str]:
    """Let tasks of every limiter ask for units of one bucket; return what became of it."""
    outcomes: Counter[str] = Counter()
    end = monotonic() + seconds

    async def ask(limiter: RateLimiter) -> None:
        while monotonic() < end:
            try:
                allowed = (await limiter.try_acquire("user-42", "api")).allowed
            except RateLimiterUnavailable:
                outcomes["failed"] += 1
            else:
                outcomes["allowed" if allowed else "refused"] += 1
            await asyncio.sleep(0.001)

    await asyncio.gather(*[ask(limiter) for limiter in limiters for _ in range(TASKS)])
    return outcomes


async def flooded(engine: Engine, name: str, number: int, limit: Limit, **options: Any) -> tuple[Counter[str], Counts]:
    """Flood one key through so many limiters; return the outcomes, and what the key served."""
    create_table(name, client=plain_client(str(engine.endpoint_url)))
    with HeatProxy(str(engine.endpoint_url), units=UNITS, latency=LATENCY) as table:
        async with AsyncExitStack() as stack:
            limiters = []
            for _ in range(number):
                repository = await stack.enter_async_context(Repository(name, endpoint_url=table.endpoint_url))
                limiters.append(RateLimiter(repository, [limit], stored=False, decision_timeout=5.0, **options))
            await asyncio.gather(*[limiter.repository.prepare() for limiter in limiters])
            table.counts()
            outcomes = await flood(limiters, SECONDS)
            return outcomes, table.counts()


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("number", [4, 8])
async def test_a_fleet_that_knows_its_key_keeps_it_cool(number: int, server_engine: Engine, table_name: str) -> None:
    """With 140 writes for each key, no decision fails, at most one write a second is throttled, and 180 are served."""
    outcomes, counts = await flooded(server_engine, table_name, number, PLENTY, writes_per_key=140)
    assert outcomes["allowed"] > 0
    assert not outcomes["failed"]
    assert counts.throttled <= counts.seconds
    assert counts.written <= 180 * counts.seconds


@pytest.mark.engines("dynoxide")
async def test_a_refused_flood_stays_below_the_pace(server_engine: Engine, table_name: str) -> None:
    """Limiters that all try when one of 50 units a second is due stay below what the key serves, and no decision fails."""
    outcomes, counts = await flooded(server_engine, table_name, 8, SCARCE, writes_per_key=140)
    assert outcomes["refused"] > 0
    assert not outcomes["failed"]
    assert counts.throttled <= 0.05 * counts.written
    assert counts.written + counts.throttled <= UNITS * counts.seconds
