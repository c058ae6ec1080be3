"""A gate lets so many in at once, and the others as places become free: tasks in the order of their arrival, and threads."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.scenes import PATIENCE

from limiter.runtime.gate import Gate, SyncGate


async def pass_through(gate: Gate, name: str, log: list[str], leave: asyncio.Event) -> None:
    """Enter, and stay until told to leave."""
    async with gate:
        log.append(name)
        await leave.wait()


@pytest.mark.parametrize("gate", [Gate(2), SyncGate(2)], ids=["tasks", "threads"])
def test_a_gate_is_full_when_all_places_are_taken(gate: Gate | SyncGate) -> None:
    """It lets no more in without a wait, until one has left."""
    assert [gate.try_enter() for _ in range(3)] == [True, True, False]
    assert gate.is_full
    gate.leave()
    assert not gate.is_full
    assert gate.try_enter()


async def test_tasks_enter_in_the_order_of_their_arrival() -> None:
    """Each place that becomes free goes to the task that has waited for longest."""
    gate, log = Gate(1), list[str]()
    leave = {name: asyncio.Event() for name in "abc"}
    async with asyncio.TaskGroup() as group:
        for name, event in leave.items():
            group.create_task(pass_through(gate, name, log, event))
            await asyncio.sleep(0)
        for entered in range(1, 4):
            assert log == list("abc"[:entered])
            leave[log[-1]].set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    assert not gate.is_full


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "when it is let in"])
async def test_a_task_that_is_cancelled_keeps_no_place(late: bool) -> None:
    """The place goes to the next task, also if the cancelled one was let in at the same moment."""
    gate, log = Gate(1), list[str]()
    leave = asyncio.Event()
    assert gate.try_enter()
    cancelled = asyncio.create_task(pass_through(gate, "cancelled", log, leave))
    following = asyncio.create_task(pass_through(gate, "following", log, leave))
    await asyncio.sleep(0)
    steps = [gate.leave, cancelled.cancel] if late else [cancelled.cancel, gate.leave]
    for step in steps:
        step()
    leave.set()
    await following
    assert log == ["following"]
    assert cancelled.cancelled()
    assert not gate.is_full


def test_threads_enter_as_others_leave() -> None:
    """No more than the size are inside at once, and each of them comes in."""
    gate, inside, most, done = SyncGate(2), list[int](), list[int](), list[int]()

    def enter(number: int) -> None:
        with gate:
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)
        done.append(number)

    assert gate.try_enter()
    assert gate.try_enter()
    threads = [threading.Thread(target=enter, args=[number], daemon=True) for number in range(20)]
    for thread in threads:
        thread.start()
    assert done == []
    gate.leave()
    gate.leave()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(done) == list(range(20))
    assert max(most) <= 2
    assert not gate.is_full


def test_an_interrupted_thread_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that takes a thread out of its wait leaves the gate as it is."""
    gate = SyncGate(1)
    assert gate.try_enter()

    def interrupt(self: threading.Condition, timeout: float | None = None) -> bool:
        gate.leave()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt), gate:
            pytest.fail("it has entered")
    with gate:
        assert gate.is_full
    assert not gate.is_full
