"""One synchronous limiter under many threads: exact, in few calls, and no thread is forgotten when another one fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from greenlet import GreenletExit
from support.scenes import Caller, Gate, Stage, fail_with, hold_the_lead, take

from limiter import (
    LeaseClosed,
    Limit,
    LimiterError,
    PermissionDenied,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
)
from limiter.commit.sync_committer import SyncCommitter
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

LIMIT = Limit.per_second("requests", 100)


@pytest.fixture
def stage(clock: FakeClock) -> Stage:
    """A repository that does what the test says."""
    return Stage(clock)


@pytest.fixture
def limiter(stage: Stage) -> SyncRateLimiter:
    """A limiter that has used the bucket once, and so knows it."""
    limiter = SyncRateLimiter(stage, [LIMIT], denial_ttl=0)
    assert limiter.try_acquire("user", "api", {"requests": 0})
    stage.writes = stage.reads = 0
    return limiter


def available(limiter: SyncRateLimiter) -> int:
    """Units that the bucket has left."""
    return limiter.check("user", "api", {"requests": 0}).statuses[0].available


def test_threads_together_take_exactly_the_capacity(engine: Engine, table_name: str, clock: FakeClock) -> None:
    """Of 400 acquires by 16 threads with one client exactly as many are admitted as the bucket holds."""
    if engine.endpoint_url is None:
        repository = SyncMemoryRepository(clock=clock)
    else:
        create_table(table_name, endpoint_url=engine.endpoint_url)
        repository = SyncRepository(
            table_name, endpoint_url=engine.endpoint_url, clock=clock, connect_timeout=30.0, read_timeout=30.0
        )
    with repository, ThreadPoolExecutor(16) as pool:
        limiter = SyncRateLimiter(repository, [LIMIT], decision_timeout=60)
        calls = [pool.submit(limiter.try_acquire, "user", "api", {"requests": 1}) for _ in range(400)]
        assert sum(call.result().allowed for call in calls) == LIMIT.capacity


def test_all_who_wait_are_written_together(limiter: SyncRateLimiter, stage: Stage) -> None:
    """While one write is under way 40 callers gather, and the next write carries them all."""
    gate, leader = hold_the_lead(limiter, stage)
    callers = [take(limiter).wait_until_blocked() for _ in range(40)]
    gate.open()
    assert all(caller.finish() for caller in [leader, *callers])
    assert (stage.writes, stage.reads) == (2, 0)
    assert available(limiter) == LIMIT.capacity - 41


def test_a_batch_that_does_not_fit_is_decided_one_by_one(limiter: SyncRateLimiter, stage: Stage) -> None:
    """One write admits the first callers of the queue as far as they fit, and refuses the others."""
    gate, leader = hold_the_lead(limiter, stage)
    callers = [take(limiter, 20).wait_until_blocked() for _ in range(7)]
    gate.open()
    assert leader.finish()
    assert [caller.finish().allowed for caller in callers] == [True] * 4 + [False] * 3
    assert (stage.writes, stage.reads) == (2, 0)
    assert available(limiter) == 19


def test_settlements_ride_along(limiter: SyncRateLimiter, stage: Stage) -> None:
    """What is taken, corrected and given back while a write is under way goes out in one write."""
    with limiter.acquire("user", "api", {"requests": 10}) as lease:
        stage.writes = 0
        gate, leader = hold_the_lead(limiter, stage)
        calls = [partial(lease.adjust, requests=5), partial(lease.release, requests=3)]
        callers = [*(Caller(call).wait_until_blocked() for call in calls), take(limiter).wait_until_blocked()]
        gate.open()
        for caller in [leader, *callers]:
            caller.finish()
        assert stage.writes == 2
        assert lease.consumed["requests"] == 12
    assert available(limiter) == LIMIT.capacity - 14


@pytest.mark.usefixtures("restless")
def test_the_lead_is_handed_over_to_the_last(clock: FakeClock) -> None:
    """Threads that come and go as fast as they can all get their answer, and together exactly the capacity."""
    limiter = SyncRateLimiter(Stage(clock), [Limit.per_second("requests", 1_000)], denial_ttl=0)
    admitted: list[int] = []

    def call() -> None:
        admitted.append(sum(limiter.try_acquire("user", "api", {"requests": 1}).allowed for _ in range(100)))

    for caller in [Caller(call) for _ in range(16)]:
        caller.finish()
    assert sum(admitted) == 1_000


@pytest.mark.usefixtures("restless")
def test_refunds_of_many_threads_leave_nothing_behind(clock: FakeClock) -> None:
    """When every block fails, everything that the threads took is back in the end."""
    limiter = SyncRateLimiter(Stage(clock), [LIMIT], denial_ttl=0)

    def call() -> None:
        for units in range(1, 40):
            with pytest.raises((ZeroDivisionError, RateLimitExceeded)), limiter.acquire("user", "api", {"requests": units}):
                raise ZeroDivisionError

    for caller in [Caller(call) for _ in range(8)]:
        caller.finish()
    assert available(limiter) == LIMIT.capacity


@pytest.mark.parametrize("error", [PermissionDenied("no"), RuntimeError("bug")], ids=repr)
def test_an_error_reaches_exactly_its_batch(limiter: SyncRateLimiter, stage: Stage, error: Exception) -> None:
    """A failing write fails every request that it carried, and no request before or after them."""
    gate, leader = hold_the_lead(limiter, stage)
    batch = [take(limiter).wait_until_blocked() for _ in range(5)]
    second = Gate()
    stage.before.append(lambda: (second(), fail_with(error)()))
    gate.open()
    second.wait_until_reached()
    after = [take(limiter).wait_until_blocked() for _ in range(5)]
    second.open()
    assert leader.finish()
    for caller in batch:
        with pytest.raises(type(error), match=str(error)):
            caller.finish()
    assert len({id(caller.error) for caller in batch}) == len(batch)
    assert all(caller.finish() for caller in after)
    assert available(limiter) == LIMIT.capacity - 6


def test_an_error_that_cannot_be_copied_is_still_told(limiter: SyncRateLimiter, stage: Stage) -> None:
    """An error that a repository raises itself, of any shape, reaches the caller unchanged."""

    class Odd(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} and {second}")

    stage.before.append(fail_with(Odd(1, 2)))
    with pytest.raises(Odd, match="1 and 2"):
        limiter.try_acquire("user", "api", {"requests": 1})


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, GreenletExit, SystemExit])
def test_an_interrupted_leader_leaves_no_leak(
    limiter: SyncRateLimiter, stage: Stage, place: str, interruption: type[BaseException]
) -> None:
    """A leader interrupted in its write keeps no units; its followers are admitted, and the queue continues."""
    gate, first = hold_the_lead(limiter, stage)
    # The last in line leads the next batch, having the most patience left.
    *others, leader = [take(limiter, units).wait_until_blocked() for units in (2, 2, 7)]
    second = Gate()
    getattr(stage, place).append(lambda: (second(), fail_with(interruption())()))
    gate.open()
    second.wait_until_reached()
    after = take(limiter, 3).wait_until_blocked()
    second.open()
    assert first.finish()
    with pytest.raises(interruption):
        leader.finish()
    assert all(caller.finish() for caller in [*others, after])
    assert available(limiter) == LIMIT.capacity - 1 - 4 - 3


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_store_that_goes_down_for_good_fails_the_batch_and_no_more(
    limiter: SyncRateLimiter, stage: Stage, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no attempt gets through, all are told so, and the next call works when the store is back."""
    monkeypatch.setattr("limiter.commit.sync_batch.sync_backoff", lambda attempt: None)
    down = fail_with(RateLimiterUnavailable("down", unsent=place == "before"))
    getattr(stage, place)[:] = stage.looking[:] = [down] * 3
    with pytest.raises(RateLimiterUnavailable, match="down"):
        limiter.try_acquire("user", "api", {"requests": 1})
    stage.before[:] = stage.after[:] = stage.looking[:] = []
    assert limiter.try_acquire("user", "api", {"requests": 1})


def test_a_lost_answer_is_not_counted_twice(limiter: SyncRateLimiter, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a write was applied but its answer was lost, the caller is admitted once and charged once."""
    monkeypatch.setattr("limiter.commit.sync_batch.sync_backoff", lambda attempt: None)
    stage.after.append(fail_with(RateLimiterUnavailable("no answer")))
    assert limiter.try_acquire("user", "api", {"requests": 10})
    assert available(limiter) == LIMIT.capacity - 10


@pytest.mark.parametrize("denial_ttl", [0.0, 1.0])
def test_no_caller_is_refused_because_another_one_is(stage: Stage, denial_ttl: float) -> None:
    """When a rival takes what the first of a batch needs, the next one, who still fits, is admitted."""
    limiter, rival = SyncRateLimiter(stage, [LIMIT], denial_ttl=denial_ttl), SyncRateLimiter(stage.inner, [LIMIT])
    gate, leader = hold_the_lead(limiter, stage)
    large, small = [take(limiter, units).wait_until_blocked() for units in (99, 10)]
    stage.before.append(partial(rival.try_acquire, "user", "api", {"requests": 1}))
    gate.open()
    assert leader.finish()
    assert not large.finish()
    assert small.finish()


def test_threads_do_not_share_one_lease_twice(limiter: SyncRateLimiter) -> None:
    """Of many threads that give back the same units only one can."""
    with limiter.acquire("user", "api", {"requests": 10}) as lease:
        callers = [Caller(partial(lease.release, requests=10)) for _ in range(8)]
        failures = []
        for caller in callers:
            try:
                caller.finish()
            except LimiterError as error:
                failures.append(error)
        assert len(failures) == 7
    assert available(limiter) == LIMIT.capacity


def test_a_failed_settlement_is_not_held(limiter: SyncRateLimiter, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease whose `adjust` could not be written holds and refunds the same units as before."""
    monkeypatch.setattr("limiter.commit.sync_batch.sync_backoff", lambda attempt: None)
    with limiter.acquire("user", "api", {"requests": 10}) as lease:
        stage.before[:] = [fail_with(RateLimiterUnavailable("down", unsent=True))] * 3
        with pytest.raises(RateLimiterUnavailable):
            lease.adjust(requests=50)
        assert lease.consumed["requests"] == 10
    assert available(limiter) == LIMIT.capacity - 10


def test_a_refund_to_a_deleted_item_is_over_at_once(stage: Stage, limiter: SyncRateLimiter, clock: FakeClock) -> None:
    """When the bucket has expired and was deleted, a refund looks once and is content."""
    with pytest.raises(ZeroDivisionError), limiter.acquire("user", "api", {"requests": 10}):
        clock.advance(3 * 86_400)
        stage.inner.delete_namespace("default")
        stage.writes = stage.reads = 0
        raise ZeroDivisionError
    assert stage.writes + stage.reads <= 2


def test_many_buckets_do_not_wait_for_each_other(limiter: SyncRateLimiter, stage: Stage) -> None:
    """A write that hangs holds up its own bucket and no other."""
    gate, leader = hold_the_lead(limiter, stage)
    other = Caller(partial(limiter.try_acquire, "another", "api"))
    assert other.finish()
    gate.open()
    assert leader.finish()


def test_one_limiter_serves_threads_that_start_together(clock: FakeClock) -> None:
    """Threads that use a new limiter for the first time at the same moment share one line: two writes serve them all."""
    stage = Stage(clock)
    limiter = SyncRateLimiter(stage, [LIMIT])
    barrier = threading.Barrier(8)
    gate = Gate()
    stage.before.append(gate)

    def call() -> bool:
        barrier.wait(30)
        return limiter.try_acquire("user", "api", {"requests": 1}).allowed

    callers = [Caller(call) for _ in range(8)]
    gate.wait_until_reached()
    for caller in callers:
        caller.wait_until_blocked()
    gate.open()
    assert all(caller.finish() for caller in callers)
    assert stage.writes == 2


@pytest.mark.parametrize("interruption", [RuntimeError("alarm"), KeyboardInterrupt("alarm")], ids=repr)
def test_an_interrupted_pause_between_writes_hands_over(stage: Stage, interruption: BaseException) -> None:
    """Who is interrupted while it lingers is told by what, takes nothing, and leaves the line to the next."""
    alarms: list[BaseException] = []

    def sleep(seconds: float) -> None:
        if alarms:
            raise alarms.pop()

    limiter = SyncRateLimiter(stage, [LIMIT], linger=1.0, sleep=sleep)
    assert limiter.try_acquire("user", "api", {"requests": 10})
    alarms.append(interruption)
    with pytest.raises(type(interruption), match=str(interruption)):
        limiter.try_acquire("user", "api", {"requests": 10})
    caller = take(limiter, 10)
    caller.join(5)
    assert not caller.is_alive(), "the line is stuck"
    assert caller.finish()
    assert available(limiter) == LIMIT.capacity - 20


def test_an_error_while_undoing_does_not_hide_the_interruption(limiter: SyncRateLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is interrupted gets the interruption, with the error that came with it as its cause."""
    monkeypatch.setattr(SyncCommitter, "_is_at_rest", lambda *_: fail_with(KeyboardInterrupt())())
    monkeypatch.setattr(SyncCommitter, "refund_grants", lambda *_: fail_with(ValueError("bug"))())
    with pytest.raises(KeyboardInterrupt) as interruption:
        limiter.try_acquire("user", "api", {"requests": 1})
    assert isinstance(interruption.value.__cause__, ValueError)


@pytest.mark.parametrize("change", ["consume", "adjust"])
def test_a_block_that_fails_while_another_thread_takes_more_gives_all_back(limiter: SyncRateLimiter, change: str) -> None:
    """Between any two steps of a `consume` or `adjust` the block may end with an error, and nothing stays taken."""
    for step in range(1, 10):
        context = limiter.acquire("user", "api", {"requests": 10})
        lease = context.__enter__()
        lease._lock = After(step, partial(context.__exit__, KeyError, KeyError(), None))  # type: ignore[assignment] # in its place
        with suppress(LeaseClosed):
            getattr(lease, change)(requests=5)
        struck = lease._lock.left <= 0
        if not struck:
            context.__exit__(KeyError, KeyError(), None)
        assert available(limiter) == LIMIT.capacity, step
        assert lease.consumed == {"requests": 0}, step
        if not struck:
            break
    assert step > 1


class After:
    """A lock that makes a call, once, when it was let go for the time with a number."""

    def __init__(self, left: int, call: Callable[[], object]) -> None:
        self.left = left
        self._call = call
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self.left -= 1
        if self.left == 0:
            self._call()
