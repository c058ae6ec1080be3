"""Calls of language models, whose cost is known afterwards: reserve an estimate, make the call, charge the actual usage.

    async with reserve(limiter, "user-42", "gpt-5", {"requests": 1, "tokens": 1_500}, timeout=60) as call:
        reply = await client.responses.create(...)
        call.report(tokens=reply.usage.total_tokens)

Imports no model library. The adapters to LangChain, LiteLLM, PydanticAI and the OpenAI Agents SDK use it.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from .. import LimiterError, ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from .. import Lease, RateLimiter, SyncLease, SyncRateLimiter

__all__ = ["Call", "reserve", "sync_reserve", "usage_of"]

FOREVER = 366 * 86_400.0
"""Seconds that a caller without a bound waits: the longest timeout there is."""
CHARACTERS_PER_TOKEN = 4
"""Characters per token of English text, approximately."""

_log = logging.getLogger("limiter.contrib")


class Call:
    """A call in progress: the `lease` that holds its estimate, and its reported usage."""

    def __init__(self, lease: Any, estimate: Mapping[str, int]) -> None:
        self.lease = lease
        self.estimate = dict(estimate)
        self._used: dict[str, int] | None = None

    def report(self, used: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Report the call's total usage so far. The last report of each name counts, so a stream can report as it goes.

        Raises `ValidationError` for a name that was not reserved; reserve 0 of an amount that cannot be estimated.
        """
        said = {**(used or {}), **named}
        if unknown := said.keys() - self.estimate.keys():
            raise ValidationError(f"cannot report {min(unknown)!r}, only {', '.join(sorted(self.estimate))}; reserve 0 of it")
        self._used = {**(self._used or {}), **said}

    def report_known(self, used: Mapping[str, int]) -> None:
        """Report those of the amounts that were reserved."""
        known = {name: units for name, units in used.items() if name in self.estimate}
        if known:
            self.report(known)

    def changes(self) -> dict[str, int]:
        """Return the usage beyond the estimate, negative if it was less; nothing if nothing was reported."""
        used = self._used or {}
        return {name: used[name] - self.estimate[name] for name in used if used[name] != self.estimate[name]}

    @property
    def has_reported(self) -> bool:
        """Whether any usage was reported."""
        return self._used is not None


@asynccontextmanager
async def reserve(
    limiter: RateLimiter,
    entity_id: str,
    resource: str,
    estimate: Mapping[str, int],
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - as in acquire
) -> AsyncIterator[Call]:
    """Hold the estimate while a call is made, and charge the reported usage when the block ends.

    Without a report the estimate stays charged. If the block raises, including cancellation and a closed stream, everything is
    refunded if nothing was reported, and the reported usage is charged otherwise. A correction that cannot be stored is logged by
    `limiter.contrib`, and the reply is not lost. On entering it raises what `limiter.acquire` raises.
    """
    async with limiter.acquire(entity_id, resource, estimate, timeout=timeout, refund_on_error=False) as lease:
        call = Call(lease, estimate)
        try:
            yield call
        except BaseException:
            await _settle(call, lease, failed=True)
            raise
        await _settle(call, lease, failed=False)


@contextmanager
def sync_reserve(
    limiter: SyncRateLimiter,
    entity_id: str,
    resource: str,
    estimate: Mapping[str, int],
    *,
    timeout: float | None = None,
) -> Iterator[Call]:
    """Hold the estimate while a call is made; the sync version of `reserve`."""
    with limiter.acquire(entity_id, resource, estimate, timeout=timeout, refund_on_error=False) as lease:
        call = Call(lease, estimate)
        try:
            yield call
        except BaseException:
            _sync_settle(call, lease, failed=True)
            raise
        _sync_settle(call, lease, failed=False)


def usage_of(input_tokens: int | None, output_tokens: int | None, total_tokens: int | None = None) -> dict[str, int]:
    """Return a reply's amounts of the limits `tokens`, `input_tokens` and `output_tokens`; empty if it has none."""
    if input_tokens is None and output_tokens is None and total_tokens is None:
        return {}
    taken, given = input_tokens or 0, output_tokens or 0
    return {"tokens": taken + given if total_tokens is None else total_tokens, "input_tokens": taken, "output_tokens": given}


def rough_tokens(text: object) -> int:
    """Return about how many tokens something is, by its length as text; at least 1."""
    return max(1, len(str(text)) // CHARACTERS_PER_TOKEN)


async def _settle(call: Call, lease: Lease, *, failed: bool) -> None:
    try:
        if failed and not call.has_reported:
            await lease.release(call.estimate)
        elif changes := call.changes():
            await lease.adjust(changes)
    except LimiterError as error:
        _note_unsettled(call, error)


def _sync_settle(call: Call, lease: SyncLease, *, failed: bool) -> None:
    try:
        if failed and not call.has_reported:
            lease.release(call.estimate)
        elif changes := call.changes():
            lease.adjust(changes)
    except LimiterError as error:
        _note_unsettled(call, error)


def _note_unsettled(call: Call, error: LimiterError) -> None:
    fields = {"entity_id": call.lease.entity_id, "resource": call.lease.resource, "error": str(error)}
    _log.warning("a call of %s/%s stays charged by its estimate: %s", *list(fields.values()), extra=fields)
