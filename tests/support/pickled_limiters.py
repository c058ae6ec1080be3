"""Gives limiters and repositories to processes of multiprocessing, which take units from one bucket.

    python tests/support/pickled_limiters.py processes|pool spawn|fork|forkserver limiter|async|repository

Prints, as JSON, how many units each job was allowed, and how many processes there were.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository
from limiter.audit import record

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS, EACH, CAPACITY = 4, 40, 100
LIMITS = [Limit("requests", CAPACITY, 1, 86400.0)]
warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)


def take(shared: Any) -> tuple[int, int]:
    """Take a unit many times; how many were allowed, and in which process."""
    if isinstance(shared, RateLimiter):
        return asyncio.run(take_async(shared)), os.getpid()
    limiter = shared if isinstance(shared, SyncRateLimiter) else made(SyncRateLimiter, shared)
    return sum(limiter.try_acquire().allowed for _ in range(EACH)), os.getpid()


async def take_async(limiter: RateLimiter) -> int:
    """Take a unit many times at once; how many were allowed."""
    async with limiter:
        decisions = await asyncio.gather(*(limiter.try_acquire() for _ in range(EACH)))
    return sum(decision.allowed for decision in decisions)


def made(kind: Callable[..., Any], repository: Any) -> Any:
    """A limiter that records what it decides."""
    return kind(repository, LIMITS, decision_timeout=60, on_decision=record(os.environ["RECORD"]))


def put(results: Any, shared: Any) -> None:
    """Take, and say what came of it."""
    results.put(take(shared))


def shared(what: str) -> Any:
    """What is given to the processes; the parent has used it before."""
    address: dict[str, Any] = {"endpoint_url": os.environ["ENDPOINT"], "connect_timeout": 60, "read_timeout": 60}
    if what == "async":
        return made(RateLimiter, Repository(os.environ["STACK"], **address))
    repository = SyncRepository(os.environ["STACK"], **address)
    limiter = made(SyncRateLimiter, repository)
    limiter.check("parent")
    return limiter if what == "limiter" else repository


def main(way: str, method: str, what: str) -> None:
    """Run the jobs, and print what came of them."""
    context: Any = multiprocessing.get_context(method)
    given = shared(what)
    if way == "pool":
        with ProcessPoolExecutor(JOBS, mp_context=context) as pool:
            found = list(pool.map(take, [given] * JOBS))
    else:
        results = context.SimpleQueue()
        children = [context.Process(target=partial(put, results, given), daemon=True) for _ in range(JOBS)]
        for child in children:
            child.start()
        found = [results.get() for _ in children]
        for child in children:
            child.join(60)
    report = {"allowed": sum(allowed for allowed, _ in found), "processes": len({process for _, process in found})}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
