"""What tests of adapters share: a table on an engine, and limiters in this process with a clock that tests own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import accepts, free_port, wait_until
from support.presence import program

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
    """A Redis server of this test."""
    server = program("redis-server", "install it with `make redis`", excuse="redis")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: accepts(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def urls() -> Iterator[list[Any]]:
    """The URLs of the Django project, without any at first."""
    import django
    from django.urls import clear_url_caches
    from support import django_project

    django.setup()
    django_project.urlpatterns.clear()
    clear_url_caches()
    yield django_project.urlpatterns
    clear_url_caches()


@pytest.fixture
def limiter(clock: FakeClock) -> RateLimiter:
    """Two requests, and then one an hour."""
    return RateLimiter(MemoryRepository(clock=clock), LIMITS, denial_ttl=0)


@pytest.fixture
def sync_limiter(clock: FakeClock) -> SyncRateLimiter:
    """Two requests, and then one an hour."""
    return SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, denial_ttl=0)
