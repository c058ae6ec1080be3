"""The slots of one batch: what a process holds after writes that failed, were overtaken, or got no answer."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from support.scenes import Stage, fail_with

from limiter import Concurrency, Limit
from limiter.commit import sync_batch
from limiter.commit.breaker import Breaker
from limiter.commit.sync_batch import SyncBatch
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slots import SyncBucketSlots, SyncSlotKeeper
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.units import NANOSECONDS
from limiter.exceptions import RateLimiterUnavailable
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

NOW = 1_800_000_000 * NANOSECONDS
KEY = BucketKey("default", "user", "api")
CALLS, TOKENS = Concurrency("calls", 2, ttl=10.0), Limit.per_hour("tokens", 100)
SILENT = RateLimiterUnavailable("no answer")
UNSENT = RateLimiterUnavailable("no connection", unsent=True)


class Scene:
    """A bucket with slots on a store that does what the test says, and time that passes with each pause only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = Stage(lambda: NOW)
        self.seconds = 1_000.0
        writer = SyncBatchWriter(self.stage, threading.Lock(), Breaker(), Counters(), SyncGate(1), SyncCommitterOptions())
        self.queue = SyncBucketQueue(KEY)
        self.slots = self.queue.slots = SyncBucketSlots(SyncSlotKeeper(lambda: NOW, list, writer.lock), self.queue)
        self.batch = SyncBatch(writer, self.queue, [])
        monkeypatch.setattr(SyncSlotKeeper, "watch", lambda *_: None)
        monkeypatch.setattr(sync_batch, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(sync_batch, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setattr(sync_batch, "sync_backoff", lambda attempt: None)

    def ask(self, slots: int = 1, tokens: int = 0) -> SyncPendingRequest:
        """Add a request to the batch."""
        charges = (Charge(CALLS, slots), *([Charge(TOKENS, tokens)] if tokens else []))
        pending = SyncPendingRequest(Request(KEY, charges, deadline=NOW, slots=True), self.queue)
        self.batch.requests.append(pending)
        return pending

    def lose(self, *, covered: bool = False) -> None:
        """Let the answer to the next write get lost, before others write or not."""

        def fail() -> None:
            if covered:
                self.other(Charge(TOKENS, 1))
            raise SILENT

        self.stage.after.append(fail)

    def other(self, charge: Charge) -> None:
        """Let another process write."""
        committer = SyncCommitter(self.stage.inner, SyncCommitterOptions())
        (taken,) = committer.decide([Request(KEY, (charge,), slots=charge.limit.holds)])
        committer.close()
        assert isinstance(taken, Grant)

    @property
    def leases(self) -> int:
        """The slots that leases of the process hold."""
        own = self.slots.side().own
        return own["calls"].leases if "calls" in own else 0


def test_a_write_of_slots_that_had_no_effect_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket can be forgotten."""
    scene = Scene(monkeypatch)
    scene.stage.before += [fail_with(UNSENT)] * 3
    scene.ask()
    with pytest.raises(RateLimiterUnavailable):
        scene.batch.carry_out()
    scene.batch.fail(UNSENT)
    assert (scene.stage.writes, scene.slots.is_idle, scene.slots.is_unsettled) == (3, True, False)


def test_a_write_of_slots_that_was_overtaken_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused caller holds no slot, now or later."""
    scene = Scene(monkeypatch)
    scene.other(Charge(CALLS, 2))
    pending = scene.ask()
    scene.batch.carry_out()
    assert isinstance(pending.outcome, Refusal)
    assert (scene.stage.writes, scene.slots.is_idle, scene.slots.is_unsettled) == (1, True, False)


def test_slots_of_a_write_in_doubt_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the batch looks for the write."""
    scene, doubted = Scene(monkeypatch), list[bool]()
    scene.lose()
    scene.stage.looking.append(lambda: doubted.append(scene.slots.is_unsettled))
    pending = scene.ask()
    scene.batch.carry_out()
    assert isinstance(pending.outcome, Grant)
    assert (doubted, scene.slots.is_unsettled, scene.leases) == ([True], False, 1)


def test_a_batch_that_fails_after_a_lost_write_leaves_its_slots_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write settles what they are."""
    scene = Scene(monkeypatch)

    def fail() -> None:
        scene.seconds += 1.0
        raise SILENT

    scene.stage.before.append(fail)
    scene.ask()
    with pytest.raises(RateLimiterUnavailable):
        scene.batch.carry_out()
    assert not scene.slots.is_unsettled
    scene.batch.fail(SILENT)
    assert (scene.stage.reads, scene.slots.is_unsettled) == (0, True)


def test_a_lost_write_that_has_not_arrived_may_still_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """So if the next one has no effect, callers are told that slots may have been taken, and the process settles them later."""
    scene = Scene(monkeypatch)
    scene.stage.before += [fail_with(SILENT), fail_with(UNSENT), fail_with(UNSENT)]
    pending = scene.ask()
    with pytest.raises(RateLimiterUnavailable) as raised:
        scene.batch.carry_out()
    assert (raised.value, scene.stage.reads) == (UNSENT, 1)
    scene.batch.fail(raised.value)
    assert isinstance(pending.outcome, RateLimiterUnavailable)
    assert not pending.outcome.unsent
    assert (scene.slots.is_unsettled, scene.slots.is_idle) == (True, False)


def test_a_grant_waits_for_its_number_in_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others have written after a lost write; it counts as one that gives back something, until it is told."""
    scene, held = Scene(monkeypatch), list[object]()
    scene.lose(covered=True)
    pending = scene.ask()
    scene.stage.before += [lambda: None, lambda: held.append((scene.queue.returning, pending.done, scene.leases))]
    scene.batch.carry_out()
    assert held == [(1, False, 1)]
    assert isinstance(pending.outcome, Grant)
    assert pending.outcome.receipts[0].earlier > 0
    assert (scene.stage.writes, scene.queue.returning, scene.leases) == (2, 0, 1)


def test_a_grant_whose_caller_has_gone_before_its_number_came_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not dropped, because it holds slots."""
    scene = Scene(monkeypatch)
    scene.lose(covered=True)
    pending = scene.ask()
    scene.stage.looking.append(lambda: setattr(pending, "abandoned", True))
    scene.batch.carry_out()
    assert (pending.done, scene.leases, scene.slots.is_unsettled) == (True, 0, True)
    assert ([each.request.slots for each in scene.queue.requests], scene.queue.returning) == ([True], 1)


def test_a_grant_that_never_got_its_number_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write frees its slots."""
    scene = Scene(monkeypatch)
    scene.lose(covered=True)
    pending = scene.ask()
    scene.stage.before += [lambda: None, fail_with(UNSENT), fail_with(UNSENT), fail_with(UNSENT)]
    with pytest.raises(RateLimiterUnavailable):
        scene.batch.carry_out()
    assert scene.leases == 1
    scene.batch.fail(UNSENT)
    assert isinstance(pending.outcome, RateLimiterUnavailable)
    assert not pending.outcome.unsent
    assert (scene.leases, scene.slots.is_unsettled, scene.queue.returning) == (0, True, 0)


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_grant_of_no_slots_is_told_at_once(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no number, so no other write is made for one, also if the process holds slots."""
    scene = Scene(monkeypatch)
    scene.ask()
    scene.batch.carry_out()
    scene.stage.writes = 0
    scene.lose(covered=True)
    pending, other = scene.ask(0, 7), scene.ask(0, tokens)
    scene.batch.carry_out()
    assert (isinstance(pending.outcome, Grant), isinstance(other.outcome, Grant)) == (True, True)
    assert (scene.stage.writes, scene.leases) == (1, 1)


def test_a_write_that_would_free_a_slot_that_was_handed_on_is_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent by the old plan."""
    scene, starts = Scene(monkeypatch), list[bool]()
    start = scene.slots.ledger.start

    def late(update: object, mono: int) -> bool:
        starts.append(len(starts) > 0 and start(update, mono))  # type: ignore[arg-type]
        return starts[-1]

    monkeypatch.setattr(scene.slots.ledger, "start", late)
    pending = scene.ask()
    scene.batch.carry_out()
    assert isinstance(pending.outcome, Grant)
    assert (starts, scene.stage.writes, scene.leases) == ([False, True], 1, 1)
