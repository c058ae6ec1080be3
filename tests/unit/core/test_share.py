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
    Limit,
    MemoryRepository,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncMemoryRepository,
    SyncRateLimiter,
)
from limiter.core.chain import Bucket
from limiter.core.limits import gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Request
from limiter.core.share import check_remembered, fitting, local_limit, local_requests, unbounded
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
    """Whatever is asked fits; what is known stays as it is."""
    known = (Bucket(KEY, (LIMIT,)),)
    assert unbounded(known, {"requests"}) == unbounded(known, set()) == known
    assert [limit.name for limit in unbounded(known, {"tokens"})[0].limits] == ["requests", "tokens"]
    assert [limit.name for limit in unbounded((Bucket(KEY, ()),), set())[0].limits] == ["requests"]
    cause = RateLimiterUnavailable("down")
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
        self.owed = UnreportedUsage()
        self.owed.record(KEY, [LIMIT])

    def take(self, units: int) -> bool:
        return self.limiter.try_acquire("user", consume={"requests": units}).allowed

    def claim(self) -> UsageReport:
        return self.owed.take(KEY, self.share, self.store.read_bucket(KEY), self.clock())

    def claimed(self) -> int:
        return sum(units for _, units in self.claim().charges)


def test_what_was_allowed_is_owed_once() -> None:
    """As far as it has not refilled here; a part of a unit counts as one."""
    alone = Alone()
    assert alone.claimed() == 0
    assert alone.take(3)
    assert [alone.claimed(), alone.claimed()] == [3, 0]
    assert alone.take(2)
    assert [alone.claimed(), alone.claimed()] == [2, 0]
    alone.clock.advance(5 * 720)
    assert alone.take(4)
    alone.clock.advance(720)
    assert [alone.claimed(), alone.claimed()] == [3, 0]
    alone.clock.advance(3 * 720 - 1)
    assert alone.claimed() == 0
    alone.clock.advance(1)
    assert alone.take(1)
    alone.clock.advance(1)
    assert alone.claimed() == 1
    assert KEY in alone.owed
    assert BucketKey("default", "other", "default") not in alone.owed


def test_what_could_not_be_charged_is_owed_again() -> None:
    """Whoever else has claimed something meanwhile, at worst twice, never forgotten."""
    alone = Alone()
    assert alone.take(2)
    first = alone.claim()
    assert alone.take(1)
    second = alone.claim()
    assert [units for claim in (first, second) for _, units in claim.charges] == [2, 1]
    alone.owed.put_back(first)
    alone.owed.put_back(second)
    assert alone.claimed() == 3
    for _ in range(5):
        alone.owed.put_back(alone.claim())
    assert alone.claimed() == 0


steps = st.lists(st.tuples(st.sampled_from(["take", "wait", "claim", "fail"]), st.integers(1, 5)), max_size=40)


@given(steps, st.sampled_from([1.0, 0.5, 0.3]))
def test_nothing_is_forgotten_and_nothing_owed_twice(steps: list[tuple[str, int]], share: float) -> None:
    """What is claimed in all covers what was taken, less what has refilled before, and exceeds it by parts of units alone."""
    alone = Alone(share)
    taken = claimed = claims = waited = 0
    for step, number in steps:
        if step == "take":
            taken += number if alone.take(number) else 0
        elif step == "wait":
            alone.clock.advance(100 * number)
            waited += 100 * number
        elif step == "fail":
            alone.owed.put_back(alone.claim())
        else:
            units = alone.claimed()
            claimed, claims = claimed + units, claims + bool(units)
    claimed += alone.claimed()
    assert claimed <= taken
    assert claimed >= taken - waited * share * 10 / 3_600 - 1e-6


def test_what_is_owed_outlives_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert state.level("requests").tat - repository.clock() == gcra.cost(LIMIT, 5)


def test_no_charge_leads_into_debt() -> None:
    """Of each charge as much is left as fits beside the level, and nothing of one that does not fit at all."""
    now = 10**18
    other = Limit.per_hour("tokens", 10)
    unit = gcra.cost(LIMIT, 1)
    charges = (Charge(LIMIT, 5), Charge(other, 5))
    assert fitting(charges, (now + 7 * unit, now), now) == (Charge(LIMIT, 3), Charge(other, 5))
    assert fitting(charges, (now + 10 * unit, now + 12 * unit), now) == ()


def test_a_limiter_of_a_share_refuses_the_rest() -> None:
    """The share is a limit like any other."""
    alone = Alone(0.3)
    assert alone.take(3)
    with pytest.raises(RateLimitExceeded), alone.limiter.acquire("user"):
        pass
