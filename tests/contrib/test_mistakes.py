"""What adapters say to a limiter of the wrong kind, and to something that is no limiter.

The test of `limiter.contrib.extras`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter, ValidationError
from limiter.contrib import aiohttp, asgi, flask, httpx, requests, wsgi

if TYPE_CHECKING:
    from collections.abc import Callable

SYNC: list[Callable[[Any], Any]] = [
    lambda limiter: flask.Limiter(limiter, entity="user"),
    lambda limiter: wsgi.LimiterMiddleware(None, limiter, entity="user"),  # type: ignore[arg-type]
    lambda limiter: httpx.LimiterTransport(None, limiter, entity="user"),
    lambda limiter: requests.LimiterAdapter(None, limiter, entity="user"),
]
ASYNC: list[Callable[[Any], Any]] = [
    lambda limiter: asgi.LimiterMiddleware(None, limiter, entity="user"),  # type: ignore[arg-type]
    lambda limiter: httpx.AsyncLimiterTransport(None, limiter, entity="user"),
    lambda limiter: aiohttp.LimiterMiddleware(limiter, entity="user"),
]


@pytest.mark.parametrize("make", SYNC)
@pytest.mark.parametrize("wrong", [RateLimiter(MemoryRepository()), object(), SyncRateLimiter])
def test_a_synchronous_adapter_names_the_limiter_that_it_takes(make: Callable[[Any], Any], wrong: Any) -> None:
    """The error comes when the adapter is created, before any request."""
    assert make(SyncRateLimiter(SyncMemoryRepository()))
    with pytest.raises(ValidationError, match="takes a SyncRateLimiter, not "):
        make(wrong)


@pytest.mark.parametrize("make", ASYNC)
@pytest.mark.parametrize("wrong", [SyncRateLimiter(SyncMemoryRepository()), object(), RateLimiter])
def test_an_asynchronous_adapter_names_the_limiter_that_it_takes(make: Callable[[Any], Any], wrong: Any) -> None:
    """The error comes when the adapter is created, before any request."""
    assert make(RateLimiter(MemoryRepository()))
    with pytest.raises(ValidationError, match="takes a RateLimiter, not "):
        make(wrong)
