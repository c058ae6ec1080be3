"""Batches: how often a call is repeated, what stays in doubt, and what is left for the next batch."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from support.scenes import Stage, fail_with
from support.steady_pace import SteadyPace

from limiter import Limit, Throttled
from limiter.commit import sync_batch
from limiter.commit.allotment import Payment, Stock
from limiter.commit.breaker import THRESHOLD, Breaker
from limiter.commit.sync_batch import TRIED, WRITES_IN_PLENTY, SyncBatch
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest, SyncWaiter
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slots import SyncBucketSlots, SyncSlotKeeper
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core import plan as planning
from limiter.core.limits import gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Refusal, Request, refund_of
from limiter.core.state import BucketState, Level, WriteResult
from limiter.core.units import NANOSECONDS
from limiter.exceptions import CircuitOpen, RateLimiterUnavailable, UnreadableItem
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

SECOND = NANOSECONDS
NOW = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
LIMIT = Limit.per_hour("requests", 100)
ALLOTTED = Limit.per_hour("requests", 1_000, allotment=1.0)
SILENT = RateLimiterUnavailable("no answer")
UNSENT = RateLimiterUnavailable("no connection", unsent=True)
HOT = Throttled("a hot key", hot_key=True)


class Scene:
    """A bucket on a store that does what the test says, and a clock that goes on with each call and pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0, **options: Any) -> None:
        self.now = 1_000.0
        self.seconds = seconds
        self.pauses: list[float] = []
        self.backoffs: list[int] = []
        self.time = NOW
        self.stage = Stage(lambda: self.time)
        self.counters = Counters()
        made = SyncCommitterOptions(**options)
        self.writer = SyncBatchWriter(self.stage, threading.Lock(), Breaker(lambda: self.now), self.counters, SyncGate(1), made)
        self.queue = SyncBucketQueue(KEY)
        monkeypatch.setattr(sync_batch, "monotonic", lambda: self.now)
        monkeypatch.setattr(sync_batch, "time", SimpleNamespace(sleep=self.pause))
        monkeypatch.setattr(sync_batch, "sync_backoff", self.backoffs.append)

    def pause(self, seconds: float) -> None:
        """Pass over a pause."""
        self.pauses.append(seconds)
        self.now += seconds

    def failing(self, error: Exception, times: int = 100) -> None:
        """Let so many writes fail, each after a while."""

        def fail() -> None:
            self.now += self.seconds
            raise error

        self.stage.before += [fail] * times

    def ask(self, units: int = 1, waiter: SyncWaiter | None = None, **options: Any) -> SyncPendingRequest:
        """Queue a request."""
        request = Request(KEY, (Charge(LIMIT, units),), deadline=NOW)._replace(**options)
        pending = SyncPendingRequest(request, self.queue, waiter)
        self.queue.add(pending, NOW)
        return pending

    def batch(self) -> SyncBatch:
        """Make a batch of what is queued."""
        batch = SyncBatch(self.writer, self.queue, self.queue.requests)
        self.queue.batch, self.queue.requests = batch, []
        return batch


def busy(scene: Scene, limit: Limit = ALLOTTED, number: int = 1) -> SyncBatch:
    """Return a batch of requests that takes a block along."""
    request = Request(KEY, (Charge(limit, 1),), allots=True)
    for _ in range(100):
        scene.queue.observe(request, NOW)
    scene.queue.seen = NOW
    for _ in range(number):
        scene.ask(**request._asdict())
    batch = scene.batch()
    batch.blocks.place(batch.requests)
    assert len(batch.requests) == number + 1
    return batch


@pytest.mark.parametrize(("seconds", "writes"), [(0.0, 3), (0.26, 3), (0.27, 2), (0.39, 2), (0.41, 1)])
def test_a_call_is_repeated_as_long_as_another_one_is_likely_to_end_in_time(
    seconds: float, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times at most, if each may take as long as the last one: four fifths of a second are for all of them."""
    scene = Scene(monkeypatch, seconds)
    scene.failing(UNSENT)
    scene.ask()
    batch = scene.batch()
    with pytest.raises(RateLimiterUnavailable) as raised:
        batch.carry_out()
    assert (raised.value, batch.last_error) == (UNSENT, UNSENT)
    assert scene.stage.writes == writes
    assert (scene.backoffs, scene.pauses) == (list(range(1, writes)), [])
    assert (scene.counters.statistics("closed", None).failures, batch.sent) == (writes, 1_000.0)


@pytest.mark.parametrize(("interval", "writes"), [(0.12, 7), (0.3, 3), (0.5, 2), (0.9, 1)])
def test_a_write_to_a_hot_key_is_repeated_after_each_pause(interval: float, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often, while the next one comes in time; the pace says how long the pause is."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace(int(interval * SECOND))
    for turn in ("WRITES_A_TURN", "WRITES_IN_PLENTY"):
        monkeypatch.setattr(sync_batch, turn, 100)
    scene.failing(HOT)
    scene.ask()
    with pytest.raises(Throttled):
        scene.batch().carry_out()
    assert scene.stage.writes == writes
    assert (scene.pauses, scene.backoffs) == ([interval] * (writes - 1), [])


def test_who_came_during_a_pause_shares_the_next_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is queued while a call fails need not wait for a write of its own."""
    scene, later = Scene(monkeypatch), []

    def fail() -> None:
        later.append(scene.ask())
        raise UNSENT

    scene.stage.before.append(fail)
    first = scene.ask()
    scene.batch().carry_out()
    assert scene.stage.writes == 2
    assert isinstance(first.outcome, Grant)
    assert isinstance(later[0].outcome, Grant)


def test_an_answer_ends_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers that give up later are told no failure that is over."""
    scene = Scene(monkeypatch)
    scene.failing(UNSENT, 1)
    scene.ask()
    batch = scene.batch()
    assert batch.last_error is None
    batch.carry_out()
    assert batch.last_error is None
    assert scene.writer.breaker.answered == 1_000.0


def test_a_batch_takes_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest stays in the queue, in its order."""
    monkeypatch.setattr(sync_batch, "MAX_BATCH", 3)
    scene = Scene(monkeypatch)
    first = scene.ask()
    batch, later = scene.batch(), [scene.ask() for _ in range(3)]
    batch.gather_more()
    assert (batch.requests, scene.queue.requests) == ([first, *later[:2]], later[2:])


@pytest.mark.parametrize("paced", [True, False])
def test_a_write_in_doubt_is_cleared_up_in_the_same_turn(paced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may have been written is not left to another batch, which would not know of it."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace() if paced else None
    scene.queue.denied, scene.queue.seen = NOW, NOW
    scene.failing(SILENT, 2)
    pendings = [scene.ask() for _ in range(3)]
    scene.batch().carry_out()
    assert (scene.stage.writes, scene.stage.reads) == (3, 2)
    assert all(isinstance(pending.outcome, Grant) for pending in pendings)


def test_a_repeated_write_carries_what_it_carried_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace's part is taken of the requests once, not of those that a lost write has carried once more."""
    scene, done = Scene(monkeypatch), []
    scene.queue.pace = SteadyPace(0, part=0.5)
    scene.queue.denied, scene.queue.seen = NOW, NOW
    scene.failing(SILENT, 1)
    pendings = [scene.ask() for _ in range(8)]
    scene.stage.before += [lambda: done.append([pending.done for pending in pendings].count(True))] * 3
    scene.batch().carry_out()
    assert done == [0, 4, 6]


def test_requests_whose_callers_have_gone_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they give something back. They stand in the way of no other."""
    scene = Scene(monkeypatch)
    gone, other = scene.ask(), scene.ask()
    refund = scene.ask(charges=(), refunds=(Refund(LIMIT, 1, 0),))
    batch = scene.batch()
    gone.abandoned = refund.abandoned = True
    batch.carry_out()
    assert (gone.done, gone.outcome, refund.done, isinstance(other.outcome, Grant)) == (True, None, True, True)
    assert (scene.queue.ahead, scene.queue.returning) == (0, 0)
    assert scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat == NOW + gcra.cost(LIMIT, 1)


def test_a_refund_of_a_bucket_that_was_never_seen_is_planned_after_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is worth depends on the state; a charge beside it would be written without it."""
    scene = Scene(monkeypatch)
    (taken,) = SyncCommitter(scene.stage, SyncCommitterOptions()).decide([Request(KEY, (Charge(LIMIT, 10),))])
    assert isinstance(taken, Grant)
    before = scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat
    scene.ask()
    scene.ask(charges=(), refunds=refund_of(KEY, taken.receipts).refunds)
    scene.batch().carry_out()
    assert scene.stage.reads == 1
    assert before - scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat == gcra.cost(LIMIT, 9)


def test_each_call_is_counted_and_each_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and repeated writes are calls of the same batch."""
    scene = Scene(monkeypatch)
    scene.failing(SILENT, 1)
    scene.failing(UNSENT, 1)
    scene.ask()
    scene.batch().carry_out()
    counted = scene.counters.statistics("closed", None)
    assert (counted.calls, counted.batches) == (scene.stage.writes + scene.stage.reads, 1) == (4, 1)


def test_who_came_during_the_write_of_a_block_is_paid_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a write of its own, up to the first request that no block covers."""
    scene, later = Scene(monkeypatch), list[SyncPendingRequest]()
    batch = busy(scene)
    request = batch.requests[0].request
    plain = request._replace(charges=(Charge(LIMIT, 1),), allots=False)
    scene.stage.before.append(lambda: later.extend(scene.ask(**each._asdict()) for each in (request, request, plain, request)))
    batch.carry_out()
    batch.keep_blocks()
    assert [isinstance(pending.outcome, Payment) for pending in later] == [True, True, False, False]
    assert scene.queue.requests == later[2:]
    assert scene.counters.statistics("closed", None).cache_hits == 2


def test_refunds_that_a_failed_batch_has_not_written_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without a caller; a caller that waits for its own is told by the error."""
    scene = Scene(monkeypatch)
    waiter = SyncWaiter(0.0, 1.0)
    waiter.pending = 1
    refund = Refund(LIMIT, gcra.cost(LIMIT, 2), 0)
    pendings = [scene.ask(charges=(), refunds=(refund,), waiter=each) for each in (None, waiter)]
    pendings.append(scene.ask())
    scene.batch().fail(SILENT)
    assert [pending.outcome for pending in pendings] == [SILENT] * 3
    assert (scene.counters.statistics("closed", None).corrections_lost, scene.queue.returning) == (1, 0)


def test_a_limit_that_cannot_be_read_fails_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of the batch are decided."""
    scene, other = Scene(monkeypatch), Limit.per_hour("others", 100)
    state = BucketState(stamp="seen", unreadable={LIMIT.identity: "no number"})
    scene.queue.state, scene.queue.seen = state, NOW
    monkeypatch.setattr(scene.stage.inner, "read_bucket", lambda key: state)
    pendings = [scene.ask(), scene.ask(charges=(Charge(other, 1),))]
    scene.batch().carry_out()
    assert [type(pending.outcome) for pending in pendings] == [UnreadableItem, Grant]


def test_a_limit_that_has_become_unreadable_fails_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a lost write that carried others too, which is made again for those alone."""
    scene, other = Scene(monkeypatch), Limit.per_hour("others", 100)
    scene.queue.seen = NOW
    state = BucketState(unreadable={LIMIT.identity: "no number"})
    monkeypatch.setattr(scene.stage.inner, "read_bucket", lambda key: state)
    scene.failing(SILENT, 1)
    pendings = [scene.ask(), scene.ask(charges=(Charge(other, 1),))]
    scene.batch().carry_out()
    assert [type(pending.outcome) for pending in pendings] == [UnreadableItem, Grant]
    monkeypatch.undo()
    state = scene.stage.inner.read_bucket(KEY)
    assert [state.level(limit.identity).tat > NOW for limit in (LIMIT, other)] == [False, True]


def test_a_write_that_others_have_covered_twice_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its units may have been taken twice, which is counted as one loss."""
    scene = Scene(monkeypatch)

    def cover() -> None:
        for _ in range(3):
            SyncCommitter(scene.stage.inner, SyncCommitterOptions()).decide([Request(KEY, (Charge(LIMIT, 1),))])

    cover()
    scene.queue.state, scene.queue.seen = scene.stage.inner.read_bucket(KEY), NOW
    scene.failing(SILENT, 2)
    scene.stage.looking += [cover, cover]
    pending = scene.ask()
    scene.batch().carry_out()
    assert isinstance(pending.outcome, RateLimiterUnavailable)
    assert "two writes to" in str(pending.outcome)
    assert (scene.stage.writes, scene.counters.statistics("closed", None).corrections_lost) == (2, 1)
    assert [record.__dict__["units"] for record in caplog.records] == [{"requests": 1}]
    assert "which may have been applied" in caplog.records[0].message


def test_grants_of_a_write_that_was_made_again_regard_both_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unknown which of the two was applied, since they have the same stamp."""
    scene, told = Scene(monkeypatch), list[tuple[int, int | None]]()
    grants = planning.Plan.grants

    def note(plan: planning.Plan, after: BucketState, sent_first: planning.Plan | None = None) -> dict[int, Grant]:
        told.append((plan.now - NOW, None if sent_first is None else sent_first.now - NOW))
        return grants(plan, after, sent_first)

    def lose() -> None:
        scene.time += 5
        raise SILENT

    monkeypatch.setattr(planning.Plan, "grants", note)
    scene.queue.seen = NOW
    scene.stage.before.append(lose)
    for _ in range(2):
        scene.ask()
        scene.batch().carry_out()
    assert told == [(5, 0), (5, 5)]


def test_refunds_of_a_lost_write_are_not_made_twice(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """They are told as lost, since the write may still arrive; the charges beside them are made."""
    scene = Scene(monkeypatch)
    (taken,) = SyncCommitter(scene.stage.inner, SyncCommitterOptions()).decide([Request(KEY, (Charge(LIMIT, 10),))])
    assert isinstance(taken, Grant)
    scene.queue.state, scene.queue.seen = scene.stage.inner.read_bucket(KEY), NOW
    scene.failing(SILENT, 1)
    pending = scene.ask(2, refunds=refund_of(KEY, taken.receipts).refunds)
    scene.batch().carry_out()
    assert isinstance(pending.outcome, Grant)
    assert scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat == NOW + gcra.cost(LIMIT, 12)
    assert [record.__dict__["units"] for record in caplog.records] == [{"requests": 10}]
    assert "which was not applied" in caplog.records[0].message


def test_who_does_not_fit_beside_others_is_refused_by_the_time_of_their_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the answer takes, in which the bucket refills."""
    scene = Scene(monkeypatch)

    def wait() -> None:
        scene.time += 3_600 * SECOND

    scene.stage.before.append(wait)
    pendings = [scene.ask(60) for _ in range(2)]
    scene.batch().carry_out()
    assert [type(pending.outcome) for pending in pendings] == [Grant, Refusal]
    assert scene.queue.denied == NOW


@pytest.mark.parametrize(("number", "crowd"), [(4, False), (5, True)])
def test_a_crowd_that_was_decided_is_remembered(number: int, crowd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next leader waits until its threads are awake."""
    scene = Scene(monkeypatch)
    for _ in range(number):
        waiter = SyncWaiter(0.0, 1.0)
        waiter.pending = 1
        scene.ask(waiter=waiter)
    scene.batch().carry_out()
    assert (scene.queue.relay is not None) == crowd


def test_who_came_during_the_last_write_of_a_turn_is_refused_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little is free, it need not wait for the next turn to learn that."""
    scene, later = Scene(monkeypatch), list[SyncPendingRequest]()
    scene.queue.pace = SteadyPace(SECOND // 2)

    def rival(units: int, *, ask: bool = False) -> None:
        (taken,) = SyncCommitter(scene.stage.inner, SyncCommitterOptions()).decide([Request(KEY, (Charge(ALLOTTED, units),))])
        assert isinstance(taken, Grant)
        if ask:
            later.append(scene.ask(charges=(Charge(ALLOTTED, 1),), allots=True))

    rival(900)
    scene.queue.state = scene.stage.inner.read_bucket(KEY)
    scene.stage.before += [partial(rival, 50), partial(rival, 30, ask=True)]
    batch = busy(scene, number=60)
    batch.carry_out()
    assert scene.stage.writes == 2
    assert isinstance(later[0].outcome, Refusal)


def test_a_request_for_no_write_of_slots_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another write has freed or renewed the slots before its batch began."""
    scene = Scene(monkeypatch)
    scene.queue.slots = SyncBucketSlots(SyncSlotKeeper(lambda: NOW, list, scene.writer.lock), scene.queue)
    pending = scene.ask(charges=(), slots=True)
    scene.batch().carry_out()
    assert (pending.outcome, scene.stage.reads, scene.stage.writes) == (Grant((), NOW), 0, 0)


def test_a_batch_that_waits_until_the_breaker_opens_makes_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its callers are told that the store does not answer others, and that nothing was written."""
    scene = Scene(monkeypatch)
    pending = scene.ask()

    class Line(SyncGate):
        """A gate in whose line the store falls silent."""

        @property
        def is_full(self) -> bool:
            return True

        def __enter__(self) -> None:
            for _ in range(THRESHOLD):
                with suppress(RateLimiterUnavailable), scene.writer.breaker.guard():
                    raise SILENT

    scene.writer.gate = Line(1)
    with pytest.raises(CircuitOpen) as raised:
        scene.batch().carry_out()
    assert (raised.value.unsent, scene.stage.writes, scene.stage.reads, pending.done) == (True, 0, 0, False)
    assert scene.writer.breaker.state == "open"


def test_a_block_that_an_applied_write_has_not_carried_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the pace lets a write carry a part, the rest of the requests comes next, and not the units in advance."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace(0, part=0.5)
    scene.queue.denied = NOW
    batch, notes = busy(scene, number=7), list[bool]()
    monkeypatch.setattr(Stock, "note", lambda _stock, _count, *, granted: notes.append(granted))
    batch.carry_out()
    batch.keep_blocks()
    assert notes == []
    assert scene.stage.inner.read_bucket(KEY).level(ALLOTTED.identity).tat == NOW + gcra.cost(ALLOTTED, 7)


def test_nothing_is_paid_by_a_clock_that_cannot_be_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block may have ended already."""

    class Clock:
        trusted = False

        def __call__(self) -> int:
            return NOW

    scene = Scene(monkeypatch)
    batch = busy(scene)
    batch.carry_out()
    later = scene.ask(charges=(Charge(ALLOTTED, 1),), allots=True)
    scene.writer.clock = Clock()
    batch.keep_blocks()
    assert not later.done
    scene.writer.clock = lambda: NOW
    batch.keep_blocks()
    assert later.done


def test_what_a_batch_has_seen_refuses_others_until_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If little is free, and many processes write, when it ends."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace(SECOND // 2)
    SyncCommitter(scene.stage, SyncCommitterOptions()).decide([Request(KEY, (Charge(ALLOTTED, 990),))])
    batch = busy(scene)
    batch.carry_out()
    request = Request(KEY, (Charge(ALLOTTED, 1),), allots=True)
    assert scene.queue.turned_away(request, NOW, 0) is None
    batch.keep_blocks()
    assert isinstance(scene.queue.turned_away(request, NOW, 0), Refusal)


def test_a_call_that_is_likely_to_end_just_in_time_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a decision includes its end."""
    scene = Scene(monkeypatch, seconds=0.5, patience=1.0 / TRIED)
    scene.failing(UNSENT)
    scene.ask()
    with pytest.raises(RateLimiterUnavailable):
        scene.batch().carry_out()
    assert scene.stage.writes == 2


def test_a_batch_leaves_its_rest_before_those_that_did_not_fit_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is left out, and all keep their order."""
    monkeypatch.setattr(sync_batch, "MAX_BATCH", 3)
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace()
    scene.failing(HOT, WRITES_IN_PLENTY)
    pendings = [scene.ask() for _ in range(3)]
    batch = scene.batch()
    pendings += [scene.ask() for _ in range(2)]
    batch.carry_out()
    assert (scene.stage.writes, batch.requests, scene.queue.requests) == (WRITES_IN_PLENTY, [], pendings)


def test_a_turn_ends_once_a_lost_write_has_been_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is in doubt any more, and the rest waits for the next turn."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace(part=0.5)
    scene.queue.denied, scene.queue.seen = NOW, NOW
    scene.failing(SILENT, 1)
    pendings = [scene.ask() for _ in range(8)]
    scene.batch().carry_out()
    assert (scene.stage.writes, scene.queue.requests) == (2, pendings[4:])


@pytest.mark.parametrize("is_open", [False, True])
def test_an_error_after_a_lost_write_leaves_it_in_doubt(is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the last call had no effect. The cause is what the store did, not that it was not asked."""
    scene = Scene(monkeypatch)
    scene.failing(SILENT, 1)
    scene.stage.looking += [fail_with(UNSENT)] * 2
    pending = scene.ask()
    batch = scene.batch()
    with pytest.raises(RateLimiterUnavailable):
        batch.carry_out()
    error: RateLimiterUnavailable = UNSENT
    if is_open:
        error = CircuitOpen("the table has not answered")
        error.__cause__ = SILENT
    batch.fail(error)
    assert isinstance(pending.outcome, RateLimiterUnavailable)
    assert (str(pending.outcome), pending.outcome.unsent) == (str(error), False)
    assert pending.outcome.__cause__ is (SILENT if is_open else UNSENT)
    assert type(pending.outcome) is RateLimiterUnavailable


def test_units_in_advance_that_a_hot_key_has_not_granted_are_no_defeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next block is as large."""
    scene, notes = Scene(monkeypatch), list[bool]()
    scene.queue.pace = SteadyPace()
    scene.failing(HOT, WRITES_IN_PLENTY)
    batch = busy(scene)
    monkeypatch.setattr(Stock, "note", lambda _stock, _count, *, granted: notes.append(granted))
    batch.carry_out()
    batch.keep_blocks()
    assert (notes, len(scene.queue.requests)) == ([], 1)


class Counted(SyncGate):
    """A gate that counts who passes."""

    entries = 0

    def try_enter(self) -> bool:
        """Let a caller in."""
        self.entries += 1
        return super().try_enter()


def test_a_batch_passes_the_gate_once_for_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other buckets need not stand behind what has been decided."""
    scene = Scene(monkeypatch)
    scene.writer.gate = gate = Counted(1)
    scene.failing(UNSENT, 1)
    scene.ask()
    scene.batch().carry_out()
    assert (gate.entries, scene.stage.writes) == (2, 2)


def test_a_batch_ends_once_all_but_its_block_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a block that a write has not carried it does not come back to the gate."""
    scene = Scene(monkeypatch)
    scene.writer.gate = gate = Counted(1)
    scene.queue.pace = SteadyPace(0, part=0.9)
    scene.queue.denied = NOW
    batch = busy(scene, number=7)
    batch.carry_out()
    assert (gate.entries, scene.stage.writes) == (1, 1)


def test_a_batch_that_is_overtaken_again_and_again_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it was written."""
    monkeypatch.setattr(sync_batch, "MAX_ROUNDS", 3)
    scene = Scene(monkeypatch)
    store = scene.stage.inner
    monkeypatch.setattr(store, "write_bucket", lambda key, update: WriteResult(False, store.read_bucket(key)))
    scene.ask()
    with pytest.raises(RateLimiterUnavailable, match=r"3 writes to .* were overtaken by other processes") as raised:
        scene.batch().carry_out()
    assert (scene.stage.writes, raised.value.unsent) == (3, True)


def test_who_has_gone_is_not_left_for_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands in the way of no other."""
    scene = Scene(monkeypatch)
    scene.queue.pace = SteadyPace()
    scene.failing(HOT, WRITES_IN_PLENTY)
    gone, other = scene.ask(), scene.ask()

    def leave() -> None:
        gone.abandoned = True
        raise HOT

    scene.stage.before[-1] = leave
    scene.batch().carry_out()
    assert (gone.done, scene.queue.requests, scene.queue.ahead) == (True, [other], 1)


def test_a_batch_tells_of_two_rates_of_one_name(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As a write at once does."""
    scene = Scene(monkeypatch)
    for number in (10, 20, 10):
        scene.ask(charges=(Charge(Limit.per_minute("requests", number), 1),))
        scene.batch().carry_out()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "user/api is used with two rates or periods of one name at once"
    ]


def test_a_refusal_from_memory_is_no_answer_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no call, so it neither ends a row of failures nor renews anybody's time."""
    scene = Scene(monkeypatch, denial_ttl=SECOND)
    scene.queue.state = BucketState({LIMIT.identity: Level(NOW + LIMIT.depth, NOW)}, stamp="seen")
    scene.queue.seen = NOW
    with suppress(RateLimiterUnavailable), scene.writer.breaker.guard():
        raise SILENT
    refused = scene.ask()
    scene.batch().carry_out()
    assert isinstance(refused.outcome, Refusal)
    assert (scene.stage.writes, scene.stage.reads) == (0, 0)
    assert (scene.writer.breaker.failures, scene.writer.breaker.answered) == (1, 0.0)


def test_a_test_of_the_store_without_an_answer_leaves_the_breaker_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its only call fails, and its caller leaves before the next one: another caller tests the store."""
    scene = Scene(monkeypatch)
    breaker = scene.writer.breaker = Breaker(lambda: scene.now, lambda: 1.0)
    for _ in range(3):
        with suppress(RateLimiterUnavailable), breaker.guard():
            raise SILENT
    scene.now += 1
    gone = scene.ask()

    def fail() -> None:
        gone.abandoned = True
        raise UNSENT

    scene.stage.before.append(fail)
    scene.batch().carry_out()
    assert (gone.done, scene.stage.writes) == (True, 1)
    assert (breaker.state, breaker.failures) == ("open", 3)
    assert breaker.refusal() is None
