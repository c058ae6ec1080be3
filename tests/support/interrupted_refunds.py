"""A give-back that waits in line behind another caller's write is interrupted; prints what the bucket has left of 100 units.

python tests/support/interrupted_refunds.py threads|gevent refund|release|adjust
python tests/support/interrupted_refunds.py kills SEED

The second form kills callers of many buckets, and prints what each bucket lacks.
"""

from __future__ import annotations

import sys

if sys.argv[1] != "threads":
    import gevent.monkey

    gevent.monkey.patch_all()
sys.path[0] += "/.."

import contextlib
import json
import logging
import os
import random
import signal
import threading
import time
from typing import Any

from support.told import Told

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter

LIMIT = Limit.per_day("requests", 100)
NOW = 1_800_000_000_000_000_000


class Held(SyncMemoryRepository):
    """Holds a write back from `hold()` until `go` is set."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOW)
        self.begun, self.go = threading.Event(), threading.Event()
        self.holds = False

    def write_bucket(self, key: Any, update: Any) -> Any:
        if self.holds:
            self.holds = False
            self.begun.set()
            self.go.wait(20)
        return super().write_bucket(key, update)


class Slow(SyncMemoryRepository):
    """Yields before and after its work, so that a kill can strike anywhere."""

    def write_bucket(self, key: Any, update: Any) -> Any:
        time.sleep(0.002)
        outcome = super().write_bucket(key, update)
        time.sleep(0.002)
        return outcome


def give_back(what: str, lease: Any) -> None:
    """Return 10 units in the named way."""
    if what == "release":
        lease.release(requests=10)
    elif what == "adjust":
        lease.adjust(requests=-10)
    raise ValueError


def in_line(runtime: str, what: str) -> dict[str, int]:
    """Interrupt a refund while it waits in line."""
    store = Held()
    limiter = SyncRateLimiter(store, [LIMIT], denial_ttl=0)
    committer = limiter._acquirers.get().committer

    def interrupt(strike: Any) -> None:
        while not any(queue.requests for queue in committer._queues.values()):
            time.sleep(0.001)
        strike()

    def caller() -> None:
        with limiter.acquire("e", "r", {"requests": 10}) as lease:
            store.holds = True
            others.start()
            store.begun.wait(20)
            give_back(what, lease)

    others = threading.Thread(target=limiter.try_acquire, args=("e", "r"))
    if runtime == "gevent":
        greenlet = gevent.spawn(caller)
        gevent.spawn(interrupt, lambda: greenlet.kill(block=False))
        greenlet.join(20)
    else:
        threading.Thread(target=interrupt, args=(lambda: os.kill(os.getpid(), signal.SIGINT),), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt, ValueError):
            caller()
    store.go.set()
    others.join(20)
    limiter.try_acquire("e", "r", {"requests": 0})  # A write that was left to the next caller is made.
    left = limiter.check("e", "r", {"requests": 0}).statuses[0].available
    return {"left": left, "lost": limiter.stats().corrections_lost}


def kills(seed: int) -> dict[str, Any]:
    """Kill greenlets at random; return the units that each bucket lacks, and what was told and counted as lost."""
    told = Told()
    chance = random.Random(seed)  # noqa: S311 - no secret
    limiter = SyncRateLimiter(Slow(clock=lambda: NOW), [LIMIT], denial_ttl=0)

    def caller(what: str, bucket: int) -> None:
        try:
            with limiter.acquire(f"b{bucket}", "r", {"requests": 10}) as lease:
                time.sleep(0.003)
                give_back(what, lease)
        except ValueError:
            pass

    callers = []
    for number in range(300):
        callers.append(gevent.spawn(caller, chance.choice(("refund", "release", "adjust")), chance.randrange(30)))
        gevent.sleep(0.001)
        if number % 3 == 0:
            chance.choice(callers).kill(block=False)
    gevent.joinall(callers, timeout=20)
    left = [limiter.check(f"b{bucket}", "r", {"requests": 0}).statuses[0].available for bucket in range(30)]
    return {
        "short": [100 - each for each in left],
        "told": [told.units[f"b{bucket}"] for bucket in range(30)],
        "uncounted": told.losses - limiter.stats().corrections_lost,
    }


if __name__ == "__main__":
    logging.getLogger("limiter").addHandler(logging.NullHandler())
    print(json.dumps(kills(int(sys.argv[2])) if sys.argv[1] == "kills" else in_line(*sys.argv[1:])))  # noqa: T201 - its answer
