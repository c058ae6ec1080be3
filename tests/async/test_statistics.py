# twin: ../sync/test_statistics.py
"""What a limiter counts is what it did: nothing is missing, nothing is counted twice."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    Limit,
    NeverSatisfiable,
    PermissionDenied,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    Repository,
    Throttled,
    ValidationError,
)
from limiter.runtime.concurrency import gather
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

    from limiter import DecisionEvent

LIMITS = [Limit.parse("requests=5/hour")]
DOWN = RateLimiterUnavailable("down", unsent=True)
BUSY = Throttled("too much")
HOT = Throttled("too much for a key", hot_key=True)


@pytest.fixture
def told() -> list[DecisionEvent]:
    """What `on_decision` was told."""
    return []


@pytest.fixture
def new(store: Any, clock: FakeClock, told: list[DecisionEvent]) -> Callable[..., RateLimiter]:
    """Makes limiters on the store."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    return partial(RateLimiter, store, sleep=sleep, on_decision=told.append, decision_timeout=30.0)


async def test_nothing_was_counted_at_first(new: Any) -> None:
    """All counts are 0, the breaker is closed, and the value is frozen."""
    statistics = new(LIMITS).stats()
    values = dataclasses.asdict(statistics)
    assert values.pop("breaker") == "closed"
    assert values.pop("skew") is None
    assert (values.pop("transport"), values.pop("transport_reason")) == (None, "")
    assert set(values.values()) == {0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.calls = 1


async def test_a_decision_is_admitted_or_refused(new: Any, told: list[DecisionEvent]) -> None:
    """Decisions less refusals are admissions, and as many events are told, also for what can never be admitted."""
    limiter = new(LIMITS)
    for _ in range(3):
        await limiter.try_acquire("user", consume={"requests": 2})
    async with limiter.acquire("user"):
        pass
    for limits in (None, LIMITS):
        with pytest.raises(NeverSatisfiable):
            async with limiter.acquire("user", consume={"requests": 6}, limits=limits):
                pass
    statistics = limiter.stats()
    assert (statistics.decisions, statistics.refusals, statistics.degraded) == (6, 3, 0)
    assert [event.allowed for event in told] == [True, True, False, True, False, False]


async def test_what_is_not_decided_is_no_decision(new: Any, store: Any, told: list[DecisionEvent]) -> None:
    """Wrong arguments, a table that is out of reach or forbidden, and a check leave the decisions as they are."""
    limiter = new(LIMITS, config_ttl=0)
    await limiter.check("user")
    with pytest.raises(ValidationError):
        await limiter.try_acquire("user", consume={"unknown": 1})
    for store.error in (DOWN, PermissionDenied("no")):
        with pytest.raises(type(store.error)):
            await limiter.try_acquire("user")
    statistics = limiter.stats()
    assert (statistics.decisions, statistics.refusals, statistics.degraded, told) == (0, 0, 0, [])
    assert (statistics.calls, statistics.failures) == (store.calls, store.failures - 1)


async def test_every_call_is_counted(repository: Any, new_limiter: Any, clock: FakeClock) -> None:
    """In every operation, `calls` are the reads and writes that the repository was asked for."""
    limiter = new_limiter("requests=10/hour", "tokens=100/hour")
    await limiter.create_entity("team")
    await limiter.create_entity("user", parent_id="team")
    repository.take()
    for entity in ("other", "user"):
        async with limiter.acquire(entity, consume={"requests": 1, "tokens": 10}) as lease:
            await lease.adjust(tokens=5)
            await lease.consume(tokens=5)
            await lease.release(requests=1)
        with pytest.raises(ZeroDivisionError):
            async with limiter.acquire(entity):
                raise ZeroDivisionError
        await limiter.check(entity)
    for number in range(20):
        await limiter.try_acquire("user", timeout=number * 100)
    clock.advance(3600)
    assert await limiter.try_acquire("user")
    statistics = limiter.stats()
    assert statistics.calls == sum(repository.take().values())
    assert statistics.batches <= statistics.calls
    assert (statistics.decisions, statistics.failures, statistics.throttled, statistics.corrections_lost) == (25, 0, 0, 0)


async def test_callers_that_come_together_share_batches(new: Any, store: Any) -> None:
    """Sequential requests are one batch each; concurrent ones share batches, and every batch makes a call."""
    limiter = new([Limit.parse("requests=1000/second")])
    for _ in range(5):
        await limiter.try_acquire("user")
    # One of the calls has read the stored limits.
    assert (limiter.stats().batches, store.calls) == (5, 6)
    await gather([partial(limiter.try_acquire, "user")] * 50)
    statistics = limiter.stats()
    assert statistics.decisions == 55
    assert 6 <= statistics.batches <= 55
    assert statistics.calls == store.calls == statistics.batches + 1


async def test_a_batch_that_takes_several_calls_is_one(new: Any, store: Any) -> None:
    """Where another process has changed the bucket, a second write is made for the same batch."""
    limiter, other = new(LIMITS), new(LIMITS)
    await limiter.check("user")
    await limiter.try_acquire("user", consume={"requests": 0})
    await other.try_acquire("user")
    before, calls = limiter.stats(), store.calls
    assert await limiter.try_acquire("user")
    assert (store.calls - calls, limiter.stats().calls - before.calls, limiter.stats().batches - before.batches) == (2, 2, 1)


async def test_a_refusal_without_a_call_is_a_cache_hit(new: Any, store: Any, clock: FakeClock) -> None:
    """Every request that is refused from memory counts as a cache hit, and not as a batch."""
    limiter = new(LIMITS)
    assert await limiter.try_acquire("user", consume={"requests": 5})
    calls = store.calls
    for _ in range(3):
        assert not await limiter.try_acquire("user")
    statistics = limiter.stats()
    assert (statistics.cache_hits, statistics.batches, store.calls) == (3, 1, calls)
    clock.advance(1.0)
    assert not await limiter.try_acquire("user")
    assert (limiter.stats().cache_hits, limiter.stats().batches, store.calls) == (3, 2, calls + 1)


async def test_a_request_that_is_paid_from_a_block_is_a_cache_hit(new: Any, store: Any, clock: FakeClock) -> None:
    """With an allotment, cache hits are exactly the requests that made no call."""
    limiter = new([Limit.parse("requests=100000/minute allotment 0.1")])
    free = 0
    for _ in range(200):
        before = store.calls
        assert await limiter.try_acquire("user")
        free += store.calls == before
        clock.advance(0.002)
    assert 100 < free == limiter.stats().cache_hits


@pytest.mark.parametrize(("error", "throttled"), [(DOWN, False), (BUSY, True), (HOT, True)])
async def test_failures_are_counted_in_every_kind_of_call(new: Any, store: Any, error: Exception, throttled: bool) -> None:
    """A failed call counts as a failure when reading limits, checking or writing, and as throttled if the store says so."""
    limiter = new(LIMITS, config_ttl=0)
    store.error = error
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user")
    assert (limiter.stats().calls, limiter.stats().failures) == (store.calls, 1)
    limiter = new(LIMITS, decision_timeout=2.0)
    store.error = None
    await limiter.check("user")
    store.calls = store.failures = 0
    store.error = error
    with pytest.raises(RateLimiterUnavailable):
        await limiter.check("user")
    assert (limiter.stats().failures, store.failures) == (1, 1)
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user")
    statistics = limiter.stats()
    assert statistics.failures == store.failures == store.calls == statistics.calls - 2
    assert statistics.throttled == (statistics.failures if throttled else 0)


@pytest.mark.usefixtures("closed_for_long")
async def test_what_an_open_breaker_holds_back_is_no_call(new: Any, store: Any) -> None:
    """Calls, failures and batches stand still while the breaker is open, and decisions go on."""
    limiter = new(LIMITS, on_unavailable="allow")
    await limiter.try_acquire("user")
    store.error = DOWN
    for _ in range(3):
        await limiter.try_acquire("user")
    before = limiter.stats()
    assert (before.breaker, before.calls, before.failures) == ("open", store.calls, store.failures)
    for _ in range(5):
        assert await limiter.try_acquire("user")
    with pytest.raises(RateLimiterUnavailable):
        await limiter.check("user")
    after = limiter.stats()
    assert after == dataclasses.replace(before, decisions=before.decisions + 5, degraded=before.degraded + 5)
    assert after.decisions == after.degraded + 1 == 9


@pytest.mark.usefixtures("tried_at_once")
async def test_the_breaker_is_shown_closed_when_the_store_is_back(new: Any, store: Any) -> None:
    """One call that is answered closes it."""
    limiter = new(LIMITS, on_unavailable="allow")
    await limiter.try_acquire("user")
    store.error = DOWN
    for _ in range(3):
        await limiter.try_acquire("user")
    assert limiter.stats().breaker == "open"
    store.error = None
    assert await limiter.try_acquire("user")
    statistics = limiter.stats()
    assert (statistics.breaker, statistics.degraded, statistics.calls) == ("closed", 3, store.calls)


@pytest.mark.usefixtures("closed_for_long")
async def test_a_refusal_within_this_process_is_degraded_too(new: Any, store: Any, told: list[DecisionEvent]) -> None:
    """With "local", decisions without the table count as degraded either way, and event and error say so."""
    limiter = new([Limit.parse("requests=2/hour")], on_unavailable="local")
    store.error = DOWN
    decisions = [await limiter.try_acquire("user") for _ in range(4)]
    assert [bool(decision) for decision in decisions] == [True, True, False, False]
    with pytest.raises(NeverSatisfiable) as refusal:
        async with limiter.acquire("user", consume={"requests": 3}):
            pass
    assert refusal.value.degraded
    assert all(event.degraded for event in told)
    statistics = limiter.stats()
    assert (statistics.decisions, statistics.refusals, statistics.degraded, statistics.cache_hits) == (5, 3, 5, 0)


@pytest.mark.usefixtures("closed_for_long")
async def test_every_lost_correction_is_counted(new: Any, store: Any) -> None:
    """A correction and a refund that cannot be written count one each; what did not happen does not."""
    limiter = new([Limit.parse("requests=10/hour")], on_unavailable="local")
    with pytest.raises(ZeroDivisionError):
        async with limiter.acquire("user") as lease:
            store.error = DOWN
            await lease.adjust(requests=2)
            assert limiter.stats().corrections_lost == 1
            await lease.consume(requests=3)
            assert limiter.stats().corrections_lost == 2
            with pytest.raises(RateLimitExceeded):
                await lease.consume(requests=8)
            assert limiter.stats().corrections_lost == 2
            raise ZeroDivisionError
    assert limiter.stats().corrections_lost == 3


async def test_a_block_that_could_not_be_taken_is_no_lost_correction(new: Any, store: Any, clock: FakeClock) -> None:
    """Where a write fails that was to take units in advance, nothing is lost that had been taken."""
    limiter = new([Limit.parse("requests=1000/second allotment 0.5")])
    for _ in range(10):
        await limiter.try_acquire("user")
        clock.advance(0.002)
    await limiter.close()
    store.error = DOWN
    for _ in range(2):
        with pytest.raises(RateLimiterUnavailable):
            await limiter.try_acquire("user")
    assert limiter.stats().failures == store.failures > 0
    assert limiter.stats().corrections_lost == 0


@pytest.mark.engines("dynoxide", "dynamodb-local")
async def test_the_skew_is_the_repositorys(server_engine: Engine, table_name: str) -> None:
    """It is unknown before the first answer, and 0 where the store goes by the same clock."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    url = server_engine.endpoint_url
    repository = Repository(table_name, endpoint_url=url, connect_timeout=30.0, read_timeout=30.0)
    async with RateLimiter(repository, LIMITS, decision_timeout=30.0) as limiter:
        assert RateLimiter(Repository(table_name), LIMITS).stats().skew is None
        await limiter.try_acquire("user")
        assert limiter.stats().skew == 0.0
