# twin: ../sync/test_limited.py
"""Decorated functions and generators: what they are charged, and what they give back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimitExceeded, ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Failure(Exception):
    """What goes wrong in a body."""


async def left(limiter: Any) -> int:
    """Units available now."""
    return (await limiter.check("user", "model")).statuses[0].available


async def test_a_decorated_function_is_limited(new_limiter: Any) -> None:
    """Each call runs inside an acquire, whose arguments may depend on the call's."""
    limiter = new_limiter("tokens=10/minute")

    @limiter.limited(lambda user, size: user, "model", lambda user, size: {"tokens": size})
    async def call(user: str, size: int) -> str:
        """Call the model."""
        return f"{user}:{size}"

    assert await call("a", 10) == "a:10"
    assert await call("b", size=4) == "b:4"
    assert (call.__name__, call.__doc__) == ("call", "Call the model.")
    with pytest.raises(RateLimitExceeded):
        await call("a", 1)


async def test_a_decorated_function_waits_and_gives_back_as_it_is_told(new_limiter: Any) -> None:
    """The decorator takes the options of an acquire."""
    limiter = new_limiter("tokens=10/minute")
    limits = iter([Limit.parse("tokens=2/minute")])

    @limiter.limited("user", "model", limits=limits, timeout=30, refund_on_error=ValueError)
    async def call(error: Exception) -> None:
        raise error

    for error in (ValueError(), ValueError(), KeyError(), KeyError(), KeyError()):
        with pytest.raises(type(error)):
            await call(error)
    assert (await limiter.check("user", "model", limits=[Limit.parse("tokens=2/minute")])).statuses[0].available == 0


@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"on_unavailable": "maybe"}, {"limits": [1]}, {"refund_on_error": "no"}],
)
async def test_a_decorator_checks_its_options(new_limiter: Any, options: dict[str, Any]) -> None:
    """What no call could be made with is an error where the function is decorated."""
    with pytest.raises(ValidationError):
        new_limiter("tokens=10/minute").limited("user", "model", **options)


async def test_a_generator_holds_its_lease_until_its_end(new_limiter: Any) -> None:
    """Making a generator takes nothing; its iteration begins with the acquire, and its end keeps the charge."""
    limiter = new_limiter("tokens=10/minute")

    @limiter.limited("user", "model", {"tokens": 4})
    async def count(most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number

    counting = count(3)
    assert await left(limiter) == 10
    assert [number async for number in counting] == [0, 1, 2]
    assert await left(limiter) == 6
    assert [number async for number in count(0)] == []
    with pytest.raises(RateLimitExceeded):
        assert [number async for number in count(1)]


async def test_a_generator_that_fails_gives_back(new_limiter: Any) -> None:
    """A generator is as any other block: an error gives back, unless it is said that it shall not."""
    limiter = new_limiter("tokens=10/minute")

    async def fail() -> AsyncIterator[int]:
        yield 1
        raise Failure

    with pytest.raises(Failure):
        assert [number async for number in limiter.limited("user", "model", {"tokens": 4})(fail)()]
    assert await left(limiter) == 10
    with pytest.raises(Failure):
        assert [number async for number in limiter.limited("user", "model", {"tokens": 4}, refund_on_error=False)(fail)()]
    assert await left(limiter) == 6
