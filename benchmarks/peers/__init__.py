"""How each peer is asked for one unit. An adapter is opened once, used by many callers, and closed.

Everything is done as the peer's own documentation says; where it leaves a choice, the faster one is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..plan import Job

RESOURCE = "resource"
LIMIT = "requests"
ONE = {LIMIT: 1}
REGION = "us-east-1"


class AsyncPeer(Protocol):
    """A peer whose callers are asyncio tasks."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None: ...

    async def open(self) -> None:
        """Prepare the peer for its first call."""

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - handed on
        """Consume one unit of `key`, and return whether it was allowed."""

    async def close(self) -> None:
        """Release everything."""


class ThreadPeer(Protocol):
    """A peer whose callers are threads or greenlets."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None: ...

    def open(self) -> None:
        """Prepare the peer for its first call."""

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """Consume one unit of `key`, and return whether it was allowed."""

    def close(self) -> None:
        """Release everything."""
