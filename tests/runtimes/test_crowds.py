"""Callers who have to wait for their turn anyway are in no hurry to be booked, and share writes with those who come after."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.scenes import Caller, Stage, hold_the_lead

from limiter import Limit, SyncRateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock

LIMIT = Limit.per_second("requests", 1)


@pytest.fixture
def stage(clock: FakeClock) -> Stage:
    """A repository that does what the test says."""
    return Stage(clock)


def make(stage: Stage, **options: Any) -> SyncRateLimiter:
    """A limiter that has used the bucket once, and so knows it. Its waits take no time."""
    limiter = SyncRateLimiter(stage, [LIMIT], decision_timeout=60, sleep=lambda seconds: None, **options)
    assert limiter.try_acquire("user", "api", {"requests": 0})
    return limiter


def ask(limiter: SyncRateLimiter, timeout: float | None = 60) -> Caller:
    """A caller who asks for a unit, when it waits for an answer."""
    return Caller(lambda: limiter.try_acquire("user", "api", {"requests": 1}, timeout=timeout)).wait_until_blocked()


def run(stage: Stage, limiter: SyncRateLimiter, monkeypatch: pytest.MonkeyPatch, *timeouts: float | None) -> list[float]:
    """The pauses that were made when those callers had queued up behind a write; in each comes another one who waits."""
    gate, leader = hold_the_lead(limiter, stage)
    crowd = [ask(limiter, timeout) for timeout in timeouts]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        crowd.append(ask(limiter))

    monkeypatch.setattr("limiter.commit.sync_leading.time", SimpleNamespace(sleep=sleep))
    before = limiter.stats().calls
    gate.open()
    assert leader.finish()
    for caller in crowd:
        caller.finish()
    assert limiter.stats().calls == before + 1
    return pauses


def test_a_crowd_that_waits_gathers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """While callers have to wait anyway, others join them, and one write books all of them."""
    assert run(stage, make(stage), monkeypatch, 60, 60) == [0.05]


@pytest.mark.parametrize("timeouts", [(60,), (60, None), (60, 60, 0)], ids=str)
def test_no_caller_in_a_hurry_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch, timeouts: tuple[float | None, ...]) -> None:
    """A caller that is alone, or that must not wait, is decided at once, and so are the callers that queue with it."""
    assert run(stage, make(stage), monkeypatch, *timeouts) == []


def test_a_state_that_is_too_old_gives_no_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no state is believed, no caller knows that the first has to wait."""
    assert run(stage, make(stage, denial_ttl=0), monkeypatch, 60, 60) == []
