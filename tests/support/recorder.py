"""Limiters that record their arguments and allow everything; for arguments that are only passed on."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from limiter import Decision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class RecordedLease:
    """A lease of nothing."""

    statuses = ()
    consumed: dict[str, int] = {}  # noqa: RUF012 - never changed


class Recorder:
    """Stands for a `RateLimiter`."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    @asynccontextmanager
    async def acquire(self, **arguments: Any) -> AsyncIterator[RecordedLease]:
        """Record the arguments."""
        self.calls.append(arguments)
        yield RecordedLease()


class SyncRecorder:
    """Stands for a `SyncRateLimiter`."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    @contextmanager
    def acquire(self, **arguments: Any) -> Iterator[RecordedLease]:
        """Record the arguments."""
        self.calls.append(arguments)
        yield RecordedLease()

    def try_acquire(self, entity_id: str, resource: str, consume: Any, **arguments: Any) -> Decision:
        """Record the arguments."""
        self.calls.append({"entity_id": entity_id, "resource": resource, "consume": consume, **arguments})
        return Decision(True, (), 0.0)
