# seam
"""Binds objects to their event loop and process, in pairs of equal signature.

`LoopLocal` and `Origin` serve asyncio, `SyncLoopLocal` and `SyncOrigin` threads and greenlets.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import patching
from .concurrency import shielded, start_task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """Holds one `T` for each event loop of each process; a forked child makes its own.

    A child does not touch what it inherits. Collecting it there would take the parent's sockets out of the selector that both
    share, or wait for a lock that no thread releases.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        import asyncio

        self._make = make
        self._running_loop = asyncio.get_running_loop
        self._made: dict[tuple[int, asyncio.AbstractEventLoop], T] = {}

    def get(self) -> T:
        """Return the value for the running loop, made on first use."""
        key = (os.getpid(), self._running_loop())
        found = self._made.get(key)
        if found is None:
            for pid, loop in tuple(self._made):
                if pid == key[0] and loop.is_closed():
                    self._made.pop((pid, loop), None)
            found = self._made.setdefault(key, self._make())
        return found


class ProcessLocal(Generic[T]):
    """Holds one `T` for each process; a forked child makes its own, and leaves what it inherits untouched."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return the value for this process, made on first use."""
        pid = os.getpid()
        found = self._made.get(pid)
        if found is None:
            found = self._made.setdefault(pid, self._make())
        return found


class SyncLoopLocal(ProcessLocal[T]):
    """Holds one `T` for each process, and refuses to serve a process that was patched after the scope was made."""

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__(make)
        self._lock_type = threading.Lock
        self._patcher = patching.patcher()

    def get(self) -> T:
        """Return the value for this process, made on first use; raises `RuntimeNotReady` if its locks would hang."""
        if threading.Lock is not self._lock_type:
            patching.check_made_after_patching(self._patcher)
        return super().get()


class Origin:
    """The process and event loop in which an object was made. Its resources do not exist elsewhere."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        import asyncio

        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    def current_task(self) -> weakref.ref[asyncio.Task[Any]] | None:
        """Return a weak reference to the current task, or None outside of a task."""
        import asyncio

        task = asyncio.current_task(self._loop)
        return weakref.ref(task) if task is not None else None

    def is_current(self) -> bool:
        """Tell whether this is the same process and loop."""
        import asyncio

        return self._pid == os.getpid() and self._loop is asyncio._get_running_loop()

    def is_forked(self) -> bool:
        """Tell whether this process is a fork of that one."""
        return self._pid != os.getpid()

    async def run_cleanup(self, work: Callable[[], Coroutine[Any, Any, object]], task: Callable[[], object] | None) -> None:
        """Run cleanup on the process and event loop that own this object.

        Awaits it where possible. Schedules it if the task is being garbage-collected (a coroutine must not await during
        `GeneratorExit`) or if called from another thread. Does nothing in a forked child or on a closed loop.
        """
        import asyncio

        if self._pid != os.getpid() or self._loop.is_closed():
            return
        if self._loop is not asyncio._get_running_loop():
            self._loop.call_soon_threadsafe(lambda: start_task(self._loop, work()))
        elif isinstance(sys.exception(), GeneratorExit) and not _is_running(task):
            start_task(self._loop, work())
        else:
            await shielded(work())


def _is_running(own: Callable[[], object] | None) -> bool:
    """Tell whether the referenced task is the current one; a task that is being collected is not."""
    import asyncio

    task = own() if own is not None else None
    return task is not None and task is asyncio.current_task()


class SyncOrigin:
    """The process in which an object was made. Its resources do not exist elsewhere."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def current_task(self) -> None:
        """Return None: a thread can always wait."""

    def is_current(self) -> bool:
        """Tell whether this is the same process."""
        return self._pid == os.getpid()

    def is_forked(self) -> bool:
        """Tell whether this process is a fork of that one."""
        return self._pid != os.getpid()

    def run_cleanup(self, work: Callable[[], object], task: None) -> None:
        """Run cleanup in the process that owns this object; a forked child does nothing."""
        if self.is_current():
            work()
