"""Counts of one limiter that many threads use at once: none is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from support.scenes import Caller, Gate, Stage, fail_with

from limiter import Limit, RateLimiterUnavailable, SyncRateLimiter
from limiter.commit.breaker import THRESHOLD
from limiter.runtime.retry import ATTEMPTS

if TYPE_CHECKING:
    from support.engines import FakeClock

    from limiter import DecisionEvent

THREADS, EACH, CAPACITY = 8, 50, 150


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


def test_the_call_that_looks_whether_the_table_is_back_shows(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The breaker is "open" after the failures, "half-open" while one call looks, and "closed" when that was answered."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 0.0)
    stage, gate = Stage(clock), Gate()
    limiter = SyncRateLimiter(stage, [Limit.per_second("requests", 9)], "allow", decision_timeout=60.0)
    limiter.check("user")
    stage.before = [fail_with(RateLimiterUnavailable("down", unsent=True))] * THRESHOLD * ATTEMPTS + [gate]
    for _ in range(THRESHOLD):
        assert limiter.stats().breaker == "closed"
        assert limiter.try_acquire("user")
    assert limiter.stats().breaker == "open"
    caller = Caller(lambda: limiter.try_acquire("user"))
    gate.wait_until_reached()
    assert limiter.stats().breaker == "half-open"
    gate.open()
    assert caller.finish()
    assert limiter.stats().breaker == "closed"
    assert limiter.stats().degraded == THRESHOLD
