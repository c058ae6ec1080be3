# twin: ../sync/test_bucket_control.py
"""Buckets changed from outside a lease: corrections, resets, pauses; and requests that leave room or exceed a capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    UNLIMITED,
    Concurrency,
    Limit,
    MemoryRepository,
    NeverSatisfiable,
    Quota,
    RateLimiter,
    RateLimitExceeded,
    ValidationError,
)

if TYPE_CHECKING:
    from support.engines import FakeClock


async def left(limiter: Any, name: str = "requests") -> int:
    """What the user's bucket has left of a limit."""
    statuses = (await limiter.check("user", "api", {name: 0})).statuses
    return int(statuses[0].available)


async def test_a_correction_from_outside_takes_and_gives_back(new_limiter: Any) -> None:
    """Positive units are charged into debt, negative ones are given back until the bucket is full."""
    limiter = new_limiter("requests=10/day")
    await limiter.adjust("user", "api", {"requests": 14})
    assert await left(limiter) == -4
    await limiter.adjust("user", "api", {"requests": -6})
    assert await left(limiter) == 2
    await limiter.adjust("user", "api", {"requests": -100})
    assert await left(limiter) == 10
    with pytest.raises(ValidationError, match=r"unknown limit 'request'"):
        await limiter.adjust("user", "api", {"request": 1})


async def test_a_reset_makes_a_bucket_unused(new_limiter: Any) -> None:
    """All limits of the bucket are as new, or those that are named; a lease from before gives nothing back."""
    limiter = new_limiter("requests=10/day", "tokens=100/day in UTC")
    async with limiter.acquire("user", "api", {"requests": 4, "tokens": 30}) as lease:
        await limiter.reset("user", "api", ["requests"])
        assert (await left(limiter), await left(limiter, "tokens")) == (10, 70)
        await limiter.reset("user", "api")
        assert (await left(limiter), await left(limiter, "tokens")) == (10, 100)
        await limiter.adjust("user", "api", {"requests": 3, "tokens": 3})
        await lease.release({"requests": 4, "tokens": 30})
    assert (await left(limiter), await left(limiter, "tokens")) == (7, 97)
    with pytest.raises(ValidationError, match="list of limit names"):
        await limiter.reset("user", "api", "requests")


async def test_a_paused_bucket_admits_no_caller(new_limiter: Any, clock: FakeClock) -> None:
    """In no process, until the pause is over or ended; refusals tell at least the rest of the pause."""
    limiter, other = new_limiter("requests=10/minute"), new_limiter("requests=10/minute")
    await limiter.pause("user", "api", 30)
    decision = await other.try_acquire("user", "api")
    assert not decision.allowed
    assert decision.retry_after is not None
    assert decision.retry_after >= 30
    assert (await other.check("user", "api")).statuses[0].exceeded
    assert await other.try_acquire("user", "another")
    clock.advance(30)
    assert await other.try_acquire("user", "api")
    await limiter.pause("user", "api", 1_000)
    assert not await limiter.try_acquire("user", "api")
    await limiter.pause("user", "api", 0)
    assert await limiter.try_acquire("user", "api")


async def test_a_caller_waits_for_the_next_period_of_a_quota(new_limiter: Any, clock: FakeClock) -> None:
    """With a timeout it sleeps until the period begins, and asks again; a wait that cannot be in time is refused at once."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    limiter = new_limiter("requests=2/hour in UTC", sleep=sleep)
    assert await limiter.try_acquire("user", "api", {"requests": 2})
    with pytest.raises(RateLimitExceeded):
        async with limiter.acquire("user", "api", timeout=1):
            pass
    assert slept == []
    async with limiter.acquire("user", "api", timeout=2 * 3_600) as lease:
        assert lease.waited == sum(slept)
    assert 0 < len(slept) <= 2
    assert await left(limiter) == 1


async def test_headroom_is_left_to_others(new_limiter: Any) -> None:
    """A request with headroom is refused where only the reserve is left, which others may use."""
    limiter = new_limiter("requests=10/day")
    assert await limiter.try_acquire("user", "api", {"requests": 8}, headroom=0.2)
    assert not await limiter.try_acquire("user", "api", headroom={"requests": 0.2})
    assert await limiter.try_acquire("user", "api", {"requests": 2})
    with pytest.raises(NeverSatisfiable):
        async with limiter.acquire("user", "api", {"requests": 9}, headroom=0.2):
            pass
    for bad in (1, -0.1, "0.2"):
        with pytest.raises(ValidationError, match="headroom"):
            await limiter.try_acquire("user", "api", headroom=bad)


async def test_oversize_is_admitted_when_the_bucket_is_full(new_limiter: Any, clock: FakeClock) -> None:
    """An amount above the capacity goes into debt; it is refused while anything is used."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.try_acquire("user", "api", {"requests": 25}, oversize=True)
    assert await left(limiter) == -15
    assert not await limiter.try_acquire("user", "api", {"requests": 25}, oversize=True)
    clock.advance(150)
    assert await limiter.try_acquire("user", "api", {"requests": 25}, oversize=True)
    with pytest.raises(ValidationError, match="headroom"):
        await limiter.try_acquire("user", "api", {"requests": 1}, oversize=True, headroom=0.1)
    with pytest.raises(ValidationError, match="oversize must be True or False"):
        await limiter.try_acquire("user", "api", {"requests": 1}, oversize="no")


async def test_nothing_is_counted_under_unlimited(new_limiter: Any) -> None:
    """Changes of an unlimited bucket do nothing."""
    limiter = new_limiter()
    limiter.limits = UNLIMITED
    await limiter.adjust("user", "api", {"requests": 5})
    await limiter.reset("user", "api")
    await limiter.pause("user", "api", 60)
    assert await limiter.try_acquire("user", "api")


async def test_slots_are_not_adjusted_from_outside() -> None:
    """A slot is held by a lease, so that no correction from outside can give it back."""
    limiter = RateLimiter(MemoryRepository(), [Concurrency("calls", 20)])
    with pytest.raises(ValidationError, match="slots of 'calls' cannot be adjusted"):
        await limiter.adjust("user", "api", {"calls": -1})


@pytest.mark.parametrize(
    "limit", [Limit.per_day("requests", 5), Quota.per_day("requests", 5), Quota.total("requests", 5)], ids=str
)
async def test_every_kind_is_corrected_and_reset(new_limiter: Any, limit: Any) -> None:
    """Corrections, resets and pauses are the same for rates, quotas and totals."""
    limiter = new_limiter(str(limit))
    assert await limiter.try_acquire("user", "api", {"requests": 5})
    assert not await limiter.try_acquire("user", "api")
    await limiter.adjust("user", "api", {"requests": -2})
    assert await left(limiter) == 2
    await limiter.reset("user", "api")
    assert await left(limiter) == 5
    await limiter.pause("user", "api", 60)
    assert not await limiter.try_acquire("user", "api")


async def test_a_pause_holds_shadows_back_as_well(new_limiter: Any, clock: FakeClock) -> None:
    """A call that asks of shadows alone is refused while their bucket is paused, and every answer says so and until when."""
    limiter = new_limiter("tokens=5/second shadow", "requests=5/second")
    await limiter.pause("user", "api", 30.0)
    asked = "user", "api", {"tokens": 3}
    decision = await limiter.try_acquire(*asked)
    assert (decision.allowed, decision.retry_after) == (False, 30.0)
    assert await limiter.check(*asked) == decision
    with pytest.raises(RateLimitExceeded, match=r"tokens=5/second shadow on user/api") as refused:
        await limiter.acquire(*asked).__aenter__()
    assert (refused.value.retry_after, [each.limit.name for each in refused.value.violations]) == (30.0, ["tokens"])
    clock.advance(30.0)
    assert await limiter.try_acquire(*asked)


async def test_a_look_leaves_headroom_and_admits_oversize_as_an_acquire_does(new_limiter: Any) -> None:
    """What an acquire with the same options would be told, a check tells."""
    limiter = new_limiter("tokens=10/second")
    await limiter.try_acquire("user", "api", {"tokens": 8})
    assert await limiter.check("user", "api", {"tokens": 2})
    assert (await limiter.check("user", "api", {"tokens": 1}, headroom=0.2)).retry_after == pytest.approx(0.1)
    assert (await limiter.check("user", "api", {"tokens": 9}, headroom=0.2)).retry_after is None
    assert (await limiter.check("user", "api", {"tokens": 11}, oversize=True)).retry_after == pytest.approx(0.8)
    assert (await limiter.check("user", "api", {"tokens": 11})).retry_after is None
