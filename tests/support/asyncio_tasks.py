"""1,000 asyncio tasks take from one bucket; some of them are cancelled, timed out, fail, or are garbage-collected.

Prints, as JSON, what each kind came to, what is available afterwards, and what a model says should be.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from collections import Counter
from typing import Any

from limiter import Limit, RateLimiter, Repository

TASKS, CAPACITY, UNITS = 1000, 3000, 2
KINDS = ("kept", "cancelled", "timed out", "failed", "collected")
complaints: list[str] = []


class Failure(Exception):
    """An error raised in the block."""


async def hold(limiter: RateLimiter, kind: str, came_in: Counter[str], ended: Counter[str]) -> None:
    """Consume units, then do what this kind of task does."""
    try:
        # A timed-out task may be anywhere at that time: before the call, waiting for its turn, inside the call, or in the block.
        async with asyncio.timeout(random.uniform(0.01, 1.0) if kind == "timed out" else None):  # noqa: S311 - spreads tasks
            async with limiter.acquire(consume={"requests": UNITS}):
                came_in[kind] += 1
                if kind == "failed":
                    raise Failure
                if kind == "collected":
                    # Only this task refers to the future, and only the future refers to the task.
                    await asyncio.get_running_loop().create_future()
                if kind != "kept":
                    await asyncio.sleep(3600)
    finally:
        ended[kind] += 1


async def main() -> None:
    """Run all tasks."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
    sys.unraisablehook = lambda unraisable: complaints.append(f"{unraisable.err_msg}: {unraisable.exc_value!r}")
    repository = Repository(os.environ["STACK"], endpoint_url=os.environ["ENDPOINT"], connect_timeout=60, read_timeout=60)
    limiter = RateLimiter(repository, [Limit("requests", CAPACITY, 1, 86400.0)], decision_timeout=60)
    came_in: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    async with limiter:
        tasks = {kind: [start(limiter, kind, came_in, ended) for _ in range(TASKS // len(KINDS))] for kind in KINDS}
        collected = len(tasks.pop("collected"))
        await asyncio.sleep(0)
        while pending := [task for task in tasks["cancelled"] if not task.done()]:
            random.choice(pending).cancel()  # noqa: S311 - any of them
            await asyncio.sleep(0.002)
        results = await asyncio.gather(*(task for group in tasks.values() for task in group), return_exceptions=True)
        while came_in["collected"] < collected:  # noqa: ASYNC110 - an event would be known to others than the tasks
            await asyncio.sleep(0.01)
        gc.collect()
        # Refunds of tasks that are gone continue by themselves.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        status = (await limiter.check()).statuses[0]
        again = [await limiter.try_acquire(consume={"requests": units}) for units in (status.available, 1)]
    report: dict[str, Any] = {
        "outcomes": Counter(type(result).__name__ for result in results),
        "came_in": came_in,
        "ended": ended,
        "available": status.available,
        "model": CAPACITY - came_in["kept"] * UNITS,
        "really_available": [decision.allowed for decision in again],
        "complaints": Counter(complaints),
    }
    print(json.dumps(report))  # noqa: T201 - the answer to the test


def start(limiter: RateLimiter, kind: str, came_in: Counter[str], ended: Counter[str]) -> asyncio.Task[None]:
    """Start a task to which the loop holds only a weak reference."""
    return asyncio.create_task(hold(limiter, kind, came_in, ended))


if __name__ == "__main__":
    asyncio.run(main())
