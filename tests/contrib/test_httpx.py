"""Transports for httpx2 and httpx, synchronous and asynchronous, in front of servers in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import left, new_limiter, wait
from support.presence import needed

from limiter import RateLimiterUnavailable, RateLimitExceeded
from limiter.contrib.httpx import OPENAI, AsyncLimiterTransport, LimiterTransport

if TYPE_CHECKING:
    from support.engines import FakeClock

URL = "http://api.example/v1"


@pytest.fixture(params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> Any:
    """Each of the libraries."""
    return needed(request.param)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of client and limiter."""
    return str(request.param)


class Server:
    """Answers as it is told, and counts requests."""

    def __init__(self, library: Any, status: int = 200, **headers: str) -> None:
        self.library = library
        self.requests = 0
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.down = False

    def __call__(self, request: Any) -> Any:
        self.requests += 1
        if self.down:
            raise self.library.ConnectError("down")
        return self.library.Response(self.status, headers=self.headers, text="hello")


def get(kind: str, server: Server, limiter: Any, url: str = URL, user: str | None = None, **terms: Any) -> Any:
    """Make one request through a new client, and return the response."""
    inner = server.library.MockTransport(server)
    headers = {} if user is None else {"x-user": user}
    terms = {"entity": "me"} | terms
    if kind == "sync":
        with server.library.Client(transport=LimiterTransport(inner, limiter, **terms)) as client:
            return client.get(url, headers=headers)

    async def run() -> Any:
        async with server.library.AsyncClient(transport=AsyncLimiterTransport(inner, limiter, **terms)) as client:
            return await client.get(url, headers=headers)

    return asyncio.run(run())


def test_requests_wait_for_their_turn_or_are_refused(library: Any, kind: str, clock: FakeClock) -> None:
    """Within `timeout` a request waits; beyond it nothing is sent."""
    server, limiter, begun = Server(library), new_limiter(kind, clock, "requests=1/second burst 2"), clock()
    assert [get(kind, server, limiter, timeout=1.5).text for _ in range(4)] == ["hello"] * 4
    assert clock() - begun == 2 * 10**9
    with pytest.raises(RateLimitExceeded):
        get(kind, server, limiter)
    assert server.requests == 4


def test_a_429_pauses_for_all_processes(library: Any, kind: str, clock: FakeClock) -> None:
    """No process gets a turn until its Retry-After is over, and the caller gets the response; not without `feedback`."""
    server, limiter = Server(library, 429, Retry_After="30"), new_limiter(kind, clock, "requests=9/hour")
    assert get(kind, server, limiter, resource="gpt").status_code == 429
    get(kind, server, limiter, feedback=False)
    assert (wait(limiter, "me", "gpt"), wait(limiter, "me")) == (30.0, 0.0)
    with pytest.raises(RateLimitExceeded):
        get(kind, server, limiter, resource="gpt")
    assert get(kind, server, limiter, resource="gpt", timeout=30).status_code == 429
    assert clock() == clock.START_NS + 30 * 10**9


def test_an_unstored_pause_loses_no_response(
    library: Any, kind: str, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the table is down at that moment, the caller gets the response and the log the reason."""
    server, limiter = Server(library, 429, Retry_After="30"), new_limiter(kind, clock, "requests=9/hour")

    def fail(*_: Any) -> None:
        raise RateLimiterUnavailable("the table is down")

    monkeypatch.setattr(limiter, "pause", fail)
    assert get(kind, server, limiter).status_code == 429
    (record,) = (record for record in caplog.records if record.name == "limiter.contrib")
    assert record.getMessage() == "feedback of a server for me/default was not stored: the table is down"


def test_headers_lower_what_is_left(library: Any, kind: str, clock: FakeClock) -> None:
    """The server's number of remaining units applies if it is lower than the bucket's."""
    told = {"x_ratelimit_remaining_requests": "40", "x_ratelimit_remaining_tokens": "1000"}
    server, limiter = Server(library, **told), new_limiter(kind, clock, "requests=100/hour", "tokens=100/hour")
    get(kind, server, limiter, remaining=OPENAI)
    assert left(limiter, "me") == {"requests": 40, "tokens": 99}


def test_a_request_that_was_not_sent_is_given_back(library: Any, kind: str, clock: FakeClock) -> None:
    """A transport that raises has used nothing; a response of 500 has."""
    server, limiter = Server(library, 500), new_limiter(kind, clock, "requests=9/hour")
    server.down = True
    with pytest.raises(library.ConnectError):
        get(kind, server, limiter)
    assert left(limiter, "me") == {"requests": 9}
    server.down = False
    assert get(kind, server, limiter).status_code == 500
    assert left(limiter, "me") == {"requests": 8}


def test_terms_may_depend_on_the_request(library: Any, kind: str, clock: FakeClock) -> None:
    """A header may be the entity, the path the resource, and a request without an entity is exempt."""
    terms: dict[str, Any] = {
        "entity": lambda request: request.headers.get("x-user"),
        "resource": lambda request: request.url.path,
        "consume": lambda request: {"requests": len(request.url.params) + 1},
    }
    server, limiter = Server(library), new_limiter(kind, clock, "requests=9/hour")
    get(kind, server, limiter, **terms)
    get(kind, server, limiter, URL + "?a=1&b=2", user="ann", **terms)
    assert left(limiter, "ann", "/v1") == {"requests": 6}
    assert limiter.stats().decisions == 1


def test_it_imports_no_library() -> None:
    """The module can be imported where neither is installed."""
    code = "import sys, limiter.contrib.httpx; print({'httpx', 'httpx2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
