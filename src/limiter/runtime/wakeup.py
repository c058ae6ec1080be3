# seam
"""How callers wait and are woken, in pairs of equal signature: `Wakeup` for asyncio, `SyncWakeup` for threads and greenlets."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable


FEW = 64
"""Waiting callers up to which those that have left are not searched for."""
CROWD = 4
"""Threads of a relay up to which it is not waited for."""


class Wakeup:
    """Wakes the task that waits for it through `Deadlines`."""

    __slots__ = ("_future", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._future: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the caller that waits, or let the next wait end at once."""
        self._is_set = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def clear(self) -> None:
        """Forget that it was set."""
        self._is_set = False

    def pass_on(self) -> None:
        """Do nothing, because a `Relay` wakes each task itself."""

    def _wait(self, loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        """Wait until it is set."""
        self._future = loop.create_future()
        if self._is_set:
            self._future.set_result(None)
        return self._future


class SyncWakeup:
    """Wakes the thread that waits for it through `SyncDeadlines`.

    A lock: an `Event` would be a condition, a list and two more locks.
    """

    __slots__ = ("_behind", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._behind: SyncWakeup | None = None

    def set(self) -> None:
        """Wake the caller that waits, or let the next wait end at once."""
        with suppress(RuntimeError):  # It was set already.
            self._lock.release()

    def clear(self) -> None:
        """Forget that it was set."""
        self._lock.acquire(blocking=False)

    def pass_on(self) -> None:
        """Wake the next caller of a `SyncRelay`, if this one is part of one and has not done so yet."""
        behind = self._behind
        if behind is not None:
            self._behind = None
            behind.set()

    def _wait(self, seconds: float) -> bool:
        """Wait until it is set, and then clear it, or until the timeout; returns whether it was set."""
        try:
            return self._lock.acquire(timeout=max(0.0, seconds))
        finally:
            self.pass_on()


class Relay:
    """Wakes any number of tasks, at the end of its block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: all are awake."""

    def add(self, wakeup: Wakeup, *, waits: bool) -> None:
        """Wake a task that `waits`, or is about to look for itself."""
        wakeup.set()

    @property
    def is_crowd(self) -> bool:
        """Whether the end is worth waiting for: no, since all tasks are awake."""
        return False

    async def settle(self, seconds: float) -> None:
        """Do nothing: all are awake."""


class SyncRelay:
    """Wakes any number of threads at the end of its block, of which each wakes the next.

    A thread that woke all of them would contend with them for the interpreter, and for the lock that its caller holds.

    They are added from the last to the first, each one before it is told. So those behind a thread have been told when it is, and
    it does not matter how early it passes on. Each does that when it wakes, and before it leaves.

    The last thread sets the end, so that a leader can wait until a crowd is awake.
    """

    def __init__(self) -> None:
        self._first: SyncWakeup | None = None
        self._others: list[SyncWakeup] = []
        self._end: SyncWakeup | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wake the first thread, also after an interruption."""
        for wakeup in self._others:
            wakeup.set()
        first, self._first, self._others = self._first, None, []
        if first is not None:
            first.set()

    def add(self, wakeup: SyncWakeup, *, waits: bool) -> None:
        """Put a thread in front, if it `waits` and is part of no other relay; others are woken by themselves."""
        if not waits or wakeup._behind is not None:
            self._others.append(wakeup)
            return
        if self._first is None:
            self._end = self._first = SyncWakeup()
        wakeup._behind, self._first = self._first, wakeup
        self._count += 1

    @property
    def is_crowd(self) -> bool:
        """Whether there are so many threads that their waking takes a while."""
        return self._count > CROWD

    def settle(self, seconds: float) -> None:
        """Wait until every thread is awake, or for so many seconds."""
        if self._end is not None:
            self._end._wait(seconds)


class Waiting(Protocol):
    """A wakeup that is waited for until `expires` (monotonic seconds), or until nothing is `pending`."""

    expires: float
    pending: int

    @property
    def _wait(self) -> Callable[..., Any]: ...

    def set(self) -> None:
        """See `Wakeup`."""


class Deadlines:
    """Wakes callers whose time is up: one timer for all, because one timer each would cost more than the waiting."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Waiting] = deque()
        self._sweep = FEW
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, waiting: Waiting) -> Awaitable[object]:
        """Wait until it is set, or until its time is up."""
        while self._waiting and not self._waiting[0].pending:
            self._waiting.popleft()
        self._waiting.append(waiting)
        if len(self._waiting) > self._sweep:
            self._forget_decided()
        if self._timer is None or waiting.expires < self._timer.when():
            self._set(waiting.expires)
        wait: Awaitable[object] = waiting._wait(self._loop)
        return wait

    def _forget_decided(self) -> None:
        """Keep only requests that still wait, behind one that waits for long; repeat when their number has doubled."""
        self._waiting = deque(each for each in self._waiting if each.pending)
        self._sweep = max(FEW, 2 * len(self._waiting))

    def _set(self, expires: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._loop.time() + expires - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic()
        self._forget_decided()
        for waiting in self._waiting:
            if waiting.expires <= now:
                waiting.set()
        left = [waiting.expires for waiting in self._waiting if waiting.expires > now]
        if left:
            self._set(min(left))


class SyncDeadlines:
    """Wakes callers whose time is up."""

    def wait(self, waiting: Waiting) -> None:
        """Wait until it is set, or until its time is up."""
        waiting._wait(waiting.expires - time.monotonic())
