"""The FastAPI adapter in the newest FastAPI and the oldest supported one, with its test client and under uvicorn."""

# No `from __future__ import annotations`: FastAPI could not resolve annotations that name variables of a test.

import runpy
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect
from starlette.testclient import WebSocketDenialResponse
from support.asgi_client import Client, Message
from support.recorder import Recorder

from limiter import (
    ConfigurationError,
    Lease,
    LeaseClosed,
    Limit,
    MemoryRepository,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncLease,
    SyncRateLimiter,
    ValidationError,
)
from limiter.contrib.fastapi import client_ip, install, limit

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "fastapi_app.py"
STREAM_EXAMPLE = EXAMPLE.with_name("fastapi_stream.py")
PATIENCE = 30.0


def application(limiter: Any, **options: Any) -> FastAPI:
    """An application with the answers and headers of a limiter."""
    app = FastAPI()
    install(app, limiter, **options)
    return app


def left(client: TestClient, limiter: RateLimiter) -> int:
    """What is left of the bucket."""
    assert client.portal is not None
    return client.portal.call(limiter.check, "one", "default", {"requests": 0}).statuses[0].available


def test_a_dependency_yields_the_lease_and_refuses(limiter: RateLimiter) -> None:
    """Of three requests two are answered, with headers, and the third is 429 with a problem document."""
    app = application(limiter, headers="draft-11")
    Charged = Annotated[Lease, Depends(limit(limiter, entity="one", resource="search"))]  # noqa: N806 - a type

    @app.get("/")
    async def index(lease: Charged, request: Request) -> dict[str, Any]:
        assert request.state.lease is lease
        return {"consumed": dict(lease.consumed), "resource": lease.resource}

    with TestClient(app) as client:
        answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json() == {"consumed": {"requests": 1}, "resource": "search"}
    assert answers[0].headers["ratelimit"] == '"requests";r=1;t=3600'
    assert answers[2].headers["content-type"] == "application/problem+json"
    assert (answers[2].headers["retry-after"], answers[2].json()["violated-policies"]) == ("3600", ["requests"])
    assert answers[2].headers.get_list("ratelimit") == ['"requests";r=0;t=3600']


def test_two_dependencies_are_two_decisions(limiter: RateLimiter) -> None:
    """Their headers stand together; where the second refuses, the answer has its own only, and the first has been charged."""
    app = application(limiter, headers="x-ratelimit")
    user, group = limit(limiter, entity="one"), limit(limiter, entity="group", consume=lambda request: {"requests": 2})

    @app.get("/", dependencies=[Depends(user), Depends(group)])
    async def index() -> str:
        return "hello"

    with TestClient(app) as client:
        answers = [client.get("/") for _ in range(2)]
        assert [answer.headers.get_list("x-ratelimit-remaining") for answer in answers] == [["0"], ["0"]]
        assert answers[1].status_code == 429
        assert left(client, limiter) == 0


def test_the_schema_shows_nothing_of_it(limiter: RateLimiter) -> None:
    """The OpenAPI schema does not show the dependency as a parameter of the route."""
    app = application(limiter)

    @app.get("/", dependencies=[Depends(limit(limiter, entity="one"))])
    async def index() -> str:
        return "hello"

    assert "parameters" not in app.openapi()["paths"]["/"]["get"]


def test_a_plain_route_takes_the_synchronous_limiter(sync_limiter: SyncRateLimiter) -> None:
    """Its dependency runs in a thread, and so does what ends the lease."""
    app = application(sync_limiter, headers="x-ratelimit")
    kept: list[SyncLease] = []

    @app.get("/")
    def index(lease: Annotated[SyncLease, Depends(limit(sync_limiter, entity=client_ip))]) -> str:
        kept.append(lease)
        return "hello"

    with TestClient(app) as client:
        answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining"] == "1"
    with pytest.raises(LeaseClosed):
        kept[0].adjust(requests=1)


def test_callables_of_the_request_may_be_coroutine_functions(limiter: RateLimiter) -> None:
    """Coroutine functions can return the entity, amounts and exemption; without an entity there is no lease."""
    app = application(limiter)

    async def entity(request: Request) -> str | None:
        return request.query_params.get("user")

    dependency = limit(
        limiter,
        entity=entity,
        consume=lambda request: {"requests": int(request.headers["cost"])},
        exempt=lambda request: "x" in request.headers,
    )

    @app.get("/")
    async def index(lease: Annotated[Lease | None, Depends(dependency)]) -> bool:
        return lease is not None

    with TestClient(app) as client:
        assert client.get("/").json() is False
        assert client.get("/?user=one", headers={"cost": "2", "x": "1"}).json() is False
        assert client.get("/?user=one", headers={"cost": "2"}).json() is True
        assert client.get("/?user=one", headers={"cost": "1"}).status_code == 429


def test_a_synchronous_limiter_takes_plain_functions(sync_limiter: SyncRateLimiter) -> None:
    """A coroutine that no one awaits would exempt every request."""
    app = application(sync_limiter)

    async def exempt(request: Request) -> bool:
        return False

    @app.get("/", dependencies=[Depends(limit(sync_limiter, entity="one", exempt=exempt))])
    def index() -> str:
        return "hello"

    with TestClient(app) as client, pytest.raises(ValidationError, match="use a plain function"):
        client.get("/")


def test_arguments_are_handed_on() -> None:
    """Parameters that are passed reach `acquire`, `also` included; others keep its defaults."""
    recorder: Any = Recorder()
    everything = {"resource": "search", "consume": {"tokens": 5}, "limits": [], "also": [("all", "search")], "timeout": 2.0}
    app = FastAPI()
    bare, full = limit(recorder, entity="one"), limit(recorder, entity=lambda _: "one", **everything)

    @app.get("/", dependencies=[Depends(bare), Depends(full)])
    async def index() -> str:
        return "hello"

    TestClient(app).get("/")

    assert recorder.calls == [
        {"entity_id": "one", "resource": "default", "refund_on_error": False},
        {"entity_id": "one", "refund_on_error": False, **everything},
    ]


def streaming(limiter: RateLimiter, *, installed: bool) -> FastAPI:
    """An application that corrects its lease while it streams."""
    app = application(limiter) if installed else FastAPI()

    @app.get("/")
    async def index(lease: Annotated[Lease, Depends(limit(limiter, entity="one"))]) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "a"
            await lease.adjust(requests=1)
            yield "b"

        return StreamingResponse(chunks())

    return app


@pytest.mark.parametrize("installed", [True, False])
def test_the_lease_lasts_as_long_as_a_stream(limiter: RateLimiter, installed: bool) -> None:
    """With `install` and without it."""
    with TestClient(streaming(limiter, installed=installed)) as client:
        assert client.get("/").text == "ab"
        assert left(client, limiter) == 0


def test_a_lease_ends_before_background_tasks(limiter: RateLimiter) -> None:
    """They hold up no slot; what they would correct belongs into the body."""
    app = application(limiter)
    seen: list[str] = []

    @app.get("/")
    async def index(lease: Annotated[Lease, Depends(limit(limiter, entity="one"))], tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: seen.append(repr(lease)))
        return "hello"

    with TestClient(app) as client:
        client.get("/")
    assert "closed" in seen[0]


@pytest.mark.parametrize(("raised", "told"), [(HTTPException(401), 401), (HTTPException(503), 503), (ZeroDivisionError(), 500)])
def test_errors_cost_unless_refund_when_says_otherwise(limiter: RateLimiter, raised: Exception, told: int) -> None:
    """It is told the status that the client has seen; failed logins count, errors of the server where asked do not."""
    app = application(limiter)
    seen: list[int] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append(status)
        return status >= 500

    @app.get("/", dependencies=[Depends(limit(limiter, entity="one", refund_when=refund_when))])
    async def index() -> str:
        raise raised

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/").status_code == told
        assert left(client, limiter) == (2 if told >= 500 else 1)
    assert seen == [told]


def test_refund_when_needs_install(limiter: RateLimiter) -> None:
    """A dependency does not see the response."""
    app = FastAPI()

    @app.get("/", dependencies=[Depends(limit(limiter, entity="one", refund_when=lambda *_: True))])
    async def index() -> str:
        return "hello"

    with pytest.raises(ConfigurationError, match=r"install\(app, limiter\)"):
        TestClient(app).get("/")


def test_without_install_a_refusal_is_an_error_of_the_application(limiter: RateLimiter) -> None:
    """Without `install` the application handles refusals itself, and a failed route keeps its units consumed."""
    app = FastAPI()

    @app.get("/", dependencies=[Depends(limit(limiter, entity="one"))])
    async def index() -> str:
        raise HTTPException(500)

    @app.exception_handler(RateLimitExceeded)
    async def refused(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("slow down", 429)

    with TestClient(app) as client:
        assert [client.get("/").status_code for _ in range(3)] == [500, 500, 429]


def test_refusals_of_the_handler_and_outages_are_answered_too(limiter: RateLimiter) -> None:
    """A route may acquire by itself."""
    app = application(limiter)

    @app.get("/refused")
    async def refused() -> None:
        async with limiter.acquire("one", consume={"requests": 3}):
            pass

    @app.get("/outage")
    async def outage() -> None:
        raise RateLimiterUnavailable("no table")

    with TestClient(app) as client:
        assert client.get("/refused").status_code == 413
        answer = client.get("/outage")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("is_async", [True, False])
def test_refusals_can_be_answered_otherwise(limiter: RateLimiter, is_async: bool) -> None:
    """`on_refused` returns a response, or leaves it."""

    def plain(request: Any, error: Exception) -> PlainTextResponse | None:
        return PlainTextResponse("slow down", 420) if request.url.path == "/own" else None

    async def asynchronous(request: Any, error: Exception) -> PlainTextResponse | None:
        return plain(request, error)

    app = application(limiter, on_refused=asynchronous if is_async else plain)

    @app.get("/{path}", dependencies=[Depends(limit(limiter, entity="one", consume={"requests": 3}))])
    async def index() -> str:
        return "hello"

    with TestClient(app) as client:
        assert (client.get("/own").status_code, client.get("/other").status_code) == (420, 413)


def test_websockets(limiter: RateLimiter) -> None:
    """A dependency charges a connection, and a refused one is answered 429, or closed where it has been accepted."""
    app = application(limiter)
    per_connection = limit(limiter, entity=client_ip)

    @app.websocket("/")
    async def chat(websocket: WebSocket, lease: Annotated[Lease, Depends(per_connection)]) -> None:
        await websocket.accept()
        await lease.consume(requests=1)
        await websocket.send_text("hello")
        await lease.consume(requests=1)

    with TestClient(app) as client:
        with client.websocket_connect("/") as websocket:
            assert websocket.receive_text() == "hello"
            assert websocket.receive() == {"type": "websocket.close", "code": 1013, "reason": ""}
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/"):
            pass
    assert (refused.value.status_code, refused.value.headers["retry-after"]) == (429, "3600")


class Closing(MemoryRepository):
    """A store that cannot be opened, or notes that it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.calls: list[str] = []

    async def open(self) -> None:
        """Fail, or open."""
        self.calls.append("open")
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        """Note it."""
        self.calls.append("close")


def test_the_limiter_is_opened_and_closed_with_the_application() -> None:
    """A table that is missing stops the application where it starts."""
    store = Closing()
    with TestClient(application(RateLimiter(store))):
        assert store.calls == ["open"]
    assert store.calls == ["open", "close"]

    broken = RateLimiter(Closing(ConfigurationError("no table")))
    with pytest.raises(ConfigurationError, match="no table"), TestClient(application(broken)):
        pass


@contextmanager
def served(app: FastAPI) -> Iterator[int]:
    """Serve an application by uvicorn in a thread; the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()


def test_a_client_that_hangs_up_pays_and_ends_the_stream() -> None:
    """The server tells the application, whose stream ends by its `finally`, and `refund_when` sees the client's part in it."""
    limiter = RateLimiter(MemoryRepository(), [Limit.per_hour("requests", 100)])
    app = application(limiter)
    told: list[tuple[int, Any]] = []
    settled, ended = threading.Event(), threading.Event()

    def refund_when(status: int, error: BaseException | None) -> bool:
        told.append((status, type(error)))
        settled.set()
        return status >= 500

    @app.get("/")
    async def index(lease: Annotated[Lease, Depends(limit(limiter, entity="one", refund_when=refund_when))]) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    await lease.adjust(requests=1)
                    yield b"x" * 65536
            finally:
                ended.set()

        return StreamingResponse(chunks())

    with served(app) as port:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert settled.wait(PATIENCE)
        assert ended.wait(PATIENCE)
    assert [status for status, _ in told] == [200]
    assert told[0][1] is not type(None)


@pytest.mark.parametrize("stands_in", ["model", "send", "broken send"])
async def test_the_recipe_for_streams_charges_what_was_sent(stands_in: str) -> None:
    """When the client hangs up at any place of a stream, the estimate is corrected to what was sent."""
    recipe = runpy.run_path(str(STREAM_EXAMPLE))
    limiter: RateLimiter = recipe["limiter"]
    await limiter.set_limits([Limit("tokens", 100, 1, 86400.0)])
    client = Client(recipe["app"], path="/chat", raw_path=b"/chat", query_string=b"")
    client.scope["asgi"] = {"version": "3.0", "spec_version": "2.4" if stands_in == "broken send" else "2.3"}

    async def model() -> AsyncIterator[str]:
        for _ in range(3):
            yield "x"
        client.incoming.put_nowait({"type": "http.disconnect"})
        await anyio.sleep(PATIENCE)

    async def on_send(message: Message) -> None:
        if stands_in != "model" and len(client.sent) == 3:
            client.incoming.put_nowait({"type": "http.disconnect"})
            if stands_in == "broken send":
                raise OSError
            await anyio.sleep(PATIENCE)

    recipe["chat"].__globals__["model"] = model
    client.on_send = on_send
    with suppress(ClientDisconnect):
        await client.run()

    assert (await limiter.check("192.0.2.1", "model", {"tokens": 0})).statuses[0].available == 100 - 3


def test_the_stream_example() -> None:
    """A stream that is read to its end costs what was sent."""
    recipe = runpy.run_path(str(STREAM_EXAMPLE))

    async def model() -> AsyncIterator[str]:
        for word in ("a", "b"):
            yield word

    recipe["chat"].__globals__["model"] = model
    anyio.run(recipe["limiter"].set_limits, [Limit("tokens", 100, 1, 86400.0)])
    with TestClient(recipe["app"]) as client:
        assert client.get("/chat").text == "ab"
        assert client.portal is not None
        assert client.portal.call(recipe["limiter"].check, "testclient", "model", {"tokens": 0}).statuses[0].available == 98


def test_the_example() -> None:
    """It admits as many searches for a key as it says."""
    with TestClient(runpy.run_path(str(EXAMPLE))["app"]) as client:
        answers = [client.get("/search", headers={"x-api-key": "a"}) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert client.get("/search", headers={"x-api-key": "b"}).json() == {"left": 4}
