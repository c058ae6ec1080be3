"""The limiter in FastAPI under uvicorn: each twin in the kind of route where it belongs, and one where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.presence import need
from support.processes import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Proxy, Server

REQUESTS, CAPACITY = 100, 60
APPLICATION = FOLDER / "fastapi_app.py"


@pytest.fixture
def uvicorn(
    server_engine: Engine, table: str, serve: Callable[..., Server], slow_network: Callable[..., Proxy]
) -> Callable[..., Server]:
    """Starts uvicorn with `fastapi_app.py`."""
    need("fastapi", "uvicorn", "aiobotocore")

    def start(**environment: str) -> Server:
        network = slow_network(server_engine)
        options = ["--app-dir", str(FOLDER), "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"]
        return serve("-m", "uvicorn", *options, "fastapi_app:app", STACK=table, **network.environment, **environment)

    return start


@pytest.mark.parametrize("route", ["plain", "async"])
@pytest.mark.engines("dynoxide")
def test_routes_overlap_and_admit_exactly(uvicorn: Callable[..., Server], route: str) -> None:
    """Requests wait together, in the thread pool or in the event loop, the limit is exact, and there is nothing to warn of."""
    server = uvicorn()

    answers = server.call_all([f"/{route}?entity=one"] * REQUESTS)

    assert [status for status, _, _ in answers] == [200] * REQUESTS
    assert sum(body["admitted"] for _, _, body in answers) == CAPACITY
    assert max(body["most_inside"] for _, _, body in answers) > 10
    server.stop()
    assert "Warning" not in server.log


@pytest.mark.engines("dynoxide")
def test_the_twins_share_one_limit(uvicorn: Callable[..., Server]) -> None:
    """The synchronous and the asynchronous limiter of one process count together."""
    server = uvicorn()

    answers = server.call_all([f"/{route}?entity=both" for route in ("plain", "async") for _ in range(REQUESTS // 2)])

    assert sum(body["admitted"] for _, _, body in answers) == CAPACITY


@pytest.mark.parametrize("filters", ["default", "always"])
@pytest.mark.engines("dynoxide")
def test_the_synchronous_limiter_in_the_event_loop_warns_once(uvicorn: Callable[..., Any], filters: str) -> None:
    """It works there, and says once, under any filters, which line of the application blocks and what to use instead."""
    server = uvicorn(PYTHONWARNINGS=filters)

    answers = server.call_all(["/mixed?entity=one"] * 20)

    assert [(status, body["admitted"]) for status, _, body in answers] == [(200, True)] * 20
    server.stop()
    source = APPLICATION.read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if text.endswith("# The line that the warning names."))
    warnings = [text for text in server.log.splitlines() if "BlockingCallWarning" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{APPLICATION}:{line}: BlockingCallWarning: SyncRateLimiter.acquire blocks the event loop")
    assert f"{APPLICATION}:{line})" in warnings[0]
    assert "RateLimiter.acquire, or" in warnings[0]
