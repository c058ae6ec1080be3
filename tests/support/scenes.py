"""Repositories that stop, fail and interrupt where a test says so, and threads that can be waited for."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from support.engines import wait_until

from limiter import SyncMemoryRepository

if TYPE_CHECKING:
    from collections.abc import Callable

    from limiter import SyncRateLimiter
    from limiter.core.records import BucketKey
    from limiter.core.state import BucketState, Update, WriteResult

PATIENCE = 30.0


class SharedRepository(SyncMemoryRepository):
    """A store in memory that other processes may use."""

    is_shared = True


class Stage:
    """A repository in memory whose every write can be made to wait, to fail, or to be interrupted.

    `before` and `after` hold one function for each write to come, called around its being applied, and `looking` one for each
    read to come.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.inner = SyncMemoryRepository(clock=clock)
        self.before: list[Callable[[], object]] = []
        self.after: list[Callable[[], object]] = []
        self.looking: list[Callable[[], object]] = []
        self.writes = 0
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read_bucket(self, key: BucketKey) -> BucketState:
        self.reads += 1
        if self.looking:
            self.looking.pop(0)()
        return self.inner.read_bucket(key)

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        self.writes += 1
        before = self.before.pop(0) if self.before else None
        after = self.after.pop(0) if self.after else None
        if before is not None:
            before()
        outcome = self.inner.write_bucket(key, update)
        if after is not None:
            after()
        return outcome


class Gate:
    """A gate at which a write can wait until the test opens it."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE)

    def wait_until_reached(self) -> None:
        """Return when a caller stands at the gate."""
        assert self._reached.wait(PATIENCE)

    def open(self) -> None:
        """Let every caller through, from now on."""
        self._open.set()


class Caller(threading.Thread):
    """A thread that makes one call, and keeps its result or error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.call()
        except BaseException as error:
            self.error = error

    def wait_until_blocked(self) -> Caller:
        """Return when the thread waits for another one."""
        assert wait_until(self._is_blocked, PATIENCE)
        return self

    def finish(self) -> Any:
        """Return its result, once it has ended; raise what it raised."""
        self.join(PATIENCE)
        assert not self.is_alive(), "a caller waits for ever"
        if self.error is not None:
            raise self.error
        return self.result

    def _is_blocked(self) -> bool:
        """Tell whether it stands in the limiter's own waiting, or leads and stands at a gate."""
        frame = sys._current_frames().get(self.ident or 0)
        names = []
        while frame is not None:
            names.append((frame.f_globals.get("__name__"), frame.f_code.co_name))
            frame = frame.f_back
        waits = names[:1] in ([("limiter.runtime.wakeup", "_wait")], [("threading", "wait")])
        committer = [name for module, name in names if module == "limiter.commit.sync_committer"]
        return waits and "decide" in committer and "_withdraw" not in committer


def take(limiter: SyncRateLimiter, units: int = 1) -> Caller:
    """Return a thread that consumes units for good."""
    return Caller(partial(limiter.try_acquire, "user", "api", {"requests": units}))


def hold_the_lead(limiter: SyncRateLimiter, stage: Stage) -> tuple[Gate, Caller]:
    """Return a caller whose write waits until the gate is opened, so that all later callers wait in line."""
    gate = Gate()
    stage.before.append(gate)
    leader = take(limiter)
    gate.wait_until_reached()
    return gate, leader


def fail_with(error: BaseException) -> Callable[[], None]:
    """Return something for a write to do: raise."""

    def fail() -> None:
        raise error

    return fail
