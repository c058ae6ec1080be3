"""What one process allows by itself, and owes to the table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engines import FakeClock

from limiter import (
    Concurrency,
    Limit,
    MemoryRepository,
    Quota,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncMemoryRepository,
    SyncRateLimiter,
)
from limiter.core.chain import Bucket
from limiter.core.limits import Access, TotalQuota, gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Request
from limiter.core.share import (
    check_remembered,
    fitting,
    is_reported,
    local_limit,
    local_requests,
    unbounded,
    unreported_units,
)
from limiter.core.state import ABSENT, BucketState, Level
from limiter.core.units import DAY
from limiter.outage.unreported import UnreportedUsage

if TYPE_CHECKING:
    from limiter.outage.unreported import UsageReport

KEY = BucketKey("default", "user", "default")
LIMIT = Limit.per_hour("requests", 10)
YEARS = 100 * 366 * DAY

shares = st.floats(min_value=1e-9, max_value=1)
limits = st.builds(
    lambda capacity, amount, period: Limit("x", min(capacity, max(1, int(0.9 * amount * YEARS / period))), amount, period),
    st.integers(1, 10**12),
    st.integers(1, 10**6),
    st.floats(min_value=0.01, max_value=0.9 * YEARS),
)


@given(limits, shares, st.data())
def test_every_limit_has_a_share(limit: Limit, share: float, data: st.DataObject) -> None:
    """However small: never more than the limit, nor less than what the request asks for."""
    units = data.draw(st.integers(1, limit.capacity))
    local = local_limit(limit, share, units)
    assert units <= local.capacity <= limit.capacity
    assert local.refill_period >= limit.refill_period
    assert local.refill_amount == limit.refill_amount
    assert local.name == limit.name


def test_a_share_is_of_rate_and_capacity() -> None:
    """A quarter of the units in the same time, and a quarter of the burst, rounded up."""
    assert local_limit(LIMIT, 0.25) == Limit("requests", 3, 10, 4 * 3_600.0)
    assert local_limit(LIMIT, 1.0) is LIMIT
    assert local_limit(LIMIT, 0.25, 8).capacity == 8
    (request,) = local_requests([Request(KEY, (Charge(LIMIT, 2),))], 0.25)
    assert request == Request(KEY, (Charge(local_limit(LIMIT, 0.25), 2),))


def test_unknown_limits_stand_in_no_way() -> None:
    """Any request fits, and the known state stays unchanged."""
    known = (Bucket(KEY, (LIMIT,)),)
    assert unbounded(known, {"requests"}) == unbounded(known, set()) == known
    assert [limit.name for limit in unbounded(known, {"tokens"})[0].limits] == ["requests", "tokens"]
    assert [limit.name for limit in unbounded((Bucket(KEY, ()),), set())[0].limits] == ["requests"]
    constant = (Bucket(KEY, (), Access.BLOCKED),)
    assert unbounded(constant, {"tokens"}) == constant
    cause = RateLimiterUnavailable("down")
    check_remembered(constant, {"tokens"}, cause)
    check_remembered(known, {"requests"}, cause)
    check_remembered(known, set(), cause)
    for chain, names in ((known, {"tokens"}), ((Bucket(KEY, ()),), set())):
        with pytest.raises(RateLimiterUnavailable, match="never read") as error:
            check_remembered(chain, names, cause)
        assert error.value.__cause__ is cause


class Alone:
    """A process on its own, at a share, and what it owes."""

    def __init__(self, share: float = 0.5) -> None:
        self.clock, self.share = FakeClock(), share
        self.store = SyncMemoryRepository(clock=self.clock)
        self.limiter = SyncRateLimiter(self.store, [local_limit(LIMIT, share)], denial_ttl=0)
        self.unreported = UnreportedUsage()
        self.unreported.record(KEY, [LIMIT], self.clock())

    def take(self, units: int) -> bool:
        return self.limiter.try_acquire("user", consume={"requests": units}).allowed

    def take_report(self) -> UsageReport:
        return self.unreported.take(KEY, self.share, self.store.read_bucket(KEY), self.clock())

    def reported(self) -> int:
        return sum(units for _, units in self.take_report().charges)


def test_local_usage_is_reported_once() -> None:
    """As far as it has not refilled here; a part of a unit counts as one."""
    alone = Alone()
    assert alone.reported() == 0
    assert alone.take(3)
    assert [alone.reported(), alone.reported()] == [3, 0]
    assert alone.take(2)
    assert [alone.reported(), alone.reported()] == [2, 0]
    alone.clock.advance(5 * 720)
    assert alone.take(4)
    alone.clock.advance(720)
    assert [alone.reported(), alone.reported()] == [3, 0]
    alone.clock.advance(3 * 720 - 1)
    assert alone.reported() == 0
    alone.clock.advance(1)
    assert alone.take(1)
    alone.clock.advance(1)
    assert alone.reported() == 1
    assert KEY in alone.unreported
    assert BucketKey("default", "other", "default") not in alone.unreported


def test_usage_that_could_not_be_charged_is_reported_again() -> None:
    """Usage that others report at the same time may be reported twice, and is never forgotten."""
    alone = Alone()
    assert alone.take(2)
    first = alone.take_report()
    assert alone.take(1)
    second = alone.take_report()
    assert [units for report in (first, second) for _, units in report.charges] == [2, 1]
    alone.unreported.put_back(first)
    alone.unreported.put_back(second)
    assert alone.reported() == 3
    for _ in range(5):
        alone.unreported.put_back(alone.take_report())
    assert alone.reported() == 0


steps = st.lists(st.tuples(st.sampled_from(["take", "wait", "report", "fail"]), st.integers(1, 5)), max_size=40)


@given(steps, st.sampled_from([1.0, 0.5, 0.3]))
def test_no_usage_is_forgotten_or_reported_twice(steps: list[tuple[str, int]], share: float) -> None:
    """What is reported in all covers what was taken, less what has refilled before, and exceeds it by parts of units alone."""
    alone = Alone(share)
    taken = reported = reports = waited = 0
    for step, number in steps:
        if step == "take":
            taken += number if alone.take(number) else 0
        elif step == "wait":
            alone.clock.advance(100 * number)
            waited += 100 * number
        elif step == "fail":
            alone.unreported.put_back(alone.take_report())
        else:
            units = alone.reported()
            reported, reports = reported + units, reports + bool(units)
    reported += alone.reported()
    assert reported <= taken
    assert reported >= taken - waited * share * 10 / 3_600 - 1e-6


OTHERS = (Quota.per_day("tokens", 10), Quota.session("messages", 10, 3_600), Quota.total("credits", 10))


@pytest.mark.parametrize("limit", OTHERS, ids=str)
def test_counted_usage_is_what_was_used_since_the_opening(limit: Quota) -> None:
    """Less what was reported of the same opening; nothing of one that is over."""
    now, before = FakeClock.START_NS, Level(4, FakeClock.START_NS - 10)
    used = before._replace(tat=7)
    assert unreported_units(limit, 0.5, used, ABSENT, now) == 7
    assert unreported_units(limit, 0.5, used, before, now) == 3
    assert unreported_units(limit, 0.5, before, used, now) == 0
    assert unreported_units(limit, 0.5, ABSENT, ABSENT, now) == 0
    over = not isinstance(limit, TotalQuota)
    assert unreported_units(limit, 0.5, used, ABSENT, now + int(DAY) * 10**9) == (0 if over else 7)


def test_what_was_reported_of_an_earlier_opening_does_not_count() -> None:
    """Usage of the next day is reported from its first unit, and once, also where a report of the day before was put back."""
    clock, quota, unreported = FakeClock(), OTHERS[0], UnreportedUsage()
    unreported.record(KEY, [quota], clock())

    def reported(used: int, since: int) -> UsageReport:
        return unreported.take(KEY, 1.0, BucketState({quota.identity: Level(used, since)}), clock())

    first = reported(5, clock())
    assert first.charges == (Charge(quota, 5),)
    clock.advance(DAY)
    opened = clock()
    assert reported(3, opened).charges == (Charge(quota, 3),)
    unreported.put_back(first)
    assert reported(3, opened).charges == ()


def test_slots_are_not_reported() -> None:
    """They end with their leases."""
    assert not is_reported(Concurrency("calls", 5))
    assert unreported_units(Concurrency("calls", 5), 1.0, Level(3, 1), ABSENT, 10) == 0


def test_unreported_usage_outlives_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes each call in a loop of its own is charged as well."""
    repository = MemoryRepository(clock=FakeClock())
    limiter = RateLimiter(repository, [LIMIT], on_unavailable="local", denial_ttl=0)
    with monkeypatch.context() as outage:
        outage.setattr("limiter.runtime.retry.BACKOFF", 0.0)
        outage.setattr(repository, "write_bucket", AsyncMock(side_effect=RateLimiterUnavailable("down", unsent=True)))
        assert asyncio.run(limiter.try_acquire("user", consume={"requests": 4}))
        assert limiter.stats().degraded == 1
    assert asyncio.run(limiter.try_acquire("user"))
    state = asyncio.run(repository.read_bucket(KEY))
    assert state.level(LIMIT.identity).tat - repository.clock() == gcra.cost(LIMIT, 5)


def test_no_charge_leads_into_debt() -> None:
    """Of each charge as much is left as fits beside the level, and nothing of one that does not fit at all."""
    now = 10**18
    other = Limit.per_hour("tokens", 10)
    unit = gcra.cost(LIMIT, 1)
    charges = (Charge(LIMIT, 5), Charge(other, 5))
    assert fitting(charges, (Level(now + 7 * unit), Level(now)), now) == (Charge(LIMIT, 3), Charge(other, 5))
    assert fitting(charges, (Level(now + 10 * unit), Level(now + 12 * unit)), now) == ()


def test_a_limiter_of_a_share_refuses_the_rest() -> None:
    """The share is a limit like any other."""
    alone = Alone(0.3)
    assert alone.take(3)
    with pytest.raises(RateLimitExceeded), alone.limiter.acquire("user"):
        pass
