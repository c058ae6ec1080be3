"""No id addresses items of another namespace, and no two things share a key."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engines import plain_client

from limiter import Entity, Limit, SyncRateLimiter, SyncRepository, ValidationError
from limiter.aws import queries, schema
from limiter.core.records import BucketKey, EntityKey, EntityRecord, LimitsKey
from limiter.core.state import Change, Mark, Update
from limiter.core.validation import check_name
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine


def is_name(text: str) -> bool:
    """Tell whether the limiter accepts a text as an id."""
    try:
        check_name("id", text)
    except ValidationError:
        return False
    return True


# Ids made of the separators of keys, so that they collide if they can.
ids = st.text("ablepr#%235:*?$/ \u0301é", min_size=1, max_size=4).filter(is_name) | st.text(max_size=6).filter(is_name)
places = st.tuples(ids, ids | st.none(), ids | st.none())


def keys_of(namespace: str, entity: str | None, resource: str | None) -> dict[Any, tuple[str, str]]:
    """Return every primary key that these names have, by what it belongs to."""
    found: dict[Any, Any] = {("limits", namespace, entity, resource): schema.record_key(namespace, LimitsKey(entity, resource))}
    if entity is not None:
        found["entity", namespace, entity] = schema.record_key(namespace, EntityKey(entity))
        if resource is not None:
            found["bucket", namespace, entity, resource] = schema.bucket_key(BucketKey(namespace, entity, resource))
    return {what: schema.item_key(key) for what, key in found.items()}


@settings(max_examples=1_000, derandomize=True, deadline=None)
@given(places, places)
@example(("a", "b", "c"), ("a", "b", None))
@example(("ab", "c", None), ("a", "bc", None))
def test_different_things_have_different_keys(one: Any, other: Any) -> None:
    """Two keys are equal only for the same kind of item of the same namespace, entity and resource."""
    for (what, key), (whose, another) in itertools.product(keys_of(*one).items(), keys_of(*other).items()):
        assert (key == another) == (what == whose)


@settings(max_examples=1_000, derandomize=True, deadline=None)
@given(places, ids)
def test_a_policy_for_a_namespace_fits_its_own_keys_only(place: Any, namespace: str) -> None:
    """The pattern of a policy, `NAMESPACE#*`, and the prefix of a scan match a key exactly if it is of that namespace.

    In the pattern a `#` within the namespace stands as in the key.
    """
    key = schema.record_key(namespace, LimitsKey())["pk"]["S"]
    assert key == f"{namespace}#" or "#" in namespace or "%" in namespace
    assert key.count("#") == 1
    pattern = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in key) + "*"
    scan = queries.keys_scan(namespace)["ExpressionAttributeValues"][":0"]["S"]
    for _, namespaced, *_ in keys_of(*place):
        for partition, _ in keys_of(*place).values():
            assert fnmatchcase(partition, pattern) == partition.startswith(scan) == (namespaced == namespace)


@settings(max_examples=1_000, derandomize=True, deadline=None)
@given(places)
def test_a_key_reads_back_as_what_it_was_made_of(place: Any) -> None:
    """A key reads back as the namespace, entity and level that it was made of."""
    namespace, entity, resource = place
    key = schema.record_key(namespace, LimitsKey(entity, resource))
    assert (schema.namespace_of(key), schema.entity_of(key)) == (namespace, entity or "")
    assert schema.limits_key(key) == LimitsKey(entity, resource)
    for what, other in keys_of(*place).items():
        item = {"pk": {"S": other[0]}, "sk": {"S": other[1]}}
        assert (schema.limits_key(item) is not None) == (what[0] == "limits")


@settings(max_examples=500, derandomize=True, deadline=None)
@given(ids, ids, ids, ids)
def test_lists_of_the_index_are_of_one_namespace_and_kind(namespace: str, name: str, other: str, another: str) -> None:
    """Index partitions of parents, of resources and of two namespaces never coincide."""
    asked = {
        ("p", namespace, name): queries.children_query(namespace, name),
        ("p", other, another): queries.children_query(other, another),
        ("r", namespace, name): queries.limited_entities_query(namespace, name),
        ("r", other, another): queries.limited_entities_query(other, another),
    }
    partitions = {query["ExpressionAttributeValues"][":0"]["S"] for query in asked.values()}
    assert len(partitions) == len(asked)
    child = schema.record_item(namespace, EntityKey(other), EntityRecord(Entity(other, parent_id=name), (name,)))
    level = schema.record_item(namespace, LimitsKey(other, name), (Limit.per_second("a", 1),))
    assert child["lpk"]["S"] == queries.children_query(namespace, name)["ExpressionAttributeValues"][":0"]["S"]
    assert level["lpk"]["S"] == queries.limited_entities_query(namespace, name)["ExpressionAttributeValues"][":0"]["S"]


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.lists(ids, min_size=2, max_size=4, unique=True))
def test_limits_of_a_bucket_share_no_attribute(names: list[str]) -> None:
    """Each field of each limit has its own attribute, and none is a key, the time to live or a stamp."""
    identities = [Limit.per_second(name, 1).identity for name in names]
    changes = tuple(Change(each, field, None, 1) for each in identities for field in ("tat", "since", "booked", "floor"))
    marks = tuple(Mark(name, None, True, identity) for name, identity in zip(names, identities, strict=True))
    written = schema.update_parameters(Update("stamp", (), changes, marks))["ExpressionAttributeNames"]
    own = [attribute for placeholder, attribute in written.items() if placeholder not in ("#w", "#w2", "#w3")]
    assert len(set(own)) == 5 * len(names)
    assert not set(own) & {"pk", "sk", "lpk", "lsk", "v", "w", "w2", "w3", "x", "ttl", "limits", "parent"}
    values = {attribute: {"S": "1/1"} if attribute[:2] == "m:" else {"N": "7"} for attribute in own}
    state = schema.bucket_state(values)
    assert set(state.levels) == set(identities)
    assert dict(state.marks) == dict(zip(names, identities, strict=True))
    assert {number for level in state.levels.values() for number in level} == {7}


@pytest.fixture
def table(server_engine: Engine, table_name: str) -> str:
    """A table without items."""
    create_table(table_name, client=plain_client(str(server_engine.endpoint_url)))
    return table_name


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
def test_an_item_cannot_enter_another_namespaces_lists(table: str, server_engine: Engine) -> None:
    """A writer of one namespace can forge entries in another's index partition, which no policy confines; readers ignore them."""
    client = plain_client(str(server_engine.endpoint_url))
    with SyncRepository(table, namespace="victim", client=client) as repository:
        limiter = SyncRateLimiter(repository, [Limit.per_second("a", 1)])
        limiter.create_entity("parent")
        limiter.create_entity("mine", parent_id="parent")
        limiter.set_limits([Limit.per_second("a", 1)], entity_id="mine", resource="api")
        for partition in ("victim#p#parent", "victim#r#api"):
            listed = {"lpk": {"S": partition}, "lsk": {"S": f"forged {partition}"}}
            client.put_item(TableName=table, Item={"pk": {"S": f"evil#x{partition[7]}"}, "sk": {"S": "e"}} | listed)
        assert repository.children("parent") == ("mine",)
        assert repository.limited_entities("api") == ("mine",)


@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_the_longest_names_fit_a_key(table: str, server_engine: Engine) -> None:
    """Ids of 255 four-byte characters each stay within DynamoDB's bounds for keys of the table and of the index."""
    longest = "\U0001f9ca" * 255
    with SyncRepository(table, namespace=longest, client=plain_client(str(server_engine.endpoint_url))) as repository:
        limiter = SyncRateLimiter(repository, [Limit.per_second(longest, 1)])
        limiter.create_entity(longest)
        limiter.create_entity("child", parent_id=longest)
        limiter.set_limits([Limit.per_second(longest, 1)], entity_id=longest, resource=longest)
        assert limiter.try_acquire("child", longest).allowed
        assert [each.entity_id for each in limiter.list_children(longest)] == ["child"]
        assert limiter.list_entities(longest) == (longest,)
