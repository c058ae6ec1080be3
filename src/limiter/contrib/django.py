"""Limits for Django: a middleware for all requests, and a decorator for views, in native sync and async versions.

    MIDDLEWARE = [..., "limiter.contrib.django.LimiterMiddleware"]
    LIMITER = {"limiter": "shop.limits.limiter", "sync_limiter": "shop.limits.sync_limiter", "entity": "shop.limits.entity"}

    @ratelimit(sync_limiter, entity=account, resource="search")
    def search(request): ...

Needs Django: `pip install "dynamodb-limiter[django]"`. Under ASGI it uses a `RateLimiter`, under WSGI a `SyncRateLimiter`;
both may use one table, and then count together.
"""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from limiter import ConfigurationError, RateLimiter, SyncRateLimiter, ValidationError

from . import asgi, http, wsgi
from .http import REFUSALS, Refusal, Rule, check_style, ended, rate_headers, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from limiter import LimiterError, LimitStatus

    from .http import HeaderStyle

    End = Callable[[int, BaseException | None], Any]

__all__ = ["LimiterMiddleware", "client_ip", "ratelimit"]

STATUSES = "limiter_statuses"
"""The attribute of a request with the statuses that `LimiterMiddleware` makes headers of."""

_SETTING = "LIMITER"
_IMPORTED = ("limiter", "sync_limiter", "entity", "exempt", "refund_when", "on_refused")
V = TypeVar("V", bound="Callable[..., Any]")
_OPTIONS = {*_IMPORTED, "resource", "consume", "limits", "also", "timeout", "headers"}


class LimiterMiddleware:
    """Acquires a lease for each request, as the setting `LIMITER` says, and responds to refused requests.

    The setting is a dictionary of `limiter` (a `RateLimiter`, for ASGI), `sync_limiter` (a `SyncRateLimiter`, for WSGI), the
    parts of an `http.Rule` with callables of the request, `headers` and `on_refused`. Limiters and callables may be given by
    their dotted paths. Without `entity` nothing is charged here.

    It also responds for views that raise `RateLimitExceeded` or `RateLimiterUnavailable`, and adds headers for `LimiterThrottle`.
    The lease is in `request.lease`, None if the request is exempt, and ends with the body of the response.
    """

    sync_capable = True
    """Django may call it without an event loop."""
    async_capable = True
    """Django may call it under an event loop, without a thread."""

    def __init__(self, get_response: Callable[..., Any]) -> None:
        from asgiref.sync import iscoroutinefunction, markcoroutinefunction

        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        self.guard = _guard_of_settings(is_async=self.is_async)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve a request; asynchronously if `get_response` is async."""
        serve = self.guard.serve_async if self.is_async else self.guard.serve
        return serve(request, self.get_response)

    def process_exception(self, request: Any, error: Exception) -> Any:
        """Respond to a refusal that a view raised."""
        return self.guard.answer(request, error) if isinstance(error, REFUSALS) else None


def ratelimit(
    limiter: RateLimiter | SyncRateLimiter,
    *,
    entity: str | Callable[..., Any],
    resource: str | Callable[..., Any] = "default",
    consume: Mapping[str, int] | Callable[..., Any] | None = None,
    limits: Any = None,
    also: Sequence[Any] | Callable[..., Any] | None = None,
    timeout: float | None = None,
    headers: HeaderStyle = "retry-after",
    refund_when: Callable[[int, BaseException | None], bool] | None = None,
    on_refused: Callable[[Any, LimiterError], Any] | None = None,
    exempt: Callable[..., Any] | None = None,
) -> Callable[[V], V]:
    """Decorate a view, so that each of its requests acquires a lease, available as `request.lease`.

    A plain view takes a `SyncRateLimiter` and an `async def` view a `RateLimiter`. The parameters are those of `http.Rule`, with
    callables of the request; `headers` and `on_refused` as in `LimiterMiddleware`. For class-based views decorate the
    result of `as_view()`.
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
    check_style(headers)
    return _Guard(limiter, rule, headers, on_refused).decorate


def client_ip(request: Any, **options: Any) -> str:
    """Return the address to limit a request by, by default the peer's; the options are those of `http.client_ip`."""
    return http.client_ip(request.META.get("REMOTE_ADDR"), request.headers.get, **options)


@dataclass(frozen=True, slots=True)
class _Guard:
    """Serves requests with a lease, and responds to those that are refused."""

    limiter: Any
    rule: Rule | None
    headers: HeaderStyle
    on_refused: Callable[[Any, LimiterError], Any] | None

    def decorate(self, view: Any) -> Any:
        """Wrap a view, so that each of its requests is served with a lease."""
        from asgiref.sync import iscoroutinefunction

        # `method_decorator` first decorates a plain function, to see how that changes its attributes.
        is_async = iscoroutinefunction(view) or isinstance(self.limiter, RateLimiter)
        _check_limiter(self.limiter, is_async=is_async)
        return wraps(view)(_limited_async(self, view) if is_async else _limited(self, view))

    def serve(self, request: Any, get_response: Callable[[Any], Any]) -> Any:
        """Serve a request with a sync lease."""
        rule = None if _is_preflight(request) else self.rule
        charge = rule.charge(request) if rule is not None else None
        if rule is None or charge is None:
            _note_exemption(request)
            return self._with_headers(request, _not_awaitable(get_response(request)), ())
        with ExitStack() as stack:
            try:
                request.lease = lease = stack.enter_context(self.limiter.acquire(**charge))
            except REFUSALS as error:
                return self.answer(request, error)
            end = partial(wsgi.end_lease, stack.pop_all(), lease, rule)
        try:
            response = _not_awaitable(get_response(request))
        except BaseException as error:
            end(*ended(_status_of(error), error, hung_up=False))
            raise
        _hold(response, end)
        return self._with_headers(request, response, lease.statuses)

    async def serve_async(self, request: Any, get_response: Callable[[Any], Any]) -> Any:
        """Serve a request with an async lease."""
        rule = None if _is_preflight(request) else self.rule
        charge = await rule.charge_async(request) if rule is not None else None
        if rule is None or charge is None:
            _note_exemption(request)
            return self._with_headers(request, await _awaitable(get_response(request)), ())
        async with AsyncExitStack() as stack:
            try:
                request.lease = lease = await stack.enter_async_context(self.limiter.acquire(**charge))
            except REFUSALS as error:
                return self.answer(request, error)
            end = partial(asgi.end_lease, stack.pop_all(), lease, rule)
        try:
            response = await _awaitable(get_response(request))
        except BaseException as error:
            await end(*ended(_status_of(error), error, hung_up=False))
            raise
        await _hold_async(response, end)
        return self._with_headers(request, response, lease.statuses)

    def answer(self, request: Any, error: Any) -> Any:
        """Return the response to a refused request."""
        from django.http import HttpResponse

        given = None if self.on_refused is None else self.on_refused(request, error)
        if given is None:
            given = refusal(error, headers=self.headers)
        if not isinstance(given, Refusal):
            return given
        return HttpResponse(given.body, status=given.status, content_type=given.content_type, headers=dict(given.headers))

    def _with_headers(self, request: Any, response: Any, statuses: Sequence[LimitStatus]) -> Any:
        shown = [*statuses, *getattr(request, STATUSES, ())]
        for name, value in rate_headers(shown, headers=self.headers) if shown else ():
            response.headers.setdefault(name, value)
        return response


def _limited(guard: _Guard, view: Any) -> Any:
    def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
        return guard.serve(request, lambda request: view(request, *args, **kwargs))

    return limited


def _limited_async(guard: _Guard, view: Any) -> Any:
    async def limited(request: Any, *args: Any, **kwargs: Any) -> Any:
        return await guard.serve_async(request, lambda request: view(request, *args, **kwargs))

    return limited


class _Stream:
    """The async content of a response, which ends the lease when it has been sent. `close` ends it if sending never began."""

    def __init__(self, content: AsyncIterator[bytes], end: Callable[..., Any]) -> None:
        self._content = content
        self._end = end
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        error: BaseException | None = None
        complete = False
        try:
            async with aclosing(self._content):  # type: ignore[type-var] # Django makes it an asynchronous generator
                async for chunk in self._content:
                    yield chunk
            complete = True
        except GeneratorExit:
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._ended = True
            await self._end(error, hung_up=not complete and error is None)

    def close(self) -> None:
        """Called when the response is closed, in a thread that runs no event loop."""
        from asgiref.sync import async_to_sync

        if not self._ended:
            self._ended = True
            async_to_sync(self._end)(None, hung_up=True)


def _hold(response: Any, end: End) -> None:
    """Keep a lease until the response's content has been sent."""

    def finish(error: BaseException | None, *, hung_up: bool = False) -> None:
        end(*ended(response.status_code, error, hung_up=hung_up))

    async def finish_async(error: BaseException | None, *, hung_up: bool = False) -> None:
        finish(error, hung_up=hung_up)

    if response.streaming:
        _hold_stream(response, finish, finish_async)
    else:
        finish(None)


async def _hold_async(response: Any, end: End) -> None:
    from asgiref.sync import async_to_sync

    async def finish_async(error: BaseException | None, *, hung_up: bool = False) -> None:
        await end(*ended(response.status_code, error, hung_up=hung_up))

    if response.streaming:
        _hold_stream(response, async_to_sync(finish_async), finish_async)
    else:
        await finish_async(None)


def _hold_stream(response: Any, finish: Callable[..., Any], finish_async: Callable[..., Any]) -> None:
    if response.is_async:
        response.streaming_content = _Stream(response.streaming_content, finish_async)
    elif getattr(response, "file_to_stream", None) is not None:
        # The server may send the file by itself, so its content stays unchanged.
        response.close = partial(_close_file, response.close, finish)
    else:
        response.streaming_content = wsgi.Body(response.streaming_content, finish)


def _close_file(close: Callable[[], None], finish: Callable[..., Any]) -> None:
    try:
        close()
    finally:
        finish(None)


def _note_exemption(request: Any) -> None:
    if not hasattr(request, "lease"):
        request.lease = None


def _awaitable(response: Any) -> Any:
    if not inspect.isawaitable(response):
        raise ValidationError("a plain view needs a SyncRateLimiter, not a RateLimiter")
    return response


def _not_awaitable(response: Any) -> Any:
    if inspect.iscoroutine(response):
        response.close()
        raise ValidationError("a plain function has returned a coroutine: decorate what as_view() returns, with a RateLimiter")
    return response


def _status_of(error: BaseException) -> int | None:
    """Return the status of Django's response to an exception that is not a server error."""
    from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
    from django.http import Http404
    from django.http.multipartparser import MultiPartParserError

    kinds: dict[Any, int] = {Http404: 404, PermissionDenied: 403}
    kinds |= {BadRequest: 400, SuspiciousOperation: 400, MultiPartParserError: 400}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), None)


def _is_preflight(request: Any) -> bool:
    return request.method == "OPTIONS" and "Origin" in request.headers and "Access-Control-Request-Method" in request.headers


def _check_limiter(limiter: object, *, is_async: bool) -> None:
    if is_async and isinstance(limiter, SyncRateLimiter):
        raise ValidationError(f"an asynchronous view needs a RateLimiter, not {limiter!r}")
    if not is_async and isinstance(limiter, RateLimiter):
        raise ValidationError(f"a plain view needs a SyncRateLimiter, not {limiter!r}")


def _guard_of_settings(*, is_async: bool) -> _Guard:
    from django.conf import settings
    from django.utils.module_loading import import_string

    options: dict[str, Any] = dict(getattr(settings, _SETTING, {}))
    if unknown := set(options) - _OPTIONS:
        raise ConfigurationError(f"the setting {_SETTING} has no {sorted(unknown)}; expected some of {sorted(_OPTIONS)}")
    options |= {name: import_string(options[name]) for name in _IMPORTED if isinstance(options.get(name), str)}
    limiters = {name: options.pop(name, None) for name in ("limiter", "sync_limiter")}
    headers, on_refused = options.pop("headers", "retry-after"), options.pop("on_refused", None)
    check_style(headers)
    if "entity" not in options:
        return _Guard(None, None, headers, on_refused)
    limiter = limiters[needed := "limiter" if is_async else "sync_limiter"]
    if limiter is None:
        mode = "asynchronously" if is_async else "synchronously"
        raise ConfigurationError(f"the setting {_SETTING} needs {needed!r}: this middleware runs {mode}")
    _check_limiter(limiter, is_async=is_async)
    return _Guard(limiter, Rule(**options), headers, on_refused)
