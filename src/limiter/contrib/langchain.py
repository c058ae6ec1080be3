"""Limits for LangChain that all processes share: a rate limiter for chat models, and a middleware for agents that knows tokens.

    model = ChatOpenAI(..., rate_limiter=DynamoDBRateLimiter(sync_limiter=sync_limiter, resource="gpt-5"))
    agent = create_agent(model, middleware=[LimiterMiddleware(sync_limiter=sync_limiter, entity="team-1", resource="gpt-5")])

Both classes are made on first use, because they subclass LangChain's: importing this module does not import LangChain. The rate
limiter needs `pip install "dynamodb-limiter[langchain]"`, the middleware `pip install "dynamodb-limiter[langchain-agents]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import ConfigurationError, ValidationError
from .extras import derive, not_installed
from .llm import FOREVER, reserve, sync_reserve, usage_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from .. import RateLimiter, SyncRateLimiter

__all__ = ["DynamoDBRateLimiter", "LimiterMiddleware"]


class _RateLimiter:
    """Consumes units before each call of a model, and waits if they are not available.

    `sync_limiter` serves `invoke`, `stream` and `batch`, `limiter` serves `ainvoke` and the other async methods; a program that
    calls both ways passes both. `consume` is the amounts of each call, by default 1 of every limit.

    A call waits until its turn, without a bound. `max_wait`, in seconds, bounds the wait: the turn is booked by one write, so no
    caller overtakes, and a longer wait is refused at once. LangChain ignores the result of a blocking acquire, so the refusal is
    raised.

    Not for limits of tokens that the reply uses: LangChain asks before the call and never again. For those use
    `LimiterMiddleware`, or `limiter.contrib.llm.reserve` around the call.
    """

    def __init__(
        self,
        *,
        sync_limiter: SyncRateLimiter | None = None,
        limiter: RateLimiter | None = None,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        max_wait: float | None = None,
    ) -> None:
        _check_given(type(self).__name__, sync_limiter, limiter)
        self.entity_id = entity_id
        self.resource = resource
        self.consume = None if consume is None else dict(consume)
        self.max_wait = max_wait
        self._timeout = _timeout(max_wait)
        self._sync_limiter = sync_limiter
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.entity_id!r}/{self.resource!r} max_wait={self.max_wait}>"

    def acquire(self, *, blocking: bool = True) -> bool:
        """Consume the units of a call. With `blocking` wait for them; otherwise return at once whether they were available.

        When blocking, raises `RateLimitExceeded` if the wait would exceed `max_wait`, or would never end.
        """
        limiter = _of_kind(self._sync_limiter, self)
        if not blocking:
            return limiter.try_acquire(self.entity_id, self.resource, self.consume).allowed
        with limiter.acquire(self.entity_id, self.resource, self.consume, timeout=self._timeout):
            return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """Consume the units of a call, as `acquire` does, for async calls."""
        limiter = _of_async_kind(self._limiter, self)
        if not blocking:
            return (await limiter.try_acquire(self.entity_id, self.resource, self.consume)).allowed
        async with limiter.acquire(self.entity_id, self.resource, self.consume, timeout=self._timeout):
            return True


class _Middleware:
    """Reserves an estimate before each call of an agent's model, and charges what the reply says it has used.

    `entity`, `resource` and `estimate` are values, or callables of LangChain's `ModelRequest`; `entity` returning None exempts a
    call. The estimate is 1 request and about the number of tokens of the messages, without the reply, for the limits `requests`
    and `tokens`. Of a reply's usage, `tokens`, `input_tokens` and `output_tokens` are charged if the estimate names them;
    reserve 0 of an amount that cannot be estimated.

    A call waits until its turn, without a bound; with `max_wait`, in seconds, a longer wait raises `RateLimitExceeded`. A call
    that raises is refunded. `sync_limiter` serves `invoke` and `stream`, `limiter` serves `ainvoke` and `astream`.
    """

    def __init__(
        self,
        *,
        entity: str | Callable[[Any], str | None],
        resource: str | Callable[[Any], str] = "default",
        estimate: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
        sync_limiter: SyncRateLimiter | None = None,
        limiter: RateLimiter | None = None,
        max_wait: float | None = None,
    ) -> None:
        _check_given(type(self).__name__, sync_limiter, limiter)
        super().__init__()
        self._entity = entity
        self._resource = resource
        self._estimate = _estimate if estimate is None else estimate
        self._timeout = _timeout(max_wait)
        self._sync_limiter = sync_limiter
        self._limiter = limiter

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Make a call of the model when its turn comes."""
        limiter = _of_kind(self._sync_limiter, self)
        place = self._place(request)
        if place is None:
            return handler(request)
        with sync_reserve(limiter, *place, timeout=self._timeout) as call:
            response = handler(request)
            call.report_known(_used(response))
            return response

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Make a call of the model when its turn comes, for async agents."""
        limiter = _of_async_kind(self._limiter, self)
        place = self._place(request)
        if place is None:
            return await handler(request)
        async with reserve(limiter, *place, timeout=self._timeout) as call:
            response = await handler(request)
            call.report_known(_used(response))
            return response

    def _place(self, request: Any) -> tuple[str, str, Mapping[str, int]] | None:
        entity, resource = (each(request) if callable(each) else each for each in (self._entity, self._resource))
        if entity is None:
            return None
        return entity, str(resource), self._estimate(request) if callable(self._estimate) else self._estimate


def _estimate(request: Any) -> dict[str, int]:
    from langchain_core.messages.utils import count_tokens_approximately

    prompt = [request.system_message] if request.system_message else []
    return {"requests": 1, "tokens": count_tokens_approximately([*prompt, *request.messages])}


def _used(response: Any) -> dict[str, int]:
    """Return the amounts that the messages of a response report; empty if none reports any."""
    messages: Iterable[Any] = getattr(response, "result", [response])
    usages = [usage for message in messages if (usage := getattr(message, "usage_metadata", None))]
    if not usages:
        return {}
    taken, given, total = (sum(usage[name] for usage in usages) for name in ("input_tokens", "output_tokens", "total_tokens"))
    return usage_of(taken, given, total)


def _timeout(max_wait: float | None) -> float:
    if max_wait is None:
        return FOREVER
    if isinstance(max_wait, bool) or not isinstance(max_wait, int | float) or not 0 <= max_wait <= FOREVER:
        raise ValidationError(f"max_wait must be None or a number of seconds from 0 to one year, not {max_wait!r}")
    return max_wait


def _check_given(name: str, sync_limiter: object, limiter: object) -> None:
    if sync_limiter is None and limiter is None:
        raise ConfigurationError(f"{name} needs sync_limiter=SyncRateLimiter(...) or limiter=RateLimiter(...)")


def _of_kind(limiter: SyncRateLimiter | None, owner: object) -> SyncRateLimiter:
    if limiter is None:
        raise ConfigurationError(f"a synchronous call needs {type(owner).__name__}(sync_limiter=SyncRateLimiter(...))")
    return limiter


def _of_async_kind(limiter: RateLimiter | None, owner: object) -> RateLimiter:
    if limiter is None:
        raise ConfigurationError(f"an asynchronous call needs {type(owner).__name__}(limiter=RateLimiter(...))")
    return limiter


if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.rate_limiters import BaseRateLimiter

    class DynamoDBRateLimiter(_RateLimiter, BaseRateLimiter):
        """Takes units for good before each call of a model."""

    class LimiterMiddleware(_Middleware, AgentMiddleware[Any, Any, Any]):
        """Reserves an estimate before each call of an agent's model, and charges the actual usage."""
else:

    def __getattr__(name: str) -> Any:
        try:
            if name == "DynamoDBRateLimiter":
                from langchain_core.rate_limiters import BaseRateLimiter

                return derive(globals(), name, _RateLimiter, BaseRateLimiter)
            if name == "LimiterMiddleware":
                from langchain.agents.middleware import AgentMiddleware

                return derive(globals(), name, _Middleware, AgentMiddleware)
        except ImportError as error:
            extra = "langchain" if name == "DynamoDBRateLimiter" else "langchain-agents"
            raise not_installed("LangChain", extra, error) from error
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
