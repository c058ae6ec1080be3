"""Parts that the HTTP adapters share, without any framework: responses to refused requests, headers, addresses, keys, rules.

try:
    with limiter.acquire(client_ip(peer, headers.get), "search"):
        ...
except (RateLimitExceeded, RateLimiterUnavailable) as error:
    answer = refusal(error)  # answer.status, answer.headers, answer.body
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote

from limiter import (
    Concurrency,
    Limit,
    NeverSatisfiable,
    RateLimiterUnavailable,
    RateLimitExceeded,
    ValidationError,
)

from .addresses import client_ip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from limiter import LimitStatus

    RefundWhen = Callable[[int, BaseException | None], bool]

__all__ = ["REFUSALS", "HeaderStyle", "Refusal", "Rule", "client_ip", "hashed_key", "rate_headers", "refusal"]

HeaderStyle = Literal["retry-after", "draft-11", "x-ratelimit", "none"]

REFUSALS = (RateLimitExceeded, RateLimiterUnavailable)
"""The errors that `refusal` responds to."""

CLIENT_CLOSED = 499
"""The status that `refund_when` gets if the client disconnected before the response began, as nginx logs it."""

_NANOSECONDS = 1_000_000_000
_UNAVAILABLE_RETRY = 1
"""Seconds after which a client may try again if the table could not be reached."""
_TITLES = {413: "Content Too Large", 429: "Too Many Requests", 503: "Service Unavailable"}
_DRAFT_TYPES = {
    429: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    503: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The response to a refused request: a problem document (RFC 9457), and its headers.

    `headers` does not contain Content-Type and Content-Length; `fields` does.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    content_type: str = "application/problem+json"

    @property
    def reason(self) -> str:
        """The status in words, as in an HTTP/1.1 status line."""
        return _TITLES.get(self.status, "Refused")

    @property
    def fields(self) -> list[tuple[str, str]]:
        """All headers of the response."""
        return [("Content-Type", self.content_type), ("Content-Length", str(len(self.body))), *self.headers]


def refusal(error: RateLimitExceeded | RateLimiterUnavailable, *, headers: HeaderStyle = "retry-after") -> Refusal:
    """Make the response to a refused request.

    The status is 429, 413 for an amount above a capacity (`NeverSatisfiable`), and 503 if the table could not be reached. The
    body names the limits, but not entities and capacities, which may belong to others.
    """
    check_style(headers)
    if isinstance(error, RateLimitExceeded):
        names = list(dict.fromkeys(status.limit.name for status in error.violations))
        status = 413 if isinstance(error, NeverSatisfiable) else 429
        members: dict[str, Any] = {"violated-policies": names}
        fields = _retry_after(error.retry_after, headers) + _style_headers(error.statuses, headers)
        detail = _detail(status, names, error.retry_after)
    else:
        status, members, detail = 503, {}, "The limits cannot be read at the moment."
        fields = _retry_after(_UNAVAILABLE_RETRY, headers)
    kind = _DRAFT_TYPES.get(status, "about:blank") if headers == "draft-11" else "about:blank"
    problem = {"type": kind, "title": _TITLES[status], "status": status, "detail": detail, **members}
    return Refusal(status, fields, json.dumps(problem).encode())


def rate_headers(statuses: Sequence[LimitStatus], *, headers: HeaderStyle) -> list[tuple[str, str]]:
    """Describe the available units, as headers of a response. Makes no call: an acquire has brought the statuses.

    - `"retry-after"`: `Retry-After` if a limit was exceeded, nothing otherwise.
    - `"draft-11"`: also `RateLimit-Policy` and `RateLimit`, as in draft-ietf-httpapi-ratelimit-headers-11, which is a draft.
    - `"x-ratelimit"`: also `X-RateLimit-Limit`, `-Remaining` and `-Reset` of the limit that has the smallest share left;
      the reset is in seconds from now until that limit is full.
    - `"none"`: nothing.

    Limits that are not enforced are left out. Of several limits with one name, such as those of an entity and its parent,
    the one with less left is shown.
    """
    check_style(headers)
    waits = [status.retry_after for status in _enforced(statuses) if status.exceeded]
    longest = None if not waits or None in waits else max(wait for wait in waits if wait is not None)
    return _retry_after(longest, headers) + _style_headers(statuses, headers)


def hashed_key(value: str, *, secret: str | bytes = b"") -> str:
    """Return an id for a value that must not be stored, such as an API key: 32 hexadecimal digits.

    Also makes a usable id of any text that a client sends. `secret` keys the hash (HMAC): use one for values that can be guessed,
    such as e-mail addresses.
    """
    text = value.encode("utf-8", "surrogatepass")
    if secret:
        return hmac.new(secret.encode() if isinstance(secret, str) else secret, text, "sha256").hexdigest()[:32]
    return hashlib.sha256(text).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The amounts, the entity and the resource that requests are charged to.

    Every part is a value or a callable of the request: of the scope, the environ, or the framework's request.

    - `entity`: the entity to charge; a callable that returns None exempts the request.
    - `match`: whether the rule applies to a request, in a list of rules; by default it applies to all. A plain function.
    - `exempt`: whether a request is charged nothing.
    - `resource`, `consume`, `limits`, `also`, `timeout`: as in `acquire`.
    - `refund_when`: called with the response's status and the error, or None, when the request is over; if it returns true,
      everything is refunded. Without it nothing is: failed logins count, and so do requests of clients that disconnect. The
      status is 500 if an error came before a response, and 499 if the client disconnected before it.
    """

    entity: str | Callable[..., Any]
    match: Callable[..., Any] | None = None
    exempt: Callable[..., Any] | None = None
    resource: str | Callable[..., Any] = "default"
    consume: Mapping[str, int] | Callable[..., Any] | None = None
    limits: Iterable[Limit] | Callable[..., Any] | None = None
    also: Sequence[Any] | Callable[..., Any] | None = None
    timeout: float | Callable[..., Any] | None = None
    refund_when: RefundWhen | None = None

    def charge(self, *request: Any) -> dict[str, Any] | None:
        """Return the arguments of the acquire that charges a request; None if it is exempt."""
        if self.exempt is not None and _plain(self.exempt(*request)):
            return None
        entity = _plain(_resolve(self.entity, request))
        if entity is None:
            return None
        values = {name: _plain(_resolve(value, request)) for name, value in self._parts().items()}
        return {"entity_id": entity, **_given(values), "refund_on_error": False}

    async def charge_async(self, *request: Any) -> dict[str, Any] | None:
        """Return the same, if the callables may be coroutine functions."""
        if self.exempt is not None and await _awaited(self.exempt(*request)):
            return None
        entity = await _awaited(_resolve(self.entity, request))
        if entity is None:
            return None
        values = {name: await _awaited(_resolve(value, request)) for name, value in self._parts().items()}
        return {"entity_id": entity, **_given(values), "refund_on_error": False}

    def refunds(self, status: int, error: BaseException | None) -> bool:
        """Tell whether everything is refunded for a request that ended in this way."""
        return self.refund_when is not None and self.refund_when(status, error)

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("resource", "consume", "limits", "also", "timeout")}


def choose(rules: Iterable[Rule], request: Any) -> Rule | None:
    """Return the first rule that matches a request."""
    return next((rule for rule in rules if rule.match is None or _plain(rule.match(request))), None)


def check_style(headers: str) -> None:
    """Raise `ValidationError` unless this is a style of headers."""
    if headers not in get_args(HeaderStyle):
        raise ValidationError(f"headers must be one of {', '.join(get_args(HeaderStyle))}, not {headers!r}")


def ended(status: int | None, error: BaseException | None, *, hung_up: bool) -> tuple[int, BaseException | None]:
    """Return what `refund_when` gets for a request: the status that was sent, or the one that stands for none, and the error."""
    if hung_up and error is None:
        error = ConnectionAbortedError("the client closed the connection before the response was complete")
    if status is not None:
        return status, error
    return (CLIENT_CLOSED if hung_up or not isinstance(error, Exception | None) else 500), error


def _detail(status: int, names: Sequence[str], retry_after: float | None) -> str:
    limits = ", ".join(names)
    if not limits:
        return "Requests are not allowed."
    if status == 413:
        return f"The request exceeds the capacity of this limit: {limits}."
    if retry_after is None:
        return f"Over the limit: {limits}."
    return f"Over the limit: {limits}. Try again in {_whole(retry_after)} s."


def _retry_after(seconds: float | None, style: str) -> list[tuple[str, str]]:
    return [] if seconds is None or style == "none" else [("Retry-After", str(_whole(seconds)))]


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _style_headers(statuses: Sequence[LimitStatus], style: str) -> list[tuple[str, str]]:
    tightest: dict[str, LimitStatus] = {}
    for status in _enforced(statuses):
        known = tightest.get(status.limit.name)
        if known is None or status.available < known.available:
            tightest[status.limit.name] = status
    if not tightest or style not in {"draft-11", "x-ratelimit"}:
        return []
    shown = list(tightest.values())
    return _draft_headers(shown) if style == "draft-11" else _x_headers(min(shown, key=_share))


def _enforced(statuses: Sequence[LimitStatus]) -> list[LimitStatus]:
    return [status for status in statuses if status.limit.enforce]


def _share(status: LimitStatus) -> float:
    return status.available / status.limit.capacity


def _draft_headers(statuses: Sequence[LimitStatus]) -> list[tuple[str, str]]:
    policies, levels = [], []
    for status in statuses:
        name, next_unit = _quoted(status.limit.name), _next_unit(status)
        unit = ';qu="concurrent-requests"' if isinstance(status.limit, Concurrency) else ""
        policies.append(f"{name};q={status.limit.capacity}{unit}" + _parameter("w", _window(status.limit)))
        levels.append(f"{name};r={max(0, status.available)}" + _parameter("t", next_unit))
    return [("RateLimit-Policy", ",".join(policies)), ("RateLimit", ",".join(levels))]


def _x_headers(status: LimitStatus) -> list[tuple[str, str]]:
    fields = [("X-RateLimit-Limit", str(status.limit.capacity)), ("X-RateLimit-Remaining", str(max(0, status.available)))]
    if status.reset_after is not None:
        fields.append(("X-RateLimit-Reset", str(math.ceil(status.reset_after))))
    return fields


def _parameter(name: str, seconds: float | None) -> str:
    return "" if seconds is None else f";{name}={math.ceil(round(seconds, 6))}"


def _window(limit: object) -> float | None:
    """Return the seconds in which an empty bucket fills, if it fills continuously."""
    return limit.window / _NANOSECONDS if isinstance(limit, Limit) else None


def _next_unit(status: LimitStatus) -> float | None:
    """Return the seconds until one more unit is available than now, or any at all in debt; None if none will be."""
    window, full = _window(status.limit), status.reset_after
    if window is None or not full:
        return full or None
    missing = status.limit.capacity - max(0, status.available) - 1
    return max(0.0, full - missing * window / status.limit.capacity)


def _quoted(name: str) -> str:
    """Return a name as a string of RFC 9651, which allows printable ASCII; other characters are percent-encoded."""
    text = quote(name, safe=" !#$&'()*+,/:;=?@[]{}|<>^`~\"\\%")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that have a value; the others keep their defaults."""
    return {name: value for name, value in values.items() if value is not None}


def _resolve(value: Any, request: tuple[Any, ...]) -> Any:
    return value(*request) if callable(value) else value


def _plain(value: Any) -> Any:
    """Return the value; raise an error for an awaitable, which would count as true."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise ValidationError(f"{value!r} has to be awaited, which cannot be done here: use a plain function")
    return value


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
