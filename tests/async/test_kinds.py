# twin: ../sync/test_kinds.py
"""Kinds of limits, alone and together: one conditional write decides them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, NeverSatisfiable, Quota, RateLimitExceeded

if TYPE_CHECKING:
    from support.engines import FakeClock

HOUR = 3_600.0
RATE, QUOTA = Limit.per_minute("requests", 100), Quota.per_day("tokens", 10)
SESSION, TOTAL = Quota.session("messages", 10, 5 * HOUR), Quota.total("credits", 10)
SHADOW = Limit.per_minute("watched", 2, enforce=False)


def until_midnight(clock: FakeClock) -> float:
    """Seconds to the end of the day in UTC."""
    return float(86_400 - clock() % (86_400 * 10**9) / 10**9)


async def test_a_quota_counts_to_the_end_of_its_period(new_limiter: Any, clock: FakeClock) -> None:
    """Ten units are admitted before midnight, the next after it, and the refusal says when that is."""
    limiter = new_limiter()
    for _ in range(10):
        assert await limiter.try_acquire("user", "api", limits=[QUOTA])
    refused = await limiter.try_acquire("user", "api", limits=[QUOTA])
    assert not refused
    assert refused.retry_after == pytest.approx(until_midnight(clock))
    assert refused.statuses[0].available == 0
    clock.advance(until_midnight(clock))
    assert await limiter.try_acquire("user", "api", {"tokens": 10}, limits=[QUOTA])


async def test_the_start_of_a_period_is_told_exactly_and_waited_for_apart(new_limiter: Any, clock: FakeClock) -> None:
    """Each refusal tells the period's start; those who wait for it wake at different times within a second after it."""
    slept: list[float] = []

    class Asleep(Exception):
        """Ends the wait."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise Asleep

    limiter, start = new_limiter(sleep=sleep), until_midnight(clock)
    assert await limiter.try_acquire("user", "api", {"tokens": 10}, limits=[QUOTA])
    for _ in range(10):
        refused = await limiter.try_acquire("user", "api", limits=[QUOTA])
        assert refused.retry_after == pytest.approx(start, abs=1e-6)
        with pytest.raises(Asleep):
            async with limiter.acquire("user", "api", limits=[QUOTA], timeout=2 * start):
                pass
    assert all(start < seconds <= start + 1 for seconds in slept)
    assert len(set(slept)) > 1


async def test_a_session_begins_with_the_first_use(new_limiter: Any, clock: FakeClock) -> None:
    """Its end is its length after that; a call that failed has not begun it."""
    limiter = new_limiter()
    with pytest.raises(KeyError):
        async with limiter.acquire("user", "api", limits=[SESSION]):
            raise KeyError
    clock.advance(HOUR)
    assert await limiter.try_acquire("user", "api", {"messages": 10}, limits=[SESSION])
    assert (await limiter.try_acquire("user", "api", limits=[SESSION])).retry_after == 5 * HOUR
    clock.advance(5 * HOUR)
    assert await limiter.try_acquire("user", "api", limits=[SESSION])


async def test_a_total_does_not_come_back(new_limiter: Any, clock: FakeClock) -> None:
    """What is used stays used; a larger one is how more is sold."""
    limiter = new_limiter()
    assert await limiter.try_acquire("user", "api", {"credits": 10}, limits=[TOTAL])
    clock.advance(400 * 24 * HOUR)
    refused = await limiter.try_acquire("user", "api", limits=[TOTAL])
    assert not refused
    assert refused.retry_after is None
    assert refused.statuses[0].reset_after is None
    assert await limiter.try_acquire("user", "api", {"credits": 5}, limits=[Quota.total("credits", 15)])
    with pytest.raises(NeverSatisfiable):
        await limiter.acquire("user", "api", {"credits": 11}, limits=[TOTAL]).__aenter__()


async def test_a_shadow_refuses_no_caller(new_limiter: Any) -> None:
    """Every call is allowed, and the statuses say which would not have been."""
    limiter = new_limiter()
    decisions = [await limiter.try_acquire("user", "api", limits=[SHADOW]) for _ in range(4)]
    assert all(decisions)
    assert [decision.statuses[0].exceeded for decision in decisions] == [False, False, True, True]
    assert [decision.retry_after for decision in decisions] == [0.0] * 4
    assert (await limiter.check("user", "api", limits=[SHADOW])).statuses[0].exceeded


async def test_a_mixture_is_one_write(new_limiter: Any, repository: Any) -> None:
    """A rate, a quota, a session, a total and a shadow of one bucket are decided by one conditional write each time."""
    limiter = new_limiter(stored := "requests=100/minute")
    assert stored
    mixture = [RATE, QUOTA, SESSION, TOTAL, SHADOW]
    assert await limiter.try_acquire("user", "api", limits=mixture)
    repository.take()
    for _ in range(3):
        decision = await limiter.try_acquire("user", "api", limits=mixture)
        assert decision
        assert repository.take() == {"write_bucket": 1}
    assert [status.available for status in decision.statuses] == [96, 6, 6, 6, 0]
    assert [status.exceeded for status in decision.statuses] == [False, False, False, False, True]


async def test_all_kinds_are_taken_or_none(new_limiter: Any) -> None:
    """When one of them has too little left, nothing is taken of the others, and the error names that one."""
    limiter = new_limiter()
    mixture = [RATE, QUOTA, SESSION, TOTAL, SHADOW]
    assert await limiter.try_acquire("user", "api", {"credits": 9}, limits=mixture)
    with pytest.raises(RateLimitExceeded) as refused:
        async with limiter.acquire("user", "api", {"requests": 2, "tokens": 2, "credits": 2, "watched": 2}, limits=mixture):
            raise AssertionError("never")
    assert [status.limit for status in refused.value.violations] == [TOTAL]
    seen = (await limiter.check("user", "api", limits=mixture)).statuses
    assert [status.available for status in seen] == [100, 10, 10, 1, 2]


async def test_a_lease_corrects_every_kind(new_limiter: Any) -> None:
    """More is taken, some is given back, and a failed block gives back the rest."""
    limiter = new_limiter()
    mixture = [RATE, QUOTA, SESSION, TOTAL]
    every = {"requests": 2, "tokens": 2, "messages": 2, "credits": 2}
    with pytest.raises(KeyError):
        async with limiter.acquire("user", "api", every, limits=mixture) as lease:
            await lease.adjust(every)
            await lease.release(dict.fromkeys(every, 1))
            seen = (await limiter.check("user", "api", limits=mixture)).statuses
            assert [status.available for status in seen] == [97, 7, 7, 7]
            raise KeyError
    seen = (await limiter.check("user", "api", limits=mixture)).statuses
    assert [status.available for status in seen] == [100, 10, 10, 10]


async def test_units_survive_a_change_of_rate(new_limiter: Any, clock: FakeClock) -> None:
    """A customer who has used the day's units is admitted a second after an upgrade, in any process."""
    limiter, other = new_limiter(), new_limiter()
    daily, minutely = Limit.per_day("requests", 100), Limit.per_minute("requests", 100)
    assert await limiter.try_acquire("user", "api", {"requests": 100}, limits=[daily])
    assert not await limiter.try_acquire("user", "api", limits=[daily])
    assert not await other.try_acquire("user", "api", limits=[minutely])
    clock.advance(1.0)
    assert await other.try_acquire("user", "api", limits=[minutely])
    assert not await other.try_acquire("user", "api", {"requests": 100}, limits=[minutely])
