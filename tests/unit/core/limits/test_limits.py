"""The table of kinds: reading any of them from text, and the checks of lists.

The test of `limiter.core.limits.checks` and `limiter.core.limits.text`.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limiter import BLOCKED, UNLIMITED, BaseLimit, Concurrency, Limit, Quota, ValidationError
from limiter.core.limits import KINDS, check_level, check_limits, parse

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="#"), min_size=1, max_size=20).filter(
    lambda name: name == name.strip()
)
AMOUNTS = st.integers(1, 10**12)
ZONES = st.sampled_from(["UTC", "America/Los_Angeles", "Etc/GMT+12", "Asia/Kolkata", "America/Argentina/Buenos_Aires"])
SPANS = st.one_of(st.sampled_from([1.0, 60.0, 3_600.0, 86_400.0, 18_000, 90.0]), st.floats(0.001, 10**7))


@st.composite
def rates(draw: st.DrawFn) -> Limit:
    """Any rate."""
    amount, period, capacity = draw(st.integers(1, 10**9)), draw(SPANS), draw(AMOUNTS)
    assume(amount <= period * 10**9 - 1)
    assume(capacity * period / amount < 3_000_000_000)
    limit = Limit(draw(NAMES), capacity, amount, period, enforce=draw(st.booleans()))
    longest = min(limit.window // 2, (capacity - 1) * limit.period_ns // amount)
    share = draw(st.none() | st.floats(0.01, 0.99)) if longest > 1_000 else None
    return limit if share is None else dataclasses.replace(limit, allotment=share * longest / 10**9)


@st.composite
def others(draw: st.DrawFn) -> BaseLimit:
    """Any limit of another kind."""
    name, amount, enforce, seconds = draw(NAMES), draw(AMOUNTS), draw(st.booleans()), draw(SPANS)
    makers = [
        *(make(name, amount, draw(ZONES), enforce=enforce) for make in (Quota.per_hour, Quota.per_day)),
        *(make(name, amount, draw(ZONES), enforce=enforce) for make in (Quota.per_week, Quota.per_month)),
        Quota.session(name, min(amount, int(seconds * 10**9 - 1)), seconds, enforce=enforce),
        Quota.total(name, amount, enforce=enforce),
        Concurrency(name, min(amount, 999_999), min(max(1.0, seconds), 86_400.0), enforce=enforce),
    ]
    return draw(st.sampled_from(makers))


LIMITS = st.one_of(rates(), others())
EXAMPLES = [
    ("tokens=10000/minute burst 50000 allotment 0.1", Limit.per_minute("tokens", 10_000, burst=50_000, allotment=0.1)),
    ("tokens=1000000/day in America/Los_Angeles", Quota.per_day("tokens", 1_000_000, zone="America/Los_Angeles")),
    ("messages=50/session of 5 hours", Quota.session("messages", 50, 5 * 3600)),
    ("credits=10000 in all", Quota.total("credits", 10_000)),
    ("calls=20 at once", Concurrency("calls", 20)),
    ("calls=20 at once ttl 5", Concurrency("calls", 20, ttl=5.0)),
    ("a=5/hour in UTC", Quota.per_hour("a", 5)),
    ("a=5/week in UTC", Quota.per_week("a", 5)),
    ("a=5/month in Europe/Berlin", Quota.per_month("a", 5, "Europe/Berlin")),
    ("a=5/session of 90 minutes shadow", Quota.session("a", 5, 5_400.0, enforce=False)),
    ("tokens=100/minute shadow", Limit.per_minute("tokens", 100, enforce=False)),
    ("calls=20 at once shadow", Concurrency("calls", 20, enforce=False)),
]
SPELLINGS = [
    ("100 per minute", Limit.per_minute("requests", 100)),
    ("10/s", Limit.per_second("requests", 10)),
    ("5r/m", Limit.per_minute("requests", 5)),
    ("api = 5 per 10 seconds", Limit("api", 5, 5, 10.0)),
    ("calls=20 at once ttl 60", Concurrency("calls", 20)),
    ("20 at once", Concurrency("requests", 20)),
    ("5 per day in UTC", Quota.per_day("requests", 5)),
    ("50 per session of 1 hour", Quota.session("requests", 50, 3_600.0)),
    ("  x = 1_000  in  all   shadow ", Quota.total("x", 1_000, enforce=False)),
    ("a=b=5/s", Limit.per_second("a=b", 5)),
    ("shadow=5/s", Limit.per_second("shadow", 5)),
    ("unlimited=5/s", Limit.per_second("unlimited", 5)),
]


@given(LIMITS)
def test_what_str_writes_is_read_back(limit: BaseLimit) -> None:
    """Every limit of every kind equals what its text is read as."""
    assert parse(str(limit)) == limit


@given(st.text("0123456789/ =abcdhinmoprstu._", max_size=40))
def test_any_text_is_a_limit_or_an_error(text: str) -> None:
    """Text that cannot be read is a `ValidationError`, and what can be read is written so that it is read alike."""
    try:
        limit = parse(text)
    except ValidationError:
        return
    assert parse(str(limit)) == limit


@pytest.mark.parametrize(("text", "limit"), EXAMPLES, ids=[text for text, _ in EXAMPLES])
def test_each_form_is_read_and_written(text: str, limit: BaseLimit) -> None:
    """The documented forms are read as the limits they mean, which are written as the same text."""
    assert Limit.parse(text) == limit
    assert str(limit) == text


@pytest.mark.parametrize(("text", "limit"), SPELLINGS, ids=[text for text, _ in SPELLINGS])
def test_other_spellings_are_read(text: str, limit: BaseLimit) -> None:
    """The spellings of other tools, and more or fewer blanks, are read as well."""
    assert Limit.parse(text) == limit


@pytest.mark.parametrize("constant", [UNLIMITED, BLOCKED], ids=repr)
def test_the_constants_are_singletons(constant: Any) -> None:
    """UNLIMITED and BLOCKED are read from their text, and stay the same object in copies and pickles."""
    assert Limit.parse(str(constant)) is constant
    assert Limit.parse(f" {constant} ") is constant
    assert pickle.loads(pickle.dumps(constant)) is constant  # noqa: S301 - just written
    assert copy.copy(constant) is constant
    assert copy.deepcopy(constant) is constant
    assert repr(constant) == str(constant).upper()
    assert constant != ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("5.5/second", "'5.5' is not a whole number"),
        ("-5/second", "'-5' is not a whole number"),
        ("/second", "the amount is missing"),
        ("9" * 30 + "/second", "at most 20 digits"),
        ("5", "the period is missing"),
        ("5/", "the period '' has no unit"),
        ("5/fortnight", "'fortnight' is not a unit"),
        ("5/ms", "'ms' is not a unit"),
        ("5/second burst x", "burst 'x' is not a whole number"),
        ("5/second burst 1.5", "burst '1.5' is not a whole number"),
        ("5/second burst", "burst has no number after it"),
        ("5/second burst 5 allotment x", "allotment 'x' is not a number of seconds"),
        ("5/second foo", "'foo' is not understood after the period"),
        ("5/second shadow burst 9", "'shadow burst 9' is not understood after the period"),
        ("5 at once ttl x", "'ttl x' is not understood after 'at once'"),
        ("5 in al", "'in al' is not understood after the amount"),
        ("5/session", "a session is written with its length"),
        ("5/session of 3 weeks", "a session is written with its length"),
        ("5/minute in UTC", "'minute in UTC' is not an hour, a day, a week or a month"),
        ("5/2 days in UTC", "'2 days in UTC' is not an hour"),
        ("5/day in", "'day in' is not an hour"),
        ("unlimited shadow", "'unlimited' is not a whole number"),
    ],
)
def test_an_error_names_the_wrong_part(text: str, named: str) -> None:
    """A text that is no limit is told which part is wrong, the units, and that numbers are whole."""
    with pytest.raises(ValidationError) as caught:
        parse(text)
    message = str(caught.value)
    assert named in message
    assert "second, minute, hour or day" in message
    assert "whole number" in message


@pytest.mark.parametrize("text", ["1000/month", "1000/week", "a=1000 per month burst 5", "5/2 weeks", "5/weeks shadow"])
def test_weeks_and_months_need_a_zone(text: str) -> None:
    """A week or a month without a zone is told how to name one."""
    with pytest.raises(ValidationError, match=r"needs the zone .* in UTC'"):
        parse(text)


def test_every_kind_stands_in_the_table() -> None:
    """The table of kinds holds the class of every limit that can be made, and no two kinds share an identity."""
    assert {type(limit) for _, limit in EXAMPLES} == set(KINDS.values())
    whole_days = [
        Limit.per_day("a", 1),
        Quota.per_day("a", 1),
        Quota.session("a", 1, 86_400.0),
        Quota.total("a", 1),
        Concurrency("a", 1),
    ]
    assert len({limit.identity for limit in whole_days}) == len(KINDS)
    assert all(limit.identity.startswith("a|") for limit in whole_days)


@given(LIMITS, LIMITS)
def test_an_identity_belongs_to_one_name(one: BaseLimit, other: BaseLimit) -> None:
    """Limits of different names, or of different kinds, are never stored under one identity."""
    if one.name != other.name or type(one) is not type(other):
        assert one.identity != other.identity


@given(LIMITS)
def test_capacity_and_enforcement_are_no_part_of_the_identity(limit: BaseLimit) -> None:
    """A limit keeps what is stored of it when its capacity changes or it becomes a shadow."""
    without: dict[str, Any] = {"allotment": None} if isinstance(limit, Limit) else {}
    changed = dataclasses.replace(limit, enforce=not limit.enforce, capacity=max(1, limit.capacity - 1), **without)
    assert changed.identity == limit.identity


@given(LIMITS)
def test_every_limit_is_a_frozen_value(limit: BaseLimit) -> None:
    """A limit of any kind is hashable, cannot be changed, and comes out of a pickle as it went in."""
    twin = pickle.loads(pickle.dumps(limit))  # noqa: S301 - just written
    assert (twin, hash(twin), twin.identity, str(twin)) == (limit, hash(limit), limit.identity, str(limit))
    with pytest.raises(dataclasses.FrozenInstanceError):
        limit.capacity = 1  # type: ignore[misc] # the point of the test


def test_a_list_may_mix_kinds() -> None:
    """Limits of any kinds stand in one list, and a constant in place of one."""
    mixed = [Limit.per_minute("a", 1), Quota.per_day("b", 1), Quota.total("c", 1)]
    assert check_limits(mixed) == check_level(mixed) == tuple(mixed)
    for constant in (UNLIMITED, BLOCKED):
        assert check_limits(constant) is constant
        assert check_level(constant) is constant


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ([Limit.per_second("a", 10), Quota.per_day("a", 9)], "'a' is given twice.*such as 'a_per_second' and 'a_per_day'"),
        ([Limit.per_second("a", 10), UNLIMITED], "UNLIMITED replaces a list.*pass UNLIMITED alone"),
        ([BLOCKED], "pass BLOCKED alone"),
        (Concurrency("a", 1), "wrap a single one in a list"),
        ([BaseLimit("a", 1)], "is not a Limit"),
        (["unlimited"], r"Limit\.parse"),
        ([Limit.per_second(f"a{number}", 1) for number in range(26)], "maximum 25"),
    ],
    ids=["two of one name", "constant beside", "constant inside", "no list", "no kind", "text", "too many"],
)
def test_bad_lists_are_refused(limits: Any, named: str) -> None:
    """A list that is none is told what to write instead."""
    with pytest.raises(ValidationError, match=named):
        check_limits(limits)


def test_an_empty_level_is_refused() -> None:
    """A level that is stored has a limit, or is a constant."""
    with pytest.raises(ValidationError, match="UNLIMITED; use delete_limits"):
        check_level([])
