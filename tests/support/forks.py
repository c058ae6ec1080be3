"""Forks this process after the limiter was opened and used.

    python tests/support/forks.py threads|loop|lease|locks|client|counts

Prints, as JSON, what parent and children came to.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from limiter import Limit, RateLimiter, Repository, SyncMemoryRepository, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Callable

CHILDREN, EACH, CAPACITY = 4, 40, 150
LIMIT = Limit("requests", CAPACITY, 1, 86400.0)
MOMENTS = 12
"""The share of the limiter's reads of its clock, mostly under a lock, at which the process is forked."""
warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
options: dict[str, Any] = {"connect_timeout": 60, "read_timeout": 60}
forking = multiprocessing.get_context("fork")


def address() -> dict[str, Any]:
    """Return where the table is."""
    return {"stack": os.environ["STACK"], "endpoint_url": os.environ["ENDPOINT"], **options}


def take_many(limiter: SyncRateLimiter) -> int:
    """Consume one unit, many times; return how many calls were allowed."""
    return sum(limiter.try_acquire().allowed for _ in range(EACH))


def in_children(work: Callable[[], Any], count: int = CHILDREN) -> list[Any]:
    """Return the results of forked children that run at the same time."""
    results = forking.SimpleQueue()
    children = [forking.Process(target=lambda: results.put(work()), daemon=True) for _ in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        if child.exitcode != 0:
            sys.exit(f"a child came to {child.exitcode}")
    return [results.get() for _ in children]


def threads() -> dict[str, Any]:
    """Fork while four threads are in the middle of calls, which then continue."""
    limiter = SyncRateLimiter(SyncRepository(**address()), [LIMIT], decision_timeout=60)
    limiter.repository.open()
    mine: list[int] = []
    workers = [threading.Thread(target=lambda: mine.append(take_many(limiter))) for _ in range(4)]
    for worker in workers:
        worker.start()
    theirs = in_children(lambda: take_many(limiter))
    for worker in workers:
        worker.join()
    return {"parent": sum(mine), "children": sum(theirs), "processes": len({os.getpid(), *in_children(os.getpid)})}


def loop() -> dict[str, Any]:
    """Fork inside a running event loop, whose connections continue to work."""

    async def run(limiter: RateLimiter) -> int:
        decisions = await asyncio.gather(*(limiter.try_acquire() for _ in range(EACH)))
        return sum(decision.allowed for decision in decisions)

    async def parent() -> dict[str, Any]:
        limiter = RateLimiter(Repository(**address()), [LIMIT], decision_timeout=60)
        async with limiter:
            mine = await run(limiter)
            theirs = in_children(lambda: asyncio.run(run(limiter)))
            # On the connections that were open at the fork.
            checks = [await limiter.check(f"after-{number}") for number in range(10)]
            return {"parent": mine, "children": sum(theirs), "checks": sum(check.allowed for check in checks)}

    return asyncio.run(parent())


def lease() -> dict[str, Any]:
    """Fork inside a `with` block, which both processes leave by an error."""
    limiter = SyncRateLimiter(SyncRepository(**address()), [LIMIT], decision_timeout=60)
    limiter.try_acquire(consume={"requests": 5})
    complaint = ""
    results = forking.SimpleQueue()
    child = -1
    try:
        with limiter.acquire(consume={"requests": 3}) as held:
            child = os.fork()
            if child == 0:
                try:
                    held.adjust(requests=1)
                except Exception as error:
                    results.put(f"{type(error).__name__}: {error}")
            else:
                os.waitpid(child, 0)
                complaint = results.get()
                child_left = limiter.check().statuses[0].available
            raise RuntimeError  # Both leave the block by it.
    except RuntimeError:
        if child == 0:
            os._exit(0)
    return {"complaint": complaint, "child_left": child_left, "both_left": limiter.check().statuses[0].available}


class Stuck:
    """A clock on which one thread stops at the n-th read, while it may hold any locks."""

    def __init__(self, moment: int) -> None:
        self.left = moment
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> int:
        if threading.current_thread() is self.thread:
            self.left -= 1
            if self.left == 0:
                self.reached.set()
                self.go_on.wait(60)
        return time.time_ns()


def locks() -> dict[str, Any]:
    """Fork while another thread is anywhere inside the limiter; the child must not wait for its locks."""
    moments = 0
    for moment in range(1, MOMENTS + 1):
        clock = Stuck(moment)
        limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), [LIMIT])
        clock.thread = threading.Thread(target=limiter.try_acquire)
        clock.thread.start()
        moments += clock.reached.wait(0.5)
        assert in_children(limiter.try_acquire, 1)[0].allowed
        clock.go_on.set()
        clock.thread.join()
        assert limiter.try_acquire().allowed
    return {"moments": moments}


def client() -> dict[str, Any]:
    """A client that was passed in and used before the fork, whose connections both processes would use."""
    import boto3

    given = boto3.client("dynamodb", endpoint_url=os.environ["ENDPOINT"])
    limiter = SyncRateLimiter(SyncRepository(os.environ["STACK"], client=given), [LIMIT])
    limiter.try_acquire()

    def use() -> str:
        try:
            return str(limiter.try_acquire().allowed)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    return {"child": in_children(use, 1)[0], "parent": use()}


def counts() -> dict[str, Any]:
    """Fork after some decisions, and decide more in the child and then in the parent."""
    limiter = SyncRateLimiter(SyncMemoryRepository(), [LIMIT])

    def decide(times: int) -> int:
        for _ in range(times):
            limiter.try_acquire()
        return limiter.stats().decisions

    return {"before": decide(3), "child": in_children(lambda: decide(2), 1)[0], "parent": decide(1)}


WAYS = {"threads": threads, "loop": loop, "lease": lease, "locks": locks, "client": client, "counts": counts}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]]()))  # noqa: T201 - the answer to the test
