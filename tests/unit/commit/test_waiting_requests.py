"""Requests on their way through a queue: how callers learn their outcomes, and what pays for them or stands in their way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.steady_pace import SteadyPace

from limiter import Concurrency, Limit, LimiterError
from limiter.commit.sync_bucket_queue import SCARCE, SyncBucketQueue, SyncPendingRequest, SyncWaiter
from limiter.core.plan import plan
from limiter.core.preview import NONE_AHEAD, Ahead
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Receipt, Refund, Refusal, Request
from limiter.core.state import EMPTY, BucketState, Level
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000 * NANOSECONDS
KEY = BucketKey("default", "user", "api")
LIMIT = Limit.per_minute("requests", 10)
ONE = Request(KEY, (Charge(LIMIT, 1),), allots=True)
REFUND = Request(KEY, refunds=(Refund(LIMIT, 1, 0),))
GRANT = Grant([Receipt(LIMIT, 1, 6 * NANOSECONDS, NOW, NOW, NOW + 6 * NANOSECONDS)], NOW)


class Blocks:
    """What is held in advance, as the test says; `calls` are what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.paid: list[Grant] = []
        self.until = 0
        self.debt = False

    def observe(self, *_: object) -> None:
        self.calls.append("observe")

    def covers(self, *_: object) -> bool:
        self.calls.append("covers")
        return bool(self.paid)

    def pay(self, *_: object, noted: bool) -> Grant | None:
        self.calls.append("pay" if noted else "pay and note")
        return self.paid.pop(0) if self.paid else None

    def refuse_until(self, key: BucketKey, view: Any, turn: int, span: int) -> int:
        self.calls.append(f"refuse until {turn - NOW}, of {view.now - NOW}")
        return self.until

    def turn(self, *_: object) -> int:
        return self.until

    def owes(self, *_: object) -> bool:
        return self.debt

    def leave(self) -> tuple[Refund, ...]:
        self.calls.append("leave")
        return ()


@pytest.fixture
def blocks() -> Blocks:
    """What is held in advance."""
    return Blocks()


@pytest.fixture
def queue(blocks: Blocks) -> SyncBucketQueue:
    """A queue with blocks."""
    queue = SyncBucketQueue(KEY)
    held: Any = blocks
    queue.allotments = held
    return queue


def pend(queue: SyncBucketQueue, request: Request = ONE, waiter: SyncWaiter | None = None) -> SyncPendingRequest:
    """Queue a request."""
    pending = SyncPendingRequest(request, queue, waiter)
    queue.add(pending, NOW)
    return pending


def caller() -> SyncWaiter:
    """Return a caller with one undecided request."""
    waiter = SyncWaiter(100.0, 5.0)
    waiter.pending = 1
    return waiter


class Relay:
    """Notes which callers it wakes later."""

    def __init__(self) -> None:
        self.added: list[tuple[object, bool]] = []

    def add(self, waiter: object, *, waits: bool) -> None:
        self.added.append((waiter, waits))


def test_a_new_bucket_is_unknown() -> None:
    """Nothing was seen, written, refused or held."""
    queue = SyncBucketQueue(KEY)
    assert (queue.state, queue.seen, queue.wrote, queue.denied, queue.leader, queue.batch) == (EMPTY, None, None, 0, None, None)
    assert (queue.requests, queue.returning, queue.ahead, queue.same_charges, queue.pace) == ([], 0, 0, (), None)
    assert (queue.relay, queue.warned, queue.allotments, queue.slots) == (None, False, None, None)
    assert not queue.is_paced
    assert not queue.has_refilled(NOW)


def test_a_new_caller_waits_for_nothing_yet() -> None:
    """It has the time that the table may take."""
    waiter = SyncWaiter(100.0, 5.0)
    assert (waiter.patience, waiter.expires, waiter.to_lead, waiter.leading) == (5.0, 105.0, (), 0)
    assert (waiter.requests, waiter.pending) == ((), 0)


def test_a_new_request_is_undecided(queue: SyncBucketQueue) -> None:
    """It returns something if it has refunds, or only asks for a write of slots."""
    pending = SyncPendingRequest(ONE, queue)
    assert (pending.abandoned, pending.counted, pending.entered, pending.done) == (False, False, False, False)
    assert (pending.outcome, pending.result(), pending.waiter) == (None, None, None)
    kinds = [ONE, REFUND, Request(KEY, slots=True), Request(KEY, (Charge(Concurrency("calls", 1), 1),), slots=True), Request(KEY)]
    assert [bool(SyncPendingRequest(kind, queue).returns) for kind in kinds] == [False, True, True, False, False]


def test_callers_that_share_an_error_each_get_a_copy(queue: SyncBucketQueue) -> None:
    """With its cause."""
    pending, error = pend(queue), LimiterError("broken")
    error.__cause__ = KeyError("why")
    pending.finish(error)
    found = pending.result()
    assert isinstance(found, LimiterError)
    assert found is not error
    assert found.__cause__ is error.__cause__
    pending.finish(GRANT)
    assert pending.result() is GRANT


def test_a_caller_is_woken_at_once_or_by_a_relay(queue: SyncBucketQueue) -> None:
    """By the relay only if it does nothing but wait."""
    waiter = caller()
    pend(queue, ONE, waiter).finish(GRANT)
    assert (waiter.pending, waiter._wait(0.0)) == (0, True)
    relay: Any = Relay()
    waiters = [caller() for _ in range(3)]
    waiters[1].leading, waiters[2].to_lead = 1, (queue,)
    for waiter in waiters:
        pend(queue, ONE, waiter).finish(GRANT, relay)
        assert (waiter.pending, waiter._wait(0.0)) == (0, False)
    assert relay.added == [(waiters[0], True), (waiters[1], False), (waiters[2], False)]
    pend(queue).finish(GRANT, relay)
    assert len(relay.added) == 3


def test_units_are_scarce_for_a_while_after_a_refusal(queue: SyncBucketQueue) -> None:
    """That matters for what a write carries only where a pace is known."""
    queue.denied = NOW
    assert [queue.is_scarce(NOW + passed) for passed in (0, SCARCE, SCARCE + 1)] == [True, True, False]
    assert queue.part(NOW) == 1.0
    queue.pace = SteadyPace(0)
    assert not queue.is_paced
    queue.pace = SteadyPace(1)
    assert queue.is_paced


def test_a_queue_is_idle_if_nothing_is_in_progress_or_has_to_go_back(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """Slots that are held count, and so do units of quotas."""
    assert queue.is_idle(NOW) is True
    blocks.debt = True
    assert queue.is_idle(NOW) is False
    queue.allotments = None
    slots: Any = SimpleNamespace(is_idle=False)
    queue.slots = slots
    assert queue.is_idle(NOW) is False
    slots.is_idle = True
    assert queue.is_idle(NOW) is True
    pend(queue)
    assert queue.is_idle(NOW) is False
    queue.requests, queue.leader = [], object()
    assert queue.is_idle(NOW) is False


def test_a_forgotten_queue_ends_its_blocks(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """If it has any."""
    queue.forget()
    assert blocks.calls == ["leave"]
    SyncBucketQueue(KEY).forget()


def test_what_is_known_of_a_bucket_is_worth_nothing_once_it_has_refilled(queue: SyncBucketQueue) -> None:
    """Until then the state is kept, and also where the bucket was never seen."""
    update = plan(EMPTY, [ONE], NOW, "stamp").update
    assert update is not None
    queue.state = update.apply(EMPTY)
    assert not queue.has_refilled(NOW + 3_600 * NANOSECONDS)
    queue.seen = NOW
    assert queue.has_refilled(NOW + 3_600 * NANOSECONDS)
    assert not queue.has_refilled(NOW)


def test_requests_that_give_back_are_counted_while_they_are_undecided(queue: SyncBucketQueue) -> None:
    """However they end."""
    first, second = pend(queue, REFUND), pend(queue, REFUND)
    assert (queue.returning, first.entered, first.counted) == (2, True, False)
    assert queue.remove(first) is True
    assert (queue.returning, queue.requests) == (1, [second])
    assert queue.remove(first) is False
    assert queue.returning == 1
    queue.finish(second, GRANT)
    assert (queue.returning, second.done, second.outcome) == (0, True, GRANT)


def test_equal_requests_are_counted_anew_after_the_last_one(queue: SyncBucketQueue) -> None:
    """Then the next request says what they ask for."""
    first, second = pend(queue), pend(queue)
    assert (queue.ahead, queue.same_charges, first.counted) == (2, ONE.terms, True)
    queue.remove(first)
    assert (queue.ahead, queue.same_charges, first.counted) == (1, ONE.terms, False)
    queue.remove(second)
    assert (queue.ahead, queue.same_charges) == (0, ())
    other = ONE._replace(charges=(Charge(LIMIT, 2),))
    pend(queue, other)
    assert (queue.ahead, queue.same_charges) == (1, other.terms)


def test_only_equal_requests_without_a_timeout_stand_before_another(queue: SyncBucketQueue) -> None:
    """A timeout that ends now is none. Those that the current batch has refused are not counted."""
    for _ in range(4):
        pend(queue)
    assert queue.before(ONE._replace(deadline=NOW), NOW) == Ahead(4)
    for other in (ONE._replace(deadline=NOW + 1), ONE._replace(oversize=True)):
        assert queue.before(other, NOW) == NONE_AHEAD
    batch: Any = SimpleNamespace(in_flight=(NOW - 1, 2, 3))
    queue.batch = batch
    assert queue.before(ONE, NOW) == Ahead(waiting=1, carried=2, planned=NOW - 1)


def test_a_grant_whose_caller_has_gone_is_given_back(queue: SyncBucketQueue) -> None:
    """By a request of its own; a refusal, and a grant of nothing, leave nothing to give back."""
    for outcome, left in ((GRANT, 1), (Grant((), NOW), 0), (Refusal((), (), NOW), 0)):
        waiter = caller()
        pending = pend(queue, ONE, waiter)
        queue.requests = []
        pending.abandoned = True
        queue.finish(pending, outcome)
        assert (pending.done, waiter.pending, waiter._wait(0.0)) == (True, 1, False)
        assert len(queue.requests) == left
        if left:
            assert queue.requests[0].request.refunds[0].cost == 6 * NANOSECONDS
            assert queue.requests[0].waiter is None
            queue.remove(queue.requests[0])


def test_slots_that_a_request_frees_pass_to_the_process(queue: SyncBucketQueue) -> None:
    """Before it is queued; other requests pass by."""
    absorbed: list[SyncPendingRequest] = []
    slots: Any = SimpleNamespace(absorb=absorbed.append)
    pend(queue, Request(KEY, slots=True))
    queue.slots = slots
    pending = pend(queue, Request(KEY, slots=True))
    pend(queue)
    assert absorbed == [pending]


def test_a_block_pays_unless_the_bucket_has_to_be_asked(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """It has to be in debt and where its item makes no sense. What is paid for at once is noted with that."""
    blocks.paid = [GRANT]
    assert queue.covers(ONE, NOW, 0) is True
    assert queue.covers(ONE._replace(allots=False), NOW, 0) is False
    blocks.calls = []
    assert queue.pay(ONE, NOW, 0) is GRANT
    assert queue.pay(ONE, NOW, 0, noted=True) is None
    assert blocks.calls == ["pay and note", "pay"]
    blocks.paid, blocks.calls = [GRANT], []
    for state in (BucketState(unreadable={"x": "?"}), BucketState({LIMIT.identity: Level(NOW + 61 * NANOSECONDS, NOW)})):
        queue.state = state
        assert queue.covers(ONE, NOW, 0) is False
        assert queue.pay(ONE, NOW, 0) is None
    assert blocks.calls == []


def test_whether_the_bucket_has_to_be_asked_is_found_out_again(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """For another state, for other limits, and at an earlier time."""
    blocks.paid = [GRANT]
    free, used = BucketState(), BucketState({LIMIT.identity: Level(NOW + 60 * NANOSECONDS + 5, NOW)})
    paid = []
    for state, now in ((free, NOW), (used, NOW), (used, NOW + 5), (used, NOW + 4), (free, NOW)):
        queue.state = state
        paid.append(queue.covers(ONE, now, 0))
    assert paid == [True, False, True, False, True]
    queue.state = used
    other = ONE._replace(charges=(Charge(Limit.per_second("other", 1), 1),))
    assert [queue.covers(asked, NOW, 0) for asked in (other, ONE)] == [True, False]


def test_the_first_request_of_a_kind_makes_the_record_of_what_is_asked_for() -> None:
    """Nothing is held yet, so nothing is paid."""
    queue = SyncBucketQueue(KEY)
    assert queue.covers(ONE, NOW, 0) is False
    assert queue.turned_away(ONE, NOW, 0) is None
    records = [queue.allotments]
    for _ in range(2):
        assert queue.pay(ONE, NOW, 0) is None
        queue.observe(ONE, NOW)
        records.append(queue.allotments)
    assert records[0] is None
    assert records[1] is records[2] is not None


def test_a_paced_process_refuses_until_its_next_write(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """From the last write on, for as long as it may wait, by what was seen. The bucket is scarce until then."""
    pace = SteadyPace(NANOSECONDS)
    queue.pace, queue.seen, queue.wrote, blocks.until = pace, NOW + 1, NOW + 2, NOW + 9
    queue.refuse_until_turn(0)
    assert blocks.calls == [f"refuse until {2 + pace.longest_wait}, of 1"]
    assert queue.denied == NOW + 9
    blocks.until = 0
    queue.refuse_until_turn(0)
    assert queue.denied == NOW + 9


UNKNOWN: dict[str, Callable[[SyncBucketQueue], object]] = {
    "no pace": lambda queue: setattr(queue, "pace", None),
    "no interval": lambda queue: setattr(queue, "pace", SteadyPace(0)),
    "no blocks": lambda queue: setattr(queue, "allotments", None),
    "never seen": lambda queue: setattr(queue, "seen", None),
    "never written": lambda queue: setattr(queue, "wrote", None),
}


@pytest.mark.parametrize("missing", UNKNOWN)
def test_a_process_that_lacks_something_does_not_refuse_until_then(queue: SyncBucketQueue, blocks: Blocks, missing: str) -> None:
    """Each of pace, blocks, a state and a write is needed."""
    queue.pace, queue.seen, queue.wrote, blocks.until = SteadyPace(NANOSECONDS), NOW, NOW, NOW + 9
    UNKNOWN[missing](queue)
    queue.refuse_until_turn(0)
    assert (blocks.calls, queue.denied) == ([], 0)


def test_only_requests_that_may_be_paid_from_blocks_are_turned_away(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """Until the turn; a timeout that has passed is none."""
    assert queue.turned_away(ONE, NOW, 0) is None
    blocks.until = NOW + 5
    refusal = queue.turned_away(ONE, NOW, 0)
    assert refusal is not None
    assert (refusal.start, refusal.now) == (NOW + 5, NOW)
    assert queue.turned_away(ONE._replace(deadline=NOW), NOW, 0) is not None
    for other in (ONE._replace(deadline=NOW + 1), ONE._replace(allots=False), ONE._replace(refunds=REFUND.refunds)):
        assert queue.turned_away(other, NOW, 0) is None


def test_blocks_pay_for_the_first_requests_of_a_queue(queue: SyncBucketQueue, blocks: Blocks) -> None:
    """Up to the first that none covers; later ones do not overtake it."""
    first, second, third = pend(queue), pend(queue), pend(queue)
    blocks.paid = [GRANT, GRANT]
    assert queue.pay_waiting(NOW, 0) == 2
    assert [pending.done for pending in (first, second, third)] == [True, True, False]
    assert (queue.requests, queue.ahead) == ([third], 1)
    assert queue.pay_waiting(NOW, 0) == 0
    blocks.paid, queue.requests = [GRANT], [SyncPendingRequest(ONE._replace(allots=False), queue), third]
    assert queue.pay_waiting(NOW, 0) == 0
    assert len(queue.requests) == 2


def test_callers_that_have_gone_do_not_lead(queue: SyncBucketQueue) -> None:
    """The latest of the others does, as long as it leads nothing."""
    waiters = [caller() for _ in range(3)]
    pendings = [pend(queue, ONE, waiter) for waiter in waiters]
    assert queue.next_leader() is waiters[2]
    pendings[2].abandoned = True
    assert queue.next_leader() is waiters[1]
    waiters[1].leading = 1
    assert queue.next_leader() is waiters[0]
    waiters[0].leading = 1
    assert queue.next_leader() is waiters[1]
    pendings[0].abandoned = pendings[1].abandoned = True
    assert queue.next_leader() is None
