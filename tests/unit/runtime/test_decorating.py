"""Decorated functions keep their kind, and generators everything that can be done with one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter, ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

LIMITS = [Limit.parse("requests=10/hour")]


@pytest.fixture
def limiter() -> RateLimiter:
    """An asynchronous limiter."""
    return RateLimiter(MemoryRepository(), LIMITS)


@pytest.fixture
def sync_limiter() -> SyncRateLimiter:
    """A synchronous limiter."""
    return SyncRateLimiter(SyncMemoryRepository(), LIMITS)


class Told(Exception):
    """What is thrown into a generator."""


def echo() -> Generator[object, object, str]:
    """Yield what was sent or thrown in, until "end" comes."""
    item: object = "ready"
    while item != "end":
        try:
            item = yield item
        except Told:
            item = "told"
    return "ended"


async def echo_later() -> AsyncGenerator[object, object]:
    """Yield what was sent or thrown in, until "end" comes."""
    item: object = "ready"
    while item != "end":
        try:
            item = yield item
        except Told:
            item = "told"


def test_a_generator_takes_what_is_sent_and_thrown_and_returns_its_value(sync_limiter: SyncRateLimiter) -> None:
    """The decorated generator is the generator, to its caller and to itself."""
    generator = sync_limiter.limited("user")(echo)()
    assert inspect.isgenerator(generator)
    assert [next(generator), generator.send("a"), generator.throw(Told())] == ["ready", "a", "told"]
    with pytest.raises(StopIteration) as end:
        generator.send("end")
    assert end.value.value == "ended"
    assert sync_limiter.check("user").statuses[0].available == 9


async def test_an_async_generator_takes_what_is_sent_and_thrown(limiter: RateLimiter) -> None:
    """The decorated generator is the generator, to its caller and to itself."""
    generator = limiter.limited("user")(echo_later)()
    assert inspect.isasyncgen(generator)
    assert [await anext(generator), await generator.asend("a"), await generator.athrow(Told())] == ["ready", "a", "told"]
    with pytest.raises(StopAsyncIteration):
        await generator.asend("end")
    assert (await limiter.check("user")).statuses[0].available == 9


def test_a_generator_that_is_closed_gives_back_unless_told_otherwise(sync_limiter: SyncRateLimiter) -> None:
    """A client that hangs up closes the generator, which is an error as any other."""
    for policy, left in ((True, 10), (Exception, 9)):
        generator = sync_limiter.limited("user", refund_on_error=policy)(echo)()
        next(generator)
        assert sync_limiter.check("user").statuses[0].available == 9
        generator.close()
        assert sync_limiter.check("user").statuses[0].available == left


async def test_an_async_generator_that_is_closed_gives_back_unless_told_otherwise(limiter: RateLimiter) -> None:
    """A client that hangs up closes the generator, and with it the function's own, which cleans up first."""
    ended = []

    async def stream() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            ended.append((await limiter.check("user")).statuses[0].available)

    for policy, left in ((True, 10), (Exception, 9)):
        generator = limiter.limited("user", refund_on_error=policy)(stream)()
        assert await anext(generator) == 1
        await generator.aclose()
        assert (await limiter.check("user")).statuses[0].available == left
    assert ended == [9, 9]


def test_every_function_keeps_its_kind(limiter: RateLimiter, sync_limiter: SyncRateLimiter) -> None:
    """What frameworks ask of a function is answered as before."""

    async def coroutine(user: str) -> None: ...

    def plain(user: str) -> None: ...

    assert inspect.iscoroutinefunction(limiter.limited()(coroutine))
    assert inspect.isasyncgenfunction(limiter.limited()(echo_later))
    assert inspect.isgeneratorfunction(sync_limiter.limited()(echo))
    assert not inspect.iscoroutinefunction(sync_limiter.limited()(plain))
    assert inspect.signature(sync_limiter.limited()(plain)) == inspect.signature(plain)


def test_each_limiter_decorates_functions_of_its_kind(limiter: Any, sync_limiter: Any) -> None:
    """The error names the limiter that fits."""
    for function in (echo, lambda: None):
        with pytest.raises(ValidationError, match=r"decorate it with SyncRateLimiter\.limited"):
            limiter.limited()(function)

    async def coroutine() -> None: ...

    for function in (echo_later, coroutine):
        with pytest.raises(ValidationError, match=r"decorate it with RateLimiter\.limited"):
            sync_limiter.limited()(function)


def test_a_decorator_without_parentheses_is_an_error_that_shows_them(limiter: Any, sync_limiter: Any) -> None:
    """Where the function alone tells it, at once; otherwise at the first call, which passes something else than a function."""

    async def coroutine() -> None: ...

    for bare, function in ((limiter, coroutine), (limiter, echo_later), (sync_limiter, echo), (sync_limiter, coroutine)):
        with pytest.raises(ValidationError, match=r"with parentheses, as in @limiter\.limited\(\)"):
            bare.limited(function)

    @sync_limiter.limited
    def search(*words: str) -> None: ...

    for arguments in ((), ("cats",), ("cats", "dogs")):
        with pytest.raises(ValidationError, match=r"with parentheses, as in @limiter\.limited\(\)"):
            search(*arguments)
