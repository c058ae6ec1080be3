"""An exception that a signal handler raises, such as KeyboardInterrupt, strikes between any two steps of the program.

CPython runs signal handlers when a function is entered and when one written in C has returned, so those are the places that are
tried, one after another: every one that an acquire passes in the committer, the rules and the store, and a correction in the
lease. A lone caller at a bucket at rest takes the express way, unless writes have to keep an interval.

The test of `limiter.commit.leading`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from support.scenes import Caller, Stage

from limiter import Limit, Quota, SyncMemoryRepository, SyncRateLimiter, statistics, sync_lease, sync_memory_repository
from limiter.commit import (
    allotment,
    breaker,
    sync_batch,
    sync_bucket_queue,
    sync_charge,
    sync_committer,
    sync_leading,
    sync_writer,
)
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core import allocation, plan, preview, request, state
from limiter.core.limits import account
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request, refund_of
from limiter.runtime import concurrency, gate
from limiter.statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from support.engines import FakeClock

T = TypeVar("T")
LIMIT = Limit.per_second("requests", 100)
PATIENCE = 3.0
OTHER = Limit.per_second("tokens", 100)
NOTHING = {"requests": 0, "tokens": 0}
WRITING = (breaker, gate, concurrency, statistics, sync_batch, sync_bucket_queue, sync_committer, sync_leading, sync_writer)
FILES = {module.__file__ for module in (*WRITING, account, plan, request, state, sync_memory_repository)}
MOMENT = 1e-9
PAYING_FILES = FILES | {module.__file__ for module in (allocation, allotment, preview)}
LEASE_FILES = {module.__file__ for module in (allocation, sync_charge, sync_lease)}


class Struck(BaseException):
    """What a signal handler raises."""


class Strike:
    """Interrupts a call at the place with a number; `place` says where that was, if the call got there."""

    def __init__(self, number: int, files: set[str | None] = FILES, within: str = "decide") -> None:
        self.left = number
        self.place: str | None = None
        self._files = files
        self._within = within

    def make(self, call: Callable[[], T]) -> T | None:
        """Make the call; None when it was struck."""
        sys.setprofile(self._profile)
        try:
            return call()
        except Struck:
            return None
        finally:
            sys.setprofile(None)

    def call(self, limiter: SyncRateLimiter) -> bool:
        """Take ten units, and be interrupted; whether they were taken all the same."""
        decision = self.make(lambda: limiter.try_acquire("user", "api", {"requests": 10}))
        return decision is not None and decision.allowed

    def _is_within(self, frame: FrameType | None) -> bool:
        if frame is not None and frame.f_code.co_name == "<genexpr>":
            return False  # Where it is only closed, nothing can be raised.
        while frame is not None and frame.f_code.co_name != self._within:
            frame = frame.f_back
        return frame is not None

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename not in self._files or event not in ("call", "c_return") or not self._is_within(frame):
            return
        self.left -= 1
        if self.left == 0:
            self.place = f"{event} in {frame.f_code.co_name}, line {frame.f_lineno}"
            raise Struck


def strike(number: int, clock: FakeClock, linger: float, before: int) -> tuple[str | None, str]:
    """Interrupt one acquire, and say where, and what became of the bucket."""
    stage = Stage(clock)
    limiter = SyncRateLimiter(stage, [LIMIT], denial_ttl=0, linger=linger)
    limiter.try_acquire("user", "api", {"requests": before})
    strike = Strike(number)
    struck = Caller(lambda: strike.call(limiter))
    struck.join(PATIENCE)
    if struck.is_alive():
        return strike.place, "the interrupted caller hangs"
    following = Caller(lambda: limiter.try_acquire("user", "api", {"requests": 1}))
    following.join(PATIENCE)
    if following.is_alive():
        return strike.place, "the line is stuck"
    left = SyncRateLimiter(stage.inner, [LIMIT]).check("user", "api", {"requests": 0}).statuses[0].available
    taken = LIMIT.capacity - 1 - before - left
    return strike.place, "" if taken == 10 * struck.finish() else f"{taken} units are gone"


@pytest.mark.parametrize("before", [0, 1], ids=["idle", "busy"])
@pytest.mark.parametrize("linger", [0.0, MOMENT], ids=["express", "batch"])
def test_an_interruption_anywhere_leaves_the_line_and_the_bucket_in_order(linger: float, before: int, clock: FakeClock) -> None:
    """After an interruption at any line, the units of the caller are refunded and the next caller is served."""
    harm = []
    for number in range(1, 1_000):
        place, what = strike(number, clock, linger, before)
        if place is None:
            break
        if what:
            harm.append(f"{what}: {place}")
    assert number > 50
    if harm:
        pytest.fail("\n".join(harm))


def test_an_interrupted_refund_is_written_or_counted_as_lost(clock: FakeClock) -> None:
    """After an interruption of refunds anywhere, each is written at once or counted, and the next caller is served."""
    keys = [BucketKey("default", "user", name) for name in ("api", "batch")]
    asked = [Request(key, (Charge(LIMIT, 10),)) for key in keys]
    whole = [Request(key, (Charge(LIMIT, LIMIT.capacity),), deadline=clock()) for key in keys]
    for number in range(2, 1_000):
        store, counters, strike = SyncMemoryRepository(clock=clock), Counters(), Strike(number)
        committer = SyncCommitter(store, SyncCommitterOptions(), None, counters)
        taken = [grant for grant in committer.decide(asked) if isinstance(grant, Grant)]
        refunds = [refund_of(key, grant.receipts) for key, grant in zip(keys, taken, strict=True)]
        Caller(lambda strike=strike, put=committer.decide, refunds=refunds: strike.make(lambda: put(refunds))).finish()
        left = [SyncCommitter(store, SyncCommitterOptions()).decide([each])[0] for each in whole]
        refused = sum(isinstance(outcome, Refusal) for outcome in left)
        assert refused <= counters.statistics("closed", None).corrections_lost, strike.place
        assert None not in Caller(lambda put=committer.decide: put(asked)).finish(), strike.place
        if strike.place is None:
            break
    assert number > 50


@pytest.mark.parametrize("change", ["release", "adjust", "consume"])
def test_an_interruption_of_a_correction_leaves_the_rest_to_the_block(change: str, clock: FakeClock) -> None:
    """After an interruption of a correction at any line, the failed block refunds everything except the corrected units."""
    for number in range(1, 1_000):
        stage = Stage(clock)
        limiter = SyncRateLimiter(stage, [LIMIT, OTHER], denial_ttl=0)
        strike = Strike(number, LEASE_FILES, change)
        with suppress(Struck), limiter.acquire("user", "api", {"requests": 40, "tokens": 40}) as lease:
            strike.make(lambda lease=lease: getattr(lease, change)(requests=1))
            raise Struck
        left = {each.limit.name: each.available for each in limiter.check("user", "api", NOTHING).statuses}
        assert left["tokens"] == OTHER.capacity, strike.place
        assert left["requests"] >= LIMIT.capacity - 1, strike.place
        if strike.place is None:
            break
    assert number > 20


def test_an_interruption_of_a_payment_loses_nothing(clock: FakeClock) -> None:
    """Units that a block has paid are in it again, wherever an interruption strikes; a quota's are given back at the end."""
    limits = [Limit.per_minute("requests", 1_000, allotment=30.0), Quota.per_day("tokens", 1_000)]
    harm = []
    for number in range(1, 1_000):
        repository = SyncMemoryRepository(clock=clock)
        limiter = SyncRateLimiter(repository, limits)
        allowed = [bool(limiter.try_acquire("user", "api")) for _ in range(30)]
        strike, hits = Strike(number, PAYING_FILES), limiter.stats().cache_hits
        allowed.append(bool(strike.make(lambda limiter=limiter: limiter.try_acquire("user", "api"))))  # type: ignore[misc]
        if strike.place is None:
            assert limiter.stats().cache_hits == hits + 1
            break
        allowed.append(bool(limiter.try_acquire("user", "api")))
        limiter.close()
        left = SyncRateLimiter(repository, limits).check("user", "api", {"tokens": 0}).statuses[0].available
        if left != 1_000 - sum(allowed):
            harm.append(f"{1_000 - sum(allowed) - left} units are gone: {strike.place}")
    assert number > 20
    if harm:
        pytest.fail("\n".join(harm))


def test_a_block_whose_write_was_interrupted_is_held_all_the_same(clock: FakeClock) -> None:
    """What was taken of a quota in advance by a write that an interruption struck is given back at the end, not lost."""
    repository = SyncMemoryRepository(clock=clock)
    limits = [Limit.per_minute("requests", 100, allotment=30.0), Quota.per_day("tokens", 100)]
    limiter = SyncRateLimiter(repository, limits)
    for _ in range(3):
        limiter.try_acquire("user", "api")
    write, interruptions, taken = repository.write_bucket, [Struck()], []

    def write_bucket(*arguments: Any) -> Any:
        outcome = write(*arguments)
        taken.append(outcome.state.level(limits[1].identity).tat)
        if interruptions:
            raise interruptions.pop()
        return outcome

    repository.write_bucket = write_bucket  # type: ignore[method-assign] # the same with an interruption
    with pytest.raises(Struck):
        limiter.try_acquire("user", "api", {"requests": 5, "tokens": 5})
    limiter.close()
    left = SyncRateLimiter(repository, limits).check("user", "api", {"tokens": 0}).statuses[0].available
    assert (max(taken) > 8, left) == (True, 97)
