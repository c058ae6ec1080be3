"""A logger for LiteLLM, its router and its proxy, that reserves an estimate before each call and charges the actual usage.

    litellm.callbacks = [LimiterLogger(limiter, entity="team-1", timeout=60)]

`LimiterLogger` is made on first use, since it subclasses LiteLLM's `CustomLogger`: importing this module does not import LiteLLM.
Needs `pip install "dynamodb-limiter[async,litellm]"`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import RateLimitExceeded
from .extras import derive, not_installed
from .llm import reserve, rough_tokens, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from .. import RateLimiter
    from .llm import Call

    Open = tuple[AbstractAsyncContextManager[Call], Call]
    LimiterLogger: Any

__all__ = ["LimiterLogger"]

REMEMBERED = 10_000
"""Calls that may be open at once. When there are more, or LiteLLM never reports an end, the oldest keeps its estimate."""


class _Logger:
    """Reserves an estimate before each async call, and charges the usage in its response when LiteLLM logs it.

    `entity`, `resource` and `estimate` are values, or callables of the call's data and, in the proxy, the `UserAPIKeyAuth` of its
    key (None elsewhere). By default the entity is the key's hash in the proxy and the call's `user` elsewhere, "default" without
    one; the resource is the model; the estimate is 1 request, and about as many tokens as the messages have and `max_tokens`
    allows, for the limits `requests` and `tokens`. An entity of None exempts a call. Of a response's usage, `tokens`,
    `input_tokens` and `output_tokens` are charged if the estimate names them. A failed call is refunded.

    A call waits up to `timeout` seconds for its turn. A refusal raises `RateLimitExceeded`, in the proxy an `HTTPException` of
    429 with Retry-After. Calls of `litellm.completion`, without await, are not limited: LiteLLM calls its logger in advance for
    async calls only.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        *,
        entity: str | Callable[[Mapping[str, Any], Any], str | None] | None = None,
        resource: str | Callable[[Mapping[str, Any], Any], str] | None = None,
        estimate: Mapping[str, int] | Callable[[Mapping[str, Any], Any], Mapping[str, int]] | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        self._limiter = limiter
        self._entity = _entity if entity is None else entity
        self._resource = _resource if resource is None else resource
        self._estimate = _estimate if estimate is None else estimate
        self._timeout = timeout
        self._open: dict[str, Open] = {}

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any) -> None:
        """Reserve a call of the proxy."""
        try:
            await self._reserve(data, user_api_key_dict)
        except RateLimitExceeded as refusal:
            from fastapi import HTTPException

            seconds = refusal.retry_after
            headers = None if seconds is None else {"Retry-After": str(math.ceil(seconds))}
            raise HTTPException(429, str(refusal), headers) from refusal

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Reserve a call of the SDK or the router; one of the proxy has been reserved already."""
        await self._reserve(kwargs, None)

    async def async_log_success_event(self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Charge what a call has used; LiteLLM reports streams as well, when they have ended."""
        if (opened := self._open.pop(_call_id(kwargs), None)) is None:
            return
        manager, call = opened
        usage = _field(response_obj, "usage")
        parts = (_field(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
        call.report_known(usage_of(*parts))
        await manager.__aexit__(None, None, None)

    async def async_log_failure_event(self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Refund a failed call."""
        if (opened := self._open.pop(_call_id(kwargs), None)) is None:
            return
        error = RuntimeError("the call failed")  # has reached the caller, and ends the reservation as a failed block does
        await opened[0].__aexit__(RuntimeError, error, None)

    async def _reserve(self, data: Mapping[str, Any], key: Any) -> None:
        call_id = _call_id(data)
        if call_id in self._open:
            return
        entity: str | None = self._entity(data, key) if callable(self._entity) else self._entity
        resource = self._resource(data, key) if callable(self._resource) else self._resource
        estimate = self._estimate(data, key) if callable(self._estimate) else self._estimate
        if entity is None:
            return
        manager = reserve(self._limiter, entity, resource, estimate, timeout=self._timeout)
        call = await manager.__aenter__()
        while len(self._open) >= REMEMBERED:
            oldest, _ = self._open.pop(next(iter(self._open)))
            await oldest.__aexit__(None, None, None)
        self._open[call_id] = manager, call


def _call_id(data: Mapping[str, Any]) -> str:
    return str(data.get("litellm_call_id"))


def _entity(data: Mapping[str, Any], key: Any) -> str:
    return getattr(key, "api_key", None) or data.get("user") or "default"


def _resource(data: Mapping[str, Any], key: Any) -> str:
    return data.get("model") or "default"


def _estimate(data: Mapping[str, Any], key: Any) -> dict[str, int]:
    reply = data.get("max_completion_tokens") or data.get("max_tokens") or 0
    return {"requests": 1, "tokens": rough_tokens(data.get("messages") or data.get("input") or "") + reply}


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def __getattr__(name: str) -> Any:
    if name != "LimiterLogger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from litellm.integrations.custom_logger import CustomLogger
    except ImportError as error:
        raise not_installed("LiteLLM", "litellm", error) from error
    return derive(globals(), name, _Logger, CustomLogger)
