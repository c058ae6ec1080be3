# seam
"""The asymmetries of the two worlds, as pairs of equal signature: `name` for asyncio, `sync_name` for threads and greenlets.

asyncio is imported on first use, so that synchronous programs never pay for it.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.validation import shown
from ..exceptions import ValidationError
from . import patching

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if the caller is cancelled meanwhile; the caller is then cancelled at once, the work goes on."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work.close()  # The loop has gone, and with it every way to do the work.
        raise
    return await asyncio.shield(_start(loop, work))


def _start(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = loop.create_task(work)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # Seen: where the caller has gone, nobody is left to be told.


async def begin(calls: Sequence[Callable[[], Coroutine[Any, Any, None]]], wait: Callable[[], Awaitable[object]]) -> None:
    """Have all calls made beside the caller, who waits meanwhile; they have begun before anything can wake it."""
    import asyncio

    loop = asyncio.get_running_loop()
    for call in calls:
        _start(loop, call())
    await wait()


def sync_begin(calls: Sequence[Callable[[], None]], wait: Callable[[], object]) -> None:
    """Make all calls, the first one here and now, so that there is nothing to wait for, the others in threads of their own."""
    left = [call for call in calls[1:] if _in_thread(call) is None]
    for call in (calls[0], *left):
        call()


def sync_shielded(work: T) -> T:
    """Return `work`, which has been done by the time of the call: a thread runs to its end by itself."""
    return work


async def within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call, and raise `TimeoutError` when it takes longer than that."""
    import asyncio

    async with asyncio.timeout(seconds):
        return await call()


def sync_within(seconds: float, call: Callable[[], T]) -> T:
    """Make a call; how long it may take is up to whatever it waits for."""
    return call()


async def arrive(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, and raise `TimeoutError` when it takes longer than that."""
    import asyncio

    async with asyncio.timeout(seconds):
        await event.wait()


def sync_arrive(event: threading.Event, seconds: float) -> None:
    """Wait for an event, and raise `TimeoutError` when it takes longer than that."""
    if not event.wait(seconds):
        raise TimeoutError


async def gather(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T | BaseException]:
    """Make all calls at once, wait for every one, and return their results or errors in order."""
    import asyncio

    return await asyncio.gather(*(call() for call in calls), return_exceptions=True)


def sync_gather(calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Make all calls at once, each but the first in a thread, wait for every one, and return their results or errors in order."""
    outcomes: list[Any] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            outcomes[index] = calls[index]()
        except BaseException as error:
            outcomes[index] = error

    threads = [_in_thread(partial(run, index)) for index in range(1, len(calls))]
    for index in range(len(calls)):
        if not index or threads[index - 1] is None:
            run(index)
    for thread in threads:
        if thread is not None:
            thread.join()
    return outcomes


def _in_thread(call: Callable[[], None]) -> threading.Thread | None:
    """The thread that makes a call; None where no more can be started, as in an `atexit` handler of a process that ends."""
    thread = threading.Thread(target=call, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


class Scope(Generic[T]):
    """Holds one `T` for each event loop of each process; a forked child makes its own.

    What a child inherits stays untouched: were it collected there, it would take the parent's sockets out of the selector that
    both share, or wait for a lock that nobody is left to release.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[tuple[int, asyncio.AbstractEventLoop], T] = {}

    def get(self) -> T:
        """The value for the running loop, made on first use."""
        import asyncio

        key = (os.getpid(), asyncio.get_running_loop())
        found = self._made.get(key)
        if found is None:
            for pid, loop in tuple(self._made):
                if pid == key[0] and loop.is_closed():
                    self._made.pop((pid, loop), None)
            found = self._made.setdefault(key, self._make())
        return found


class ProcessScope(Generic[T]):
    """Holds one `T` for each process; a forked child makes its own, and leaves what it inherits untouched."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """The value for this process, made on first use."""
        pid = os.getpid()
        found = self._made.get(pid)
        if found is None:
            found = self._made.setdefault(pid, self._make())
        return found


class SyncScope(ProcessScope[T]):
    """Holds one `T` for each process, and refuses to serve a process that was patched after the scope was made."""

    def __init__(self, make: Callable[[], T]) -> None:
        super().__init__(make)
        self._lock_type = threading.Lock
        self._patcher = patching.patcher()

    def get(self) -> T:
        """The value for this process, made on first use; raises `RuntimeNotReady` where its locks would hang."""
        if threading.Lock is not self._lock_type:
            patching.check_made_after_patching(self._patcher)
        return super().get()


class Home:
    """Where things were made: the process and the running loop. What they need may not exist anywhere else."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        import asyncio

        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    def tenant(self) -> weakref.ref[asyncio.Task[Any]] | None:
        """Who runs here at the moment: a task, if any."""
        import asyncio

        task = asyncio.current_task(self._loop)
        return weakref.ref(task) if task is not None else None

    def is_here(self) -> bool:
        """Whether this is the same process and loop."""
        import asyncio

        return self._pid == os.getpid() and self._loop is asyncio._get_running_loop()

    def is_inherited(self) -> bool:
        """Whether this process is a fork of that one."""
        return self._pid != os.getpid()

    async def finish(self, work: Callable[[], Coroutine[Any, Any, object]], tenant: Callable[[], object] | None) -> None:
        """Do, where this is home, what has to be done for a tenant in any case; return when it is done, if that can be awaited.

        A task that is collected cannot: it is made to raise `GeneratorExit` inside of whatever runs at that moment, in whichever
        thread, and must not await. A fork of the process and a closed loop do nothing.
        """
        import asyncio

        if self._pid != os.getpid() or self._loop.is_closed():
            return
        if self._loop is not asyncio._get_running_loop():
            self._loop.call_soon_threadsafe(lambda: _start(self._loop, work()))
        elif isinstance(sys.exception(), GeneratorExit) and not _runs(tenant):
            _start(self._loop, work())
        else:
            await shielded(work())


def _runs(tenant: Callable[[], object] | None) -> bool:
    """Whether this is the task that was the tenant, which is gone while it is collected."""
    import asyncio

    task = tenant() if tenant is not None else None
    return task is not None and task is asyncio.current_task()


class SyncHome:
    """Where things were made: the process. What they need may not exist anywhere else."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    def tenant(self) -> None:
        """Who runs here at the moment: nobody who could not wait."""

    def is_here(self) -> bool:
        """Whether this is the same process."""
        return self._pid == os.getpid()

    def is_inherited(self) -> bool:
        """Whether this process is a fork of that one."""
        return self._pid != os.getpid()

    def finish(self, work: Callable[[], object], tenant: None) -> None:
        """Do, where this is home, what has to be done in any case; a fork of the process does nothing."""
        if self.is_here():
            work()


def check_store(repository: Any) -> None:
    """Raise `ValidationError` unless this is a repository for asyncio."""
    if not inspect.iscoroutinefunction(getattr(repository, "open", None)):
        raise ValidationError(f"{shown(repository)} is no Repository or MemoryRepository; for SyncRepository use SyncRateLimiter")


def sync_check_store(repository: Any) -> None:
    """Raise `ValidationError` unless this is a synchronous repository."""
    if not callable(method := getattr(repository, "open", None)) or inspect.iscoroutinefunction(method):
        raise ValidationError(f"{shown(repository)} is no SyncRepository or SyncMemoryRepository; for Repository use RateLimiter")


def check_function(function: Callable[..., Any]) -> None:
    """Raise `ValidationError` unless the function is a coroutine function."""
    if not inspect.iscoroutinefunction(function):
        raise ValidationError(f"{function!r} is not `async def`: decorate it with SyncRateLimiter.limited")


def sync_check_function(function: Callable[..., Any]) -> None:
    """Raise `ValidationError` if the function is a coroutine function."""
    if inspect.iscoroutinefunction(function):
        raise ValidationError(f"{function!r} is `async def`: decorate it with RateLimiter.limited")


def note_blocking(call: str) -> None:
    """Do nothing: asynchronous calls are made where a loop runs."""


def sync_note_blocking(call: str) -> None:
    """Warn, once for each place, if an event loop runs in this thread, which `call` of the limiter is going to block."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running is not None and running() is not None:
        patching.warn_of_blocking(call)
