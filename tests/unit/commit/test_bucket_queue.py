"""Queues of buckets: which requests are ahead of a new one."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support.scenes import SharedRepository, Stage

from limiter import Limit, SyncMemoryRepository
from limiter.commit.breaker import THRESHOLD, Breaker
from limiter.commit.bucket_queue import BucketQueue, PendingRequest, Waiter
from limiter.commit.sync_batch import SyncBatch as Batch
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncBatchWriter as BatchWriter
from limiter.commit.sync_writer import SyncCommitterOptions as CommitterOptions
from limiter.core.pace import ATTEMPT, BASE, Pace
from limiter.core.preview import NONE_AHEAD, Ahead
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Refusal, Request, refund_of
from limiter.core.state import COUNT, BucketState, Update
from limiter.core.units import NANOSECONDS
from limiter.exceptions import RateLimiterUnavailable
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 10**18
KEY = BucketKey("default", "user", "api")
ONE = (Charge(Limit.parse("requests=10/minute"), 1),)
TWO = (Charge(Limit.parse("requests=10/minute"), 2),)


def in_batch(queue: BucketQueue) -> Batch:
    """Take everything that waits into a batch."""
    writer = BatchWriter(SyncMemoryRepository(), threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    queue.batch, queue.requests = Batch(writer, queue, queue.requests), []
    return queue.batch


def let_finish(queue: BucketQueue, pending: PendingRequest) -> None:
    """Decide a request, as the batch does that includes it."""
    in_batch(queue)
    queue.finish(pending, Grant((), NOW))


def let_go_from_batch(queue: BucketQueue, pending: PendingRequest) -> None:
    """Let a request's caller leave after a batch has taken it."""
    in_batch(queue)
    pending.abandoned = True
    queue.finish(pending, Grant((), NOW))


ENDS: dict[str, Callable[[BucketQueue, PendingRequest], object]] = {
    "decided": let_finish,
    "gone from the queue": lambda queue, pending: queue.remove(pending),
    "gone from a batch": let_go_from_batch,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_request_that_is_decided_or_gone_stands_before_no_other(end: str) -> None:
    """A request that has ended in any way no longer counts."""
    queue = BucketQueue(KEY)
    first, second = PendingRequest(Request(KEY, ONE, deadline=NOW), queue), PendingRequest(Request(KEY, ONE, deadline=NOW), queue)
    queue.add(first, NOW)
    queue.add(second, NOW)
    assert queue.ahead == 2
    ENDS[end](queue, first)
    assert queue.ahead == 1
    assert queue.before(Request(KEY, ONE, deadline=NOW), NOW).waiting == 1
    ENDS[end](queue, second)
    assert queue.ahead == 0


def test_only_the_same_demand_counts() -> None:
    """A request counts as ahead only of equal ones: other charges, a request that may wait and a forced one do not count."""
    queue = BucketQueue(KEY)
    queue.add(PendingRequest(Request(KEY, ONE, deadline=NOW), queue), NOW)
    queue.add(PendingRequest(Request(KEY, TWO, deadline=NOW), queue), NOW)
    queue.add(PendingRequest(Request(KEY, ONE, deadline=NOW + 1), queue), NOW)
    queue.add(PendingRequest(Request(KEY, ONE, deadline=NOW, forced=True), queue), NOW)
    assert (queue.ahead, queue.same_charges) == (1, (ONE, (), False))


def test_a_refund_stands_before_no_request() -> None:
    """A refund asks for nothing, so requests behind it are counted as if it were not there."""
    queue = BucketQueue(KEY)
    queue.add(PendingRequest(Request(KEY, refunds=(Refund(ONE[0].limit, 1, 0),)), queue), NOW)
    queue.add(PendingRequest(Request(KEY, ONE, deadline=NOW), queue), NOW)
    assert (queue.ahead, queue.same_charges) == (1, (ONE, (), False))


class FullGate(SyncGate):
    """A gate at which each call waits, for no time."""

    @property
    def is_full(self) -> bool:
        return True


def test_the_call_that_tests_the_table_is_made_after_a_wait() -> None:
    """A caller that looks whether the table is back is not refused because of its own look."""
    breaker = Breaker(rest=lambda: 0.0)
    for _ in range(THRESHOLD):
        with suppress(RateLimiterUnavailable), breaker.guard():
            raise RateLimiterUnavailable("no answer")
    writer = BatchWriter(SyncMemoryRepository(), threading.Lock(), breaker, Counters(), FullGate(1), CommitterOptions())
    queue = BucketQueue(KEY)
    pending = PendingRequest(Request(KEY, ONE), queue)
    Batch(writer, queue, [pending]).carry_out()
    assert isinstance(pending.outcome, Grant)
    assert breaker.state == "closed"


def test_a_write_that_has_waited_for_its_turn_takes_along_who_has_come() -> None:
    """Requests that queue up while a batch waits at the gate are decided by its write."""
    store = SyncMemoryRepository()
    writer = BatchWriter(store, threading.Lock(), Breaker(), Counters(), FullGate(1), CommitterOptions())
    queue = BucketQueue(KEY)
    pendings = [PendingRequest(Request(KEY, ONE), queue) for _ in range(3)]
    for pending in pendings[1:]:
        queue.add(pending)
    Batch(writer, queue, pendings[:1]).carry_out()
    assert all(isinstance(pending.outcome, Grant) for pending in pendings)
    assert queue.requests == []


def test_a_pace_is_kept_while_others_write() -> None:
    """It begins with an answer that counts more than the own write, and ends when a window shows no others."""
    writer = BatchWriter(SharedRepository(), threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    queue = BucketQueue(KEY)
    alone = BatchWriter(SyncMemoryRepository(), threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    assert alone.toll(queue) == 0
    paced = []
    # What others had written before the first answer says nothing of how much they write.
    for milliseconds, others in ((10, 500), (20, 0), (40, 3), (60, 0), (80, 0), (110, 0), (140, 0)):
        update = Update("stamp", (), (), count=writer.toll(queue))
        state = BucketState(count=queue.state.count + update.count + others * ATTEMPT)
        writer.note_count(queue, update, state, NOW + milliseconds * BASE, applied=True)
        queue.state, queue.seen = state, NOW + milliseconds * BASE
        paced.append(queue.pace is not None)
    assert paced == [False, False, True, True, True, True, False]
    assert writer.toll(queue) == ATTEMPT
    queue.state = BucketState(unreadable={COUNT: "not a number"})
    assert writer.toll(queue) == 0


def test_a_write_carries_a_part_for_a_second_after_a_refusal() -> None:
    """Where others write too and requests were refused lately, it carries the pace's part, and otherwise the whole."""
    queue = BucketQueue(KEY)
    queue.denied = NOW
    assert (queue.part(NOW), queue.is_paced) == (1, False)
    queue.pace = Pace(700, NANOSECONDS)
    queue.pace.note(0, NOW, applied=False)
    assert not queue.is_paced
    assert queue.part(NOW + NANOSECONDS) == queue.pace.part < 1
    assert queue.part(NOW + NANOSECONDS + 1) == 1


def test_a_write_waits_for_the_rest_of_the_interval() -> None:
    """That is the linger, or the pace if it is longer; a first write waits for nothing, and so does one after a clock's jump."""
    store, options = SyncMemoryRepository(clock=lambda: NOW), CommitterOptions(linger=2 * NANOSECONDS, patience=3.0)
    writer = BatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), options)
    queue = BucketQueue(KEY)
    assert (writer.delay(queue), writer.patience) == (0, 5)
    delays = []
    for passed in (0, 0.5, 2, 3, -0.5):
        queue.wrote = NOW - int(passed * NANOSECONDS)
        delays.append(writer.delay(queue))
    assert delays == [2, 1.5, 0, 0, 0]
    queue.wrote = NOW
    waits = [writer.note_throttled(queue) / NANOSECONDS for _ in range(20)]
    assert 0.0375 <= waits[0] <= 0.0625
    assert 0.75 * 1.5 <= waits[-1] <= 1.25 * 1.5
    assert queue.pace is not None
    queue.pace = Pace(700, 100 * NANOSECONDS)
    for _ in range(20):
        queue.pace.note_throttled(NOW)
    assert 75 <= writer.delay(queue) <= 125


def test_a_crowded_bucket_is_written_at_its_pace() -> None:
    """A caller that finds the bucket at rest does not write at once if its process has seen that many others write."""
    times, slept = [NOW], []
    store = SharedRepository(clock=lambda: times[0])
    ours, others = (SyncCommitter(store, CommitterOptions(sleep=slept.append)) for _ in range(2))
    many = Request(KEY, (Charge(Limit.per_second("requests", 10_000), 1),), deadline=NOW)
    for _ in range(2):
        ours.decide([many])
    assert not slept
    for _ in range(100):
        others.decide([many])
    slept.clear()
    times[0] += NANOSECONDS // 100
    ours.decide([many])
    assert not slept
    ours.decide([many])
    assert len(slept) == 1


def test_a_paced_batch_writes_twice_and_leaves_the_rest() -> None:
    """Each write carries the part of the requests that the pace permits; who is left after the second comes next in the queue."""
    limit = Limit.per_second("requests", 1_000)
    store = SharedRepository(clock=lambda: NOW)
    writer = BatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    queue = BucketQueue(KEY)
    queue.seen = queue.denied = NOW
    queue.pace = Pace(700, NANOSECONDS)
    queue.pace.note_throttled(NOW)
    queue.pace.note(0, NOW, applied=False)
    pendings = [PendingRequest(Request(KEY, (Charge(limit, 1),), deadline=NOW), queue) for _ in range(11)]
    queue.add(pendings.pop(), NOW)
    batch = Batch(writer, queue, list(pendings))
    batch.carry_out()
    assert [pending.done for pending in pendings] == [True] * 9 + [False]
    assert queue.requests[0] is pendings[9]
    assert (batch.requests, len(queue.requests), queue.state.count // ATTEMPT) == ([], 2, 3)


def test_a_write_that_had_no_effect_is_repeated_without_a_look() -> None:
    """Its state has not changed; after one that may have been applied, the batch looks for its stamp."""
    for unsent, reads in ((True, 0), (False, 1)):
        stage = Stage(lambda: NOW)
        stage.before.append(partial(fail, RateLimiterUnavailable("no answer", unsent=unsent)))
        (outcome,) = SyncCommitter(stage, CommitterOptions()).decide([Request(KEY, ONE)])
        assert isinstance(outcome, Grant)
        assert (stage.writes, stage.reads) == (2, reads)


def test_a_request_is_not_refused_beside_a_refund_that_makes_room() -> None:
    """What the state alone refuses is decided after the write of the batch's refunds, also if others stand beside them."""
    store = SyncMemoryRepository(clock=lambda: NOW)
    (taken,) = SyncCommitter(store, CommitterOptions()).decide([Request(KEY, (Charge(ONE[0].limit, 10),), deadline=NOW)])
    assert isinstance(taken, Grant)
    queue = BucketQueue(KEY)
    asked = [Request(KEY, (Charge(ONE[0].limit, units),), deadline=NOW) for units in (6, 5)]
    pendings = [PendingRequest(request, queue) for request in (*asked, refund_of(KEY, taken.receipts))]
    writer = BatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    Batch(writer, queue, list(pendings)).carry_out()
    assert [type(pending.outcome) for pending in pendings] == [Grant, Refusal, Grant]


def test_two_rates_of_one_name_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A bucket that is used with two rates at once is named in the log by the first write that shows it, and not again."""
    committer = SyncCommitter(SyncMemoryRepository(clock=lambda: NOW), CommitterOptions())
    for text in ("10/minute", "10/hour", "10/minute", "10/minute"):
        committer.decide([Request(KEY, (Charge(Limit.parse(f"requests={text}"), 1),), deadline=NOW)])
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "user/api is used with two rates or periods of one name at once"
    ]


def test_a_write_under_way_tells_whom_it_carries() -> None:
    """Newcomers learn when it was planned, how many equal requests it carries, and how many it has decided."""
    stage, queue, seen = Stage(lambda: NOW), BucketQueue(KEY), []
    five = Request(KEY, (Charge(ONE[0].limit, 5),), deadline=NOW)
    pendings = [PendingRequest(five, queue) for _ in range(3)]
    for pending in pendings:
        queue.add(pending, NOW)
    writer = BatchWriter(stage, threading.Lock(), Breaker(), Counters(), SyncGate(1), CommitterOptions())
    batch = queue.batch = Batch(writer, queue, pendings)
    stage.before.append(lambda: seen.append((batch.in_flight, queue.before(five, NOW))))
    batch.carry_out()
    assert seen == [((NOW, 2, 3), Ahead(waiting=0, carried=2, planned=NOW))]
    assert batch.in_flight == (0, 0, 0)


def test_a_write_at_once_tells_that_the_table_answers() -> None:
    """It ends the row of failures, as the write of a batch does."""
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        with suppress(RateLimiterUnavailable), breaker.guard():
            raise RateLimiterUnavailable("no answer")
    SyncCommitter(SyncMemoryRepository(), CommitterOptions(), breaker).decide([Request(KEY, ONE)])
    assert breaker.failures == 0


def fail(error: Exception) -> None:
    """Raise the error."""
    raise error


def test_those_whom_a_write_does_not_carry_are_not_in_the_way() -> None:
    """During a batch, requests in its write count as of its plan, the rest of the batch not at all, and the queue as of now."""
    queue = BucketQueue(KEY)
    pendings = [PendingRequest(Request(KEY, ONE, deadline=NOW), queue) for _ in range(5)]
    for pending in pendings:
        queue.add(pending, NOW)
    in_batch(queue).in_flight = NOW - 7, 1, 3
    assert queue.before(Request(KEY, ONE, deadline=NOW), NOW) == Ahead(waiting=2, carried=1, planned=NOW - 7)
    assert queue.before(Request(KEY, TWO, deadline=NOW), NOW) == NONE_AHEAD
    assert queue.before(Request(KEY, ONE, deadline=NOW + 1), NOW) == NONE_AHEAD


def test_the_next_leader_is_the_latest_caller_that_leads_nothing() -> None:
    """Of callers that lead other queues the latest comes next only if there is no other; refunds without a caller never lead."""
    queue = BucketQueue(KEY)
    assert queue.next_leader() is None
    waiters = [Waiter(0.0, 1.0) for _ in range(4)]
    for waiter in (*waiters, None):
        queue.add(PendingRequest(Request(KEY, ONE), queue, waiter))
    waiters[2].leading = waiters[3].leading = 1
    assert queue.next_leader() is waiters[1]
    waiters[0].leading = waiters[1].leading = 1
    assert queue.next_leader() is waiters[3]
