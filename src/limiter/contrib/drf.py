"""A throttle for Django REST framework that decides by one write, so that concurrent requests are counted exactly.

    class SearchThrottle(LimiterThrottle):
        limiter = sync_limiter
        scope = "search"

    class SearchView(APIView):
        throttle_classes = [SearchThrottle]

Needs Django REST framework: `pip install "dynamodb-limiter[drf]"`. `limiter.contrib.django.LimiterMiddleware` adds the headers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from limiter import ConfigurationError, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded

from . import django as django_adapter
from .http import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limiter import Decision, Limit, SyncRateLimiter

__all__ = ["LimiterThrottle"]  # noqa: F822 - made by __getattr__

_UNAVAILABLE_WAIT = 1.0


def __getattr__(name: str) -> Any:
    """Make the class on first use, because it is a subclass of one of REST framework."""
    if name != "LimiterThrottle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = _throttle_class()
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _throttle_class() -> type:
    from rest_framework.settings import api_settings
    from rest_framework.throttling import BaseThrottle

    class LimiterThrottle(BaseThrottle):  # type: ignore[misc] # REST framework ships no types
        """Consumes units for each request; subclass it, and set `limiter`.

        - `limiter`: the `SyncRateLimiter` that decides.
        - `scope`: the resource that is charged, unless the view has a `throttle_scope`.
        - `consume`, `limits`, `timeout`: as in `try_acquire`.

        `entity`, `resource` and `also` are methods to override. By default a user is charged by primary key, and an anonymous
        request by its address, behind the number of proxies in the setting `NUM_PROXIES`; None means none. The setting
        `DEFAULT_THROTTLE_RATES` is not used. An amount above a capacity gets status 413, and an unreachable table 503.
        """

        limiter: ClassVar[SyncRateLimiter | None] = None
        scope: ClassVar[str] = "default"
        consume: ClassVar[Mapping[str, int] | None] = None
        limits: ClassVar[Sequence[Limit] | None] = None
        timeout: ClassVar[float | None] = None

        _decision: Decision | None = None

        def entity(self, request: Any, view: Any) -> str | None:
            """Return the entity to charge; None exempts the request."""
            if request.user and request.user.is_authenticated:
                return f"user:{request.user.pk}"
            return django_adapter.client_ip(request, trusted=api_settings.NUM_PROXIES or 0)

        def resource(self, request: Any, view: Any) -> str:
            """Return the resource to charge."""
            return getattr(view, "throttle_scope", None) or self.scope

        def also(self, request: Any, view: Any) -> Sequence[Any] | None:
            """Return further targets to charge in the same decision, as in `acquire`."""
            return None

        def allow_request(self, request: Any, view: Any) -> bool:
            """Charge the request if its limits allow it, and return whether they do."""
            self._decision = _decide(self, request, view)
            return self._decision is None or self._decision.allowed

        def wait(self) -> float | None:
            """Return the seconds until the same request would be allowed; None if that is unknown."""
            return self._decision.retry_after if self._decision is not None else None

    LimiterThrottle.__qualname__ = LimiterThrottle.__name__
    return LimiterThrottle


def _decide(throttle: Any, request: Any, view: Any) -> Decision | None:
    """Charge a request; None if it is exempt."""
    if throttle.limiter is None:
        raise ConfigurationError(f"{type(throttle).__name__} needs limiter = SyncRateLimiter(...)")
    entity = throttle.entity(request, view)
    if entity is None:
        return None
    options = {"limits": throttle.limits, "timeout": throttle.timeout, "also": throttle.also(request, view)}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        decision: Decision = throttle.limiter.try_acquire(entity, throttle.resource(request, view), throttle.consume, **given)
    except RateLimiterUnavailable as error:
        raise _exception(error) from error
    _note(request, decision)
    if not decision and any(each.exceeded and each.requested > each.limit.capacity for each in decision.statuses):
        raise _exception(NeverSatisfiable(decision.statuses))
    return decision


def _note(request: Any, decision: Decision) -> None:
    """Store the statuses for `LimiterMiddleware`; REST framework calls all throttles of a view."""
    inner = request._request
    known = getattr(inner, django_adapter.STATUSES, ())
    setattr(inner, django_adapter.STATUSES, (*known, *decision.statuses))


def _exception(error: RateLimitExceeded | RateLimiterUnavailable) -> Exception:
    """Return the error in the form that REST framework renders."""
    import json

    from rest_framework.exceptions import APIException

    answer = refusal(error)
    exception: Exception = APIException(json.loads(answer.body)["detail"])
    exception.status_code = answer.status  # type: ignore[attr-defined]
    if isinstance(error, RateLimiterUnavailable):
        exception.wait = _UNAVAILABLE_WAIT  # type: ignore[attr-defined] # becomes Retry-After
    return exception
