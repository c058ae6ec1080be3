# twin: ../sync/test_waiting.py
"""Waiting for one's turn: booked by one write, first come, first served.

The test of `limiter.commit.charge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, RateLimiterUnavailable, RateLimitExceeded

if TYPE_CHECKING:
    from support.engines import FakeClock


class Interruption(BaseException):
    """What interrupts a caller that waits."""


@pytest.fixture
def interrupted_limiter(new_limiter: Any) -> RateLimiter:
    """A limiter whose callers are interrupted as soon as they wait."""

    async def sleep(seconds: float) -> None:
        raise Interruption

    limiter: RateLimiter = new_limiter("requests=1/second", sleep=sleep)
    return limiter


@pytest.fixture
def booking_limiter(new_limiter: Any) -> RateLimiter:
    """A limiter whose callers go on at once, so that one test can book several starts; `waited` tells when each may start."""

    async def sleep(seconds: float) -> None:
        pass

    limiter: RateLimiter = new_limiter("requests=1/second", sleep=sleep)
    return limiter


async def booked(limiter: RateLimiter, **options: Any) -> float:
    """Seconds from now to the start that an acquire books."""
    async with limiter.acquire("user", timeout=60, **options) as lease:
        return lease.waited


async def test_a_caller_that_is_willing_waits_until_its_turn(new_limiter: Any, clock: FakeClock) -> None:
    """The wait is exactly until the units have refilled, and costs one write."""
    limiter = new_limiter("requests=6/minute burst 1")
    started = clock()
    assert await limiter.try_acquire("user")
    async with limiter.acquire("user", timeout=10) as lease:
        assert lease.waited == 10.0
    assert clock() - started == 10 * 10**9


class SlowReads:
    """A repository whose stored limits take half a second to read, and cannot be read while it has an error."""

    def __init__(self, inner: Any, clock: FakeClock) -> None:
        self.inner, self.clock = inner, clock
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def open(self) -> None:
        await self.inner.open()

    async def read_records(self, *arguments: Any) -> Any:
        self.clock.advance(0.5)
        if self.error is not None:
            raise self.error
        return await self.inner.read_records(*arguments)


@pytest.mark.parametrize(("willing", "allowed"), [(0.4, False), (0.9, False), (1.0, True), (5.0, True)])
async def test_a_timeout_counts_the_reading_of_limits(
    new_limiter: Any, repository: Any, clock: FakeClock, willing: float, allowed: bool
) -> None:
    """A caller starts within its timeout from the call on, or not at all."""
    assert await new_limiter("requests=1/second").try_acquire("user")

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    limits = [Limit.parse("requests=1/second")]
    limiter = RateLimiter(SlowReads(repository, clock), limits, sleep=sleep, decision_timeout=60.0)
    began = clock()
    assert bool(await limiter.try_acquire("user", timeout=willing)) is allowed
    assert clock() - began == (10**9 if allowed else 5 * 10**8)


@pytest.mark.parametrize(("willing", "allowed"), [(0.9, False), (1.0, True)])
async def test_a_timeout_counts_the_reading_that_failed(
    new_limiter: Any, repository: Any, clock: FakeClock, willing: float, allowed: bool
) -> None:
    """Without the table, too, what has passed is not waited again."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    slow = SlowReads(repository, clock)
    limiter = RateLimiter(slow, on_unavailable="local", sleep=sleep, config_ttl=0, decision_timeout=60.0)
    slow.error = RateLimiterUnavailable("no table")
    limits = [Limit.parse("requests=1/second")]
    assert await limiter.try_acquire("user", limits=limits)
    assert bool(await limiter.try_acquire("user", limits=limits, timeout=willing)) is allowed


async def test_a_wait_that_cannot_fit_is_refused_at_once_and_costs_nothing(new_limiter: Any, clock: FakeClock) -> None:
    """No caller waits in vain, and a refused wait delays no other caller."""
    limiter = new_limiter("requests=6/minute burst 1")
    assert await limiter.try_acquire("user")
    before = clock()
    with pytest.raises(RateLimitExceeded) as refusal:
        async with limiter.acquire("user", timeout=9.9):
            pass
    assert clock() == before
    assert refusal.value.retry_after == 10.0
    assert (await limiter.check("user")).retry_after == 10.0


async def test_starts_are_booked_first_come_first_served(booking_limiter: RateLimiter) -> None:
    """Each booking starts one interval after the one before."""
    assert [await booked(booking_limiter) for _ in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_try_acquire_waits_as_well(new_limiter: Any, clock: FakeClock) -> None:
    """A decision with a timeout comes when the turn has come."""
    limiter = new_limiter("requests=1/second")
    before = clock()
    assert await limiter.try_acquire("user")
    assert await limiter.try_acquire("user", timeout=1)
    assert not await limiter.try_acquire("user", timeout=0.5)
    assert clock() - before == 10**9


async def test_no_caller_overtakes_those_who_wait(booking_limiter: RateLimiter, clock: FakeClock) -> None:
    """A newcomer that does not wait is refused while a booked start lies ahead."""
    assert [await booked(booking_limiter) for _ in range(3)] == [0.0, 1.0, 2.0]
    clock.advance(1.0)
    assert not await booking_limiter.try_acquire("user")
    clock.advance(2.0)
    assert await booking_limiter.try_acquire("user")


async def test_an_interrupted_wait_gives_the_last_booking_back(interrupted_limiter: RateLimiter) -> None:
    """A wait that no later one was built on is undone completely."""
    assert await interrupted_limiter.try_acquire("user")
    for _ in range(3):
        with pytest.raises(Interruption):
            await booked(interrupted_limiter)
    assert (await interrupted_limiter.check("user")).retry_after == 1.0


async def test_a_refund_does_not_put_two_callers_on_one_start(booking_limiter: RateLimiter, clock: FakeClock) -> None:
    """With bookings at 1 s and 2 s, giving back the first does not move a newcomer onto the second."""
    with pytest.raises(Interruption):
        async with booking_limiter.acquire("user"):
            assert [await booked(booking_limiter) for _ in range(2)] == [1.0, 2.0]
            raise Interruption
    assert await booked(booking_limiter) == 3.0


async def test_refunds_are_whole_again_once_the_bookings_have_started(booking_limiter: RateLimiter, clock: FakeClock) -> None:
    """A booking in the past holds nothing back."""
    assert [await booked(booking_limiter) for _ in range(3)] == [0.0, 1.0, 2.0]
    clock.advance(3.0)
    with pytest.raises(Interruption):
        async with booking_limiter.acquire("user"):
            raise Interruption
    assert await booking_limiter.try_acquire("user")


async def test_a_debt_is_waited_for_by_callers_of_unknown_cost(booking_limiter: RateLimiter) -> None:
    """An amount of 0 waits until the debt is paid, and takes nothing."""
    async with booking_limiter.acquire("user") as lease:
        await lease.adjust(requests=5)
    assert [await booked(booking_limiter, consume={"requests": 0}) for _ in range(2)] == [5.0, 5.0]
