# seam
"""Work that is done again and again, for as long as it asks for it, in a pair of equal signature.

`Heartbeat` uses a timer of the event loop, `SyncHeartbeat` a daemon thread, which is a greenlet under gevent and eventlet.
Neither keeps a process or a loop alive, and neither exists before it is needed. A forked child inherits none.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .concurrency import start_task

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine


class Heartbeat:
    """Calls `beat` after the seconds that were asked for, and again after the seconds that it returns, if any."""

    def __init__(self, beat: Callable[[], Coroutine[None, None, float | None]]) -> None:
        import asyncio

        self._beat = beat
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def wake(self, seconds: float) -> None:
        """Beat within so many seconds."""
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    async def stop(self, seconds: float) -> None:
        """Beat no more until `wake` is called, or a beat in progress asks for it; wait up to `seconds` for that one to end."""
        import asyncio

        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)

    def _ring(self) -> None:
        self._timer = None
        self._task = start_task(self._loop, self._run())

    async def _run(self) -> None:
        seconds = await self._beat()
        if seconds is not None:
            self.wake(seconds)


class SyncHeartbeat:
    """Calls `beat` after the seconds that were asked for, and again after the seconds that it returns, if any."""

    def __init__(self, beat: Callable[[], float | None]) -> None:
        self._beat = beat
        self._lock = threading.Lock()
        self._due: float | None = None
        self._change: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def wake(self, seconds: float) -> None:
        """Beat within so many seconds."""
        due = time.monotonic() + seconds
        with self._lock:
            if self._due is not None and self._due <= due:
                return
            self._due = due
            if self._change is not None:
                self._change.set()
                return
            self._change = change = threading.Event()
            self._thread = thread = threading.Thread(target=self._run, args=(change,), name="limiter-heartbeat", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # No thread starts any more: the process ends, and needs no renewal.
            self.stop(0.0)

    def stop(self, seconds: float) -> None:
        """Beat no more until `wake` is called, or a beat in progress asks for it; wait up to `seconds` for that one to end."""
        with self._lock:
            change, self._change, self._due = self._change, None, None
            thread = self._thread
        if change is not None:
            change.set()
        if thread is not None and thread.is_alive():
            thread.join(seconds)

    def _run(self, change: threading.Event) -> None:
        try:
            while (seconds := self._wait(change)) is not None:
                if seconds > 0:
                    change.wait(seconds)
                    continue
                again = self._beat()
                if again is not None:
                    self.wake(again)
        finally:
            with self._lock:
                if self._change is change:  # A beat has raised: the next `wake` starts a thread of its own.
                    self._change = self._due = None

    def _wait(self, change: threading.Event) -> float | None:
        """Return the seconds until the next beat, 0 for one that is due and begins now, None where there is none."""
        with self._lock:
            if self._change is not change:
                return None
            if self._due is None:
                self._change = None
                return None
            change.clear()
            seconds = max(0.0, self._due - time.monotonic())
            if not seconds:
                self._due = None
            return seconds
