"""Callers who come all at once, nearly each with a key of its own, to a limiter with default options; prints what they get.

    python burst.py tasks|threads|gevent|eventlet CALLERS

Twenty of them share one key, of whom five are allowed. STACK and ENDPOINT say where the table is.
"""

from __future__ import annotations

import sys

sys.path[0] += "/.."

from support.run_patched import patch

# Must come before any other import.
if __name__ == "__main__" and sys.argv[1] in ("gevent", "eventlet"):
    patch(sys.argv[1])

import asyncio
import json
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limiter import Limit, LimiterError, RateLimiter, Repository, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from limiter import Decision

LIMITS = [Limit.per_hour("requests", 5)]
SHARING = 20
"""Callers who share a key."""


class Answers:
    """What each caller was answered, and which were allowed, in the order of the answers."""

    def __init__(self, callers: int) -> None:
        self.callers = callers
        self.outcomes: Counter[str] = Counter()
        self.allowed: list[int] = []
        self.shared: list[int] = []
        self.served = self.last = 0.0
        self.sockets = open_sockets()
        self.threads = threading.active_count()

    def key(self, caller: int) -> str:
        """The key of a caller."""
        return f"key-{caller}" if caller % (self.callers // SHARING) else "shared"

    def note(self, caller: int, outcome: Decision | LimiterError) -> None:
        """Enter an answer."""
        self.last = time.monotonic()
        if isinstance(outcome, LimiterError):
            self.outcomes[type(outcome).__name__] += 1
            return
        self.served = self.last
        self.outcomes["allowed" if outcome else "refused"] += 1
        if outcome:
            (self.allowed if caller % (self.callers // SHARING) else self.shared).append(caller)

    def report(self, statistics: Any, tasks: int) -> dict[str, Any]:
        """What is told to the test, after the limiter was closed; `late` is the most places by which an answer was overtaken."""
        highest = late = 0
        for caller in self.allowed:
            highest = max(highest, caller)
            late = max(late, highest - caller)
        return {
            "outcomes": self.outcomes,
            "shared": sorted(self.shared),
            "late": late,
            "degraded": statistics.degraded,
            "failures": statistics.failures,
            "seconds_without_table": self.last - self.served,
            "left": {
                "tasks": tasks,
                "threads": threading.active_count() - self.threads,
                "sockets": open_sockets() - self.sockets,
            },
        }


def open_sockets() -> int:
    """The sockets that this process has open."""
    return sum(str(each.readlink()).startswith("socket:") for each in Path("/proc/self/fd").iterdir() if each.is_symlink())


def run_sync(callers: int) -> dict[str, Any]:
    """Call in threads, or in greenlets where threads are patched."""
    answers = Answers(callers)
    limiter = SyncRateLimiter(SyncRepository(os.environ["STACK"], endpoint_url=os.environ["ENDPOINT"]), LIMITS)

    def call(caller: int) -> None:
        try:
            answers.note(caller, limiter.try_acquire(answers.key(caller), "api"))
        except LimiterError as error:
            answers.note(caller, error)

    threads = [threading.Thread(target=call, args=[caller]) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = limiter.stats()
    limiter.close()
    time.sleep(0.1)  # gevent closes a socket in the next turn of its loop.
    return answers.report(statistics, 0)


async def run_tasks(callers: int) -> dict[str, Any]:
    """Call in tasks."""
    answers = Answers(callers)
    limiter = RateLimiter(Repository(os.environ["STACK"], endpoint_url=os.environ["ENDPOINT"]), LIMITS)

    async def call(caller: int) -> None:
        try:
            answers.note(caller, await limiter.try_acquire(answers.key(caller), "api"))
        except LimiterError as error:
            answers.note(caller, error)

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    statistics = limiter.stats()
    await limiter.close()
    return answers.report(statistics, len(asyncio.all_tasks()) - 1)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    size = int(sys.argv[2])
    report = asyncio.run(run_tasks(size)) if sys.argv[1] == "tasks" else run_sync(size)
    print(json.dumps(report))  # noqa: T201 - its answer to the test
