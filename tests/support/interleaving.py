"""A seeded scheduler for code that is written for threads: it may switch at every lock, wake-up, pause and call to the store.

Callers are greenlets, of which one runs at a time. They may also switch before each step at a queue, which a lock has to protect.
Within `switching` the locks, events, threads, clocks and pauses of the library
are those of the scheduler, so a seed decides which caller goes on at each of them, and a run can be repeated. Time passes when no
caller can go on. A run in which callers are left and none can go on, or one waits for minutes, is `Stuck`.

The models are the Lincheck tests of bucket4j, and loom and shuttle in Rust.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import inspect
import itertools
import math
import random
import sys
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from greenlet import getcurrent, greenlet

from limiter.commit.breaker import Breaker
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATEST = 600.0
"""Seconds after which a caller counts as one that waits for ever."""
MOST = 50_000
"""Switches after which callers count as running in circles."""


class Stuck(AssertionError):
    """Callers are left, and none can go on."""


class Interrupted(BaseException):
    """A caller was killed while it waited."""


class Scheduler:
    """Runs callers, one at a time, in an order that the seed decides; `now` is the time in seconds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - an order that can be repeated
        self.now = 0.0
        self.switches = 0
        self._hub = getcurrent()
        self._ready: list[tuple[greenlet, bool | Interrupted]] = []
        self._parked: dict[greenlet, object] = {}
        self._timers: list[tuple[float, int, greenlet, object]] = []
        self._numbers = itertools.count()
        self._callers: list[greenlet] = []

    def call(self, work: Callable[[], object], *, background: bool = False) -> greenlet:
        """Add a caller. The run ends when all have ended but those in the background."""
        caller = greenlet(lambda _: work(), self._hub)
        self._ready.append((caller, True))
        if not background:
            self._callers.append(caller)
        return caller

    def run(self) -> None:
        """Let the callers run until all have ended."""
        while any(not caller.dead for caller in self._callers):
            if not self._ready:
                self._let_time_pass()
            place = self.random.randrange(len(self._ready))
            self._ready[place], self._ready[-1] = self._ready[-1], self._ready[place]
            caller, message = self._ready.pop()
            self.switches += 1
            if self.switches > MOST:
                raise Stuck(f"callers run in circles\n{self._stacks()}")
            if isinstance(message, Interrupted):
                caller.throw(message)
            else:
                caller.switch(message)

    def pause(self) -> None:
        """Let another caller go on, or not."""
        if getcurrent() is not self._hub:
            self._ready.append((getcurrent(), True))
            self._hub.switch()

    def park(self, until: float = math.inf) -> bool:
        """Wait until another caller wakes this one, or until a time; return whether it was woken."""
        caller, parking = getcurrent(), object()
        if caller is self._hub:
            raise Stuck("the test itself would wait")
        self._parked[caller] = parking
        if until < math.inf:
            heapq.heappush(self._timers, (until, next(self._numbers), caller, parking))
        return bool(self._hub.switch())

    def wake(self, caller: greenlet, message: bool | Interrupted = True) -> bool:
        """Let a caller that is parked go on; return whether it was."""
        if self._parked.pop(caller, None) is None:
            return False
        self._ready.append((caller, message))
        return True

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        if seconds > 0:
            self.park(self.now + seconds)
        else:
            self.pause()

    def _let_time_pass(self) -> None:
        while self._timers:
            when, _, caller, parking = heapq.heappop(self._timers)
            if self._parked.get(caller) is parking:
                self.now = max(self.now, when)
                if self.now > LATEST:
                    raise Stuck(f"a caller waits for more than {LATEST} s\n{self._stacks()}")
                self.wake(caller, message=False)
                return
        raise Stuck(f"no caller can go on\n{self._stacks()}")

    def _stacks(self) -> str:
        """Return where each caller stands."""
        frames = [caller.gr_frame for caller in self._callers if caller.gr_frame is not None]
        return "\n".join("".join(traceback.format_stack(frame, limit=6)) for frame in frames)


class Lock:
    """A lock; another caller may go on before it is taken and after it is released."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._waiting: list[greenlet] = []

    def acquire(self, blocking: bool = True, timeout: float = -1.0) -> bool:
        """Take the lock, in time; return whether that succeeded."""
        scheduler = self._scheduler
        scheduler.pause()
        until = math.inf if timeout < 0 else scheduler.now + timeout
        while self._held:
            if not blocking or scheduler.now >= until:
                return False
            self._waiting.append(getcurrent())
            try:
                scheduler.park(until)
            finally:
                if getcurrent() in self._waiting:
                    self._waiting.remove(getcurrent())
        self._held = True
        return True

    def release(self) -> None:
        """Release the lock, and let one that waits for it try."""
        if not self._held:
            raise RuntimeError("release unlocked lock")
        self._held = False
        if self._waiting:
            self._scheduler.wake(self._waiting.pop(self._scheduler.random.randrange(len(self._waiting))))
        self._scheduler.pause()

    def locked(self) -> bool:
        """Tell whether it is held."""
        return self._held

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    """A condition with a lock of its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = Lock(scheduler)
        self._waiting: list[greenlet] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until notified, or until the timeout."""
        until = math.inf if timeout is None else self._scheduler.now + timeout
        self._waiting.append(getcurrent())
        self._lock.release()
        try:
            # It may have been notified since the release.
            return getcurrent() not in self._waiting or self._scheduler.park(until)
        finally:
            if getcurrent() in self._waiting:
                self._waiting.remove(getcurrent())
            self._lock.acquire()

    def notify(self, number: int = 1) -> None:
        """Wake some that wait."""
        for _ in range(min(number, len(self._waiting))):
            self._scheduler.wake(self._waiting.pop(0))

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Event:
    """An event."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._waiting: list[greenlet] = []

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake all that wait."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for caller in waiting:
            self._scheduler.wake(caller)
        self._scheduler.pause()

    def clear(self) -> None:
        """Forget that it was set."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or until the timeout; return whether it is set."""
        self._scheduler.pause()
        if not self._set:
            self._waiting.append(getcurrent())
            self._scheduler.park(math.inf if timeout is None else self._scheduler.now + timeout)
        return self._set


class Thread:
    """A thread: one more caller, in the background."""

    def __init__(self, scheduler: Scheduler, target: Callable[..., object], args: tuple[Any, ...] = (), **_: object) -> None:
        self._scheduler = scheduler
        self._work = partial(target, *args)
        self._ended = Event(scheduler)
        self._begun = False

    def start(self) -> None:
        """Let it begin."""
        self._begun = True
        self._scheduler.call(self._run, background=True)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._ended.wait(timeout)

    def is_alive(self) -> bool:
        """Tell whether it has begun and not ended."""
        return self._begun and not self._ended.is_set()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.set()


class Module:
    """A module of which some names mean the scheduler's."""

    def __init__(self, module: Any, **names: object) -> None:
        self.__dict__ |= names
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def after_pause(scheduler: Scheduler, function: Callable[..., object]) -> Callable[..., object]:
    """Return a function before which another caller may go on."""

    @functools.wraps(function)
    def paused(*arguments: Any, **named: Any) -> object:
        scheduler.pause()
        return function(*arguments, **named)

    return paused


def read_early(scheduler: Scheduler, slot: Any) -> property:
    """Return an attribute after whose reading another caller may go on, so that what was read may be old."""

    def read(owner: object) -> object:
        value = slot.__get__(owner)
        scheduler.pause()
        return value

    return property(read, slot.__set__)


@contextlib.contextmanager
def switching(scheduler: Scheduler) -> Iterator[None]:
    """Let the library wait, lock and tell the time by a scheduler."""

    def monotonic() -> float:
        return scheduler.now

    kinds = {kind.__name__: partial(kind, scheduler) for kind in (Lock, Condition, Event, Thread)}
    fakes = {
        id(threading): Module(threading, **kinds),
        id(time): Module(time, monotonic=monotonic, sleep=scheduler.sleep),
        id(time.monotonic): monotonic,
    }
    with contextlib.ExitStack() as stack:
        for name, module in tuple(sys.modules.items()):
            if name.startswith("limiter."):
                for attribute, value in tuple(vars(module).items()):
                    if id(value) in fakes:
                        stack.enter_context(mock.patch.object(module, attribute, fakes[id(value)]))
        for kind in (SyncBucketQueue, SyncPendingRequest):
            for attribute, value in tuple(vars(kind).items()):
                if inspect.isfunction(value) and not attribute.startswith("__"):
                    stack.enter_context(mock.patch.object(kind, attribute, after_pause(scheduler, value)))
        for attribute in ("leader", "requests", "batch"):
            slot = vars(SyncBucketQueue)[attribute]
            stack.enter_context(mock.patch.object(SyncBucketQueue, attribute, read_early(scheduler, slot)))
        rest = (Breaker.__init__.__defaults__ or ())[1:]
        stack.enter_context(mock.patch.object(Breaker.__init__, "__defaults__", (monotonic, *rest)))
        yield
