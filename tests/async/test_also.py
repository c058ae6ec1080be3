# twin: ../sync/test_also.py
"""Several targets in one call: all or none, each with its own chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, NeverSatisfiable, RateLimiter, RateLimiterUnavailable, RateLimitExceeded, ValidationError

if TYPE_CHECKING:
    from support.engines import FakeClock

TEN, HUNDRED = [Limit.parse("requests=10/hour")], [Limit.parse("requests=100/hour")]
EVERYBODY = ("everybody", "search")


class Failure(Exception):
    """What goes wrong in a body."""


async def left(limiter: Any, entity_id: str, resource: str = "search") -> dict[str, int]:
    """Units available now in an entity's own bucket, by limit."""
    statuses = (await limiter.check(entity_id, resource)).statuses
    return {status.limit.name: status.available for status in statuses if status.entity_id == entity_id}


async def test_every_target_is_charged(new_limiter: Any) -> None:
    """A target without amounts is charged the call's, another its own; the statuses come in the order of the targets."""
    limiter = new_limiter("requests=10/hour", "tokens=100/hour")
    also = [EVERYBODY, ("provider", "model", {"requests": 1})]
    async with limiter.acquire("user", "search", {"requests": 2, "tokens": 30}, also=also) as lease:
        assert lease.consumed == {"requests": 2, "tokens": 30}
        assert [(status.entity_id, status.resource, status.requested) for status in lease.statuses] == [
            ("user", "search", 2),
            ("user", "search", 30),
            ("everybody", "search", 2),
            ("everybody", "search", 30),
            ("provider", "model", 1),
        ]
    assert await left(limiter, "user") == await left(limiter, "everybody") == {"requests": 8, "tokens": 70}
    assert await left(limiter, "provider", "model") == {"requests": 9, "tokens": 100}


async def test_several_targets_cost_one_round_trip(new_limiter: Any, repository: Any) -> None:
    """What is stored of all targets is read at once, and each bucket is written once."""
    limiter = new_limiter("requests=10/hour")
    repository.take()
    assert await limiter.try_acquire("user", "search", also=[EVERYBODY, ("provider", "model")])
    assert repository.take() == {"read_records": 1, "write_bucket": 3}
    assert await limiter.try_acquire("user", "search", also=[EVERYBODY, ("provider", "model")])
    assert repository.take() == {"write_bucket": 3}


async def test_sixteen_buckets_are_one_round_trip(new_limiter: Any, repository: Any) -> None:
    """The most that a call may charge is read at once and written at once, all or none."""
    limiter, other = new_limiter("requests=10/hour"), new_limiter("requests=10/hour")
    also = [(f"target-{number}", "search") for number in range(15)]
    repository.take()
    assert await limiter.try_acquire("user", "search", {"requests": 2}, also=also)
    assert repository.take() == {"read_records": 1, "write_bucket": 16}
    assert await limiter.try_acquire("user", "search", {"requests": 2}, also=also)
    assert repository.take() == {"write_bucket": 16}
    await other.try_acquire("target-9", "search", {"requests": 5})
    assert not await limiter.try_acquire("user", "search", {"requests": 2}, also=also)
    for entity, _ in also:
        assert await left(limiter, entity) == {"requests": 1 if entity == "target-9" else 6}


@pytest.mark.parametrize("full", ["user", "everybody", "company"])
async def test_a_refusal_anywhere_gives_back_the_rest(new_limiter: Any, full: str) -> None:
    """Whichever bucket is empty, the others are as before, for every way to ask."""
    limiter, other = new_limiter("requests=10/hour"), new_limiter("requests=10/hour")
    await limiter.create_entity("company")
    await limiter.create_entity("everybody", parent_id="company")
    assert await other.try_acquire(full, "search", {"requests": 9}, limits=TEN)
    before = [await left(other, each) for each in ("user", "everybody", "company")]
    with pytest.raises(RateLimitExceeded) as refusal:
        async with limiter.acquire("user", "search", {"requests": 2}, also=[EVERYBODY]):
            pass
    assert {status.entity_id for status in refusal.value.violations} >= {full}
    decision = await limiter.try_acquire("user", "search", {"requests": 2}, also=[EVERYBODY])
    assert not decision
    assert not await limiter.check("user", "search", {"requests": 2}, also=[EVERYBODY])
    assert [await left(other, each) for each in ("user", "everybody", "company")] == before


async def test_a_call_that_another_target_refuses_begins_no_session(new_limiter: Any, clock: FakeClock) -> None:
    """The session begins with the first real use, an hour later, and lasts from then on."""
    limiter = new_limiter()
    await limiter.set_limits([Limit.parse("requests=2/session of 5 hours")], entity_id="user")
    await limiter.set_limits(TEN, entity_id="everybody")
    assert await limiter.try_acquire("everybody", "search", {"requests": 10})
    assert not await limiter.try_acquire("user", "search", also=[EVERYBODY])
    clock.advance(3_600)
    assert await limiter.try_acquire("user", "search", {"requests": 2}, also=[("everybody", "search", {"requests": 1})])
    clock.advance(4 * 3_600)
    assert (await limiter.try_acquire("user", "search")).retry_after == pytest.approx(3_600)
    clock.advance(3_600)
    assert await limiter.try_acquire("user", "search")


async def test_a_check_tells_of_every_target(new_limiter: Any, repository: Any) -> None:
    """A check consults the same buckets and takes nothing."""
    limiter = new_limiter("requests=10/hour")
    decision = await limiter.check("user", "search", {"requests": 2}, also=[EVERYBODY, ("provider", "model", {"requests": 11})])
    assert not decision
    assert [(status.entity_id, status.available, status.exceeded) for status in decision.statuses] == [
        ("user", 10, False),
        ("everybody", 10, False),
        ("provider", 10, True),
    ]
    assert await left(limiter, "user") == {"requests": 10}


async def test_targets_bring_their_parents(new_limiter: Any) -> None:
    """Each target's chain is charged, a bucket that two of them reach once, with the amounts of the first."""
    limiter = new_limiter("requests=100/hour")
    await limiter.create_entity("company")
    await limiter.create_entity("user", parent_id="company")
    await limiter.create_entity("team", parent_id="company")
    assert await limiter.try_acquire("user", "search", {"requests": 2}, also=[("team", "search", {"requests": 5})])
    assert [(await left(limiter, each))["requests"] for each in ("user", "team", "company")] == [98, 95, 98]
    assert await limiter.try_acquire("user", "search", {"requests": 2}, also=[("company", "search", {"requests": 50})])
    assert [(await left(limiter, each))["requests"] for each in ("user", "company")] == [96, 96]
    assert await limiter.try_acquire("company", "search", {"requests": 3}, also=[("user", "search", {"requests": 7})])
    assert [(await left(limiter, each))["requests"] for each in ("user", "company")] == [89, 93]


async def test_limits_of_a_call_are_those_of_its_own_bucket(new_limiter: Any) -> None:
    """`limits=` replaces the entity's own limits only; other targets keep theirs."""
    limiter = new_limiter("requests=10/hour")
    assert await limiter.try_acquire("user", "search", {"requests": 10}, limits=HUNDRED, also=[EVERYBODY])
    assert await left(limiter, "everybody") == {"requests": 0}
    decision = await limiter.try_acquire("user", "search", {"requests": 1}, limits=HUNDRED, also=[EVERYBODY])
    assert [status.entity_id for status in decision.statuses if status.exceeded] == ["everybody"]


async def test_an_amount_above_any_capacity_makes_no_write(new_limiter: Any, repository: Any) -> None:
    """What one target can never admit is refused before anything is taken."""
    limiter = new_limiter("requests=10/hour")
    assert await limiter.check("user", "search", also=[EVERYBODY])
    repository.take()
    with pytest.raises(NeverSatisfiable):
        async with limiter.acquire("user", "search", also=[("everybody", "search", {"requests": 11})]):
            pass
    assert "write_bucket" not in repository.take()


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ([("user", "search")], r"the target 'user'/'search' is named twice"),
        ([EVERYBODY, ("everybody", "search", {"requests": 1})], r"the target 'everybody'/'search' is named twice"),
        ("everybody", r"also must be a list of targets such as \[\(\"everybody\", \"search\"\)\], not 'everybody'"),
        (5, "also must be a list of targets"),
        (("everybody", "search"), r"a target in also must be like"),
        ([("everybody",)], r"a target in also must be like .*, not \('everybody',\)"),
        ([("a", "b", {}, "c")], "a target in also must be like"),
        ([("a", 5)], "resource in also must be a string, not 5"),
        ([("a", "b", {"requests": -1})], "amount of 'requests'"),
        ([("a", "b", 5)], "amounts must be a mapping"),
        ([(f"e{number}", "search") for number in range(16)], "17 buckets are too many for one call.*at most 16"),
    ],
)
async def test_targets_are_checked(new_limiter: Any, also: Any, message: str) -> None:
    """An `also` that is not a list of different targets raises an error with the remedy, in every kind of call."""
    limiter = new_limiter("requests=10/hour")
    for ask in (limiter.acquire, limiter.try_acquire, limiter.check):
        with pytest.raises(ValidationError, match=message):
            await ask("user", "search", also=also)


async def test_parents_count_among_the_buckets(new_limiter: Any) -> None:
    """A call charges at most sixteen buckets, including those of the chains."""
    limiter = new_limiter("requests=10/hour")
    await limiter.create_entity("company")
    await limiter.create_entity("user", parent_id="company")
    others = [(f"e{number}", "search") for number in range(14)]
    assert await limiter.try_acquire("user", "search", also=others)
    with pytest.raises(ValidationError, match="17 buckets are too many"):
        await limiter.try_acquire("user", "search", also=[*others, EVERYBODY])


async def test_every_name_is_known_in_one_bucket_at_least(new_limiter: Any) -> None:
    """A bucket without a limit of that name is not charged for it, and a name that no bucket has consumes nothing."""
    limiter = new_limiter()
    await limiter.set_limits(TEN, entity_id="user")
    await limiter.set_limits([Limit.parse("tokens=10/hour")], entity_id="everybody")
    assert await limiter.try_acquire("user", "search", {"requests": 1, "tokens": 2}, also=[EVERYBODY])
    assert (await left(limiter, "user"), await left(limiter, "everybody")) == ({"requests": 9}, {"tokens": 8})
    for amounts, theirs in (({"requests": 1, "words": 1}, {"tokens": 1}), ({"requests": 1}, {"words": 1})):
        with pytest.raises(ValidationError, match="unknown limit 'words'; this call is limited by: requests, tokens"):
            await limiter.try_acquire("user", "search", amounts, also=[("everybody", "search", theirs)])
    assert (await left(limiter, "user"), await left(limiter, "everybody")) == ({"requests": 9}, {"tokens": 8})


async def test_without_amounts_one_of_every_limit_is_taken(new_limiter: Any) -> None:
    """The call's amounts of none are 1 of every limit, in the own bucket and in targets without amounts."""
    limiter = new_limiter()
    await limiter.set_limits(TEN, entity_id="user")
    await limiter.set_limits([Limit.parse("tokens=10/hour")], entity_id="everybody")
    await limiter.set_limits([Limit.parse("words=10/hour")], entity_id="provider")
    async with limiter.acquire("user", "search", also=[EVERYBODY, ("provider", "search", {"words": 4})]) as lease:
        assert lease.consumed == {"requests": 1, "tokens": 1}
    assert [await left(limiter, each) for each in ("user", "everybody", "provider")] == [
        {"requests": 9},
        {"tokens": 9},
        {"words": 6},
    ]


async def test_corrections_reach_every_bucket_that_has_the_name(new_limiter: Any) -> None:
    """More is taken in each, and less is given back in each as far as it is held there."""
    limiter = new_limiter("requests=10/hour", "tokens=1000/hour")
    also = [EVERYBODY, ("provider", "search", {"requests": 1, "tokens": 5})]
    async with limiter.acquire("user", "search", {"requests": 1, "tokens": 100}, also=also) as lease:
        await lease.adjust(tokens=+20)
        assert [(await left(limiter, each))["tokens"] for each in ("user", "everybody", "provider")] == [880, 880, 975]
        await lease.consume(tokens=10)
        assert [(await left(limiter, each))["tokens"] for each in ("user", "everybody", "provider")] == [870, 870, 965]
        await lease.release(tokens=50)
        assert [(await left(limiter, each))["tokens"] for each in ("user", "everybody", "provider")] == [920, 920, 1000]
        assert lease.consumed == {"requests": 1, "tokens": 80}
        with pytest.raises(ValidationError, match="cannot refund 81 of 'tokens': the lease holds 80"):
            await lease.release(tokens=81)


async def test_what_only_another_target_holds_can_be_corrected(new_limiter: Any) -> None:
    """A limit that only another target has is corrected in that target's bucket."""
    limiter = new_limiter("requests=10/hour", "tokens=100/hour")
    async with limiter.acquire("user", "search", {"requests": 1}, also=[("everybody", "search", {"tokens": 30})]) as lease:
        await lease.release(tokens=10)
        assert lease.consumed == {"requests": 1}
        with pytest.raises(ValidationError, match="cannot refund 21 of 'tokens': the lease holds 20"):
            await lease.release(tokens=21)
    assert await left(limiter, "everybody") == {"requests": 10, "tokens": 80}


async def test_an_error_gives_back_everything(new_limiter: Any) -> None:
    """What each bucket holds is given back there, also where its amounts differ from the call's."""
    limiter = new_limiter("requests=100/hour", "tokens=100/hour")
    also = [("everybody", "search", {"requests": 40}), ("provider", "search", {"tokens": 7})]
    with pytest.raises(Failure):
        async with limiter.acquire("user", "search", {"requests": 2}, also=also) as lease:
            await lease.adjust(requests=+3)
            raise Failure
    for entity in ("user", "everybody", "provider"):
        assert await left(limiter, entity) == {"requests": 100, "tokens": 100}


async def test_what_is_kept_is_kept_in_every_bucket(new_limiter: Any) -> None:
    """`keep` settles what each bucket holds."""
    limiter = new_limiter("requests=100/hour")
    with pytest.raises(Failure):
        async with limiter.acquire("user", "search", {"requests": 2}, also=[("everybody", "search", {"requests": 40})]) as lease:
            lease.keep()
            await lease.consume(requests=5)
            raise Failure
    assert (await left(limiter, "user"), await left(limiter, "everybody")) == ({"requests": 98}, {"requests": 60})


async def test_a_wait_is_for_the_latest_start_of_all_targets(new_limiter: Any, clock: FakeClock) -> None:
    """A caller that is willing waits until every target admits it."""
    limiter = new_limiter("requests=6/minute burst 1")
    assert await limiter.try_acquire("user", "search")
    clock.advance(5)
    assert await limiter.try_acquire("everybody", "search")
    async with limiter.acquire("user", "search", also=[EVERYBODY], timeout=30) as lease:
        assert lease.waited == 10.0


async def test_a_decorated_function_has_targets(new_limiter: Any) -> None:
    """The decorator takes them, or a function of the call's arguments."""
    limiter = new_limiter("requests=10/hour")

    @limiter.limited("user", "search", also=lambda who: [(who, "search", {"requests": 3})])
    async def call(who: str) -> str:
        return who

    assert await call("everybody") == "everybody"
    assert (await left(limiter, "user"), await left(limiter, "everybody")) == ({"requests": 9}, {"requests": 7})


async def test_without_the_table_every_target_is_limited_locally(store: Any, clock: FakeClock) -> None:
    """With "local" the buckets of all targets are charged in this process; with "allow" none is."""
    limiter = RateLimiter(store, TEN, on_unavailable="local", decision_timeout=60.0)
    assert await limiter.check("user", "search", also=[EVERYBODY])
    store.error = RateLimiterUnavailable("no table")
    also = [("everybody", "search", {"requests": 6})]
    async with limiter.acquire("user", "search", {"requests": 1}, also=also) as lease:
        assert (lease.degraded, lease.consumed) == (True, {"requests": 1})
    decision = await limiter.try_acquire("user", "search", {"requests": 1}, also=also)
    assert [(status.entity_id, status.exceeded) for status in decision.statuses] == [("user", False), ("everybody", True)]
    async with limiter.acquire("user", "search", {"requests": 1}, also=also, on_unavailable="allow") as lease:
        assert (lease.degraded, lease.consumed) == (True, {"requests": 1})
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user", "search", {"requests": 1}, also=also, on_unavailable="block")


async def test_limits_that_were_never_read_refuse_no_call_with_allow(store: Any) -> None:
    """If the limits of no target are known, a call with any names is allowed."""
    store.error = RateLimiterUnavailable("no table")
    limiter = RateLimiter(store, on_unavailable="allow", decision_timeout=60.0)
    assert await limiter.try_acquire("user", "search", {"words": 1}, also=[("everybody", "search", {"tokens": 6})])
    with pytest.raises(RateLimiterUnavailable, match="never read"):
        await limiter.try_acquire("user", "search", {"words": 1}, also=[EVERYBODY], on_unavailable="local")
