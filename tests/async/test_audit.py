# twin: ../sync/test_audit.py
"""What a limiter records of its decisions stands up to the audit, and what a faulty store makes it do does not.

The test of `limiter.audit.history`, `limiter.audit.joins` and `limiter.trail`.
"""

from __future__ import annotations

import asyncio
import json
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    Concurrency,
    Limit,
    MemoryRepository,
    Quota,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    ValidationError,
)
from limiter.audit import judge, record
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engines import FakeClock

    from limiter.audit import Recorder
    from limiter.core.state import WriteResult

pytestmark = pytest.mark.one_server  # What is decided and recorded does not depend on the engine, and takes many calls.
LIMITS = [Limit("requests", 8, 4, 1.0), Limit("tokens", 30, 10, 3.0)]


class Failed(Exception):
    """The body of a block fails."""


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """Records decisions."""
    recorder = record(tmp_path / "decisions.jsonl")
    yield recorder
    recorder.close()


@pytest.fixture
def new(clock: FakeClock, recorder: Recorder) -> Callable[..., RateLimiter]:
    """Makes limiters that record what they decide; to wait moves the clock."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    return partial(RateLimiter, sleep=sleep, on_decision=recorder, decision_timeout=30.0)


def lines(recorder: Recorder) -> list[dict[str, Any]]:
    """What was recorded."""
    return [json.loads(line) for line in Path(recorder.path).read_text(encoding="utf-8").splitlines()]


async def one_call(limiter: RateLimiter, chance: random.Random, clock: FakeClock) -> None:
    """Acquire at random, and correct, give back, take more, or fail."""
    amounts = {"requests": chance.randint(0, 3), "tokens": chance.randint(0, 9)}
    timeout = chance.choice([None, None, 2.0])
    try:
        async with limiter.acquire(chance.choice(["kid", "team", "solo"]), "api", amounts, timeout=timeout) as lease:
            clock.advance(chance.choice([0.0, 0.01, 0.4]))
            match chance.randint(0, 5):
                case 0:
                    await lease.adjust(tokens=chance.randint(-amounts["tokens"], 9))
                case 1:
                    await lease.release(requests=amounts["requests"], tokens=chance.randint(0, amounts["tokens"]))
                case 2:
                    await lease.consume(requests=1)
                case 3:
                    raise Failed
    except (Failed, RateLimitExceeded):
        pass


# In 660 a refund is seen a second after it was written, in 733 a bucket of two refuses more.
@pytest.mark.parametrize("seed", [*range(8), 660, 733])
async def test_what_is_recorded_keeps_every_promise(
    repository: Any, new: Any, clock: FakeClock, recorder: Recorder, seed: int
) -> None:
    """Chains, waits, corrections, refunds and concurrent callers leave a record in which nothing is wrong."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    limiters = [new(repository, LIMITS), new(repository, LIMITS, denial_ttl=0)]
    await limiters[0].create_entity("team")
    await limiters[0].create_entity("kid", parent_id="team")
    for _ in range(25):
        crowd = [partial(one_call, chance.choice(limiters), chance, clock) for _ in range(chance.randint(1, 4))]
        errors = [each for each in await gather(crowd) if each is not None]
        assert not errors
        clock.advance(chance.choice([0.0, 0.02, 0.3, 5.0]))
    verdict = judge(recorder.path)
    assert not verdict.findings
    assert verdict.decisions > 50
    assert verdict.worst is not None


EVERY = (
    Limit("requests", 8, 4, 1.0),
    Limit.at_most("strict", 9, 3.0),
    Quota.per_hour("hourly", 40),
    Quota.session("session", 12, 6.0),
    Quota.total("total", 300),
    Limit("probe", 5, 2, 1.0, enforce=False),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"headroom": 0.25},
    {"headroom": {"requests": 0.5, "hourly": 0.1}},
    {"oversize": True},
    {"timeout": 2.0},
    {"timeout": 5.0, "headroom": 0.25},
    {"also": [("everybody", "api", {"requests": 1, "session": 1})]},
)


async def any_call(limiter: RateLimiter, chance: random.Random, clock: FakeClock) -> None:
    """Acquire in any way, and correct, fail, or change the bucket from outside."""
    names = chance.sample([limit.name for limit in EVERY], chance.randint(1, 4))
    amounts = {name: chance.randint(0, 4) for name in names}
    entity, kind = chance.choice(["kid", "team", "solo"]), chance.random()
    if kind < 0.05:
        await limiter.pause(entity, "api", chance.choice([0.0, 0.3, 2.0]))
    elif kind < 0.1:
        await limiter.reset(entity, "api", chance.choice([None, names]))
    elif kind < 0.2:
        await limiter.adjust(entity, "api", {name: chance.randint(-5, 5) for name in names})
    else:
        options = dict(chance.choice(OPTIONS))
        if "oversize" in options and chance.random() < 0.5:
            amounts = {"requests": 12}
        try:
            async with limiter.acquire(entity, "api", amounts, **options) as lease:
                clock.advance(chance.choice([0.0, 0.01, 0.4]))
                if chance.random() < 0.3:
                    await lease.adjust({names[0]: chance.randint(-amounts.get(names[0], 0), 4)} if names[0] in amounts else {})
                if chance.random() < 0.3:
                    raise Failed
        except (Failed, RateLimitExceeded):
            pass


@pytest.mark.parametrize("seed", range(12))
async def test_every_way_to_acquire_leaves_a_record_that_passes(
    repository: Any, new: Any, clock: FakeClock, recorder: Recorder, seed: int
) -> None:
    """All kinds of limits, with headroom, oversize, waits, several targets, pauses, resets and corrections from outside."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    limiters = [new(repository, EVERY), new(repository, EVERY, denial_ttl=0), new(repository, EVERY)]
    await limiters[0].create_entity("team")
    await limiters[0].create_entity("kid", parent_id="team")
    for _ in range(25):
        crowd = [partial(any_call, chance.choice(limiters), chance, clock) for _ in range(chance.randint(1, 4))]
        errors = [each for each in await gather(crowd) if each is not None]
        assert not errors
        clock.advance(chance.choice([0.0, 0.02, 0.3, 5.0]))
    assert not judge(recorder.path).findings


ALLOTTED = [Limit("requests", 40, 40, 1.0, allotment=0.4), Quota.per_hour("hourly", 500)]


async def burst(limiter: RateLimiter, chance: random.Random, clock: FakeClock) -> int:
    """Acquire one after another, fail at times, and return how many were allowed."""
    allowed = 0
    for _ in range(chance.randint(1, 12)):
        try:
            async with limiter.acquire("user", "api"):
                allowed += 1
                clock.advance(chance.choice([0.0, 0.001, 0.01]))
                if chance.random() < 0.1:
                    raise Failed
        except (Failed, RateLimitExceeded):
            pass
    return allowed


@pytest.mark.parametrize("processes", [1, 4, 16])
async def test_what_many_processes_take_in_advance_passes(
    repository: Any, new: Any, clock: FakeClock, recorder: Recorder, processes: int
) -> None:
    """With an allotment any number of processes keeps every span within the capacity and the refill."""
    chance = random.Random(processes)  # noqa: S311 - no secret
    limiters, allowed = [new(repository, ALLOTTED) for _ in range(processes)], 0
    for _ in range(100):
        allowed += await burst(chance.choice(limiters), chance, clock)
        clock.advance(chance.choice([0.0, 0.0, 0.05, 0.39, 0.4, 1.0]))
    verdict = judge(recorder.path)
    assert not verdict.findings
    assert allowed > 100
    assert sum(limiter.stats().cache_hits for limiter in limiters) > 20


async def test_each_event_is_a_line(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """A decision, more, a correction, what is given back, and a refusal are lines with one id."""
    limiter = new(MemoryRepository(clock=clock), [Limit("tokens", 10, 1, 1.0)])
    start = clock()
    with pytest.raises(Failed):
        async with limiter.acquire("user", "api", {"tokens": 4}) as lease:
            await lease.consume(tokens=2)
            clock.advance(1.0)
            await lease.adjust(tokens=3)
            with pytest.raises(RateLimitExceeded):
                await lease.consume(tokens=9)
            await lease.release(tokens=1)
            raise Failed
    found = lines(recorder)
    assert [(each["event"], each["outcome"], [charge[2] for charge in each["charges"]]) for each in found] == [
        ("decision", "allowed", [4]),
        ("consume", "allowed", [2]),
        ("correction", "allowed", [3]),
        ("consume", "refused", [9]),
        ("refund", "allowed", [1]),
        ("written", "allowed", []),
        ("refund", "allowed", [8]),
        ("written", "allowed", []),
    ]
    assert len({each["id"] for each in found}) == len({each["process"] for each in found}) == 1
    first = found[0]
    assert (first["begin"], first["end"], first["buckets"]) == (start, start, [["user", "api"]])
    assert first["charges"][0][:4] == [0, "tokens=1/second burst 10", 4, start]
    assert judge(recorder.path)


async def test_a_caller_who_waits_starts_at_its_turn(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """The record says when a call was decided and from when its units may be used."""
    limiter = new(MemoryRepository(clock=clock), [Limit("requests", 1, 1, 1.0)])
    begin = clock()
    for _ in range(2):
        assert await limiter.try_acquire("user", timeout=5.0)
    waiting = lines(recorder)[1]
    assert (waiting["begin"], waiting["end"], waiting["charges"][0][3]) == (begin, begin, begin + 1_000_000_000)
    assert waiting["waits"]
    assert "retried" not in waiting


class Slow(MemoryRepository):
    """A table that takes a tenth of a second for each write."""

    async def write_bucket(self, key: Any, update: Any) -> WriteResult:
        """Answer late."""
        self.clock.advance(0.1)
        return await super().write_bucket(key, update)


async def test_a_call_is_decided_when_its_write_was_answered(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """A call that waits for the end of a pause and then for its turn is decided between the two, when its write was answered."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        slept.append(seconds)
        if len(slept) == 1:
            assert await other.try_acquire("user")

    store = Slow(clock=clock)
    limiter, other = (new(store, [Limit("requests", 1, 1, 10.0)], sleep=each) for each in (sleep, None))
    await limiter.pause("user", "default", 1.0)
    begin = clock()
    assert await limiter.try_acquire("user", timeout=30.0)
    waited = lines(recorder)[-1]
    assert (waited["begin"], waited["retried"], len(slept)) == (begin, True, 2)
    assert waited["end"] == clock() - round(slept[1] * 1_000_000_000)


async def test_what_was_decided_without_the_table_says_so(new: Any, store: Any, clock: FakeClock, recorder: Recorder) -> None:
    """Decisions in an outage are degraded, and a call that fails may have taken what it asked for."""
    limiter = new(store, [Limit("requests", 5, 1, 1.0)], config_ttl=60)
    assert await limiter.try_acquire("user")
    store.error = RateLimiterUnavailable("down")
    assert await limiter.try_acquire("user", on_unavailable="allow")
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user")
    assert [(each["outcome"], each.get("degraded", False)) for each in lines(recorder)] == [
        ("allowed", False),
        ("allowed", True),
        ("failed", False),
    ]
    verdict = judge(recorder.path)
    assert (bool(verdict), verdict.degraded, verdict.failed) == (True, 1, 1)


async def test_a_failed_call_is_recorded_though_no_limits_are_remembered(new: Any, store: Any, recorder: Recorder) -> None:
    """A call that fails may have taken what it asked for, also where every call reads the limits anew."""
    limiter = new(store, [Limit("requests", 5, 1, 1.0)], config_ttl=0)
    assert await limiter.try_acquire("user")
    store.error = RateLimiterUnavailable("down")
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user")
    assert [(each["outcome"], each["charges"][0][2]) for each in lines(recorder)] == [("allowed", 1), ("failed", 1)]


class Faulty:
    """A store that says of some writes that they were applied, and forgets them."""

    def __init__(self, inner: MemoryRepository) -> None:
        self.inner = inner
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def write_bucket(self, key: Any, update: Any) -> WriteResult:
        """Forget every third write."""
        self.writes += 1
        before = await self.inner.read_bucket(key)
        result = await self.inner.write_bucket(key, update)
        if self.writes % 3 == 0:
            self.inner._buckets[key] = before
        return result


async def test_a_store_that_forgets_is_found(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """From the record alone it is found that more was admitted than the limit allows."""
    limiter = new(Faulty(MemoryRepository(clock=clock)), [Limit("requests", 10, 1, 1.0)])
    admitted = 0
    for _ in range(20):
        admitted += bool(await limiter.try_acquire("user"))
    assert admitted > 10
    verdict = judge(recorder.path)
    assert [each.promise for each in verdict.findings] == ["capacity"]
    assert verdict.worst is not None
    assert verdict.worst.units == admitted


async def test_a_bucket_that_lost_a_refund_is_found(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """What was given back by the record, and is not to be had, is refused wrongly."""
    inner = MemoryRepository(clock=clock)
    limiter = new(inner, [Limit("requests", 10, 1, 10.0)])
    with pytest.raises(Failed):
        async with limiter.acquire("user", consume={"requests": 10}):
            [(key, full)] = inner._buckets.items()
            clock.advance(0.1)
            raise Failed
    inner._buckets[key] = full
    clock.advance(2.0)
    assert not await limiter.try_acquire("user", consume={"requests": 5})
    assert [each.promise for each in judge(recorder.path).findings] == ["refusals"]


def test_a_record_that_cannot_be_written(tmp_path: Path) -> None:
    """The file is opened at once, and an error names it."""
    with pytest.raises(ValidationError, match=r"cannot write the record '.*absent.*': No such file or directory"):
        record(tmp_path / "absent" / "record")


async def test_slots_that_were_lost_are_recorded_as_expired(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """Slots of a holder that was overtaken count until they expired, so that its late end is no excess."""
    limits, store = [Concurrency("calls", 1, ttl=10.0)], MemoryRepository(clock=clock)
    limiter, other = new(store, limits), new(store, limits)
    async with limiter.acquire("user"):
        clock.advance(13)
        async with other.acquire("user"):
            clock.advance(1)
    assert [line["event"] for line in lines(recorder)].count("expiry") == 1
    verdict = judge(recorder.path)
    assert not verdict.findings
    assert verdict.decisions == 2


async def test_slots_of_many_callers_keep_every_promise(new: Any, clock: FakeClock, recorder: Recorder) -> None:
    """What several limiters record of slots that they take, free and wait for stands up to the audit."""
    limits, store = [Concurrency("calls", 3, ttl=86_400.0), Limit("requests", 50, 50, 1.0)], MemoryRepository(clock=clock)
    limiters = [new(store, limits) for _ in range(3)]

    async def work(limiter: RateLimiter, number: int) -> None:
        for place in range(5):
            async with limiter.acquire("user", timeout=50_000.0) as lease:
                await asyncio.sleep(0)
                if (number + place) % 3 == 0:
                    await lease.release(calls=1)

    outcomes = await gather([partial(work, limiters[number % 3], number) for number in range(12)])
    assert outcomes == [None] * 12
    verdict = judge(recorder.path)
    assert not verdict.findings
    assert verdict.decisions == 60
