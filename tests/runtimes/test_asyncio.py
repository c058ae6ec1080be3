"""The limiter in asyncio programs: many tasks that end in every way, and several event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Proxy, Script

CAPACITY = 100


@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_nothing_leaks_from_tasks_that_end_early(
    server_engine: Engine, table: str, run_script: Callable[..., Script], slow_network: Callable[..., Proxy]
) -> None:
    """After 1,000 tasks, cancelled, timed out, failed and collected ones among them, the bucket holds what a model says."""
    network = slow_network(server_engine, latency=0.02, tls=False)

    result = run_script("asyncio_tasks.py", STACK=table, **network.environment).result

    assert result["outcomes"] == {"NoneType": 200, "CancelledError": 200, "TimeoutError": 200, "Failure": 200}
    assert result["came_in"]["kept"] == result["came_in"]["collected"] == 200
    assert sum(result["ended"].values()) == 1000
    assert result["available"] == result["model"]
    assert result["really_available"] == [True, False]
    assert result["complaints"] == {"Task was destroyed but it is pending!": 200}


@pytest.mark.parametrize("way", ["turns", "turns-left-open", "threads"])
@pytest.mark.engines("dynoxide")
def test_one_limiter_serves_several_loops(server_engine: Engine, table: str, way: str, run_script: Callable[..., Script]) -> None:
    """One limiter works in two event loops, in turn or at once in two threads, and stays exact."""
    script = run_script("event_loops.py", way, STACK=table, ENDPOINT=str(server_engine.endpoint_url))

    assert sum(script.result) == CAPACITY
    assert "different loop" not in script.errors


@pytest.mark.engines("dynoxide")
def test_a_lease_stays_in_its_loop(server_engine: Engine, table: str, run_script: Callable[..., Script]) -> None:
    """A lease that is used in another loop than the one that took it says so."""
    result = run_script("event_loops.py", "lease", STACK=table, ENDPOINT=str(server_engine.endpoint_url)).result

    assert result.startswith("LeaseClosed: ")
    assert "belongs to another process or event loop" in result


@pytest.mark.engines("dynoxide")
def test_a_client_of_ones_own_stays_in_its_loop(server_engine: Engine, table: str, run_script: Callable[..., Script]) -> None:
    """A client that was passed in works in one event loop, and says so in the next."""
    first, second = run_script("event_loops.py", "client", STACK=table, ENDPOINT=str(server_engine.endpoint_url)).result

    assert first == "True"
    assert second.startswith("ConfigurationError: ")
    assert "pass session=" in second
