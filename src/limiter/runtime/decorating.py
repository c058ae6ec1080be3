# seam
"""Runs each call of a decorated function inside a context manager, in pairs.

A function keeps its kind: a coroutine function stays one, and so does a generator or an async generator function. The context
manager of a generator is entered when the iteration begins, and left when the generator ends or is closed.
"""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..core.validation import shown
from ..exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

F = TypeVar("F", bound="Callable[..., Any]")


def decorate(function: F, enter: Callable[[Any, Any], AbstractAsyncContextManager[object]]) -> F:
    """Wrap a coroutine function or an async generator function; `enter` gets the positional and the named arguments of a call."""
    if inspect.isasyncgenfunction(function):
        return cast("F", wraps(function)(_async_generator(function, enter)))
    if not inspect.iscoroutinefunction(function):
        raise ValidationError(f"{shown(function)} is not `async def`: decorate it with SyncRateLimiter.limited")
    return cast("F", wraps(function)(_coroutine(function, enter)))


def sync_decorate(function: F, enter: Callable[[Any, Any], AbstractContextManager[object]]) -> F:
    """Wrap a plain function or a generator function; `enter` gets the positional and the named arguments of a call."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ValidationError(f"{shown(function)} is `async def`: decorate it with RateLimiter.limited")
    wrapper = _generator if inspect.isgeneratorfunction(function) else _plain
    return cast("F", wraps(function)(wrapper(function, enter)))


def the_function(given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Return the function that a decorator was called with; raises `ValidationError` for anything else."""
    if named or len(given) != 1 or not callable(given[0]):
        raise ValidationError(
            f"limited() decorates one function, and was given {shown((*given, *named.values()))}: write the decorator with "
            'parentheses, as in @limiter.limited() or @limiter.limited("user-42", "search")'
        )
    return given[0]


def check_no_function(value: object) -> None:
    """Raise `ValidationError` if `value`, the id of an entity, is the function that was to be decorated."""
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value) or inspect.isgeneratorfunction(value):
        raise ValidationError(
            f"{shown(value)} cannot choose an entity: write the decorator with parentheses, as in @limiter.limited(), and choose "
            "the entity by a plain function of the call's arguments"
        )


def _coroutine(
    function: Callable[..., Coroutine[Any, Any, Any]], enter: Callable[[Any, Any], AbstractAsyncContextManager[object]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def limited(*args: Any, **kwargs: Any) -> Any:
        async with enter(args, kwargs):
            return await function(*args, **kwargs)

    return limited


def _plain(function: Callable[..., Any], enter: Callable[[Any, Any], AbstractContextManager[object]]) -> Callable[..., Any]:
    def limited(*args: Any, **kwargs: Any) -> Any:
        with enter(args, kwargs):
            return function(*args, **kwargs)

    return limited


def _async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], enter: Callable[[Any, Any], AbstractAsyncContextManager[object]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def limited(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        async with enter(args, kwargs):
            generator = function(*args, **kwargs)
            step = generator.__anext__()
            try:
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step = generator.athrow(error)
                    else:
                        step = generator.asend(sent)
            finally:
                await generator.aclose()

    return limited


def _generator(
    function: Callable[..., Generator[Any, Any, Any]], enter: Callable[[Any, Any], AbstractContextManager[object]]
) -> Callable[..., Generator[Any, Any, Any]]:
    def limited(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with enter(args, kwargs):
            return (yield from function(*args, **kwargs))

    return limited
