"""A middleware for every WSGI application, such as those of Flask, Django, Bottle and Falcon.

    application = LimiterMiddleware(application, limiter, entity=client_ip)

It buffers nothing. Needs no other library.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from . import http
from .extras import check_sync_limiter
from .http import REFUSALS, Rule, check_style, choose, ended, rate_headers, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from limiter import LimiterError, LimitStatus, SyncLease, SyncRateLimiter

    from .http import HeaderStyle, Refusal

    Environ = dict[str, Any]
    StartResponse = Callable[..., Any]
    WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]
    End = Callable[[int, BaseException | None], None]

__all__ = ["LEASE", "LimiterMiddleware", "client_ip", "header"]

LEASE = "limiter.lease"
"""The key of the environ that holds the request's `SyncLease`."""


class LimiterMiddleware:
    """Acquires a lease for each request, and responds to refused requests itself.

    The parameters are those of `http.Rule`, with callables of the environ, and:

    - `rules`: rules for some of the requests; the first that matches replaces the parameters above.
    - `headers`: the style of the headers, as in `http.rate_headers`.
    - `on_refused`: called with the environ and the error; returns the `Refusal` to send, or None for the default one.

    The lease is in `environ["limiter.lease"]`, and ends when the server closes the response; it is None if the request is exempt.
    CORS preflights are exempt.
    """

    def __init__(
        self,
        app: WSGIApp,
        limiter: SyncRateLimiter,
        *,
        entity: str | Callable[[Environ], str | None],
        resource: str | Callable[[Environ], str] = "default",
        consume: Mapping[str, int] | Callable[[Environ], Mapping[str, int] | None] | None = None,
        limits: Any = None,
        also: Sequence[Any] | Callable[[Environ], Any] | None = None,
        timeout: float | None = None,
        headers: HeaderStyle = "retry-after",
        refund_when: Callable[[int, BaseException | None], bool] | None = None,
        on_refused: Callable[[Environ, LimiterError], Refusal | None] | None = None,
        exempt: Callable[[Environ], bool] | None = None,
        rules: Iterable[Rule] = (),
    ) -> None:
        check_style(headers)
        check_sync_limiter(limiter, self)
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

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        rule = None if _is_preflight(environ) else choose(self.rules, environ)
        charge = rule.charge(environ) if rule is not None else None
        if rule is None or charge is None:
            environ.setdefault(LEASE, None)
            return self.app(environ, start_response)
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(self.limiter.acquire(**charge))
            except REFUSALS as error:
                return answer(environ, start_response, self._refusal(environ, error))
            exchange = Exchange(start_response, self.headers)
            exchange.add(lease.statuses, partial(end_lease, stack.pop_all(), lease, rule))
        environ[LEASE] = lease
        return exchange.run(self.app, environ)

    def _refusal(self, environ: Environ, error: Any) -> Refusal:
        given = None if self.on_refused is None else self.on_refused(environ, error)
        return given or refusal(error, headers=self.headers)


class Exchange:
    """One request and its response. Ends the request's leases when the response is closed, or the request failed."""

    def __init__(self, start_response: StartResponse, headers: HeaderStyle) -> None:
        self.statuses: list[LimitStatus] = []
        self._start_response = start_response
        self._headers: HeaderStyle = headers
        self._ends: list[End] = []
        self._status: int | None = None

    def add(self, statuses: Sequence[LimitStatus], end: End) -> None:
        """Add a lease: its headers go into the response, and `end` is called with the status and the error."""
        self.statuses.extend(statuses)
        self._ends.append(end)

    def run(self, app: WSGIApp, environ: Environ) -> Iterable[bytes]:
        """Have the application serve the request; return the body, which ends the leases when it is closed."""
        try:
            body = app(environ, self.start_response)
        except BaseException as error:
            self._status = None  # The server responds, because nothing was sent.
            self.end(error)
            raise
        if isinstance(body, list | tuple):
            self.end(None)
            return body
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper) and self._ends_with(body):
            return body
        return Body(body, self.end)

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """Start the response, with the headers of the leases."""
        self._status = int(status.split(" ", 1)[0])
        fields = rate_headers(self.statuses, headers=self._headers) if self.statuses else []
        return self._start_response(status, [*headers, *fields], *exc_info)

    def end(self, error: BaseException | None, *, hung_up: bool = False) -> None:
        """End the leases, once."""
        ends, self._ends = self._ends, []
        status, error = ended(self._status, error, hung_up=hung_up)
        for end in reversed(ends):
            end(status, error)

    def _ends_with(self, body: Any) -> bool:
        """Let a file that the server sends by itself end the leases when closed; false if its `close` cannot be replaced."""
        close = getattr(body, "close", None)

        def close_and_end() -> None:
            try:
                if close is not None:
                    close()
            finally:
                self.end(None)

        try:
            body.close = close_and_end
        except (AttributeError, TypeError):
            return False
        return True


class Body:
    """The body of a response, which calls `end` once: with an error, or when it is closed."""

    def __init__(self, body: Iterable[bytes], end: Callable[..., Any]) -> None:
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._end: Callable[..., Any] | None = end
        self._complete = False

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        try:
            if self._chunks is None:
                self._chunks = iter(self._body)
            return next(self._chunks)
        except StopIteration:
            self._complete = True
            raise
        except BaseException as error:
            self._finish(error)
            raise

    def close(self) -> None:
        """Close the application's body, and end the leases."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._finish(None, hung_up=not self._complete)

    def _finish(self, error: BaseException | None, *, hung_up: bool = False) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(error, hung_up=hung_up)


def end_lease(stack: ExitStack, lease: SyncLease, rule: Rule, status: int, error: BaseException | None) -> None:
    """End a lease whose request ended with this status and error; refund what it holds in every bucket if the rule says so."""
    with stack:
        if rule.refunds(status, error):
            lease.close(refund=True)


def answer(environ: Environ, start_response: StartResponse, refused: Refusal) -> list[bytes]:
    """Send a refusal."""
    start_response(f"{refused.status} {refused.reason}", refused.fields)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [refused.body]


def header(environ: Environ, name: str) -> str | None:
    """Return the value of a request's header; None if there is none. Servers have joined several of one name by commas."""
    value: str | None = environ.get("HTTP_" + name.upper().replace("-", "_"))
    return value


def client_ip(environ: Environ, **options: Any) -> str:
    """Return the address to limit a request by, by default the peer's; the options are those of `http.client_ip`."""
    return http.client_ip(environ.get("REMOTE_ADDR"), partial(header, environ), **options)


def _is_preflight(environ: Environ) -> bool:
    if environ.get("REQUEST_METHOD") != "OPTIONS":
        return False
    return header(environ, "origin") is not None and header(environ, "access-control-request-method") is not None
