"""The slots of one process: their renewal, and the line of callers that wait for one.

The test of `limiter.commit.caller_line`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.bucket_world import EPOCH, KEY

from limiter import Concurrency, Limit, SyncMemoryRepository
from limiter.commit.sync_bucket_queue import SyncPendingRequest
from limiter.commit.sync_caller_line import SyncCallerLine, SyncInLine
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slot_line import SyncSlotLine
from limiter.commit.sync_slots import SyncBucketSlots, SyncSlotKeeper
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core import plan as planning
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Refusal, Request, refund_of
from limiter.core.slots import HOLDER_LENGTH
from limiter.core.state import EMPTY, BucketState, Level
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CALLS = Concurrency("calls", 2, ttl=10.0)
PATIENCE = 30
"""Seconds, for machines that stall."""


class Clock:
    """A time that the test moves, and that tells whether it was ever read without the lock by another thread."""

    trusted = True

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
    keeper.close(PATIENCE)
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


def is_woken(caller: SyncInLine) -> bool:
    """Tell whether a caller was woken, once for each time."""
    return caller._wait(0.0)


def test_callers_leave_a_line_in_any_order_and_wake_the_first() -> None:
    """A caller leaves by itself, or when it is handed a grant; then it is not counted any more, and not waited for."""
    crowd, grant = Crowd(), Grant((), EPOCH)
    line, callers = SyncCallerLine(crowd), [SyncInLine(None) for _ in range(3)]
    first, second, third = callers
    assert (line.first, line.next_look, len(line)) == (None, 0, 0)
    for caller in callers:
        assert (caller.grant, caller.look, caller.pending, caller.expires) == (None, False, 1, 0.0)
        line.join(caller)
    assert (line.first, len(line), crowd.waiting) == (first, 3, 3)
    line.leave(second)
    assert (second.pending, len(line), crowd.waiting) == (0, 2, 2)
    assert [is_woken(caller) for caller in callers] == [True, False, False]
    line.hand(first, grant)
    assert (first.grant, first.pending, line.first, crowd.waiting) == (grant, 0, third, 1)
    assert [is_woken(caller) for caller in callers] == [True, False, False]
    line.leave(first)
    assert (first.grant, line.first, crowd.waiting) == (grant, third, 1)
    assert [is_woken(caller) for caller in callers] == [False, False, True]
    line.leave(third)
    assert (line.first, len(line), crowd.waiting) == (None, 0, 0)


class Beats:
    """A heartbeat that only notes after how many seconds it is to beat, and None where it is to stop."""

    def __init__(self) -> None:
        self.told: list[float | None] = []

    def wake(self, seconds: float) -> None:
        self.told.append(seconds)

    def stop(self, seconds: float) -> None:
        assert seconds == SyncCommitterOptions().patience
        self.told.append(None)


class Process:
    """One process with slots, which beats only when the test says so."""

    def __init__(self) -> None:
        self.clock = Clock(threading.Lock())
        self.store = SyncMemoryRepository(clock=self.clock)
        self.committer = SyncCommitter(self.store, SyncCommitterOptions())
        self.beats = Beats()
        self.slots = self.committer.open_slots(KEY)
        keeper: Any = self.committer._slots
        keeper._heartbeat = self.beats
        self.keeper: SyncSlotKeeper = keeper
        self.sizes: list[int] = []
        self.error: Exception | None = None
        self.during: Callable[[], object] = bool
        keeper._decide = self.decide

    def decide(self, requests: Sequence[Request]) -> Sequence[object]:
        """Note how many slots are renewed together, and renew them."""
        self.sizes.append(len(requests))
        self.during()
        if self.error is not None:
            raise self.error
        return self.committer.decide(requests)

    def take(self, key: BucketKey = KEY, units: int = 1) -> Grant:
        """Take slots."""
        (grant,) = self.committer.decide([Request(key, (Charge(CALLS, units),), slots=True)])
        assert isinstance(grant, Grant)
        return grant

    def end(self, grant: Grant, key: BucketKey = KEY) -> None:
        """End a lease."""
        self.committer.decide([refund_of(key, grant.receipts)._replace(slots=True)])


def test_slots_are_renewed_after_a_third_of_their_time() -> None:
    """The heartbeat is told when they are taken and when they are renewed, and has nothing to do when none are held."""
    process = Process()
    assert len(process.keeper.holder.strip("=")) == HOLDER_LENGTH
    grant = process.take()
    assert process.beats.told == [pytest.approx(CALLS.ttl / 3)]
    assert not process.slots.is_idle
    process.clock.now += NANOSECONDS
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 3 - 1)
    process.clock.now += CALLS.ttl_ns // 3
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 3)
    assert process.sizes == [1]
    process.end(grant)
    assert (process.keeper._renew(), process.sizes, process.slots.is_idle) == (None, [1], True)
    assert process.keeper._active == {}


def test_a_keeper_that_is_closed_renews_nothing_until_slots_are_taken_again() -> None:
    """Not even if a response shows what is held. What is held is then renewed at once."""
    process = Process()
    process.take()
    process.clock.now += CALLS.ttl_ns // 3
    process.committer.close()
    assert process.beats.told[1:] == [None]
    assert (process.keeper._renew(), process.sizes) == (None, [])
    process.committer.decide([Request(KEY, slots=True)])
    assert process.beats.told[1:] == [None]
    process.take(BucketKey("default", "user", "other"))
    assert process.beats.told[1:] == [None, 0.0]
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 3)


def test_a_keeper_that_is_closed_during_a_renewal_goes_no_further() -> None:
    """The renewal in progress is the last one, though more buckets are due."""
    process = Process()
    for number in range(40):
        process.take(BucketKey("default", f"user-{number}", "api"))
    process.clock.now += CALLS.ttl_ns // 3 + 1
    process.during = process.committer.close
    assert (process.keeper._renew(), process.sizes) == (None, [32])
    assert process.beats.told[40:] == [None]


def test_a_keeper_that_is_closed_is_woken_by_slots_that_are_handed_over() -> None:
    """They need no write."""
    process = Process()
    grant = process.take()
    process.slots.ledger.release(refund_of(KEY, grant.receipts).refunds, EPOCH)
    process.committer.close()
    lone = SyncPendingRequest(Request(KEY, (Charge(CALLS, 1),), slots=True), process.committer._queue(KEY))
    assert process.slots.serve(lone) is not None
    assert process.beats.told[1:] == [None, 0.0]


def test_the_next_renewal_is_that_of_the_bucket_that_comes_first() -> None:
    """Others may come later."""
    process = Process()
    process.take()
    process.clock.now += NANOSECONDS
    process.take(BucketKey("default", "user", "other"))
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 3 - 1)


def test_a_plan_learns_when_the_slots_were_seen_last() -> None:
    """Numbers of the fence are drawn only where that is asked for."""
    process = Process()
    process.clock.now += 5
    assert (process.slots.side().confirmed, process.slots.side().draws) == (0, False)
    process.take()
    assert (process.slots.side().confirmed, process.slots.side(draws=True).draws) == (EPOCH + 5, True)


def test_slots_of_many_buckets_are_renewed_some_at_a_time() -> None:
    """What a failed renewal has not reached is tried again after a twelfth of its time."""
    process = Process()
    for number in range(40):
        process.take(BucketKey("default", f"user-{number}", "api"))
    process.clock.now += CALLS.ttl_ns // 3 + 1
    process.error = ZeroDivisionError("a bug")
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 12)
    process.error = None
    process.clock.now += CALLS.ttl_ns // 12 + 1
    assert process.keeper._renew() == pytest.approx(CALLS.ttl / 3)
    assert process.sizes == [32, 8, 32, 8]


def test_an_error_of_a_renewal_tells_how_many_buckets_it_was_for(caplog: pytest.LogCaptureFixture) -> None:
    """The number stands beside the message, for programs that read logs."""
    process = Process()
    process.take()
    process.clock.now += CALLS.ttl_ns // 2
    process.error = ZeroDivisionError("a bug")
    process.keeper._renew()
    (record,) = caplog.records
    assert (record.levelname, record.buckets) == ("ERROR", 1)  # type: ignore[attr-defined] # an extra field


def test_looks_come_as_often_as_slots_are_freed() -> None:
    """Within bounds: by the average time of a lease, divided by the slots that are held."""
    process = Process()
    assert process.slots.interval(100, 200) == 100
    grants = [process.take(), process.take()]
    process.clock.now += NANOSECONDS
    process.end(grants[0])
    process.clock.now += NANOSECONDS
    process.end(grants[1])
    mean = NANOSECONDS * 3 // 2
    assert process.slots.interval(100, 10 * NANOSECONDS) == mean
    assert process.slots.interval(100, mean - 1) == mean - 1
    assert process.slots.interval(mean + 1, 10 * NANOSECONDS) == mean + 1


def test_a_slot_passes_to_the_first_caller_in_line_without_a_write() -> None:
    """The end of the lease then asks for no write either; a later caller is not served before the line."""
    process = Process()
    grants = [process.take(), process.take()]
    request = Request(KEY, (Charge(CALLS, 1),), slots=True)
    callers = [SyncInLine(request), SyncInLine(request)]
    for caller in callers:
        process.slots.line.join(caller)
    process.end(grants[0])
    assert [caller.grant is not None for caller in callers] == [True, False]
    assert is_woken(callers[0])
    pending = SyncPendingRequest(request, process.committer._queue(KEY))
    assert process.slots.serve(pending) is None
    process.end(grants[1])
    assert callers[1].grant is not None
    assert callers[1].grant.now == EPOCH
    counted = process.committer._writer.counters.statistics("closed", None)
    assert (counted.calls, counted.cache_hits) == (2, 2)


def test_a_refund_of_other_units_needs_a_write() -> None:
    """Though it is part of a request that frees slots, which may be handed on without one."""
    process = Process()
    refund = Request(KEY, refunds=(Refund(Limit.per_minute("requests", 10), 1, 0),), slots=True)
    pending = SyncPendingRequest(refund, process.committer._queue(KEY))
    process.slots.absorb(pending)
    assert pending.request == refund
    assert process.slots.serve(pending) is None


def test_a_spare_slot_is_handed_over_where_that_is_certain() -> None:
    """To a request for slots alone, while the clock is right and no caller waits; its time is that of the grant."""
    process = Process()
    grant = process.take()
    process.slots.ledger.release(refund_of(KEY, grant.receipts).refunds, EPOCH)
    queue, charge = process.committer._queue(KEY), Charge(CALLS, 1)
    mixed = SyncPendingRequest(Request(KEY, (charge, Charge(Limit.per_minute("requests", 10), 1)), slots=True), queue)
    lone = SyncPendingRequest(Request(KEY, (charge,), slots=True), queue)
    assert process.slots.serve(mixed) is None
    process.clock.trusted = False
    assert process.slots.serve(lone) is None
    process.clock.trusted = True
    first = SyncInLine(None)
    process.slots.line.join(first)
    assert process.slots.serve(lone) is None
    process.slots.line.leave(first)
    served = process.slots.serve(lone)
    assert served is not None
    assert (served.now, [receipt.units for receipt in served.receipts]) == (EPOCH, [1])
    assert process.slots.serve(lone) is None


def test_a_caller_that_needs_a_write_is_woken_to_look_when_a_slot_is_spare() -> None:
    """Not while the process leaves one to others."""
    process = Process()
    grants, caller = [process.take(), process.take()], SyncInLine(None)
    process.slots.line.join(caller)
    process.slots._hand_on()
    assert (caller.look, is_woken(caller)) == (False, False)
    process.slots.ledger.release(refund_of(KEY, grants[0].receipts).refunds, EPOCH)
    process.slots._hand_on()
    assert (caller.look, is_woken(caller), caller.grant) == (True, True, None)


def test_a_release_needs_no_write_only_where_nothing_is_left_to_write() -> None:
    """A settlement then ends at once."""
    process = Process()
    settlement = SyncPendingRequest(Request(KEY, slots=True), process.committer._queue(KEY))
    assert process.slots.serve(settlement) == Grant((), EPOCH)
    grant = process.take()
    assert process.slots.serve(settlement) == Grant((), EPOCH)
    process.slots.ledger.release(refund_of(KEY, grant.receipts).refunds, EPOCH)
    assert process.slots.is_unsettled
    assert process.slots.serve(settlement) is None


def test_a_lost_write_leaves_a_doubt() -> None:
    """Nothing is handed on then, since the write may still free it; it is renewed soon."""
    process = Process()
    request = Request(KEY, (Charge(CALLS, 1),), slots=True)
    plan = planning.plan(EMPTY, [request], EPOCH, "own-1", slots=process.slots.side())
    assert plan.update is not None
    process.slots.ledger.start(plan.update, EPOCH)
    process.slots.doubt(plan.update)
    assert process.slots.is_unsettled
    assert len(process.beats.told) == 1
