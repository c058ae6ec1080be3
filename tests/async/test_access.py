# twin: ../sync/test_access.py
"""UNLIMITED and BLOCKED in place of a list of limits, and limiters whose limits are in code only."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    BLOCKED,
    UNLIMITED,
    Blocked,
    Limit,
    NeverSatisfiable,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    ValidationError,
)

if TYPE_CHECKING:
    from support.engines import FakeClock

TEN = [Limit.parse("requests=10/hour")]


async def left(limiter: Any, entity_id: str) -> int:
    """Units available now in an entity's own bucket."""
    return (await limiter.check(entity_id, "api", limits=TEN)).statuses[0].available


async def test_an_unlimited_call_takes_what_it_likes_without_a_call(new_limiter: Any, repository: Any) -> None:
    """Under UNLIMITED everything is admitted, has no statuses, and once parents are known makes no call."""
    limiter = new_limiter("requests=10/hour")
    assert await limiter.try_acquire("user", "api", limits=UNLIMITED)
    repository.take()
    async with limiter.acquire("user", "api", {"tokens": 10**9}, limits=UNLIMITED, timeout=5) as lease:
        assert (dict(lease.consumed), lease.statuses, lease.waited) == ({"tokens": 10**9}, (), 0.0)
        await lease.adjust(tokens=-10)
        await lease.consume(tokens=5, words=1)
        await lease.release(tokens=1)
        lease.keep()
        assert lease.consumed == {"tokens": 10**9 - 6, "words": 1}
    decision = await limiter.check("user", "api", {"requests": 50}, limits=UNLIMITED)
    assert (decision.allowed, decision.statuses, decision.retry_after) == (True, (), 0.0)
    assert repository.take() == {}
    assert await left(limiter, "user") == 10


async def test_a_blocked_call_is_refused_without_a_call(new_limiter: Any, repository: Any) -> None:
    """Under BLOCKED an acquire raises `Blocked`, which is a refusal that no wait helps."""
    limiter = new_limiter("requests=10/hour")
    repository.take()
    with pytest.raises(Blocked, match="user/api is blocked") as refusal:
        async with limiter.acquire("user", "api", {"anything": 5}, limits=BLOCKED, timeout=60):
            pass
    assert isinstance(refusal.value, RateLimitExceeded)
    assert (refusal.value.retry_after, refusal.value.statuses, refusal.value.degraded) == (None, (), False)
    for ask in (limiter.try_acquire, limiter.check):
        decision = await ask("user", "api", limits=BLOCKED)
        assert (decision.allowed, bool(decision), decision.retry_after) == (False, False, None)
    assert repository.take() == {}


@pytest.mark.parametrize("level", [{}, {"resource": "api"}, {"entity_id": "user"}, {"entity_id": "user", "resource": "api"}])
@pytest.mark.engines("memory")
async def test_a_level_can_hold_either(new_limiter: Any, repository: Any, level: dict[str, str]) -> None:
    """Stored at a level they apply as its limits would; they come back as the constants, and end with the level."""
    limiter = new_limiter("requests=10/hour")
    await limiter.set_limits(BLOCKED, **level)
    assert await limiter.get_limits(**level) is BLOCKED
    assert await limiter.resolve_limits("user", "api") is BLOCKED
    with pytest.raises(Blocked):
        async with limiter.acquire("user", "api"):
            pass
    repository.take()
    assert not await limiter.try_acquire("user", "api")
    assert repository.take() == {}
    await limiter.set_limits(UNLIMITED, **level)
    assert await limiter.resolve_limits("user", "api") is UNLIMITED
    assert list((await limiter.list_limits()).values()) == [UNLIMITED]
    assert await limiter.try_acquire("user", "api", {"anything": 10**6})
    assert repository.take() == {"read_records": 1}
    await limiter.delete_limits(**level)
    assert await limiter.resolve_limits("user", "api") == tuple(TEN)


async def test_a_call_replaces_a_level_and_a_level_the_limiters_own(new_limiter: Any) -> None:
    """The precedence is the same as for limits: first the call, then stored levels, then the limiter."""
    limiter = RateLimiter(new_limiter().repository, BLOCKED)
    with pytest.raises(Blocked):
        async with limiter.acquire("user", "api"):
            pass
    assert await limiter.try_acquire("user", "api", limits=TEN)
    await limiter.set_limits(TEN, resource="api")
    assert await limiter.try_acquire("user", "api")
    assert "limits=blocked" in repr(limiter)
    assert await RateLimiter(new_limiter().repository, UNLIMITED).try_acquire("user", "other", {"tokens": 10**9})


async def test_parents_and_targets_are_charged_all_the_same(new_limiter: Any) -> None:
    """UNLIMITED applies only to its own bucket; names of limits that only other buckets have are accepted."""
    limiter = new_limiter("requests=10/hour")
    await limiter.create_entity("company")
    await limiter.create_entity("user", parent_id="company")
    amounts = {"requests": 4, "tokens": 1000}
    async with limiter.acquire("user", "api", amounts, limits=UNLIMITED, also=[("team", "api", {"requests": 1})]) as lease:
        assert [(status.entity_id, status.available) for status in lease.statuses] == [("company", 6), ("team", 9)]
        assert lease.consumed == amounts
        await lease.adjust(requests=+1, tokens=-1000)
    assert [await left(limiter, each) for each in ("user", "company", "team")] == [10, 5, 8]
    with pytest.raises(NeverSatisfiable):
        async with limiter.acquire("user", "api", {"requests": 11}, limits=UNLIMITED):
            pass


@pytest.mark.engines("memory")
async def test_a_blocked_bucket_anywhere_blocks(new_limiter: Any, repository: Any) -> None:
    """A parent or another target that is blocked refuses the whole call, and nothing is taken."""
    limiter = new_limiter("requests=10/hour")
    await limiter.create_entity("company")
    await limiter.create_entity("user", parent_id="company")
    await limiter.set_limits(BLOCKED, entity_id="company")
    for ask in (
        {"entity_id": "user"},
        {"entity_id": "ann", "also": [("company", "api")]},
        {"entity_id": "ann", "also": [("user", "api")]},
    ):
        assert not await limiter.check(resource="api", **ask)
        repository.take()
        assert not await limiter.try_acquire(resource="api", **ask)
        with pytest.raises(Blocked, match="company/api is blocked"):
            async with limiter.acquire(resource="api", **ask):
                pass
        assert repository.take() == {}
    await limiter.delete_limits(entity_id="company")
    assert [await left(limiter, each) for each in ("user", "ann")] == [10, 10]


@pytest.mark.parametrize("policy", ["allow", "local"])
async def test_a_blocked_level_holds_without_the_table(store: Any, policy: Any) -> None:
    """A level that is known as blocked or unlimited stays so in an outage."""
    limiter = RateLimiter(store, TEN, on_unavailable=policy, decision_timeout=60.0, config_ttl=0)
    await limiter.set_limits(BLOCKED, entity_id="user")
    await limiter.set_limits(UNLIMITED, entity_id="ann")
    assert await limiter.try_acquire("ann", "api")
    assert not await limiter.try_acquire("user", "api")
    store.error = RateLimiterUnavailable("no table")
    with pytest.raises(Blocked) as refusal:
        async with limiter.acquire("user", "api"):
            pass
    assert refusal.value.degraded
    async with limiter.acquire("ann", "api", {"tokens": 5}) as lease:
        assert (lease.degraded, lease.statuses, dict(lease.consumed)) == (True, (), {"tokens": 5})


async def test_a_hook_is_told_of_both(new_limiter: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Decisions without statuses are decisions."""
    events: list[Any] = []
    limiter = new_limiter("requests=10/hour", on_decision=events.append)
    with caplog.at_level(logging.DEBUG, "limiter.decisions"):
        assert await limiter.try_acquire("user", "api", limits=UNLIMITED)
        assert not await limiter.try_acquire("user", "api", limits=BLOCKED)
    assert [(event.allowed, event.statuses) for event in events] == [(True, ()), (False, ())]
    assert "user/api refused by a level that is BLOCKED" in caplog.text
    assert (limiter.stats().decisions, limiter.stats().refusals) == (2, 1)


async def test_a_try_that_names_nothing_is_refused(new_limiter: Any) -> None:
    """An empty `consume` would consult no limit; a lease may begin with nothing, and a target may be all that is asked."""
    limiter = new_limiter("requests=10/hour")
    with pytest.raises(ValidationError, match="consume is empty"):
        await limiter.try_acquire("user", "api", {})
    assert await limiter.try_acquire("user", "api", {}, also=[("everybody", "api", {"requests": 1})])
    async with limiter.acquire("user", "api", {}) as lease:
        await lease.consume(requests=2)
    assert (await left(limiter, "user"), await left(limiter, "everybody")) == (8, 9)


async def test_limits_in_code_need_no_reading(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """With `stored=False` a first acquire is one call, with limits of the limiter, of the call, and for other targets."""
    limiter = new_limiter("requests=10/hour", stored=False)
    await new_limiter("requests=10/hour").set_limits([Limit.parse("requests=1/hour")])
    repository.take()
    assert await limiter.try_acquire("user", "api")
    assert repository.take() == {"write_bucket": 1}
    async with limiter.acquire("ann", "api", limits=[Limit.parse("tokens=10/hour")]):
        assert repository.take() == {"write_bucket": 1}
    assert await limiter.try_acquire("bob", "api", {"requests": 3}, also=[("everybody", "api")])
    assert repository.take() == {"write_bucket": 2}
    assert (await limiter.check("bob", "api", also=[("everybody", "api")])).statuses[1].available == 7
    assert repository.take() == {"read_records": 1}
    assert await limiter.resolve_limits("user", "api") == tuple(TEN)
    assert repository.take() == {}


async def test_limits_in_code_need_no_parents(new_limiter: Any) -> None:
    """What is stored about an entity is not looked at."""
    storing, limiter = new_limiter("requests=10/hour"), new_limiter("requests=10/hour", stored=False)
    await storing.create_entity("company")
    await storing.create_entity("user", parent_id="company")
    assert len((await limiter.try_acquire("user", "api")).statuses) == 1
    assert (await left(storing, "user"), await left(storing, "company")) == (9, 10)


async def test_limits_in_code_are_enough_without_the_table(store: Any) -> None:
    """In an outage nothing is unknown, so this process can limit alone from its first call on."""
    store.error = RateLimiterUnavailable("no table")
    limiter = RateLimiter(store, TEN, on_unavailable="local", stored=False, decision_timeout=60.0)
    assert await limiter.try_acquire("user", "api", {"requests": 10})
    assert not await limiter.try_acquire("user", "api")
    with pytest.raises(ValidationError, match="unknown limit 'tokens'"):
        await limiter.try_acquire("user", "api", {"tokens": 1})


async def test_limits_in_code_cannot_be_administered(new_limiter: Any) -> None:
    """Every call that changes or lists what is stored is an error that names the remedy."""
    limiter = new_limiter("requests=10/hour", stored=False)
    calls = [
        lambda: limiter.set_limits(TEN),
        lambda: limiter.get_limits(),
        lambda: limiter.delete_limits(),
        lambda: limiter.list_limits(),
        lambda: limiter.create_entity("user"),
        lambda: limiter.get_entity("user"),
        lambda: limiter.set_parent("user", None),
        lambda: limiter.delete_entity("user"),
        lambda: limiter.list_children("user"),
        lambda: limiter.list_entities("api"),
        lambda: limiter.list_resources("user"),
        lambda: limiter.list_namespaces(),
        lambda: limiter.delete_namespace("default"),
    ]
    for call in calls:
        with pytest.raises(ValidationError, match="use a limiter without stored=False"):
            await call()
    with pytest.raises(ValidationError, match="stored must be True or False, not 'no'"):
        new_limiter(stored="no")
