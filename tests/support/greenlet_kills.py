"""Kills greenlets that take from one bucket, wherever they are, and prints what is left, what should be, and what was told.

    python greenlet_kills.py SEED TIMEOUT one-by-one|at-once

Patched first, so that the limiter's locks and events are gevent's.
"""

# ruff: noqa: E402 - the patching comes before any other import

import sys

import gevent.monkey

gevent.monkey.patch_all()
sys.path[0] += "/.."

import json
import random
from typing import Any

import gevent
from support.told import Told

from limiter import Limit, RateLimitExceeded, SyncMemoryRepository, SyncRateLimiter

LIMIT = Limit.per_second("requests", 500)
CALLERS = 300
NOW = 1_800_000_000_000_000_000


class Slow:
    """A repository whose calls yield one or more times before and after their work, so that a kill can strike anywhere."""

    def __init__(self, inner: SyncMemoryRepository, chance: random.Random) -> None:
        self.inner, self.chance = inner, chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def pause(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            gevent.sleep(0)

    def read_bucket(self, key: Any) -> Any:
        self.pause()
        return self.inner.read_bucket(key)

    def write_bucket(self, key: Any, update: Any) -> Any:
        self.pause()
        outcome = self.inner.write_bucket(key, update)
        self.pause()
        return outcome


def main(seed: int, timeout: float, *, block: bool) -> dict[str, int]:
    """Let all greenlets consume, and kill many at any time; return what the others hold, what is left, and what was told as lost.

    With `block`, no greenlet is killed before the refund of the last killed one is done.
    """
    chance, told = random.Random(seed), Told()  # noqa: S311 - no secret
    inner = SyncMemoryRepository(clock=lambda: NOW)
    limiter = SyncRateLimiter(Slow(inner, chance), [LIMIT], denial_ttl=0, sleep=gevent.sleep)
    kept: dict[int, int] = {}

    def call(name: int) -> None:
        units = chance.randint(1, 5)
        try:
            with limiter.acquire("user", "api", {"requests": units}, timeout=timeout) as lease:
                gevent.sleep(0)
                extra = chance.randint(0, 3)
                lease.adjust(requests=extra)
                # From here to the end of the block nothing yields.
            kept[name] = lease.consumed["requests"]
        except RateLimitExceeded:
            pass

    callers: list[gevent.Greenlet] = []
    spared: list[gevent.Greenlet] = []  # No greenlet is killed twice.
    for name in range(CALLERS):
        callers.append(gevent.spawn(call, name))
        spared.append(callers[-1])
        if chance.random() < 0.5:
            gevent.sleep(0)
        if chance.random() < 0.5:
            chance.shuffle(spared)
            spared.pop().kill(block=block)
    gevent.sleep(0.01)
    for caller in spared:
        caller.kill(block=block)
    gevent.joinall(callers, timeout=20, raise_error=False)
    left = SyncRateLimiter(inner, [LIMIT]).check("user", "api", {"requests": 0}).statuses[0].available
    return {
        "alive": sum(not caller.dead for caller in callers),
        "kept": sum(kept.values()),
        "left": left,
        "told": told.units["user"],
        "uncounted": told.losses - limiter.stats().corrections_lost,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), float(sys.argv[2]), block=sys.argv[3] == "one-by-one")))  # noqa: T201 - its answer to the test
