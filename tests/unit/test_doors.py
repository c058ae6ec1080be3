"""What is passed to the wrong twin is named at the door."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter, ValidationError


@pytest.mark.parametrize("store", [None, "my-app", object(), SyncMemoryRepository()])
def test_an_asynchronous_limiter_takes_an_asynchronous_repository(store: Any) -> None:
    """A string, nothing, or a synchronous repository is refused with the remedy."""
    with pytest.raises(ValidationError, match="use SyncRateLimiter"):
        RateLimiter(store)


@pytest.mark.parametrize("store", [None, "my-app", object(), MemoryRepository()])
def test_a_synchronous_limiter_takes_a_synchronous_repository(store: Any) -> None:
    """A string, nothing, or an asynchronous repository is refused with the remedy."""
    with pytest.raises(ValidationError, match="use RateLimiter"):
        SyncRateLimiter(store)


async def test_functions_are_decorated_by_the_limiter_of_their_kind() -> None:
    """A coroutine function needs the asynchronous limiter and a plain one the synchronous limiter."""

    def plain() -> None: ...

    async def coroutine() -> None: ...

    with pytest.raises(ValidationError, match=r"SyncRateLimiter\.limited"):
        RateLimiter(MemoryRepository()).limited()(plain)  # type: ignore[arg-type] # the mistake is the point
    with pytest.raises(ValidationError, match=r"RateLimiter\.limited"):
        SyncRateLimiter(SyncMemoryRepository()).limited()(coroutine)
