"""No thread waits beyond its deadline for another: followers leave in time, and the lead goes to one that can wait."""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.scenes import Gate, Stage, fail_with, hold_the_lead, take

from limiter import Limit, RateLimiterUnavailable, SyncRateLimiter

if TYPE_CHECKING:
    from support.engines import FakeClock

LIMIT = Limit.per_second("requests", 100)
DEADLINE, SLACK = 0.5, 5.0
UNITS = {"requests": 1}


@pytest.fixture
def stage(clock: FakeClock) -> Stage:
    """A repository that does what the test says."""
    return Stage(clock)


def make(stage: Stage, decision_timeout: float = DEADLINE) -> SyncRateLimiter:
    """A limiter that has used the bucket once, and so knows it."""
    limiter = SyncRateLimiter(stage, [LIMIT], denial_ttl=0, decision_timeout=decision_timeout)
    assert limiter.try_acquire("user", "api", {"requests": 0})
    return limiter


def taken(limiter: SyncRateLimiter) -> int:
    """Units that are missing from the bucket."""
    return LIMIT.capacity - limiter.check("user", "api", {"requests": 0}).statuses[0].available


def test_who_follows_a_leader_that_hangs_leaves_in_time(stage: Stage) -> None:
    """Each follower fails at its own deadline, with a cause and without units; the leader gets its grant."""
    limiter = make(stage)
    gate, leader = hold_the_lead(limiter, stage)
    began = time.monotonic()
    followers = [take(limiter) for _ in range(20)]
    for follower in followers:
        with pytest.raises(RateLimiterUnavailable, match=r"no answer from the table within 0\.5 s") as error:
            follower.finish()
        assert error.value.unsent
        assert error.value.__cause__ is not None
    assert DEADLINE <= time.monotonic() - began < DEADLINE + SLACK
    gate.open()
    assert leader.finish()
    assert taken(limiter) == 1


def test_the_lead_goes_to_who_has_patience_left(stage: Stage) -> None:
    """The callers that came first have left; the last one leads, and is served."""
    limiter = make(stage, 2 * DEADLINE)
    gate, leader = hold_the_lead(limiter, stage)
    early = [take(limiter).wait_until_blocked() for _ in range(3)]
    time.sleep(DEADLINE)
    late = [take(limiter).wait_until_blocked() for _ in range(3)]
    for caller in early:
        with pytest.raises(RateLimiterUnavailable):
            caller.finish()
    gate.open()
    assert leader.finish()
    assert all(caller.finish() for caller in late)
    assert taken(limiter) == 4


def test_who_leaves_a_write_under_way_keeps_nothing(stage: Stage) -> None:
    """The leader of the write refunds the units of callers that have gone."""
    limiter = make(stage)
    gate, first = hold_the_lead(limiter, stage)
    others = [take(limiter).wait_until_blocked() for _ in range(3)]
    second = Gate()
    stage.before.append(second)
    gate.open()
    second.wait_until_reached()
    assert first.finish()
    gone = [caller for caller in others if not caller.join(DEADLINE + SLACK / 10) and not caller.is_alive()]
    assert len(gone) == 2
    for caller in gone:
        with pytest.raises(RateLimiterUnavailable) as error:
            caller.finish()
        assert not error.value.unsent
    second.open()
    assert [caller.finish().allowed for caller in others if caller not in gone] == [True]
    assert taken(limiter) == 2


def test_who_follows_a_fetch_that_hangs_leaves_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller waits for limits that another caller reads no longer than its own deadline."""
    limiter = SyncRateLimiter(stage, [LIMIT], decision_timeout=DEADLINE)
    gate, read = Gate(), stage.inner.read_records

    def read_slowly(*arguments: Any) -> Any:
        gate()
        return read(*arguments)

    monkeypatch.setattr(stage, "read_records", read_slowly, raising=False)
    leader = take(limiter)
    gate.wait_until_reached()
    for follower in [take(limiter) for _ in range(5)]:
        with pytest.raises(RateLimiterUnavailable, match="limits could not be read") as error:
            follower.finish()
        assert isinstance(error.value.__cause__, TimeoutError)
    gate.open()
    assert leader.finish()
    assert taken(limiter) == 1


def test_a_crowd_in_an_outage_is_gone_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread waits without end, however the lead changes; when the store is back every thread is served."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 0.0)
    limiter = make(stage)
    stage.before.extend([fail_with(RateLimiterUnavailable("down", unsent=True))] * 10_000)
    callers = [take(limiter) for _ in range(50)]
    for caller in callers:
        with pytest.raises(RateLimiterUnavailable):
            caller.finish()
    assert stage.writes <= 1 + 3 * len(callers)
    stage.before.clear()
    assert [take(limiter).finish().allowed for _ in range(5)] == [True] * 5
    assert taken(limiter) == 5


def test_a_key_pressed_while_waiting_leaves_the_line_in_order(stage: Stage) -> None:
    """An interrupted follower is gone at the latest at its deadline, has taken nothing, and the others are served."""
    limiter = make(stage, 30.0)
    gate, leader = hold_the_lead(limiter, stage)
    followers = [take(limiter).wait_until_blocked() for _ in range(3)]
    struck = followers[1]
    assert struck.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(struck.ident), ctypes.py_object(KeyboardInterrupt)) == 1
    gate.open()
    assert leader.finish()
    with pytest.raises(KeyboardInterrupt):
        struck.finish()
    assert all(follower.finish() for follower in followers if follower is not struck)
    assert taken(limiter) == 3


def test_a_key_pressed_in_a_look_leaves_the_place_to_the_next(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted caller raises, and the next one finds that the store is back."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 0.0)
    monkeypatch.setattr("limiter.runtime.retry.BACKOFF", 0.0)
    limiter = make(stage)
    stage.before.extend([fail_with(RateLimiterUnavailable("down", unsent=True))] * 9)
    for _ in range(3):
        with pytest.raises(RateLimiterUnavailable):
            limiter.try_acquire("user", "api", UNITS)
    assert limiter.stats().breaker == "open"
    stage.before[:] = [fail_with(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        limiter.try_acquire("user", "api", UNITS)
    assert limiter.stats().breaker != "half-open"
    assert limiter.try_acquire("user", "api", UNITS)
    assert limiter.stats().breaker == "closed"
