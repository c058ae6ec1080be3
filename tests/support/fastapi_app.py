"""A FastAPI application with the limiter in each kind of route."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from fastapi import FastAPI

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository

CAPACITY = 60
options: dict[str, Any] = {"endpoint_url": os.environ["ENDPOINT"], "connect_timeout": 60, "read_timeout": 60}
limits = [Limit("requests", CAPACITY, 1, 86400.0)]
sync_limiter = SyncRateLimiter(SyncRepository(os.environ["STACK"], **options), limits, decision_timeout=60)
limiter = RateLimiter(Repository(os.environ["STACK"], **options), limits, decision_timeout=60)
app = FastAPI()
lock = threading.Lock()
inside = {"now": 0, "most": 0, "ticks": 0}


def enter(change: int) -> None:
    """Count the requests that are inside an acquire."""
    with lock:
        inside["now"] += change
        inside["most"] = max(inside["most"], inside["now"])


@app.get("/plain")
def plain(entity: str) -> dict[str, Any]:
    """A plain route runs in a thread, so it uses the sync limiter."""
    enter(1)
    decision = sync_limiter.try_acquire(entity)
    enter(-1)
    return {"admitted": decision.allowed, "most_inside": inside["most"]}


@app.get("/async")
async def asynchronous(entity: str) -> dict[str, Any]:
    """An `async def` route runs in the event loop, so it uses the async limiter."""
    enter(1)
    decision = await limiter.try_acquire(entity)
    enter(-1)
    return {"admitted": decision.allowed, "most_inside": inside["most"]}


@app.get("/mixed")
async def mixed(entity: str) -> dict[str, Any]:
    """A mistake that works: the sync limiter blocks the event loop for the length of its calls."""
    await asyncio.sleep(0)
    with sync_limiter.acquire(entity) as lease:  # The line that the warning names.
        return {"admitted": lease.consumed["requests"] == 1}
