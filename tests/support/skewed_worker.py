"""One process on a machine whose clock is wrong: takes as much as it can get of one limit, again and again, for a time.

    python skewed_worker.py SKEW

SKEW is in seconds, and is in force before anything else is imported. A job is a line of JSON on standard input, and so is its
answer: what was admitted, and the skew that the repository reports.
"""

# ruff: noqa: E402 - the clock is wrong before anything else is imported

from __future__ import annotations

import sys
import time

SKEW = float(sys.argv[1])
real_time, real_time_ns = time.time, time.time_ns
time.time = lambda: real_time() + SKEW
time.time_ns = lambda: real_time_ns() + round(SKEW * 1_000_000_000)

import json
from typing import Any

from limiter import Limit, SyncRateLimiter, SyncRepository


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job."""
    units = {"requests": job["units"]}
    with SyncRepository(job["table"], endpoint_url=job["endpoint_url"], connect_timeout=60.0, read_timeout=60.0) as repository:
        limiter = SyncRateLimiter(repository, [Limit(*job["limit"])], decision_timeout=60)
        admitted, end = 0, time.monotonic() + job["seconds"]
        while time.monotonic() < end:
            admitted += job["units"] * limiter.try_acquire("user", "api", units).allowed
        return {"admitted": admitted, "skew": repository.skew}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(work(json.loads(line))), flush=True)  # noqa: T201 - its answer to the test
