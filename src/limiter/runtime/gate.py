# seam
"""Bounds how many calls run at once, in a pair of equal signature: `Gate` for asyncio, `SyncGate` for threads."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType


class Gate:
    """Lets `size` tasks in at once, the others in the order of their arrival."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether the next task has to wait."""
        return not self._free

    def try_enter(self) -> bool:
        """Enter if that needs no wait."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def leave(self) -> None:
        """Let the next task in."""
        while self._line:
            first = self._line.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        if self.try_enter():
            return
        import asyncio

        place = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.leave()  # It was let in at the same moment.
            raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()


class SyncGate:
    """Lets `size` threads in at once."""

    def __init__(self, size: int) -> None:
        self._free = [None] * size  # A list, since append and pop are each one step for threads.
        self._waiting = 0
        self._line = threading.Condition()

    @property
    def is_full(self) -> bool:
        """Whether the next thread has to wait. Only an estimate: another thread may come first."""
        return not self._free

    def try_enter(self) -> bool:
        """Enter if that needs no wait."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def leave(self) -> None:
        """Let the next thread in."""
        self._free.append(None)
        if self._waiting:
            with self._line:
                self._line.notify()

    def __enter__(self) -> None:
        if self.try_enter():
            return
        with self._line:
            self._waiting += 1  # Before it looks again, so that who leaves sees one of the two.
            try:
                while not self.try_enter():
                    self._line.wait()
            except BaseException:
                self._line.notify()  # It may have been woken in the place of another.
                raise
            finally:
                self._waiting -= 1

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.leave()
