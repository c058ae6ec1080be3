"""Clients that share buckets of every kind of limit at once, held against the promises of the design."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support.bucket_world import PromiseBroken
from support.kinds_tasks import KindsTasks
from support.limiter_tasks import Script
from support.planted_races import FAULTS

from limiter import Concurrency, MemoryRepository, RateLimiter
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limiter.core.records import BucketKey
    from limiter.core.state import BucketState, Update, WriteResult

RUNS = int(os.environ.get("LIMITER_FUZZ_RUNS", "40")) // 2
FEW = 150
"""The number of runs within which a planted fault shows."""
SCRIPTS = {
    "every kind": Script(),
    "orders from outside": Script(orders=True),
    "answers that get lost": Script(orders=True, losses=0.1),
    "mixed fleets": Script(fleets=True),
    "clocks that disagree": Script(skew=300_000_000, fleets=True, orders=True),
    "limits that change": Script(changes=True),
    "everything": Script(fleets=True, changes=True, orders=True, losses=0.05, steady=False, lingers=(0.0, 0.1)),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the warnings about refunds that are lost on purpose, and about rates that take turns."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def search(script: Script, runs: int) -> str | None:
    """Return the first broken promise that random runs find, or None."""
    for seed in range(runs):
        try:
            asyncio.run(KindsTasks(Random(seed), script).run())  # noqa: S311 - no secret
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_promises_hold_for_every_kind_at_once(name: str) -> None:
    """Rates, quotas, sessions, totals, slots and shadows of several targets keep every promise in any order.

    In a mixed fleet, in which several rates or periods of a name take turns, a change admits at most the capacities together,
    once; another rate or period begins with what is used under its name.
    """
    assert search(SCRIPTS[name], RUNS) is None


@pytest.mark.parametrize("name", FAULTS)
def test_planted_races_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limiter with a known fault, which shows only where clients act at once, breaks a promise within the first runs."""
    plant, script = FAULTS[name]
    plant(monkeypatch)
    assert search(script, FEW) is not None


TWO_MINUTES = 120 * NANOSECONDS


class SlowTime:
    """A time that passes only when every task sleeps."""

    def __init__(self) -> None:
        self.now = 0
        self.sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self.numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        """Sleep by this time; after two minutes of it, not at all."""
        if self.now >= TWO_MINUTES:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self.sleepers, (self.now + round(seconds * NANOSECONDS), next(self.numbers), future))
        await future

    async def pass_until(self, task: asyncio.Future[None]) -> None:
        """Let time pass until a task is done, for at most two minutes."""
        while not task.done() and self.now < TWO_MINUTES:
            for _ in range(40):
                await asyncio.sleep(0)
            if self.sleepers:
                self.now, _, future = heapq.heappop(self.sleepers)
                future.set_result(None)
        for _, _, future in self.sleepers:
            future.set_result(None)


class FarAway:
    """What a process sees of a store: what it asks of each bucket arrives only after some seconds."""

    def __init__(self, inner: MemoryRepository, clock: SlowTime, seconds: dict[str, float]) -> None:
        self.inner, self.slow, self.seconds = inner, clock, seconds

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """Read when the time has come."""
        await self.slow.sleep(self.seconds[key.entity_id])
        return await self.inner.read_bucket(key)

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Write when the time has come."""
        await self.slow.sleep(self.seconds[key.entity_id])
        return await self.inner.write_bucket(key, update)


def test_calls_that_want_the_same_slots_do_not_stay_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, each of which is the first to reach one of two buckets, both get all slots in time, however slow the table.

    If each look takes longer than the time between two looks, it does not meet the same look of the other process each time.
    """
    clock, chance = SlowTime(), Random(1)  # noqa: S311 - no secret
    monkeypatch.setattr("random.random", chance.random)
    monkeypatch.setattr("random.uniform", chance.uniform)

    async def call(store: MemoryRepository, **seconds: float) -> None:
        front: Any = FarAway(store, clock, seconds)
        limits = [Concurrency("calls", 1, ttl=3_600)]
        limiter = RateLimiter(front, limits, denial_ttl=0, sleep=clock.sleep, decision_timeout=60)
        async with limiter.acquire("left", "api", also=[("right", "api")], timeout=60):
            await clock.sleep(0.1)

    async def play() -> None:
        store = MemoryRepository(clock=lambda: clock.now)
        both = asyncio.gather(call(store, left=0.2, right=0.4), call(store, left=0.4, right=0.2))
        await clock.pass_until(both)
        assert both.done()
        await both

    asyncio.run(play())
