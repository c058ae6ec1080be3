"""What all batches share: which states count, what a write adds to the count, and what the log is told."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.scenes import SharedRepository

from limiter import Limit, SyncMemoryRepository
from limiter.commit.breaker import Breaker
from limiter.commit.sync_bucket_queue import SyncBucketQueue
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core import plan as planning
from limiter.core.pace import ATTEMPT, Pace
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Refund, Request
from limiter.core.state import COUNT, BucketState, Update
from limiter.core.units import NANOSECONDS
from limiter.exceptions import CircuitOpen, RateLimiterUnavailable
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

if TYPE_CHECKING:
    from limiter.core.plan import Plan

SECOND = NANOSECONDS
NOW = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
PER_MINUTE, PER_HOUR = Limit.per_minute("requests", 10), Limit.per_hour("requests", 10)


class Clock:
    """A clock that may not know the table's time yet."""

    trusted = True

    def __call__(self) -> int:
        return NOW


def writer_of(store: SyncMemoryRepository, **options: Any) -> SyncBatchWriter:
    """Return the writer of a committer with these options."""
    return SyncBatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), SyncCommitterOptions(**options))


def test_by_default_a_committer_saves_no_calls() -> None:
    """A state proves nothing, no write waits for others, and a decision takes a second. 700 writes a second go to one key."""
    options = SyncCommitterOptions()
    assert (options.denial_ttl, options.linger, options.patience, options.writes_per_key) == (0, 0, 1.0, 700)


def test_a_state_proves_refusals_for_as_long_as_the_options_say() -> None:
    """From the time at which it was seen on, while the clock can be trusted; a bucket that was never seen refuses nothing."""
    clock = Clock()
    writer, queue = writer_of(SyncMemoryRepository(clock=clock), denial_ttl=5), SyncBucketQueue(KEY)
    assert not writer.proves_refusals(queue, NOW)
    queue.seen = NOW
    assert [writer.proves_refusals(queue, NOW + passed) for passed in (-1, 0, 4, 5)] == [False, True, True, False]
    clock.trusted = False
    assert not writer.proves_refusals(queue, NOW)


def test_a_write_waits_for_the_rest_of_an_interval_to_the_nanosecond() -> None:
    """The last one of it counts, and the whole, but no time before the last write."""
    writer, queue = writer_of(SyncMemoryRepository(clock=lambda: NOW), linger=SECOND), SyncBucketQueue(KEY)
    delays = []
    for wrote in (NOW + 1, NOW, NOW - SECOND + 1, NOW - SECOND):
        queue.wrote = wrote
        delays.append(writer.delay(queue))
    assert delays == [0.0, 1.0, 1e-9, 0.0]


def test_a_write_counts_where_the_count_can_be_read() -> None:
    """Also if another attribute of the item makes no sense."""
    writer, queue = writer_of(SharedRepository()), SyncBucketQueue(KEY)
    tolls = []
    for name in (COUNT, PER_MINUTE.identity):
        queue.state = BucketState(unreadable={name: "not a number"})
        tolls.append(writer.toll(queue))
    assert tolls == [0, ATTEMPT]


def noted(queue: SyncBucketQueue, state: BucketState, count: int = ATTEMPT, *, applied: bool = True) -> Pace | None:
    """Return what is known of other processes after the answer to a write that added so much to the count."""
    writer_of(SharedRepository()).note_count(queue, Update("stamp", (), (), count=count), state, NOW, applied=applied)
    return queue.pace


def test_a_write_that_counts_nothing_tells_nothing_of_others() -> None:
    """Nor does one whose count others could not add to, as expected, or a first answer."""
    queue = SyncBucketQueue(KEY)
    assert noted(queue, BucketState(count=7 * ATTEMPT)) is None
    queue.seen, queue.state = NOW, BucketState(count=7 * ATTEMPT)
    assert noted(queue, BucketState(count=9 * ATTEMPT), count=0) is None
    assert noted(queue, BucketState(count=8 * ATTEMPT)) is None
    assert noted(queue, BucketState(count=9 * ATTEMPT, unreadable={COUNT: "not a number"})) is None
    assert noted(queue, BucketState(count=9 * ATTEMPT)) is not None


def test_a_defeat_tells_of_others() -> None:
    """Also where the count is as the process left it, since it was deleted or never read."""
    queue = SyncBucketQueue(KEY)
    assert noted(queue, BucketState(count=ATTEMPT), applied=False) is not None


def test_the_stamps_of_a_writer_are_its_own() -> None:
    """They begin with what no other process has, and none comes twice."""
    first, other = writer_of(SyncMemoryRepository()).stamps, writer_of(SyncMemoryRepository()).stamps
    stamps = [next(first) for _ in range(20)]
    assert [stamp[:12] for stamp in stamps] == [stamps[0][:12]] * 20
    assert [int(stamp[12:], 16) for stamp in stamps] == list(range(1, 21))
    assert next(other)[:12] != stamps[0][:12]


def planned(store: SyncMemoryRepository, limit: Limit, *, scheduled: bool = False) -> Plan:
    """Return the plan of a request for one unit of a limit, beside another one that a schedule may change."""
    other = Request(KEY, (Charge(Limit.per_hour("others", 10), 1),), scheduled=scheduled)
    return planning.plan(store.read_bucket(KEY), [Request(KEY, (Charge(limit, 1),)), other], NOW, "stamp")


def test_two_rates_of_one_name_are_told_of_a_bucket_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the bucket's name; a schedule has two rates for a while."""
    store = SyncMemoryRepository(clock=lambda: NOW)
    writer, queue = writer_of(store), SyncBucketQueue(KEY._replace(entity_id="a\x07b"))
    for limit in (PER_HOUR, PER_MINUTE):
        SyncCommitter(store, SyncCommitterOptions()).decide([Request(KEY, (Charge(limit, 1),))])
    writer.warn_of_rivals(queue, planned(store, PER_MINUTE))
    writer.warn_of_rivals(queue, planned(store, PER_HOUR, scheduled=True))
    assert (caplog.records, queue.warned) == ([], False)
    for _ in range(2):
        writer.warn_of_rivals(queue, planned(store, PER_HOUR))
    (record,) = caplog.records
    assert "is used with two rates or periods of one name at once: requests; each counts" in record.message
    assert record.message.startswith("a\\x07b/api is used")
    fields = ("namespace", "entity_id", "resource", "limits")
    assert [record.__dict__[name] for name in fields] == ["default", "a\\x07b", "api", "requests"]


@pytest.mark.parametrize(
    ("error", "level"), [(RateLimiterUnavailable("no answer"), "WARNING"), (CircuitOpen("the table is down"), "DEBUG")]
)
def test_a_refund_that_was_not_written_is_told(error: Exception, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the units by which the bucket may be wrong; those of an outage were told by the breaker."""
    caplog.set_level(logging.DEBUG, logger="limiter")
    writer = writer_of(SyncMemoryRepository())
    writer.record_lost_refund(Request(KEY, (Charge(PER_MINUTE, 2),), (Refund(PER_MINUTE, 6 * SECOND, 0),)), error)
    (record,) = caplog.records
    assert (record.levelname, record.message) == (level, f"a correction of user/api was not written: {error}")
    assert (record.__dict__["units"], record.__dict__["error"]) == ({"requests": 3}, str(error))
    assert writer.counters.statistics("closed", None).corrections_lost == 1
