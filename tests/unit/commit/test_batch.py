"""Batches: how often a call is repeated, what stays in doubt, and what is left for the next batch."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from support.scenes import Stage

from limiter import Limit, Throttled
from limiter.commit import sync_batch
from limiter.commit.breaker import Breaker
from limiter.commit.sync_batch import SyncBatch
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest, SyncWaiter
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core.pace import Pace
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Request
from limiter.core.units import NANOSECONDS
from limiter.exceptions import RateLimiterUnavailable
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

SECOND = NANOSECONDS
NOW = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
LIMIT = Limit.per_hour("requests", 100)
SILENT = RateLimiterUnavailable("no answer")
UNSENT = RateLimiterUnavailable("no connection", unsent=True)
HOT = Throttled("a hot key", hot_key=True)


class Steady(Pace):
    """A pace that demands the same wait each time."""

    def __init__(self, interval: int = SECOND // 10, part: float = 1.0) -> None:
        super().__init__(700, SECOND)
        self._interval = interval
        self._kept = part

    @property
    def interval(self) -> int:
        """The interval."""
        return self._interval

    @property
    def part(self) -> float:
        """The part that a write carries."""
        return self._kept

    def wait(self) -> int:
        """Return the interval."""
        return self._interval

    def note(self, count: int, now: int, *, applied: bool) -> None:
        """Learn nothing."""

    def note_throttled(self, now: int) -> None:
        """Learn nothing."""


class Scene:
    """A bucket on a store that does what the test says, and a clock that goes on with each call and pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0, **options: Any) -> None:
        self.now = 1_000.0
        self.seconds = seconds
        self.pauses: list[float] = []
        self.backoffs: list[int] = []
        self.stage = Stage(lambda: NOW)
        self.counters = Counters()
        made = SyncCommitterOptions(**options)
        self.writer = SyncBatchWriter(self.stage, threading.Lock(), Breaker(), self.counters, SyncGate(1), made)
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
    scene.queue.pace = Steady(int(interval * SECOND))
    monkeypatch.setattr(sync_batch, "WRITES_A_TURN", 100)
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
    batch.carry_out()
    assert batch.last_error is None


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
    scene.queue.pace = Steady() if paced else None
    scene.queue.denied, scene.queue.seen = NOW, NOW
    scene.failing(SILENT, 2)
    pendings = [scene.ask() for _ in range(3)]
    scene.batch().carry_out()
    assert (scene.stage.writes, scene.stage.reads) == (3, 2)
    assert all(isinstance(pending.outcome, Grant) for pending in pendings)


def test_a_repeated_write_carries_what_it_carried_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace's part is taken of the requests once, not of those that a lost write has carried once more."""
    scene, done = Scene(monkeypatch), []
    scene.queue.pace = Steady(0, part=0.5)
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
    used = scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat
    SyncCommitter(scene.stage, SyncCommitterOptions()).decide([Request(KEY, (Charge(LIMIT, 1),))])
    assert scene.stage.inner.read_bucket(KEY).level(LIMIT.identity).tat - used == LIMIT.period_ns // 100  # ONE
