"""Callers as asyncio tasks. `thread_drivers` has the same for threads and greenlets."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .recording import TURN, Record, Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .peers import AsyncPeer


async def closed(peer: AsyncPeer, keys: Sequence[str], seconds: float) -> Record:
    """One caller for each key, equal or not, asks again as soon as it has a response."""
    record = Record()

    async def caller(key: str) -> None:
        while time.perf_counter() < record.began + seconds:
            began = time.perf_counter_ns()
            record.add(began, await peer.acquire(key))

    with Stopwatch(record):
        await asyncio.gather(*map(caller, keys))
    return record


async def turns(peer: Any, key: str, seconds: float) -> Record:
    """Each side of a peer makes some calls in turn; the CPU time of each turn is recorded beside the rest."""
    record = Record()
    with Stopwatch(record):
        while time.perf_counter() < record.began + seconds:
            for name, side in peer.sides.items():
                used = time.process_time_ns()
                for _ in range(TURN):
                    began = time.perf_counter_ns()
                    record.add(began, await side.acquire(key))
                record.turns.setdefault(name, []).append(time.process_time_ns() - used)
    return record


async def paced(peer: AsyncPeer, key: str, callers: int, seconds: float, demand: int) -> Record:
    """Callers ask at fixed times, `demand` per second in all; a late caller asks at once."""
    record = Record()
    interval = callers / demand

    async def caller(number: int) -> None:
        due, end = record.began + number / demand, record.began + seconds
        while due < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() >= end:
                return
            began = time.perf_counter_ns()
            record.add(began, await peer.acquire(key))
            due += interval

    with Stopwatch(record):
        await asyncio.gather(*(caller(number) for number in range(callers)))
    return record


async def cold(peer: AsyncPeer, keys: Iterator[str], callers: int) -> Record:
    """Each key is used once, by the next free caller."""
    record = Record()

    async def caller() -> None:
        for key in keys:
            began = time.perf_counter_ns()
            record.add(began, await peer.acquire(key))

    with Stopwatch(record):
        await asyncio.gather(*(caller() for _ in range(callers)))
    return record


async def owe(peer: Any, key: str, units: int) -> Record:
    """Put the key into debt while other callers ask for it."""
    await peer.owe(key, units)
    return Record()


async def waiters(peer: AsyncPeer, key: str, callers: int, patience: float) -> Record:
    """All callers arrive at once, in order, and wait for their turn."""
    record = Record()

    async def caller(number: int) -> None:
        began = time.perf_counter_ns()
        admitted = await peer.acquire(key, patience)
        record.add(began, admitted)
        record.order.append(number)
        record.starts.append(time.perf_counter())

    with Stopwatch(record):
        await asyncio.gather(*(caller(number) for number in range(callers)))
    return record
