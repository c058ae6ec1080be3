"""What tests of adapters share: a table on an engine, and limiters in this process with a clock that tests own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine, FakeClock

os.environ["DJANGO_SETTINGS_MODULE"] = "support.django_project"  # Read when Django is first used.
LIMITS = [Limit("requests", 2, 1, 3600.0)]


@pytest.fixture
def table(table_name: str, server_engine: Engine) -> str:
    """A table on the engine."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return table_name


@pytest.fixture
def limiter(clock: FakeClock) -> RateLimiter:
    """Two requests, and then one an hour."""
    return RateLimiter(MemoryRepository(clock=clock), LIMITS, denial_ttl=0)


@pytest.fixture
def sync_limiter(clock: FakeClock) -> SyncRateLimiter:
    """Two requests, and then one an hour."""
    return SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, denial_ttl=0)
