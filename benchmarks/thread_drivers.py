"""Callers as threads, which are greenlets in a process that gevent has patched. `async_drivers` has the same for asyncio."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .recording import TURN, Record, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .peers import ThreadPeer


def run_all(callers: int, caller: Callable[[int], None], record: Record) -> Record:
    """Run every caller in a separate thread, and wait for all; all begin at the same time, when the watch starts."""
    failures: list[BaseException] = []
    gate = threading.Event()

    def guarded(number: int) -> None:
        gate.wait()
        try:
            caller(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    with Stopwatch(record):
        gate.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return record


def closed(peer: ThreadPeer, keys: Sequence[str], seconds: float) -> Record:
    """One caller for each key, equal or not, asks again as soon as it has a response."""
    record = Record()

    def caller(number: int) -> None:
        key = keys[number]
        while time.perf_counter() < record.began + seconds:
            began = time.perf_counter_ns()
            record.add(began, peer.acquire(key))

    if len(keys) > 1:
        return run_all(len(keys), caller, record)
    with Stopwatch(record):
        caller(0)
    return record


def turns(peer: Any, key: str, seconds: float) -> Record:
    """Each side of a peer makes some calls in turn; the CPU time of each turn is recorded beside the rest."""
    record = Record()
    with Stopwatch(record):
        while time.perf_counter() < record.began + seconds:
            for name, side in peer.sides.items():
                used = time.process_time_ns()
                for _ in range(TURN):
                    began = time.perf_counter_ns()
                    record.add(began, side.acquire(key))
                record.turns.setdefault(name, []).append(time.process_time_ns() - used)
    return record


def paced(peer: ThreadPeer, key: str, callers: int, seconds: float, demand: int) -> Record:
    """Callers ask at fixed times, `demand` per second in all; a late caller asks at once."""
    record = Record()
    interval = callers / demand

    def caller(number: int) -> None:
        due, end = record.began + number / demand, record.began + seconds
        while due < end:
            time.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() >= end:
                return
            began = time.perf_counter_ns()
            record.add(began, peer.acquire(key))
            due += interval

    return run_all(callers, caller, record)


def cold(peer: ThreadPeer, keys: Iterator[str], callers: int) -> Record:
    """Each key is used once, by the next free caller."""
    record = Record()
    remaining = list(keys)
    places = itertools.count()

    def caller(_: int) -> None:
        while (place := next(places)) < len(remaining):
            began = time.perf_counter_ns()
            record.add(began, peer.acquire(remaining[place]))

    return run_all(callers, caller, record)


def owe(peer: Any, key: str, units: int) -> Record:
    """Put the key into debt while other callers ask for it."""
    peer.owe(key, units)
    return Record()


def waiters(peer: ThreadPeer, key: str, callers: int, patience: float) -> Record:
    """All callers arrive at once and wait for their turn; a caller's number is drawn as the last thing before it asks.

    Until all have come, Python takes the processor from no thread that does not wait. It would else, every 5 ms, and from some
    between drawing a number and asking, so that the order of the numbers would not be that of arrival.
    """
    record = Record()
    numbers = itertools.count()

    def caller(_: int) -> None:
        number = next(numbers)
        if number == callers - 1:
            sys.setswitchinterval(interval)
        began = time.perf_counter_ns()
        admitted = peer.acquire(key, patience)
        record.order.append(number)
        record.starts.append(time.perf_counter())
        record.add(began, admitted)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(patience)
    return run_all(callers, caller, record)
