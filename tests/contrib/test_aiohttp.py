"""The client middleware for aiohttp, in front of a server on this machine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import async_limiter, other
from support.presence import needed

from limiter import RateLimitExceeded
from limiter.contrib.aiohttp import OPENAI, LimiterMiddleware

aiohttp = needed("aiohttp")

from aiohttp import web
from aiohttp.test_utils import TestServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engines import FakeClock

    from limiter import RateLimiter


async def answer(request: Any) -> Any:
    """Answer with the status that the path names."""
    headers = {"Retry-After": "30", "x-ratelimit-remaining-requests": "4"}
    return web.Response(status=int(request.match_info["status"]), headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    """A server."""
    app = web.Application()
    app.router.add_get("/{status}", answer)
    async with TestServer(app) as server:
        yield server


async def get(limiter: Any, url: Any, **terms: Any) -> int:
    """Make one request through a new session, and return the status."""
    middleware = LimiterMiddleware(limiter, **({"entity": "me"} | terms))
    async with aiohttp.ClientSession(middlewares=[middleware]) as session, session.get(url) as response:
        status: int = response.status
        return status


async def left(limiter: RateLimiter, entity_id: str) -> int:
    """What is left of the first limit."""
    return (await limiter.check(entity_id)).statuses[0].available


async def test_requests_wait_for_their_turn_or_are_refused(server: Any, clock: FakeClock) -> None:
    """Within `timeout` a request waits; beyond it nothing is sent."""
    limiter, begun = async_limiter(clock, "requests=1/second burst 2"), clock()
    assert [await get(limiter, server.make_url("/200"), timeout=1.5) for _ in range(4)] == [200] * 4
    assert clock() - begun == 2 * 10**9
    with pytest.raises(RateLimitExceeded):
        await get(limiter, server.make_url("/200"))


async def test_a_429_pauses_for_all_processes(server: Any, clock: FakeClock) -> None:
    """No process gets a turn until its Retry-After is over, and the caller gets the response; not without `feedback`."""
    limiter = async_limiter(clock, "requests=9/hour")
    assert await get(limiter, server.make_url("/429"), resource="mail") == 429
    await get(limiter, server.make_url("/429"), feedback=False)
    await get(limiter, server.make_url("/503"))
    paused, free = await other(limiter).check("me", "mail"), await other(limiter).check("me")
    assert (paused.allowed, paused.retry_after, free.allowed) == (False, 30.0, True)
    with pytest.raises(RateLimitExceeded):
        await get(limiter, server.make_url("/200"), resource="mail")


async def test_headers_lower_what_is_left(server: Any, clock: FakeClock) -> None:
    """The server's number of remaining units applies if it is lower than the bucket's."""
    limiter = async_limiter(clock, "requests=9/hour")
    await get(limiter, server.make_url("/200"), remaining=OPENAI)
    assert await left(limiter, "me") == 4


async def test_a_request_that_was_not_sent_is_given_back(clock: FakeClock) -> None:
    """A connection that fails has used nothing."""
    limiter = async_limiter(clock, "requests=9/hour")
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(limiter, "http://127.0.0.1:1/200")
    assert await left(limiter, "me") == 9


async def test_terms_may_depend_on_the_request(server: Any, clock: FakeClock) -> None:
    """The path may be the entity, and a request without an entity is exempt."""
    limiter = async_limiter(clock, "requests=9/hour")
    for path in ("/200", "/404"):
        await get(limiter, server.make_url(path), entity=lambda request: None if request.url.path == "/200" else request.url.path)
    assert await left(limiter, "/404") == 8
    assert limiter.stats().decisions == 1


def test_it_imports_nothing_of_aiohttp() -> None:
    """The module can be imported where aiohttp is not installed."""
    code = "import sys, limiter.contrib.aiohttp; print('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
