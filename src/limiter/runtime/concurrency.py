# seam
"""Differences between asyncio and threads, in pairs of equal signature: `name` for asyncio, `sync_name` for threads, greenlets.

asyncio is imported on first use, so that sync programs do not pay for it.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.validation import shown
from ..exceptions import ValidationError
from . import patching

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

T = TypeVar("T")

TICKS = 8
"""Ticks by which a timeout is counted."""
RARELY = 8
"""How many times longer than the table may take a task in line waits before it looks whether the table still responds."""
TURNS = 32
"""Turns that a busy loop has before a call in line fails: enough to connect, to send a call and to see its response."""
_running: set[asyncio.Task[Any]] = set()


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if the caller is cancelled. The caller is then cancelled at once, and the work continues."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        work.close()  # The loop is closed, and nothing can do the work any more.
        raise
    return await asyncio.shield(start_task(loop, work))


def start_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` as a task that is kept alive until it ends."""
    task = loop.create_task(work)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # Marks the error as seen: no caller is left to receive it.


async def start(calls: Sequence[Callable[[], Coroutine[Any, Any, None]]], wait: Callable[[], Awaitable[object]]) -> None:
    """Make all calls in tasks while the caller waits. They begin before anything can wake the caller."""
    import asyncio

    loop = asyncio.get_running_loop()
    for call in calls:
        start_task(loop, call())
    await wait()


def sync_start(calls: Sequence[Callable[[], None]], wait: Callable[[], object]) -> None:
    """Make all calls: the first one in this thread, so that the caller need not wait, the others in other threads."""
    left = [call for call in calls[1:] if _in_thread(call) is None]
    for call in (calls[0], *left):
        call()


def sync_shielded(work: T) -> T:
    """Return `work`, which has been done by the time of the call: a thread runs to its end by itself."""
    return work


async def with_timeout(seconds: float, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Make a call, and raise `TimeoutError` if it takes more than `seconds`, not counting time in which the loop was busy.

    The call is cancelled then, and left behind if a store does not let itself be cancelled.
    """
    import asyncio

    task = start_task(asyncio.get_running_loop(), call())
    try:
        async with responsive_timeout(seconds):
            await asyncio.wait([task])
        return task.result()
    finally:
        task.cancel()


@asynccontextmanager
async def responsive_timeout(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` if the block takes more than `seconds`, not counting time in which the loop was busy.

    A busy loop cannot see a response that has arrived. So the time is counted in ticks, each of which begins when the loop has
    processed the one before.
    """
    import asyncio

    loop, left, handle = asyncio.get_running_loop(), TICKS, None

    def tick() -> None:
        nonlocal left, handle
        left -= 1
        if left:
            handle = loop.call_later(seconds / TICKS, tick)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        handle = loop.call_later(seconds / TICKS, tick)
        try:
            yield
        finally:
            handle.cancel()


def sync_with_timeout(seconds: float, call: Callable[[], T]) -> T:
    """Make a call, whose duration is bounded by what it waits for."""
    return call()


async def outlast(event: asyncio.Event, wait: Callable[[], Awaitable[object]]) -> None:
    """Wait for the event at the end of a call that `with_timeout` ends in any case."""
    await event.wait()


def sync_outlast(event: threading.Event, wait: Callable[[], object]) -> None:
    """Wait, as `wait` does, for the event at the end of another thread's call, which no timeout of this library ends."""
    wait()


async def wait_event(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, and raise `TimeoutError` if it takes longer than `seconds`."""
    import asyncio

    async with asyncio.timeout(seconds):
        await event.wait()


def sync_wait_event(event: threading.Event, seconds: float) -> None:
    """Wait for an event, and raise `TimeoutError` if it takes longer than `seconds`.

    A set event is not waited for: while gevent (26.9) tells those who wait, `wait` queues behind them without a timeout. Under
    load it then did not return.
    """
    if not event.is_set() and not event.wait(seconds):
        raise TimeoutError


def in_line(seconds: float) -> float:
    """Return after how many seconds a caller in line looks whether the table, which may take `seconds`, still responds.

    Calls of asyncio end in time by themselves, also where a store hangs, and then the line ends. So the look is only a second
    bound, and has to be rare: many callers may be in line.
    """
    return RARELY * seconds


def sync_in_line(seconds: float) -> float:
    """Return after how many seconds a caller in line looks whether the table, which may take `seconds`, still responds."""
    return seconds


async def catch_up(is_over: Callable[[], bool]) -> bool:
    """Let a busy loop process what has arrived, for some turns or until `is_over`; return whether it is."""
    import asyncio

    for _ in range(TURNS):
        if is_over():
            return True
        await asyncio.sleep(0)
    return is_over()


def sync_catch_up(is_over: Callable[[], bool]) -> bool:
    """Let other threads or greenlets process what has arrived, for some turns or until `is_over`; return whether it is."""
    for _ in range(TURNS):
        if is_over():
            return True
        time.sleep(0)
    return is_over()


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
    """Return the thread that makes a call; None if no more can be started, as in an `atexit` handler."""
    thread = threading.Thread(target=call, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def check_store(repository: Any) -> None:
    """Raise `ValidationError` unless this is an async repository."""
    if not inspect.iscoroutinefunction(getattr(repository, "open", None)):
        given = shown(repository)
        raise ValidationError(f"expected a Repository or MemoryRepository, got {given}; for a SyncRepository use SyncRateLimiter")


def sync_check_store(repository: Any) -> None:
    """Raise `ValidationError` unless this is a sync repository."""
    if not callable(method := getattr(repository, "open", None)) or inspect.iscoroutinefunction(method):
        given = shown(repository)
        raise ValidationError(f"expected a SyncRepository or SyncMemoryRepository, got {given}; for a Repository use RateLimiter")


def note_blocking(call: str) -> None:
    """Do nothing: async calls run where a loop runs."""


def sync_note_blocking(call: str) -> None:
    """Warn, once for each place, if `call` of the limiter is about to block an event loop that runs in this thread."""
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if running is not None and running() is not None:
        patching.warn_of_blocking(call)
