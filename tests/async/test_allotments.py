# twin: ../sync/test_allotments.py
"""Allotments: units that a process takes in advance by one write and spends without any, within one bound for the whole fleet.

The test of `limiter.commit.block_orders`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded

if TYPE_CHECKING:
    from support.engines import FakeClock

pytestmark = pytest.mark.one_server  # What is decided and recorded does not depend on the engine, and takes many calls.


async def run(limiter: Any, clock: FakeClock, calls: int, interval: float, **options: Any) -> int:
    """Acquire one after another at an even pace; return how many were allowed."""
    allowed = 0
    for _ in range(calls):
        allowed += bool(await limiter.try_acquire("user", **options))
        clock.advance(interval)
    return allowed


async def test_a_caller_that_comes_again_and_again_needs_few_writes(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """At 500 calls a second and an allotment of 100 ms, most calls are paid from blocks."""
    limiter = new_limiter("requests=100000/minute allotment 0.1")
    repository.take()
    assert await run(limiter, clock, 1000, 0.002) == 1000
    assert repository.take()["write_bucket"] < 200


async def test_without_an_allotment_each_call_writes(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """A limit without an allotment is never taken in advance, nor is what is asked for beside one."""
    limiter = new_limiter("requests=100000/minute allotment 1", "tokens=100000/minute")
    await run(limiter, clock, 50, 0.002)
    assert repository.take()["write_bucket"] == 50
    await run(limiter, clock, 50, 0.002, consume={"requests": 1})
    assert repository.take()["write_bucket"] < 25


@pytest.mark.parametrize("other", ["credits=1000 in all"])
async def test_no_block_beside_a_total(new_limiter: Any, repository: Any, clock: FakeClock, other: str) -> None:
    """What a dead process held of a total would be gone for good, so each request writes."""
    limiter = new_limiter("requests=100000/minute allotment 1", other)
    await run(limiter, clock, 50, 0.002)
    assert repository.take()["write_bucket"] == 50


async def test_one_request_can_use_the_capacity_less_the_refill_of_the_allotment(new_limiter: Any) -> None:
    """Of 100 with 10 a second and an allotment of 2 s, 80 can be used; more is refused for good, and the error says why."""
    limiter = new_limiter("requests=10/second burst 100 allotment 2")
    assert (await limiter.check("user")).statuses[0].available == 80
    with pytest.raises(NeverSatisfiable, match="capacity of 100, less what refills in its allotment of 2"):
        async with limiter.acquire("user", consume={"requests": 81}):
            pass
    async with limiter.acquire("user", consume={"requests": 70}) as lease:
        await lease.consume(requests=10)
        with pytest.raises(RateLimitExceeded):
            await lease.consume(requests=1)


async def test_headroom_is_left_beside_the_allotment(new_limiter: Any) -> None:
    """A caller who leaves a tenth of 100 can use what the allotment leaves less 10."""
    limiter = new_limiter("requests=10/second burst 100 allotment 2")
    assert not await limiter.try_acquire("user", consume={"requests": 71}, headroom=0.1)
    assert await limiter.try_acquire("user", consume={"requests": 70}, headroom=0.1)
    assert await limiter.try_acquire("user", consume={"requests": 10})


async def test_waiting_callers_start_when_the_rest_is_free(new_limiter: Any, clock: FakeClock) -> None:
    """A caller with a timeout is promised the time at which its units fit beside the refill of the allotment."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    limiter = new_limiter("requests=10/second burst 100 allotment 2", sleep=sleep)
    assert await limiter.try_acquire("user", consume={"requests": 80})
    async with limiter.acquire("user", consume={"requests": 10}, timeout=5) as lease:
        assert lease.waited == pytest.approx(1.0)


async def test_any_number_of_processes_keeps_the_capacity(new_limiter: Any, clock: FakeClock) -> None:
    """Blocks that 8 processes hold while the bucket refills add nothing: a burst of all is at most the capacity."""
    limiters = [new_limiter("requests=100/second allotment 0.5", denial_ttl=0) for _ in range(8)]
    for limiter in limiters:
        await run(limiter, clock, 6, 0.0005)
    clock.advance(0.4)
    burst = sum([await run(limiter, clock, 60, 0) for limiter in limiters])
    assert 40 <= burst <= 100


async def test_in_the_long_run_processes_get_the_rate(new_limiter: Any, clock: FakeClock) -> None:
    """Over a long time two processes are allowed the capacity and the refill, and no more."""
    limiters = [new_limiter("requests=100/second allotment 0.2", denial_ttl=0) for _ in range(2)]
    started, allowed = clock(), 0
    for _ in range(300):
        for limiter in limiters:
            allowed += bool(await limiter.try_acquire("user"))
        clock.advance(0.005)
    seconds = (clock() - started) / 10**9
    assert 0.8 * 100 * seconds <= allowed <= 100 + 100 * seconds


async def test_what_is_not_spent_in_time_is_lost(new_limiter: Any, clock: FakeClock) -> None:
    """Units of a block die with its allotment, and come back by refill only, also after a close."""
    limiter, other = new_limiter("requests=1000/hour allotment 1"), new_limiter("requests=1000/hour allotment 1")
    assert await run(limiter, clock, 30, 0.001) == 30
    available = (await other.check("user")).statuses[0].available
    assert available < 969
    clock.advance(0.999)
    assert await limiter.try_acquire("user")
    await limiter.close()
    assert (await other.check("user")).statuses[0].available <= available


async def test_units_of_a_quota_in_a_block_go_back_whole(new_limiter: Any, clock: FakeClock) -> None:
    """Beside a rate with an allotment a quota is taken in advance too; the rest goes back with the next write, or at close."""
    limits = "requests=1000/second allotment 0.5", "tokens=100000/day in UTC"
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    assert await run(limiter, clock, 35, 0.001) == 35
    assert (await other.check("user")).statuses[1].available < 100_000 - 35
    clock.advance(1)
    assert await limiter.try_acquire("user")
    await limiter.close()
    assert (await other.check("user")).statuses[1].available == 100_000 - 36


async def test_a_block_does_not_outlive_the_period_of_a_quota(new_limiter: Any, clock: FakeClock) -> None:
    """Units that were counted on one day are not spent on the next."""
    limits = "requests=1000/second allotment 0.5", "tokens=100/day in UTC"
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    clock.advance(86_399.9 - clock() % (86_400 * 10**9) / 10**9)
    assert await run(limiter, clock, 30, 0.0001) == 30
    clock.advance(0.1)
    assert await run(limiter, clock, 101, 0.0001) == 100
    assert (await other.check("user")).statuses[1].available == 0


async def test_many_quotas_are_given_back_by_and_by(new_limiter: Any, repository: Any) -> None:
    """However many buckets something is held of, `close` writes to some at a time, and to all."""
    limits = "requests=100/hour allotment 60", "tokens=100/day in UTC"
    limiter = new_limiter(*limits)
    users = [f"user-{number}" for number in range(80)]
    for user in users:
        for _ in range(4):
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
    other = new_limiter(*limits)
    assert {(await other.check(user)).statuses[1].available for user in users} == {96}


async def test_a_lease_paid_from_a_block_is_refunded_like_any_other(new_limiter: Any, clock: FakeClock) -> None:
    """What a failing body took goes back to the bucket."""
    limiter, other = new_limiter("requests=1000/hour allotment 1"), new_limiter("requests=1000/hour allotment 1", denial_ttl=0)
    assert await run(limiter, clock, 100, 0.001) == 100
    before = (await other.check("user")).statuses[0].available
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            async with limiter.acquire("user", consume={"requests": 1}):
                raise ZeroDivisionError
    assert (await other.check("user")).statuses[0].available == before + 5


async def test_units_for_a_call_that_is_refused_elsewhere_go_back_into_the_block(
    new_limiter: Any, repository: Any, clock: FakeClock
) -> None:
    """A refusal of another bucket costs no units of the block, and writes nothing to its bucket."""
    limiter = new_limiter("requests=1000/hour allotment 10")
    assert await run(limiter, clock, 3, 0.001) == 3
    await new_limiter("requests=1000/hour allotment 10").try_acquire("other", consume={"requests": 990})
    before = (await limiter.check("user")).statuses[0].available
    for _ in range(20):
        assert not await limiter.try_acquire("user", also=[("other", "default", {"requests": 50})])
    assert (await limiter.check("user")).statuses[0].available == before
    repository.take()
    assert await limiter.try_acquire("user")
    assert repository.take() == {}


async def test_a_block_is_no_way_past_a_debt(new_limiter: Any, clock: FakeClock) -> None:
    """While the bucket is in debt, no caller is allowed by a block; afterwards it is spent again."""
    limiter = new_limiter("requests=100/hour allotment 60")
    assert await run(limiter, clock, 20, 0.001) == 20
    async with limiter.acquire("user") as lease:
        await lease.adjust(requests=500)
        assert await run(limiter, clock, 10, 0.001) == 0
        await lease.adjust(requests=-500)
    assert await run(limiter, clock, 10, 0.001) == 10


async def test_a_change_of_limits_ends_the_blocks(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """Units that were taken under other numbers are not spent by those who ask under new ones."""
    limiter = new_limiter(denial_ttl=0)
    first, second = Limit.per_hour("requests", 1000, allotment=10), Limit.per_hour("requests", 900, allotment=10)
    for _ in range(20):
        await limiter.try_acquire("user", limits=[first])
        clock.advance(0.001)
    repository.take()
    assert await limiter.try_acquire("user", limits=[second])
    assert repository.take()["write_bucket"] == 1


async def test_callers_who_leave_headroom_have_blocks_of_their_own(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """What others took is not spent by a caller who leaves more to others."""
    limiter = new_limiter("requests=1000/hour allotment 10")
    assert await run(limiter, clock, 20, 0.001) == 20
    repository.take()
    assert await limiter.try_acquire("user", headroom=0.2)
    assert repository.take()["write_bucket"] == 1


async def test_blocks_are_taken_of_what_is_asked_for_now(new_limiter: Any, clock: FakeClock) -> None:
    """A limit without requests since is not taken in advance any more."""
    limits = "requests=100000/second allotment 0.1", "tokens=100000/second allotment 0.1"
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    for _ in range(50):
        await limiter.try_acquire("user", consume={"requests": 1, "tokens": 100})
        clock.advance(0.005)
    clock.advance(5)
    await limiter.try_acquire("user", consume={"requests": 1})
    assert (await other.check("user", consume={"tokens": 0})).statuses[0].available == 90_000


async def test_a_process_that_falls_silent_leaves_at_most_its_block_unused(new_limiter: Any, clock: FakeClock) -> None:
    """What it has not spent refills like what others have used, and nothing is added."""
    limiter = new_limiter("requests=100/hour allotment 1")
    other = new_limiter("requests=100/hour allotment 1", denial_ttl=0)
    assert await run(limiter, clock, 30, 0.001) == 30
    clock.advance(2)
    assert 50 <= await run(other, clock, 80, 0) < 70
    clock.advance(3_600)
    await limiter.close()
    assert (await other.check("user")).statuses[0].available == 99


async def test_an_oversize_request_is_not_paid_from_a_block(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """It needs the whole bucket, which only a write can tell."""
    limiter = new_limiter("requests=10/second burst 100 allotment 2")
    await run(limiter, clock, 5, 0.001)
    repository.take()
    assert await limiter.try_acquire("user", consume={"requests": 1}, oversize=True)
    assert repository.take()["write_bucket"] == 1


async def test_a_block_whose_answer_was_lost_lives_from_the_first_attempt_on(
    new_limiter: Any, repository: Any, clock: FakeClock
) -> None:
    """A write that is sent again under its stamp may be the first one, so the age of its block counts from there."""
    limiter = new_limiter("requests=100000/minute allotment 0.1", decision_timeout=30.0)
    write, late = repository.inner.write_bucket, [0.08]

    async def write_bucket(*arguments: Any) -> Any:
        if late:
            clock.advance(late.pop())
            raise RateLimiterUnavailable("no answer", unsent=False)
        return await write(*arguments)

    assert await run(limiter, clock, 50, 0.001) == 50
    clock.advance(0.2)
    assert await run(limiter, clock, 50, 0.001) == 50
    repository.inner.write_bucket = write_bucket
    clock.advance(0.1)
    assert await limiter.try_acquire("user")
    assert not late
    clock.advance(0.015)
    repository.take()
    assert await run(limiter, clock, 1, 0.0) == 1
    assert repository.take() == {}
    clock.advance(0.005)
    assert await run(limiter, clock, 1, 0.0) == 1
    assert repository.take()["write_bucket"] == 1
