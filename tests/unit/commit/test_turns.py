"""Turns: while many processes write to a bucket, a batch writes a few times, and leaves or refuses the rest."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.steady_pace import SteadyPace

from limiter import Limit, SyncMemoryRepository, Throttled
from limiter.commit import sync_batch
from limiter.commit.breaker import Breaker
from limiter.commit.bucket_queue import BucketQueue
from limiter.commit.sync_batch import WRITES_IN_PLENTY, SyncBatch
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core.limits import gcra
from limiter.core.pace import Pace
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.state import BucketState, Level, WriteResult
from limiter.core.units import NANOSECONDS
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

if TYPE_CHECKING:
    from limiter.core.state import Update

SECOND = NANOSECONDS
NOW = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
TURN = SteadyPace().longest_wait
PLAIN = Limit.per_hour("requests", 100)
ALLOTTED = Limit.per_hour("requests", 100, allotment=1.0)


def request(limit: Limit, deadline: int = 0) -> Request:
    """Return a request for one unit."""
    return Request(KEY, (Charge(limit, 1),), deadline=deadline, allots=bool(limit.allotment_ns))


class Contested(SyncMemoryRepository):
    """A store on which another process takes units of the limit right before each write."""

    def __init__(self, limit: Limit, *taken: int) -> None:
        super().__init__()
        self._limit = limit
        self._taken = list(taken)
        self.writes = 0

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Let the other process write first."""
        self.writes += 1
        if self._taken:
            taken = Request(KEY, (Charge(self._limit, self._taken.pop(0)),))
            rival = SyncCommitter(Plain(self), SyncCommitterOptions())
            assert isinstance(rival.decide([taken])[0], Grant)
        return super().write_bucket(key, update)


class Fickle(SyncMemoryRepository):
    """A store in which so many writes find another bucket than they expected, although it has room for them."""

    def __init__(self, defeats: int) -> None:
        super().__init__()
        self.defeats = defeats
        self.writes = 0

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Defeat the write, or make it."""
        self.writes += 1
        if self.writes > self.defeats:
            return super().write_bucket(key, update)
        return WriteResult(False, self.read_bucket(key))


class Hot(SyncMemoryRepository):
    """A store that throttles the writes of a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = WRITES_IN_PLENTY

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Throttle, or write."""
        if self.refusals:
            self.refusals -= 1
            raise Throttled("a hot key", hot_key=True)
        return super().write_bucket(key, update)


class Plain:
    """The same store for the other process, whose writes nothing comes before."""

    is_shared = False

    def __init__(self, store: Contested) -> None:
        self.clock = store.clock
        self._store = store

    def read_bucket(self, key: BucketKey) -> BucketState:
        """Read a bucket."""
        return self._store.read_bucket(key)

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Write to a bucket."""
        return SyncMemoryRepository.write_bucket(self._store, key, update)


def carry_out(store: SyncMemoryRepository, limit: Limit, number: int, pace: Pace | None) -> tuple[SyncBucketQueue, list[object]]:
    """Carry out one batch of so many requests; return the queue that it leaves, and the outcomes, None if there is none."""
    writer = SyncBatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), SyncCommitterOptions())
    queue = SyncBucketQueue(KEY)
    queue.pace = pace
    asked = [SyncPendingRequest(request(limit), queue) for _ in range(number)]
    for each in asked:
        queue.add(each, store.clock())
        if limit.allotment_ns:
            queue.observe(each.request, store.clock())
    queue.seen = store.clock()
    batch = SyncBatch(writer, queue, queue.requests)
    queue.batch, queue.requests = batch, []
    batch.blocks.place(batch.requests)
    batch.carry_out()
    return queue, [each.outcome for each in asked]


def test_a_batch_leaves_the_rest_to_the_next_turn_after_two_writes() -> None:
    """Of 60 for whom others leave 50, and then 40, ten are refused at once, and 50 wait in their order."""
    store = Contested(PLAIN, 50, 10)
    queue, outcomes = carry_out(store, PLAIN, 60, SteadyPace(SECOND // 2))
    assert store.writes == 2
    assert [type(each) for each in outcomes] == [type(None)] * 50 + [Refusal] * 10
    assert [pending.done for pending in queue.requests] == [False] * 50
    assert queue.before(request(PLAIN), NOW).waiting == 50


@pytest.mark.parametrize(("defeats", "left"), [(3, 0), (4, 5)])
def test_where_nothing_was_refused_a_turn_has_four_writes(defeats: int, left: int) -> None:
    """There a defeat does not mean that units are scarce, so that the rest of the batch need not wait for another turn."""
    store = Fickle(defeats)
    queue, outcomes = carry_out(store, PLAIN, 5, SteadyPace(SECOND // 2))
    assert store.writes == 4
    assert len(queue.requests) == left == outcomes.count(None)


def test_without_a_pace_a_batch_decides_all() -> None:
    """A process that waits for nothing writes a third time."""
    store = Contested(PLAIN, 50, 10)
    queue, outcomes = carry_out(store, PLAIN, 60, None)
    assert store.writes == 3
    assert [type(each) for each in outcomes] == [Grant] * 40 + [Refusal] * 20
    assert not queue.requests


def test_a_defeated_batch_asks_for_less_of_a_bucket_that_is_too_full_for_it() -> None:
    """Also before a pace is kept: after two defeats the third write carries less than the 40 that fit, and others follow."""
    store = Contested(PLAIN, 50, 10)
    queue, outcomes = carry_out(store, PLAIN, 60, Pace(700, SECOND))
    assert store.writes > 3
    assert [type(each) for each in outcomes] == [Grant] * 40 + [Refusal] * 20
    assert not queue.is_paced


def test_what_two_writes_have_not_got_of_a_scarce_bucket_is_refused_until_the_next_turn() -> None:
    """Under an allotment the same requests are refused, and may come again at the process's next write."""
    store = Contested(ALLOTTED, 50, 10)
    queue, outcomes = carry_out(store, ALLOTTED, 60, SteadyPace(SECOND // 2))
    assert store.writes == 2
    assert not queue.requests
    refusals = [each for each in outcomes if isinstance(each, Refusal)]
    assert len(refusals) == 60
    assert queue.wrote is not None
    assert refusals[0].start == queue.wrote + SteadyPace(SECOND // 2).longest_wait


def test_a_block_that_throttled_writes_have_not_taken_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch but its own would hold the units. The requests themselves wait for the next turn."""
    monkeypatch.setattr(sync_batch, "time", SimpleNamespace(sleep=lambda seconds: None))
    queue, outcomes = carry_out(Hot(), ALLOTTED, 30, SteadyPace())
    assert outcomes == [None] * 30
    assert [pending.request for pending in queue.requests] == [request(ALLOTTED)] * 30


def turned_away(
    room: int, asked: int, *, limit: Limit = ALLOTTED, interval: int = SECOND // 10, deadline: int = 0, back: int = 0
) -> int:
    """Return for how many nanoseconds after a look that showed so much room a request is refused, after so many in a second.

    The clock was set `back` since.
    """
    queue = BucketQueue(KEY)
    queue.pace = SteadyPace(interval) if interval else None
    for place in range(asked):
        queue.observe(request(limit), NOW - SECOND * (asked - place) // asked)
    tat = NOW + limit.window - limit.allotment_ns - gcra.cost(limit, room)
    queue.state = BucketState({limit.identity: Level(tat, NOW - SECOND)}, stamp="seen")
    queue.seen = queue.wrote = NOW
    queue.refuse_until_turn(0)
    refusal = queue.turned_away(request(limit, deadline), NOW - back, 0)
    return 0 if refusal is None else refusal.start - NOW


def test_a_process_counts_on_a_quarter_of_what_it_saw_free() -> None:
    """With 6 requests expected until the next turn, 40 free units are enough, and 12 are not."""
    assert turned_away(room=40, asked=80) == 0
    assert turned_away(room=12, asked=80) == TURN


def test_a_state_is_believed_for_an_allotment_at_most() -> None:
    """A turn that is further away than the allotment of a second refuses for a second."""
    assert turned_away(room=1, asked=80, interval=60 * SECOND) == SECOND


@pytest.mark.parametrize(
    "options",
    [
        {"limit": PLAIN},
        {"interval": 0},
        {"deadline": NOW + SECOND},
        {"back": 3600 * SECOND},
        {"back": -TURN},
    ],
    ids=["no allotment", "alone", "may wait", "earlier", "at the turn"],
)
def test_others_are_not_turned_away(options: dict[str, Any]) -> None:
    """Requests without an allotment or with a timeout, of a process that awaits no turn, or before or after the wait for it."""
    assert turned_away(room=12, asked=80, **options) == 0


def test_a_process_refuses_no_more_once_it_has_seen_enough() -> None:
    """A later state ends the refusals before their turn comes."""
    queue = BucketQueue(KEY)
    queue.pace = SteadyPace()
    for place in range(80):
        queue.observe(request(ALLOTTED), NOW - SECOND * (80 - place) // 80)
    queue.seen = queue.wrote = NOW
    refused = []
    for room in (12, 100):
        tat = NOW + ALLOTTED.window - ALLOTTED.allotment_ns - gcra.cost(ALLOTTED, room)
        queue.state = BucketState({ALLOTTED.identity: Level(tat, NOW - SECOND)}, stamp="seen")
        queue.refuse_until_turn(0)
        refused.append(queue.turned_away(request(ALLOTTED), NOW, 0) is not None)
    assert refused == [True, False]
