"""The Django middleware and decorator in the newest Django, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.asgi import get_asgi_application
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from support import django_project
from support.django_project import entity
from support.recorder import Recorder, SyncRecorder

from limiter import ConfigurationError, LeaseClosed, RateLimiter, RateLimiterUnavailable, SyncRateLimiter, ValidationError
from limiter.contrib.django import LimiterMiddleware, client_ip, ratelimit
from limiter.contrib.http import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
pytestmark = pytest.mark.usefixtures("urls")


def hello(request: Any) -> HttpResponse:
    """A view."""
    return HttpResponse("hello")


async def hello_async(request: Any) -> HttpResponse:
    """An asynchronous view."""
    return HttpResponse("hello")


def configured(**options: Any) -> Any:
    """The settings with the middleware."""
    return override_settings(MIDDLEWARE=django_project.LIMITER_MIDDLEWARE, LIMITER=options)


def left(limiter: SyncRateLimiter) -> int:
    """What is left of the bucket."""
    return limiter.check("one", consume={"requests": 0}).statuses[0].available


async def left_async(limiter: RateLimiter) -> int:
    """What is left of the bucket."""
    return (await limiter.check("one", consume={"requests": 0})).statuses[0].available


def test_the_middleware_limits_and_refuses(urls: list[Any], sync_limiter: SyncRateLimiter) -> None:
    """Of three requests two reach the view, with headers, and the third is 429 with a problem document."""
    seen: list[Any] = []

    def view(request: Any) -> HttpResponse:
        seen.append(request.lease)
        return HttpResponse("hello")

    urls.append(path("", view))
    with configured(sync_limiter=sync_limiter, entity=entity, headers="draft-11"):
        answers = [Client().get("/") for _ in range(3)]
        exempt = Client().get("/?exempt")
        preflight = Client().options("/", headers={"origin": "https://example.com", "access-control-request-method": "PUT"})
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit"] == '"requests";r=1;t=3600'
    assert (answers[2].headers["Content-Type"], answers[2].headers["Retry-After"]) == ("application/problem+json", "3600")
    assert answers[2].json()["violated-policies"] == ["requests"]
    assert [lease and lease.entity_id for lease in seen] == ["one", "one", None, None]
    assert (exempt.status_code, preflight.status_code) == (200, 200)


async def test_the_middleware_is_asynchronous_where_django_is(urls: list[Any], limiter: RateLimiter) -> None:
    """It then takes the asynchronous limiter, and the view corrects the lease in its own event loop."""

    async def view(request: Any) -> HttpResponse:
        await request.lease.adjust(requests=1)
        return HttpResponse("hello")

    urls.append(path("", view))
    with configured(limiter=limiter, entity=entity):
        answers = [await AsyncClient().get("/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["Retry-After"] == "3600"


async def test_plain_views_under_asgi_have_their_requests_limited_too(urls: list[Any], limiter: RateLimiter) -> None:
    """The middleware does not run in the view's thread."""
    urls.append(path("", hello))
    with configured(limiter=limiter, entity=entity):
        assert [(await AsyncClient().get("/")).status_code for _ in range(3)] == [200, 200, 429]


def test_the_middleware_says_which_mode_it_runs_in(limiter: RateLimiter, sync_limiter: SyncRateLimiter) -> None:
    """Django wraps nothing around it."""

    async def get_response(request: Any) -> HttpResponse:
        return HttpResponse()

    assert LimiterMiddleware.sync_capable
    assert LimiterMiddleware.async_capable
    with override_settings(LIMITER={"limiter": limiter, "sync_limiter": sync_limiter, "entity": entity}):
        assert iscoroutinefunction(LimiterMiddleware(get_response))
        assert not iscoroutinefunction(LimiterMiddleware(hello))


def test_settings_may_be_dotted_paths(urls: list[Any]) -> None:
    """Limiters and callables are imported."""
    urls.append(path("", hello))
    module = "support.django_project"
    with configured(sync_limiter=f"{module}.recorder", entity=f"{module}.entity", resource="site"):
        assert Client().get("/").status_code == 200
    assert django_project.recorder.calls == [{"entity_id": "one", "resource": "site", "refund_on_error": False}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entity": entity}, "needs 'sync_limiter': this middleware runs synchronously"),
        ({"entities": entity}, r"has no \['entities'\]"),
    ],
)
def test_settings_that_cannot_work_are_errors(options: dict[str, Any], message: str) -> None:
    """They are found when Django starts."""
    with configured(**options), pytest.raises(ConfigurationError, match=message):
        WSGIHandler()


async def test_limiters_that_do_not_fit_are_errors(limiter: RateLimiter, sync_limiter: SyncRateLimiter) -> None:
    """An asynchronous limiter is for asynchronous views, and a synchronous one for plain views."""
    with configured(sync_limiter=limiter, entity=entity), pytest.raises(ValidationError, match="needs a SyncRateLimiter"):
        WSGIHandler()
    with pytest.raises(ValidationError, match="needs a SyncRateLimiter"):
        await ratelimit(limiter, entity=entity)(hello)(RequestFactory().get("/"))  # type: ignore[misc]
    with pytest.raises(ValidationError, match="needs a RateLimiter"):
        ratelimit(sync_limiter, entity=entity)(hello_async)


def test_without_an_entity_the_middleware_answers_refusals_of_views(urls: list[Any]) -> None:
    """A view may acquire by itself, or find the table unreachable."""

    def view(request: Any) -> HttpResponse:
        raise RateLimiterUnavailable("no table")

    urls.append(path("", view))
    with configured():
        answer = Client().get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_the_decorator_limits_a_view(urls: list[Any], sync_limiter: SyncRateLimiter) -> None:
    """It needs no middleware; arguments of the view are passed on."""

    @ratelimit(sync_limiter, entity=entity, resource="item", headers="x-ratelimit")
    def item(request: Any, number: int) -> HttpResponse:
        return HttpResponse(f"{request.lease.resource} {number}")

    urls.append(path("<int:number>", item))
    answers = [Client().get("/7") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[0].content, answers[0].headers["X-RateLimit-Remaining"]) == (b"item 7", "1")


async def test_the_decorator_limits_an_asynchronous_view(urls: list[Any], limiter: RateLimiter) -> None:
    """It stays a coroutine function."""

    @ratelimit(limiter, entity=entity)
    async def item(request: Any, number: int) -> HttpResponse:
        await request.lease.adjust(requests=1)
        return HttpResponse(f"{number}")

    urls.append(path("<int:number>", item))
    answers = [await AsyncClient().get("/7") for _ in range(2)]

    assert iscoroutinefunction(item)
    assert [answer.status_code for answer in answers] == [200, 429]


def test_views_that_are_classes(urls: list[Any], limiter: RateLimiter, sync_limiter: SyncRateLimiter) -> None:
    """What `as_view()` returns is decorated, in either mode; a coroutine that slips through is an error, not a free pass."""

    class Plain(View):
        """A plain view."""

        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("hello")

    class Asynchronous(View):
        """An asynchronous view."""

        async def get(self, request: Any) -> HttpResponse:
            return HttpResponse("hello")

    urls += [
        path("plain", ratelimit(sync_limiter, entity=entity)(Plain.as_view())),
        path("async", ratelimit(limiter, entity=entity)(Asynchronous.as_view())),
    ]
    assert [Client().get("/plain").status_code for _ in range(3)] == [200, 200, 429]
    assert [Client().get("/async").status_code for _ in range(3)] == [200, 200, 429]
    dispatch = ratelimit(sync_limiter, entity="other")(lambda request: Asynchronous().get(request))
    with pytest.raises(ValidationError, match="as_view"):
        dispatch(RequestFactory().get("/"))


async def test_methods_of_classes(limiter: RateLimiter, sync_limiter: SyncRateLimiter) -> None:
    """Django's `method_decorator` makes the decorator one of methods, in either mode."""

    class Plain(View):
        """A plain view."""

        @method_decorator(ratelimit(sync_limiter, entity=entity))
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("hello")

    class Asynchronous(View):
        """An asynchronous view."""

        @method_decorator(ratelimit(limiter, entity=entity))
        async def get(self, request: Any) -> HttpResponse:
            return HttpResponse("hello")

    request = RequestFactory().get("/")
    plain = Plain.as_view()
    assert [(await asyncio.to_thread(plain, request)).status_code for _ in range(3)] == [200, 200, 429]
    assert [(await Asynchronous.as_view()(request)).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_arguments_are_handed_on(kind: str) -> None:
    """Parameters that are passed reach `acquire`, `also` included; others keep its defaults."""
    everything: dict[str, Any] = {"resource": "search", "consume": {"tokens": 5}, "limits": [], "also": [("all", "x")]}
    request = RequestFactory().get("/")
    recorder: Any = SyncRecorder() if kind == "sync" else Recorder()

    for options in ({}, everything):
        decorate = ratelimit(recorder, entity=entity, **options)
        if kind == "sync":
            decorate(hello)(request)
        else:
            await decorate(hello_async)(request)

    assert recorder.calls == [
        {"entity_id": "one", "resource": "default", "refund_on_error": False},
        {"entity_id": "one", "refund_on_error": False, **everything},
    ]


@pytest.mark.parametrize(
    ("raised", "told"), [(None, 200), (Http404(), 404), (PermissionDenied(), 403), (ZeroDivisionError(), 500)]
)
@pytest.mark.parametrize("how", ["middleware", "decorator"])
def test_errors_cost_unless_refund_when_says_otherwise(
    urls: list[Any], sync_limiter: SyncRateLimiter, how: str, raised: Exception | None, told: int
) -> None:
    """It is told the status that the client has seen; errors of the server are given back where that is asked for."""
    seen: list[int] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append(status)
        return status >= 500

    def view(request: Any) -> HttpResponse:
        if raised is not None:
            raise raised
        return HttpResponse("hello")

    client = Client(raise_request_exception=False)
    if how == "decorator":
        urls.append(path("", ratelimit(sync_limiter, entity=entity, refund_when=refund_when)(view)))
        assert client.get("/").status_code == told
    else:
        urls.append(path("", view))
        with configured(sync_limiter=sync_limiter, entity=entity, refund_when=refund_when):
            assert client.get("/").status_code == told
    assert seen == [told]
    assert left(sync_limiter) == (2 if told == 500 else 1)


async def test_errors_of_asynchronous_views(limiter: RateLimiter) -> None:
    """A view that is cancelled, as when the client hangs up, has no status; it pays unless that is asked for."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return status >= 500

    for error in (ZeroDivisionError(), asyncio.CancelledError()):

        @ratelimit(limiter, entity=entity, refund_when=refund_when)
        async def view(request: Any, error: BaseException = error) -> HttpResponse:
            raise error

        with pytest.raises(type(error)):
            await view(RequestFactory().get("/"))

    assert seen == [(500, ZeroDivisionError), (499, asyncio.CancelledError)]
    assert await left_async(limiter) == 1


def test_streams_keep_the_lease_until_they_end(sync_limiter: SyncRateLimiter) -> None:
    """A generator corrects what it took, chunk by chunk."""
    request = RequestFactory().get("/")

    @ratelimit(sync_limiter, entity=entity)
    def view(request: Any) -> StreamingHttpResponse:
        def chunks() -> Iterator[str]:
            yield "a"
            request.lease.adjust(requests=1)
            yield "b"

        return StreamingHttpResponse(chunks())

    response = view(request)
    assert b"".join(response) == b"ab"
    assert left(sync_limiter) == 0
    response.close()
    with pytest.raises(LeaseClosed):
        request.lease.adjust(requests=1)


@pytest.mark.parametrize("chunks_read", [0, 1])
def test_a_client_that_hangs_up_pays(sync_limiter: SyncRateLimiter, chunks_read: int) -> None:
    """The server closes the response; `refund_when` sees the client's part in it."""
    seen: list[tuple[int, Any]] = []

    @ratelimit(sync_limiter, entity=entity, refund_when=lambda *told: bool(seen.append(told)))  # type: ignore[func-returns-value]
    def view(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(chunk for chunk in "ab")

    response = view(RequestFactory().get("/"))
    for _ in range(chunks_read):
        next(iter(response))
    response.close()

    assert [(status, type(error)) for status, error in seen] == [(200, ConnectionAbortedError)]
    assert left(sync_limiter) == 1


async def test_asynchronous_streams_keep_the_lease_until_they_end(limiter: RateLimiter) -> None:
    """A generator corrects what it took, in the event loop of the request."""
    seen: list[tuple[int, Any]] = []

    @ratelimit(limiter, entity=entity, refund_when=lambda *told: bool(seen.append(told)))  # type: ignore[func-returns-value]
    async def view(request: Any) -> StreamingHttpResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "a"
            await request.lease.adjust(requests=1)
            yield "b"

        return StreamingHttpResponse(chunks())

    request = RequestFactory().get("/")
    response = await view(request)
    assert [chunk async for chunk in response] == [b"a", b"b"]
    assert await left_async(limiter) == 0
    with pytest.raises(LeaseClosed):
        await request.lease.adjust(requests=1)
    assert seen == [(200, None)]


def serve_asgi(app: Any, *, hang_up_after: int | None = None, path: str = "/") -> Any:
    """Serve one request by the protocol; the client may hang up after some messages of the body."""

    async def run() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        gone = asyncio.Event()
        incoming = [{"type": "http.request", "body": b""}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if hang_up_after is not None and len(sent) > hang_up_after:
                gone.set()
                await asyncio.sleep(3600)

        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "client": ("192.0.2.1", 1)}
        await app(scope, receive, send)
        return sent

    return run()


@pytest.mark.parametrize("hang_up_after", [0, 1])
@pytest.mark.parametrize("kind", ["async", "sync", "file"])
async def test_clients_that_hang_up_under_asgi(
    urls: list[Any], limiter: RateLimiter, tmp_path: Path, kind: str, hang_up_after: int
) -> None:
    """Django's own handler ends the lease of every kind of stream, also of one that never began."""
    (tmp_path / "file").write_bytes(b"content")
    seen: list[tuple[int, Any]] = []
    kept: list[Any] = []

    async def view(request: Any) -> StreamingHttpResponse:
        kept.append(request.lease)

        async def chunks() -> AsyncIterator[str]:
            yield "a"
            yield "b"

        if kind == "file":
            response = FileResponse((tmp_path / "file").open("rb"))
        else:
            response = StreamingHttpResponse(chunks() if kind == "async" else iter("ab"))
        return response

    urls.append(path("", ratelimit(limiter, entity=entity, refund_when=lambda *told: bool(seen.append(told)))(view)))  # type: ignore[func-returns-value]

    reads_it_whole = kind != "async" and hang_up_after > 0
    with pytest.warns(Warning, match="StreamingHttpResponse must consume") if reads_it_whole else nullcontext():
        await serve_asgi(get_asgi_application(), hang_up_after=hang_up_after)

    assert [status for status, _ in seen] == [200]
    assert (seen[0][1] is None) == (kind == "file" or reads_it_whole)
    with pytest.raises(LeaseClosed):
        await kept[0].adjust(requests=1)


def test_files_stay_the_servers(urls: list[Any], sync_limiter: SyncRateLimiter, tmp_path: Path) -> None:
    """A server that sends files by itself still can, and ends the lease when it closes them."""
    (tmp_path / "file").write_bytes(b"content")
    kept: list[Any] = []

    @ratelimit(sync_limiter, entity=entity)
    def view(request: Any) -> FileResponse:
        kept.append(request.lease)
        return FileResponse((tmp_path / "file").open("rb"))

    urls.append(path("", view))
    environ = RequestFactory().get("/").environ | {"wsgi.file_wrapper": FileWrapper}
    body = WSGIHandler()(environ, lambda *_: None)

    assert isinstance(body, FileWrapper)
    kept[0].adjust(requests=1)
    assert b"".join(body) == b"content"
    body.close()
    with pytest.raises(LeaseClosed):
        kept[0].adjust(requests=1)


def test_refusals_can_be_answered_otherwise(urls: list[Any], sync_limiter: SyncRateLimiter) -> None:
    """`on_refused` returns a response or a `Refusal`, or leaves it."""
    own = Refusal(503, [("X-Busy", "1")], b"busy", "text/plain")

    def on_refused(request: Any, error: Exception) -> Any:
        return {"/text": HttpResponse("slow down", status=420), "/refusal": own}.get(request.path)

    limited = ratelimit(sync_limiter, entity=entity, consume={"requests": 3}, on_refused=on_refused)
    urls.append(path("<name>", limited(lambda request, name: HttpResponse())))

    assert [Client().get(f"/{name}").status_code for name in ("text", "refusal", "none")] == [420, 503, 413]


def test_addresses() -> None:
    """The peer counts, or what as many proxies as are trusted have appended."""
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="1.1.1.1, 203.0.113.9")

    assert client_ip(request) == "10.0.0.1"
    assert client_ip(request, trusted=1) == "203.0.113.9"


def test_the_example() -> None:
    """It admits as many requests as it says; the middleware charges the searches too."""
    assert django_project.statuses_of_example("django_app", ["/search"] * 3 + ["/"] * 3) == [200, 200, 429, 200, 200, 429]
