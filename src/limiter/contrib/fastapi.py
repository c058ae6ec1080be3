"""Limits for FastAPI: a dependency for routes, and responses and headers for the application.

    install(app, limiter)

    @app.get("/search")
    async def search(lease: Annotated[Lease, Depends(limit(limiter, entity=client_ip))]): ...

Needs FastAPI: `pip install "dynamodb-limiter[fastapi]"`.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter import ConfigurationError, RateLimiterUnavailable, RateLimitExceeded, SyncRateLimiter

from . import asgi, wsgi
from .asgi import TRY_AGAIN_LATER, Exchange
from .http import Rule, check_style, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

    from limiter import Lease, LimiterError, RateLimiter, SyncLease

    from .asgi import ASGIApp, Receive, Scope, Send
    from .http import HeaderStyle, Refusal

    AnyLimiter = RateLimiter | SyncRateLimiter

__all__ = ["client_ip", "install", "limit"]

_EXCHANGE = "limiter.exchange"


def limit(
    limiter: AnyLimiter,
    *,
    entity: Any,
    resource: Any = "default",
    consume: Mapping[str, int] | Callable[..., Any] | None = None,
    limits: Any = None,
    also: Sequence[Any] | Callable[..., Any] | None = None,
    timeout: Any = None,
    refund_when: Callable[[int, BaseException | None], bool] | None = None,
    exempt: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Make a dependency that acquires a lease for the request and yields it: `Depends(limit(limiter, entity=client_ip))`.

    The parameters are those of `http.Rule`: values, or callables of the `Request` (of the `WebSocket` in a websocket's route),
    which may be coroutine functions. It yields a `Lease`, or with a `SyncRateLimiter` a `SyncLease`, for plain `def` routes;
    then the callables must be plain functions. If the request is exempt, it yields None.

    A request that is refused raises `RateLimitExceeded`; `install` turns that into a response. With `install`, the lease ends
    with the body of the response. Without it, the lease ends when FastAPI ends its dependencies, after the response, and
    `refund_when` is a `ConfigurationError`.
    """
    rule = Rule(
        entity=entity,
        exempt=exempt,
        resource=resource,
        consume=consume,
        limits=limits,
        also=also,
        timeout=timeout,
        refund_when=refund_when,
    )
    if isinstance(limiter, SyncRateLimiter):
        return _typed(_sync_dependency(limiter, rule))
    return _typed(_dependency(limiter, rule))


def install(
    app: FastAPI,
    limiter: AnyLimiter,
    *,
    headers: HeaderStyle = "retry-after",
    on_refused: Callable[[HTTPConnection, LimiterError], Response | Refusal | Awaitable[Any] | None] | None = None,
) -> None:
    """Respond to refused requests in this application, add headers to responses, and end leases with the body of the response.

    Also opens the limiter when the application starts, so that a missing table stops it there, and closes it at the end.
    `headers` is the style, as in `http.rate_headers`. `on_refused` is called with the request and the error; it returns the
    response, or None for the default one.
    """
    check_style(headers)
    answer = partial(_answer, headers=headers, on_refused=on_refused)

    async def refused(connection: Any, error: Any) -> Any:
        return await answer(connection, error)

    app.add_middleware(_Installed, limiter=limiter, headers=headers)
    app.add_exception_handler(RateLimitExceeded, refused)
    app.add_exception_handler(RateLimiterUnavailable, refused)


def client_ip(connection: HTTPConnection, **options: Any) -> str:
    """Return the address to limit a request by, by default the peer's; the options are those of `http.client_ip`."""
    return asgi.client_ip(connection.scope, **options)


def _dependency(limiter: RateLimiter, rule: Rule) -> Callable[..., AsyncIterator[Lease | None]]:
    async def lease(connection: HTTPConnection) -> AsyncIterator[Lease | None]:
        exchange = _exchange(connection, rule)
        charge = await rule.charge_async(connection)
        if charge is None:
            connection.state.lease = None
            yield None
            return
        async with AsyncExitStack() as stack:
            taken = await stack.enter_async_context(limiter.acquire(**charge))
            if exchange is not None:
                exchange.add(taken.statuses, partial(asgi.end_lease, stack.pop_all(), taken, rule))
            connection.state.lease = taken
            yield taken

    return lease


def _sync_dependency(limiter: SyncRateLimiter, rule: Rule) -> Callable[..., Iterator[SyncLease | None]]:
    def lease(connection: HTTPConnection) -> Iterator[SyncLease | None]:
        exchange = _exchange(connection, rule)
        charge = rule.charge(connection)
        if charge is None:
            connection.state.lease = None
            yield None
            return
        with ExitStack() as stack:
            taken = stack.enter_context(limiter.acquire(**charge))
            if exchange is not None:
                exchange.add(taken.statuses, partial(_in_thread, partial(wsgi.end_lease, stack.pop_all(), taken, rule)))
            connection.state.lease = taken
            yield taken

    return lease


async def _in_thread(end: Callable[[int, BaseException | None], None], status: int, error: BaseException | None) -> None:
    from starlette.concurrency import run_in_threadpool

    await run_in_threadpool(end, status, error)


def _exchange(connection: HTTPConnection, rule: Rule) -> Exchange | None:
    exchange: Exchange | None = connection.scope.get(_EXCHANGE)
    if exchange is None and rule.refund_when is not None:
        raise ConfigurationError("refund_when needs limiter.contrib.fastapi.install(app, limiter), which sees the response")
    return exchange


def _typed(dependency: Callable[..., Any]) -> Callable[..., Any]:
    """Return the dependency with the annotations that tell FastAPI its arguments."""
    from starlette.requests import HTTPConnection

    dependency.__annotations__ = {"connection": HTTPConnection}
    return dependency


async def _answer(connection: HTTPConnection, error: Any, *, headers: HeaderStyle, on_refused: Any) -> Response | None:
    from starlette.responses import Response

    given = None if on_refused is None else on_refused(connection, error)
    given = (await given if inspect.isawaitable(given) else given) or refusal(error, headers=headers)
    if not isinstance(given, Response):
        given = Response(given.body, given.status, dict(given.headers), given.content_type)
    if (exchange := connection.scope.get(_EXCHANGE)) is not None:
        exchange.statuses.clear()  # The response of a refusal has its own headers.
    if connection.scope["type"] == "http":
        return given
    if "websocket.http.response" in (connection.scope.get("extensions") or {}) and _is_connecting(connection):
        await connection.send_denial_response(given)  # type: ignore[attr-defined] # it is a WebSocket
    else:
        await connection.close(TRY_AGAIN_LATER)  # type: ignore[attr-defined] # it is a WebSocket
    return None


def _is_connecting(connection: Any) -> bool:
    from starlette.websockets import WebSocketState

    return bool(connection.application_state == WebSocketState.CONNECTING)


class _Installed:
    """The middleware of `install`."""

    def __init__(self, app: ASGIApp, limiter: AnyLimiter, headers: HeaderStyle) -> None:
        self.app = app
        self.limiter = limiter
        self.headers: HeaderStyle = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve(scope, receive, send)
            return
        exchange = scope[_EXCHANGE] = Exchange(scope, receive, send, self.headers)
        await exchange.run(self.app)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(_opened(self.limiter))
            except Exception as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                raise
            await self.app(scope, receive, send)


@asynccontextmanager
async def _opened(limiter: AnyLimiter) -> AsyncIterator[None]:
    from starlette.concurrency import run_in_threadpool

    if not isinstance(limiter, SyncRateLimiter):
        async with limiter:
            yield
        return
    await run_in_threadpool(limiter.repository.open)
    try:
        yield
    finally:
        await run_in_threadpool(limiter.close)
