"""Limiters of both kinds in this process, with a clock that tests own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter

if TYPE_CHECKING:
    from engines import FakeClock

LIMITS = [Limit("requests", 2, 1, 3600.0)]


@pytest.fixture
def limiter(clock: FakeClock) -> RateLimiter:
    """Two requests, and then one an hour."""
    return RateLimiter(MemoryRepository(clock=clock), LIMITS, denial_ttl=0)


@pytest.fixture
def sync_limiter(clock: FakeClock) -> SyncRateLimiter:
    """Two requests, and then one an hour."""
    return SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, denial_ttl=0)
