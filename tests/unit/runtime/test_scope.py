"""A task that is garbage-collected inside its block cannot wait for its refund, which is made all the same."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, MemoryRepository, RateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock

LIMIT = Limit.per_hour("requests", 100)


async def hold(limiter: RateLimiter, inside: list[bool]) -> None:
    """Take units, and wait for what never comes: nobody but this task knows the future, and nobody but that one the task."""
    async with limiter.acquire(consume={"requests": 10}):
        inside.append(True)
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("where", ["in a task", "in a callback"])
async def test_a_collected_task_gives_back(where: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the collector strikes, what the task took comes back, and nothing is complained of."""
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    limiter = RateLimiter(MemoryRepository(clock=clock), [LIMIT])
    inside: list[bool] = []
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # It was destroyed pending, which is the point.
    asyncio.get_running_loop().create_task(hold(limiter, inside))
    while not inside:  # noqa: ASYNC110 - an event would be known to others than the task
        await asyncio.sleep(0)
    if where == "in a task":
        gc.collect()
    else:
        asyncio.get_running_loop().call_soon(gc.collect)
        await asyncio.sleep(0)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    assert (await limiter.check(consume={"requests": 0})).statuses[0].available == LIMIT.capacity
    assert not complaints
