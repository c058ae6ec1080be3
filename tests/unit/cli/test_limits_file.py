"""Files of limits: read with line numbers, written so that they read back, and hostile ones refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from limiter import BLOCKED, UNLIMITED, Entity, Limit, LimiterError, ValidationError
from limiter.cli.limits_changes import Stored, changes, diff_lines
from limiter.cli.limits_export import dump
from limiter.cli.limits_file import load
from limiter.cli.limits_levels import level_texts
from limiter.core.records import EntityKey, LimitsKey, ScheduledLimits, scheduled
from limiter.core.schedule import DAYS, check_schedule
from limiter.core.visible import visible

FILE = """\
version: 1
limits: [requests=100/minute, tokens=10000/minute burst 50000]
resources:
  gpt-4: [tokens=5000/minute]
entities:
  user-42:
    limits:
      - requests=20/minute
    resources:
      gpt-4: [tokens=2000/minute]
  "123": {limits: [5/s]}
"""


WINDOWS = "version: 1\nlimits: [9/s]\nschedule:\n"


def parse(*texts: str) -> Any:
    """Limits."""
    return tuple(map(Limit.parse, texts))


EVERYTHING = """\
version: 1
limits:
- requests=100/minute
- tokens=10000/minute burst 50000 allotment 0.1
- daily=1000000/day in America/Los_Angeles
- messages=50/session of 5 hours
- credits=10000 in all
- calls=20 at once
- exports=2 at once ttl 7.5 shadow
- watched=5/second shadow
- monthly=5/month in UTC shadow
schedule:
- when: mon-fri 09:00-17:00
  zone: Europe/Berlin
  limits:
  - requests=500/minute
- when: sat,sun
  zone: UTC
  limits: unlimited
resources:
  down: blocked
  search:
    limits: unlimited
    schedule:
    - when: 22:00-06:00
      zone: Asia/Kathmandu
      limits: blocked
entities:
  user-42:
    parent: team
    cascade: true
    limits: unlimited
    schedule:
    - when: sun 02:15-02:45
      zone: UTC
      limits:
      - requests=1/hour
      - tokens=2/hour
    resources:
      gpt-4:
      - requests=20/minute
      gpt-5: blocked
"""


def test_every_kind_and_schedules_are_written_and_read() -> None:
    """A file may hold limits of every kind, what stands in place of limits, and schedules at every level."""
    found = load(EVERYTHING.replace("    parent: team\n", ""), "f")
    rates = parse("requests=1/hour", "tokens=2/hour")
    assert found.levels[LimitsKey("user-42")] == ScheduledLimits(UNLIMITED, check_schedule([("sun 02:15-02:45", "UTC", rates)]))
    assert found.levels[LimitsKey(None, "down")] is BLOCKED
    assert [type(limit).__name__ for limit in found.levels[LimitsKey()].plain] == [  # type: ignore[union-attr]
        *("Limit", "Limit", "CalendarQuota", "SessionQuota", "TotalQuota", "Concurrency", "Concurrency"),
        *("Limit", "CalendarQuota"),
    ]
    assert dump(load(EVERYTHING, "f")) == EVERYTHING


def test_the_usual_ttl_of_slots_may_be_written() -> None:
    """It is left out where the file is written again."""
    level = load("version: 1\nlimits: [calls=20 at once ttl 60]", "f")
    assert dump(level) == "version: 1\nlimits:\n- calls=20 at once\n"


def test_a_schedule_of_flow_style() -> None:
    """Windows may be written on one line each, in quotes where a comma stands in them."""
    windows = '{when: "mon,tue", zone: UTC, limits: [2/s]}, {when: wed, zone: UTC, limits: blocked}'
    text = f"version: 1\nlimits: [1/s]\nschedule: [{windows}]"
    schedule = check_schedule([("mon,tue", "UTC", parse("2/s")), ("wed", "UTC", BLOCKED)])
    assert load(text, "f").levels == {LimitsKey(): ScheduledLimits(parse("1/s"), schedule)}


def test_all_levels() -> None:
    """A file has a place for each of the four levels, and every name is text, also one that looks like a number."""
    levels = {
        LimitsKey(): parse("requests=100/minute", "tokens=10000/minute burst 50000"),
        LimitsKey(None, "gpt-4"): parse("tokens=5000/minute"),
        LimitsKey("user-42"): parse("requests=20/minute"),
        LimitsKey("user-42", "gpt-4"): parse("tokens=2000/minute"),
        LimitsKey("123"): parse("5/s"),
    }
    assert load(FILE, "f") == Stored(levels)
    assert load("version: 1\nentities: {123: {limits: [5/s]}, true: {limits: [5/s]}}", "f").levels.keys() == {
        LimitsKey("123"),
        LimitsKey("true"),
    }


ENTITIES = """\
version: 1
entities:
  acme: {name: Acme Ltd., metadata: {plan: gold, seats: 12}}
  team: {parent: acme, cascade: false}
  user-1:
    parent: team
    limits: [5/s]
  bare: {}
  empty:
  parent-of-one: {limits: [9/s]}
  child: {parent: parent-of-one, cascade: true}
  only-limits: {limits: [5/s]}
"""


def test_entities() -> None:
    """An entry with limits only stores no entity, unless another entry names it as parent; every other entry does."""
    assert load(ENTITIES, "f").entities == {
        "acme": Entity("acme", name="Acme Ltd.", metadata={"plan": "gold", "seats": "12"}),
        "team": Entity("team", "acme", cascade=False),
        "user-1": Entity("user-1", "team"),
        "bare": Entity("bare"),
        "empty": Entity("empty"),
        "parent-of-one": Entity("parent-of-one"),
        "child": Entity("child", "parent-of-one"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f is empty"),
        ("# only this\n", "f is empty"),
        ("limits: [1/s]\n", "f:1: the file needs `version: 1`"),
        ("limits: [1/s]\nversion: 2\n", "f:2: the file needs `version: 1`"),
        (
            "version: 1\n\nresorces: {}\n",
            "f:3: unknown key 'resorces'; expected one of: version, limits, schedule, resources, entities; did you mean 'reso",
        ),
        (
            "version: 1\nentities:\n  a:\n    limit: [1/s]\n",
            "f:4: unknown key 'limit'; expected one of: parent, cascade, name, metadata, limits, schedule, resources; did you",
        ),
        ("version: 1\nlimits: [1/s]\nxyz: 1\n", "f:3: unknown key 'xyz'; expected one of: version, limits, schedule, resources,"),
        ("version: 1\nresources:\n  a: {limit: [1/s]}\n", "f:3: unknown key 'limit'; expected one of: limits, schedule; did you"),
        ("version: 1\nresources:\n  a: {}\n", "f:3: expected the keys limits and schedule"),
        ("version: 1\nresources:\n  a:\n    schedule: []\n", "f:4: a schedule needs `limits` beside it"),
        ("version: 1\nlimits: [1/s]\nschedule: []\n", "f:3: expected a list of windows, each with when, zone and limits"),
        ("version: 1\nlimits: [1/s]\nschedule: {when: mon}\n", "f:3: expected a list of windows"),
        (WINDOWS + "  - {when: mon, zone: UTC}\n", "f:4: the window has no 'limits'; it needs when, zone and limits"),
        (
            WINDOWS + "  - {wenn: mon, zone: UTC, limits: [1/s]}\n",
            "f:4: unknown key 'wenn'; expected one of: when, zone, limits; did",
        ),
        (WINDOWS + "  - {when: mox, zone: UTC, limits: [1/s]}\n", "f:4: 'mox' in 'mox' is not a weekday"),
        (WINDOWS + "  - {when: mon 25:00-26:00, zone: UTC, limits: [1/s]}\n", "f:4: 25:00 in 'mon 25:00-26:00' is not a time"),
        (WINDOWS + "  - {when: mon, zone: Utc/Berlin, limits: [1/s]}\n", "f:4: zone of the window 'mon' cannot be 'Utc/Berlin'"),
        (WINDOWS + "  - {when: mon, zone: UTC, limits: []}\n", "f:4: expected a list of limits, such as"),
        (WINDOWS + "  - {when: mon, zone: UTC, limits: [1/s, a=quick]}\n", "f:4: 'a=quick' is not a limit"),
        (WINDOWS + "  - {when: [mon], zone: UTC, limits: [1/s]}\n", "f:4: when must be a text"),
        (WINDOWS + "  - {when: mon, zone: UTC, limits: [1/s]}\n" * 2, "f:4: windows 'mon' in UTC and 'mon' in UTC overlap"),
        ("version: 1\nlimits: [unlimited]\n", "f:2: write `unlimited` in place of a list of limits, and not in one"),
        ("version: 1\nlimits: [1/s, blocked]\n", "f:2: write `blocked` in place of a list of limits, and not in one"),
        (
            "version: 1\nlimits: Blocked\n",
            "f:2: expected a list of limits, such as [requests=100/minute], or `unlimited` or `blo",
        ),
        ("version: 1\nlimits: 1/s\n", "f:2: expected a list of limits"),
        ("version: 1\nlimits: []\n", "f:2: expected a list of limits"),
        ("version: 1\nlimits:\n", "f:2: expected a list of limits"),
        ("version: 1\nlimits:\n- 1/s\n- fast\n", "f:4: 'fast' is not a limit"),
        ("version: 1\nlimits:\n- [1/s]\n", "f:3: expected a limit, such as"),
        (
            "version: 1\nlimits: [a=1/s, a=2/s]\n",
            "f:2: limit 'a' is given twice; names must be unique",
        ),
        ("version: 1\nlimits: [a=99999999999/s]\n", "f:2: limit 'a' refills"),
        ("version: 1\nresources:\n  gpt-4: [1/s]\n  gpt-4: [2/s]\n", "f:4: 'gpt-4' is given twice"),
        ("version: 1\nversion: 1\n", "f:2: 'version' is given twice"),
        ('version: 1\nresources:\n  "a\\e": [1/s]\n', "f:3: resource must not hold control characters"),
        ("version: 1\nentities:\n  '': {limits: [1/s]}\n", "f:3: entity must have 1 to 255 characters"),
        ("version: 1\nresources: [1/s]\n", "f:2: expected a mapping"),
        ("version: 1\n? [a]\n: b\n", "f:2: a name must be a text"),
        ("- version: 1\n", "f:1: expected a mapping"),
        ("version: 1\nlimits: [1/s\n", "f:3: "),
        ("version: 1\n\tlimits: [1/s]\n", "f:2: "),
        ("version: 1\n---\nversion: 1\n", "f:2: "),
        ("version: 1\nlimits: [!!python/object/apply:os.system ['true']]\n", "f:2: tags such as"),
        ("version: 1\nlimits: [!include secrets]\n", "f:2: tags such as !include"),
        ("version: !!int 1\n", "f:1: tags such as"),
        ("version: 1\nlimits: &a [1/s]\nresources: {x: *a}\n", "f:2: anchors and aliases"),
        ("version: 1\nlimits: " + "[" * 5000, "f:2: "),  # libyaml has a bound of its own since 2026, and words of its own
        ("version: 1\nlimits: " + "[" * 9 + "]" * 9, "f:2: nested more than 8 levels deep"),
        ("version: 1\nlimits: [1/s]\x00\n", "f: "),
        ("version: 1\nentities:\n  a:\n    cascade: perhaps\n", "f:4: cascade must be true or false, not 'perhaps'"),
        ("version: 1\nentities:\n  a:\n    parent: [b]\n", "f:4: parent must be a text"),
        ("version: 1\nentities:\n  a:\n    parent: ''\n", "f:4: parent must have 1 to 255 characters"),
        ("version: 1\nentities:\n  a:\n    metadata: gold\n", "f:4: expected a mapping"),
        ("version: 1\nentities:\n  a:\n    metadata:\n      plan: [gold]\n", "f:5: the value of 'plan' must be a text"),
    ],
)
def test_bad_files_are_refused_with_their_line(text: str, message: str) -> None:
    """The message names the file, the line and what is wrong there."""
    with pytest.raises(ValidationError) as caught:
        load(text, "f")
    assert str(caught.value).startswith(message)


def test_a_bomb_does_not_go_off() -> None:
    """Aliases that would grow to gigabytes are refused before anything is built."""
    bomb = "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(ValidationError, match="f:2: anchors and aliases"):
        load(bomb, "f")


def test_a_huge_file() -> None:
    """A file of more than four megabytes is refused before it is read."""
    with pytest.raises(ValidationError, match="larger than"):
        load("#" * (4 * 1024 * 1024 + 1), "f")


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="#" + "".join(map(chr, [*range(32), *range(127, 160)]))),
    min_size=1,
    max_size=20,
)
optional_names = st.none() | names
limits = st.builds(
    Limit,
    name=names.filter(lambda name: "=" not in name and name == name.strip()),
    capacity=st.integers(1, 10**6),
    refill_amount=st.integers(100, 10**6),
    refill_period=st.sampled_from([1.0, 60.0, 90.0, 3600.0, 86400.0]),
)
ids = names | st.sampled_from(["a", "b", "c"])
optional_ids = st.none() | ids
other_limits = st.sampled_from(
    [
        "day=5/day in Europe/Berlin",
        "week=5/week in UTC shadow",
        "visit=5/session of 90 seconds",
        "left=5 in all",
        "seen=5/s shadow",
    ]
).map(Limit.parse)
access = st.sampled_from([UNLIMITED, BLOCKED])
lists = access | st.lists(limits | other_limits, min_size=1, max_size=3, unique_by=lambda limit: limit.name).map(tuple)
windows = st.lists(
    st.tuples(st.sampled_from(DAYS), st.sampled_from(["", " 01:00-02:00", " 23:00-24:00"]), lists),
    max_size=3,
    unique_by=lambda each: each[0],
).map(lambda each: check_schedule([(day + times, "Europe/Berlin", found) for day, times, found in each]))
levels = st.dictionaries(
    st.builds(LimitsKey, optional_ids, optional_names), lists | st.builds(scheduled, lists, windows), max_size=4
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=10)


@st.composite
def contents(draw: st.DrawFn) -> Stored:
    """What a namespace can store: levels, and entities whose parents come before them."""
    entities: dict[str, Entity] = {}
    for entity_id in draw(st.lists(ids, unique=True, max_size=4)):
        parent = draw(st.sampled_from([None, *entities]))
        metadata = draw(st.dictionaries(texts, texts, max_size=2))
        entities[entity_id] = Entity(entity_id, parent, draw(st.booleans()), draw(optional_names), metadata)
    return Stored(draw(levels), entities)


slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(contents())
@slow
def test_what_is_written_is_read_back(found: Stored) -> None:
    """An export of what is stored changes nothing when it is applied, and written again it is equal byte by byte."""
    again = load(dump(found), "f")
    assert again == found
    assert changes(found, again, prune=True) == []
    assert dump(again) == dump(found)


@given(contents(), contents(), st.booleans())
@slow
def test_applying_changes_makes_what_is_wanted(stored: Stored, wanted: Stored, prune: bool) -> None:
    """Applied to what is stored, the changes give what is wanted, and leave the rest unless it is pruned."""
    try:
        found = changes(stored, wanted, prune=prune)
    except ValidationError:
        assume(prune)  # Otherwise the two hierarchies may contradict each other.
        raise
    entities, rest = dict(stored.entities), dict(stored.levels)
    for change in found:
        if isinstance(change.key, EntityKey):
            entity_id = change.key.entity_id
            assert (entity_id in entities) == (change.action != "add")
            entities.pop(entity_id, None)
            if change.action == "remove":
                rest = {key: value for key, value in rest.items() if key.entity_id != entity_id}
                continue
            entities[entity_id] = wanted.entities[entity_id]
            assert entities[entity_id].parent_id is None or entities[entity_id].parent_id in entities
        elif change.action == "remove":
            rest.pop(change.key, None)
        else:
            rest[change.key] = wanted.levels[change.key]
    expected = wanted if prune else Stored({**stored.levels, **wanted.levels}, {**stored.entities, **wanted.entities})
    assert entities == expected.entities
    assert {key: set(level_texts(value)) for key, value in rest.items()} == {
        key: set(level_texts(value)) for key, value in expected.levels.items()
    }
    assert changes(Stored(rest, entities), wanted, prune=prune) == []


@pytest.mark.parametrize(
    "sign",
    [
        *("\x85", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u200b", "\u200d", "\u034f", "\u3164", "\ufe0f"),
        *("\U000e0100", "\ufeff", "\xad", "\t", "\x1b", "\n"),
    ],
    ids=ascii,
)
def test_invisible_characters_are_escaped(sign: str) -> None:
    """They are read back, and do not reach a terminal as they are; the other texts of the file stay as they are."""
    shown = {"größe": "Ä ☃", "b": "C:\\dir 'x' \"y\"", "漢字": "plain"}
    stored = Stored(
        {LimitsKey(None, f"r{sign}"): (Limit.per_second(f"a{sign}ß", 1),)} if sign not in "\x85\t\x1b\n" else {},
        {"a": Entity("a", name="Ünal", metadata={f"k{sign}": f"v{sign}ü {sign * 90}", **shown})},
    )
    text = dump(stored)
    assert load(text, "f") == stored
    assert dump(load(text, "f")) == text
    assert all(line.isprintable() for line in text.split("\n"))
    assert visible(text) == text
    assert all(each in text for each in ("Ünal", "größe: Ä ☃", "漢字"))


def hierarchy(**parents: str | None) -> Stored:
    """Entities with their parents."""
    return Stored(entities={entity: Entity(entity, parent) for entity, parent in parents.items()})


def test_entities_are_stored_after_their_parents() -> None:
    """The order holds also where the stored hierarchy is the other way round."""
    found = changes(hierarchy(a="b", b="c", c=None), hierarchy(a=None, b="a", c="b"), prune=False)
    assert [change.key.entity_id for change in found] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("stored", "wanted", "prune", "message"),
    [
        (hierarchy(), hierarchy(a="b"), False, "parent 'b' of entity 'a' is not an entity; add it to the file"),
        (hierarchy(b=None), hierarchy(a="b"), True, "parent 'b' of entity 'a' is not an entity; add it to the file"),
        (hierarchy(), hierarchy(a="b", b="a"), False, "entity 'a' would become its own ancestor: a > b > a"),
        (hierarchy(b="a", a=None), hierarchy(a="b"), False, "would become its own ancestor"),
        (
            hierarchy(**{"a1": "a0", **{f"a{n}": f"a{n - 1}" for n in range(2, 8)}, "a0": None}),
            hierarchy(a0="top", top=None),
            False,
            "the chain of entity 'a7' is too deep; at most 8 entities",
        ),
    ],
)
def test_a_hierarchy_that_cannot_be(stored: Stored, wanted: Stored, prune: bool, message: str) -> None:
    """It is refused before anything is changed, with the entity that is wrong."""
    with pytest.raises(ValidationError, match=message):
        changes(stored, wanted, prune=prune)


def test_a_stored_parent_need_not_be_in_the_file() -> None:
    """Without --prune, an entity of the file may belong to one that is stored."""
    (change,) = changes(hierarchy(b=None), hierarchy(a="b"), prune=False)
    assert (change.key, change.action, change.after) == (EntityKey("a"), "add", ("cascade=yes", "parent=b"))


def test_limits_of_a_removed_entity_are_stored_again() -> None:
    """Deleting an entity deletes its limits: those that the file keeps are written after it."""
    level = {LimitsKey("a"): parse("1/s"), LimitsKey("a", "api"): parse("2/s")}
    found = changes(Stored(level, hierarchy(a=None).entities), Stored({LimitsKey("a"): parse("1/s")}), prune=True)
    assert [(change.action, change.key) for change in found] == [
        ("remove", EntityKey("a")),
        ("add", LimitsKey("a")),
        ("remove", LimitsKey("a", "api")),
    ]


def test_a_limit_that_no_text_can_name() -> None:
    """An export that could not be applied is not written; the message names the level."""
    with pytest.raises(LimiterError, match="limits of entity user cannot be written"):
        dump(Stored({LimitsKey("user"): (Limit.per_second(" a", 1),)}))


def test_a_change_as_a_diff() -> None:
    """Only what differs is shown."""
    stored = Stored({LimitsKey(): parse("a=1/s", "b=1/s"), LimitsKey("user"): parse("a=1/s")}, hierarchy(a="b", b=None).entities)
    wanted = Stored(
        {LimitsKey(): parse("b=1/s", "a=2/s"), LimitsKey(None, "api"): parse("a=3/s")},
        {"a": Entity("a", "b", cascade=False, name="A"), "b": Entity("b")},
    )
    lines = [line for change in changes(stored, wanted, prune=True) for line in diff_lines(change)]
    assert lines == [
        "~ entity a",
        "    - cascade=yes",
        "    + cascade=no",
        "    + name=A",
        "~ limits of the namespace",
        "    - a=1/second",
        "    + a=2/second",
        "+ limits of resource api",
        "    + a=3/second",
        "- limits of entity user",
        "    - a=1/second",
    ]


def test_a_change_of_a_schedule_in_words() -> None:
    """Each window that comes, goes or changes is a line that says when it applies and which limits it has."""

    def level(plain: Any, *windows: Any) -> Stored:
        return Stored({LimitsKey(None, "api"): scheduled(plain, check_schedule(windows))})

    office, night = ("mon-fri 09:00-17:00", "Europe/Berlin"), ("22:00-06:00", "UTC")
    before = level(parse("a=1/s"), (*office, parse("a=2/s", "b=1/s")), ("sat", "UTC", UNLIMITED))
    after = level(parse("a=1/s"), (*night, BLOCKED), (*office, parse("b=1/s", "a=3/s")))
    assert [line for change in changes(before, after, prune=False) for line in diff_lines(change)] == [
        "~ limits of resource api",
        "    - during mon-fri 09:00-17:00 in Europe/Berlin: a=2/second and b=1/second",
        "    - during sat in UTC: unlimited",
        "    + during 22:00-06:00 in UTC: blocked",
        "    + during mon-fri 09:00-17:00 in Europe/Berlin: a=3/second and b=1/second",
    ]
    (change,) = changes(level(BLOCKED), level(parse("a=1/s")), prune=False)
    assert (change.action, change.before, change.after) == ("change", ("blocked",), ("a=1/second",))
    (change,) = changes(after, level(parse("a=1/s")), prune=False)
    assert change.destroys
