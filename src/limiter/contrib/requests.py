"""An adapter for requests that keeps a server's limits together with all other processes.

    session = requests.Session()
    session.mount("https://api.example.com/", LimiterAdapter(HTTPAdapter(), limiter, entity="example", timeout=60))

Imports nothing of requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .extras import check_sync_limiter
from .outgoing import ANTHROPIC, OPENAI, DuckTyped, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .. import SyncRateLimiter

__all__ = ["ANTHROPIC", "OPENAI", "LimiterAdapter"]


class LimiterAdapter(DuckTyped):  # type: ignore[misc] # it is Any
    """Charges each prepared request before `inner` sends it, and waits up to `timeout` seconds for its turn.

    `entity`, `resource` and `consume` are values, or callables of the prepared request; `entity` returning None exempts a
    request. A refusal raises `RateLimitExceeded` and sends nothing. The charge is refunded if `inner` raises, and kept for every
    response, including errors. With `feedback`, a 429 with Retry-After pauses the bucket for all processes. `remaining` maps
    limits to headers, such as `OPENAI` and `ANTHROPIC`; they only ever lower what is left. Requests that `inner` repeats by its
    own `max_retries` are charged once. Each redirect is a request of its own.
    """

    def __init__(
        self,
        inner: Any,
        limiter: SyncRateLimiter,
        *,
        entity: str | Callable[[Any], str | None],
        resource: str | Callable[[Any], str] = "default",
        consume: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
        timeout: float | None = None,
        feedback: bool = True,
        remaining: Mapping[str, str] | None = None,
    ) -> None:
        self._inner = inner
        check_sync_limiter(limiter, self)
        self._limiter = limiter
        self._outgoing = Outgoing(entity, resource, consume, timeout, feedback, remaining or {})

    def send(self, request: Any, **options: Any) -> Any:
        """Send a prepared request when its turn comes; `options` are the inner adapter's."""
        target = self._outgoing.target(request)
        if target is None:
            return self._inner.send(request, **options)
        with self._limiter.acquire(*target, timeout=self._outgoing.timeout) as lease:
            response = self._inner.send(request, **options)
            self._outgoing.sync_learn(self._limiter, target, lease, response.status_code, response.headers)
        return response

    def close(self) -> None:
        """Close the inner adapter; the limiter stays open."""
        self._inner.close()
