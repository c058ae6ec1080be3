# twin: ../sync/test_entities.py
"""Entities: hierarchy, cascading charges, moves.

The test of `limiter.core.records` and `limiter.repository`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from limiter import Entity, EntityExists, EntityNotFound, Limit, RateLimitExceeded, ValidationError
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from support.engines import FakeClock


def limits(*texts: str) -> tuple[Limit, ...]:
    """Limits from their texts."""
    return tuple(Limit.parse(text) for text in texts)


async def family(limiter: Any, *chain: str) -> None:
    """Create a chain of entities, the top one first."""
    parent = None
    for entity in chain:
        await limiter.create_entity(entity, parent_id=parent)
        parent = entity


async def left(limiter: Any, entity: str) -> int:
    """Units available in an entity's own bucket."""
    decision = await limiter.check(entity)
    return next(status.available for status in decision.statuses if status.entity_id == entity)


async def test_an_entity_is_stored_as_it_was_given(new_limiter: Any) -> None:
    """Name, metadata, parent and cascade come back."""
    limiter = new_limiter()
    await limiter.create_entity("org")
    created = await limiter.create_entity("key", parent_id="org", cascade=False, name="A key", metadata={"plan": "pro"})
    assert created == Entity("key", "org", False, "A key", {"plan": "pro"})
    assert await limiter.get_entity("key") == created
    assert await limiter.get_entity("unknown") is None


async def test_an_entity_is_created_once(new_limiter: Any) -> None:
    """A second creation is an error and changes nothing."""
    limiter = new_limiter()
    await limiter.create_entity("org", name="first")
    with pytest.raises(EntityExists, match="'org'"):
        await limiter.create_entity("org", name="second")
    assert (await limiter.get_entity("org")).name == "first"


async def test_children_are_listed(new_limiter: Any) -> None:
    """All children, and no grandchildren, are listed by name."""
    limiter = new_limiter()
    await family(limiter, "org", "project", "key")
    for number in range(3):
        await limiter.create_entity(f"other-{number}", parent_id="org")
    assert [child.entity_id for child in await limiter.list_children("org")] == ["other-0", "other-1", "other-2", "project"]
    assert await limiter.list_children("key") == ()


async def test_a_charge_goes_up_the_whole_chain(new_limiter: Any) -> None:
    """What a key takes is taken from its project and organisation too, and from no sibling."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "org", "project", "key")
    await limiter.create_entity("sibling", parent_id="project")
    assert await limiter.try_acquire("key", consume={"requests": 4})
    assert [await left(limiter, entity) for entity in ("org", "project", "key", "sibling")] == [6, 6, 6, 10]


async def test_an_entity_without_cascade_charges_itself_alone(new_limiter: Any) -> None:
    """A parent is charged only where the entity says so."""
    limiter = new_limiter("requests=10/minute")
    await limiter.create_entity("org")
    await limiter.create_entity("key", parent_id="org", cascade=False)
    assert await limiter.try_acquire("key", consume={"requests": 4})
    assert [await left(limiter, entity) for entity in ("org", "key")] == [10, 6]


async def test_a_refusal_anywhere_charges_no_bucket_and_names_every_limit_in_the_way(new_limiter: Any) -> None:
    """All levels that refuse are named, with the longest wait, and nothing stays taken at the others."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "org", "project", "key")
    await limiter.set_limits(limits("requests=6/minute burst 2"), entity_id="org")
    await limiter.set_limits(limits("requests=2/minute"), entity_id="key")
    with pytest.raises(RateLimitExceeded) as refusal:
        async with limiter.acquire("key", limits=limits("requests=2/minute")), limiter.acquire("key"), limiter.acquire("key"):
            pass
    assert [status.entity_id for status in refusal.value.violations] == ["key", "org"]
    assert len(refusal.value.statuses) == 3
    assert refusal.value.retry_after == 30.0
    assert [await left(limiter, entity) for entity in ("org", "project", "key")] == [2, 10, 2]


async def test_a_refusal_without_a_call_says_of_every_level_what_one_with_a_call_says(new_limiter: Any) -> None:
    """A refusal from memory has the statuses of all buckets of the chain, like a refusal by a call."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "org", "key")
    await limiter.set_limits(limits("requests=1/minute"), entity_id="org")
    assert await limiter.try_acquire("key")
    told = await limiter.try_acquire("key")
    before = limiter.stats()
    again = await limiter.try_acquire("key")
    assert limiter.stats().calls == before.calls
    assert [(status.entity_id, status.exceeded) for status in again.statuses] == [("key", False), ("org", True)]
    assert [status.entity_id for status in told.statuses] == ["key", "org"]
    assert again.retry_after == told.retry_after == 60.0


async def test_parents_may_limit_what_the_child_does_not(new_limiter: Any) -> None:
    """A name is known when any bucket of the chain has it, and unnamed limits are left alone at every level."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "org", "key")
    await limiter.set_limits(limits("tokens=100/minute"), entity_id="org")
    assert await limiter.try_acquire("key", consume={"requests": 1, "tokens": 60})
    refused = await limiter.try_acquire("key", consume={"requests": 1, "tokens": 60})
    assert [(status.entity_id, status.limit.name, status.exceeded) for status in refused.statuses] == [
        ("key", "requests", False),
        ("org", "tokens", True),
    ]
    with pytest.raises(ValidationError, match="unknown limit 'token'"):
        await limiter.try_acquire("key", consume={"token": 1})


async def test_a_lease_settles_at_every_level(new_limiter: Any) -> None:
    """Corrections and refunds reach all buckets that were charged."""
    limiter = new_limiter("tokens=100/minute")
    await family(limiter, "org", "key")
    async with limiter.acquire("key", consume={"tokens": 50}) as lease:
        await lease.adjust(tokens=-20)
        await lease.consume(tokens=5)
        assert [await left(limiter, entity) for entity in ("org", "key")] == [65, 65]
    with pytest.raises(ZeroDivisionError):
        async with limiter.acquire("key", consume={"tokens": 50}):
            raise ZeroDivisionError
    assert [await left(limiter, entity) for entity in ("org", "key")] == [65, 65]


async def test_a_wait_is_the_longest_of_the_chain(new_limiter: Any) -> None:
    """With `timeout`, the caller starts when the last of its buckets allows it."""
    limiter = new_limiter("requests=6/minute burst 1")
    await family(limiter, "org", "key")
    await limiter.set_limits(limits("requests=3/minute burst 1"), entity_id="org")
    assert await limiter.try_acquire("key")
    async with limiter.acquire("key", timeout=30) as lease:
        assert lease.waited == 20.0


async def test_a_wait_that_one_level_cannot_grant_books_nothing_at_the_others(new_limiter: Any) -> None:
    """A refusal at one level takes back the booking at another."""
    limiter = new_limiter("requests=6/minute burst 1")
    await family(limiter, "org", "key")
    await limiter.set_limits(limits("requests=1/hour"), entity_id="org")
    assert await limiter.try_acquire("key")
    with pytest.raises(RateLimitExceeded):
        async with limiter.acquire("key", timeout=30):
            pass
    statuses = (await limiter.check("key")).statuses
    assert {status.entity_id: status.retry_after for status in statuses} == {"key": 10.0, "org": 3600.0}


async def test_a_cold_chain_costs_three_round_trips_and_a_warm_one_a_single(new_limiter: Any, repository: Any) -> None:
    """One read without a parent, two with any number of ancestors, and one write for each bucket, all at once."""
    admin = new_limiter("requests=10/minute")
    cold = new_limiter("requests=10/minute")
    chain = [f"level-{number}" for number in range(8)]
    await family(admin, *chain)
    repository.take()
    reader = type(admin)(repository, admin.limits)
    assert await reader.try_acquire("level-7")
    assert repository.take() == {"read_records": 2, "write_bucket": 8}
    assert await reader.try_acquire("level-7")
    assert repository.take() == {"write_bucket": 8}
    assert await reader.try_acquire("single")
    assert repository.take() == {"read_records": 1, "write_bucket": 1}
    assert await cold.try_acquire("level-7")


async def test_a_moved_entity_charges_its_new_chain(new_limiter: Any, clock: FakeClock) -> None:
    """This process sees a move at once, others within the time to live; an open lease corrects the buckets it charged."""
    limiter, elsewhere = new_limiter("requests=10/minute"), new_limiter("requests=10/minute")
    await family(limiter, "old", "key")
    await limiter.create_entity("new")
    assert await elsewhere.try_acquire("key")
    async with limiter.acquire("key", consume={"requests": 3}) as lease:
        await limiter.set_parent("key", "new")
        await lease.release(requests=2)
    assert [await left(limiter, entity) for entity in ("old", "new", "key")] == [8, 10, 8]
    assert await limiter.try_acquire("key")
    assert [await left(limiter, entity) for entity in ("old", "new", "key")] == [8, 9, 7]
    clock.advance(60)
    assert await elsewhere.try_acquire("key")
    assert [await left(elsewhere, entity) for entity in ("old", "new", "key")] == [10, 9, 9]


async def test_everything_below_moves_along_and_stays_cheap(new_limiter: Any, repository: Any) -> None:
    """After a move in the middle of a chain those below charge the new chain, by two reads as before."""
    admin = new_limiter("requests=10/minute")
    await family(admin, "old", "project", "team", "key")
    await family(admin, "root", "new")
    await admin.set_parent("project", "new")
    reader = type(admin)(repository, admin.limits)
    repository.take()
    decision = await reader.try_acquire("key")
    assert [status.entity_id for status in decision.statuses] == ["key", "team", "project", "new", "root"]
    assert repository.take() == {"read_records": 2, "write_bucket": 5}


async def test_a_deleted_parent_ends_the_chain(new_limiter: Any, clock: FakeClock) -> None:
    """Deleting a parent in use loses no charge, and its children go on without it."""
    limiter, elsewhere = new_limiter("requests=10/minute"), new_limiter("requests=10/minute")
    await family(limiter, "org", "project", "key")
    await limiter.set_limits(limits("requests=5/minute"), entity_id="project")
    assert await elsewhere.try_acquire("key")
    await limiter.delete_entity("project")
    assert await limiter.get_limits("project") is None
    assert [status.entity_id for status in (await limiter.try_acquire("key")).statuses] == ["key"]
    clock.advance(60)
    assert [status.entity_id for status in (await elsewhere.try_acquire("key")).statuses] == ["key"]
    await limiter.delete_entity("project")


async def test_an_entity_without_a_parent_again(new_limiter: Any) -> None:
    """A parent can be taken away."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "org", "key")
    assert (await limiter.set_parent("key", None)).parent_id is None
    assert [status.entity_id for status in (await limiter.try_acquire("key")).statuses] == ["key"]
    assert await limiter.list_children("org") == ()


async def test_cycles_are_refused(new_limiter: Any) -> None:
    """No entity becomes its own ancestor."""
    limiter = new_limiter()
    await family(limiter, "a", "b", "c")
    for child, parent in (("a", "a"), ("a", "b"), ("a", "c")):
        with pytest.raises(ValidationError, match="its own ancestor"):
            await limiter.set_parent(child, parent)
    with pytest.raises(ValidationError, match="its own ancestor"):
        await limiter.create_entity("self", parent_id="self")
    assert (await limiter.get_entity("a")).parent_id is None


async def test_concurrent_moves_make_no_cycle(new_limiter: Any) -> None:
    """Of two moves that would close a cycle together, one is refused."""
    limiter, other = new_limiter(), new_limiter()
    await limiter.create_entity("a")
    await limiter.create_entity("b")
    outcomes = await gather([lambda: limiter.set_parent("a", "b"), lambda: other.set_parent("b", "a")])
    assert sum(isinstance(outcome, Entity) for outcome in outcomes) == 1
    parents = {(await limiter.get_entity("a")).parent_id, (await limiter.get_entity("b")).parent_id}
    assert parents in ({None, "a"}, {None, "b"})


async def test_an_ancestor_that_comes_back_below_makes_no_ring(new_limiter: Any, repository: Any) -> None:
    """A move fails if the missing ancestor of the new parent is created below the moved entity at the same time."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "gone", "middle")
    await limiter.create_entity("moved")
    await limiter.delete_entity("gone")
    link = repository.inner.link_entity

    async def come_back_first(*arguments: Any, **options: Any) -> None:
        repository.inner.link_entity = link
        await limiter.create_entity("gone", parent_id="moved")
        await link(*arguments, **options)

    repository.inner.link_entity = come_back_first
    with pytest.raises(ValidationError, match="its own ancestor"):
        await limiter.set_parent("moved", "middle")
    assert (await limiter.get_entity("moved")).parent_id is None


async def test_missing_parents_and_entities_are_refused(new_limiter: Any) -> None:
    """A missing parent and a missing entity are errors."""
    limiter = new_limiter()
    await limiter.create_entity("key")
    with pytest.raises(EntityNotFound, match="'unknown'"):
        await limiter.create_entity("other", parent_id="unknown")
    with pytest.raises(EntityNotFound, match="'unknown'"):
        await limiter.set_parent("key", "unknown")
    with pytest.raises(EntityNotFound, match="'unknown'"):
        await limiter.set_parent("unknown", "key")


async def test_chains_deeper_than_eight_are_refused(new_limiter: Any) -> None:
    """A creation or a move that would make a chain of nine entities, descendants included, is refused."""
    limiter = new_limiter()
    await family(limiter, *(f"level-{number}" for number in range(8)))
    with pytest.raises(ValidationError, match="too deep"):
        await limiter.create_entity("ninth", parent_id="level-7")
    await family(limiter, "top", "middle", "bottom")
    with pytest.raises(ValidationError, match="too deep"):
        await limiter.set_parent("top", "level-5")
    await limiter.set_parent("top", "level-4")


@pytest.mark.parametrize(
    "options", [{"parent_id": "a#b"}, {"metadata": {"a": 1}}, {"metadata": "x"}, {"name": "x" * 256}, {"parent_id": ""}]
)
async def test_bad_entities_are_refused(new_limiter: Any, options: dict[str, Any]) -> None:
    """Nothing that cannot be stored and read back is stored."""
    limiter = new_limiter()
    with pytest.raises(ValidationError):
        await limiter.create_entity("key", **options)
    assert await limiter.get_entity("key") is None


async def test_put_stores_an_entity_as_given(new_limiter: Any) -> None:
    """The entity is created, or every part of it is replaced, whether its parent changes or not."""
    limiter = new_limiter()
    await limiter.create_entity("org")
    await limiter.create_entity("project")
    for entity in (
        Entity("key", "org", True, "first", {"plan": "pro"}),
        Entity("key", "project", False, None, {}),
        Entity("key", "project", True, "third", {"plan": ""}),
        Entity("key"),
    ):
        assert await limiter.put_entity(entity) == entity
        assert await limiter.get_entity("key") == entity
        expected = () if entity.parent_id is None else (entity,)
        assert await limiter.list_children(str(entity.parent_id)) == expected


async def test_put_moves_what_is_below(new_limiter: Any) -> None:
    """A charge of an entity below goes up the new chain, also for another process."""
    limiter = new_limiter("requests=10/minute")
    await family(limiter, "old", "project", "key")
    await limiter.create_entity("new")
    await limiter.put_entity(Entity("project", "new", name="P"))
    assert await new_limiter("requests=10/minute").try_acquire("key", consume={"requests": 4})
    assert [await left(limiter, entity) for entity in ("old", "new", "project", "key")] == [10, 6, 6, 6]


async def test_put_refuses_what_cannot_be_stored(new_limiter: Any) -> None:
    """A parent that is not stored, a cycle and a value of another kind are errors, and nothing is changed."""
    limiter = new_limiter()
    await family(limiter, "org", "project")
    with pytest.raises(EntityNotFound, match="'unknown'"):
        await limiter.put_entity(Entity("key", "unknown"))
    with pytest.raises(ValidationError, match="its own ancestor"):
        await limiter.put_entity(Entity("org", "project"))
    with pytest.raises(ValidationError, match="must be an Entity"):
        await limiter.put_entity("key")
    with pytest.raises(ValidationError, match="metadata must map strings to strings"):
        await limiter.put_entity(Entity("key", metadata={"seats": 12}))  # type: ignore[dict-item] # as a caller may
    assert [entity.entity_id for entity in await limiter.list_stored_entities()] == ["org", "project"]


async def test_stored_entities_are_listed(new_limiter: Any) -> None:
    """All entities of the namespace are listed by id, and none of limits or buckets without an entity."""
    limiter = new_limiter("requests=10/minute")
    assert await limiter.list_stored_entities() == ()
    await family(limiter, "b", "a")
    await limiter.set_limits(limits("5/minute"), entity_id="c")
    await limiter.try_acquire("d")
    assert await limiter.list_stored_entities() == (Entity("a", "b"), Entity("b"))


async def test_buckets_are_listed_with_their_states(new_limiter: Any, repository: Any) -> None:
    """Each bucket of the namespace is there, and each of its limits says when it will be full."""
    limiter = new_limiter("requests=10/minute")
    assert await repository.buckets() == {}
    await limiter.create_entity("org")
    await limiter.set_limits(limits("5/minute"), resource="api")
    await limiter.try_acquire("a", "api", {"requests": 1})
    await limiter.try_acquire("b", "search", {"requests": 5})
    found = await repository.buckets()
    assert {key[1:]: state.levels.keys() for key, state in found.items()} == {
        ("a", "api"): {"requests|1/12"},
        ("b", "search"): {"requests|1/6"},
    }
    for key, state in found.items():
        assert state == await repository.read_bucket(key)
