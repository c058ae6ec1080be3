"""An asyncio program under the same limit as the WSGI application beside it: four tasks that ask without a pause.

It says "ready" once it is connected, begins at the first line of its standard input, and ends with its standard input. One line
of JSON tells of each decision.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from typing import Any

from limiter import LimiterError, RateLimiter, RateLimitExceeded, Repository

TASKS = 4
PAUSE = 0.12


def report(decision: dict[str, Any]) -> None:
    """Report one decision to the program that started this one."""
    sys.stdout.write(json.dumps(decision) + "\n")
    sys.stdout.flush()


async def ask_again_and_again(limiter: RateLimiter, ended: asyncio.Event) -> None:
    """Run one caller. It does not wait for its turn; `acquire(..., timeout=5)` would."""
    while not ended.is_set():
        try:
            async with limiter.acquire("demo", "api"):
                report({"outcome": "admitted", "answered": time.time_ns()})
        except RateLimitExceeded:
            report({"outcome": "refused"})
        except LimiterError as error:
            report({"outcome": "failed", "error": str(error)})
        await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - keeps the callers out of step


async def main() -> None:
    """Connect, wait for the start, ask until the end."""
    async with Repository("limiter-demo", read_timeout=2.0) as repository:
        limiter = RateLimiter(repository, decision_timeout=5.0)
        await limiter.check("demo", "api")
        report({"outcome": "ready"})
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        await loop.run_in_executor(None, sys.stdin.readline)
        # Not in an executor, which would delay the end of the program.
        wait = threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True)
        wait.start()
        await asyncio.gather(*(ask_again_and_again(limiter, ended) for _ in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(main())
