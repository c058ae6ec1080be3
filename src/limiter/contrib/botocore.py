"""A guard with which a client of boto3 or aiobotocore keeps a service's limits together with all other processes.

    ses = boto3.client("sesv2")
    guard(ses, limiter, ["SendEmail"], entity="ses", timeout=30)

Register it on the client to limit, never on the limiter's own client. Imports nothing of botocore.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .. import ValidationError
from .outgoing import Outgoing

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
        if (target := context.get(_TARGET)) is not None:
            outgoing.sync_learn(limiter, target, None, *_answer(parsed))

    return charge, learn


def _asynchronous(limiter: Any, outgoing: Outgoing) -> tuple[Callable[..., Any], Callable[..., Any]]:
    async def charge(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        target = context[_TARGET] = outgoing.target(params)
        if target is not None:
            async with limiter.acquire(*target, timeout=outgoing.timeout):
                pass

    async def learn(parsed: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> None:
        if (target := context.get(_TARGET)) is not None:
            await outgoing.learn(limiter, target, None, *_answer(parsed))

    return charge, learn


def _answer(parsed: Mapping[str, Any]) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers of a response; nothing came if botocore raised an error of its own."""
    answer = parsed.get("ResponseMetadata", {})
    return answer.get("HTTPStatusCode", 0), answer.get("HTTPHeaders", {})
