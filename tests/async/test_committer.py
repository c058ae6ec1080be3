# twin: ../sync/test_committer.py
"""Group commit: many requests in one write, each decided as if they had come one after another.

The test of `limiter.commit.batch` and `limiter.commit.writer`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, LimiterError, RateLimiterUnavailable, RateLimitExceeded
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.engines import FakeClock


class Gate:
    """Holds the first write back until a number of requests have queued up behind it."""

    def __init__(self, repository: Any, limiter: Any, requests: int) -> None:
        self.repository = repository
        self.committer = limiter._acquirers.get().committer
        self.missing = requests
        self.passed = asyncio.Event()
        self.write = repository.inner.write_bucket
        self.enter, self.begin = self.committer._enter, self.committer._leader.write_at_once
        self.writes: list[Any] = []
        repository.inner.write_bucket = self.write_bucket
        self.committer._enter, self.committer._leader.write_at_once = self.count, self.write_at_once

    async def write_bucket(self, key: Any, update: Any) -> Any:
        self.writes.append(update)
        if len(self.writes) == 1:
            await self.passed.wait()
        return await self.write(key, update)

    def count(self, caller: Any, requests: Any) -> None:
        """Count a caller who waits in line, or leads by a batch."""
        self.enter(caller, requests)
        self.note()

    async def write_at_once(self, pending: Any) -> None:
        """Count the caller who finds the bucket at rest."""
        self.note()
        await self.begin(pending)

    def note(self) -> None:
        """Let the first write go once everybody has entered."""
        self.missing -= 1
        if not self.missing:
            self.passed.set()

    def close(self) -> None:
        """Let writes and requests pass as before."""
        self.committer._enter, self.committer._leader.write_at_once = self.enter, self.begin
        self.repository.inner.write_bucket = self.write


@pytest.fixture
def crowd(repository: Any, new_limiter: Any) -> Callable[..., Any]:
    """Runs calls at the same time, of which all but the first come while the first one's write is in flight."""

    async def run(limiter: Any, calls: list[Callable[[], Any]]) -> tuple[list[Any], int]:
        gate = Gate(repository, limiter, len(calls))
        outcomes = await gather(calls)
        gate.close()
        return outcomes, len(gate.writes)

    return run


async def test_callers_that_wait_for_a_write_share_the_next(new_limiter: Any, crowd: Any) -> None:
    """Fifty callers at once cost two writes, and exactly the capacity is admitted."""
    limiter = new_limiter("requests=30/minute")
    await limiter.check("user")
    outcomes, writes = await crowd(limiter, [lambda: limiter.try_acquire("user")] * 50)
    assert sum(bool(outcome) for outcome in outcomes) == 30
    assert writes <= 2


async def test_a_batch_is_decided_one_after_another(new_limiter: Any, crowd: Any) -> None:
    """A request that does not fit is refused on its own, and a smaller one behind it is admitted."""
    limiter = new_limiter("tokens=100/minute")
    amounts = [40, 50, 30, 5, 6, 5]
    calls = [lambda amount=amount: limiter.try_acquire("user", consume={"tokens": amount}) for amount in amounts]
    await limiter.check("user")
    outcomes, _ = await crowd(limiter, calls)
    admitted = [amount for amount, outcome in zip(amounts, outcomes, strict=True) if outcome]
    assert 90 <= sum(admitted) <= 100
    assert all(sum(admitted) + amount > 100 for amount in amounts if amount not in admitted)


async def test_a_caller_behind_the_last_who_fit_does_not_wait_for_them(new_limiter: Any, crowd: Any, clock: FakeClock) -> None:
    """Under overload, a request that cannot fit behind equal ones is refused at once, with the correct wait."""
    limiter = new_limiter("requests=4/second")
    for _ in range(5):
        await limiter.try_acquire("user")
    clock.advance(0.75)
    before = limiter.stats().cache_hits
    outcomes, writes = await crowd(limiter, [lambda: limiter.try_acquire("user")] * 10)
    assert sum(bool(outcome) for outcome in outcomes) == 3
    assert limiter.stats().cache_hits - before == 7
    assert {outcome.retry_after for outcome in outcomes if not outcome} == {0.25}
    assert writes <= 2


async def test_each_request_of_a_batch_has_its_own_limits(new_limiter: Any, crowd: Any) -> None:
    """Overrides of one caller do not decide another."""
    limiter = new_limiter("requests=2/minute")
    wide = [Limit.parse("requests=2/minute burst 5")]
    await limiter.check("user")
    calls = [lambda: limiter.try_acquire("user"), lambda: limiter.try_acquire("user")]
    calls += [lambda: limiter.try_acquire("user", limits=wide)] * 5
    outcomes, _ = await crowd(limiter, calls)
    assert sum(bool(outcome) for outcome in outcomes) == 5


async def test_waiters_of_one_batch_start_one_after_another(new_limiter: Any, crowd: Any, clock: FakeClock) -> None:
    """A hundred callers that are willing to wait are booked by two writes, at distinct times in their order."""

    async def sleep(seconds: float) -> None:
        pass

    limiter = new_limiter("requests=1/second", sleep=sleep)

    async def wait() -> float:
        async with limiter.acquire("user", timeout=200) as lease:
            return lease.waited

    await limiter.check("user")
    waits, writes = await crowd(limiter, [wait] * 100)
    assert sorted(waits) == [float(second) for second in range(100)]
    assert writes <= 2


async def test_settlements_ride_along(new_limiter: Any, crowd: Any) -> None:
    """A refund that comes while a write is in flight is part of the next write."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", consume={"tokens": 50}) as lease:
        calls: list[Any] = [lambda: limiter.try_acquire("user", consume={"tokens": 10})]
        calls += [lambda: lease.release(tokens=40), lambda: limiter.try_acquire("user", consume={"tokens": 5})]
        _, writes = await crowd(limiter, calls)
    assert writes == 2
    assert (await limiter.check("user")).statuses[0].available == 75


async def test_a_request_beside_a_refund_is_judged_after_it(new_limiter: Any, crowd: Any) -> None:
    """What the state alone would refuse is admitted where the same batch gives back enough for it."""
    limiter = new_limiter("requests=10/hour")
    async with limiter.acquire("user", consume={"requests": 10}) as lease:
        calls = [
            lambda: lease.adjust(requests=1),
            lambda: lease.release(requests=9),
            lambda: limiter.try_acquire("user", consume={"requests": 5}),
            lambda: limiter.try_acquire("user", consume={"requests": 5}),
        ]
        outcomes, _ = await crowd(limiter, calls)
    assert sorted(bool(outcome) for outcome in outcomes[2:]) == [False, True]


async def test_an_error_of_a_write_reaches_exactly_its_batch(new_limiter: Any, repository: Any, crowd: Any) -> None:
    """Everybody in a failing write is told, and the next write is as good as ever."""
    limiter = new_limiter("requests=10/minute")
    write = repository.inner.write_bucket

    failures = [LimiterError("broken")]

    async def fail(key: Any, update: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(key, update)

    assert await limiter.try_acquire("user")
    repository.inner.write_bucket = fail
    outcomes, _ = await crowd(limiter, [lambda: limiter.try_acquire("user")] * 4)
    failed = sum(isinstance(outcome, LimiterError) for outcome in outcomes)
    assert 1 <= failed <= 4
    assert await limiter.try_acquire("user")
    assert (await limiter.check("user")).statuses[0].available == 10 - 1 - (4 - failed) - 1


async def test_a_grant_stands_if_the_state_after_it_is_unreadable(new_limiter: Any, repository: Any, crowd: Any) -> None:
    """A state that has become malformed is an error for the undecided requests; admitted ones stay admitted."""
    limiter = new_limiter("requests=3/minute", denial_ttl=0)
    assert await limiter.try_acquire("user")
    write = repository.inner.write_bucket

    async def corrupt(key: Any, update: Any) -> Any:
        outcome = await write(key, update)
        return outcome._replace(state=replace(outcome.state, unreadable={"requests|1/20": "is no integer"}))

    repository.inner.write_bucket = corrupt
    outcomes, _ = await crowd(limiter, [lambda: limiter.try_acquire("user")] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Decision", "Decision", "UnreadableItem", "UnreadableItem"]


async def test_a_lost_answer_is_found_again(new_limiter: Any, repository: Any) -> None:
    """A write that was applied without an answer is not applied a second time."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.try_acquire("user")
    lose_answers(repository, 1)
    assert await limiter.try_acquire("user")
    assert (await limiter.check("user")).statuses[0].available == 8


async def test_a_lost_refund_is_not_given_back_twice(new_limiter: Any, repository: Any) -> None:
    """A refund whose answer was lost counts once."""
    limiter = new_limiter("requests=10/minute")
    async with limiter.acquire("user", consume={"requests": 5}) as lease:
        lose_answers(repository, 1)
        await lease.release(requests=3)
    assert (await limiter.check("user")).statuses[0].available == 8


@pytest.mark.parametrize("others", range(4))
async def test_a_lost_answer_is_found_behind_two_other_writes(new_limiter: Any, repository: Any, others: int) -> None:
    """A debit whose answer was lost counts once and can be given back, though two others have written; behind three, twice."""
    limits = ["requests=100/minute", "all=1000 in all"]
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    assert await limiter.try_acquire("user", consume={"requests": 1, "all": 1})
    lose_answers(repository, 1, behind=[partial(other.try_acquire, "user", consume={"requests": 1, "all": 1})] * others)
    async with limiter.acquire("user", consume={"requests": 5, "all": 5}) as lease:
        assert await used(other) == 1 + others + (5 if others < 3 else 10)
        await lease.release(requests=5, all=5)
    assert await used(other) == 1 + others + (0 if others < 3 else 5)
    assert limiter.stats().corrections_lost == (others == 3)


@pytest.mark.parametrize("others", range(4))
async def test_a_lost_give_back_is_found_behind_two_other_writes(new_limiter: Any, repository: Any, others: int) -> None:
    """A give-back whose answer was lost is not counted as lost, though two others have written; behind three it is."""
    limits = ["requests=100/minute", "all=1000 in all"]
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    async with limiter.acquire("user", consume={"requests": 5, "all": 5}) as lease:
        lose_answers(repository, 1, behind=[partial(other.try_acquire, "user", consume={"requests": 1, "all": 1})] * others)
        await lease.release(requests=3, all=3)
    assert await used(other) == 2 + others
    assert limiter.stats().corrections_lost == (others == 3)


async def used(limiter: Any) -> int:
    """The units that are used of the limit that counts for ever, which are those of the other limit too."""
    rate, total = (await limiter.check("user", consume={"requests": 0, "all": 0})).statuses
    assert total.limit.capacity - total.available == rate.limit.capacity - rate.available
    used: int = total.limit.capacity - total.available
    return used


async def test_a_write_that_never_arrived_is_sent_again(new_limiter: Any, repository: Any) -> None:
    """A write that was not applied is repeated until it is, a bounded number of times."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.try_acquire("user")
    lose_answers(repository, 1, applied=False)
    assert await limiter.try_acquire("user")
    assert (await limiter.check("user")).statuses[0].available == 8
    lose_answers(repository, 100, applied=False)
    with pytest.raises(RateLimiterUnavailable, match="lost"):
        await limiter.try_acquire("user")


def lose_answers(repository: Any, count: int, *, applied: bool = True, behind: Sequence[Callable[[], Any]] = ()) -> None:
    """Lose the answers of the next writes, after or before they are applied; behind the last one others make calls."""
    write = repository.inner.write_bucket
    left = [count]

    async def lose(key: Any, update: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            repository.inner.write_bucket = write
        if applied:
            await write(key, update)
        if not left[0]:
            for call in behind:
                await call()
        raise RateLimiterUnavailable("the answer was lost", unsent=False)

    repository.inner.write_bucket = lose


async def test_a_linger_caps_the_writes_of_a_process(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """Between two writes to one bucket at least the linger passes, and none before the first."""
    limiter = new_limiter("requests=100/minute", linger=0.5)
    await limiter.check("user")
    started = clock()
    assert await limiter.try_acquire("user")
    assert clock() - started <= 500_000_000
    before = clock()
    for _ in range(4):
        assert await limiter.try_acquire("user")
    assert clock() - before == 4 * 500_000_000


async def test_after_a_refusal_nothing_stays_of_it(new_limiter: Any) -> None:
    """Each caller of a batch gets a copy of a shared error, so tracebacks do not accumulate."""
    limiter = new_limiter("requests=1/minute")
    assert await limiter.try_acquire("user")
    for _ in range(3):
        with pytest.raises(RateLimitExceeded) as refusal:
            async with limiter.acquire("user"):
                pass
        assert len(refusal.traceback) < 15
