"""The ASGI middleware: the protocol itself, and the newest Starlette, Litestar and Quart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
from support.asgi_client import Client, Message
from support.presence import need
from support.recorder import Recorder

from limiter import (
    Concurrency,
    Lease,
    LeaseClosed,
    Limit,
    LimiterError,
    MemoryRepository,
    PermissionDenied,
    RateLimiter,
    RateLimitExceeded,
)
from limiter.contrib.asgi import LimiterMiddleware, client_ip
from limiter.contrib.http import Refusal, Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engines import FakeClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "asgi_app.py"


def entity(scope: Any) -> str | None:
    """All share one bucket."""
    return "one"


def answering(*chunks: bytes, status: int = 200, error: BaseException | None = None) -> Any:
    """An application that sends chunks, and may fail then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not chunks and error is not None:
            raise error
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if error is not None:
            raise error
        await send({"type": "http.response.body", "body": b""})

    return app


async def left(limiter: RateLimiter) -> int:
    """What is left of the bucket."""
    return (await limiter.check("one", consume={"requests": 0})).statuses[0].available


async def test_requests_are_admitted_and_refused(limiter: RateLimiter) -> None:
    """Of three requests two reach the application, and the third is answered 429 with a time to try again."""
    app = LimiterMiddleware(answering(b"hello"), limiter, entity=entity)

    assert [(await Client(app).run()).status for _ in range(3)] == [200, 200, 429]
    refused = await Client(app).run()
    assert refused.headers["retry-after"] == "3600"
    assert refused.headers["content-type"] == "application/problem+json"
    assert json.loads(refused.sent[1]["body"])["status"] == 429
    assert int(refused.headers["content-length"]) == len(refused.sent[1]["body"])


async def test_streams_pass_untouched_with_headers_at_the_start_only(limiter: RateLimiter) -> None:
    """Every message is the application's own but the start, which has the headers besides; and each goes out at once."""
    app = LimiterMiddleware(answering(b"a", b"b"), limiter, entity=entity, headers="draft-11")

    client = await Client(app).run()

    start, *bodies = client.sent
    assert start["headers"] == [
        (b"x-own", b"1"),
        (b"ratelimit-policy", b'"requests";q=2;w=7200'),
        (b"ratelimit", b'"requests";r=1;t=3600'),
    ]
    assert bodies == [
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": True},
        {"type": "http.response.body", "body": b""},
    ]


async def test_the_lease_lasts_until_the_body_ends(limiter: RateLimiter) -> None:
    """It can be corrected while the body is sent, and is over for what runs after the last of it."""
    after: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lease: Lease = scope["state"]["lease"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await lease.adjust(requests=1)
        await send({"type": "http.response.body", "body": b"b"})
        with pytest.raises(LeaseClosed):
            await lease.adjust(requests=1)
        after.append(True)

    await Client(LimiterMiddleware(app, limiter, entity=entity)).run()

    assert after == [True]
    assert await left(limiter) == 0


@pytest.mark.parametrize("end", ["whole", "broken", "cancelled", "failed", "unread"])
async def test_a_slot_is_held_until_the_body_ends(clock: FakeClock, end: str) -> None:
    """Another request is refused while the body is sent, and allowed once it has ended, also by a client that hangs up."""
    limits = [Concurrency("streams", 1), Limit.per_hour("requests", 10)]
    seen: list[Client] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        if scope["path"] == "/stream":
            seen.append(await Client(guarded).run())
            if end == "failed":
                raise ZeroDivisionError
        if end != "unread":
            await send({"type": "http.response.body", "body": b"b"})

    async def last(message: Message) -> None:
        if end in {"broken", "cancelled"} and message.get("body") == b"b":
            raise BrokenPipeError if end == "broken" else asyncio.CancelledError

    async with RateLimiter(MemoryRepository(clock=clock), limits) as limiter:
        guarded = LimiterMiddleware(app, limiter, entity=entity, headers="x-ratelimit")
        client = Client(guarded, path="/stream")
        client.on_send = last
        with contextlib.suppress(BrokenPipeError, asyncio.CancelledError, ZeroDivisionError):
            await client.run()

        assert [each.status for each in seen] == [429]
        assert int(seen[0].headers["retry-after"]) >= 1
        assert seen[0].headers["x-ratelimit-remaining"] == "0"
        assert "x-ratelimit-reset" not in seen[0].headers
        assert (await Client(guarded).run()).status == 200


async def test_trailers_belong_to_the_response(limiter: RateLimiter) -> None:
    """A response that announces trailers ends with them."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"a"})
        await scope["state"]["lease"].adjust(requests=1)
        await send({"type": "http.response.trailers", "headers": []})
        with pytest.raises(LeaseClosed):
            await scope["state"]["lease"].adjust(requests=1)

    client = await Client(LimiterMiddleware(app, limiter, entity=entity)).run()

    assert len(client.sent) == 3
    assert await left(limiter) == 0


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_nothing_is_given_back_without_being_asked_for(limiter: RateLimiter, status: int) -> None:
    """Failed logins count, and so do errors of the server."""
    await Client(LimiterMiddleware(answering(b"", status=status), limiter, entity=entity)).run()

    assert await left(limiter) == 1


async def test_errors_go_on_and_cost(limiter: RateLimiter) -> None:
    """An application's error reaches the server, and its units stay consumed."""
    with pytest.raises(ZeroDivisionError):
        await Client(LimiterMiddleware(answering(error=ZeroDivisionError()), limiter, entity=entity)).run()

    assert await left(limiter) == 1


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (answering(b"", status=503), (503, None)),
        (answering(error=ZeroDivisionError()), (500, ZeroDivisionError)),
        (answering(b"a", error=ZeroDivisionError()), (200, ZeroDivisionError)),
        (answering(error=asyncio.CancelledError()), (499, asyncio.CancelledError)),
    ],
)
async def test_refund_when_is_told_how_a_request_ended(limiter: RateLimiter, app: Any, told: tuple[int, Any]) -> None:
    """`refund_when` gets the status and the error, and everything is refunded if it returns true."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, None if error is None else type(error)))
        return True

    with contextlib.suppress(ZeroDivisionError, asyncio.CancelledError):
        await Client(LimiterMiddleware(app, limiter, entity=entity, refund_when=refund_when)).run()

    assert seen == [told]
    assert await left(limiter) == 2


async def test_a_client_that_hangs_up_pays(limiter: RateLimiter) -> None:
    """Whichever way the server tells of it, a rule that gives back errors of the server does not see one."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return status >= 500

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        if (await receive())["type"] == "http.disconnect":
            raise EOFError

    client = Client(LimiterMiddleware(reading, limiter, entity=entity, refund_when=refund_when))
    client.incoming.put_nowait({"type": "http.disconnect"})
    with pytest.raises(EOFError):
        await client.run()

    for kind in ("start", "body"):

        async def broken(message: Message, kind: str = kind) -> None:
            if message["type"] == f"http.response.{kind}":
                raise BrokenPipeError

        app = LimiterMiddleware(answering(b"a"), limiter, entity=entity, consume={"requests": 0}, refund_when=refund_when)
        client = Client(app)
        client.on_send = broken
        with pytest.raises(BrokenPipeError):
            await client.run()

    assert seen == [(499, EOFError), (499, BrokenPipeError), (200, BrokenPipeError)]
    assert await left(limiter) == 1


async def test_an_unfinished_response_is_a_client_that_hung_up(limiter: RateLimiter) -> None:
    """Frameworks end streams quietly when the client has gone."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    await Client(
        LimiterMiddleware(app, limiter, entity=entity, refund_when=lambda _, error: isinstance(error, ConnectionError))
    ).run()

    assert await left(limiter) == 2


async def test_a_refund_reaches_every_bucket(limiter: RateLimiter) -> None:
    """What other targets hold is given back too, by its own amounts and names, as far as the lease does not keep it."""
    tokens = Limit.per_hour("tokens", 100)
    await limiter.set_limits([Limit.per_hour("requests", 10), tokens], entity_id="everybody")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lease: Lease = scope["state"]["lease"]
        if scope["path"] == "/kept":
            lease.keep()
        await lease.adjust(requests=+1)
        await answering(b"", status=503)(scope, receive, send)

    also = [("everybody", "default", {"requests": 4, "tokens": 30})]
    guarded = LimiterMiddleware(app, limiter, entity=entity, also=also, refund_when=lambda status, _: status >= 500)
    for path, expected in (("/", [2, 10, 100]), ("/kept", [1, 6, 70])):
        await Client(guarded, path=path).run()
        own = await limiter.check("one", consume={"requests": 0})
        others = await limiter.check("everybody", consume={"requests": 0, "tokens": 0})
        assert [status.available for status in (*own.statuses, *others.statuses)] == expected


async def test_a_refund_that_fails_is_logged(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed refund after the response is logged, because the client cannot be told."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        monkeypatch.setattr(limiter.repository, "write_bucket", AsyncMock(side_effect=PermissionDenied("no table")))
        await answering(b"a")(scope, receive, send)

    client = await Client(LimiterMiddleware(app, limiter, entity=entity, refund_when=lambda *_: True)).run()

    assert client.status == 200
    assert "a correction of one/default was not written: no table" in caplog.text
    assert limiter.stats().corrections_lost == 1


async def test_lifespans_pass(limiter: RateLimiter) -> None:
    """Lifespan messages pass unchanged, because they are not requests."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    client = await Client(LimiterMiddleware(app, limiter, entity=entity), type="lifespan", state={}).run()

    assert seen == ["lifespan"]
    assert client.scope["state"] == {}
    assert await left(limiter) == 2


async def test_preflights_are_exempt_and_other_options_are_not(limiter: RateLimiter) -> None:
    """CORS preflights are not charged; other OPTIONS requests are."""
    app = LimiterMiddleware(answering(b""), limiter, entity=entity)
    preflight = [(b"origin", b"https://example.com"), (b"access-control-request-method", b"PUT")]

    for _ in range(3):
        assert (await Client(app, method="OPTIONS", headers=preflight).run()).status == 200
    assert await left(limiter) == 2
    await Client(app, method="OPTIONS", headers=preflight[:1]).run()
    assert await left(limiter) == 1


async def test_entities_and_rules(limiter: RateLimiter) -> None:
    """Each request is charged by the first rule that matches; without an entity it is exempt."""
    rules = [
        Rule(entity="health", match=lambda scope: scope["path"] == "/health", exempt=lambda _: True),
        Rule(entity="login", match=lambda scope: scope["path"] == "/login", consume={"requests": 2}),
    ]
    app = LimiterMiddleware(answering(b""), limiter, entity=lambda scope: scope.get("user"), rules=rules)

    assert [(await Client(app, path="/health").run()).status for _ in range(3)] == [200] * 3
    assert [(await Client(app, path="/login").run()).status for _ in range(2)] == [200, 429]
    exempt = [await Client(app).run() for _ in range(3)]
    assert [client.status for client in exempt] == [200] * 3
    assert exempt[0].scope["state"] == {"lease": None}
    assert [(await Client(app, user="one").run()).status for _ in range(3)] == [200, 200, 429]


async def test_entities_may_be_looked_up(limiter: RateLimiter) -> None:
    """Callables may be coroutine functions."""

    async def slow(scope: Any) -> str:
        await asyncio.sleep(0)
        return "one"

    await Client(LimiterMiddleware(answering(b""), limiter, entity=slow)).run()

    assert await left(limiter) == 1


async def test_arguments_are_handed_on() -> None:
    """Parameters that are passed reach `acquire`, `also` included; others keep its defaults."""
    recorder = Recorder()
    everything = {"resource": "search", "consume": {"tokens": 5}, "limits": [], "also": [("all", "search")], "timeout": 2.0}

    await Client(LimiterMiddleware(answering(b""), recorder, entity=entity)).run()
    await Client(LimiterMiddleware(answering(b""), recorder, entity=entity, **everything)).run()  # type: ignore[arg-type]

    assert recorder.calls == [
        {"entity_id": "one", "resource": "default", "refund_on_error": False},
        {"entity_id": "one", "refund_on_error": False, **everything},
    ]


@pytest.mark.parametrize("style", ["plain", "async", "none"])
async def test_refusals_can_be_answered_otherwise(limiter: RateLimiter, style: str) -> None:
    """`on_refused` makes the answer, or leaves it."""
    own = Refusal(503, [("X-Busy", "1")], b"busy", "text/plain")
    seen: list[LimiterError] = []

    def plain(scope: Any, error: LimiterError) -> Refusal | None:
        seen.append(error)
        return None if style == "none" else own

    async def asynchronous(scope: Any, error: LimiterError) -> Refusal | None:
        return plain(scope, error)

    app = LimiterMiddleware(
        answering(b""),
        limiter,
        entity=entity,
        consume={"requests": 3},
        on_refused=asynchronous if style == "async" else plain,
    )
    client = await Client(app).run()

    assert [type(error).__name__ for error in seen] == ["NeverSatisfiable"]
    if style == "none":
        assert client.status == 413
    else:
        assert (client.status, client.headers["x-busy"], client.sent[1]["body"]) == (503, "1", b"busy")


async def test_errors_of_the_handler_are_its_own(limiter: RateLimiter) -> None:
    """A limit that the application itself exceeds is not answered here."""
    error = RateLimitExceeded(())

    with pytest.raises(RateLimitExceeded) as caught:
        await Client(LimiterMiddleware(answering(error=error), limiter, entity=entity)).run()

    assert caught.value is error


async def test_a_head_request_is_refused_without_a_body(limiter: RateLimiter) -> None:
    """A refused HEAD request gets no body, and the length of the body that a GET would get."""
    app = LimiterMiddleware(answering(b""), limiter, entity=entity, consume={"requests": 3})

    client = await Client(app, method="HEAD").run()

    assert client.sent[1]["body"] == b""
    assert int(client.headers["content-length"]) > 0


@pytest.mark.parametrize("extensions", [{}, {"websocket.http.response": {}}])
async def test_websockets_are_refused_before_they_are_accepted(limiter: RateLimiter, extensions: dict[str, Any]) -> None:
    """By a response where the server can send one, otherwise by closing, which the server answers 403."""
    app = LimiterMiddleware(answering(b""), limiter, entity=entity, consume={"requests": 3})
    client = Client(app, type="websocket", extensions=extensions)
    client.incoming.put_nowait({"type": "websocket.connect"})

    await client.run()

    if extensions:
        assert [message["type"] for message in client.sent] == ["websocket.http.response.start", "websocket.http.response.body"]
        assert client.status == 413
    else:
        assert client.sent == [{"type": "websocket.close", "code": 1013, "reason": "Content Too Large"}]
    assert client.incoming.empty()


async def test_a_websocket_has_a_lease_for_as_long_as_it_lasts(limiter: RateLimiter) -> None:
    """It is charged once, and can be charged more for each message."""
    kept: list[Lease] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(scope["state"]["lease"])
        await send({"type": "websocket.accept"})
        await kept[0].consume(requests=1)
        await send({"type": "websocket.close"})

    client = await Client(LimiterMiddleware(app, limiter, entity=entity, headers="x-ratelimit"), type="websocket").run()

    assert client.headers["x-ratelimit-remaining"] == "1"
    assert await left(limiter) == 0
    with pytest.raises(LeaseClosed):
        await kept[0].consume(requests=1)


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], (101, None)),
        ([{"type": "websocket.close"}], (403, None)),
        ([], (499, ConnectionAbortedError)),
    ],
)
async def test_refund_when_is_told_how_a_websocket_ended(limiter: RateLimiter, messages: list[Message], told: Any) -> None:
    """A websocket has the status of its handshake; a client that leaves an accepted one has not hung up."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        await receive()

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, error if error is None else type(error)))
        return False

    client = Client(LimiterMiddleware(app, limiter, entity=entity, refund_when=refund_when), type="websocket")
    client.incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})
    await client.run()

    assert seen == [told]


@pytest.mark.parametrize(
    ("message", "ends"),
    [
        ({"type": "http.response.pathsend", "path": "/file"}, True),
        ({"type": "http.response.zerocopysend", "file": 3}, True),
        ({"type": "http.response.zerocopysend", "file": 3, "more_body": True}, False),
        ({"type": "http.response.debug", "info": {}}, False),
    ],
)
async def test_extensions_of_the_protocol_pass(limiter: RateLimiter, message: Message, ends: bool) -> None:
    """A server may send files by itself, which is the end of the body too."""
    state: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(message)
        state.append(repr(scope["state"]["lease"]))

    client = await Client(LimiterMiddleware(app, limiter, entity=entity)).run()

    assert client.sent[1] == message
    assert ("closed" in state[0]) == ends


def test_every_line_of_a_header_counts() -> None:
    """All lines of a header are joined, because a proxy may add another line."""
    lines = [(b"x-forwarded-for", b"1.1.1.1"), (b"X-Forwarded-For", b"203.0.113.9")]

    assert client_ip({"client": ("10.0.0.1", 80), "headers": lines}, trusted=1) == "203.0.113.9"
    assert client_ip({"client": ("10.0.0.1", 80), "headers": lines}) == "10.0.0.1"
    assert client_ip({"client": None, "headers": []}) == "unknown"


def test_starlette_shares_the_lease_and_streams(limiter: RateLimiter) -> None:
    """Handlers find it in the request's state, in streams too."""
    need("starlette", "httpx2")
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import StreamingResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def stream(request: Any) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "a"
            await request.state.lease.adjust(requests=-1)
            yield "b"

        return StreamingResponse(chunks())

    middleware = [Middleware(LimiterMiddleware, limiter, entity=client_ip, headers="draft-11")]
    client = TestClient(Starlette(routes=[Route("/", stream)], middleware=middleware))

    answers = [client.get("/") for _ in range(3)]
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "ab")] * 3
    assert answers[0].headers["ratelimit"] == '"requests";r=1;t=3600'


def test_starlette_background_tasks_run_after_the_lease(limiter: RateLimiter) -> None:
    """They hold up no slot."""
    need("starlette", "httpx2")
    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.testclient import TestClient

    seen: list[str] = []

    async def later(lease: Lease) -> None:
        seen.append(repr(lease))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lease = Request(scope).state.lease
        await PlainTextResponse("a", background=BackgroundTask(later, lease))(scope, receive, send)

    TestClient(LimiterMiddleware(app, limiter, entity=client_ip)).get("/")

    assert "closed" in seen[0]


def test_starlette_websockets(limiter: RateLimiter) -> None:
    """The handshake of the third is answered 429, which clients can read."""
    need("starlette", "httpx2")
    from starlette.testclient import TestClient, WebSocketDenialResponse

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close"})

    client = TestClient(LimiterMiddleware(app, limiter, entity=client_ip))
    for _ in range(2):
        with client.websocket_connect("/") as websocket:
            assert websocket.receive_text() == "hello"
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/"):
        pass
    assert (refused.value.status_code, refused.value.headers["retry-after"]) == (429, "3600")


def test_litestar(limiter: RateLimiter) -> None:
    """As a middleware of the application, with the lease in the request's state."""
    need("litestar")
    from litestar import Litestar, Request, get
    from litestar.middleware import DefineMiddleware
    from litestar.testing import TestClient

    @get("/")
    async def index(request: Request[Any, Any, Any]) -> str:
        await request.state.lease.adjust(requests=1)
        return "hello"

    app = Litestar([index], middleware=[DefineMiddleware(LimiterMiddleware, limiter=limiter, entity=client_ip)])
    with TestClient(app) as client:
        answers = [client.get("/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "3600"


async def test_quart(limiter: RateLimiter) -> None:
    """Around the application, as Quart documents it, with the lease in the request's scope."""
    need("quart")
    from quart import Quart, request

    app = Quart(__name__)

    @app.get("/")
    async def index() -> str:
        await request.scope["state"]["lease"].adjust(requests=1)
        return "hello"

    app.asgi_app = LimiterMiddleware(app.asgi_app, limiter, entity=lambda _: "one")  # type: ignore[method-assign]
    client = app.test_client()
    answers = [await client.get("/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["retry-after"] == "3600"


def test_the_example() -> None:
    """It admits as many requests as it says."""
    need("starlette", "httpx2")
    from starlette.testclient import TestClient

    client = TestClient(runpy.run_path(str(EXAMPLE))["app"])

    assert [client.get("/").status_code for _ in range(6)] == [200] * 5 + [429]
