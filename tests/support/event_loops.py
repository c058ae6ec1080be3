"""One RateLimiter in several event loops: in turn, and two at once in threads.

    python tests/support/event_loops.py turns|turns-left-open|threads|lease|client

Prints, as JSON, what came of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

from limiter import Lease, Limit, RateLimiter, Repository

EACH, CAPACITY = 60, 100
options: dict[str, Any] = {"endpoint_url": os.environ["ENDPOINT"], "connect_timeout": 60, "read_timeout": 60}


def make(**more: Any) -> RateLimiter:
    """Make the one limiter."""
    limits = [Limit("requests", CAPACITY, 1, 86400.0)]
    return RateLimiter(Repository(os.environ["STACK"], **options, **more), limits, decision_timeout=60)


async def take_many(limiter: RateLimiter, *, close: bool = True) -> int:
    """Consume one unit, many times at once; return how many calls were allowed."""
    decisions = await asyncio.gather(*(limiter.try_acquire() for _ in range(EACH)))
    if close:
        await limiter.repository.close()
    return sum(decision.allowed for decision in decisions)


def turns(*, close: bool = True) -> list[int]:
    """One loop after the other, each of which closes what it has opened, or not."""
    limiter = make()
    return [asyncio.run(take_many(limiter, close=close)) for _ in range(2)]


def threads() -> list[int]:
    """Two loops at once."""
    limiter = make()
    begun = threading.Barrier(2)
    admitted: list[int] = []

    def run() -> None:
        begun.wait(60)
        admitted.append(asyncio.run(take_many(limiter)))

    both = [threading.Thread(target=run) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    return admitted


def lease() -> str:
    """A lease that is used in another loop than the one that acquired it."""
    limiter = make()
    kept: list[Lease] = []

    async def take() -> None:
        acquisition = limiter.acquire()
        kept.append(await acquisition.__aenter__())
        await limiter.repository.close()

    asyncio.run(take())
    try:
        asyncio.run(kept[0].adjust(requests=1))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def client() -> list[str]:
    """A client that was passed in and belongs to one loop."""
    from aiobotocore.session import AioSession

    outcomes = []

    async def run(limiter: RateLimiter) -> str:
        try:
            return str((await limiter.try_acquire()).allowed)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    async def open_and_run() -> RateLimiter:
        async with AioSession().create_client("dynamodb", endpoint_url=options["endpoint_url"]) as opened:
            limiter = make(client=opened)
            outcomes.append(await run(limiter))
        return limiter

    limiter = asyncio.run(open_and_run())
    outcomes.append(asyncio.run(run(limiter)))
    return outcomes


WAYS = {"turns": turns, "turns-left-open": lambda: turns(close=False), "threads": threads, "lease": lease, "client": client}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]]()))  # noqa: T201 - the answer to the test
