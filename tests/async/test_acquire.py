# twin: ../sync/test_acquire.py
"""Deciding: what is admitted, what is refused, and what that costs.

The test of `limiter.acquirer`, `limiter.acquisition`, `limiter.core.call` and `limiter.limiter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, NeverSatisfiable, RateLimitExceeded, Repository, ValidationError

if TYPE_CHECKING:
    from support.engines import FakeClock


async def test_a_full_bucket_admits_its_capacity_and_no_more(new_limiter: Any) -> None:
    """With time standing still, exactly the capacity is admitted."""
    limiter = new_limiter("requests=7/minute")
    decisions = [await limiter.try_acquire("user", "model") for _ in range(9)]
    assert [decision.allowed for decision in decisions] == [True] * 7 + [False] * 2
    assert [decision.statuses[0].available for decision in decisions] == [6, 5, 4, 3, 2, 1, 0, 0, 0]


async def test_a_refusal_says_when_to_come_back(new_limiter: Any, clock: FakeClock) -> None:
    """After exactly `retry_after` seconds, and not a moment before, the same acquire is admitted."""
    limiter = new_limiter("requests=6/minute burst 2")
    for _ in range(2):
        async with limiter.acquire("user"):
            pass
    with pytest.raises(RateLimitExceeded) as refusal:
        async with limiter.acquire("user"):
            pass
    assert refusal.value.retry_after == 10.0
    assert [status.limit.name for status in refusal.value.violations] == ["requests"]
    clock.advance(9.999)
    assert not await limiter.try_acquire("user")
    clock.advance(0.001)
    assert await limiter.try_acquire("user")


async def test_all_limits_are_charged_or_none(new_limiter: Any) -> None:
    """A request that one limit refuses takes nothing from the others."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    assert await limiter.try_acquire("user", "model", {"requests": 1, "tokens": 90})
    refused = await limiter.try_acquire("user", "model", {"requests": 1, "tokens": 20})
    assert [(status.limit.name, status.exceeded) for status in refused.statuses] == [("requests", False), ("tokens", True)]
    left = await limiter.check("user", "model")
    assert {status.limit.name: status.available for status in left.statuses} == {"requests": 9, "tokens": 10}


async def test_without_amounts_one_of_every_limit_is_taken(new_limiter: Any) -> None:
    """Omitted amounts mean 1 of each."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    decision = await limiter.try_acquire("user")
    assert {status.limit.name: status.available for status in decision.statuses} == {"requests": 9, "tokens": 99}


async def test_a_limit_that_is_not_named_is_not_consulted(new_limiter: Any) -> None:
    """Amounts for some limits leave the others alone, even in debt."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    async with limiter.acquire("user", consume={"tokens": 100}) as lease:
        await lease.adjust(tokens=500)
    decision = await limiter.try_acquire("user", consume={"requests": 1})
    assert decision.allowed
    assert [status.limit.name for status in decision.statuses] == ["requests"]


async def test_an_amount_of_zero_takes_nothing_but_is_refused_in_debt(new_limiter: Any, clock: FakeClock) -> None:
    """Zero units are admitted down to an empty bucket, and refused until a debt is paid."""
    limiter = new_limiter("tokens=60/minute")
    assert await limiter.try_acquire("user", consume={"tokens": 60})
    assert await limiter.try_acquire("user", consume={"tokens": 0})
    async with limiter.acquire("user", consume={"tokens": 0}) as lease:
        await lease.adjust(tokens=30)
    refused = await limiter.try_acquire("user", consume={"tokens": 0})
    assert (refused.allowed, refused.retry_after, refused.statuses[0].available) == (False, 30.0, -30)
    clock.advance(30)
    assert await limiter.try_acquire("user", consume={"tokens": 0})
    assert not await limiter.try_acquire("user", consume={"tokens": 1})


async def test_check_takes_nothing(new_limiter: Any) -> None:
    """A check answers as the acquire would, any number of times."""
    limiter = new_limiter("requests=2/minute")
    for _ in range(5):
        assert await limiter.check("user", consume={"requests": 2})
    assert not await limiter.check("user", consume={"requests": 3})
    assert await limiter.try_acquire("user", consume={"requests": 2})
    assert not await limiter.check("user")


async def test_above_capacity_is_refused_without_a_call(new_limiter: Any, repository: Any) -> None:
    """What no wait can satisfy is refused at once, with no time to retry."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    assert await limiter.try_acquire("user")
    repository.take()
    with pytest.raises(NeverSatisfiable) as refusal:
        async with limiter.acquire("user", consume={"requests": 1, "tokens": 101}, timeout=3600):
            pass
    assert refusal.value.retry_after is None
    assert [status.limit.name for status in refusal.value.violations] == ["tokens"]
    decision = await limiter.try_acquire("user", consume={"tokens": 101})
    assert (decision.allowed, decision.retry_after) == (False, None)
    assert not await limiter.try_acquire("stranger", consume={"tokens": 2}, limits=[Limit.parse("tokens=1/hour")])
    assert repository.take() == {}


async def test_limits_of_the_call_apply_at_once_to_a_bucket_in_use(new_limiter: Any) -> None:
    """A raised limit admits more at once, and a lowered one less, on the same bucket."""
    limiter = new_limiter("requests=10/minute")
    for _ in range(10):
        assert await limiter.try_acquire("user")
    assert not await limiter.try_acquire("user")
    higher = [Limit.parse("requests=10/minute burst 25")]
    assert sum([bool(await limiter.try_acquire("user", limits=higher)) for _ in range(30)]) == 15
    assert not await limiter.try_acquire("user")


async def test_a_changed_rate_keeps_the_units_used(new_limiter: Any, clock: FakeClock) -> None:
    """A new rate begins with what its name has used, and refills it at its own pace."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.try_acquire("user", consume={"requests": 5})
    statuses = (await limiter.check("user", limits=[Limit.parse("requests=100/minute")])).statuses
    assert (statuses[0].available, statuses[0].reset_after) == (95, 3.0)


async def test_entities_and_resources_have_buckets_of_their_own(new_limiter: Any) -> None:
    """What one entity takes of one resource concerns no other entity and no other resource."""
    limiter = new_limiter("requests=1/minute")
    for entity, resource in (("a", "x"), ("a", "y"), ("b", "x"), ("ab", ""), ("a", "bx"))[:3]:
        assert await limiter.try_acquire(entity, resource)
        assert not await limiter.try_acquire(entity, resource)


async def test_two_limiters_share_one_bucket(new_limiter: Any) -> None:
    """Clients that know nothing of each other admit the capacity together."""
    first, second = new_limiter("requests=10/minute"), new_limiter("requests=10/minute")
    admitted = [bool(await (first, second)[turn % 2].try_acquire("user")) for turn in range(14)]
    assert admitted == [True] * 10 + [False] * 4


async def test_an_acquire_costs_one_write_when_warm(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """One write when idle, when busy, and when idle again; one read when refused."""
    limiter = new_limiter("requests=2/minute", config_ttl=10_000)
    assert await limiter.try_acquire("user", consume={"requests": 0})
    repository.take()
    costs = []
    for seconds in (0, 1, 2, 600):
        clock.advance(seconds)
        await limiter.try_acquire("user")
        costs.append(repository.take())
    assert costs == [{"write_bucket": 1}, {"write_bucket": 1}, {"read_bucket": 1}, {"write_bucket": 1}]


async def test_a_cold_acquire_costs_one_read_and_one_write(new_limiter: Any, repository: Any) -> None:
    """A client takes a bucket that it has not seen to be idle, as most are; if it is not, the failed write tells its state."""
    cold, other = new_limiter("requests=3/minute"), new_limiter("requests=3/minute")
    assert await cold.try_acquire("another")
    assert repository.take() == {"read_records": 1, "write_bucket": 1}
    assert await other.try_acquire("user")
    repository.take()
    assert await cold.try_acquire("user")
    assert repository.take() == {"read_records": 1, "write_bucket": 2}


async def test_a_cold_refusal_costs_one_read_and_one_write(new_limiter: Any, repository: Any) -> None:
    """What the failed write tells proves a refusal."""
    cold, other = new_limiter("requests=3/minute"), new_limiter("requests=3/minute")
    assert await other.try_acquire("full", consume={"requests": 3})
    repository.take()
    assert not await cold.try_acquire("full")
    assert repository.take() == {"read_records": 1, "write_bucket": 1}


async def test_a_stale_view_costs_a_second_write(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """A client that others have overtaken learns the state from its failed write, and is decided by the second."""
    first, second = (new_limiter("requests=3/minute", config_ttl=10_000) for _ in range(2))
    for limiter in (first, second):
        assert await limiter.try_acquire("user")
    clock.advance(600)
    assert await second.try_acquire("user")
    repository.take()
    assert await first.try_acquire("user")
    assert repository.take() == {"write_bucket": 2}


async def test_a_refusal_is_remembered_for_a_bounded_time(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """While the last state seen proves a refusal there is no call, but after the bound there is a look."""
    limiter, other = new_limiter("requests=1/hour"), new_limiter("requests=1/hour")
    assert await limiter.try_acquire("user")
    repository.take()
    assert [bool(await limiter.try_acquire("user")) for _ in range(20)] == [False] * 20
    assert repository.take() == {}
    clock.advance(1.0)
    assert not await limiter.try_acquire("user")
    assert repository.take() == {"read_bucket": 1}
    assert not await other.try_acquire("user")


async def test_a_refund_in_this_process_ends_a_remembered_refusal(new_limiter: Any) -> None:
    """What is given back here is available here at once."""
    limiter = new_limiter("requests=1/hour")
    with pytest.raises(ZeroDivisionError):
        async with limiter.acquire("user"):
            assert not await limiter.try_acquire("user")
            raise ZeroDivisionError
    assert await limiter.try_acquire("user")


async def test_without_a_memory_of_refusals_every_refusal_looks(new_limiter: Any, repository: Any) -> None:
    """With `denial_ttl=0` what others give back is seen at once."""
    limiter, other = new_limiter("requests=1/hour", denial_ttl=0), new_limiter("requests=1/hour")
    async with other.acquire("user") as lease:
        assert not await limiter.try_acquire("user")
        await lease.release(requests=1)
        assert await limiter.try_acquire("user")


async def test_a_slow_limit_beside_a_busy_one_loses_no_refill(new_limiter: Any, clock: FakeClock) -> None:
    """Frequent writes for one limit do not round away the refill of a slow one."""
    limiter = new_limiter("fast=10/second", "slow=50/day burst 1")
    assert await limiter.try_acquire("user", consume={"slow": 1})
    for _ in range(100):
        clock.advance(17.28)
        assert await limiter.try_acquire("user", consume={"fast": 10})
    assert await limiter.try_acquire("user", consume={"slow": 1})


@pytest.mark.parametrize("amount", [-1, 1.0, True, None, "1", 10**13])
async def test_bad_amounts_are_named_and_take_nothing(new_limiter: Any, repository: Any, amount: Any) -> None:
    """An amount that is no integer from 0 up is refused before any call."""
    limiter = new_limiter("requests=10/minute")
    repository.take()
    with pytest.raises(ValidationError, match="amount of 'requests'"):
        await limiter.try_acquire("user", consume={"requests": amount})
    assert repository.take() == {}


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x7fb", "a\nb", "a\x00", "\ud800", None, 7])
async def test_bad_ids_are_named_and_take_nothing(new_limiter: Any, repository: Any, name: Any) -> None:
    """An id that could not be a key is refused before any call."""
    limiter = new_limiter("requests=10/minute")
    repository.take()
    with pytest.raises(ValidationError, match="entity_id"):
        await limiter.try_acquire(name)
    with pytest.raises(ValidationError, match="resource"):
        await limiter.try_acquire("user", name)
    assert repository.take() == {}


async def test_the_longest_ids_are_usable(new_limiter: Any) -> None:
    """255 characters of four bytes each fit the table's keys."""
    limiter = new_limiter(f"{'l' * 255}=10/minute")
    assert await limiter.try_acquire("\U0001f600" * 255, "\U0001f680" * 255)


async def test_as_many_limits_as_one_write_takes(new_limiter: Any) -> None:
    """Twenty-five limits are charged, waited for, and given back in one bucket."""
    limiter = new_limiter(*(f"limit-{number}=1/second" for number in range(25)))
    for _ in range(2):
        async with limiter.acquire("user", timeout=5) as lease:
            await lease.release({f"limit-{number}": 1 for number in range(25)})
    assert (await limiter.check("user")).allowed


async def test_an_unknown_limit_is_named_with_those_that_exist(new_limiter: Any) -> None:
    """A typo in a limit's name is refused, takes nothing, and shows the right names."""
    limiter = new_limiter("requests=10/minute", "tokens=100/minute")
    with pytest.raises(ValidationError, match=r"unknown limit 'token'.*requests, tokens"):
        await limiter.try_acquire("user", consume={"requests": 1, "token": 5})
    assert (await limiter.check("user")).statuses[0].available == 10


async def test_a_call_without_any_limit_is_an_error(new_limiter: Any) -> None:
    """No limits at all is more likely a mistake than a wish."""
    with pytest.raises(ValidationError, match="no limits apply"):
        await new_limiter().try_acquire("user")


async def test_an_acquire_that_is_not_entered_takes_nothing_and_says_so(new_limiter: Any) -> None:
    """A caller that forgets the `with` is warned, at the line of the call."""
    limiter = new_limiter("requests=1/minute")
    with pytest.warns(RuntimeWarning, match="never entered") as warnings:
        limiter.acquire("user")
    assert [warning.filename for warning in warnings] == [__file__]
    assert await limiter.try_acquire("user")


async def test_an_acquire_is_entered_once(new_limiter: Any) -> None:
    """The context manager of one acquire says whose it is, and does not take twice."""
    acquisition = new_limiter("requests=10/minute").acquire("user", "api")
    assert "'user'/'api'" in repr(acquisition)
    async with acquisition:
        pass
    with pytest.raises(Exception, match="once"):
        async with acquisition:
            pass


@pytest.mark.parametrize("options", [{"stack": "a b"}, {"stack": "ab"}, {"stack": None}, {"endpoint_url": "127.0.0.1:8000"}])
async def test_a_repository_takes_names_and_addresses_that_can_exist(options: dict[str, Any]) -> None:
    """A table name that DynamoDB refuses and an address without a scheme are named before any call."""
    with pytest.raises(ValidationError):
        Repository(**{"stack": "my-app", **options})
