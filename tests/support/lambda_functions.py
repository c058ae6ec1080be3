"""The functions that `lambda_runtime.py` serves: each invocation carries out the steps of its event.

A step is a name and arguments. The sync function knows the first three steps, the async one the last three:

- `["open"]` opens the client.
- `["stock", RESOURCE]` consumes single units until the next ones have just been taken in advance.
- `["consume", RESOURCE, TIMES]` tries to consume single units.
- `["hold"]` takes the slot and keeps it.
- `["leave"]` frees it.

The answer has the results of the steps, what the limiter has counted, and how much CPU the steps got.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

STOPPED = os.environ.get("STOPPED")
"""A file with the seconds for which monotonic time has stood still, if freezes stop it."""


def stop_monotonic_time(path: str) -> None:
    """Let monotonic time stand still, as that of a machine does that is frozen as a whole."""
    with Path(path).open("rb") as file:
        stopped = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    running = time.monotonic_ns

    def monotonic_ns() -> int:
        return running() - int(1e9 * struct.unpack("d", stopped)[0])

    vars(time).update(monotonic_ns=monotonic_ns, monotonic=lambda: monotonic_ns() / 1e9)


if STOPPED:
    stop_monotonic_time(STOPPED)  # before the limiter keeps the functions

from limiter import (  # noqa: E402 - see above
    Concurrency,
    Limit,
    RateLimiter,
    RateLimitExceeded,
    Repository,
    SyncRateLimiter,
    SyncRepository,
)

DAY = 86400.0
LIMITS: dict[str, list[Any]] = {
    "slow": [Limit("slow", 1000, 1, DAY)],
    "fast": [Limit("fast", 1, 1, 60.0)],
    "allotted": [Limit("allotted", 2000, 1, DAY, allotment=0.5)],
    "calls": [Concurrency("calls", 1, ttl=1.0)],
}
"""Of the slow and the allotted limit no unit comes back during a test."""
where: dict[str, Any] = {
    "stack": os.environ["STACK"],
    "endpoint_url": os.environ["ENDPOINT"],
    "connect_timeout": 30.0,  # the engine may stall, which is no failure of the function
    "read_timeout": 30.0,
}
limiter = SyncRateLimiter(SyncRepository(**where), config_ttl=0.5)
asynchronous = RateLimiter(Repository(**where), config_ttl=0.5)
held = AsyncExitStack()
leases: list[Any] = []
runner = asyncio.Runner()


def consumed(decision: Any, calls: int) -> dict[str, Any]:
    """Describe a decision that took so many calls."""
    return {"allowed": decision.allowed, "retry_after": decision.retry_after, "calls": calls}


def consume(resource: str, times: int) -> list[Any]:
    """Try to consume single units."""
    results = []
    for _ in range(times):
        before = limiter.stats().calls
        decision = limiter.try_acquire("user", resource, limits=LIMITS.get(resource))
        results.append(consumed(decision, limiter.stats().calls - before))
    return results


def stock(resource: str) -> int:
    """Consume single units until some are paid in advance and the next ones have just been taken; return how many."""
    calls = [consume(resource, 1)[0]["calls"]]
    while len(calls) < 1_000 and (min(calls) > 0 or not calls[-1]):
        calls += [each["calls"] for each in consume(resource, 1)]
    return len(calls)


async def async_consume(resource: str, times: int) -> list[Any]:
    """Try to consume single units."""
    results = []
    for _ in range(times):
        before = asynchronous.stats().calls
        decision = await asynchronous.try_acquire("user", resource, limits=LIMITS.get(resource))
        results.append(consumed(decision, asynchronous.stats().calls - before))
    return results


async def hold() -> int | None:
    """Take the slot and keep it; return its fence number, or None if it is taken."""
    try:
        leases.append(await held.enter_async_context(asynchronous.acquire("user", "calls", limits=LIMITS["calls"])))
    except RateLimitExceeded:
        return None
    return leases[-1].fence  # type: ignore[no-any-return]


async def leave() -> bool:
    """Free the slot, and return whether it was lost."""
    lost: bool = leases.pop().lost
    await held.aclose()
    return lost


STEPS: dict[str, Any] = {"open": limiter.repository.open, "consume": consume, "stock": stock}
ASYNC_STEPS: dict[str, Any] = {"consume": async_consume, "hold": hold, "leave": leave}


def sync_handler(event: list[list[Any]], context: object) -> dict[str, Any]:
    """Carry out the steps with the limiter of the module."""
    began = time.perf_counter(), time.process_time()
    results = [STEPS[step](*arguments) for step, *arguments in event]
    return answer(results, limiter.stats(), began)


def async_handler(event: list[list[Any]], context: object) -> dict[str, Any]:
    """Carry out the steps in the one event loop of all invocations."""
    began = time.perf_counter(), time.process_time()

    async def carry_out() -> list[Any]:
        return [await ASYNC_STEPS[step](*arguments) for step, *arguments in event]

    return answer(runner.run(carry_out()), asynchronous.stats(), began)


def answer(results: list[Any], stats: Any, began: tuple[float, float]) -> dict[str, Any]:
    """Return the results, what the limiter has counted so far, and the seconds that the steps took: of all, and of the CPU."""
    counted = {"failures": stats.failures, "degraded": stats.degraded, "corrections_lost": stats.corrections_lost}
    spent = {"seconds": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    return {"results": results, "counted": counted, **spent}
