"""What a request to another server consumes, and what its response says about that server's limits. Knows no HTTP client."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import LimiterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .. import Lease, LimitStatus, RateLimiter, SyncLease, SyncRateLimiter

    DuckTyped: Any
    """A base class that type checkers accept as any other: transports need the type of their library's base class only."""
else:
    DuckTyped = object

__all__ = ["ANTHROPIC", "OPENAI", "DuckTyped", "Outgoing", "Target", "retry_after"]

OPENAI = {"requests": "x-ratelimit-remaining-requests", "tokens": "x-ratelimit-remaining-tokens"}
"""OpenAI's response headers for the remaining units, by names of limits."""
ANTHROPIC = {
    "requests": "anthropic-ratelimit-requests-remaining",
    "input_tokens": "anthropic-ratelimit-input-tokens-remaining",
    "output_tokens": "anthropic-ratelimit-output-tokens-remaining",
}
"""Anthropic's response headers for the remaining units, by names of limits."""
TOO_MANY_REQUESTS = 429
LONGEST_PAUSE = 86_400.0
"""The longest pause in seconds; a longer Retry-After is cut to it."""

_log = logging.getLogger("limiter.contrib")


class Target(NamedTuple):
    """The bucket that a request is charged to, and the amounts; None for 1 of every limit."""

    entity_id: str
    resource: str
    consume: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The terms of all requests of one client. `entity`, `resource` and `consume` are values, or callables of the request.

    `entity` returning None exempts a request. With `feedback`, a 429 with Retry-After pauses the bucket. `remaining` maps names
    of limits to the response headers that give the remaining units; see `OPENAI` and `ANTHROPIC`.
    """

    entity: str | Callable[[Any], str | None]
    resource: str | Callable[[Any], str] = "default"
    consume: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None
    timeout: float | None = None
    feedback: bool = True
    remaining: Mapping[str, str] = field(default_factory=dict)

    def target(self, request: Any) -> Target | None:
        """Return the target of a request; None if it is exempt."""
        entity = _resolved(self.entity, request)
        if entity is None:
            return None
        return Target(entity, _resolved(self.resource, request), _resolved(self.consume, request))

    async def learn(
        self, limiter: RateLimiter, target: Target, lease: Lease | None, status: int, headers: Mapping[str, str]
    ) -> None:
        """Store what a response says: lower what an open lease's bucket holds, and pause the bucket. An error is logged."""
        try:
            if self.remaining and lease is not None and (excess := self.excess(lease.statuses, headers)):
                await lease.adjust(excess)
            if (seconds := self.pause(status, headers)) is not None:
                await limiter.pause(target.entity_id, target.resource, seconds)
        except LimiterError as error:
            _note_unlearnt(target, error)

    def sync_learn(
        self, limiter: SyncRateLimiter, target: Target, lease: SyncLease | None, status: int, headers: Mapping[str, str]
    ) -> None:
        """Store what a response says; the sync version of `learn`."""
        try:
            if self.remaining and lease is not None and (excess := self.excess(lease.statuses, headers)):
                lease.adjust(excess)
            if (seconds := self.pause(status, headers)) is not None:
                limiter.pause(target.entity_id, target.resource, seconds)
        except LimiterError as error:
            _note_unlearnt(target, error)

    def pause(self, status: int, headers: Mapping[str, str]) -> float | None:
        """Return the seconds that the server asks to pause; None if it does not, or if pauses are ignored."""
        if not self.feedback or status != TOO_MANY_REQUESTS:
            return None
        seconds = retry_after(headers.get("retry-after"), time.time())
        return min(seconds, LONGEST_PAUSE) if seconds else None

    def excess(self, statuses: Iterable[LimitStatus], headers: Mapping[str, str]) -> dict[str, int]:
        """Return the units by which our buckets hold more than the server says is left; what is left here is never raised."""
        told = {name: headers.get(header) for name, header in self.remaining.items()}
        left = {name: int(text) for name, text in told.items() if text is not None and text.isascii() and text.isdecimal()}
        more: dict[str, int] = {}
        for status in statuses:
            name = status.limit.name
            if name in left and status.available > left[name]:
                more[name] = max(more.get(name, 0), status.available - left[name])
        return more


def retry_after(text: str | None, now: float) -> float | None:
    """Return the seconds of a Retry-After header, from a number or a date; None if it is absent or unreadable."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def _note_unlearnt(target: Target, error: LimiterError) -> None:
    """Log that a response's feedback could not be stored; the response itself is not affected."""
    fields = {"entity_id": target.entity_id, "resource": target.resource, "error": str(error)}
    _log.warning("feedback of a server for %s/%s was not stored: %s", target.entity_id, target.resource, error, extra=fields)


def _resolved(value: Any, request: Any) -> Any:
    return value(request) if callable(value) else value
