"""Two gevent greenlets take from one bucket at the same time, each with `asyncio.run`, or with the synchronous limiter.

    python tests/support/nested_runs.py asyncio.run|SyncRateLimiter

Prints, as JSON, what each greenlet came to.
"""
# ruff: noqa: E402 - patching comes first

import gevent.monkey

gevent.monkey.patch_all()

import asyncio
import json
import os
import sys
import warnings
from typing import Any

import gevent

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository

GREENLETS = 2
LIMIT = Limit("requests", 100, 1, 86400.0)
where: dict[str, Any] = {"stack": os.environ["STACK"], "endpoint_url": os.environ["ENDPOINT"]}
patient: dict[str, Any] = {"connect_timeout": 60, "read_timeout": 60}
# These come from the coroutines that asyncio.run refuses.
warnings.filterwarnings("ignore", message="coroutine .* was never awaited", category=RuntimeWarning)


def with_asyncio_run() -> bool:
    """Acquire by asyncio.run, the wrapper that the sync limiter replaces."""

    async def take() -> bool:
        async with (
            RateLimiter(Repository(**where, **patient), [LIMIT], decision_timeout=60) as limiter,
            limiter.acquire() as lease,
        ):
            return lease.consumed == {"requests": 1}

    return asyncio.run(take())


shared = SyncRateLimiter(SyncRepository(**where, **patient), [LIMIT], decision_timeout=60)


def with_sync_rate_limiter() -> bool:
    """Acquire by plain blocking calls, which gevent makes yield."""
    with shared.acquire() as lease:
        return lease.consumed == {"requests": 1}


def outcome(work: Any) -> str:
    """Return the outcome of the work."""
    try:
        return str(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    chosen = {"asyncio.run": with_asyncio_run, "SyncRateLimiter": with_sync_rate_limiter}[sys.argv[1]]
    greenlets = [gevent.spawn(outcome, chosen) for _ in range(GREENLETS)]
    finished = gevent.joinall(greenlets, timeout=60)
    print(json.dumps(sorted(greenlet.value for greenlet in finished)))  # noqa: T201 - the answer to the test
