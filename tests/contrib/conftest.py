"""What tests of adapters share: a table on an engine, and limiters in this process with a clock that tests own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest
from support.engines import accepts, free_port, wait_until

from limiter import Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import Engine, FakeClock

os.environ["DJANGO_SETTINGS_MODULE"] = "support.django_project"  # Read when Django is first used.
LIMITS = [Limit("requests", 2, 1, 3600.0)]


@pytest.fixture
def table(table_name: str, server_engine: Engine) -> str:
    """A table on the engine."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return table_name


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Redis server of this test; without the program the test is skipped, or fails in CI unless its absence is excused."""
    program = shutil.which("redis-server")
    if program is None:
        message = "redis-server is ABSENT; install it with `make redis`"
        if os.environ.get("CI") == "true" and "redis" not in os.environ.get("LIMITER_ENGINES_ABSENT", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: accepts(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
def limiter(clock: FakeClock) -> RateLimiter:
    """Two requests, and then one an hour."""
    return RateLimiter(MemoryRepository(clock=clock), LIMITS, denial_ttl=0)


@pytest.fixture
def sync_limiter(clock: FakeClock) -> SyncRateLimiter:
    """Two requests, and then one an hour."""
    return SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, denial_ttl=0)
