"""Transports for httpx2 and httpx that keep a server's limits together with all other processes.

    limits = [Limit.per_minute("requests", 500)]
    limiter = SyncRateLimiter(SyncRepository("my-app"), limits)
    transport = LimiterTransport(httpx2.HTTPTransport(), limiter, entity="openai", timeout=60)
    client = httpx2.Client(transport=transport)

A transport sees each attempt of a client that repeats calls, so retries of an SDK are charged too. Imports neither library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .extras import check_async_limiter, check_sync_limiter
from .outgoing import ANTHROPIC, OPENAI, DuckTyped, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from .. import RateLimiter, SyncRateLimiter

__all__ = ["ANTHROPIC", "OPENAI", "AsyncLimiterTransport", "LimiterTransport"]


class LimiterTransport(DuckTyped):  # type: ignore[misc] # it is Any
    """Charges each request before `inner` sends it, and waits up to `timeout` seconds for its turn.

    `entity`, `resource` and `consume` are values, or callables of the request; `entity` returning None exempts a request. A
    refusal raises `RateLimitExceeded` and sends nothing. The charge is refunded if `inner` raises, and kept for every response,
    including errors. With `feedback`, a 429 with Retry-After pauses the bucket for all processes. `remaining` maps limits to
    headers, such as `OPENAI` and `ANTHROPIC`; they only ever lower what is left. The lease ends when the headers have arrived:
    for limits of concurrency put `limiter.acquire` around the use of the body.
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

    def handle_request(self, request: Any) -> Any:
        """Send a request when its turn comes."""
        target = self._outgoing.target(request)
        if target is None:
            return self._inner.handle_request(request)
        with self._limiter.acquire(*target, timeout=self._outgoing.timeout) as lease:
            response = self._inner.handle_request(request)
            self._outgoing.sync_learn(self._limiter, target, lease, response.status_code, response.headers)
        return response

    def close(self) -> None:
        """Close the inner transport; the limiter stays open."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self._inner.__exit__(exc_type, exc, traceback)


class AsyncLimiterTransport(DuckTyped):  # type: ignore[misc] # it is Any
    """Charges each request before `inner` sends it; the async version of `LimiterTransport`, with the same parameters."""

    def __init__(
        self,
        inner: Any,
        limiter: RateLimiter,
        *,
        entity: str | Callable[[Any], str | None],
        resource: str | Callable[[Any], str] = "default",
        consume: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
        timeout: float | None = None,
        feedback: bool = True,
        remaining: Mapping[str, str] | None = None,
    ) -> None:
        self._inner = inner
        check_async_limiter(limiter, self)
        self._limiter = limiter
        self._outgoing = Outgoing(entity, resource, consume, timeout, feedback, remaining or {})

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request when its turn comes."""
        target = self._outgoing.target(request)
        if target is None:
            return await self._inner.handle_async_request(request)
        async with self._limiter.acquire(*target, timeout=self._outgoing.timeout) as lease:
            response = await self._inner.handle_async_request(request)
            await self._outgoing.learn(self._limiter, target, lease, response.status_code, response.headers)
        return response

    async def aclose(self) -> None:
        """Close the inner transport; the limiter stays open."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(exc_type, exc, traceback)
