"""Counts of one limiter that many threads use at once: none is lost."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from threads.scenes import Stage

from limiter import Limit, SyncRateLimiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines import FakeClock

    from limiter import DecisionEvent

THREADS, EACH, CAPACITY = 8, 50, 150


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns as often as the interpreter can make them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_threads_lose_no_count(clock: FakeClock) -> None:
    """Decisions, refusals, calls and events add up; a look in between never shows an admission that is taken back."""
    told: list[DecisionEvent] = []
    stage = Stage(clock)
    limiter = SyncRateLimiter(
        stage, [Limit("requests", CAPACITY, 1, 86400.0)], denial_ttl=0, decision_timeout=60.0, on_decision=told.append
    )
    limiter.check("user")
    stage.writes = stage.reads = 0
    before = limiter.stats().calls

    done = threading.Event()

    def watch() -> list[int]:
        seen = []
        while not done.is_set():
            statistics = limiter.stats()
            seen.append(statistics.decisions - statistics.refusals)
        return seen

    def run(_: int) -> int:
        return sum(bool(limiter.try_acquire("user")) for _ in range(EACH))

    with ThreadPoolExecutor(THREADS + 1) as pool:
        watching = pool.submit(watch)
        try:
            admitted = list(pool.map(run, range(THREADS)))
        finally:
            done.set()
        seen = watching.result()
    statistics = limiter.stats()
    assert (statistics.decisions, statistics.refusals) == (THREADS * EACH, THREADS * EACH - CAPACITY)
    assert sum(admitted) == CAPACITY
    assert seen == sorted(seen)
    assert statistics.calls - before == stage.writes + stage.reads
    assert len(told) == statistics.decisions
    assert sum(event.allowed for event in told) == CAPACITY
