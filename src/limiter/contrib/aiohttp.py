"""A client middleware for aiohttp that keeps a server's limits together with all other processes.

    session = aiohttp.ClientSession(middlewares=[LimiterMiddleware(limiter, entity="example", timeout=60)])

Needs aiohttp 3.12 or newer; imports nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .extras import check_async_limiter
from .outgoing import ANTHROPIC, OPENAI, Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from .. import RateLimiter

__all__ = ["ANTHROPIC", "OPENAI", "LimiterMiddleware"]


class LimiterMiddleware:
    """Charges each request of a client session before it is sent, and waits up to `timeout` seconds for its turn.

    `entity`, `resource` and `consume` are values, or callables of aiohttp's ClientRequest; `entity` returning None exempts a
    request. A refusal raises `RateLimitExceeded` and sends nothing. The charge is refunded if sending raises, and kept for every
    response, including errors. With `feedback`, a 429 with Retry-After pauses the bucket for all processes. `remaining` maps
    limits to headers, such as `OPENAI` and `ANTHROPIC`; they only ever lower what is left. Each redirect is a request of its own.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        *,
        entity: str | Callable[[Any], str | None],
        resource: str | Callable[[Any], str] = "default",
        consume: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
        timeout: float | None = None,
        feedback: bool = True,
        remaining: Mapping[str, str] | None = None,
    ) -> None:
        check_async_limiter(limiter, self)
        self._limiter = limiter
        self._outgoing = Outgoing(entity, resource, consume, timeout, feedback, remaining or {})

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Send a request when its turn comes."""
        target = self._outgoing.target(request)
        if target is None:
            return await handler(request)
        async with self._limiter.acquire(*target, timeout=self._outgoing.timeout) as lease:
            response = await handler(request)
            await self._outgoing.learn(self._limiter, target, lease, response.status, response.headers)
        return response
