"""Items and expressions, read by a reader of its own that is as strict as DynamoDB."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import count_world, expressions
from support.bucket_world import EPOCH, Script, play_seed

from limiter import Limit, Quota
from limiter.aws import queries, schema
from limiter.core import plan as planning
from limiter.core.limits import MAX_LIMITS
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Request
from limiter.core.state import ABSENT, EMPTY, BucketState, Change, Level, Update
from limiter.core.units import NANOSECONDS
from limiter.exceptions import UnreadableItem

if TYPE_CHECKING:
    from support.count_world import World as CountWorld

KEY = BucketKey("default", "user-42", "gpt-4")
COUNTS = count_world.Script((Quota.per_hour("q", 5), Quota.session("s", 5, 3_600), Quota.total("t", 20)))
FIELDS = Level._fields
TIMES = st.integers(0, 10**20)
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="#"), min_size=1, max_size=8)
MEASURES = st.sampled_from(["5/3", "1/1", "day UTC", "month America/Los_Angeles", "session 18000", "total"])
IDENTITIES = st.builds("{}|{}".format, NAMES, MEASURES)
MARKS = st.dictionaries(NAMES, MEASURES, max_size=2).map(lambda marks: {name: f"{name}|{what}" for name, what in marks.items()})
LEVELS = st.builds(Level, **{field: st.one_of(st.just(-1), TIMES) for field in FIELDS})
STATES = st.builds(
    BucketState,
    st.dictionaries(IDENTITIES, LEVELS, max_size=4),
    st.one_of(st.just(-1), TIMES),
    st.text("abc", max_size=5),
    paused=st.one_of(st.just(-1), TIMES),
    marks=MARKS,
    earlier=st.tuples(st.text("abc", max_size=5), st.text("abc", max_size=5)),
)
PREFIXES = {"tat": "t:", "since": "s:", "booked": "b:", "floor": "f:"}


def item_of(state: BucketState, key: BucketKey = KEY) -> dict[str, Any]:
    """The item that holds a state, written by hand."""
    item: dict[str, Any] = dict(schema.bucket_key(key))
    for name, level in state.levels.items():
        numbers = {PREFIXES[field] + name: value for field, value in level._asdict().items()}
        item |= {attribute: {"N": str(value)} for attribute, value in numbers.items() if value >= 0}
    if state.ttl >= 0:
        item["ttl"] = {"N": str(state.ttl)}
    if state.stamp:
        item["w"] = {"S": state.stamp}
    item |= {name: {"S": stamp} for name, stamp in zip(("w2", "w3"), state.earlier, strict=True) if stamp}
    if state.paused >= 0:
        item["x"] = {"N": str(state.paused)}
    return item | {f"m:{name}": {"S": identity[len(name) + 1 :]} for name, identity in state.marks.items()}


def without_absent(state: BucketState) -> BucketState:
    """A state without limits that hold nothing, which no item can tell from absent ones."""
    return replace(state, levels={name: level for name, level in state.levels.items() if level != ABSENT})


@given(STATES)
def test_a_state_is_read_from_its_item(state: BucketState) -> None:
    """An item reads as the state that was stored, even beside attributes that are not the limiter's."""
    item = item_of(state) | {"y": {"S": "tat"}, "owner": {"L": []}}
    assert schema.bucket_state(item) == without_absent(state)


@pytest.mark.parametrize("item", [None, {}])
def test_no_item_is_an_empty_bucket(item: dict[str, Any] | None) -> None:
    """A missing item, as GetItem or a failed condition gives it, is an empty bucket."""
    assert schema.bucket_state(item) == EMPTY


@pytest.mark.parametrize(
    "value",
    [{"S": "5"}, {"N": "1.5"}, {"N": "1E+20"}, {"N": ""}, {"NULL": True}, {"L": []}, {"B": b"5"}, {"M": {"N": {"N": "1"}}}],
    ids=repr,
)
@pytest.mark.parametrize("attribute", ["t:a|1/1", "s:a|1/1", "b:a|1/1", "f:a|1/1", "ttl", "x"])
def test_what_cannot_be_read_is_told_with_its_key(attribute: str, value: dict[str, Any]) -> None:
    """A wrong number is an `UnreadableItem` that names the bucket and the remedy."""
    state = schema.bucket_state(item_of(BucketState({"a|1/1": Level(5, 5, 5, 5)}, 5, "w")) | {attribute: value})
    limit = Limit.per_second("a", 1)
    with pytest.raises(UnreadableItem, match=r"default#user-42/b#gpt-4.*delete the item"):
        planning.plan(state, [Request(KEY, (Charge(limit, 1),), deadline=EPOCH)], EPOCH, "x")


def test_an_unreadable_limit_harms_no_other() -> None:
    """Beside a limit that cannot be read the others go on."""
    state = schema.bucket_state(item_of(BucketState({"a|1/1": Level(5), "b|1/1": Level(5)}, 5, "w")) | {"t:a|1/1": {"S": "?"}})
    update = planning.plan(state, [Request(KEY, (Charge(Limit.per_second("b", 1), 1),), deadline=EPOCH)], EPOCH, "x").update
    assert update is not None


def test_keys_cannot_forge_each_other() -> None:
    """No two buckets, nor a bucket and a record, share a primary key, for any ids."""
    ids = ["a", "b", "l", "e", "b:", "a b", "ab", "B", "ü"]
    keys = [schema.item_key(schema.bucket_key(BucketKey(*each))) for each in [(x, y, z) for x in ids for y in ids for z in ids]]
    assert len(set(keys)) == len(keys)
    assert not [sort for _, sort in keys if not sort.startswith("b#")]
    assert all(
        partition.startswith(f"{space}#") for (partition, _), space in zip(keys, [x for x in ids for _ in range(81)], strict=True)
    )


def test_long_ids_fit_the_keys() -> None:
    """Ids of 255 characters of four bytes are within DynamoDB's bounds for keys: 2,048 and 1,024 bytes."""
    longest = "\U0001f40c" * 255
    partition, sort = schema.item_key(schema.bucket_key(BucketKey(longest, longest, longest)))
    assert len(partition.encode()) <= 2_048
    assert len(sort.encode()) <= 1_024


def updates() -> list[Update]:
    """Updates of all kinds that the worlds of chance bring about."""
    scripts = (Script(expiry=True), Script(overrides=True, clients=1), Script(steps=60), Script(rates=True))
    rates = [update for seed in range(40) for script in scripts for update in play_seed(seed, script).updates]
    return rates + [update for seed in range(40) for update in play_counts(seed).updates]


def play_counts(seed: int) -> CountWorld:
    """A world of quotas, sessions and totals."""
    return count_world.play(Random(seed), COUNTS)  # noqa: S311 - no secret


def test_every_update_says_in_expressions_what_it_means() -> None:
    """An engine that reads the expressions decides and changes exactly as the update itself does, in order, from the first."""
    worlds = [play_seed(seed, Script(rates=seed % 2 > 0)) for seed in range(60)] + [play_counts(seed) for seed in range(30)]
    for world in worlds:
        state, item = EMPTY, {}
        for update in world.updates:
            parameters = schema.update_parameters(update)
            assert expressions.holds(parameters, item) == update.holds(state)
            if update.holds(state):
                state = update.apply(state)
                item = expressions.apply(parameters, item or dict(schema.bucket_key(KEY)))
                assert schema.bucket_state(item) == state


@given(STATES, st.integers(0, 10**6))
def test_expressions_mean_the_same_on_any_state(state: BucketState, place: int) -> None:
    """Also where a bucket is in a state that no update left it in, the expressions hold when the update does."""
    update = UPDATES[place % len(UPDATES)]
    concerned = {each.limit for each in update.conditions} - {""}
    levels = dict(zip(sorted(concerned), state.levels.values(), strict=False))
    marks = {mark.name: choice for mark, choice in zip(update.marks, state.marks.values(), strict=False)}
    own = {mark.name: mark.new if place % 2 else mark.seen or mark.new for mark in update.marks} if place % 3 else marks
    state = replace(state, levels=levels, marks={name: f"{name}|{each.rpartition('|')[2]}" for name, each in own.items()})
    assert expressions.holds(schema.update_parameters(update), item_of(state)) == update.holds(state)


UPDATES = updates()


def test_no_update_touches_an_index_or_a_key() -> None:
    """What an update writes is the bucket's own attributes: none of the table's keys, nor of its index's."""
    keys = {each["AttributeName"] for each in queries.table_definition("t")["AttributeDefinitions"]}
    for update in UPDATES[:500]:
        assert not keys & set(schema.update_parameters(update)["ExpressionAttributeNames"].values())


def test_names_are_placeholders() -> None:
    """A limit's name is never part of an expression, so no name is a reserved word or breaks the syntax."""
    hostile = Limit.per_second("a = :w) OR (attribute_not_exists(pk", 1)
    update = planning.plan(EMPTY, [Request(KEY, (Charge(hostile, 1),), deadline=EPOCH)], EPOCH, "x").update
    assert update is not None
    parameters = schema.update_parameters(update)
    assert "pk" not in parameters["ConditionExpression"] + parameters["UpdateExpression"]
    assert expressions.holds(parameters, {})


def busiest(limits: list[Limit], key: BucketKey) -> dict[str, Any]:
    """The largest item that a bucket of these limits can be: all in debt, booked, and stamped."""
    item: dict[str, Any] = dict(schema.bucket_key(key))
    now, state = EPOCH + 123_456_789, EMPTY
    for turn, request in enumerate(
        [
            Request(KEY, tuple(Charge(limit, 1) for limit in limits), deadline=now),
            Request(KEY, tuple(Charge(limit, 1) for limit in limits), deadline=now + 10**15),
            Request(KEY, tuple(Charge(limit, 7) for limit in limits), forced=True),
        ]
    ):
        update = planning.plan(state, [request], now, f"{'f' * 12}{2**40 + turn:x}").update
        assert update is not None
        parameters = schema.update_parameters(update)
        assert expressions.holds(parameters, item if turn else {})
        item, state = expressions.apply(parameters, item), update.apply(state)
    return item


def test_five_limits_stay_within_one_write_unit() -> None:
    """With five rates of 16-character names, ids of 50 characters, and every attribute set, an item is below 1 KB."""
    limits = [Limit.per_minute(f"{name * 16}", 1) for name in "abcde"]
    item = busiest(limits, BucketKey("n" * 20, "e" * 50, "r" * 50))
    assert len(item) == 2 + 5 * len(FIELDS) + 5 + 4
    assert expressions.size(item) <= 1_024


@pytest.mark.parametrize("count", [1, 5, 20, MAX_LIMITS])
def test_any_number_of_limits_fits_the_expressions(count: int) -> None:
    """Dozens of limits are decided by one update whose expressions are within DynamoDB's bounds."""
    busiest([Limit.per_second(f"limit {place}", 1) for place in range(count)], KEY)


def mixture(count: int, kind: int) -> list[Any]:
    """So many limits, rates and counts in turn, or of one kind."""
    makers = (
        lambda name: Limit.per_second(name, 5),
        lambda name: Quota.session(name, 5, 3_600),
        lambda name: Quota.per_day(name, 5),
    )
    return [makers[place % 3 if kind == 3 else kind](f"limit {place}") for place in range(count)]


@pytest.mark.parametrize("kind", range(4))
def test_the_most_conditions_fit_the_expressions(kind: int) -> None:
    """As many limits as a bucket may have are taken and given back together, beside bookings, births and accounts that leave."""
    limits, now = mixture(MAX_LIMITS, kind), EPOCH
    every = tuple(Charge(limit, 2) for limit in limits)
    state, item = EMPTY, {}
    for name in ("limit 0", "limit 3"):
        state, item = write(state, item, [Request(KEY, (Charge(Limit.per_minute(name, 7), 1),), deadline=now)], now)
    now += 7_200 * NANOSECONDS
    plan = planning.plan(state, [Request(KEY, every, deadline=now)], now, "first")
    state, item = apply(plan.update, state, item)
    grant = plan.grants(state)[0]
    wait = tuple(Charge(limit, 5 if isinstance(limit, Limit) else 1) for limit in limits)
    state, item = write(state, item, [Request(KEY, wait, deadline=now + 10**10)], now)
    refunds = tuple(each.refund() for each in grant.receipts)
    more = Request(KEY, tuple(Charge(limit, 1) for limit in limits), refunds, forced=True)
    nothing = Request(KEY, tuple(Charge(limit, 0) for limit in limits), deadline=now + 10**11)
    write(state, item, [more, nothing], now)


def write(state: BucketState, item: Any, requests: list[Request], now: int) -> tuple[BucketState, Any]:
    """The state and the item after a plan's update."""
    return apply(planning.plan(state, requests, now, f"{now}-{len(item)}-{state.stamp}"[:40]).update, state, item)


def apply(update: Update | None, state: BucketState, item: Any) -> tuple[BucketState, Any]:
    """The state and the item after an update."""
    assert update is not None
    parameters = schema.update_parameters(update)
    assert expressions.holds(parameters, item)
    return update.apply(state), expressions.apply(parameters, item)


@pytest.mark.parametrize(("value", "size"), [("0", 1), ("5", 2), ("100", 2), ("1800000000000000001", 11), ("-12", 3)])
def test_numbers_are_measured_as_documented(value: str, size: int) -> None:
    """A number takes a byte for two significant digits, and one more."""
    assert expressions.value_size({"N": value}) == size


@pytest.mark.parametrize(
    "change",
    [
        {"ConditionExpression": "#0 BETWEEN :1 AND :0"},
        {"ConditionExpression": "((#0 = :0))"},
        {"ConditionExpression": "#0 = :0 AND"},
        {"ConditionExpression": "#0 = :0 AND #9 = :1"},
        {"UpdateExpression": "SET #0 = :0, #0 = :1"},
        {"UpdateExpression": "SET #0 = #0 + #0"},
        {"ExpressionAttributeNames": {"#0": "a", "#1": "b"}},
        {"ExpressionAttributeValues": {":0": {"N": "1"}, ":1": {"N": "2"}, ":2": {"N": "3"}}},
        {"ExpressionAttributeValues": {":0": {"N": "1"}, ":1": {"N": "9" * 39}}},
        {"ConditionExpression": " AND ".join(["#0 = :0"] * 500)},
    ],
    ids=[str(place) for place in range(10)],
)
def test_the_reader_is_strict(change: dict[str, Any]) -> None:
    """What DynamoDB calls invalid the reader of these tests calls invalid too."""
    sound = {
        "ConditionExpression": "#0 BETWEEN :0 AND :1",
        "UpdateExpression": "SET #0 = #0 + :0",
        "ExpressionAttributeNames": {"#0": "a"},
        "ExpressionAttributeValues": {":0": {"N": "1"}, ":1": {"N": "2"}},
    }
    assert expressions.holds(sound, {"a": {"N": "1"}})
    with pytest.raises(expressions.Invalid):
        expressions.holds(sound | change, {"a": {"N": "1"}})


def test_the_template_and_the_test_table_agree_on_time_to_live() -> None:
    """The attribute that expires is the one that updates set."""
    limit = Limit.per_second("a", 1)
    update = planning.plan(EMPTY, [Request(KEY, (Charge(limit, 1),), deadline=EPOCH)], EPOCH, "x").update
    assert update is not None
    item = expressions.apply(schema.update_parameters(update), {})
    assert int(item[schema.TTL_ATTRIBUTE]["N"]) * NANOSECONDS >= EPOCH


def test_only_integers_are_written() -> None:
    """A float would be stored, and make the bucket unreadable for everybody, so that it raises instead."""
    with pytest.raises(TypeError):
        schema.update_parameters(Update("a", (), (Change("requests", "tat", None, 1.5),)))  # type: ignore[arg-type] # the mistake
