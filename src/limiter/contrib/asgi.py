"""A middleware for every ASGI application: Starlette, FastAPI, Litestar, Quart and others.

    app = LimiterMiddleware(app, limiter, entity=client_ip)

It buffers nothing and starts no tasks: messages of the body pass unchanged. Needs no other library.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from . import http
from .extras import check_async_limiter
from .http import REFUSALS, Rule, check_style, choose, ended, rate_headers, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from limiter import Lease, LimiterError, LimitStatus, RateLimiter

    from .http import HeaderStyle, Refusal

    # Each framework has its own types for these.
    Scope = Any
    Message = Any
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[Any]]
    ASGIApp = Callable[..., Awaitable[Any]]
    End = Callable[[int, BaseException | None], Awaitable[None]]

__all__ = ["LimiterMiddleware", "client_ip", "header"]

TRY_AGAIN_LATER = 1013
"""The code with which a websocket is closed if the server cannot send a response instead."""
_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}
_STATUSES = {**dict.fromkeys(_STARTS, 101), "websocket.close": 403}
"""Messages that carry the status of a response, and the status without one: a rejected handshake is answered 403."""
_BODIES = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend", "http.response.trailers"}


class LimiterMiddleware:
    """Acquires a lease for each request, and responds to refused requests itself.

    The parameters are those of `http.Rule`, with callables of the scope, which may be coroutine functions, and:

    - `rules`: rules for some of the requests; the first that matches replaces the parameters above.
    - `headers`: the style of the headers, as in `http.rate_headers`.
    - `on_refused`: called with the scope and the error; returns the `Refusal` to send, or None for the default one.

    The lease is in `scope["state"]["lease"]`, in Starlette `request.state.lease`, and ends with the body; it is None if the
    request is exempt. CORS preflights are exempt, and so are protocols other than HTTP and websockets. Add `CORSMiddleware`
    outside of this one, so that browsers may read its responses too.
    """

    def __init__(
        self,
        app: ASGIApp,
        limiter: RateLimiter,
        *,
        entity: str | Callable[[Scope], Any],
        resource: str | Callable[[Scope], Any] = "default",
        consume: Mapping[str, int] | Callable[[Scope], Any] | None = None,
        limits: Any = None,
        also: Sequence[Any] | Callable[[Scope], Any] | None = None,
        timeout: float | None = None,
        headers: HeaderStyle = "retry-after",
        refund_when: Callable[[int, BaseException | None], bool] | None = None,
        on_refused: Callable[[Scope, LimiterError], Refusal | Awaitable[Refusal | None] | None] | None = None,
        exempt: Callable[[Scope], Any] | None = None,
        rules: Iterable[Rule] = (),
    ) -> None:
        check_style(headers)
        check_async_limiter(limiter, self)
        self.app = app
        self.limiter = limiter
        self.headers: HeaderStyle = headers
        self.on_refused = on_refused
        own = Rule(
            entity=entity,
            exempt=exempt,
            resource=resource,
            consume=consume,
            limits=limits,
            also=also,
            timeout=timeout,
            refund_when=refund_when,
        )
        self.rules = (*rules, own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a websocket or a lifespan."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        rule = None if _is_preflight(scope) else choose(self.rules, scope)
        charge = await rule.charge_async(scope) if rule is not None else None
        if rule is None or charge is None:
            scope.setdefault("state", {}).setdefault("lease", None)
            await self.app(scope, receive, send)
            return
        async with AsyncExitStack() as stack:
            try:
                lease = await stack.enter_async_context(self.limiter.acquire(**charge))
            except REFUSALS as error:
                await answer(scope, receive, send, await self._refusal(scope, error))
                return
            exchange = Exchange(scope, receive, send, self.headers)
            exchange.add(lease.statuses, partial(end_lease, stack.pop_all(), lease, rule))
            scope.setdefault("state", {})["lease"] = lease
            await exchange.run(self.app)

    async def _refusal(self, scope: Scope, error: Any) -> Refusal:
        given = None if self.on_refused is None else self.on_refused(scope, error)
        return (await given if inspect.isawaitable(given) else given) or refusal(error, headers=self.headers)


class Exchange:
    """One request and its response. Ends the request's leases when the body has been sent, or the request failed."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, headers: HeaderStyle) -> None:
        self.scope = scope
        self.statuses: list[LimitStatus] = []
        self._receive = receive
        self._send = send
        self._headers: HeaderStyle = headers
        self._ends: list[End] = []
        self._status: int | None = None
        self._has_trailers = False
        self._complete = False
        self._hung_up = False

    def add(self, statuses: Sequence[LimitStatus], end: End) -> None:
        """Add a lease: its headers go into the response, and `end` is called with the status and the error."""
        self.statuses.extend(statuses)
        self._ends.append(end)

    async def run(self, app: ASGIApp) -> None:
        """Have the application serve the request."""
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as error:
            await self._end(error)
            raise
        await self._end(None)

    async def receive(self) -> Message:
        """Pass on a message from the client, and note a disconnect."""
        message: Message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._hung_up = True
        elif message["type"] == "websocket.disconnect" and self._status is None:
            self._hung_up = True  # During the handshake; later it is how a websocket ends.
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message to the client; add headers where the response starts, and end the leases where it ends."""
        kind = message["type"]
        if kind in _STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *encoded(self._fields())]}
        try:
            await self._send(message)
        except OSError:
            self._hung_up = True
            raise
        if kind in _STATUSES and self._status is None:
            self._status = message.get("status", _STATUSES[kind])
            self._has_trailers = message.get("trailers", False)
        elif kind in _BODIES and not self._goes_on(message):
            self._complete = True
            await self._end(None)

    def _goes_on(self, message: Message) -> bool:
        if message["type"] == "http.response.trailers":
            return bool(message.get("more_trailers", False))
        return bool(message.get("more_body", False)) or self._has_trailers

    def _fields(self) -> list[tuple[str, str]]:
        return rate_headers(self.statuses, headers=self._headers) if self.statuses else []

    async def _end(self, error: BaseException | None) -> None:
        ends, self._ends = self._ends, []
        is_http = self.scope["type"] == "http"
        hung_up = self._hung_up or (error is None and is_http and not self._complete and self._status is not None)
        status, error = ended(self._status, error, hung_up=hung_up)
        for end in reversed(ends):
            await end(status, error)


async def end_lease(stack: AsyncExitStack, lease: Lease, rule: Rule, status: int, error: BaseException | None) -> None:
    """End a lease whose request ended with this status and error; refund what it holds in every bucket if the rule says so."""
    async with stack:
        if rule.refunds(status, error):
            await lease.close(refund=True)


async def answer(scope: Scope, receive: Receive, send: Send, refused: Refusal) -> None:
    """Send a refusal as a response, to websockets too if the server supports that; otherwise reject the handshake."""
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": refused.reason})
            return
        prefix = "websocket."
    body = b"" if scope.get("method") == "HEAD" else refused.body
    await send({"type": f"{prefix}http.response.start", "status": refused.status, "headers": encoded(refused.fields)})
    await send({"type": f"{prefix}http.response.body", "body": body, "more_body": False})


def header(scope: Scope, name: str) -> str | None:
    """Return the value of a request's header, by its lower-case name, or None; several of one name are joined by commas."""
    wanted = name.lower().encode("latin-1")
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]
    return ", ".join(values) if values else None


def client_ip(scope: Scope, **options: Any) -> str:
    """Return the address to limit a request by, by default the peer's; the options are those of `http.client_ip`."""
    client = scope.get("client")
    return http.client_ip(client[0] if client else None, partial(header, scope), **options)


def encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Convert headers to ASGI's form."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def _is_preflight(scope: Scope) -> bool:
    if scope.get("method") != "OPTIONS":
        return False
    return header(scope, "origin") is not None and header(scope, "access-control-request-method") is not None
