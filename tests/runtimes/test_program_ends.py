"""A program that ends has given back what it took."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from support.slow_store import Slow

from limiter import Limit, MemoryRepository, RateLimiter, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine

LIMIT = Limit.per_hour("requests", 100)


def test_a_program_ends_after_any_cancellation() -> None:
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


PROGRAM = """
import logging, sys
from limiter import Limit, SyncRateLimiter, SyncRepository
logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stdout)
limiter = SyncRateLimiter(SyncRepository(sys.argv[1], endpoint_url=sys.argv[2]), [Limit.per_day("requests", 100)])

def generator():
    with limiter.acquire("user", "api", {"requests": 10}):
        yield

held = generator()
next(held)
"""


def test_a_lease_in_a_generator_at_the_end_of_the_program_is_counted(table_name: str, server_engine: Engine) -> None:
    """A refund that can no longer be written, since the interpreter is shutting down, is logged, without a traceback."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    command = [sys.executable, "-c", PROGRAM, table_name, str(server_engine.endpoint_url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    repository = SyncRepository(table_name, endpoint_url=server_engine.endpoint_url)
    limiter = SyncRateLimiter(repository, [Limit.per_day("requests", 100)])
    left = limiter.check("user", "api", {"requests": 0}).statuses[0].available
    assert done.stderr == ""
    assert left == 100 or "a correction of user/api was not written" in done.stdout
