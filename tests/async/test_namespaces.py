# twin: ../sync/test_namespaces.py
"""Namespaces, and listings for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, UnreadableItem, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine

ONE = [Limit.parse("requests=1/minute")]


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
async def test_namespaces_share_nothing(open_repository: Callable[..., Any], engine: Engine) -> None:
    """Limits, entities and buckets of one namespace are unknown in another of the same table."""
    first, second = (
        RateLimiter(open_repository("first"), ONE, decision_timeout=60),
        RateLimiter(open_repository("second"), ONE, decision_timeout=60),
    )
    assert await first.try_acquire("user")
    await first.create_entity("org")
    await first.set_limits([Limit.parse("requests=5/minute")], resource="model")
    assert await second.try_acquire("user")
    assert await second.get_entity("org") is None
    assert await second.resolve_limits("user", "model") == tuple(ONE)
    assert await first.list_namespaces() == ("first", "second")


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
async def test_a_namespace_is_deleted_whole_and_alone(open_repository: Callable[..., Any], engine: Engine) -> None:
    """Everything of it goes, in as many pages as it takes; nothing of another goes, not even with a name that begins alike."""
    doomed, spared = (
        RateLimiter(open_repository("doomed"), ONE, decision_timeout=60),
        RateLimiter(open_repository("doomed-not"), ONE, decision_timeout=60),
    )
    for number in range(60):
        assert await doomed.try_acquire(f"user-{number}")
    await doomed.create_entity("org")
    await doomed.set_limits([Limit.parse("requests=5/minute")])
    assert await spared.try_acquire("user")
    assert await spared.delete_namespace("doomed") == 62
    assert await spared.delete_namespace("doomed") == 0
    assert await spared.list_namespaces() == ("doomed-not",)
    assert not await spared.try_acquire("user")
    assert await doomed.get_limits() is None


async def test_deleting_ones_own_namespace_forgets_what_was_remembered(new_limiter: Any) -> None:
    """Stored limits are gone at once for the process that deleted them."""
    limiter = new_limiter("requests=7/minute")
    await limiter.set_limits(ONE, entity_id="user")
    assert await limiter.resolve_limits("user", "model") == tuple(ONE)
    assert await limiter.delete_namespace("default") == 1
    assert (await limiter.resolve_limits("user", "model"))[0].capacity == 7


async def test_listings_for_people(new_limiter: Any) -> None:
    """The resources that an entity has used, and the entities with limits of their own for a resource."""
    limiter = new_limiter("requests=10/minute")
    for resource in ("b", "a", "c"):
        assert await limiter.try_acquire("user", resource)
    for entity in ("x", "y"):
        await limiter.set_limits(ONE, entity_id=entity, resource="model")
    await limiter.set_limits(ONE, entity_id="z")
    assert await limiter.list_resources("user") == ("a", "b", "c")
    assert await limiter.list_resources("unknown") == ()
    assert await limiter.list_entities("model") == ("x", "y")
    await limiter.delete_limits("x", "model")
    assert await limiter.list_entities("model") == ("y",)


@pytest.mark.parametrize("name", ["", "a\x7fb", None])
async def test_bad_names_are_refused(new_limiter: Any, name: Any) -> None:
    """Listings and deletions take names that could exist."""
    limiter = new_limiter()
    for call in (limiter.list_resources, limiter.list_entities, limiter.list_children, limiter.delete_namespace):
        with pytest.raises(ValidationError):
            await call(name)


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
@pytest.mark.parametrize(
    "attribute",
    [
        {"t:tokens|1/12": {"S": "soon"}},
        {"t:tokens|1/12": {"N": "1800000000000000000.5"}},
        {"t:tokens|1/12": {"N": "9" * 19}, "s:tokens|1/12": {"BOOL": True}},
    ],
)
async def test_an_unreadable_bucket_is_named_and_takes_nothing(
    new_limiter: Any, repository: Any, engine: Engine, attribute: dict[str, Any]
) -> None:
    """A limit whose stored state makes no sense is a typed error with its key; the bucket's other limits go on."""
    item = {"pk": {"S": "default#user"}, "sk": {"S": "b#model"}, **attribute}
    await repository.inner._table.call("PutItem", {"TableName": repository.inner.stack, "Item": item})
    limiter = new_limiter("requests=5/minute", "tokens=5/minute")
    for amounts in ({"tokens": 1}, {"requests": 1, "tokens": 1}):
        with pytest.raises(UnreadableItem, match="default#user/b#model"):
            await limiter.try_acquire("user", "model", amounts)
    assert (await limiter.try_acquire("user", "model", {"requests": 1})).statuses[0].available == 4
    assert await limiter.try_acquire("other", "model")


BROKEN = (
    {"v": {"N": "2"}, "limits": {"L": []}},
    {"v": {"N": "1"}},
    {"limits": {"L": []}},
    {"v": {"N": "1"}, "limits": {"L": []}},
    {"v": {"N": "1"}, "limits": {"S": "requests"}},
    {"v": {"N": "1"}, "limits": {"L": [{"M": {"name": {"S": "a"}}}]}},
    {"v": {"S": "one"}, "limits": {"L": []}},
)


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
@pytest.mark.parametrize("attributes", BROKEN)
async def test_an_unreadable_item_is_named_and_harms_no_other_caller(
    new_limiter: Any, repository: Any, engine: Engine, attributes: dict[str, Any]
) -> None:
    """A record of another version or shape is a typed error with its key; other entities go on."""
    item = {"pk": {"S": "default#user"}, "sk": {"S": "l#model"}, **attributes}
    await repository.inner._table.call("PutItem", {"TableName": repository.inner.stack, "Item": item})
    limiter = new_limiter("requests=5/minute")
    with pytest.raises(UnreadableItem, match="default#user/l#model"):
        await limiter.try_acquire("user", "model")
    with pytest.raises(UnreadableItem, match="default#user/l#model"):
        await limiter.get_limits("user", "model")
    assert await limiter.try_acquire("user", "other")
    assert await limiter.try_acquire("other", "model")
    await limiter.set_limits(ONE, entity_id="user", resource="model")
    assert await limiter.try_acquire("user", "model")
