# seam
"""Bounds how many calls run at once, in a pair of equal signature: `Gate` for asyncio, `SyncGate` for threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """Lets `size` tasks in at once, the others in the order of their arrival."""

    def __init__(self, size: int) -> None:
        import asyncio

        self._free = asyncio.Semaphore(size)

    @property
    def is_full(self) -> bool:
        """Whether the next task has to wait."""
        return self._free.locked()

    async def __aenter__(self) -> None:
        await self._free.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._free.release()


class SyncGate:
    """Lets `size` threads in at once."""

    def __init__(self, size: int) -> None:
        self._free = threading.Semaphore(size)

    @property
    def is_full(self) -> bool:
        """Whether the next thread has to wait. Only an estimate: another thread may come first."""
        return not self._free._value  # There is no public way to look.

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self._free.release()
