"""A guard with which a client of boto3 or aiobotocore keeps a service's limits together with all other processes.

    ses = boto3.client("sesv2")
    guard(ses, limiter, ["SendEmail"], entity="ses", timeout=30)

Register it on the client to limit, never on the limiter's own client. Imports nothing of botocore.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .. import LimiterError, ValidationError
from .outgoing import Outgoing, Target, note_unlearnt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .. import RateLimiter, SyncRateLimiter

__all__ = ["guard"]

_TARGET = "dynamodb-limiter-target"
"""The key of a call's context that holds the call's target."""


def guard(
    client: Any,
    limiter: SyncRateLimiter | RateLimiter,
    operations: Iterable[str],
    *,
    entity: str | Callable[[Any], str | None],
    resource: str | Callable[[Any], str] = "default",
    consume: Mapping[str, int] | Callable[[Any], Mapping[str, int]] | None = None,
    timeout: float | None = None,
    feedback: bool = True,
) -> None:
    """Charge each call of some operations, such as "SendEmail", before it is made; wait up to `timeout` seconds for its turn.

    A client of boto3 takes a `SyncRateLimiter`, one of aiobotocore a `RateLimiter`. `entity`, `resource` and `consume` are
    values, or callables of the call's parameters; `entity` returning None exempts a call. A refusal raises `RateLimitExceeded`
    out of the call. Charges are kept, even if the call fails; calls that botocore repeats are charged once. With `feedback`, a
    429 with Retry-After pauses the bucket. Raises `ValidationError` for an operation that the client does not have.
    """
    outgoing = Outgoing(entity, resource, consume, timeout, feedback)
    make = _asynchronous if inspect.iscoroutinefunction(limiter.try_acquire) else _synchronous
    charge, learn = make(limiter, outgoing)
    model = client.meta.service_model
    for operation in operations:
        if operation not in model.operation_names:
            raise ValidationError(f"unknown operation {operation!r} of {model.service_name}; names are such as 'SendEmail'")
        name = f"{model.service_id.hyphenize()}.{operation}"
        client.meta.events.register(f"provide-client-params.{name}", charge)
        client.meta.events.register(f"after-call.{name}", learn)


def _synchronous(limiter: Any, outgoing: Outgoing) -> tuple[Callable[..., None], Callable[..., None]]:
    def charge(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        target = context[_TARGET] = outgoing.target(params)
        if target is not None:
            with limiter.acquire(*target, timeout=outgoing.timeout):
                pass

    def learn(parsed: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> None:
        target, seconds = _feedback(outgoing, parsed, context)
        if target is not None and seconds is not None:
            try:
                limiter.pause(target.entity_id, target.resource, seconds)
            except LimiterError as error:
                note_unlearnt(target, error)

    return charge, learn


def _asynchronous(limiter: Any, outgoing: Outgoing) -> tuple[Callable[..., Any], Callable[..., Any]]:
    async def charge(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        target = context[_TARGET] = outgoing.target(params)
        if target is not None:
            async with limiter.acquire(*target, timeout=outgoing.timeout):
                pass

    async def learn(parsed: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> None:
        target, seconds = _feedback(outgoing, parsed, context)
        if target is not None and seconds is not None:
            try:
                await limiter.pause(target.entity_id, target.resource, seconds)
            except LimiterError as error:
                note_unlearnt(target, error)

    return charge, learn


def _feedback(outgoing: Outgoing, parsed: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Target | None, float | None]:
    answer = parsed.get("ResponseMetadata", {})
    return context.get(_TARGET), outgoing.pause(answer.get("HTTPStatusCode", 0), answer.get("HTTPHeaders", {}))
