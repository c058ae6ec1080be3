"""The synchronous committer, step by step: who writes at once, who waits, who leads, and what becomes of those that leave."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.scenes import Stage, fail_with
from support.steady_pace import SteadyPace

from limiter import Concurrency, Limit, LimiterError, RateLimiterUnavailable
from limiter.commit import sync_committer
from limiter.commit.breaker import THRESHOLD, Breaker
from limiter.commit.sync_bucket_queue import SyncPendingRequest, SyncWaiter
from limiter.commit.sync_committer import CALLS, SyncCommitter
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core.pace import Pace
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, NotTried, Refund, Refusal, Request, refund_of
from limiter.core.state import BucketState
from limiter.core.units import NANOSECONDS
from limiter.exceptions import CircuitOpen
from limiter.runtime.wakeup import SyncWakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limiter.commit.sync_bucket_queue import SyncBucketQueue

NOW = 1_800_000_000 * NANOSECONDS
KEY, OTHER = (BucketKey("default", "user", name) for name in ("api", "search"))
LIMIT = Limit.per_minute("requests", 10)
ONE = Request(KEY, (Charge(LIMIT, 1),))
ALL = Request(KEY, (Charge(LIMIT, 10),))
REFUND = Request(KEY, refunds=(Refund(LIMIT, 1, 0),))
SLOTS = Request(KEY, (Charge(Concurrency("calls", 2), 1),), slots=True)


class Time:
    """The table's time, which can be distrusted."""

    trusted = True

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Scene:
    """A committer on a stage, whose callers wait for nothing, and the queue of one bucket."""

    def __init__(self, **options: Any) -> None:
        self.time, self.waited = Time(), 0
        self.stage = Stage(self.time)
        self.breaker = Breaker(lambda: 100.0, lambda: 1.0)
        self.committer = SyncCommitter(self.stage, SyncCommitterOptions(**options), self.breaker)
        self.queue = self.committer._queue(KEY)
        self.during: Callable[[], object] = lambda: None
        committer: Any = self.committer
        committer.deadlines = self

    def wait(self, waiting: object) -> None:
        """Wait for no time; the test may do something then."""
        self.waited += 1
        assert isinstance(waiting, SyncWaiter)
        assert not waiting._wait(0.0), "it was told of what it knows already"
        self.during()

    def decide(self, *requests: Request) -> list[Any]:
        """Decide."""
        return self.committer.decide(requests)

    def enter(self, *requests: Request) -> SyncWaiter:
        """Have a caller queue up its requests."""
        waiter = self.committer._waiter()
        self.committer._enter(waiter, requests)
        return waiter

    def counted(self, name: str) -> int:
        """Return what was counted under a name."""
        number: int = getattr(self.committer._counters.statistics("closed", None), name)
        return number

    def open_breaker(self) -> None:
        """Let the table be silent."""
        for _ in range(THRESHOLD):
            with pytest.raises(RateLimiterUnavailable), self.breaker.guard():
                raise RateLimiterUnavailable("no answer")


@pytest.fixture
def scene() -> Scene:
    """A committer that remembers refusals for ten nanoseconds."""
    return Scene(denial_ttl=10)


@pytest.fixture(autouse=True)
def monotonic(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time of callers, in seconds."""
    times = [100.0]
    monkeypatch.setattr(sync_committer, "monotonic", lambda: times[0])
    return times


BUSY: dict[str, Callable[[Scene], object]] = {
    "has a leader": lambda scene: setattr(scene.queue, "leader", object()),
    "has requests": lambda scene: scene.queue.add(SyncPendingRequest(ONE, scene.queue)),
    "is unreadable": lambda scene: setattr(scene.queue, "state", BucketState(unreadable={"requests": "?"})),
    "has a pace": lambda scene: setattr(scene.queue, "pace", SteadyPace(1)),
    "has slots": lambda scene: scene.committer.open_slots(KEY),
    "was refused lately": lambda scene: setattr(scene.queue, "denied", NOW - 9),
    "does not answer": Scene.open_breaker,
}


@pytest.mark.parametrize("why", BUSY)
def test_a_bucket_that_is_not_at_rest_is_written_by_a_batch(scene: Scene, why: str) -> None:
    """One that is at rest is written at once."""
    scene.queue.denied, scene.queue.pace = NOW - 10, Pace(700, NANOSECONDS)
    assert scene.committer._is_at_rest(scene.queue, ONE) is True
    BUSY[why](scene)
    assert scene.committer._is_at_rest(scene.queue, ONE) is False


@pytest.mark.parametrize(
    "asked",
    [REFUND, ONE._replace(forced=True), ONE._replace(clear=("x",)), ONE._replace(pause=0), SLOTS],
    ids=["refund", "forced", "clear", "pause", "slots"],
)
def test_requests_of_other_kinds_are_written_by_a_batch(scene: Scene, asked: Request) -> None:
    """Also where the bucket is at rest."""
    assert scene.committer._is_at_rest(scene.queue, asked) is False


def test_a_linger_gathers_requests() -> None:
    """So no request is written at once."""
    scene = Scene(linger=1)
    assert scene.committer._is_at_rest(scene.queue, ONE) is False


def test_a_store_may_say_how_many_calls_it_takes(scene: Scene) -> None:
    """Otherwise there is a bound of the committer's own."""
    assert len(scene.committer.gate._free) == CALLS
    stage: Any = Stage(scene.time)
    stage.max_connections = 3
    assert len(SyncCommitter(stage, SyncCommitterOptions()).gate._free) == 3


def test_a_refusal_that_the_state_proves_costs_no_call(scene: Scene) -> None:
    """It counts as one for the time that refusals are remembered; the other buckets of the call are reported, if known."""
    scene.decide(ALL)
    scene.decide(ONE._replace(key=OTHER))
    (refused,) = scene.decide(ONE)
    assert isinstance(refused, Refusal)
    calls, hits = scene.stage.writes + scene.stage.reads, scene.counted("cache_hits")
    scene.time.now += 9
    for key, known in ((OTHER, NotTried), (BucketKey("default", "user", "new"), type(None))):
        outcomes = scene.decide(ONE, ONE._replace(key=key))
        assert [type(outcome) for outcome in outcomes] == [Refusal, known]
    assert (scene.queue.denied, scene.queue.leader, scene.queue.requests) == (scene.time.now, None, [])
    assert scene.stage.writes + scene.stage.reads == calls
    assert scene.counted("cache_hits") == hits + 2


def test_a_refusal_is_remembered_for_less_than_its_time(scene: Scene) -> None:
    """From then on requests queue up again, also where the state was seen later."""
    waiter = waiting(scene, ONE)
    scene.queue.state, scene.queue.seen = full(Scene()).state, NOW
    scene.queue.denied = NOW - 10
    assert scene.committer._deny(waiter, NOW) is False
    scene.queue.denied = NOW - 9
    assert scene.committer._deny(waiter, NOW) is True


def full(scene: Scene) -> SyncBucketQueue:
    """Return the queue of the bucket, after all was taken."""
    scene.decide(ALL)
    return scene.queue


DOUBTS: dict[str, Callable[[Scene, SyncPendingRequest], object]] = {
    "a refund is under way": lambda scene, pending: setattr(scene.queue, "returning", 1),
    "unreadable": lambda scene, pending: setattr(scene.queue, "state", BucketState(unreadable={"x": "?"})),
    "forced": lambda scene, pending: setattr(pending, "request", ONE._replace(forced=True)),
    "an order": lambda scene, pending: setattr(pending, "request", ONE._replace(pause=0)),
    "it gives back": lambda scene, pending: setattr(pending, "returns", True),
    "slots": lambda scene, pending: setattr(pending, "request", ONE._replace(slots=True)),
    "a clock that is wrong": lambda scene, pending: setattr(scene.time, "trusted", False),
    "long ago": lambda scene, pending: setattr(scene.queue, "seen", NOW - 10),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_state_proves_a_refusal_only_of_a_plain_request(scene: Scene, doubt: str) -> None:
    """Where something else may make room, or the state is not to be trusted, it proves nothing."""
    pending = SyncPendingRequest(ONE, full(scene))
    assert isinstance(scene.committer._look(pending, NOW), Refusal)
    DOUBTS[doubt](scene, pending)
    assert scene.committer._look(pending, NOW) is None


class Blocks(SimpleNamespace):
    """What is held of a bucket in advance, as the test says."""

    paid: Any
    until: int

    def __init__(self, paid: Grant | None = None, until: int = 0) -> None:
        super().__init__(paid=paid, until=until, observed=[])

    def covers(self, *_: object) -> bool:
        """Tell whether a block covers the request."""
        return self.paid is not None

    def pay(self, *_: object, noted: bool) -> Grant | None:
        """Pay."""
        found: Grant | None = self.paid
        return found

    def observe(self, request: Request, now: int) -> None:
        """Note what was asked for."""
        self.observed.append(request)

    def turn(self, *_: object) -> int:
        """Return until when is refused."""
        return self.until


def test_a_request_that_a_block_covers_is_not_refused(scene: Scene) -> None:
    """One that no block covers is refused until the process's turn, and counts as asked for."""
    allots, queue = ONE._replace(allots=True), full(scene)
    pending = SyncPendingRequest(allots, queue)
    blocks: Any = Blocks(until=NOW + 9 * NANOSECONDS)
    queue.allotments = blocks
    queue.state = BucketState()
    refusal = scene.committer._look(pending, NOW)
    assert isinstance(refusal, Refusal)
    assert (refusal.start, blocks.observed) == (NOW + 9 * NANOSECONDS, [allots])
    blocks.paid = Grant((), NOW)
    assert scene.committer._look(pending, NOW) is None


def test_a_block_pays_only_where_a_limit_allots_and_the_clock_is_right(scene: Scene) -> None:
    """A payment is counted as decided without a call."""
    blocks: Any = Blocks(paid=Grant((), NOW))
    scene.queue.allotments = blocks
    for allots, trusted, pays in ((True, True, True), (False, True, False), (True, False, False)):
        scene.time.trusted = trusted
        assert (scene.committer._pay(scene.queue, ONE._replace(allots=allots), NOW) is not None) is pays
    scene.time.trusted = True
    waiter = scene.enter(ONE._replace(allots=True))
    assert (waiter.pending, waiter.requests[0].outcome, waiter.to_lead) == (0, blocks.paid, ())
    assert scene.counted("cache_hits") == 1


def test_a_block_pays_at_once_for_a_request_alone(scene: Scene) -> None:
    """No caller waits for it. After a refusal it may have to be refused as well, so it queues."""
    blocks: Any = Blocks(paid=Grant((), NOW))
    scene.queue.allotments = blocks
    asked = ONE._replace(allots=True)
    assert scene.decide(asked) == [blocks.paid]
    assert (scene.counted("cache_hits"), scene.stage.writes) == (1, 0)
    for denied, paid in ((NOW - 10, blocks.paid), (NOW - 9, None)):
        scene.queue.denied = denied
        pending = SyncPendingRequest(asked, scene.queue)
        scene.committer._pay_at_once(pending)
        assert (pending.outcome, pending.done, pending.waiter) == (paid, paid is not None, None)
    assert scene.counted("cache_hits") == 2


def test_what_no_block_pays_for_is_noted_once(scene: Scene) -> None:
    """Where the clock is right."""
    blocks: Any = Blocks(paid=None)
    scene.queue.allotments = blocks
    for trusted, noted in ((True, 1), (False, 1)):
        scene.time.trusted = trusted
        asked = ONE._replace(allots=True)
        scene.committer._pay_at_once(SyncPendingRequest(asked, scene.queue))
        scene.enter(asked)
        assert len(blocks.observed) == noted


def test_a_block_pays_beside_slots(scene: Scene) -> None:
    """A process that holds slots of a bucket asks for its other limits as before."""
    scene.committer.open_slots(KEY)
    blocks: Any = Blocks(paid=Grant((), NOW))
    scene.queue.allotments = blocks
    assert scene.enter(ONE._replace(allots=True)).requests[0].outcome is blocks.paid


def test_a_spare_slot_is_handed_over_without_a_call(scene: Scene) -> None:
    """As a payment from a block, that counts as decided by what is known."""
    (held,) = scene.decide(SLOTS)
    scene.committer.open_slots(KEY).ledger.release(refund_of(KEY, held.receipts).refunds, NOW)
    waiter = scene.enter(SLOTS)
    assert (type(waiter.requests[0].outcome), waiter.pending, waiter.to_lead) == (Grant, 0, ())
    assert (scene.counted("cache_hits"), scene.stage.writes) == (1, 1)
    scene.committer.close()


def test_a_caller_leads_each_queue_without_a_leader(scene: Scene) -> None:
    """Later callers only queue up."""
    waiter = scene.enter(ONE, ONE._replace(key=OTHER))
    assert waiter.to_lead == (scene.queue, scene.committer._queue(OTHER))
    assert [queue.leader for queue in waiter.to_lead] == [waiter, waiter]
    later = scene.enter(ONE)
    assert (later.to_lead, later.pending, len(scene.queue.requests)) == ((), 1, 2)


def test_while_the_table_does_not_answer_no_request_queues_up(scene: Scene) -> None:
    """Each is refused at once, and the caller that tests the table is not waited for."""
    scene.open_breaker()
    waiter = scene.enter(ONE)
    assert isinstance(waiter.requests[0].outcome, CircuitOpen)
    assert (waiter.pending, waiter.to_lead, scene.queue.requests, scene.queue.leader) == (0, (), [], None)


def test_a_committer_knows_the_process_that_it_belongs_to(scene: Scene) -> None:
    """Leases ask it whether they are still there."""
    assert scene.committer.origin.is_current()
    assert not scene.committer.origin.is_forked()


def test_slots_of_a_bucket_that_has_none_are_lost(scene: Scene) -> None:
    """None was ever renewed."""
    assert scene.committer.has_lost(KEY, "calls", 1)
    assert scene.committer.last_renewal(KEY, "calls", 1) == 0
    scene.decide(SLOTS)
    assert not scene.committer.has_lost(KEY, "calls", 1)
    assert scene.committer.has_lost(KEY, "calls", 2)
    assert scene.committer.open_slots(KEY) is scene.queue.slots
    scene.committer.close()


def test_a_bucket_that_is_used_moves_behind_the_others(scene: Scene) -> None:
    """So the one that has not been used for longest is forgotten first."""
    scene.committer._queue(OTHER)
    scene.committer._queue(KEY)
    assert list(scene.committer._queues) == [OTHER, KEY]


def waiting(scene: Scene, *requests: Request) -> SyncWaiter:
    """Return a caller whose requests wait in queues that another leads."""
    for request in requests:
        scene.committer._queue(request.key).leader = object()
    return scene.enter(*requests)


def in_batch(scene: Scene, sent: float | None, *pendings: SyncPendingRequest, error: Exception | None = None) -> None:
    """Let a batch carry requests."""
    batch: Any = SimpleNamespace(sent=sent, requests=list(pendings), last_error=error, in_flight=(0, 0, 0))
    scene.queue.batch = batch
    scene.queue.requests = [each for each in scene.queue.requests if each not in pendings]


def test_a_request_may_be_undecided_until_its_own_call_has_taken_too_long(scene: Scene) -> None:
    """One that was not sent yet may wait as long as the table answers others."""
    (pending,) = waiting(scene, ONE).requests
    deadline = scene.committer._deadline
    scene.breaker.answered = 40.0
    assert deadline(pending, 5.0) == 45.0
    in_batch(scene, 50.0)
    assert deadline(pending, 5.0) == 45.0
    in_batch(scene, None, pending)
    assert deadline(pending, 5.0) == 45.0
    in_batch(scene, 50.0, pending)
    assert deadline(pending, 5.0) == 55.0
    scene.queue.batch, scene.queue.leader = None, pending
    assert deadline(pending, 5.0) == 0.0
    in_batch(scene, None, pending)
    assert deadline(pending, 5.0) == 45.0


def test_a_caller_waits_on_while_the_table_answers_all_its_calls(scene: Scene, monotonic: list[float]) -> None:
    """The earliest of the new deadlines counts; those of decided requests do not."""
    waiter = waiting(scene, ONE, ONE._replace(key=OTHER))
    waiter.expires = monotonic[0]
    scene.breaker.answered = 99.5
    assert scene.committer._may_wait_on(waiter)
    assert waiter.expires == 100.5
    in_batch(scene, 99.0, waiter.requests[0])
    assert not scene.committer._may_wait_on(waiter)
    assert waiter.expires == 100.0
    waiter.requests[0].done = True
    assert scene.committer._may_wait_on(waiter)
    waiter.requests[1].done = True
    assert not scene.committer._may_wait_on(waiter)


def test_a_caller_that_has_waited_for_too_long_leaves(scene: Scene, monotonic: list[float]) -> None:
    """What was not sent certainly had no effect; what was sent may be granted, and then goes back."""
    waiter = waiting(scene, ONE, ONE._replace(key=OTHER), ONE._replace(key=BucketKey("default", "user", "done")))
    sent, unsent, decided = waiter.requests
    cause = RateLimiterUnavailable("no answer")
    in_batch(scene, 50.0, sent, error=cause)
    decided.finish(None)
    scene.committer._abandon(waiter)
    for pending, queued in ((sent, False), (unsent, True)):
        assert isinstance(pending.outcome, RateLimiterUnavailable)
        assert (pending.outcome.unsent, pending.done, pending.abandoned) == (queued, queued, not queued)
    assert isinstance(sent.outcome, Exception)
    assert sent.outcome.__cause__ is cause
    assert isinstance(unsent.outcome, Exception)
    assert isinstance(unsent.outcome.__cause__, TimeoutError)
    assert (unsent.queue.requests, waiter.pending, decided.outcome, decided.abandoned) == ([], 0, None, False)


def test_a_caller_that_leaves_hands_over_what_it_was_to_lead(scene: Scene) -> None:
    """The next caller is woken; a queue without one is at rest again."""
    first = scene.enter(ONE, ONE._replace(key=OTHER))
    second = scene.enter(ONE)
    second.clear()
    scene.committer._abandon(first)
    assert (first.to_lead, second.to_lead, scene.queue.leader) == ((), (scene.queue,), second)
    assert second._wait(0.0)
    assert scene.committer._queue(OTHER).leader is None


def test_a_caller_looks_whether_the_table_answers_only_when_its_time_is_up(scene: Scene, monotonic: list[float]) -> None:
    """Before that it waits on, when it is woken for nothing; then it leaves."""
    waiter = waiting(scene, ONE)
    assert waiter.expires == 100.0 + scene.committer._writer.patience
    scene.breaker.answered = 0.0

    def later() -> None:
        monotonic[0] = waiter.expires - (2 - scene.waited) * 0.25

    scene.during = later
    scene.committer._wait(waiter)
    assert (scene.waited, waiter.pending, waiter.requests[0].done) == (2, 0, True)


def test_a_caller_that_is_told_does_not_wait_again(scene: Scene) -> None:
    """It leaves as soon as all of its requests are decided."""
    waiter = waiting(scene, ONE)
    waiter.set()
    scene.during = lambda: waiter.requests[0].finish(None)
    scene.committer._wait(waiter)
    assert scene.waited == 1


def test_an_interrupted_caller_leaves_nothing_in_the_queue_but_its_refunds(scene: Scene) -> None:
    """They stay without it, and are written by the next batch."""
    mixed = ONE._replace(key=OTHER, refunds=REFUND.refunds)
    requests = [ONE, mixed]
    waiter = waiting(scene, *requests)
    scene.committer._withdraw(waiter, requests)
    left = scene.committer._queue(OTHER)
    assert (scene.queue.requests, scene.queue.ahead, waiter.pending) == ([], 0, 0)
    assert [(each.request, each.waiter) for each in left.requests] == [(REFUND._replace(key=OTHER), None)]
    assert (left.returning, scene.waited, scene.counted("corrections_lost")) == (1, 0, 0)


def test_an_interrupted_caller_writes_its_refunds_where_no_other_leads(scene: Scene) -> None:
    """A queue that it was to lead passes to a waiting caller; one without a caller it leads to its end."""
    (taken,) = scene.decide(ALL)
    refund = refund_of(KEY, taken.receipts)
    waiter = scene.enter(refund, ONE._replace(key=OTHER))
    next_one = scene.enter(ONE._replace(key=OTHER))
    next_one.clear()
    scene.committer._withdraw(waiter, [])
    assert (scene.queue.leader, scene.queue.requests, waiter.to_lead) == (None, [], ())
    assert scene.queue.state.level(LIMIT.identity).tat <= NOW
    assert (next_one.to_lead, next_one._wait(0.0)) == ((scene.committer._queue(OTHER),), True)


def test_a_caller_that_was_interrupted_before_it_queued_up_still_gives_back(scene: Scene) -> None:
    """Its refunds are written; its charges were never made."""
    (taken,) = scene.decide(ALL)
    refund = refund_of(KEY, taken.receipts)
    waiter = scene.committer._waiter()
    scene.committer._withdraw(waiter, [refund, ONE._replace(key=OTHER)])
    assert [pending.done for pending in waiter.requests] == [True, True]
    assert scene.queue.state.level(LIMIT.identity).tat <= NOW
    assert (scene.queue.leader, scene.committer._queue(OTHER).leader, scene.stage.writes) == (None, None, 2)


def test_an_interrupted_caller_waits_for_what_was_sent(scene: Scene) -> None:
    """Its grant goes back."""
    (taken,) = scene.decide(ONE)
    waiter = waiting(scene, ONE)
    (pending,) = waiter.requests
    in_batch(scene, 90.0, pending)
    assert not scene.committer._may_wait_on(waiter)
    waiter.expires = 100.1
    waiter.set()
    scene.during = lambda: scene.queue.finish(pending, taken)
    given: list[Any] = []
    committer: Any = scene.committer
    committer.refund_grants = given.extend
    scene.committer._withdraw(waiter, [ONE])
    assert (scene.waited, given) == (1, [(KEY, taken)])


def test_an_interrupted_caller_waits_no_longer_than_the_table_may_take(scene: Scene, monotonic: list[float]) -> None:
    """What stays undecided may stay taken, and counts as lost."""
    waiter = waiting(scene, ONE)
    (pending,) = waiter.requests
    in_batch(scene, 99.9, pending)

    def later() -> None:
        monotonic[0] = waiter.expires

    scene.during = later
    scene.committer._withdraw(waiter, [ONE])
    assert (scene.waited, pending.abandoned, waiter.pending, scene.counted("corrections_lost")) == (1, True, 0, 1)


@pytest.mark.parametrize(("asked", "unsent", "lost"), [(ONE, True, 0), (ONE, False, 1), (REFUND, True, 1), (REFUND, False, 1)])
def test_what_an_interrupted_caller_loses(scene: Scene, asked: Request, unsent: bool, lost: int) -> None:
    """A refund that was not written, and units that may stay taken."""
    waiter = waiting(scene, asked)
    waiter.requests[0].outcome = RateLimiterUnavailable("no answer", unsent=unsent)
    scene.committer._record_lost(waiter)
    assert scene.counted("corrections_lost") == lost
    waiter.requests[0].outcome = LimiterError("broken")
    scene.committer._record_lost(waiter)
    assert scene.counted("corrections_lost") == lost


def test_only_refunds_are_written_back_and_the_result_is_told(scene: Scene) -> None:
    """An unreachable store is logged; any other error is raised, except at the end of the interpreter."""
    (taken,) = scene.decide(ONE)
    back = refund_of(KEY, taken.receipts)
    assert scene.committer.write_refunds([Request(KEY), back]) is True
    assert scene.stage.writes == 2
    assert scene.committer.write_refunds([]) is True
    scene.stage.before.append(fail_with(LimiterError("broken")))
    assert scene.committer.write_refunds([back]) is False
    assert scene.counted("corrections_lost") == 1


def test_a_bug_of_a_store_is_raised_by_refunds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while the interpreter shuts down, when a store may be unable to import what it needs."""
    (taken,) = scene.decide(ONE)
    back = refund_of(KEY, taken.receipts)
    scene.stage.before.append(fail_with(ImportError("too late")))
    with pytest.raises(ImportError):
        scene.committer.write_refunds([back])
    assert scene.counted("corrections_lost") == 0
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    scene.stage.before.append(fail_with(ImportError("too late")))
    assert scene.committer.write_refunds([back]) is False
    assert scene.counted("corrections_lost") == 1


def test_the_end_gives_back_some_buckets_at_a_time(scene: Scene) -> None:
    """Each of them in the time for a decision; those that hold nothing are not written."""
    sizes: list[int] = []

    def note(requests: Sequence[Request]) -> bool:
        sizes.append(len(requests))
        return True

    committer: Any = scene.committer
    committer.write_refunds = note
    for number in range(42):
        held: Any = SimpleNamespace(leave=lambda number=number: REFUND.refunds if number > 1 else ())
        scene.committer._queue(BucketKey("default", f"user-{number}", "api")).allotments = held
    scene.committer.close()
    assert sizes == [32, 8]


def test_the_end_stops_the_renewal_of_slots(scene: Scene) -> None:
    """None is renewed by itself any more. A renewal in progress is waited for as long as a decision may take."""
    stopped: list[float] = []
    scene.committer.open_slots(KEY)
    committer: Any = scene.committer
    committer._slots = SimpleNamespace(close=stopped.append, waiting=0)
    scene.committer.close()
    assert stopped == [scene.committer._writer.patience]


def test_a_decided_caller_is_not_left_to_the_garbage_collector(scene: Scene) -> None:
    """Hundreds of them a second would be."""
    made: list[weakref.ref[SyncWaiter]] = []
    enter = scene.committer._enter

    class Known(SyncWaiter):
        """A waiter that can be watched."""

    committer: Any = scene.committer
    committer._waiter = lambda: Known(100.0, 1.0)

    def note(waiter: SyncWaiter, requests: Sequence[Request]) -> None:
        made.append(weakref.ref(waiter))
        enter(waiter, requests)

    committer._enter = note
    gc.disable()
    try:
        scene.decide(ONE._replace(forced=True))
        assert made[0]() is None
    finally:
        gc.enable()


def test_a_refund_that_waits_without_a_caller_is_left_to_the_next_one(scene: Scene) -> None:
    """A caller that leaves does not keep the lead for it."""
    waiter = scene.enter(ONE)
    scene.queue.add(SyncPendingRequest(REFUND, scene.queue))
    scene.committer._abandon(waiter)
    assert (scene.queue.leader, len(scene.queue.requests)) == (None, 1)


def test_a_caller_that_wrote_at_once_waits_after_all(scene: Scene) -> None:
    """It has one waiter for that, if its request is in a queue by then; otherwise it asks anew."""
    pending = SyncPendingRequest(ONE, scene.queue)
    assert scene.committer._waiter_left(pending) is None
    pending.entered = True
    waiter = scene.committer._waiter_left(pending)
    assert waiter is not None
    assert (waiter.requests, waiter.pending, pending.waiter) == ((pending,), 1, waiter)
    scene.committer._join(pending)
    assert (scene.waited, pending.waiter) == (1, waiter)
    pending.done = True
    assert scene.committer._waiter_of(pending) is waiter
    assert waiter.pending == 0


@pytest.mark.parametrize("asked", [ONE, ONE._replace(forced=True)], ids=["at once", "by a batch"])
def test_an_interrupted_write_is_undone(scene: Scene, asked: Request) -> None:
    """Its units go back before the interruption goes on."""
    scene.decide(Request(KEY))
    scene.stage.after.append(fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        scene.decide(asked)
    assert scene.queue.state.level(LIMIT.identity).tat <= NOW
    assert (scene.queue.leader, scene.queue.requests, scene.counted("corrections_lost")) == (None, [], 0)


@pytest.mark.parametrize("entered", [False, True])
def test_a_caller_that_is_interrupted_before_its_write_hands_over(scene: Scene, entered: bool) -> None:
    """Once the write has begun, it goes on without the caller, and hands over itself."""
    pending = SyncPendingRequest(ONE, scene.queue)
    scene.queue.leader = pending
    later = scene.enter(ONE)
    waiter = scene.committer._waiter_of(pending)
    pending.entered = entered
    scene.during = lambda: pending.finish(None)
    scene.committer._withdraw(waiter, [ONE])
    assert scene.queue.leader is (pending if entered else later)
    assert (pending.done, waiter.to_lead) == (True, ())


@pytest.mark.parametrize("asked", [ONE, ONE._replace(forced=True)], ids=["at once", "by a batch"])
def test_an_error_of_the_undoing_does_not_hide_the_interruption(scene: Scene, asked: Request) -> None:
    """It is its cause."""
    committer: Any = scene.committer
    committer.refund_grants = lambda grants: fail_with(ZeroDivisionError("a bug"))()
    scene.stage.after.append(fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt) as raised:
        scene.decide(asked)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_only_a_single_request_is_written_at_once(scene: Scene) -> None:
    """Its caller makes nothing to be woken by. A caller with several leads by batches, and is told of all of them."""
    made: list[SyncWaiter] = []
    make, committer = scene.committer._waiter, scene.committer

    def note() -> SyncWaiter:
        made.append(make())
        return made[-1]

    committer._waiter = note  # type: ignore[method-assign] # the same, noted
    assert [type(outcome) for outcome in scene.decide(ONE)] == [Grant]
    assert made == []
    assert [type(outcome) for outcome in scene.decide(ONE, ONE._replace(key=OTHER))] == [Grant, Grant]
    assert len(made) == 1


def test_a_caller_that_leaves_passes_on_the_wake_up(scene: Scene) -> None:
    """It may be part of a relay without having waited."""
    behind, enter = SyncWakeup(), scene.committer._enter

    def note(waiter: SyncWaiter, requests: Sequence[Request]) -> None:
        waiter._behind = behind
        enter(waiter, requests)

    scene.committer._enter = note  # type: ignore[method-assign] # the same in a relay
    scene.decide(ONE._replace(forced=True))
    assert behind._wait(0.0)


def test_an_error_of_a_write_at_once_is_a_copy_with_its_cause(scene: Scene) -> None:
    """So tracebacks of callers do not mix."""
    error = LimiterError("broken")
    error.__cause__ = KeyError("why")
    scene.stage.before.append(fail_with(error))
    (outcome,) = scene.decide(ONE)
    assert isinstance(outcome, LimiterError)
    assert outcome is not error
    assert outcome.__cause__ is error.__cause__
