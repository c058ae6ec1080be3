# twin: ../sync/test_slots.py
"""Slots: held by a lease until its end, handed on within a process, free again when their process renews them no more.

The test of `limiter.commit.slot_line`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    BLOCKED,
    UNLIMITED,
    Concurrency,
    LeaseClosed,
    LeaseLost,
    Limit,
    MemoryRepository,
    NeverSatisfiable,
    Quota,
    RateLimiter,
    RateLimitExceeded,
    ValidationError,
)
from limiter.exceptions import RateLimiterUnavailable
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from support.engines import FakeClock

    from limiter.core.state import WriteResult


class Failed(Exception):
    """The block of a lease fails."""


async def available(limiter: RateLimiter, name: str = "calls") -> int:
    """Slots that a look shows as free."""
    (status,) = (await limiter.check("user", consume={name: 1})).statuses
    return status.available


async def test_a_slot_is_held_until_the_end_of_its_lease(new_limiter: Any) -> None:
    """Two limiters share the slots of a bucket: what one holds the other is refused, and what it frees the other gets."""
    limiter, other = new_limiter("calls=1 at once"), new_limiter("calls=1 at once")
    async with limiter.acquire("user") as lease:
        assert lease.consumed == {"calls": 1}
        assert not lease.lost
        with pytest.raises(RateLimitExceeded) as caught:
            await other.acquire("user").__aenter__()
        (status,) = caught.value.statuses
        assert (status.available, status.exceeded, status.reset_after) == (0, True, None)
        assert status.retry_after is not None
        assert status.retry_after > 0
    async with other.acquire("user"):
        pass


async def test_slots_rates_and_quotas_are_decided_by_one_write(new_limiter: Any, repository: Any) -> None:
    """All limits of a bucket are charged together, or none."""
    limiter = new_limiter("calls=2 at once", "requests=10/minute", "tokens=5/day in UTC")
    async with limiter.acquire("user", consume={"calls": 1, "requests": 1, "tokens": 5}):
        repository.take()
        with pytest.raises(RateLimitExceeded) as caught:
            await limiter.acquire("user").__aenter__()
        assert [status.limit.name for status in caught.value.violations] == ["tokens"]
        assert await available(limiter) == 1
        repository.take()
    assert repository.take() == {"write_bucket": 1}
    assert await available(limiter) == 2
    assert await available(limiter, "tokens") == 0


async def test_an_acquire_costs_one_write_and_so_does_its_end(new_limiter: Any, repository: Any) -> None:
    """A caller that comes alone takes by one write, and frees by another."""
    limiter = new_limiter("calls=2 at once")
    async with limiter.acquire("user"):
        pass
    repository.take()
    async with limiter.acquire("user"):
        assert repository.take() == {"write_bucket": 1}
    assert repository.take() == {"write_bucket": 1}


@pytest.mark.parametrize("ending", ["fails", "fails, and keeps its charge", "keeps its units", "fails with a type"])
async def test_slots_are_freed_however_a_lease_ends(new_limiter: Any, ending: str) -> None:
    """Slots are freed even if the lease keeps or refunds its other units."""
    limiter = new_limiter("calls=1 at once", "requests=10/minute")
    options: dict[str, Any] = {
        "fails, and keeps its charge": {"refund_on_error": False},
        "fails with a type": {"refund_on_error": KeyError},
    }.get(ending, {})
    with pytest.raises(Failed):
        async with limiter.acquire("user", **options) as lease:
            if ending.startswith("keeps"):
                lease.keep()
            raise Failed
    assert await available(limiter) == 1
    assert await available(limiter, "requests") == (10 if ending == "fails" else 9)


async def test_a_lease_can_free_slots_early_and_take_more(new_limiter: Any) -> None:
    """`release` frees slots, `consume` takes more, and the end of the lease frees the rest."""
    limiter = new_limiter("calls=3 at once")
    async with limiter.acquire("user", consume={"calls": 2}) as lease:
        assert await available(limiter) == 1
        await lease.release(calls=1)
        assert await available(limiter) == 2
        assert lease.consumed == {"calls": 1}
        await lease.consume(calls=2)
        assert await available(limiter) == 0
        with pytest.raises(RateLimitExceeded):
            await lease.consume(calls=1)
    assert await available(limiter) == 3


async def test_slots_cannot_be_adjusted(new_limiter: Any) -> None:
    """A slot is held or free; neither the lease nor a caller from outside can correct it."""
    limiter = new_limiter("calls=3 at once", "requests=10/minute")
    async with limiter.acquire("user") as lease:
        for units in (-1, 1):
            with pytest.raises(ValidationError, match=r"slots of 'calls' cannot be adjusted.*release"):
                await lease.adjust(calls=units)
            with pytest.raises(ValidationError, match="slots of 'calls' cannot be adjusted"):
                await limiter.adjust("user", "default", {"calls": units})
        with pytest.raises(ValidationError, match="holds 1"):
            await lease.release(calls=2)


async def test_a_reset_leaves_slots_as_they_are(new_limiter: Any) -> None:
    """A reset of a bucket frees no slot that a caller holds."""
    limiter = new_limiter("calls=3 at once", "requests=10/minute")
    async with limiter.acquire("user"):
        await limiter.reset("user", "default")
        assert await available(limiter) == 2
        assert await available(limiter, "requests") == 10
    assert await available(limiter) == 3


async def test_while_a_bucket_is_paused_no_slot_is_taken(new_limiter: Any) -> None:
    """A pause holds for slots; those that are held stay held, and are freed."""
    limiter = new_limiter("calls=3 at once")
    async with limiter.acquire("user"):
        await limiter.pause("user", "default", 30.0)
        with pytest.raises(RateLimitExceeded) as caught:
            await limiter.acquire("user").__aenter__()
        assert caught.value.retry_after == 30.0
    assert await available(limiter) == 3


async def test_try_acquire_takes_no_slots(new_limiter: Any) -> None:
    """A call without a lease could never free a slot, so it is an error where it would take one, and nowhere else."""
    limiter = new_limiter("calls=3 at once", "requests=10/minute")
    with pytest.raises(ValidationError, match=r"try_acquire cannot take slots of 'calls'.*use acquire"):
        await limiter.try_acquire("user")
    assert await limiter.try_acquire("user", consume={"requests": 1})
    assert await limiter.try_acquire("user", consume={"requests": 1, "calls": 0})
    async with limiter.acquire("user"):
        pass
    with pytest.raises(ValidationError, match="use acquire"):
        await limiter.try_acquire("user")
    assert await available(limiter, "requests") == 7


async def test_more_slots_than_there_are_can_never_be_had(new_limiter: Any) -> None:
    """An amount above the capacity is refused without a call, also to a caller who is willing to wait."""
    limiter = new_limiter("calls=3 at once")
    with pytest.raises(NeverSatisfiable):
        await limiter.acquire("user", consume={"calls": 4}, timeout=60).__aenter__()


async def test_a_fence_grows_with_every_slot_that_is_granted(new_limiter: Any, clock: FakeClock) -> None:
    """With one slot the numbers grow in time, in all processes, and start from the clock."""
    limiter, other = new_limiter("calls=1 at once"), new_limiter("calls=1 at once")
    numbers = []
    for each in (limiter, other, limiter, limiter, other):
        async with each.acquire("user") as lease:
            numbers.append(lease.fence)
    assert numbers == sorted(set(numbers))
    assert numbers[0] > clock() - 10**9
    async with new_limiter("requests=1/minute").acquire("other") as lease:
        assert lease.fence is None


async def test_a_fence_is_of_the_own_bucket(new_limiter: Any) -> None:
    """A slot of another target has no number in this lease."""
    limiter = new_limiter("requests=10/minute")
    limiter_of_slots = new_limiter("calls=1 at once")
    await limiter.set_limits([Concurrency("calls", 1)], entity_id="everybody", resource="search")
    async with limiter.acquire("user", also=[("everybody", "search", {"calls": 1})], consume={"requests": 1}) as lease:
        assert lease.fence is None
        with pytest.raises(RateLimitExceeded):
            await limiter_of_slots.acquire("everybody", "search").__aenter__()
    async with limiter_of_slots.acquire("everybody", "search") as lease:
        assert lease.fence is not None


async def test_all_buckets_of_a_call_are_taken_or_none(new_limiter: Any) -> None:
    """A slot is given back when another target of the call refuses."""
    limiter = new_limiter("calls=1 at once")
    await limiter.set_limits([Limit.per_minute("requests", 1)], entity_id="everybody", resource="search")
    also = [("everybody", "search", {"requests": 1})]
    async with limiter.acquire("user", also=also):
        assert await available(limiter) == 0
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire("user", also=also).__aenter__()
    assert await available(limiter) == 1


async def test_slots_of_a_dead_process_are_free_after_their_time(new_limiter: Any, clock: FakeClock) -> None:
    """A holder that does not renew is taken out by the process that needs its slots, and learns it."""
    limiter, other = new_limiter("calls=2 at once ttl 10"), new_limiter("calls=2 at once ttl 10")
    acquisition = limiter.acquire("user", consume={"calls": 2})
    lease = await acquisition.__aenter__()
    clock.advance(9.9)
    with pytest.raises(RateLimitExceeded):
        await other.acquire("user").__aenter__()
    assert not lease.lost
    clock.advance(0.2)
    assert lease.lost
    async with other.acquire("user", consume={"calls": 2}):
        for call in (lease.consume, lease.release, lease.adjust):
            with pytest.raises(LeaseLost, match="have expired unrenewed"):
                await call({"calls": 1})
        await acquisition.__aexit__(None, None, None)
        assert await available(limiter) == 0
    assert await available(limiter) == 2
    with pytest.raises(LeaseClosed):
        await lease.consume(calls=1)


async def test_a_lost_lease_gives_its_units_back_all_the_same(new_limiter: Any, clock: FakeClock) -> None:
    """A refund of a quota does not depend on slots that were lost."""
    limits = ("calls=1 at once ttl 10", "tokens=5/day in UTC")
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    with pytest.raises(Failed):
        async with limiter.acquire("user"):
            clock.advance(11)
            async with other.acquire("user", consume={"calls": 1}):
                raise Failed
    assert await available(limiter, "tokens") == 5
    assert await available(limiter) == 1


async def test_slots_are_renewed_along_with_other_writes(new_limiter: Any, clock: FakeClock) -> None:
    """A process that uses the bucket keeps its slots without a call of its own."""
    limits = ("calls=1 at once ttl 12", "requests=1000/minute")
    limiter, other = new_limiter(*limits), new_limiter(*limits)
    async with limiter.acquire("user") as lease:
        for _ in range(10):
            clock.advance(3)
            assert await limiter.try_acquire("user", consume={"requests": 1})
        assert not lease.lost
        with pytest.raises(RateLimitExceeded):
            await other.acquire("user", consume={"calls": 1}).__aenter__()


async def test_a_caller_who_waits_gets_a_slot_of_another_process(new_limiter: Any, clock: FakeClock, repository: Any) -> None:
    """With a timeout a caller looks now and then, by reads alone, and takes the slot by one write."""
    limiter, other = new_limiter("calls=1 at once ttl 10"), new_limiter("calls=1 at once ttl 10")
    lease = await other.acquire("user").__aenter__()
    repository.take()
    started = clock()
    async with limiter.acquire("user", timeout=30) as mine:
        waited = (clock() - started) / 10**9
        assert 10 <= waited <= 13
        assert mine.waited == pytest.approx(waited)
    calls = repository.take()
    assert calls["write_bucket"] <= 3
    assert calls["read_bucket"] <= 10 * waited + 2
    assert lease.lost


async def test_a_caller_waits_no_longer_than_it_is_willing(new_limiter: Any, clock: FakeClock) -> None:
    """When no slot is freed in time the caller is refused."""
    limiter, other = new_limiter("calls=1 at once"), new_limiter("calls=1 at once")
    async with other.acquire("user"):
        started = clock()
        with pytest.raises(RateLimitExceeded):
            await limiter.acquire("user", timeout=5).__aenter__()
        assert 5 <= (clock() - started) / 10**9 <= 5.2


async def test_a_slot_is_given_back_while_a_rate_refuses(new_limiter: Any, clock: FakeClock) -> None:
    """A caller whose rate cannot be had in time is refused at once, and holds no slot."""
    limiter = new_limiter("calls=1 at once", "requests=1/minute")
    async with limiter.acquire("user"):
        pass
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire("user", timeout=5).__aenter__()
    assert await available(limiter) == 1


async def test_slots_are_held_while_a_rate_is_waited_for(new_limiter: Any, clock: FakeClock) -> None:
    """A caller who has booked a rate holds its slot from the write on."""
    limiter = new_limiter("calls=2 at once", "requests=1/second burst 1")
    async with limiter.acquire("user"):
        async with limiter.acquire("user", timeout=5) as lease:
            assert lease.waited == 1.0
        assert await available(limiter) == 1


async def test_shadow_slots_refuse_no_caller(new_limiter: Any) -> None:
    """A shadow tells where it would have refused, and holds what fits."""
    limiter = new_limiter("calls=1 at once shadow")
    async with limiter.acquire("user") as first, limiter.acquire("user") as second:
        assert [status.exceeded for status in (*first.statuses, *second.statuses)] == [False, True]
        assert await available(limiter) == 0
    assert await available(limiter) == 1


@pytest.mark.parametrize("access", [UNLIMITED, BLOCKED])
async def test_a_level_may_stand_in_place_of_slots(new_limiter: Any, access: Any) -> None:
    """Under UNLIMITED nothing is held, and under BLOCKED nothing is admitted."""
    limiter = new_limiter("calls=1 at once")
    if access is UNLIMITED:
        async with limiter.acquire("user", limits=access) as lease, limiter.acquire("user", limits=access):
            assert lease.fence is None
            assert not lease.lost
    else:
        with pytest.raises(RateLimitExceeded):
            await limiter.acquire("user", limits=access).__aenter__()
    assert await available(limiter) == 1


async def test_a_capacity_that_is_lowered_holds_no_caller_back(new_limiter: Any) -> None:
    """Leases beyond a lowered capacity can end, and no slot is handed on until enough are free."""
    limiter = new_limiter("calls=4 at once")
    lowered = [Concurrency("calls", 2)]
    acquisitions = [limiter.acquire("user") for _ in range(4)]
    for each in acquisitions:
        await each.__aenter__()
    await acquisitions.pop().__aexit__(None, None, None)
    with pytest.raises(RateLimitExceeded):
        await limiter.acquire("user", limits=lowered).__aenter__()
    for each in acquisitions:
        await each.__aexit__(None, None, None)
    async with limiter.acquire("user", limits=lowered):
        pass


async def test_stored_slots_are_read_back(new_limiter: Any) -> None:
    """A level in the table may hold slots beside rates and quotas."""
    limiter = new_limiter("requests=10/minute")
    limits = [Concurrency("calls", 20, ttl=30.0), Limit.per_minute("requests", 5), Quota.per_day("tokens", 7)]
    await limiter.set_limits(limits, entity_id="user", resource="default")
    assert list(await limiter.resolve_limits("user", "default")) == limits
    async with limiter.acquire("user") as lease:
        assert {status.limit.name for status in lease.statuses} == {"calls", "requests", "tokens"}


async def test_slots_of_parents_are_taken_too(new_limiter: Any) -> None:
    """A chain takes a slot in every bucket that has the limit, and frees all of them."""
    limiter = new_limiter("calls=1 at once")
    await limiter.create_entity("team")
    await limiter.create_entity("user", parent_id="team")
    async with limiter.acquire("user") as lease:
        assert len(lease.statuses) == 2
        with pytest.raises(RateLimitExceeded):
            await limiter.acquire("team").__aenter__()
    async with limiter.acquire("team"):
        pass


async def test_without_the_table_slots_hold_within_the_process(store: Any) -> None:
    """With "local" slots are limited within the process, and with "allow" not at all; neither has a fence."""
    limiter = RateLimiter(store, [Concurrency("calls", 1)], on_unavailable="local")
    async with limiter.acquire("user"):
        pass
    store.error = RateLimiterUnavailable("down")
    async with limiter.acquire("user") as lease:
        assert (lease.degraded, lease.fence, lease.lost) == (True, None, False)
        with pytest.raises(RateLimitExceeded):
            await limiter.acquire("user").__aenter__()
        async with limiter.acquire("user", on_unavailable="allow") as other:
            assert (other.degraded, other.fence, other.lost) == (True, None, False)
    async with limiter.acquire("user"):
        pass


async def test_an_outage_beyond_the_time_loses_slots(store: Any, clock: FakeClock) -> None:
    """What cannot be renewed is lost, with no word from the table; the end of the lease raises nothing."""
    limiter = RateLimiter(store, [Concurrency("calls", 1, ttl=10)])
    async with limiter.acquire("user") as lease:
        store.error = RateLimiterUnavailable("down")
        clock.advance(11)
        assert lease.lost
        with pytest.raises(LeaseLost):
            await lease.release(calls=1)
    store.error = None
    async with limiter.acquire("user"):
        pass


async def test_a_slot_that_could_not_be_freed_is_freed_by_the_next_write(store: Any) -> None:
    """A release that did not reach the table heals with the next write."""
    limiter = RateLimiter(store, [Concurrency("calls", 2)])
    async with limiter.acquire("user"):
        async with limiter.acquire("user"):
            store.error = RateLimiterUnavailable("down", unsent=True)
        store.error = None
        async with limiter.acquire("user", limits=[Concurrency("calls", 2)]):
            pass
        assert await available(limiter) == 1
    assert await available(limiter) == 2
    assert limiter.stats().corrections_lost == 1


class Held(MemoryRepository):
    """A table that notes what it is asked for, and answers one write when it is let go."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.noted: list[str] = []
        self.holds = False
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def write_bucket(self, key: Any, update: Any) -> WriteResult:
        """Write, and answer at once or later."""
        result = await super().write_bucket(key, update)
        if self.holds:
            self.holds = False
            self.asked.set()
            await self.let_go.wait()
        self.noted.append("written")
        return result

    async def close(self) -> None:
        """Note it."""
        self.noted.append("closed")


async def test_a_limiter_is_closed_after_the_renewal_in_progress(clock: FakeClock) -> None:
    """The renewal ends before the table's connections do."""
    store = Held(clock)
    limiter = RateLimiter(store, [Concurrency("calls", 1, ttl=60)], decision_timeout=30)

    async def let_go() -> None:
        store.noted.append("let go")
        store.let_go.set()

    async with limiter.acquire("user"):
        store.holds = True
        clock.advance(30)
        keeper = limiter._acquirers.get().committer._slots
        assert keeper is not None
        keeper._heartbeat.wake(0.0)
        await store.asked.wait()
        assert await gather([limiter.close, let_go]) == [None, None]
        assert store.noted == ["written", "let go", "written", "closed"]


async def test_callers_of_one_process_share_writes(new_limiter: Any) -> None:
    """Fifty callers who share five slots hand them on: entering and leaving cost less than a tenth of a write each."""
    limiter = new_limiter("calls=5 at once", sleep=None)
    held: list[int] = []
    crowds: list[int] = []

    async def work(number: int) -> None:
        for _ in range(10):
            async with limiter.acquire("user", timeout=60):
                held.append(number)
                crowds.append(len(held))
                await asyncio.sleep(0.001)
                held.remove(number)

    outcomes = await gather([partial(work, number) for number in range(50)])
    assert outcomes == [None] * 50
    assert 1 < max(crowds) <= 5  # Whether all five are at work at one moment is up to the scheduler.
    assert limiter.stats().batches <= 100
