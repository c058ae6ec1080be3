"""One process of callers that are killed at random, and that write down what they do; see conservation.py.

    python conservation_worker.py threads|gevent|eventlet|tasks JOB

JOB is JSON: `endpoint_url`, `table`, `record` (a file that does not exist), `stop` (a file whose appearance ends the process in
good order), and `seed`. In threads the strikes are SIGINT, in greenlets kills, in tasks cancellations.
"""

from __future__ import annotations

import sys

sys.path[0] += "/.."

from os import write

from support.run_patched import patch

# Must come before any other import.
if __name__ == "__main__" and sys.argv[1] in ("gevent", "eventlet"):
    patch(sys.argv[1])

import asyncio
import contextlib
import itertools
import json
import logging
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limiter import (
    Limit,
    Quota,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    Repository,
    SyncRateLimiter,
    SyncRepository,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLERS = 6
RESOURCE = "api"
TOTAL = Quota.total("all", 10**9)
SESSION = Quota.session("all", 10**9, 10**6)
"""Never full while a test lasts. Its units may be taken in advance, and what is not spent of them goes back."""
RATE = Limit("units", 30, 30, 1.0)
RATES = [RATE, Limit("units", 60, 60, 1.0), Limit("units", 1_000, 1_000, 60.0)]
KINDS = ("plain", "plain", "wait", "child", "changed", "advance")
OPTIONS: dict[str, Any] = {
    "plain": {"limits": [RATE, TOTAL]},
    "wait": {"limits": [RATE, TOTAL], "timeout": 0.5},
    "child": {},
    "changed": {},
    "advance": {"limits": [Limit("units", 1_000_000, 1_000_000, 1.0, allotment=0.2), SESSION]},
}
TIMEOUT = 30.0
STRIKES = 0.05
"""Seconds between two strikes in a process, on average."""


class Failed(Exception):
    """The block of a lease fails, and what it holds is given back."""


class Recorder(logging.Handler):
    """Writes lines, each by one system call; and one for each loss that the limiter tells of.

    Threads that are `leaving` a block that has ended well are not struck: it would not show whether the strike came in the block.
    """

    def __init__(self, path: str) -> None:
        super().__init__(logging.DEBUG)
        self.file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.numbers = itertools.count(1)
        self.leaving: set[int] = set()

    def line(self, **fields: Any) -> None:
        """Write one line."""
        write(self.file, json.dumps(fields).encode() + b"\n")

    def emit(self, record: logging.LogRecord) -> None:
        """Write down a loss, and the units that are told of it."""
        if "was not written" in record.msg:
            self.line(lost=record.__dict__["entity_id"], units=record.__dict__["units"].get("all", 0))


class Story:
    """What one caller does with one lease, and what it writes down of it."""

    def __init__(self, recorder: Recorder, chance: random.Random) -> None:
        self.recorder = recorder
        self.number = next(recorder.numbers)
        kind = chance.choice(KINDS)
        self.entity = f"{kind}-{chance.randrange(2)}"
        self.buckets = [self.entity, "parent-0"] if kind == "child" else [self.entity]
        self.options = OPTIONS[kind]
        self.first = chance.randint(1, 4)
        self.amounts = {"units": self.first, "all": self.first}
        self.acts = [("adjust", chance.choice([-1, 1, 2])) for _ in range(chance.randint(0, 2))]
        self.acts += [("consume", 1)] * chance.randint(0, 1) + [("release", -1)] * chance.randint(0, 1)
        chance.shuffle(self.acts)
        self.pause = chance.choice([0.0, 0.0, 0.005])
        self.fails = chance.random() < 0.4
        self.closed = False

    def begin(self, act: str, **fields: Any) -> None:
        """Write down what is about to be done."""
        self.recorder.line(lease=self.number, act=act, **fields)

    def end(self, how: str, *, last: bool = False) -> None:
        """Write down how it has ended."""
        if not self.closed:
            self.recorder.line(lease=self.number, end=how)
        self.closed = self.closed or last

    def steps(self, held: Callable[[], int]) -> Iterator[tuple[str, dict[str, int]]]:
        """What to do with the lease, one after another; nothing is given back that is not held."""
        for name, units in self.acts:
            if held() + units >= 0:
                self.begin(name, units=units)
                yield name, dict.fromkeys(("units", "all"), -units if name == "release" else units)
        if not self.fails:
            self.recorder.leaving.add(threading.get_ident())
        self.begin("leave", fails=self.fails)

    def finish(self) -> None:
        """Fail in the end, if that is how it ends."""
        if self.fails:
            raise Failed

    @contextlib.contextmanager
    def act(self) -> Iterator[None]:
        """Write down how one act ends that is not cut off."""
        try:
            yield
            self.end("done")
        except RateLimitExceeded:
            self.end("refused")
        except RateLimiterUnavailable as error:
            self.end(how(error))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Write down how the lease begins and how it ends."""
        try:
            self.begin("acquire", buckets=self.buckets, units=self.first)
            yield
            self.end("done", last=True)
        except Failed:
            self.end("done", last=True)
        except RateLimitExceeded:
            self.end("refused", last=True)
        except RateLimiterUnavailable as error:
            self.end(how(error), last=True)
        except BaseException:
            self.end("interrupted", last=True)
            raise
        finally:
            self.recorder.leaving.discard(threading.get_ident())


def how(error: RateLimiterUnavailable) -> str:
    """What an error says of its effect."""
    return "unsent" if error.unsent else "unknown"


def sync_story(limiter: SyncRateLimiter, story: Story) -> None:
    """Do it in a thread or greenlet."""
    with story.told(), limiter.acquire(story.entity, RESOURCE, story.amounts, **story.options) as lease:
        story.end("done")
        for name, units in story.steps(lambda: lease.consumed["all"]):
            with story.act():
                getattr(lease, name)(**units)
            time.sleep(story.pause)
        story.finish()


async def async_story(limiter: RateLimiter, story: Story) -> None:
    """Do it in a task."""
    with story.told():
        async with limiter.acquire(story.entity, RESOURCE, story.amounts, **story.options) as lease:
            story.end("done")
            for name, units in story.steps(lambda: lease.consumed["all"]):
                with story.act():
                    await getattr(lease, name)(**units)
                await asyncio.sleep(story.pause)
            story.finish()


def is_over(job: dict[str, Any], parent: int) -> bool:
    """Whether the process is to end; it ends at once when its parent has."""
    if os.getppid() != parent:
        os._exit(0)
    return Path(job["stop"]).exists()


def strike_greenlets(runtime: str, chance: random.Random, is_done: Callable[[], bool], call: Callable[[], None]) -> None:
    """Run callers in greenlets, kill one now and then, and replace it."""
    if runtime == "gevent":
        import gevent

        spawn, strike = gevent.spawn, lambda each: each.kill(block=False)
    else:
        import eventlet

        spawn, strike = eventlet.spawn, lambda each: each.kill()
    callers = [spawn(call) for _ in range(CALLERS)]
    while not is_done():
        time.sleep(chance.expovariate(1 / STRIKES))
        struck = chance.randrange(CALLERS)
        strike(callers[struck])
        callers[struck] = spawn(call)
    time.sleep(0)


def strike_main(recorder: Recorder, chance: random.Random, is_done: Callable[[], bool], call: Callable[[], None]) -> None:
    """Run callers in threads, one of them in the main thread, which SIGINT interrupts now and then, each call once at most."""
    armed = False

    def interrupt(*_: object) -> None:
        nonlocal armed
        if armed and threading.get_ident() not in recorder.leaving:
            armed = False
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    threads = [threading.Thread(target=call) for _ in range(CALLERS - 1)]
    for each in threads:
        each.start()
    ended = threading.Event()

    def strike() -> None:
        while not ended.is_set():
            time.sleep(chance.expovariate(1 / STRIKES))
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    while not is_done():
        with contextlib.suppress(KeyboardInterrupt):
            armed = True
            call()
    armed = False
    ended.set()
    for each in (*threads, striker):
        each.join()


def run_sync(runtime: str, job: dict[str, Any], recorder: Recorder, chance: random.Random) -> int:
    """Run the callers of a process without tasks, and return how many losses it has counted."""
    parent, running = os.getppid(), itertools.count(1)
    limiter = SyncRateLimiter(SyncRepository(job["table"], endpoint_url=job["endpoint_url"], read_timeout=TIMEOUT), **options())
    under_way: set[int] = set()

    def call() -> None:
        number = next(running)
        under_way.add(number)
        try:
            while not is_over(job, parent):
                if chance.random() < 0.02:
                    limiter.set_limits([chance.choice(RATES), TOTAL], f"changed-{chance.randrange(2)}", RESOURCE)
                sync_story(limiter, Story(recorder, chance))
        finally:
            under_way.discard(number)

    done = lambda: is_over(job, parent)  # noqa: E731 - a name for what is passed on
    if runtime == "threads":
        strike_main(recorder, chance, done, call)
    else:
        strike_greenlets(runtime, chance, done, call)
    while under_way:
        time.sleep(0.01)
    settle(lambda entity, charged: limiter.try_acquire(entity, RESOURCE, charged, **OPTIONS[entity.partition("-")[0]]))
    limiter.close()
    return limiter.stats().corrections_lost


async def run_tasks(job: dict[str, Any], recorder: Recorder, chance: random.Random) -> int:
    """Run the callers of a process in tasks, and return how many losses it has counted."""
    parent = os.getppid()
    limiter = RateLimiter(Repository(job["table"], endpoint_url=job["endpoint_url"], read_timeout=TIMEOUT), **options())

    async def call() -> None:
        while not is_over(job, parent):
            if chance.random() < 0.02:
                await limiter.set_limits([chance.choice(RATES), TOTAL], f"changed-{chance.randrange(2)}", RESOURCE)
            await async_story(limiter, Story(recorder, chance))

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    ended: list[asyncio.Task[None]] = []
    while not is_over(job, parent):
        await asyncio.sleep(chance.expovariate(1 / STRIKES))
        struck = chance.randrange(CALLERS)
        callers[struck].cancel()
        ended.append(callers[struck])
        callers[struck] = asyncio.create_task(call())
    await asyncio.gather(*callers, *ended, return_exceptions=True)
    for entity in entities():
        await limiter.try_acquire(entity, RESOURCE, {"units": 0, "all": 0}, **OPTIONS[entity.partition("-")[0]])
    await limiter.close()
    return limiter.stats().corrections_lost


def settle(take: Callable[[str, dict[str, int]], object]) -> None:
    """Make a call to each bucket, which carries what interrupted callers have left in line."""
    for entity in entities():
        take(entity, {"units": 0, "all": 0})


def entities() -> list[str]:
    """The entities that are used, but for the parent."""
    return [f"{kind}-{number}" for kind in sorted(set(KINDS)) for number in range(2)]


def options() -> dict[str, Any]:
    """The options of every limiter."""
    return {"limits": [RATE, TOTAL], "config_ttl": 0.3, "decision_timeout": TIMEOUT, "denial_ttl": 0.05}


def main(runtime: str, job: dict[str, Any]) -> None:
    """Run one process."""
    recorder = Recorder(job["record"])
    log = logging.getLogger("limiter")
    log.addHandler(recorder)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    chance = random.Random(job["seed"])  # noqa: S311 - no secret
    counted = asyncio.run(run_tasks(job, recorder, chance)) if runtime == "tasks" else run_sync(runtime, job, recorder, chance)
    recorder.line(over=counted)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
