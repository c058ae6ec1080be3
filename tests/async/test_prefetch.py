# twin: ../sync/test_prefetch.py
"""Prefetch: units taken in advance by one write and spent without any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, Prefetch, ValidationError

if TYPE_CHECKING:
    from support.engines import FakeClock


async def run(limiter: Any, clock: FakeClock, calls: int, interval: float) -> int:
    """Acquire one after another at an even pace; return how many were admitted."""
    admitted = 0
    for _ in range(calls):
        admitted += bool(await limiter.try_acquire("user"))
        clock.advance(interval)
    return admitted


async def test_a_caller_that_comes_again_and_again_needs_few_writes(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """At 500 calls a second and a horizon of 100 ms, most calls are paid from blocks."""
    limiter = new_limiter("requests=100000/minute", prefetch=Prefetch(horizon=0.1))
    repository.take()
    assert await run(limiter, clock, 1000, 0.002) == 1000
    assert repository.take()["write_bucket"] < 200


async def test_without_prefetch_each_call_writes(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """It is opt-in, for a limiter or for a call."""
    limiter = new_limiter("requests=100000/minute")
    await run(limiter, clock, 50, 0.002)
    assert repository.take()["write_bucket"] == 50
    for _ in range(50):
        await limiter.try_acquire("user", prefetch=Prefetch(horizon=1, fraction=1))
        clock.advance(0.002)
    assert repository.take()["write_bucket"] < 25


async def test_prefetch_admits_no_more_than_the_limit(new_limiter: Any, clock: FakeClock) -> None:
    """Over a long time two processes that prefetch admit capacity and refill, and no more."""
    limiters = [new_limiter("requests=100/second", prefetch=Prefetch(), denial_ttl=0) for _ in range(2)]
    started, admitted = clock(), 0
    for _ in range(300):
        for limiter in limiters:
            admitted += bool(await limiter.try_acquire("user"))
        clock.advance(0.005)
    seconds = (clock() - started) / 10**9
    assert 0.9 * 100 * seconds <= admitted <= 100 + 100 * seconds + 1


async def test_a_block_is_a_bounded_part_of_the_capacity(new_limiter: Any, clock: FakeClock) -> None:
    """However fast the caller, at most the fraction is taken in advance."""
    limiter = new_limiter("requests=1000/hour", prefetch=Prefetch(horizon=10, fraction=0.05), denial_ttl=0)
    other = new_limiter("requests=1000/hour")
    admitted = await run(limiter, clock, 500, 0.0001)
    left = (await other.check("user")).statuses[0].available
    assert 1000 - admitted - 50 <= left <= 1000 - admitted


async def test_what_is_not_spent_is_given_back_when_stale(new_limiter: Any, clock: FakeClock) -> None:
    """After the horizon the rest of a block goes back with the next write."""
    limiter, other = (
        new_limiter("requests=1000/hour", prefetch=Prefetch(horizon=1, fraction=1)),
        new_limiter("requests=1000/hour"),
    )
    await run(limiter, clock, 100, 0.001)
    clock.advance(2)
    assert await limiter.try_acquire("user")
    await limiter.close()
    assert 899 <= (await other.check("user")).statuses[0].available <= 900


async def test_closing_gives_everything_back(new_limiter: Any, clock: FakeClock) -> None:
    """Nothing stays taken in advance after close, and nothing is given back twice."""
    limiter, other = (
        new_limiter("requests=1000/hour", prefetch=Prefetch(horizon=1, fraction=1)),
        new_limiter("requests=1000/hour"),
    )
    await run(limiter, clock, 100, 0.001)
    for _ in range(2):
        await limiter.close()
        assert (await other.check("user")).statuses[0].available == 900


async def test_a_lease_paid_from_a_block_is_refunded_like_any_other(new_limiter: Any, clock: FakeClock) -> None:
    """What a failing body took goes back to the bucket."""
    limiter, other = (
        new_limiter("requests=1000/hour", prefetch=Prefetch(horizon=1, fraction=1)),
        new_limiter("requests=1000/hour"),
    )
    await run(limiter, clock, 100, 0.001)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with limiter.acquire("user", consume={"requests": 3}):
                raise ZeroDivisionError
    await limiter.close()
    assert (await other.check("user")).statuses[0].available == 900


async def test_a_block_is_no_way_past_a_debt(new_limiter: Any, clock: FakeClock) -> None:
    """While the bucket owes, nobody is admitted by what was taken in advance; once it does not, it is spent again."""
    limiter = new_limiter("requests=100/hour", prefetch=Prefetch(horizon=60, fraction=0.5))
    assert await run(limiter, clock, 20, 0.001) == 20
    async with limiter.acquire("user") as lease:
        await lease.adjust(requests=500)
        assert await run(limiter, clock, 10, 0.001) == 0
        await lease.adjust(requests=-500)
    assert await run(limiter, clock, 10, 0.001) == 10


async def test_many_blocks_are_given_back_by_and_by(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """However many buckets something is held of, `close` writes to some at a time, and to all."""
    limiter = new_limiter("requests=100/hour", prefetch=Prefetch(horizon=60, fraction=0.5))
    users = [f"user-{number}" for number in range(80)]
    for user in users:
        for _ in range(3):
            assert await limiter.try_acquire(user)
    write, writing, most = repository.inner.write_bucket, 0, 0

    async def write_bucket(*arguments: Any) -> Any:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        try:
            return await write(*arguments)
        finally:
            writing -= 1

    repository.inner.write_bucket = write_bucket
    await limiter.close()
    assert 0 < most < 50
    other = new_limiter("requests=100/hour")
    assert {(await other.check(user)).statuses[0].available for user in users} == {97}


@pytest.mark.parametrize("options", [{"horizon": 0}, {"horizon": "1"}, {"fraction": 0}, {"fraction": 1.5}, {"horizon": True}])
async def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    """Horizon and fraction are positive and bounded."""
    with pytest.raises(ValidationError, match="prefetch"):
        Prefetch(**options)


async def test_callers_with_versions_of_one_limit_take_one_block(new_limiter: Any, clock: FakeClock) -> None:
    """Two versions of a limit in turn neither defeat each other's writes nor take more than there is."""
    limiter, other = new_limiter(prefetch=Prefetch(horizon=1, fraction=1), denial_ttl=0), new_limiter("requests=100/hour")
    versions = [[Limit.per_hour("requests", 100)], [Limit.per_hour("requests", 90)]]
    assert await other.try_acquire("user", consume={"requests": 55})
    for turn in range(60):
        await limiter.try_acquire("user", limits=versions[turn % 2])
        assert (await other.check("user", consume={"requests": 0})).statuses[0].available >= 0
        clock.advance(0.01)


async def test_blocks_are_taken_of_what_is_asked_for_now(new_limiter: Any, clock: FakeClock) -> None:
    """A limit that nobody has asked for since is not taken in advance any more."""
    limits = "requests=100000/second", "tokens=100000/second"
    limiter, other = new_limiter(*limits, prefetch=Prefetch(horizon=0.1, fraction=0.5)), new_limiter(*limits)
    for _ in range(50):
        await limiter.try_acquire("user", consume={"requests": 1, "tokens": 1_000})
        clock.advance(0.005)
    clock.advance(5)
    await limiter.try_acquire("user", consume={"requests": 1})
    assert (await other.check("user", consume={"tokens": 0})).statuses[0].available == 100_000


async def test_a_burst_is_at_most_the_capacity_and_the_unspent_blocks(new_limiter: Any, clock: FakeClock) -> None:
    """Blocks of 20 that two processes hold while the bucket refills come on top of its 100, and nothing else does."""
    limiters = [new_limiter("requests=100/second", prefetch=Prefetch(horizon=10, fraction=0.2), denial_ttl=0) for _ in range(2)]
    for limiter in limiters:
        await run(limiter, clock, 33, 0.001)  # the last of which took a block
    clock.advance(2)
    assert [await run(limiter, clock, calls, 0) for limiter, calls in zip(limiters, (130, 30), strict=True)] == [120, 20]


async def test_a_process_that_falls_silent_leaves_at_most_its_block_unused(new_limiter: Any, clock: FakeClock) -> None:
    """What it has not spent refills like what others have; when it gives it back after that, nothing is added."""
    limiter = new_limiter("requests=100/hour", prefetch=Prefetch(horizon=1, fraction=0.2))
    other = new_limiter("requests=100/hour", denial_ttl=0)
    assert await run(limiter, clock, 30, 0.001) == 30
    clock.advance(2)
    assert 50 <= await run(other, clock, 80, 0) < 70
    clock.advance(3_600)
    await limiter.close()
    assert (await other.check("user")).statuses[0].available == 100
