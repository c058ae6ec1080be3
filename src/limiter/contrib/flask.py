"""Limits for Flask: an extension with a decorator for views, blueprints and the application.

    limits = Limiter(limiter, entity=lambda: client_ip(request.remote_addr, request.headers.get))
    limits.init_app(app)

    @app.get("/search")
    @limits.limit(resource="search")
    def search(): ...

Needs Flask: `pip install "dynamodb-limiter[flask]"`. The limiter is a `SyncRateLimiter`, for `async def` views too: Flask runs
them in an event loop that ends with the view.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload
from warnings import warn

from limiter import ConfigurationError, ValidationError

from .extras import check_sync_limiter
from .http import REFUSALS, Refusal, Rule, check_style, refusal
from .wsgi import Exchange, end_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from flask import Flask

    from limiter import LimiterError, SyncRateLimiter

    from .http import HeaderStyle

__all__ = ["Limiter"]

_EXCHANGE = "limiter.exchange"
_OWN_RULE = "__limiter_rule__"
"""The attribute of views that have their own rule, or None if they are exempt."""

T = TypeVar("T")


class Limiter:
    """Limits the views, blueprints and applications that `limit` is called for.

    - `limiter`: the `SyncRateLimiter` that decides.
    - `entity`: the entity to charge by default; a callable is called without arguments inside the request. None exempts it.
    - `headers`: the style of the headers, as in `http.rate_headers`.
    - `on_refused`: called with the error; returns what a view may return, or None for the default response.

    A rule of a view replaces that of its blueprint, and a blueprint's that of the application. The `SyncLease` is in `g.lease`,
    None if the request is exempt, and ends when the server closes the response.
    """

    def __init__(
        self,
        limiter: SyncRateLimiter,
        *,
        entity: str | Callable[[], str | None],
        app: Flask | None = None,
        headers: HeaderStyle = "retry-after",
        on_refused: Callable[[LimiterError], Any] | None = None,
    ) -> None:
        check_style(headers)
        check_sync_limiter(limiter, self)
        self.limiter = limiter
        self.entity = entity
        self.headers: HeaderStyle = headers
        self.on_refused = on_refused
        self._apps: list[Flask] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Prepare an application: its responses get headers, and end the leases of their requests."""
        inner = app.wsgi_app

        def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            exchange = environ[_EXCHANGE] = Exchange(start_response, self.headers)
            return exchange.run(inner, environ)

        app.wsgi_app = wsgi_app  # type: ignore[method-assign] # as Flask documents it for middleware
        app.extensions["limiter"] = self
        self._apps.append(app)

    @overload
    def limit(self, target: T, /) -> T: ...

    @overload
    def limit(
        self,
        /,
        *,
        entity: str | Callable[[], str | None] | None = ...,
        resource: str | Callable[[], str] | None = ...,
        consume: Mapping[str, int] | Callable[[], Mapping[str, int]] | None = ...,
        limits: Any = ...,
        also: Sequence[Any] | Callable[[], Any] | None = ...,
        timeout: float | None = ...,
        refund_when: Callable[[int, BaseException | None], bool] | None = ...,
    ) -> Callable[[T], T]: ...

    def limit(
        self,
        target: Any = None,
        /,
        *,
        entity: str | Callable[[], str | None] | None = None,
        resource: str | Callable[[], str] | None = None,
        consume: Mapping[str, int] | Callable[[], Mapping[str, int]] | None = None,
        limits: Any = None,
        also: Sequence[Any] | Callable[[], Any] | None = None,
        timeout: float | None = None,
        refund_when: Callable[[int, BaseException | None], bool] | None = None,
    ) -> Any:
        """Limit a view, as a decorator, or all views of a blueprint or an application: `limits.limit(resource="x")(blueprint)`.

        The parameters are those of `http.Rule`, with callables without arguments that are called inside the request.
        """
        rule = Rule(
            entity=self.entity if entity is None else entity,
            resource="default" if resource is None else resource,
            consume=consume,
            limits=limits,
            also=also,
            timeout=timeout,
            refund_when=refund_when,
        )
        decorate = partial(self._limit, rule)
        return decorate if target is None else decorate(target)

    def exempt(self, target: T) -> T:
        """Exempt a view, or all views of a blueprint, from the rules of blueprints and applications around it."""
        setattr(target, _OWN_RULE, None)
        return target

    def _limit(self, rule: Rule, target: Any) -> Any:
        if hasattr(target, "before_request"):
            setattr(target, _OWN_RULE, rule)
            target.before_request(partial(self._enter_outer, target))
            return target
        if not callable(target):
            raise ValidationError(f"limit() is for views, blueprints and applications, not for {target!r}")
        if any(target in app.view_functions.values() for app in self._apps):
            message = (
                f"limit() above the route of {target.__name__}() does not limit that route, whose function is registered: "
                "put it below the route, directly above the function"
            )
            warn(message, RuntimeWarning, stacklevel=2)

        @wraps(target)
        def limited(*args: Any, **kwargs: Any) -> Any:
            from flask import current_app

            refused = self._enter(rule)
            return current_app.ensure_sync(target)(*args, **kwargs) if refused is None else refused

        setattr(limited, _OWN_RULE, replace(rule))
        return limited

    def _enter_outer(self, owner: Any) -> Any:
        """Acquire the lease of a blueprint's or application's rule, unless a rule nearer to the view exists."""
        from flask import current_app, g, request

        nearer: list[Any] = [current_app.view_functions.get(request.endpoint or "")]
        nearer += [current_app.blueprints[name] for name in request.blueprints]
        rule = next((getattr(each, _OWN_RULE) for each in nearer if hasattr(each, _OWN_RULE)), getattr(owner, _OWN_RULE))
        if rule is None:
            g.lease = None
        return self._enter(rule) if rule is getattr(owner, _OWN_RULE) and rule is not None else None

    def _enter(self, rule: Rule) -> Any:
        """Acquire a lease for the request; return the response if it is refused."""
        from flask import g, request

        exchange: Exchange | None = request.environ.get(_EXCHANGE)
        if exchange is None:
            raise ConfigurationError("the application has no limiter: call Limiter.init_app(app), or pass Limiter(..., app=app)")
        g.lease = None
        charge = None if _is_preflight() else rule.charge()
        if charge is None:
            return None
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(self.limiter.acquire(**charge))
            except REFUSALS as error:
                return self._answer(error)
            exchange.add(lease.statuses, partial(end_lease, stack.pop_all(), lease, rule))
            g.lease = lease
        return None

    def _answer(self, error: Any) -> Any:
        given = None if self.on_refused is None else self.on_refused(error)
        if given is None:
            given = refusal(error, headers=self.headers)
        return (given.body, given.status, given.fields) if isinstance(given, Refusal) else given


def _is_preflight() -> bool:
    from flask import request

    return request.method == "OPTIONS" and "Origin" in request.headers and "Access-Control-Request-Method" in request.headers
