"""Tasks that are cancelled anywhere in a call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, MemoryRepository, RateLimiter, RateLimiterUnavailable, RateLimitExceeded
from limiter.commit.bucket_queue import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import FakeClock

LIMIT = Limit.per_second("requests", 500)


class Slow:
    """A repository whose calls take a turn or more before and after what they do, so that a cancellation can strike anywhere."""

    def __init__(self, inner: MemoryRepository, chance: random.Random) -> None:
        self.inner, self.chance = inner, chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def pause(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            await asyncio.sleep(0)

    async def read_bucket(self, key: Any) -> Any:
        await self.pause()
        return await self.inner.read_bucket(key)

    async def write_bucket(self, key: Any, update: Any) -> Any:
        await self.pause()
        outcome = await self.inner.write_bucket(key, update)
        await self.pause()
        return outcome


@pytest.mark.parametrize("seed", range(6))
async def test_a_cancelled_task_keeps_nothing(clock: FakeClock, seed: int) -> None:
    """A task that is cancelled, once or twice, as leader or in the queue, keeps no units in the end."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    inner = MemoryRepository(clock=clock)
    limiter = RateLimiter(Slow(inner, chance), [LIMIT], denial_ttl=0)
    kept: list[int] = []

    async def call() -> None:
        try:
            async with limiter.acquire("user", "api", {"requests": chance.randint(1, 5)}) as lease:
                await asyncio.sleep(0)
                await lease.adjust(requests=chance.randint(0, 3))
            kept.append(lease.consumed["requests"])
        except RateLimitExceeded:
            pass

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.ensure_future(call()))
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        if chance.random() < 0.6:
            chance.choice(tasks).cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=30)
    left = (await RateLimiter(inner, [LIMIT]).check("user", "api", {"requests": 0})).statuses[0].available
    assert left == LIMIT.capacity - sum(kept)


class Gated(Slow):
    """A repository whose writes wait until they are let through, one by one."""

    def __init__(self, inner: MemoryRepository) -> None:
        super().__init__(inner, random.Random(0))  # noqa: S311 - no secret
        self.reached, self.through = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def write_bucket(self, key: Any, update: Any) -> Any:
        self.reached.release()
        await self.through.acquire()
        return await self.inner.write_bucket(key, update)


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_task_cancelled_in_its_write_gives_it_back(clock: FakeClock, cancelled: int) -> None:
    """Whether a task leads the first write, leads the next because it was first in line, or rides along: it keeps nothing."""
    inner = MemoryRepository(clock=clock)
    gated = Gated(inner)
    limiter = RateLimiter(gated, [LIMIT])
    tasks = [asyncio.ensure_future(limiter.try_acquire("user", "api", {"requests": 10}))]
    await gated.reached.acquire()
    for _ in range(2):
        tasks.append(asyncio.ensure_future(limiter.try_acquire("user", "api", {"requests": 10})))
        await asyncio.sleep(0.01)
    if cancelled:
        gated.through.release()
        await gated.reached.acquire()
    tasks[cancelled].cancel()
    await asyncio.sleep(0.01)
    for _ in range(9):
        gated.through.release()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [place == cancelled for place in range(3)]
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=30)
    left = (await RateLimiter(inner, [LIMIT]).check("user", "api", {"requests": 0})).statuses[0].available
    assert left == LIMIT.capacity - 20


async def test_tasks_start_in_the_order_in_which_they_asked(clock: FakeClock) -> None:
    """A task that has to read limits first does not lose its place to those that wait for the same limits."""
    starts: list[int] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 10_000)

    limiter = RateLimiter(Slow(MemoryRepository(clock=clock), random.Random(0)), [LIMIT], sleep=sleep)  # noqa: S311 - no secret

    async def call(number: int) -> None:
        async with limiter.acquire("user", "api", {"requests": 500}, timeout=100):
            starts.append(number)

    await asyncio.gather(*(call(number) for number in range(50)))
    assert starts == list(range(50))


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until something is so."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to pass")


async def test_a_refund_without_a_caller_is_written_though_the_next_leader_goes(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late grant is refunded even if the caller that should write the refund is cancelled before it starts."""
    monkeypatch.setattr("limiter.commit.queues.MAX_QUEUES", 10)
    inner = MemoryRepository(clock=clock)
    gated = Gated(inner)
    limiter = RateLimiter(gated, [LIMIT], decision_timeout=0.05)
    late = asyncio.ensure_future(limiter.try_acquire("user", "api"))
    with pytest.raises(RateLimiterUnavailable):
        await late
    next_leader = asyncio.ensure_future(limiter.try_acquire("user", "api"))
    (queue,) = limiter._acquirers.get().committer._queues.values()
    await until(lambda: bool(queue.requests))
    gated.through.release()
    await until(lambda: isinstance(queue.leader, Waiter))
    next_leader.cancel()
    for _ in range(200):
        gated.through.release()
    await asyncio.wait([next_leader], timeout=30)
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=30)
    assert (await limiter.check("user", "api", {"requests": 0})).statuses[0].available == LIMIT.capacity
    for number in range(20):
        await limiter.try_acquire(f"user-{number}", "api")
    assert len(limiter._acquirers.get().committer._queues) == 10


def callers() -> int:
    """How many callers are alive in this process."""
    gc.collect()
    return sum(type(each) is Waiter for each in gc.get_objects())


async def test_callers_who_are_decided_are_forgotten_behind_one_who_waits(clock: FakeClock) -> None:
    """One write that takes long keeps nothing of the others alive."""
    gated = Gated(MemoryRepository(clock=clock))
    limiter = RateLimiter(gated, [LIMIT], decision_timeout=600)
    slow = asyncio.ensure_future(limiter.try_acquire("slow", "api"))
    await gated.reached.acquire()
    gated.write_bucket = gated.inner.write_bucket  # type: ignore[method-assign] # all but the first pass
    before = callers()
    for _ in range(300):
        await limiter.try_acquire("user", "api")
    assert callers() - before < 150
    gated.through.release()
    assert await slow


async def test_callers_of_a_new_bucket_start_in_the_order_in_which_they_asked(clock: FakeClock) -> None:
    """A task that asks in any turn of the loop after the limits were read does not overtake those that have waited for them."""
    waits: dict[int, float] = {}
    tasks: list[asyncio.Task[None]] = []
    asked = asyncio.Event()

    class Slow(MemoryRepository):
        async def read_records(self, *arguments: Any) -> Any:
            await asked.wait()
            tasks.append(asyncio.create_task(ask_in_every_turn()))
            return await super().read_records(*arguments)

    async def ask_in_every_turn() -> None:
        for number in range(30, 60):
            tasks.append(asyncio.create_task(call(number)))
            await asyncio.sleep(0)

    async def sleep(_: float) -> None:
        pass

    async def call(number: int) -> None:
        async with limiter.acquire("user", "api", timeout=1_000) as lease:
            waits[number] = lease.waited

    limiter = RateLimiter(Slow(clock=clock), [Limit("requests", 1, 1, 1.0)], sleep=sleep)
    tasks += [asyncio.create_task(call(number)) for number in range(30)]
    asyncio.get_running_loop().call_soon(asked.set)
    await until(lambda: len(waits) == 60)
    await asyncio.gather(*tasks)
    assert [number for number, _ in sorted(waits.items(), key=lambda each: each[1])] == list(range(60))


async def test_tasks_of_new_buckets_share_reads(clock: FakeClock) -> None:
    """One read carries the records of as many new buckets as fit."""
    reads: list[int] = []

    class Counting(MemoryRepository):
        async def read_records(self, keys: Any, buckets: Any = ()) -> Any:
            reads.append(len(keys))
            return await super().read_records(keys, buckets)

    limiter = RateLimiter(Counting(clock=clock), [LIMIT])
    decisions = await asyncio.gather(*(limiter.try_acquire(f"user-{number}", "api") for number in range(100)))
    assert all(decisions)
    assert len(reads) <= 10


async def test_a_store_that_ignores_its_cancellation_holds_no_reader(clock: FakeClock) -> None:
    """Readers of every bucket are told while the call still hangs: those that it serves, and those in line behind it."""
    freed = asyncio.Event()
    reads: list[int] = []

    class Stubborn(MemoryRepository):
        async def read_records(self, keys: Any, buckets: Any = ()) -> Any:
            reads.append(len(keys))
            while not freed.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await freed.wait()
            return await super().read_records(keys, buckets)

    limiter = RateLimiter(Stubborn(clock=clock), [LIMIT], decision_timeout=0.05)
    calls = [asyncio.ensure_future(limiter.try_acquire(f"user-{number}", "api")) for number in range(1_000)]
    await asyncio.wait(calls, timeout=20)
    done = [call for call in calls if call.done()]
    freed.set()
    assert len(done) == len(calls)
    assert all(isinstance(call.exception(), RateLimiterUnavailable) for call in done)
    assert len(reads) < 10
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=30)
