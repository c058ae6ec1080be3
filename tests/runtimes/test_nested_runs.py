"""The reason for the project: a wrapper around an event loop fails where the synchronous limiter works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.presence import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Proxy, Script


@pytest.mark.engines("dynoxide")
def test_a_second_greenlet_cannot_run_asyncio_run(
    server_engine: Engine, table: str, run_script: Callable[..., Script], slow_network: Callable[..., Proxy]
) -> None:
    """While one greenlet is inside `asyncio.run`, that of another one raises."""
    need("gevent")
    result = run_script("nested_runs.py", "asyncio.run", STACK=table, **slow_network(server_engine, tls=False).environment).result

    assert result == ["RuntimeError: asyncio.run() cannot be called from a running event loop", "True"]


@pytest.mark.engines("dynoxide")
def test_a_second_greenlet_can_use_the_synchronous_limiter(
    server_engine: Engine, table: str, run_script: Callable[..., Script], slow_network: Callable[..., Proxy]
) -> None:
    """The same work, done through `SyncRateLimiter`, works in both greenlets."""
    need("gevent")
    result = run_script("nested_runs.py", "SyncRateLimiter", STACK=table, **slow_network(server_engine).environment).result

    assert result == ["True", "True"]
