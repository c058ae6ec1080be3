"""Signals: what is set before somebody waits is not lost, and what is set twice counts once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from limiter.runtime.wakeup import SyncWakeup, Wakeup


def test_a_thread_hears_what_was_set_before_it_waits() -> None:
    """Set, however often, one wait ends at once, and the next does not; cleared, none does."""
    signal = SyncWakeup()
    assert not signal._wait(0.0)
    signal.set()
    signal.set()
    assert signal._wait(0.0)
    assert not signal._wait(0.0)
    signal.set()
    signal.clear()
    assert not signal._wait(0.0)
    signal.clear()
    assert not signal._wait(-1.0)


def test_a_thread_that_waits_is_woken() -> None:
    """Whoever waits goes on when another sets the signal."""
    signal = SyncWakeup()
    waiter = threading.Thread(target=signal._wait, args=(60.0,), daemon=True)
    waiter.start()
    signal.set()
    waiter.join(30.0)
    assert not waiter.is_alive()


async def test_a_task_hears_what_was_set_before_it_waits() -> None:
    """Set, however often, every wait ends at once until it is cleared; then one that waits is woken."""
    signal = Wakeup()
    signal.set()
    signal.set()
    await signal._wait(asyncio.get_running_loop())
    signal.clear()
    waiter = asyncio.ensure_future(signal._wait(asyncio.get_running_loop()))
    await asyncio.sleep(0)
    assert not waiter.done()
    signal.set()
    signal.set()
    await waiter


async def test_a_task_that_gives_up_leaves_the_signal_as_it_was() -> None:
    """A wait that is cancelled takes nothing along."""
    signal = Wakeup()
    waiter = asyncio.ensure_future(signal._wait(asyncio.get_running_loop()))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    signal.set()
    await signal._wait(asyncio.get_running_loop())
