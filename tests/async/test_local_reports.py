# twin: ../sync/test_local_reports.py
"""What a process allowed without the table, reported to the table: to the period in which it was used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, Quota, RateLimiter, RateLimiterUnavailable
from limiter.acquirer import Process

if TYPE_CHECKING:
    from support.engines import FakeClock

pytestmark = pytest.mark.usefixtures("tried_at_once", "without_pauses")

HOUR = 3_600.0
RATE, QUOTA = Limit.per_hour("requests", 100), Quota.per_day("tokens", 20)
SESSION, TOTAL = Quota.session("messages", 20, 5 * HOUR), Quota.total("credits", 20)
KINDS = (RATE, QUOTA, SESSION, TOTAL)
COUNTED = pytest.mark.parametrize("limit", KINDS[1:], ids=lambda limit: limit.name)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are repeated at once."""
    monkeypatch.setattr("limiter.runtime.retry.BACKOFF", 0.0)


def new_limiter(store: Any, *limits: Any, share: float = 1.0) -> RateLimiter:
    """A limiter that limits alone without the table."""
    return RateLimiter(store, limits, on_unavailable="local", local_share=share, denial_ttl=0, decision_timeout=60.0)


async def take_alone(limiter: RateLimiter, store: Any, units: int) -> bool:
    """Take units of every limit while the table is away, and return whether they fit."""
    assert await limiter.check("user")
    store.error = RateLimiterUnavailable("no table")
    decision = await limiter.try_acquire("user", consume=amounts(limiter, units))
    store.error = None
    return decision.allowed


def amounts(limiter: Any, units: int) -> dict[str, int]:
    """So many units of each limit."""
    return {limit.name: units for limit in limiter.limits}


async def report(limiter: RateLimiter) -> None:
    """Take nothing on the table, before which local usage is reported."""
    assert await limiter.try_acquire("user", consume=amounts(limiter, 0))


async def left(limiter: RateLimiter) -> list[int]:
    """What the table says is available of each limit."""
    return [status.available for status in (await limiter.check("user", consume=amounts(limiter, 0))).statuses]


async def test_every_kind_is_reported_once(store: Any) -> None:
    """The table is charged with what was used of rates, quotas, sessions and totals, with each unit once."""
    limiter = new_limiter(store, *KINDS)
    assert await take_alone(limiter, store, 3)
    await report(limiter)
    assert await left(limiter) == [97, 17, 17, 17]
    assert await take_alone(limiter, store, 2)
    for _ in range(2):
        await report(limiter)
        assert await left(limiter) == [95, 15, 15, 15]
    assert limiter.stats().corrections_lost == 0


@COUNTED
async def test_a_share_of_every_kind_is_allowed(store: Any, limit: Any) -> None:
    """Outage after outage, and the table gets the same units."""
    limiter = new_limiter(store, limit, share=0.25)
    assert [await take_alone(limiter, store, 2) for _ in range(3)] == [True, True, False]
    await report(limiter)
    assert [await take_alone(limiter, store, units) for units in (1, 1)] == [True, False]
    await report(limiter)
    assert await left(limiter) == [15]


@pytest.mark.parametrize("limit", [QUOTA, SESSION], ids=lambda limit: limit.name)
async def test_usage_of_a_period_that_has_ended_is_void(store: Any, clock: FakeClock, limit: Any) -> None:
    """What was used before the end is not charged after it, and the present period is charged with its own usage alone."""
    limiter = new_limiter(store, limit)
    assert await take_alone(limiter, store, 20)
    clock.advance(16 * HOUR)  # from 8 o'clock to midnight
    await report(limiter)
    assert await left(limiter) == [20]
    assert [await take_alone(limiter, store, units) for units in (5, 16)] == [True, False]
    await report(limiter)
    assert await left(limiter) == [15]
    assert limiter.stats().corrections_lost == 0


async def test_usage_is_reported_up_to_the_end_of_its_period(store: Any, clock: FakeClock) -> None:
    """A nanosecond before midnight usage is charged to the table's day; at midnight it is void."""
    limiter = new_limiter(store, QUOTA)
    clock.advance(16 * HOUR - 1e-9)
    assert await take_alone(limiter, store, 5)
    await report(limiter)
    assert await left(limiter) == [15]
    assert await take_alone(limiter, store, 5)
    clock.advance(1e-9)
    await report(limiter)
    assert await left(limiter) == [20]


async def test_a_total_is_reported_however_late(store: Any, clock: FakeClock) -> None:
    """It has no period that could end."""
    limiter = new_limiter(store, TOTAL)
    assert await take_alone(limiter, store, 5)
    clock.advance(400 * 24 * HOUR)
    await report(limiter)
    assert await left(limiter) == [15]


@COUNTED
async def test_what_does_not_fit_counts_as_lost(store: Any, limit: Any) -> None:
    """The table is filled by the report, and goes into no debt."""
    limiter, beside = new_limiter(store, limit), new_limiter(store, limit)
    assert await take_alone(limiter, store, 12)
    assert await beside.try_acquire("user", consume={limit.name: 15})
    await report(limiter)
    assert await left(limiter) == [0]
    assert limiter.stats().corrections_lost == 1
    assert not await limiter.try_acquire("user")
    assert limiter.stats().corrections_lost == 1


@COUNTED
async def test_what_a_local_lease_gave_back_is_not_reported(store: Any, limit: Any) -> None:
    """Units that a lease returned before or after the report are not reported, even if they are taken again."""
    limiter = new_limiter(store, limit)
    assert await limiter.check("user")
    store.error = RateLimiterUnavailable("no table")
    async with limiter.acquire("user", consume={limit.name: 6}) as lease:
        await lease.release({limit.name: 2})
        store.error = None
        await report(limiter)
        assert await left(limiter) == [16]
        await lease.release({limit.name: 1})
        await lease.adjust({limit.name: 1})
        await report(limiter)
        assert await left(limiter) == [16]
        await lease.adjust({limit.name: 1})
    await report(limiter)
    assert await left(limiter) == [15]


@COUNTED
async def test_a_pause_does_not_keep_usage_from_being_reported(store: Any, limit: Any) -> None:
    """Local usage is reported to a paused bucket, which admits no caller."""
    limiter = new_limiter(store, limit)
    assert await take_alone(limiter, store, 4)
    await limiter.pause("user", "default", 30.0)
    assert not await limiter.try_acquire("user", consume={limit.name: 1})
    assert await left(limiter) == [16]


async def test_usage_whose_report_failed_is_reported_later(store: Any, clock: FakeClock) -> None:
    """A later report contains the usage of every kind, also since the failure, unless its period has ended."""
    limiter = new_limiter(store, *KINDS)
    assert await take_alone(limiter, store, 3)
    store.error = RateLimiterUnavailable("gone again")
    assert await limiter.try_acquire("user", consume=amounts(limiter, 1))
    store.error = None
    clock.advance(16 * HOUR)
    await report(limiter)
    assert await left(limiter) == [100, 20, 20, 16]


async def test_buckets_are_forgotten_when_nothing_of_them_is_in_use(
    store: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket is forgotten after the end of its period, so only recently used ones are remembered."""
    processes: list[Process] = []
    made = Process.__init__

    def remember(self: Process, *arguments: Any) -> None:
        made(self, *arguments)
        processes.append(self)

    monkeypatch.setattr(Process, "__init__", remember)
    limiter = new_limiter(store, QUOTA, SESSION)
    for number in range(50):
        store.error = RateLimiterUnavailable("no table")
        assert await limiter.try_acquire(f"user-{number}")
    assert len(processes[0].unreported) == 50
    clock.advance(18 * HOUR)  # The items are needed no more, with the hour of grace that they have.
    store.error = None
    for _ in range(25):
        await report(limiter)
    assert len(processes[0].unreported) == 0


async def test_nothing_is_taken_in_advance_without_the_table(store: Any) -> None:
    """No other process is asked, so a limit with an allotment keeps its whole capacity."""
    limiter = new_limiter(store, Limit.parse("requests=10/second burst 100 allotment 2"))
    assert await take_alone(limiter, store, 80)
    store.error = RateLimiterUnavailable("no table")
    assert [(await limiter.try_acquire("user", consume={"requests": units})).allowed for units in (20, 1)] == [True, False]
