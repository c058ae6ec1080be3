"""Forks processes of one runtime that take from shared buckets without a pause, until somebody kills them.

    python crash_worker.py threads|gevent|eventlet|tasks JOB

For each line on standard input it forks one more. All of them write to standard output, one line for each thing that happened:
`+ ENTITY UNITS` after units were admitted, `- ENTITY UNITS` before they are given back, so that whoever is killed in between has
taken more than it said, never less. Ends with standard input, and each of the forked with its parent.
"""

# ruff: noqa: E402 - the patching comes before any other import

from __future__ import annotations

import sys
from os import write  # as it is before eventlet patches it, which lets one greenlet write at a time

RUNTIMES = ("threads", "gevent", "eventlet", "tasks")

if __name__ == "__main__" and sys.argv[1] == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()
if __name__ == "__main__" and sys.argv[1] == "eventlet":
    import warnings

    # It says itself that it is deprecated.
    warnings.simplefilter("ignore")
    import eventlet

    eventlet.monkey_patch()

import asyncio
import json
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from limiter import Limit, Prefetch, RateLimiter, RateLimitExceeded, Repository, SyncRateLimiter, SyncRepository

TIMEOUT = 60.0
CALLERS = 6
MOST_UNITS = 5
"""What one caller holds at most."""
QUOTA = Limit("units", 200, 1, 86_400.0)
ADVANCE = Limit("units", 1_000_000, 1, 3_000.0)
PREFETCH = Prefetch(horizon=0.2, fraction=0.0001)
BLOCK = 100
"""What a process holds in advance at most."""
RATE = Limit("units", 5, 10, 1.0)
WAIT = 0.5


class Failed(Exception):
    """The block of a lease fails, and what it holds is given back."""


@dataclass(frozen=True)
class Turn:
    """What one caller does next: take, take more if it fits, give back some, and fail or not."""

    entity: str
    options: dict[str, Any]
    first: int
    more: int
    back: int
    pause: float
    fails: bool


class Play:
    """The turns of one process."""

    def __init__(self) -> None:
        self.random = random.Random(os.getpid() ^ time.time_ns())  # noqa: S311 - no secret
        self.quota = 0
        self.parent = os.getppid()

    def turn(self) -> Turn:
        """The next one; the process ends when its parent has."""
        if os.getppid() != self.parent:
            os._exit(0)
        entity, options = self.random.choices(
            [
                (f"quota-{self.quota}", {"limits": [QUOTA]}),
                ("advance", {"limits": [ADVANCE], "prefetch": PREFETCH}),
                ("rate", {"limits": [RATE], "timeout": WAIT}),
            ],
            weights=[3, 1, 1],
        )[0]
        first, pause = self.random.randint(1, 3), self.random.choice([0.0, 0.001, 0.01])
        if entity == "rate":
            # Nothing is given back, of which bookings would keep a part: what is admitted comes close to the limit.
            return Turn(entity, options, first, 0, 0, pause, fails=False)
        more, back = self.random.randint(0, 2), self.random.randint(0, first)
        return Turn(entity, options, first, more, back, pause, fails=self.random.random() < 0.4)

    def refused(self, turn: Turn) -> None:
        """Go on to the next quota when one is used up."""
        if turn.entity == f"quota-{self.quota}":
            self.quota += 1


def report(sign: str, turn: Turn, units: int) -> None:
    """Say what has happened, by one write to the pipe, which is whole or not there."""
    if units:
        write(1, f"{sign} {turn.entity} {units}\n".encode())


def complain(error: BaseException) -> None:
    """Say that something happened that must not."""
    write(1, f"! {error!r}\n".replace("\n", " ").encode() + b"\n")


async def async_turn(limiter: RateLimiter, turn: Turn) -> None:
    """One turn of a task."""
    async with limiter.acquire(turn.entity, "api", {"units": turn.first}, **turn.options) as lease:
        report("+", turn, turn.first)
        try:
            await lease.consume(units=turn.more)
            report("+", turn, turn.more)
        except RateLimitExceeded:
            pass
        await asyncio.sleep(turn.pause)
        report("-", turn, turn.back)
        await lease.release(units=turn.back)
        if turn.fails:
            report("-", turn, lease.consumed["units"])
            raise Failed


def sync_turn(limiter: SyncRateLimiter, turn: Turn) -> None:
    """One turn of a thread or greenlet."""
    with limiter.acquire(turn.entity, "api", {"units": turn.first}, **turn.options) as lease:
        report("+", turn, turn.first)
        try:
            lease.consume(units=turn.more)
            report("+", turn, turn.more)
        except RateLimitExceeded:
            pass
        time.sleep(turn.pause)
        report("-", turn, turn.back)
        lease.release(units=turn.back)
        if turn.fails:
            report("-", turn, lease.consumed["units"])
            raise Failed


def run_threads(job: dict[str, Any]) -> None:
    """Take in threads, or in greenlets where they are patched, for ever."""
    options = {"endpoint_url": job["endpoint_url"], "connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
    limiter, play = SyncRateLimiter(SyncRepository(job["table"], **options), config_ttl=600, decision_timeout=60), Play()

    def call() -> None:
        while True:
            turn = play.turn()
            try:
                sync_turn(limiter, turn)
            except Failed:
                pass
            except RateLimitExceeded:
                play.refused(turn)
            except BaseException as error:
                complain(error)
                raise

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


async def run_tasks(job: dict[str, Any]) -> None:
    """Take in tasks, for ever."""
    options = {"endpoint_url": job["endpoint_url"], "connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
    limiter, play = RateLimiter(Repository(job["table"], **options), config_ttl=600, decision_timeout=60), Play()

    async def call() -> None:
        while True:
            turn = play.turn()
            try:
                await async_turn(limiter, turn)
            except Failed:
                pass
            except RateLimitExceeded:
                play.refused(turn)
                await asyncio.sleep(0)
            except BaseException as error:
                complain(error)
                raise

    await asyncio.gather(*(call() for _ in range(CALLERS)))


def main(runtime: str, job: dict[str, Any]) -> None:
    """Fork whenever a line comes, and say which process that is.

    Nobody waits for the dead, so that their numbers stay theirs and a kill meets nobody else.
    """
    # Their code is loaded here, once, rather than in each of those that live for a moment.
    import boto3  # noqa: F401

    if runtime == "tasks":
        import aioboto3  # noqa: F401
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(run_tasks(job)) if runtime == "tasks" else run_threads(job)
            finally:
                os._exit(1)
        write(1, f"= {pid}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
