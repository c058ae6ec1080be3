"""A heartbeat goes on as long as its beats ask for it. To stop one takes until the beat in progress has ended, or time is up."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from limiter.runtime.heartbeat import Heartbeat, SyncHeartbeat

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PATIENCE = 30
"""Seconds, for machines that stall."""


class Beats:
    """Beats that ask for another one `again`, and each of which takes until it may end."""

    def __init__(self) -> None:
        self.again: float | None = None
        self.began = asyncio.Queue[asyncio.Event]()
        self.heartbeat = Heartbeat(self.beat)

    async def beat(self) -> float | None:
        may_end = asyncio.Event()
        self.began.put_nowait(may_end)
        await may_end.wait()
        return self.again


async def others_have_ended() -> None:
    """Wait for all tasks but this one, and for what they have scheduled."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_task_is_stopped_when_the_beat_in_progress_has_ended() -> None:
    """Until it is asked for again."""
    beats = Beats()
    for _ in range(2):
        beats.heartbeat.wake(0.0)
        may_end = await beats.began.get()
        stop = asyncio.create_task(beats.heartbeat.stop(PATIENCE))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not stop.done()
        may_end.set()
        await stop
        await others_have_ended()
        assert beats.began.empty()
        await beats.heartbeat.stop(PATIENCE)


async def test_a_stop_waits_no_longer_than_it_is_willing() -> None:
    """The beat in progress goes on, and may ask for another one."""
    beats = Beats()
    beats.heartbeat.wake(0.0)
    may_end = await beats.began.get()
    await beats.heartbeat.stop(0.001)
    beats.again = 0.0
    may_end.set()
    may_end = await beats.began.get()
    beats.again = None
    may_end.set()
    await others_have_ended()
    assert beats.began.empty()


async def test_a_task_that_is_stopped_in_time_does_not_beat() -> None:
    """Nor does one that has to wait for its time."""
    beats = Beats()
    beats.heartbeat.wake(0.0)
    await beats.heartbeat.stop(PATIENCE)
    beats.heartbeat.wake(3600.0)
    await others_have_ended()
    assert beats.began.empty()
    await beats.heartbeat.stop(PATIENCE)


async def test_a_task_beats_at_the_earliest_time_that_was_asked_for() -> None:
    """It takes the place of the later ones, so that there is one beat."""
    beats, later = Beats(), asyncio.Event()
    for seconds in (3600.0, 0.002, 0.0, 0.002):
        beats.heartbeat.wake(seconds)
    asyncio.get_running_loop().call_later(0.002, later.set)
    may_end = await asyncio.wait_for(beats.began.get(), PATIENCE)
    await later.wait()
    may_end.set()
    await others_have_ended()
    assert beats.began.empty()


def threads() -> set[threading.Thread]:
    """The threads of all heartbeats, those of earlier tests too."""
    return {thread for thread in threading.enumerate() if thread.name == "limiter-heartbeat"}


class SyncBeats:
    """Beats in a thread that ask for another one `again`, and each of which takes until it may end."""

    def __init__(self) -> None:
        self.again: float | None = None
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []
        self.heartbeat = SyncHeartbeat(self.beat)

    def beat(self) -> float | None:
        self.threads.append(threading.current_thread())
        self.began.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        return self.again

    @contextmanager
    def during_a_beat(self) -> Iterator[None]:
        """Do something while a beat is in progress, which ends after it, as does its thread."""
        assert self.began.acquire(timeout=PATIENCE)
        yield
        self.may_end.release()
        self.threads[-1].join(PATIENCE)
        assert not self.threads[-1].is_alive()


def test_a_thread_is_stopped_when_the_beat_in_progress_has_ended() -> None:
    """Until it is asked for again, by a thread of its own."""
    before, beats = threads(), SyncBeats()
    for count in (1, 2):
        beats.heartbeat.wake(0.0)
        assert beats.began.acquire(timeout=PATIENCE)
        threading.Timer(0.001, beats.may_end.release).start()
        beats.heartbeat.stop(PATIENCE)
        assert threads() - before == set()
        assert len(beats.threads) == count
        beats.heartbeat.stop(PATIENCE)


def test_a_stop_of_a_thread_waits_no_longer_than_it_is_willing() -> None:
    """The beat in progress goes on, and may ask for another one."""
    beats = SyncBeats()
    beats.heartbeat.wake(0.0)
    assert beats.began.acquire(timeout=PATIENCE)
    beats.heartbeat.stop(0.001)
    assert beats.threads[0].is_alive()
    beats.again = 0.0
    beats.may_end.release()
    with beats.during_a_beat():
        beats.again = None
    assert len(beats.threads) == 2


def test_a_thread_beats_again_when_its_beat_asks_for_it() -> None:
    """The same thread makes the next beat."""
    beats = SyncBeats()
    beats.again = 0.0
    beats.heartbeat.wake(0.0)
    assert beats.began.acquire(timeout=PATIENCE)
    beats.may_end.release()
    with beats.during_a_beat():
        beats.again = None
    assert len(beats.threads) == 2
    assert len(set(beats.threads)) == 1


def test_a_thread_that_waits_ends_when_it_is_stopped() -> None:
    """It does not wait for the time that it had been asked for, unless it is asked for an earlier one."""
    before, beats = threads(), SyncBeats()
    beats.heartbeat.wake(3600.0)
    (thread,) = threads() - before
    beats.heartbeat.stop(PATIENCE)
    assert not thread.is_alive()
    beats.heartbeat.wake(3600.0)
    beats.heartbeat.wake(0.0)
    with beats.during_a_beat():
        pass
    assert len(beats.threads) == 1


def test_a_heartbeat_that_can_start_no_thread_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends starts no thread, and needs no renewal; a later call is heard."""
    beats = SyncBeats()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        beats.heartbeat.wake(0.0)
    beats.heartbeat.wake(0.0)
    with beats.during_a_beat():
        pass
    assert len(beats.threads) == 1
