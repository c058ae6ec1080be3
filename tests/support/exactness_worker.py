"""One process of a crowd: does the jobs that it reads from standard input, one JSON object a line, and answers each with a line.

    python worker.py threads|greenlets|tasks

A job says on which endpoint, table and limits to work, how many callers share how many acquires, and how time passes: frozen, in
steps of the worker's own, or really. The answer counts what was admitted, and the latest time that was read.
"""

# ruff: noqa: E402 - the patching comes before any other import

from __future__ import annotations

import sys

RUNTIMES = ("threads", "greenlets", "tasks")

if __name__ == "__main__" and sys.argv[1] == "greenlets":
    import gevent.monkey

    gevent.monkey.patch_all()

import asyncio
import json
import random
import threading
import time
from typing import Any

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository, SyncRateLimiter, SyncRepository
from limiter.audit import record

TIMEOUT = 60.0


class Clock:
    """Nanoseconds that stand still, that advance by a step at every read, or, without a start, that are real."""

    def __init__(self, start: int | None, step: int) -> None:
        self.now = start
        self.step = step
        self.seen: list[int] = []
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            if self.now is None:
                now = time.time_ns()
            else:
                now = self.now = self.now + self.step
            self.seen = [min([now, *self.seen]), max([now, *self.seen])]
        return now


class Changed(Exception):
    """The body of a block fails, and all it consumed is refunded."""


class Script:
    """What one caller does again and again: acquire and keep, or acquire and settle."""

    def __init__(self, job: dict[str, Any], seed: int) -> None:
        self.limits = [Limit(*each) for each in job["limits"]]
        self.turns = [random.Random(f"{seed}-{turn}") for turn in range(job["acquires"])]  # noqa: S311 - no secret
        self.settles = job.get("settles", False)
        self.recorder = record(job["record"])

    def moves(self, turn: random.Random) -> tuple[int, int, int, bool]:
        """Draw how much one turn consumes, adds or refunds, and releases, and whether it fails in the end."""
        first = turn.randint(1, 9)
        correction = turn.randint(-first, 9)
        return first, correction, turn.randint(0, first + correction), turn.random() < 0.5


class Sync:
    """Blocking callers: threads, or greenlets where threads are patched."""

    def __init__(self, job: dict[str, Any], clock: Clock, script: Script) -> None:
        self.job, self.script, self.held = job, script, []
        self.repository = SyncRepository(
            job["table"], endpoint_url=job["endpoint_url"], clock=clock, connect_timeout=TIMEOUT, read_timeout=TIMEOUT
        )
        self.limiter = SyncRateLimiter(self.repository, script.limits, decision_timeout=60, on_decision=script.recorder)

    def run(self) -> list[int]:
        callers = [threading.Thread(target=self.call) for _ in range(self.job["callers"])]
        with self.repository:
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        return self.held

    def call(self) -> None:
        turn_of = self.settle if self.script.settles else self.take
        while self.script.turns:
            try:
                turn = self.script.turns.pop()
            except IndexError:
                return
            self.held.append(turn_of(turn))

    def take(self, turn: random.Random) -> int:
        return int(self.limiter.try_acquire("user", "api", {"requests": 1}).allowed)

    def settle(self, turn: random.Random) -> int:
        first, correction, released, fails = self.script.moves(turn)
        try:
            with self.limiter.acquire("user", "api", {"requests": first}) as lease:
                lease.adjust(requests=correction)
                lease.release(requests=released)
                if fails:
                    raise Changed
        except (Changed, RateLimitExceeded):
            return 0
        return lease.consumed["requests"]


class Async:
    """Callers who are tasks of one event loop."""

    def __init__(self, job: dict[str, Any], clock: Clock, script: Script) -> None:
        self.job, self.script = job, script
        self.repository = Repository(
            job["table"], endpoint_url=job["endpoint_url"], clock=clock, connect_timeout=TIMEOUT, read_timeout=TIMEOUT
        )
        self.limiter = RateLimiter(self.repository, script.limits, decision_timeout=60, on_decision=script.recorder)

    def run(self) -> list[int]:
        return asyncio.run(self.run_tasks())

    async def run_tasks(self) -> list[int]:
        async with self.repository:
            held = await asyncio.gather(*(self.call() for _ in range(self.job["callers"])))
        return [units for each in held for units in each]

    async def call(self) -> list[int]:
        turn_of, held = self.settle if self.script.settles else self.take, []
        while self.script.turns:
            held.append(await turn_of(self.script.turns.pop()))
        return held

    async def take(self, turn: random.Random) -> int:
        return int((await self.limiter.try_acquire("user", "api", {"requests": 1})).allowed)

    async def settle(self, turn: random.Random) -> int:
        first, correction, released, fails = self.script.moves(turn)
        try:
            async with self.limiter.acquire("user", "api", {"requests": first}) as lease:
                await lease.adjust(requests=correction)
                await lease.release(requests=released)
                if fails:
                    raise Changed
        except (Changed, RateLimitExceeded):
            return 0
        return lease.consumed["requests"]


def work(runtime: str, job: dict[str, Any]) -> dict[str, Any]:
    """Do one job, and return the answer."""
    clock = Clock(job["now"], job["step"])
    script = Script(job, job["seed"])
    held = (Async if runtime == "tasks" else Sync)(job, clock, script).run()
    script.recorder.close()
    return {"turns": len(held), "held": sum(held), "first": clock.seen[0], "last": clock.seen[1]}


def main(runtime: str) -> None:
    """Do jobs until standard input ends."""
    for line in sys.stdin:
        print(json.dumps(work(runtime, json.loads(line))), flush=True)  # noqa: T201 - its answer to the test


if __name__ == "__main__":
    main(sys.argv[1])
