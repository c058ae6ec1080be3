"""A model for the OpenAI Agents SDK that reserves an estimate before each call and charges the actual usage.

    model = LimiterModel(OpenAIResponsesModel("gpt-5", client), limiter, entity="team-1", resource="gpt-5")
    agent = Agent(name="Helper", model=model)

`LimiterModel` is made on first use, because it subclasses the SDK's `Model`: importing this module does not import the SDK. Needs
`pip install "dynamodb-limiter[async,openai-agents]"`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .extras import derive, not_installed
from .llm import FOREVER, reserve, rough_tokens, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .. import RateLimiter

    LimiterModel: Any

__all__ = ["LimiterModel"]


class _Model:
    """A model that wraps another, reserves an estimate before each call, and charges what its usage says.

    `entity` and `resource` name the bucket. `estimate` is a mapping, or a callable of the instructions and the input; by default
    1 request, and about as many tokens as these have, for the limits `requests` and `tokens`. Of the usage, `tokens`,
    `input_tokens` and `output_tokens` are charged if the estimate names them.

    A call waits until its turn, or up to `timeout` seconds and then raises `RateLimitExceeded`. A call that raises is refunded. A
    stream is charged when it ends; one that breaks before it has reported its usage is refunded.
    """

    def __init__(
        self,
        wrapped: Any,
        limiter: RateLimiter,
        *,
        entity: str,
        resource: str = "default",
        estimate: Mapping[str, int] | Callable[[Any, Any], Mapping[str, int]] | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        self.wrapped = wrapped
        self._limiter = limiter
        self._bucket = entity, resource
        self._estimate = _estimate if estimate is None else estimate
        self._timeout = FOREVER if timeout is None else timeout

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **options: Any) -> Any:  # noqa: A002 - the SDK's
        """Make a call when its turn comes."""
        estimate = self._estimated(system_instructions, input)
        async with reserve(self._limiter, *self._bucket, estimate, timeout=self._timeout) as call:
            response = await self.wrapped.get_response(system_instructions, input, *args, **options)
            call.report_known(_used(response.usage))
            return response

    async def stream_response(
        self,
        system_instructions: Any,
        input: Any,  # noqa: A002 - the SDK's name
        *args: Any,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Make a streamed call when its turn comes; it lasts until the stream ends."""
        estimate = self._estimated(system_instructions, input)
        async with (
            reserve(self._limiter, *self._bucket, estimate, timeout=self._timeout) as call,
            aclosing(self.wrapped.stream_response(system_instructions, input, *args, **options)) as events,
        ):
            async for event in events:
                if event.type == "response.completed":
                    call.report_known(_used(event.response.usage))
                yield event

    async def close(self) -> None:
        """Close the wrapped model; the limiter stays open."""
        await self.wrapped.close()

    def get_retry_advice(self, request: Any) -> Any:
        """Return what the wrapped model advises."""
        return self.wrapped.get_retry_advice(request)

    def _estimated(self, instructions: Any, given: Any) -> Mapping[str, int]:
        return self._estimate(instructions, given) if callable(self._estimate) else self._estimate


def _estimate(instructions: Any, given: Any) -> dict[str, int]:
    return {"requests": 1, "tokens": rough_tokens(instructions or "") + rough_tokens(given)}


def _used(usage: Any) -> dict[str, int]:
    return {} if usage is None else usage_of(usage.input_tokens, usage.output_tokens, usage.total_tokens)


def __getattr__(name: str) -> Any:
    if name != "LimiterModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from agents import Model
    except ImportError as error:
        raise not_installed("The OpenAI Agents SDK", "openai-agents", error) from error
    return derive(globals(), name, _Model, Model)
