# twin: ../sync/test_lease.py
"""Leases: corrections, refunds, and their end.

The test of `limiter.core.refund_policy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import LeaseClosed, NeverSatisfiable, RateLimitExceeded, ValidationError

if TYPE_CHECKING:
    from support.engines import FakeClock


class Failure(Exception):
    """What goes wrong in a body."""


class Interruption(BaseException):
    """What interrupts a body, as a KeyboardInterrupt would."""


async def left(limiter: Any, name: str = "tokens") -> int:
    """Units available now."""
    return next(status.available for status in (await limiter.check("user", "model")).statuses if status.limit.name == name)


async def test_a_lease_tells_what_it_holds(new_limiter: Any) -> None:
    """The lease shows entity, resource, amounts and statuses."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    async with limiter.acquire("user", "model", {"requests": 1, "tokens": 40}) as lease:
        assert (lease.entity_id, lease.resource, dict(lease.consumed)) == ("user", "model", {"requests": 1, "tokens": 40})
        assert [status.available for status in lease.statuses] == [9, 60]
        assert (lease.waited, lease.degraded) == (0.0, False)


async def test_adjusting_up_and_down_settles_the_difference(new_limiter: Any) -> None:
    """After the block the bucket is as if the right amount had been taken."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
        await lease.adjust(tokens=+30)
        await lease.adjust({"tokens": -60})
        assert lease.consumed["tokens"] == 20
    assert await left(limiter) == 80


async def test_adjusting_may_go_into_debt_which_is_paid_by_time(new_limiter: Any, clock: FakeClock) -> None:
    """A settlement is written whether it fits or not, and nothing is admitted until it is paid."""
    limiter = new_limiter("tokens=60/minute")
    async with limiter.acquire("user", "model", {"tokens": 60}) as lease:
        await lease.adjust(tokens=100_000)
    assert await left(limiter) == -100_000
    clock.advance(100_000)
    assert await left(limiter) == 0
    clock.advance(1)
    assert await limiter.try_acquire("user", "model")


async def test_consuming_more_is_conditional(new_limiter: Any) -> None:
    """More is taken only if it fits; a refusal leaves the lease usable."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
        await lease.consume(tokens=30)
        with pytest.raises(RateLimitExceeded):
            await lease.consume(tokens=30)
        with pytest.raises(NeverSatisfiable):
            await lease.consume(tokens=101)
        await lease.consume(tokens=20)
        assert lease.consumed["tokens"] == 100
    assert await left(limiter) == 0


async def test_releasing_gives_back(new_limiter: Any) -> None:
    """Released units are available to others at once."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 100}) as lease:
        await lease.release(tokens=30)
        assert await left(limiter) == 30
    assert await left(limiter) == 30


async def test_no_more_is_given_back_than_is_held(new_limiter: Any) -> None:
    """Giving back more than was taken is an error and changes nothing."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 10}) as lease:
        with pytest.raises(ValidationError, match="holds 10"):
            await lease.release(tokens=11)
        with pytest.raises(ValidationError, match="holds 10"):
            await lease.adjust(tokens=-11)
        assert lease.consumed["tokens"] == 10
    assert await left(limiter) == 90


@pytest.mark.parametrize("error", [Failure, Interruption, KeyboardInterrupt, GeneratorExit, SystemExit])
async def test_a_failing_body_gets_everything_refunded(new_limiter: Any, error: type[BaseException]) -> None:
    """However the body ends, all that the lease took is given back, and the exception goes on unchanged."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    failure = error()
    with pytest.raises(error) as caught:
        async with limiter.acquire("user", "model", {"requests": 1, "tokens": 50}) as lease:
            await lease.adjust(tokens=200)
            await lease.adjust(tokens=-20)
            raise failure
    assert caught.value is failure
    assert (await left(limiter), await left(limiter, "requests")) == (100, 10)


async def test_a_charge_can_be_kept_on_error(new_limiter: Any) -> None:
    """With `refund_on_error=False` a failed body has used what it took."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"tokens": 50}, refund_on_error=False):
            raise Failure
    assert await left(limiter) == 50


class Mild(Failure):
    """A failure of a kind of its own."""


@pytest.mark.parametrize(
    ("policy", "error", "refunded"),
    [
        (Mild, Mild, True),
        (Mild, Failure, False),
        (Exception, Interruption, False),
        ((ValueError, Failure), Mild, True),
        ((ValueError, KeyError), Failure, False),
        ((), Failure, False),
        (lambda error: isinstance(error, Interruption), Interruption, True),
        (lambda error: isinstance(error, Interruption), Failure, False),
        (True, Interruption, True),
        (False, Failure, False),
    ],
)
async def test_errors_of_some_kinds_give_back(new_limiter: Any, policy: Any, error: type[BaseException], refunded: bool) -> None:
    """`refund_on_error` takes a type, a tuple of types or a function of the exception."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(error):
        async with limiter.acquire("user", "model", {"tokens": 50}, refund_on_error=policy):
            raise error
    assert await left(limiter) == (100 if refunded else 50)


async def test_a_block_that_ends_well_keeps_its_charge(new_limiter: Any) -> None:
    """A function that decides about errors is not asked without one."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}, refund_on_error=lambda error: True):
        pass
    assert await left(limiter) == 50


async def test_a_function_that_cannot_tell_keeps_the_charge(new_limiter: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error in `refund_on_error` is logged, and the block's own error goes on."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Interruption):
        async with limiter.acquire("user", "model", {"tokens": 50}, refund_on_error=lambda error: error.status >= 500):
            raise Interruption
    assert await left(limiter) == 50
    assert "refund_on_error raised" in caplog.text


@pytest.mark.parametrize("policy", [None, 1, "ValueError", int, ValueError(), (ValueError, "x"), [ValueError], (True,)])
async def test_nothing_else_decides_about_refunds(new_limiter: Any, policy: Any) -> None:
    """Any other value is an error that names the value and the accepted ones."""
    with pytest.raises(ValidationError, match=r"refund_on_error must be True, False, an exception type.*, not "):
        new_limiter("tokens=100/minute").acquire("user", "model", refund_on_error=policy)


async def test_what_is_held_can_be_kept(new_limiter: Any) -> None:
    """After `keep` a block that raises gives back only what was taken later."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Interruption):
        async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
            lease.keep()
            await lease.consume(tokens=20)
            await lease.adjust(tokens=+5)
            raise Interruption
    assert await left(limiter) == 50
    assert lease.consumed == {"tokens": 50}


async def test_keeping_makes_no_call(new_limiter: Any, repository: Any) -> None:
    """`keep` only notes what is held."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
        repository.take()
        lease.keep()
        assert repository.take() == {}


async def test_what_was_kept_can_be_corrected(new_limiter: Any) -> None:
    """A release after `keep` gives back, and what is left stays charged."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
            lease.keep()
            await lease.release(tokens=20)
            raise Failure
    assert await left(limiter) == 70
    assert lease.consumed == {"tokens": 30}


async def test_keeping_twice_keeps_all(new_limiter: Any) -> None:
    """The last `keep` counts."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
            lease.keep()
            await lease.consume(tokens=20)
            lease.keep()
            raise Failure
    assert await left(limiter) == 30


async def test_a_lease_that_has_ended_keeps_nothing(new_limiter: Any) -> None:
    """`keep` belongs inside the block, as every correction does."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model") as lease:
        pass
    with pytest.raises(LeaseClosed):
        lease.keep()


async def test_a_refund_is_nothing_once_the_bucket_has_been_full(new_limiter: Any, clock: FakeClock) -> None:
    """What had refilled by itself is not given back again."""
    limiter, other = new_limiter("tokens=100/minute"), new_limiter("tokens=100/minute")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"tokens": 50}):
            clock.advance(31)
            assert await other.try_acquire("user", "model", {"tokens": 80})
            raise Failure
    assert await left(other) == 20


async def test_a_refund_after_part_of_it_refilled_does_not_exceed_the_capacity(new_limiter: Any, clock: FakeClock) -> None:
    """Refund and refill together fill the bucket, and do not exceed its capacity."""
    limiter = new_limiter("tokens=100/minute")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"tokens": 50}):
            clock.advance(20)
            raise Failure
    assert await left(limiter) == 100
    assert await limiter.try_acquire("user", "model", {"tokens": 100})
    assert not await limiter.try_acquire("user", "model", {"tokens": 1})


async def test_a_slower_limit_is_refunded_when_a_faster_one_has_refilled(new_limiter: Any, clock: FakeClock) -> None:
    """Each limit of a lease is refunded by its own history."""
    limiter = new_limiter("requests=10/second", "tokens=100/hour")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "model", {"requests": 5, "tokens": 50}):
            clock.advance(10)
            assert await limiter.try_acquire("user", "model", {"requests": 3})
            raise Failure
    assert (await left(limiter), await left(limiter, "requests")) == (100, 7)


async def test_a_lease_is_closed_after_its_block(new_limiter: Any) -> None:
    """Every use after the end is an error and changes nothing."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
        pass
    for use in (lease.adjust, lease.consume, lease.release):
        with pytest.raises(LeaseClosed):
            await use(tokens=1)
    assert await left(limiter) == 50


@pytest.mark.parametrize("amount", [1.5, True, "1", None, 10**13])
async def test_bad_amounts_are_named(new_limiter: Any, amount: Any) -> None:
    """A lease takes integers of known limits only."""
    limiter = new_limiter("tokens=100/minute")
    async with limiter.acquire("user", "model", {"tokens": 50}) as lease:
        for use in (lease.adjust, lease.consume, lease.release):
            with pytest.raises(ValidationError, match="amount of 'tokens'"):
                await use(tokens=amount)
            with pytest.raises(ValidationError, match="unknown limit 'requests'"):
                await use(requests=1)
        for use in (lease.consume, lease.release):
            with pytest.raises(ValidationError, match="amount of 'tokens'"):
                await use(tokens=-1)
    assert await left(limiter) == 50
