"""Items of every wrong shape: a typed error names the item, and other items are not affected."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import plain_client

from limiter import (
    Decision,
    Limit,
    LimiterError,
    RateLimiter,
    RateLimitExceeded,
    Repository,
    SyncRateLimiter,
    SyncRepository,
    UnreadableItem,
)
from limiter.aws import schema
from limiter.core.records import BucketKey, EntityKey, EntityRecord, LimitsKey
from limiter.core.state import BucketState
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine, FakeClock

LIMITS = [Limit.parse("a=10/minute"), Limit.parse("b=10/minute")]
NUMBERED = itertools.count(1)

# Values of stored attributes that no version of the limiter writes.
WRONG: dict[str, dict[str, Any]] = {
    "text": {"S": "soon"},
    "digits": {"S": "1800000000000000000"},
    "bytes": {"B": b"1"},
    "yes": {"BOOL": True},
    "null": {"NULL": True},
    "list": {"L": [{"N": "1"}]},
    "map": {"M": {"N": {"N": "1"}}},
    "numbers": {"NS": ["1", "2"]},
    "fraction": {"N": "1.5"},
    "vast": {"N": "9.9E+125"},
    "tiny": {"N": "1E-130"},
}
ODD = {"negative": {"N": "-5"}, "zero": {"N": "0"}, "far": {"N": "9" * 37}}


class World:
    """One namespace of a table, and ways to store in it what the limiter would not."""

    def __init__(self, client: Any, table: str, clock: FakeClock) -> None:
        self.client = client
        self.table = table
        self.namespace = f"n{next(NUMBERED)}"
        self.repository = SyncRepository(table, namespace=self.namespace, client=client, clock=clock)
        self.bucket = schema.bucket_key(BucketKey(self.namespace, "bad", "api"))

    def limiter(self, **options: Any) -> SyncRateLimiter:
        """Return a limiter that has read nothing yet."""
        return SyncRateLimiter(self.repository, LIMITS, decision_timeout=60, **options)

    def record_key(self, key: Any) -> dict[str, Any]:
        """Return the primary key of a record."""
        return schema.record_key(self.namespace, key)

    def put(self, item: dict[str, Any]) -> None:
        """Store an item unchanged, without the attributes that are None."""
        self.client.put_item(TableName=self.table, Item={name: value for name, value in item.items() if value is not None})

    def get(self, key: dict[str, Any]) -> Any:
        """Return the item as it is stored."""
        return self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item")


TABLES: dict[str, str] = {}


@pytest.fixture
def world(server_engine: Engine, table_name: str, clock: FakeClock) -> World:
    """A namespace without items. Creating a table for each test would take most of the time."""
    client = plain_client(str(server_engine.endpoint_url))
    if server_engine.name not in TABLES:
        create_table(table_name, client=client)
        TABLES[server_engine.name] = table_name
    return World(client, TABLES[server_engine.name], clock)


engines = pytest.mark.engines("dynoxide", "dynamodb-local")
fastest = pytest.mark.engines("dynoxide")  # In tests with many cases.
fields = pytest.mark.parametrize("field", ["t:a|1/6", "s:a|1/6", "b:a|1/6", "f:a|1/6", "ttl", "w", "n"])


@fastest
@fields
@pytest.mark.parametrize("wrong", [*WRONG, *ODD])
def test_a_bucket_with_a_wrong_attribute(field: str, wrong: str, world: World, clock: FakeClock) -> None:
    """The limit with the wrong attribute works, or raises an error that names the item and writes nothing; all others work.

    A `tat` in the past is idle, even if it is no integer, and an acquire replaces it.
    """
    numbers = {"t:a|1/6": 1, "t:b|1/6": 1, "s:b|1/6": -1}
    item = world.bucket | {name: {"N": str(clock() + number)} for name, number in numbers.items()}
    world.put(item | {field: (WRONG | ODD)[wrong]})
    limiter = world.limiter(config_ttl=0)
    before = world.get(world.bucket)
    for call in (limiter.check, limiter.try_acquire):
        try:
            assert call("bad", "api", {"a": 1}).statuses[0].limit.name == "a"
        except UnreadableItem as error:
            assert wrong in WRONG
            assert field not in {"w", "n"}
            assert f"{world.namespace}#bad/b#api" in str(error)  # noqa: PT017 - some of these are right
            assert world.get(world.bucket) == before
        else:
            idle = wrong in {"fraction", "tiny"} and field == "t:a|1/6" and call == limiter.try_acquire
            assert wrong in ODD or field in {"w", "ttl", "n"} or idle
    assert limiter.try_acquire("good", "api", {"a": 1}).allowed
    if field != "ttl" or wrong in ODD:
        other = world.limiter()
        assert other.try_acquire("bad", "api", {"b": 1}).allowed
        assert other.check("bad", "api", {"b": 1}).statuses[0].available == 8


@engines
def test_a_whole_bucket_of_nonsense(world: World) -> None:
    """Attributes that the limiter does not know are neither read nor changed."""
    strange = {
        "t": {"S": "x"},
        "t:": {"S": "x"},
        "T:a": {"S": "x"},
        "limits": {"N": "1"},
        "v": {"S": "x"},
        "ünknown": {"NULL": True},
    }
    world.put(world.bucket | strange)
    limiter = world.limiter()
    assert limiter.try_acquire("bad", "api").allowed
    stored = world.get(world.bucket)
    assert {name: stored[name] for name in strange} == strange


@engines
def test_a_bucket_is_usable_again_once_its_item_is_deleted(world: World) -> None:
    """The remedy in the message works for the process that got the message."""
    world.put(world.bucket | {"t:a|1/6": {"S": "soon"}})
    limiter = world.limiter()
    with pytest.raises(UnreadableItem, match="delete the item"):
        limiter.try_acquire("bad", "api", {"a": 1})
    world.client.delete_item(TableName=world.table, Key=world.bucket)
    assert limiter.try_acquire("bad", "api", {"a": 1}).allowed


@fastest
def test_an_unreadable_limit_fails_only_those_of_a_batch_who_ask_for_it(world: World, server_engine: Engine) -> None:
    """Callers are allowed even if they share a write with a caller whose limit has a wrong attribute."""
    world.put(world.bucket | {"t:a|1/6": {"S": "soon"}})

    async def call() -> list[Any]:
        async with Repository(world.table, namespace=world.namespace, endpoint_url=server_engine.endpoint_url) as repository:
            limiter = RateLimiter(repository, LIMITS, decision_timeout=60)
            calls = [limiter.try_acquire("bad", "api", {name: 1}) for name in "bababa"]
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(call())
    assert [type(each) for each in outcomes] == [Decision, UnreadableItem] * 3


WEEKEND = {"when": {"S": "sat,sun"}, "zone": {"S": "UTC"}, "access": {"S": "unlimited"}}
# Records that make no sense, by the attribute that is wrong in them.
RECORDS: dict[str, tuple[str, Any]] = {
    **{f"limits {name}": ("limits", value) for name, value in WRONG.items()},
    "limits empty": ("limits", {"L": []}),
    "limits of text": ("limits", {"L": [{"S": "a=1/s"}]}),
    "limits without a name": ("limits", {"L": [{"M": {"limit": {"S": "1/minute"}}}]}),
    "limits of another form": ("limits", {"L": [{"M": {"name": {"S": "a"}, "limit": {"S": "1 per fortnight"}}}]}),
    "limits beyond the bounds": ("limits", {"L": [{"M": {"name": {"S": "a"}, "limit": {"S": "9999999999/second"}}}]}),
    "another access": ("access", {"S": "everything"}),
    "a schedule of nothing": ("schedule", {"L": [{"M": {}}]}),
    "a schedule that overlaps": ("schedule", {"L": [{"M": WEEKEND}, {"M": WEEKEND}]}),
    "limits missing": ("limits", None),
    "version missing": ("v", None),
    "version newer": ("v", {"N": "2"}),
    "version much newer": ("v", {"N": "9" * 38}),
    "version zero": ("v", {"N": "0"}),
    "version negative": ("v", {"N": "-1"}),
    "version text": ("v", {"S": "1"}),
}
NUMBERS = {"zero": "0", "negative": "-1", "vast": "9.9E+125", "far": "9" * 38, "fraction": "0.5"}


def limits_item(namespace: str, key: LimitsKey, attribute: str, value: Any) -> dict[str, Any]:
    """Return a stored level in which one attribute is replaced, or removed if the value is None."""
    return schema.record_item(namespace, key, tuple(LIMITS)) | {attribute: value}


@engines
@pytest.mark.parametrize("case", RECORDS)
def test_limits_that_make_no_sense(case: str, world: World) -> None:
    """Callers that need the level get an error that names its item and write nothing; other and more specific levels work."""
    limiter = world.limiter(config_ttl=0)
    limiter.set_limits([Limit.parse("a=5/minute")], entity_id="good", resource="api")
    world.put(limits_item(world.namespace, LimitsKey("bad"), *RECORDS[case]))
    world.put(limits_item(world.namespace, LimitsKey(None, "api"), *RECORDS[case]))
    calls = [limiter.check, limiter.try_acquire, limiter.resolve_limits]
    for call in calls:
        with pytest.raises(UnreadableItem, match=f"item {world.namespace}#bad/l "):
            call("bad", "api")
    with pytest.raises(UnreadableItem, match=f"item {world.namespace}#/l#api "):
        limiter.try_acquire("other", "api")
    assert world.get(world.bucket) is None
    assert limiter.try_acquire("good", "api").statuses[0].limit.capacity == 5
    assert limiter.try_acquire("bad", "other", limits=LIMITS).allowed
    keys = [LimitsKey("bad"), LimitsKey("good", "api"), EntityKey("bad")]
    records, _ = world.repository.read_records(keys)
    assert [type(records[key]) for key in keys] == [UnreadableItem, tuple, type(None)]
    limiter.set_limits(LIMITS, entity_id="bad")
    assert limiter.try_acquire("bad", "api").allowed


@fastest
@pytest.mark.parametrize("field", ["limit", "name"])
@pytest.mark.parametrize("wrong", [*WRONG, *NUMBERS])
def test_a_limit_with_a_wrong_number(field: str, wrong: str, world: World) -> None:
    """No stored text can make a limit that `Limit` would refuse."""
    limits = schema.record_item(world.namespace, LimitsKey("bad"), tuple(LIMITS))["limits"]
    limits["L"][1]["M"][field] = WRONG[wrong] if wrong in WRONG else {"S": NUMBERS[wrong] + "/minute"}
    world.put(limits_item(world.namespace, LimitsKey("bad"), "limits", limits))
    limiter = world.limiter()
    if field == "name" and (wrong not in WRONG or wrong in ("text", "digits")):
        assert len(limiter.resolve_limits("bad", "api")) == 2
    else:
        with pytest.raises(UnreadableItem, match=f"item {world.namespace}#bad/l "):
            limiter.try_acquire("bad", "api")
    assert limiter.try_acquire("good", "api").allowed


@fastest
@pytest.mark.parametrize("field", ["parent", "cascade", "name", "metadata", "ancestors", "v"])
@pytest.mark.parametrize("wrong", [*WRONG, "missing"])
def test_an_entity_that_makes_no_sense(field: str, wrong: str, world: World) -> None:
    """Calls for the entity and its children fail with its key in the message and write nothing; its siblings work."""
    limiter = world.limiter(config_ttl=0)
    for entity, parent in (("top", None), ("bad", "top"), ("child", "bad"), ("good", "top")):
        limiter.create_entity(entity, parent_id=parent, name=entity, metadata={"a": "b"})
    item = world.get(world.record_key(EntityKey("bad"))) | {field: WRONG.get(wrong)}
    world.put(item)
    unreadable = isinstance(schema.record_value(item if wrong != "missing" else {**item, field: {}}), UnreadableItem)
    for entity in ("bad", "child"):
        for call in (limiter.check, limiter.try_acquire):
            try:
                call(entity, "api")
            except UnreadableItem as error:
                assert f"item {world.namespace}#bad/e " in str(error)  # noqa: PT017 - some of these are right
                assert unreadable
                assert world.get(schema.bucket_key(BucketKey(world.namespace, entity, "api"))) is None
            else:
                right = {"parent": {"text", "digits"}, "name": {"text", "digits"}, "cascade": {"yes"}}
                assert wrong == "missing" or wrong in right.get(field, ())
                assert not (wrong == "missing" and field in {"v", "cascade"})
    assert limiter.try_acquire("good", "api").allowed


@engines
def test_ancestors_that_lead_nowhere(world: World) -> None:
    """The list of ancestors is a hint: a forged one, long or wrong, charges only real ancestors."""
    limiter = world.limiter(config_ttl=0)
    limiter.create_entity("victim")
    limiter.create_entity("top")
    limiter.create_entity("child", parent_id="top")
    item = world.get(world.record_key(EntityKey("child")))
    for forged in (["victim"], ["top", "victim"], ["top"] * 1_000, [f"stranger {number}" for number in range(300)]):
        world.put(item | {"ancestors": {"L": [{"S": each} for each in forged]}})
        assert {status.entity_id for status in limiter.try_acquire("child", "api", {"a": 0}).statuses} == {"child", "top"}


@engines
def test_a_ring_of_parents_ends(world: World) -> None:
    """Entities that are each other's ancestors, which the limiter never writes, are each charged once."""
    limiter = world.limiter(config_ttl=0)
    limiter.create_entity("one")
    limiter.create_entity("two", parent_id="one")
    item = world.get(world.record_key(EntityKey("one")))
    world.put(item | {"parent": {"S": "two"}})
    assert sorted(status.entity_id for status in limiter.try_acquire("one", "api", {"a": 1}).statuses) == ["one", "two"]


# Attributes that only a broken server could send, beyond what a table can hold.
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", "-1", "1_0", " 1", "9" * 39, "9" * 5_000, "nan", "inf", "1e400", "a#b", "", "\x1b", "\ud800"])
)
attributes = st.recursive(
    leaves | st.dictionaries(st.sampled_from(["S", "N", "BOOL", "L", "M", "NULL"]), leaves, max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["S", "N", "L", "M", "name", "limit", "when", "zone"]), inner, max_size=4)
    ),
    max_leaves=8,
)
bucket_names = ["t:a|1/6", "s:a|1/6", "b:a|1/6", "f:b|1/6", "t:", "m:a", "m:", "x", "ttl", "w"]
record_names = ["v", "limits", "access", "schedule", "parent", "cascade", "name", "metadata", "ancestors"]
names = st.sampled_from(bucket_names + record_names)
keys = st.fixed_dictionaries(
    {}, optional={"pk": attributes | st.just({"S": "n#e"}), "sk": st.sampled_from([{"S": "l"}, {"S": "e"}, {"S": 1}])}
)
items = st.builds(lambda key, rest: rest | key, keys, st.dictionaries(names, attributes, max_size=6))
right = st.sampled_from(
    [
        schema.record_item("n", LimitsKey("e"), tuple(LIMITS)),
        {"pk": {"S": "n#e"}, "sk": {"S": "e"}, "v": {"N": "1"}, "cascade": {"BOOL": True}},
    ]
)


@settings(max_examples=250, derandomize=True, deadline=None)
@given(items | st.builds(lambda item, rest: item | rest, right, st.dictionaries(names, attributes, max_size=2)))
def test_reading_never_fails(item: dict[str, Any]) -> None:
    """Reading any item as a bucket, a record or a key gives a value, or an `UnreadableItem` with a short message."""
    state = schema.bucket_state(item)
    assert isinstance(state, BucketState)
    assert all(isinstance(number, int) and abs(number) < 10**38 for level in state.levels.values() for number in level)
    value = schema.record_value(item)
    assert value is None or isinstance(value, UnreadableItem | tuple | EntityRecord)
    for message in (*state.unreadable.values(), str(value) if isinstance(value, UnreadableItem) else ""):
        assert len(message) < 1_000
        assert message.isprintable()
    for read in (schema.item_key, schema.limits_key, schema.entity_of, schema.namespace_of):
        try:
            read(item)
        except UnreadableItem as error:
            assert len(str(error)) < 1_000  # noqa: PT017 - many of these are right


@engines
def test_a_state_in_the_far_future_refuses(world: World) -> None:
    """The largest number that a table holds is a debt like any other: refused with a finite time; corrections fail typed."""
    world.put(world.bucket | {"t:a|1/6": {"N": "9" * 38}})
    limiter = world.limiter(denial_ttl=0)
    with pytest.raises(RateLimitExceeded, match="retry after"):
        limiter.acquire("bad", "api", {"a": 1}).__enter__()
    with limiter.acquire("bad", "api", {"b": 1}) as lease, pytest.raises(LimiterError):
        lease.adjust(a=5)
    assert world.get(world.bucket)["t:a|1/6"] == {"N": "9" * 38}
