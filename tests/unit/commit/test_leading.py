"""Leaders: a write without a batch, how requests gather before a batch, and who leads next."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from support.scenes import Stage, fail_with

from limiter import Limit
from limiter.commit import sync_batch, sync_leading
from limiter.commit.breaker import Breaker
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest, SyncWaiter
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_leading import GATHERING, SyncLeader
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core.pace import ATTEMPT, Pace
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Request
from limiter.core.state import TTL, Condition, Update, WriteResult
from limiter.core.units import NANOSECONDS
from limiter.exceptions import RateLimiterUnavailable
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

SECOND = NANOSECONDS
NOW = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
LIMIT = Limit.per_minute("requests", 10)


class Scene:
    """A bucket on a store that does what the test says, and its leader."""

    def __init__(self, gate: SyncGate | None = None, **options: Any) -> None:
        self.stage = Stage(lambda: NOW)
        self.gate = gate or SyncGate(1)
        self.counters = Counters()
        made = SyncCommitterOptions(**options)
        self.writer = SyncBatchWriter(self.stage, threading.Lock(), Breaker(), self.counters, self.gate, made)
        self.leader = SyncLeader(self.writer, made)
        self.queue = SyncBucketQueue(KEY)

    def ask(self, waiter: SyncWaiter | None = None, limit: Limit = LIMIT, deadline: int = NOW) -> SyncPendingRequest:
        """Queue a request for one unit."""
        pending = SyncPendingRequest(Request(KEY, (Charge(limit, 1),), deadline=deadline), self.queue, waiter)
        self.queue.add(pending, NOW)
        return pending

    def ask_at_once(self) -> SyncPendingRequest:
        """Let a request lead that finds the bucket at rest."""
        pending = SyncPendingRequest(Request(KEY, (Charge(LIMIT, 1),), deadline=NOW), self.queue)
        self.queue.leader = pending
        return pending

    def lead(self, waiter: SyncWaiter | None = None) -> None:
        """Lead the queue for a caller."""
        self.queue.leader = waiter = waiter or SyncWaiter(0.0, 1.0)
        self.leader.lead(self.queue, waiter)


def used_up(scene: Scene, limit: Limit) -> None:
    """Let the process have seen that nothing of a limit is free."""
    full = Request(KEY, (Charge(limit, limit.capacity),), deadline=NOW)
    assert isinstance(SyncCommitter(scene.stage, SyncCommitterOptions()).decide([full])[0], Grant)
    scene.stage.writes = 0
    scene.queue.state, scene.queue.seen = scene.stage.inner.read_bucket(KEY), NOW


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds for which leaders have paused."""
    found: list[float] = []
    monkeypatch.setattr(sync_leading, "time", SimpleNamespace(sleep=found.append))
    return found


def test_a_caller_leads_while_its_batch_is_carried_out_and_not_after_it() -> None:
    """Then it may be chosen again; the queues that it has still to lead stay."""
    scene, other, seen = Scene(), SyncBucketQueue(KEY._replace(resource="other")), list[Any]()
    waiter: Any = SyncWaiter(0.0, 1.0)
    waiter.to_lead, waiter.pending = (scene.queue, other), 1
    pending = scene.ask(waiter)
    scene.stage.before.append(lambda: seen.append((waiter.leading, waiter.to_lead)))
    scene.lead(waiter)
    assert isinstance(pending.outcome, Grant)
    assert seen == [(1, (other,))]
    assert (waiter.leading, waiter.to_lead, scene.queue.leader, scene.queue.batch) == (0, (other,), None, None)


def test_a_leader_goes_on_until_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no caller can lead the rest, each batch takes as many as fit into one, in their order."""
    monkeypatch.setattr(sync_leading, "MAX_BATCH", 2)
    monkeypatch.setattr(sync_batch, "MAX_BATCH", 2)
    scene, done = Scene(), []
    pendings = [scene.ask() for _ in range(5)]
    scene.stage.before += [lambda: done.append([pending.done for pending in pendings].count(True))] * 3
    scene.lead()
    assert (done, scene.stage.writes) == ([0, 2, 4], 3)
    assert scene.queue.leader is None


@pytest.mark.parametrize(("number", "pauses"), [(2, [0.5]), (3, [])])
def test_who_fills_a_batch_waits_for_no_others(
    number: int, pauses: list[float], paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval between two writes lets requests gather, and a full batch has no room for more."""
    monkeypatch.setattr(sync_leading, "MAX_BATCH", 3)
    scene = Scene(linger=SECOND)
    scene.queue.wrote = NOW - SECOND // 2
    for _ in range(number):
        scene.ask()
    scene.lead()
    assert paused[:1] == pauses


def test_a_leader_sleeps_as_its_process_does(paused: list[float]) -> None:
    """An injected clock passes over the interval too."""
    slept: list[float] = []
    scene = Scene(linger=SECOND, sleep=slept.append)
    scene.queue.wrote = NOW
    scene.ask()
    scene.lead()
    assert (slept, paused) == ([1.0], [])


SOON = Limit.per_second("requests", 100, burst=1)


@pytest.mark.parametrize(
    ("limit", "deadlines", "ttl", "pauses"),
    [
        (LIMIT, [60, 60], 1, [GATHERING / NANOSECONDS]),
        (SOON, [60, 60], 1, [0.0025]),
        (LIMIT, [60], 1, []),
        (LIMIT, [60, 60, 60], 1, []),
        (LIMIT, [60, 0], 1, []),
        (LIMIT, [60, 60], 0, []),
    ],
    ids=["all wait", "not for long", "one", "as many as fit", "one does not wait", "not known"],
)
def test_requests_that_have_to_wait_anyway_gather(
    limit: Limit, deadlines: list[int], ttl: int, pauses: list[float], paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a quarter of the first one's wait, at most for a moment, if the state shows that all of a crowd have to wait."""
    monkeypatch.setattr(sync_leading, "MAX_BATCH", 3)
    scene = Scene(denial_ttl=ttl * SECOND)
    used_up(scene, limit)
    pendings = [scene.ask(limit=limit, deadline=NOW + seconds * SECOND) for seconds in deadlines]
    scene.lead()
    assert paused == pauses
    assert [isinstance(pending.outcome, Grant) for pending in pendings] == [seconds > 0 for seconds in deadlines]


def test_the_first_of_a_crowd_sets_how_long_it_gathers(paused: list[float]) -> None:
    """Others may wait for longer anyway."""
    scene, other = Scene(denial_ttl=SECOND), Limit.per_second("others", 100, burst=1)
    for limit in (LIMIT, other):
        used_up(scene, limit)
    scene.ask(limit=other, deadline=NOW + 60 * SECOND)
    scene.ask(limit=LIMIT, deadline=NOW + 60 * SECOND)
    scene.lead()
    assert paused == [0.0025]


def test_a_leader_waits_until_the_callers_of_the_last_batch_are_awake() -> None:
    """Once for each crowd, and not for long."""
    scene, settled = Scene(), list[float]()
    relay: Any = SimpleNamespace(settle=settled.append)
    scene.queue.relay = relay
    for _ in range(2):
        scene.ask()
        scene.lead()
    assert settled == [GATHERING / NANOSECONDS]


def test_a_request_alone_is_written_without_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes one place at the gate for the time of its call, counts as one call, and leaves the bucket at rest."""
    monkeypatch.setattr(sync_leading, "monotonic", lambda: 5.0)
    monkeypatch.setattr(sync_leading, "SyncBatch", None)
    scene, seen = Scene(), []
    pending = scene.ask_at_once()
    scene.stage.before.append(lambda: seen.append((scene.gate.is_full, scene.queue.wrote, pending.entered)))
    scene.leader.write_at_once(pending)
    assert seen == [(True, NOW, True)]
    assert isinstance(pending.outcome, Grant)
    assert (scene.queue.leader, scene.queue.batch, scene.queue.seen, scene.writer.breaker.answered) == (None, None, NOW, 5.0)
    assert (scene.gate.try_enter(), scene.gate.try_enter()) == (True, False)
    counted = scene.counters.statistics("closed", None)
    assert (counted.calls, counted.batches) == (1, 1)


def test_a_caller_that_waits_for_a_write_at_once_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an interrupted caller does, whose request is being written; no batch is made for that."""
    monkeypatch.setattr(sync_leading, "SyncBatch", None)
    scene, waiter = Scene(), SyncWaiter(0.0, 1.0)
    pending = scene.ask_at_once()
    pending.waiter, waiter.pending = waiter, 1
    scene.leader.write_at_once(pending)
    assert (isinstance(pending.outcome, Grant), waiter.pending, waiter._wait(0.0)) == (True, 0, True)


def test_writes_at_once_show_others_too() -> None:
    """A count that has grown by more than the own write begins a pace."""
    scene, others = Scene(), Scene()
    scene.stage.inner = others.stage.inner
    for writer in (scene.writer, others.writer):
        writer.attempt = ATTEMPT
    found = []
    for each in (scene, scene, others, scene):
        each.leader.write_at_once(each.ask_at_once())
        found.append(scene.queue.pace is not None)
    assert found == [False, False, False, True]
    assert scene.writer.toll(scene.queue) == ATTEMPT


def test_writes_at_once_show_that_others_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pace that demands no wait learns from each of them, also if no other has added to the count."""
    scene, notes = Scene(), list[bool]()
    scene.writer.attempt = ATTEMPT
    scene.leader.write_at_once(scene.ask_at_once())
    scene.queue.pace = Pace(700, SECOND)
    monkeypatch.setattr(Pace, "note", lambda pace, count, now, *, applied: notes.append(applied))
    scene.leader.write_at_once(scene.ask_at_once())
    assert notes == [True]


def test_a_write_at_once_to_an_unknown_bucket_asserts_that_its_count_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item in which it is none then fails the condition, and not the call."""
    scene, asserted = Scene(), list[bool]()
    scene.writer.attempt = ATTEMPT
    write = scene.stage.inner.write_bucket

    def note(key: BucketKey, update: Update) -> WriteResult:
        asserted.append(Condition(TTL, "count", 0, None, absent=True) in update.conditions)
        return write(key, update)

    monkeypatch.setattr(scene.stage.inner, "write_bucket", note)
    for _ in range(2):
        scene.leader.write_at_once(scene.ask_at_once())
    assert asserted == [True, False]


def test_a_lost_write_at_once_that_others_have_covered_is_made_again() -> None:
    """Once, as that of a batch is."""
    scene = Scene()

    def cover() -> None:
        for _ in range(3):
            SyncCommitter(scene.stage.inner, SyncCommitterOptions()).decide([Request(KEY, (Charge(LIMIT, 1),))])

    cover()
    scene.queue.state, scene.queue.seen = scene.stage.inner.read_bucket(KEY), NOW
    scene.stage.before.append(fail_with(RateLimiterUnavailable("no answer")))
    scene.stage.looking.append(cover)
    pending = scene.ask_at_once()
    scene.leader.write_at_once(pending)
    assert (isinstance(pending.outcome, Grant), scene.stage.writes) == (True, 2)


def test_a_write_at_once_is_one_of_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If others overtake it, a batch writes once more, and leaves the request to the next turn."""
    scene = Scene()
    scene.queue.pace = Pace(700, SECOND)
    scene.queue.pace.note_throttled(NOW)
    scene.queue.denied = NOW
    store = scene.stage.inner
    monkeypatch.setattr(store, "write_bucket", lambda key, update: WriteResult(False, store.read_bucket(key)))
    pending, waiter = scene.ask_at_once(), SyncWaiter(0.0, 1.0)
    pending.waiter, waiter.pending = waiter, 1
    scene.leader.write_at_once(pending)
    assert (scene.stage.writes, scene.queue.requests, scene.queue.leader) == (2, [pending], waiter)


def test_a_request_shares_the_write_of_those_that_came_in_the_same_moment() -> None:
    """They were queued behind it before its write began."""
    scene = Scene()
    pending, others = scene.ask_at_once(), [scene.ask() for _ in range(2)]
    scene.leader.write_at_once(pending)
    assert scene.stage.writes == 1
    assert all(isinstance(each.outcome, Grant) for each in (pending, *others))
    assert scene.queue.leader is None
    assert (scene.gate.try_enter(), scene.gate.try_enter()) == (True, False)


class Busy(SyncGate):
    """A gate that was full for a moment."""

    turned_away = 0

    def try_enter(self) -> bool:
        """Let a caller in that comes a second time."""
        self.turned_away += 1
        return self.turned_away > 1 and super().try_enter()


def test_a_request_that_has_to_wait_at_the_gate_goes_on_in_a_batch() -> None:
    """It leaves the gate as often as it has entered."""
    gate = Busy(1)
    scene = Scene(gate)
    pending = scene.ask_at_once()
    scene.leader.write_at_once(pending)
    assert (isinstance(pending.outcome, Grant), scene.stage.writes) == (True, 1)
    assert (gate.try_enter(), gate.try_enter()) == (True, False)


@pytest.mark.parametrize("waiter", [SyncWaiter(0.0, 1.0), None])
def test_who_comes_while_a_request_is_written_at_once_leads_next(waiter: SyncWaiter | None) -> None:
    """Where no caller waits for what has come, such as refunds, the first one carries it out."""
    scene, came = Scene(), list[SyncPendingRequest]()
    pending = scene.ask_at_once()
    scene.stage.before.append(lambda: came.append(scene.ask(waiter)))
    scene.leader.write_at_once(pending)
    assert isinstance(pending.outcome, Grant)
    assert came[0].done == (waiter is None)
    assert scene.queue.leader is waiter


def test_a_request_that_was_interrupted_before_its_write_is_not_written() -> None:
    """Its caller has handed over, and another one leads."""
    scene = Scene()
    pending = scene.ask_at_once()
    scene.queue.leader = other = object()
    scene.leader.write_at_once(pending)
    assert (scene.stage.writes, scene.queue.leader, pending.done) == (0, other, False)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_interrupted_batch_is_finished_before_the_interruption_goes_on(at_once: bool) -> None:
    """Its requests are decided, and no caller leads any more, although others have come."""
    scene, came = Scene(), list[SyncPendingRequest]()

    def interrupt() -> None:
        came.append(scene.ask())
        raise KeyboardInterrupt

    scene.stage.before.append(interrupt)
    pending = scene.ask_at_once() if at_once else scene.ask()
    with pytest.raises(KeyboardInterrupt):
        scene.leader.write_at_once(pending) if at_once else scene.lead()
    assert isinstance(pending.outcome, Grant)
    assert (scene.queue.leader, scene.queue.batch, scene.queue.requests) == (None, None, came)
    assert (scene.gate.try_enter(), scene.gate.try_enter()) == (True, False)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_batch_that_is_interrupted_twice_fails(at_once: bool) -> None:
    """Its callers are told why, and the second interruption goes on."""
    scene = Scene()
    scene.stage.before += [fail_with(KeyboardInterrupt()), fail_with(SystemExit(1))]
    scene.stage.looking += [fail_with(SystemExit(1))]
    pending = scene.ask_at_once() if at_once else scene.ask()
    with pytest.raises(SystemExit):
        scene.leader.write_at_once(pending) if at_once else scene.lead()
    assert isinstance(pending.outcome, RateLimiterUnavailable)
    assert "the write of this batch was interrupted: SystemExit(1)" in str(pending.outcome)
    assert (scene.queue.leader, scene.queue.batch) == (None, None)


def test_a_lead_is_handed_over_once() -> None:
    """The next caller is woken, and leads the queue once; who does not lead hands nothing over."""
    scene, waiter, leader = Scene(), SyncWaiter(0.0, 1.0), object()
    scene.ask(waiter)
    scene.queue.leader = leader
    scene.leader.hand_over(scene.queue, object())
    assert (scene.queue.leader, waiter.to_lead, waiter._wait(0.0)) == (leader, (), False)
    scene.leader.hand_over(scene.queue, leader)
    assert (scene.queue.leader, waiter.to_lead, waiter._wait(0.0)) == (waiter, (scene.queue,), True)
    scene.leader.hand_over(scene.queue, waiter)
    assert (scene.queue.leader, waiter.to_lead, waiter._wait(0.0)) == (waiter, (scene.queue,), True)


@pytest.mark.parametrize(("stop", "queued", "keeps"), [(False, True, True), (True, True, False), (False, False, False)])
def test_a_leader_keeps_what_no_caller_waits_for(stop: bool, queued: bool, keeps: bool) -> None:
    """Refunds of callers that have gone are carried out by the leader, or left to the next caller if it stops."""
    scene, leader = Scene(), object()
    if queued:
        scene.queue.add(SyncPendingRequest(Request(KEY, refunds=(Refund(LIMIT, 1, 0),)), scene.queue), NOW)
    scene.queue.leader = leader
    scene.leader.hand_over(scene.queue, leader, stop=stop)
    assert scene.queue.leader is (leader if keeps else None)
    assert len(scene.queue.requests) == queued
