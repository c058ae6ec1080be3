"""Wakeups: one that is set before the wait is not lost, and one that is set twice counts once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from limiter.runtime.wakeup import CROWD, Relay, SyncRelay, SyncWakeup, Wakeup


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
    """A caller that waits continues when another sets the wakeup."""
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


def test_each_thread_wakes_the_next() -> None:
    """The relay wakes the first thread only; the second is woken when the first one is, and so on."""
    first, second, third = (SyncWakeup() for _ in range(3))
    with SyncRelay() as relay:
        for wakeup in (third, second, first):
            relay.add(wakeup, waits=True)
    assert second._behind is third
    assert [first._wait(0.0), second._wait(0.0), third._wait(0.0)] == [True] * 3


def test_a_relay_has_settled_when_its_last_thread_is_awake() -> None:
    """A leader that waits for a crowd goes on when the last of it has woken, and not before."""
    wakeups = [SyncWakeup() for _ in range(CROWD + 1)]
    with SyncRelay() as relay:
        for wakeup in reversed(wakeups):
            relay.add(wakeup, waits=True)
    assert relay.is_crowd
    settled: list[bool] = []
    leader = threading.Thread(target=lambda: settled.append(relay.settle(60.0) is None))
    leader.start()
    for wakeup in wakeups:
        assert not settled
        assert wakeup._wait(0.0)
    leader.join(30.0)
    assert settled


def test_a_few_threads_are_no_crowd() -> None:
    """Their waking takes less than a write would gain by it."""
    with SyncRelay() as relay:
        for _ in range(CROWD):
            relay.add(SyncWakeup(), waits=True)
    assert not relay.is_crowd
    SyncRelay().settle(60.0)


def test_a_thread_that_does_not_wait_is_woken_by_itself() -> None:
    """What is behind it would have to wait until it looks."""
    leading, waiting = SyncWakeup(), SyncWakeup()
    with SyncRelay() as relay:
        relay.add(waiting, waits=True)
        relay.add(leading, waits=False)
    assert waiting._wait(0.0)
    assert leading._wait(0.0)


@pytest.mark.parametrize("leaves", [lambda wakeup: wakeup.pass_on(), lambda wakeup: wakeup._wait(0.0)])
def test_a_thread_that_leaves_passes_on(leaves: Any) -> None:
    """Whether its time is up or it does not wait at all, the next one is woken."""
    first, second = SyncWakeup(), SyncWakeup()
    with SyncRelay() as relay:
        relay.add(second, waits=True)
        relay.add(first, waits=True)
        leaves(first)
        assert second._wait(0.0)


def test_a_thread_in_two_relays_holds_up_neither() -> None:
    """It waits for two buckets: those behind it in each are woken."""
    both, one, other = (SyncWakeup() for _ in range(3))
    for behind in (one, other):
        with SyncRelay() as relay:
            relay.add(behind, waits=True)
            relay.add(both, waits=True)
    assert [both._wait(0.0), one._wait(0.0), other._wait(0.0)] == [True] * 3


def test_an_interruption_leaves_no_thread_asleep() -> None:
    """Those that were added are woken when the block raises."""
    wakeups = [SyncWakeup() for _ in range(3)]
    with pytest.raises(KeyboardInterrupt), SyncRelay() as relay:
        for wakeup in wakeups:
            relay.add(wakeup, waits=True)
        raise KeyboardInterrupt
    assert all(wakeup._wait(0.0) for wakeup in reversed(wakeups))


async def test_a_relay_wakes_every_task() -> None:
    """Each task is woken at once."""
    wakeups = [Wakeup() for _ in range(3)]
    with Relay() as relay:
        for wakeup in wakeups:
            relay.add(wakeup, waits=True)
    for wakeup in wakeups:
        await wakeup._wait(asyncio.get_running_loop())
        wakeup.pass_on()
