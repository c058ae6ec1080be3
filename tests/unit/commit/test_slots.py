"""The slots of one process: their renewal, and the line of callers that wait for one.

The test of `limiter.commit.caller_line`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support.bucket_world import EPOCH, KEY

from limiter import Concurrency, SyncMemoryRepository
from limiter.commit.sync_caller_line import SyncCallerLine, SyncInLine
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slot_line import SyncSlotLine
from limiter.commit.sync_slots import SyncBucketSlots, SyncSlotKeeper
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core import plan as planning
from limiter.core.request import Charge, Refusal, Request
from limiter.core.state import EMPTY, BucketState, Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

CALLS = Concurrency("calls", 2, ttl=10.0)
PATIENCE = 30
"""Seconds, for machines that stall."""


class Clock:
    """A time that the test moves, and that tells whether it was ever read without the lock by another thread."""

    def __init__(self, lock: threading.Lock) -> None:
        self.now = EPOCH
        self.unguarded = 0
        self._lock = lock
        self._owner = threading.current_thread()

    def __call__(self) -> int:
        if threading.current_thread() is not self._owner and not self._lock.locked():
            self.unguarded += 1
        return self.now


class Bucket:
    """What is known of a bucket."""

    key = KEY
    state: BucketState = EMPTY
    seen: int | None = EPOCH


def test_an_error_of_a_renewal_does_not_end_renewals(caplog: pytest.LogCaptureFixture) -> None:
    """Any error is logged, and the renewal is tried again. What is due is looked up while no caller can change it."""
    lock, called, bucket = threading.Lock(), threading.Event(), Bucket()
    clock, calls = Clock(lock), 0

    def decide(requests: Sequence[Request]) -> Sequence[object]:
        nonlocal calls
        calls += 1
        assert [request.is_settlement for request in requests] == [True]
        clock.now += CALLS.ttl_ns // 2
        if calls == 1:
            raise ZeroDivisionError("a bug")
        called.set()
        return [None]

    keeper = SyncSlotKeeper(clock, decide, lock)
    slots = SyncBucketSlots(keeper, bucket)
    plan = planning.plan(bucket.state, [Request(KEY, (Charge(CALLS, 1),), slots=True)], clock.now, "own-1", slots=slots.side())
    assert plan.update is not None
    assert slots.ledger.start(plan.update, clock.now)
    with lock:
        clock.now += CALLS.ttl_ns // 2
        slots.doubt(plan.update)
    assert called.wait(PATIENCE)
    keeper.close()
    assert calls >= 2
    assert clock.unguarded == 0
    assert [record.name for record in caplog.records] == ["limiter.committer"]


class Guarded(SyncCallerLine):
    """A line that may be looked at only while no other thread can change it."""

    lock: threading.Lock

    @property
    def first(self) -> SyncInLine | None:
        assert self.lock.locked()
        return super().first


class Crowd:
    """The callers in line, which the test does not count."""

    waiting = 0


class Refused:
    """A look that finds all slots held by others."""

    allowed = False
    outcomes = (Refusal((Level(CALLS.capacity),), (EPOCH,), EPOCH),)


def test_a_caller_looks_at_the_line_only_while_it_cannot_change() -> None:
    """The caller at the head of the line can be served at any moment by another thread, which may leave the line empty."""
    clock = Clock(threading.Lock())
    store = SyncMemoryRepository(clock=clock)

    def sleep(seconds: float) -> None:
        clock.now += round(seconds * 10**9)

    committer = SyncCommitter(store, SyncCommitterOptions(sleep=sleep))
    line = committer.open_slots(KEY).line = Guarded(Crowd())
    line.lock = committer.lock
    request = Request(KEY, (Charge(CALLS, 1),), slots=True, deadline=EPOCH + 10**9)
    assert SyncSlotLine(committer, [request], 0).wait(EPOCH + 10**9, Refused) is None


def test_a_line_is_there_while_a_caller_waits_in_it() -> None:
    """Slots that are held, or were asked for, make no line."""
    committer, caller = SyncCommitter(SyncMemoryRepository(), SyncCommitterOptions()), SyncInLine(None)
    line = committer.open_slots(KEY).line
    assert not committer.has_line
    line.join(caller)
    assert committer.has_line
    line.leave(caller)
    assert not committer.has_line
