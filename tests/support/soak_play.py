"""What the processes of a soak do: consume from many keys, a few of which most callers want, while the table fails at times."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from support import turns
from support.pipe import say
from support.turns import Turn

from limiter import Limit, RateLimiterUnavailable

if TYPE_CHECKING:
    from limiter import RateLimiter, SyncRateLimiter

CONNECT_TIMEOUT, READ_TIMEOUT, DECISION_TIMEOUT = 1.0, 1.5, 2.0
"""Longer than by default: this machine may stall."""
MAX_CONNECTIONS = 16
MOST_UNITS = 8
"""The most units that one caller holds."""
PARENTS = 10
RATE = Limit("units", 20, 20, 1.0)
ADVANCE = Limit("units", 20, 20, 1.0, allotment=0.2)
PARENT = Limit("units", 50, 50, 1.0)
QUOTA = Limit("units", 1_000_000, 1, 3_000.0)
"""Too many to be used up, and hardly one refills: all that was consumed is in the table at the end."""
WAIT = 1.0
KINDS = ("lasting", "waits", "lease", "corrected", "child", "quota", "advance")
"""What is done with a key, by its rank."""


def kind_of(entity: str) -> str:
    """Return what is done with a key."""
    return entity.partition("-")[0]


def entity_of(rank: int) -> str:
    """Return the key of a rank, counted from the most wanted."""
    return f"{KINDS[rank % len(KINDS)]}-{rank}"


def parent_of(entity: str) -> str | None:
    """Return the parent that a key charges as well."""
    kind, _, rank = entity.partition("-")
    return f"parent-{int(rank) % PARENTS}" if kind == "child" else None


class Play(turns.Play):
    """The turns of one process: `line` is a seed, the number of keys, and the seconds to rest between turns, on average."""

    repository_options: ClassVar = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "max_connections": MAX_CONNECTIONS,
    }
    limiter_options: ClassVar = {"config_ttl": 5.0, "decision_timeout": DECISION_TIMEOUT}

    def __init__(self, line: str) -> None:
        super().__init__(line)
        _, keys, rest = line.split()
        self.rest = float(rest)
        self.used: set[str] = set()
        self.keys = [entity_of(rank) for rank in range(int(keys))]
        self.weights = list(itertools.accumulate(1 / rank for rank in range(1, int(keys) + 1)))

    def begin(self, limiter: RateLimiter | SyncRateLimiter) -> None:
        """Start a thread, or greenlet, that reports the process's resources every second."""
        logging.getLogger("limiter").setLevel(logging.ERROR)  # It warns of each refund that a fault has swallowed.
        gc.freeze()  # Objects from before need not be examined again every second.
        threading.Thread(target=self.tell, args=[limiter], daemon=True).start()

    def tell(self, limiter: RateLimiter | SyncRateLimiter) -> None:
        """Report the process's resources every second."""
        while True:
            say(f"% {os.getpid()} {json.dumps(use(limiter, len(self.used)), separators=(',', ':'))}")
            time.sleep(1.0)

    def choose(self) -> Turn:
        """Choose the next turn."""
        entity = self.random.choices(self.keys, cum_weights=self.weights)[0]
        self.used.add(entity)
        first, more = self.random.randint(1, 3), self.random.randint(0, 2)
        back, pause = self.random.randint(0, first), self.random.choice([0.0, 0.01, 0.05])
        fails = self.random.random() < 0.3
        match kind_of(entity):
            case "lasting":
                return Turn(entity, {"limits": [RATE]}, first, lasting=True)
            case "advance":
                return Turn(entity, {"limits": [ADVANCE]}, first, lasting=True)
            case "waits":
                return Turn(entity, {"limits": [RATE], "timeout": WAIT}, first, back=back, pause=pause, fails=fails)
            case "child":
                return Turn(entity, {}, first, more, back, pause=pause, fails=fails)
            case "corrected":
                correction = self.random.randint(back - first, 3)
                # What was consumed into debt is not refunded: then all refunds had been allowed before.
                return Turn(entity, {"limits": [RATE]}, first, 0, back, correction, pause, fails=fails and correction <= 0)
            case kind:
                limit = QUOTA if kind == "quota" else RATE
                return Turn(entity, {"limits": [limit]}, first, more, back, pause=pause, fails=fails)

    def after(self, turn: Turn, failure: BaseException | None) -> float:
        """Return the seconds to rest; report when the table could not be reached."""
        if isinstance(failure, RateLimiterUnavailable):
            say(f"x {time.monotonic():.6f} {turn.entity} {failure}".replace("\n", " "))
        else:
            super().after(turn, failure)
        return self.random.expovariate(1 / self.rest)


def use(limiter: RateLimiter | SyncRateLimiter, keys: int) -> dict[str, object]:
    """Return what this process uses now, without its garbage, after the given number of keys."""
    gc.collect()
    descriptors = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            descriptors.append(str(each.readlink()))
        except OSError:
            continue  # One descriptor is that of the look itself.
    return {
        "at": time.monotonic(),
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(descriptors),
        "sockets": sum(each.startswith("socket:") for each in descriptors),
        "keys": keys,
        "statistics": asdict(limiter.stats()),
    }
