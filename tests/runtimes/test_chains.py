"""A call that charges a chain of buckets and is cancelled leaves nothing in any of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.slow_store import Slow

from limiter import Limit, MemoryRepository, RateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock


LIMIT = Limit.per_hour("requests", 100)


async def cancelled_after(turns: int, inner: MemoryRepository, slow: dict[str, int], *, taken: int) -> bool:
    """Cancel an acquire of a chain after some turns of the loop; false when it had ended before."""
    limiter, other = RateLimiter(Slow(inner, slow), [LIMIT], denial_ttl=0), RateLimiter(inner, [LIMIT])
    await other.create_entity("parent")
    await other.create_entity("kid", parent_id="parent")
    await other.try_acquire("parent", "api", {"requests": taken})
    task = asyncio.ensure_future(limiter.try_acquire("kid", "api", {"requests": 10}))
    for _ in range(turns):
        await asyncio.sleep(0)
    ended = task.done() or not task.cancel()
    await asyncio.wait([task])
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    return not ended


@pytest.mark.parametrize(
    ("slow", "taken"), [({"kid": 0, "parent": 20}, 0), ({"kid": 20, "parent": 0}, 0), ({"kid": 15, "parent": 5}, 95)]
)
async def test_a_cancelled_call_leaves_nothing_in_its_chain(clock: FakeClock, slow: dict[str, int], taken: int) -> None:
    """Wherever it is cancelled: before, between and after the writes, and while it gives back what a refusal has left it with."""
    for turns in range(100):
        inner = MemoryRepository(clock=clock)
        if not await cancelled_after(turns, inner, slow, taken=taken):
            break
        look = RateLimiter(inner, [LIMIT])
        left = [(await look.check(entity, "api", {"requests": 0})).statuses[0].available for entity in ("kid", "parent")]
        assert left == [100, 100 - taken], f"cancelled after {turns} turns"
