"""A model for PydanticAI that reserves an estimate before each request and charges the actual usage, and a concurrency limiter.

    model = LimiterModel("openai:gpt-5", limiter, entity="team-1", resource="gpt-5")
    agent = Agent(model)
    agent = Agent("openai:gpt-5", max_concurrency=LimiterConcurrency(limiter, entity="team-1", resource="gpt-5"))

Both classes are made on first use, because they subclass PydanticAI's: importing this module does not import PydanticAI. Needs
`pip install "dynamodb-limiter[async,pydantic-ai]"`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .extras import derive, not_installed
from .llm import FOREVER, reserve, rough_tokens, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .. import RateLimiter

    LimiterModel: Any
    LimiterConcurrency: Any

__all__ = ["LimiterConcurrency", "LimiterModel"]


class _Model:
    """A model that wraps another, reserves an estimate before each request, and charges what its usage says.

    `entity` and `resource` name the bucket. `estimate` is a mapping, or a callable of the messages; by default 1 request, and
    about as many tokens as the messages have, for the limits `requests` and `tokens`. With `count_tokens=True` the wrapped model
    counts them, which is an additional request with most providers. Of the usage, `tokens`, `input_tokens` and
    `output_tokens` are charged if the estimate names them.

    A request waits until its turn, or up to `timeout` seconds and then raises `RateLimitExceeded`. A request that raises is
    refunded. A stream is charged when it ends, with what has arrived by then.
    """

    wrapped: Any

    def __init__(
        self,
        wrapped: Any,
        limiter: RateLimiter,
        *,
        entity: str,
        resource: str = "default",
        estimate: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
        count_tokens: bool = False,
        timeout: float | None = None,
    ) -> None:
        super().__init__(wrapped)  # type: ignore[call-arg] # WrapperModel's
        self._limiter = limiter
        self._bucket = entity, resource
        self._estimate = estimate
        self._counts = count_tokens
        self._timeout = FOREVER if timeout is None else timeout

    async def request(self, messages: Any, model_settings: Any, model_request_parameters: Any) -> Any:
        """Make a request when its turn comes."""
        estimate = await self._estimated(messages, model_settings, model_request_parameters)
        async with reserve(self._limiter, *self._bucket, estimate, timeout=self._timeout) as call:
            response = await self.wrapped.request(messages, model_settings, model_request_parameters)
            call.report_known(_used(response.usage))
            return response

    @asynccontextmanager
    async def request_stream(
        self, messages: Any, model_settings: Any, model_request_parameters: Any, run_context: Any = None
    ) -> AsyncIterator[Any]:
        """Make a streamed request when its turn comes; it lasts until the stream is closed."""
        estimate = await self._estimated(messages, model_settings, model_request_parameters)
        async with (
            reserve(self._limiter, *self._bucket, estimate, timeout=self._timeout) as call,
            self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context) as stream,
        ):
            try:
                yield stream
            finally:
                call.report_known(_used(stream.usage))

    async def _estimated(self, messages: Any, settings: Any, parameters: Any) -> Mapping[str, int]:
        if callable(self._estimate):
            return self._estimate(messages)
        if self._estimate is not None:
            return self._estimate
        if self._counts:
            return {"requests": 1, "tokens": (await self.wrapped.count_tokens(messages, settings, parameters)).input_tokens}
        parts = (getattr(part, "content", "") for message in messages for part in message.parts)
        return {"requests": 1, "tokens": sum(map(rough_tokens, parts))}


class _Concurrency:
    """Counts concurrent runs over all processes: acquires a slot of a `Concurrency` limit before a run, and releases it after.

    `entity` and `resource` name the bucket, whose limits are all charged by 1. A run waits until its turn, or up to
    `timeout` seconds and then raises `RateLimitExceeded`. The end of a run does not refund units of rates.
    """

    def __init__(self, limiter: RateLimiter, *, entity: str, resource: str = "default", timeout: float | None = None) -> None:
        self._limiter = limiter
        self._bucket = entity, resource
        self._timeout = FOREVER if timeout is None else timeout
        self._held: list[Any] = []
        self._ending: set[asyncio.Task[Any]] = set()

    async def acquire(self, source: str) -> None:
        """Wait for a slot."""
        acquisition = self._limiter.acquire(*self._bucket, timeout=self._timeout, refund_on_error=False)
        await acquisition.__aenter__()
        self._held.append(acquisition)

    def release(self) -> None:
        """Release a slot; PydanticAI does not wait for it."""
        task = asyncio.ensure_future(self._held.pop().__aexit__(None, None, None))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _used(usage: Any) -> dict[str, int]:
    # A stream that has reported nothing yet says 0.
    return usage_of(usage.input_tokens, usage.output_tokens) if usage.input_tokens or usage.output_tokens else {}


def __getattr__(name: str) -> Any:
    try:
        if name == "LimiterModel":
            from pydantic_ai.models.wrapper import WrapperModel

            return derive(globals(), name, _Model, WrapperModel)
        if name == "LimiterConcurrency":
            from pydantic_ai.concurrency import AbstractConcurrencyLimiter

            return derive(globals(), name, _Concurrency, AbstractConcurrencyLimiter)
    except ImportError as error:
        raise not_installed("PydanticAI", "pydantic-ai", error) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
