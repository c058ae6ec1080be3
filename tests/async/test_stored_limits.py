# twin: ../sync/test_stored_limits.py
"""Limits that live in the store: precedence, propagation, and what they cost.

The test of `limiter.administration`, `limiter.config_cache` and `limiter.core.record_cache`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, ValidationError
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from support.engines import FakeClock


def limits(*texts: str) -> tuple[Limit, ...]:
    """Limits from their texts."""
    return tuple(Limit.parse(text) for text in texts)


LEVELS: tuple[dict[str, str], ...] = (
    {"entity_id": "user", "resource": "model"},
    {"entity_id": "user"},
    {"resource": "model"},
    {},
)


async def test_a_level_replaces_the_weaker_ones_whole(new_limiter: Any) -> None:
    """Entity and resource, entity, resource, namespace, limiter: the strongest level that is stored applies, and no other."""
    limiter = new_limiter("default=1/minute")
    expected = limits("default=1/minute")
    assert await limiter.resolve_limits("user", "model") == expected
    for rank, level in reversed(list(enumerate(LEVELS))):
        expected = limits(f"level{rank}=1/minute", "shared=5/second burst 7")
        await limiter.set_limits(expected, **level)
        assert await limiter.resolve_limits("user", "model") == expected
        assert await limiter.get_limits(**level) == expected
    for rank, level in enumerate(LEVELS):
        assert [limit.name for limit in await limiter.resolve_limits("user", "model")] == [f"level{rank}", "shared"]
        await limiter.delete_limits(**level)
        assert await limiter.get_limits(**level) is None
    assert await limiter.resolve_limits("user", "model") == limits("default=1/minute")


async def test_a_level_concerns_no_other_entity(new_limiter: Any) -> None:
    """Limits of an entity or a resource apply to that entity or resource only."""
    limiter = new_limiter("default=1/minute")
    await limiter.set_limits(limits("mine=1/minute"), entity_id="user")
    await limiter.set_limits(limits("its=1/minute"), resource="model")
    found = {
        (entity, resource): (await limiter.resolve_limits(entity, resource))[0].name
        for entity in ("user", "other")
        for resource in ("model", "else")
    }
    assert found == {
        ("user", "model"): "mine",
        ("user", "else"): "mine",
        ("other", "model"): "its",
        ("other", "else"): "default",
    }


async def test_acquires_obey_stored_limits(new_limiter: Any) -> None:
    """What is stored is what an acquire is decided by; the call's own limits come first."""
    limiter = new_limiter("requests=100/minute")
    await limiter.set_limits(limits("requests=2/minute"), entity_id="user")
    assert [bool(await limiter.try_acquire("user")) for _ in range(3)] == [True, True, False]
    assert await limiter.try_acquire("user", limits=limits("requests=2/minute burst 3"))
    assert await limiter.try_acquire("other")


async def test_a_change_is_in_force_here_at_once(new_limiter: Any) -> None:
    """A limit raised, lowered or deleted through this process decides its next acquire."""
    limiter = new_limiter("requests=1/minute")
    assert await limiter.try_acquire("user")
    assert not await limiter.try_acquire("user")
    await limiter.set_limits(limits("requests=1/minute burst 2"), entity_id="user")
    assert await limiter.try_acquire("user")
    await limiter.set_limits(limits("requests=1/minute burst 3"), entity_id="user")
    assert await limiter.try_acquire("user")
    await limiter.set_limits(limits("requests=1/minute burst 2"), entity_id="user")
    assert not await limiter.try_acquire("user")
    await limiter.delete_limits(entity_id="user")
    assert (await limiter.check("user")).statuses[0].limit.capacity == 1


@pytest.mark.parametrize(("old", "new", "admitted"), [(2, 4, 2), (4, 2, 0)])
async def test_a_change_made_elsewhere_is_in_force_within_the_time_to_live(
    new_limiter: Any, clock: FakeClock, old: int, new: int, admitted: int
) -> None:
    """A bucket in active use follows a change made by another process after at most 60 seconds, raised and lowered alike."""
    limiter, elsewhere = new_limiter(), new_limiter()
    await elsewhere.set_limits(limits(f"requests=1/hour burst {old}"), entity_id="user")
    assert [bool(await limiter.try_acquire("user")) for _ in range(3)][:2] == [True, True]
    await elsewhere.set_limits(limits(f"requests=1/hour burst {new}"), entity_id="user")
    clock.advance(59)
    assert (await limiter.resolve_limits("user", "default"))[0].capacity == old
    clock.advance(1)
    before = (await limiter.check("user", consume={"requests": 0})).statuses[0]
    assert before.limit.capacity == new
    assert sum([bool(await limiter.try_acquire("user")) for _ in range(5)]) <= admitted


async def test_absent_levels_are_remembered_too(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """An entity without stored limits costs one read within the time to live, not one for every acquire."""
    limiter = new_limiter("requests=100/minute")
    repository.take()
    for _ in range(10):
        assert await limiter.try_acquire("user")
    assert repository.take() == {"read_records": 1, "write_bucket": 10}
    clock.advance(60)
    assert await limiter.try_acquire("user")
    assert repository.take() == {"read_records": 1, "write_bucket": 1}


async def test_with_a_time_to_live_of_zero_every_call_reads(new_limiter: Any, repository: Any) -> None:
    """A change made elsewhere is then in force at once."""
    limiter, elsewhere = new_limiter(config_ttl=0), new_limiter()
    await elsewhere.set_limits(limits("requests=1/minute"), entity_id="user")
    assert await limiter.try_acquire("user")
    await elsewhere.set_limits(limits("requests=1/minute burst 2"), entity_id="user")
    assert await limiter.try_acquire("user")
    assert repository.take()["read_records"] == 2


async def test_one_fetch_serves_all_who_wait_for_it(new_limiter: Any, repository: Any) -> None:
    """Callers that need the same records at the same time read them once."""
    limiter = new_limiter("requests=100/minute")
    repository.take()
    decisions = await gather([lambda: limiter.try_acquire("user")] * 20)
    assert all(decisions)
    assert repository.take()["read_records"] <= 2
    statistics = limiter.config_statistics
    assert statistics.hits + statistics.misses == 20
    assert statistics.fetches <= 2


async def test_a_write_here_wins_over_a_fetch_that_began_before_it(new_limiter: Any, repository: Any) -> None:
    """A fetch that was under way during a write does not bring the old value back."""
    limiter = new_limiter("requests=1/minute")
    read_records = repository.inner.read_records

    async def read_then_write(*arguments: Any) -> Any:
        answer = await read_records(*arguments)
        repository.inner.read_records = read_records
        await limiter.set_limits(limits("requests=1/minute burst 9"), entity_id="user")
        return answer

    repository.inner.read_records = read_then_write
    await limiter.resolve_limits("user", "model")
    assert (await limiter.resolve_limits("user", "model"))[0].capacity == 9


async def test_the_cache_is_bounded(new_limiter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entities are seen, only so many records are remembered."""
    monkeypatch.setattr("limiter.acquirer.MAX_RECORDS", 50)
    limiter = new_limiter("requests=1/minute")
    for number in range(30):
        assert await limiter.try_acquire(f"user-{number}")
    assert limiter.config_statistics.entries <= 50


TOO_MANY = [Limit.per_minute(f"limit-{number}", 1) for number in range(26)]


@pytest.mark.parametrize(
    "bad", [[], TOO_MANY, [Limit.parse("a=1/minute")] * 2, "a=1/minute", ["a=1/minute"], Limit.parse("a=1/minute")]
)
async def test_bad_levels_are_refused_and_change_nothing(new_limiter: Any, bad: Any) -> None:
    """A level without limits, with one name twice, or with anything but limits is an error."""
    limiter: RateLimiter = new_limiter()
    await limiter.set_limits(limits("requests=1/minute"), entity_id="user")
    with pytest.raises(ValidationError):
        await limiter.set_limits(bad, entity_id="user")
    assert await limiter.get_limits("user") == limits("requests=1/minute")


@pytest.mark.parametrize("level", [{"entity_id": ""}, {"resource": "a\nb"}, {"entity_id": 7}])
async def test_bad_ids_are_refused(new_limiter: Any, level: dict[str, Any]) -> None:
    """Levels are named as strictly as buckets are."""
    limiter = new_limiter()
    with pytest.raises(ValidationError):
        await limiter.set_limits(limits("requests=1/minute"), **level)
    with pytest.raises(ValidationError):
        await limiter.get_limits(**level)


async def test_all_levels_are_listed(new_limiter: Any) -> None:
    """Every stored level of the namespace is listed by its entity and resource, and nothing else."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.list_limits() == {}
    expected = {}
    for number, level in enumerate(LEVELS, start=1):
        expected[level.get("entity_id"), level.get("resource")] = limits(f"requests={number}/minute")
        await limiter.set_limits(limits(f"requests={number}/minute"), **level)
    await limiter.create_entity("user")
    assert await limiter.try_acquire("user", "model")
    assert await limiter.list_limits() == expected


async def test_periods_survive_the_store(new_limiter: Any) -> None:
    """Limits read back are equal to those written, for every period."""
    stored = (Limit("a", 5, 3, 0.1), Limit("b", 7, 7, 1 / 3), Limit("c", 1, 1, 86_400 * 366), Limit("d", 10**12, 10**12, 86_400))
    limiter = new_limiter()
    await limiter.set_limits(stored, resource="model")
    assert await limiter.get_limits(resource="model") == stored
