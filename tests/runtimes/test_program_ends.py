"""A program that ends has given back what it took."""

from __future__ import annotations

import asyncio
import threading

from support.slow_store import Slow

from limiter import Limit, MemoryRepository, RateLimiter

LIMIT = Limit.per_hour("requests", 100)


def test_a_program_ends_whatever_it_has_just_cancelled() -> None:
    """At the end of `asyncio.run` a lease is given back, though someone before it in line was cancelled a moment ago."""
    inner = MemoryRepository()
    turns = {"kid": 0}

    async def main() -> None:
        limiter = RateLimiter(Slow(inner, turns), [LIMIT])

        async def hold() -> None:
            async with limiter.acquire("kid"):
                await asyncio.Event().wait()

        tasks = [asyncio.ensure_future(hold())]
        await asyncio.sleep(0.01)
        turns["kid"] = 50
        for _ in range(2):
            tasks.append(asyncio.ensure_future(limiter.try_acquire("kid")))
            for _ in range(10):
                await asyncio.sleep(0)
        tasks[-1].cancel()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
