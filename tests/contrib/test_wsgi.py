"""The WSGI middleware, under the standard library's validator and server, and in Flask and Django applications."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from support.recorder import SyncRecorder

from limiter import Concurrency, LeaseClosed, Limit, RateLimitExceeded, SyncLease, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.http import Refusal, Rule
from limiter.contrib.wsgi import LEASE, LimiterMiddleware, client_ip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.engines import FakeClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "wsgi_app.py"


class Response:
    """What a server is told, while the client reads."""

    def __init__(self, app: Any, **environ: Any) -> None:
        self.environ: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1", "QUERY_STRING": "", **environ}
        setup_testing_defaults(self.environ)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.exc_info: Any = None
        self.body = app(self.environ, self._start)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers, self.exc_info = int(status.split()[0]), dict(headers), exc_info
        return lambda data: None

    def read(self) -> bytes:
        """Read the body to its end, and close it."""
        try:
            return b"".join(self.body)
        finally:
            self.close()

    def close(self) -> None:
        """Close the body, as servers do, also where the client has gone."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


def entity(environ: Any) -> str | None:
    """All share one bucket."""
    return "one"


def hello(environ: Any, start_response: Any) -> list[bytes]:
    """An application whose body is whole at once."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def streaming(environ: Any, start_response: Any) -> Iterator[bytes]:
    """An application that makes its body while it is sent, and corrects what it took."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"a"
    environ[LEASE].adjust(requests=1)
    yield b"b"


def left(limiter: SyncRateLimiter) -> int:
    """What is left of the bucket."""
    return limiter.check("one", consume={"requests": 0}).statuses[0].available


@pytest.mark.parametrize("end", ["read", "closed", "failed"])
def test_a_slot_is_held_until_the_body_is_closed(clock: FakeClock, end: str) -> None:
    """Another request is refused while the body is sent, and allowed once it has ended, also by a client that hangs up."""
    limits = [Concurrency("streams", 1), Limit.per_hour("requests", 10)]

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        if end == "failed":
            raise ZeroDivisionError
        yield b"b"

    with SyncRateLimiter(SyncMemoryRepository(clock=clock), limits) as limiter:
        guarded = LimiterMiddleware(app, limiter, entity=entity, headers="draft-11")
        first = Response(guarded)
        assert next(iter(first.body)) == b"a"
        refused = Response(guarded)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["RateLimit"] == '"streams";r=0,"requests";r=9;t=360'
        if end == "closed":
            first.close()
        else:
            with contextlib.suppress(ZeroDivisionError):
                first.read()

        assert limiter.check("one", consume={"streams": 0}).statuses[0].available == 1


def test_requests_are_admitted_and_refused(sync_limiter: SyncRateLimiter) -> None:
    """Of three requests two reach the application, and the third is answered 429; the standard's validator agrees."""
    app = validator(LimiterMiddleware(validator(hello), sync_limiter, entity=entity))

    responses = [Response(app) for _ in range(3)]

    assert [response.read() for response in responses[:2]] == [b"hello"] * 2
    assert b'"status": 429' in responses[2].read()
    assert [response.status for response in responses] == [200, 200, 429]
    assert responses[2].headers["Retry-After"] == "3600"
    assert responses[2].headers["Content-Type"] == "application/problem+json"


def test_the_validator_accepts_streams(sync_limiter: SyncRateLimiter) -> None:
    """An iterator with `close` is passed on as one."""
    app = validator(LimiterMiddleware(validator(streaming), sync_limiter, entity=entity))

    assert Response(app).read() == b"ab"


def test_the_lease_lasts_until_the_body_is_closed(sync_limiter: SyncRateLimiter) -> None:
    """Chunks pass one by one, and the headers went out before the first."""
    response = Response(LimiterMiddleware(streaming, sync_limiter, entity=entity, headers="x-ratelimit"))

    assert next(response.body) == b"a"
    assert response.headers["X-RateLimit-Remaining"] == "1"
    lease: SyncLease = response.environ[LEASE]
    assert next(response.body) == b"b"
    assert left(sync_limiter) == 0
    lease.adjust(requests=1)
    response.close()
    with pytest.raises(LeaseClosed):
        lease.adjust(requests=1)


def test_a_body_that_is_whole_is_passed_on_as_it_is(sync_limiter: SyncRateLimiter) -> None:
    """Servers work out the length of a list."""
    assert Response(LimiterMiddleware(hello, sync_limiter, entity=entity)).body == [b"hello"]


def test_close_reaches_the_application(sync_limiter: SyncRateLimiter) -> None:
    """The application's `close` is called once, and the lease ends even if `close` fails."""
    closed: list[SyncLease] = []

    class Body:
        """A body."""

        def __init__(self, lease: SyncLease) -> None:
            self.lease = lease

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

        def close(self) -> None:
            """Fail."""
            closed.append(self.lease)
            raise ZeroDivisionError

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body(environ[LEASE])

    response = Response(LimiterMiddleware(app, sync_limiter, entity=entity))
    with pytest.raises(ZeroDivisionError):
        response.read()

    assert len(closed) == 1
    with pytest.raises(LeaseClosed):
        closed[0].adjust(requests=1)


def test_files_stay_the_servers(sync_limiter: SyncRateLimiter) -> None:
    """A server recognises what it can send by itself, which ends the lease when it is closed."""
    file = io.BytesIO(b"content")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        body: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return body

    response = Response(LimiterMiddleware(app, sync_limiter, entity=entity), **{"wsgi.file_wrapper": FileWrapper})

    assert isinstance(response.body, FileWrapper)
    response.environ[LEASE].adjust(requests=1)
    assert response.read() == b"content"
    assert file.closed
    with pytest.raises(LeaseClosed):
        response.environ[LEASE].adjust(requests=1)


def test_files_that_cannot_be_marked_are_wrapped(sync_limiter: SyncRateLimiter) -> None:
    """Then the server sends them as any other body."""

    class Sealed:
        """A wrapper written in C has no attributes that can be set."""

        __slots__ = ()

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"content"])

    def app(environ: Any, start_response: Any) -> Sealed:
        start_response("200 OK", [])
        return Sealed()

    response = Response(LimiterMiddleware(app, sync_limiter, entity=entity), **{"wsgi.file_wrapper": Sealed})

    assert response.read() == b"content"
    with pytest.raises(LeaseClosed):
        response.environ[LEASE].adjust(requests=1)


def test_exc_info_reaches_the_server(sync_limiter: SyncRateLimiter) -> None:
    """An application that starts again after an error says so by the third argument."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("500 Oops", [], (ValueError, ValueError("x"), None))
        return [b""]

    seen: list[int] = []
    response = Response(
        LimiterMiddleware(app, sync_limiter, entity=entity, refund_when=lambda status, _: bool(seen.append(status)))  # type: ignore[func-returns-value]
    )

    assert response.exc_info[0] is ValueError
    assert seen == [500]


def failing(environ: Any, start_response: Any) -> list[bytes]:
    """An application that fails at once."""
    start_response("200 OK", [])
    raise ZeroDivisionError


def breaking(environ: Any, start_response: Any) -> Iterator[bytes]:
    """An application that fails in its body."""
    start_response("200 OK", [])
    yield b"a"
    raise ZeroDivisionError


@pytest.mark.parametrize(("app", "told"), [(failing, (500, ZeroDivisionError)), (breaking, (200, ZeroDivisionError))])
@pytest.mark.parametrize("refund", [True, False])
def test_errors_go_on_and_are_given_back_where_asked(
    sync_limiter: SyncRateLimiter, app: Any, told: tuple[int, Any], refund: bool
) -> None:
    """`refund_when` gets the status that was sent, or 500, and the error."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return refund

    with pytest.raises(ZeroDivisionError):
        Response(LimiterMiddleware(app, sync_limiter, entity=entity, refund_when=refund_when)).read()

    assert seen == [told]
    assert left(sync_limiter) == (2 if refund else 1)


def test_a_refund_reaches_every_bucket(sync_limiter: SyncRateLimiter) -> None:
    """What other targets hold is given back too, by its own amounts and names, as far as the lease does not keep it."""
    tokens = Limit.per_hour("tokens", 100)
    sync_limiter.set_limits([Limit.per_hour("requests", 10), tokens], entity_id="everybody")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        lease: SyncLease = environ[LEASE]
        if environ["PATH_INFO"] == "/kept":
            lease.keep()
        lease.adjust(requests=+1)
        start_response("503 Service Unavailable", [])
        return []

    also = [("everybody", "default", {"requests": 4, "tokens": 30})]
    guarded = LimiterMiddleware(app, sync_limiter, entity=entity, also=also, refund_when=lambda status, _: status >= 500)
    for path, expected in (("/", [2, 10, 100]), ("/kept", [1, 6, 70])):
        Response(guarded, PATH_INFO=path).read()
        own = sync_limiter.check("one", consume={"requests": 0})
        others = sync_limiter.check("everybody", consume={"requests": 0, "tokens": 0})
        assert [status.available for status in (*own.statuses, *others.statuses)] == expected


def test_a_client_that_hangs_up_pays(sync_limiter: SyncRateLimiter) -> None:
    """The server closes a body that has not ended; `refund_when` can tell."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return status >= 500

    response = Response(LimiterMiddleware(streaming, sync_limiter, entity=entity, refund_when=refund_when))
    next(response.body)
    response.close()

    assert seen == [(200, ConnectionAbortedError)]
    assert left(sync_limiter) == 1


def test_a_body_that_was_never_read_ends_too(sync_limiter: SyncRateLimiter) -> None:
    """A client may be gone before the first chunk."""
    response = Response(LimiterMiddleware(streaming, sync_limiter, entity=entity, refund_when=lambda status, _: status == 499))
    response.close()

    assert left(sync_limiter) == 2


def test_preflights_rules_and_exemptions(sync_limiter: SyncRateLimiter) -> None:
    """Each request is charged by the first rule that matches; preflights, and requests without an entity, are exempt."""
    rules = [Rule(entity="login", match=lambda environ: environ["PATH_INFO"] == "/login", consume={"requests": 2})]
    app = LimiterMiddleware(hello, sync_limiter, entity=lambda environ: environ.get("REMOTE_USER"), rules=rules)
    preflight = {"REQUEST_METHOD": "OPTIONS", "HTTP_ORIGIN": "x", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "PUT"}

    assert [Response(app, PATH_INFO="/login").status for _ in range(2)] == [200, 429]
    exempt = [Response(app) for _ in range(3)]
    assert [response.status for response in exempt] == [200] * 3
    assert exempt[0].environ[LEASE] is None
    assert [Response(app, REMOTE_USER="one").status for _ in range(3)] == [200, 200, 429]
    assert Response(app, REMOTE_USER="one", **preflight).status == 200
    assert Response(app, REMOTE_USER="one", REQUEST_METHOD="OPTIONS", HTTP_ORIGIN="x").status == 429


def test_arguments_are_handed_on() -> None:
    """Parameters that are passed reach `acquire`, `also` included; others keep its defaults."""
    recorder = SyncRecorder()
    everything = {"resource": "search", "consume": {"tokens": 5}, "limits": [], "also": [("all", "search")], "timeout": 2.0}

    Response(LimiterMiddleware(hello, recorder, entity=entity))
    Response(LimiterMiddleware(hello, recorder, entity=entity, **everything))  # type: ignore[arg-type]

    assert recorder.calls == [
        {"entity_id": "one", "resource": "default", "refund_on_error": False},
        {"entity_id": "one", "refund_on_error": False, **everything},
    ]


def test_refusals_can_be_answered_otherwise(sync_limiter: SyncRateLimiter) -> None:
    """`on_refused` makes the answer, or leaves it; a HEAD request gets the headers only."""
    own = Refusal(503, [("X-Busy", "1")], b"busy", "text/plain")

    def on_refused(environ: Any, error: Any) -> Refusal | None:
        return own if isinstance(error, RateLimitExceeded) and environ["PATH_INFO"] == "/own" else None

    app = LimiterMiddleware(hello, sync_limiter, entity=entity, consume={"requests": 3}, on_refused=on_refused)

    response = Response(app, PATH_INFO="/own")
    assert (response.status, response.headers["X-Busy"], response.read()) == (503, "1", b"busy")
    response = Response(app, REQUEST_METHOD="HEAD")
    assert (response.status, response.read()) == (413, b"")


def test_addresses() -> None:
    """The peer counts, or what as many proxies as are trusted have appended."""
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 203.0.113.9"}

    assert client_ip(environ) == "10.0.0.1"
    assert client_ip(environ, trusted=1) == "203.0.113.9"
    assert client_ip({"REMOTE_ADDR": ""}) == "unknown"


def test_the_example() -> None:
    """It admits as many requests as it says."""
    app = runpy.run_path(str(EXAMPLE))["application"]

    assert [Response(app).status for _ in range(6)] == [200] * 5 + [429]
