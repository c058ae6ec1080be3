# twin: ../sync/test_lost_slots.py
"""Slots where answers are lost, and requests are late: the process's own entry tells what became of a write.

The test of `limiter.commit.batch_slots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Concurrency, MemoryRepository, Quota, RateLimiter
from limiter.core.records import BucketKey
from limiter.core.slots import count_of
from limiter.exceptions import RateLimiterUnavailable, Throttled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.engines import FakeClock

    from limiter.core.state import BucketState, Update, WriteResult

KEY = BucketKey("default", "user", "default")
LIMITS = [Concurrency("calls", 2, ttl=10.0), Quota.per_day("tokens", 100)]


class Failed(Exception):
    """The block of a lease fails."""


class Lossy:
    """A store whose next writes fail: their answer is lost, or the request, which may arrive later; or it is the error given."""

    def __init__(self, inner: MemoryRepository) -> None:
        self.inner = inner
        self.faults: list[str | Exception] = []
        self.unread: Exception | None = None
        self.late: list[Update] = []
        self.afterwards: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def open(self) -> None:
        await self.inner.open()

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, Exception):
            raise fault
        if fault == "overtaken":
            await self.arrive()
        if fault == "request":
            self.late.append(update)
            raise RateLimiterUnavailable("lost")
        result = await self.inner.write_bucket(key, update)
        if fault == "answer":
            if self.afterwards is not None:
                await self.afterwards()
            raise RateLimiterUnavailable("lost")
        if fault == "overtaken":
            raise RateLimiterUnavailable("lost")
        return result

    async def read_bucket(self, key: BucketKey) -> BucketState:
        if self.unread is not None:
            raise self.unread
        return await self.inner.read_bucket(key)

    async def arrive(self) -> bool:
        """Have the late requests arrive, and return whether they have changed anything."""
        before = await self.inner.read_bucket(KEY)
        assert self.late
        for update in self.late:
            await self.inner.write_bucket(KEY, update)
        self.late = []
        return await self.inner.read_bucket(KEY) != before


@pytest.fixture
def inner(clock: FakeClock) -> MemoryRepository:
    """The store behind the faults."""
    return MemoryRepository(clock=clock)


@pytest.fixture
def lossy(inner: MemoryRepository, monkeypatch: pytest.MonkeyPatch) -> Lossy:
    """A store that loses what it is told to, with no pause before calls are repeated."""
    monkeypatch.setattr("limiter.runtime.retry.BACKOFF", 0.0)
    return Lossy(inner)


@pytest.fixture
def limiter(lossy: Lossy) -> RateLimiter:
    """A limiter on the store that loses."""
    return RateLimiter(lossy, LIMITS, stored=False, decision_timeout=60.0)


@pytest.fixture
def other(inner: MemoryRepository) -> RateLimiter:
    """Another process, which loses nothing."""
    return RateLimiter(inner, LIMITS, stored=False, decision_timeout=60.0)


async def held(store: Any) -> tuple[int, int, int]:
    """Slots that are held in all, the sum of the entries, and tokens that are used."""
    state = await store.read_bucket(KEY)
    entries = state.slots.entries.get("calls", {})
    used = state.level(LIMITS[1].identity).tat
    return state.slots.held.get("calls", 0), sum(map(count_of, entries.values())), max(0, used)


async def test_an_acquire_whose_answer_was_lost_holds_once(limiter: RateLimiter, lossy: Lossy) -> None:
    """The entry that was sent is there, so it was applied: the slot is held once, the tokens are charged once."""
    lossy.faults = ["answer"]
    async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}) as lease:
        assert await held(lossy) == (1, 1, 5)
        assert lease.fence is not None
    assert await held(lossy) == (0, 0, 5)
    assert limiter.stats().corrections_lost == 0


async def test_many_writes_of_others_leave_no_doubt(limiter: RateLimiter, other: RateLimiter, lossy: Lossy) -> None:
    """However many writes have covered the lost one, nothing counts twice; the fence is drawn anew, above those of others."""
    fences: list[int] = []

    async def cover() -> None:
        for _ in range(5):
            async with other.acquire("user", consume={"calls": 1, "tokens": 1}) as lease:
                fences.append(lease.fence or 0)

    lossy.faults, lossy.afterwards = ["answer"], cover
    async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}) as lease:
        assert await held(lossy) == (1, 1, 10)
        assert lease.fence is not None
        assert lease.fence > max(fences)
    assert await held(lossy) == (0, 0, 10)
    assert limiter.stats().corrections_lost == 0


async def test_a_call_without_slots_needs_no_numbers(limiter: RateLimiter, other: RateLimiter, lossy: Lossy) -> None:
    """A call that names slots and takes none is told its charges, and gives them back, although others have written since."""

    async def cover() -> None:
        assert await other.try_acquire("user", consume={"tokens": 1})

    lossy.faults, lossy.afterwards = ["answer"], cover
    with pytest.raises(Failed):
        async with limiter.acquire("user", consume={"calls": 0, "tokens": 5}) as lease:
            assert {status.limit.name for status in lease.statuses} == {"calls", "tokens"}
            assert await held(lossy) == (0, 0, 6)
            raise Failed
    assert await held(lossy) == (0, 0, 1)


async def test_numbers_are_drawn_again_until_they_are_known(limiter: RateLimiter, other: RateLimiter, lossy: Lossy) -> None:
    """The write that draws numbers may be lost and covered too."""

    async def cover() -> None:
        for _ in range(4):
            assert await other.try_acquire("user", consume={"tokens": 1})

    lossy.faults, lossy.afterwards = ["answer", "answer"], cover
    async with limiter.acquire("user") as lease:
        assert lease.fence is not None
        assert (await held(lossy))[:2] == (1, 1)
    assert (await held(lossy))[:2] == (0, 0)


async def test_a_late_request_is_void_once_the_next_has_been_applied(limiter: RateLimiter, lossy: Lossy) -> None:
    """A request that did not arrive is sent again; the first one asserts an entry that has changed, and does nothing."""
    async with limiter.acquire("user", consume={"calls": 1}):
        lossy.faults = ["request"]
        async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}):
            assert await held(lossy) == (2, 2, 5)
            assert not await lossy.arrive()
        assert await held(lossy) == (1, 1, 5)
    assert limiter.stats().corrections_lost == 0


async def test_a_lost_release_frees_the_slot_once(limiter: RateLimiter, other: RateLimiter, lossy: Lossy) -> None:
    """A release that is sent again gives up one slot, and what it gives back of a quota comes back once."""
    async with limiter.acquire("user", consume={"calls": 1}):
        with pytest.raises(Failed):
            async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}):
                lossy.faults = ["request"]
                raise Failed
        assert await held(lossy) == (1, 1, 0)
        async with other.acquire("user", consume={"calls": 1, "tokens": 7}):
            assert not await lossy.arrive()
            assert await held(lossy) == (2, 2, 7)


async def test_a_release_that_never_arrived_heals_with_the_next_write(limiter: RateLimiter, lossy: Lossy) -> None:
    """The next write counts the leases, so that a slot is not held for a caller who has gone."""
    async with limiter.acquire("user", consume={"calls": 1}):
        async with limiter.acquire("user", consume={"calls": 1}):
            lossy.faults = ["request"] * 10
        assert limiter.stats().corrections_lost == 1
        lossy.faults, lossy.late = [], []
        assert await held(lossy) == (2, 2, 0)
        assert await limiter.try_acquire("user", consume={"tokens": 1})
        assert await held(lossy) == (1, 1, 1)


async def test_an_acquire_that_was_never_answered_holds_nothing_for_long(
    limiter: RateLimiter, other: RateLimiter, lossy: Lossy, clock: FakeClock
) -> None:
    """What a caller was not told it does not hold: the next write gives it up, or its time does."""
    lossy.faults, lossy.unread = ["answer"], RateLimiterUnavailable("down", unsent=True)
    with pytest.raises(RateLimiterUnavailable):
        await limiter.acquire("user", consume={"calls": 1}).__aenter__()
    lossy.unread = None
    assert await held(lossy) == (1, 1, 0)
    async with limiter.acquire("user", consume={"calls": 2}):
        assert await held(lossy) == (2, 2, 0)
    assert await held(lossy) == (0, 0, 0)


@pytest.mark.parametrize("error", [RateLimiterUnavailable("down", unsent=True), Throttled("slow down")])
async def test_what_may_have_been_taken_is_not_told_to_be_free(limiter: RateLimiter, lossy: Lossy, error: Exception) -> None:
    """A look for a lost write that certainly had no effect says nothing of the write itself."""
    lossy.faults, lossy.unread = ["answer"], error
    with pytest.raises(RateLimiterUnavailable) as caught:
        await limiter.acquire("user", consume={"calls": 1, "tokens": 5}).__aenter__()
    assert not caught.value.unsent
    lossy.unread = None
    assert await held(lossy) == (1, 1, 5)


async def test_a_grant_that_cannot_be_numbered_is_not_told_to_be_free(
    limiter: RateLimiter, other: RateLimiter, lossy: Lossy
) -> None:
    """A grant that waits for its number has taken its units; when the table takes no more writes its caller learns that."""

    async def cover() -> None:
        assert await other.try_acquire("user", consume={"tokens": 1})

    lossy.faults, lossy.afterwards = ["answer", *[Throttled("slow down")] * 9], cover
    with pytest.raises(RateLimiterUnavailable) as caught:
        await limiter.acquire("user", consume={"calls": 1, "tokens": 5}).__aenter__()
    assert not caught.value.unsent
    assert await held(lossy) == (1, 1, 6)


@pytest.mark.parametrize("before", [0, 1])
async def test_a_slot_that_was_taken_out_before_it_was_told_is_lost(
    limiter: RateLimiter, other: RateLimiter, lossy: Lossy, clock: FakeClock, before: int
) -> None:
    """The write is found by its stamp, so nothing is charged twice; its entry has gone, so its lease says that it is lost."""
    for _ in range(before):
        await limiter.acquire("user", consume={"calls": 1}).__aenter__()

    async def evict() -> None:
        clock.advance(11)
        await other.acquire("user", consume={"calls": 2}).__aenter__()

    lossy.faults, lossy.afterwards = ["answer"], evict
    async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}) as lease:
        assert lease.lost
        assert await held(lossy) == (2, 2, 5)
    assert await held(lossy) == (2, 2, 5)
    assert await limiter.try_acquire("user", consume={"tokens": 1})
    assert await held(lossy) == (2, 2, 6)


async def test_a_late_request_is_not_taken_for_the_write_after_it(limiter: RateLimiter, lossy: Lossy) -> None:
    """A write that fails because an older request has arrived is sent again, and charges its caller, when its answer is lost."""
    async with limiter.acquire("user", consume={"calls": 1}):
        lossy.faults, lossy.unread = ["request"], RateLimiterUnavailable("down", unsent=True)
        with pytest.raises(RateLimiterUnavailable):
            await limiter.acquire("user", consume={"calls": 1}).__aenter__()
        lossy.faults, lossy.unread = ["overtaken"], None
        async with limiter.acquire("user", consume={"calls": 1, "tokens": 5}):
            assert await held(lossy) == (2, 2, 5)
    assert await held(lossy) == (0, 0, 5)
