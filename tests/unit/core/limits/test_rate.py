"""What `Limit` adds to a rate: `at_most`, `allotment`, `enforce` and its identity."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import BaseLimit, Limit, ValidationError
from limiter.core.limits import gcra
from limiter.core.units import DAY, NANOSECONDS


def most_within(limit: Limit, span: int) -> int:
    """Return the most units that a bucket allows in a half-open span of the given nanoseconds.

    The best case is a full bucket at the span's beginning: all that fits is consumed at once, and again at each instant at which
    another unit fits.
    """
    tat = now = admitted = 0
    while now < span:
        fitting = max(0, gcra.available(limit, tat, now))
        while fitting and gcra.start(limit, max(tat, now) + gcra.cost(limit, fitting)) > now:
            fitting -= 1
        if fitting:
            tat = max(tat, now) + gcra.cost(limit, fitting)
            admitted += fitting
        now = max(now + 1, tat + gcra.cost(limit, 1) - limit.window)
    return admitted


@settings(deadline=None)
@given(st.integers(1, 40), st.data(), st.one_of(st.floats(1e-6, 1.0), st.sampled_from([1e-6, 1.0, 60.0, 3_600.0, 7.77])))
def test_no_half_open_span_admits_more_than_at_most(n: int, data: st.DataObject, period: float) -> None:
    """A rate made by `at_most` allows at most n units in any half-open span of the period, for any burst."""
    burst = data.draw(st.none() | st.integers(1, n))
    limit = Limit.at_most("requests", n, period, burst)
    assert most_within(limit, round(period * NANOSECONDS)) <= n


@given(st.integers(1, 60), st.sampled_from([1e-3, 1.0, 60.0]))
def test_at_most_is_as_generous_as_it_can_be(n: int, period: float) -> None:
    """Some span of `at_most` admits all of n where a unit is a whole number of nanoseconds."""
    limit = Limit.at_most("requests", n, period)
    if limit.period_ns == round(period * NANOSECONDS):
        assert most_within(limit, limit.period_ns) == n


@pytest.mark.parametrize(
    ("n", "burst", "capacity", "amount"), [(15, 8, 8, 8), (15, None, 8, 8), (16, None, 8, 9), (1, None, 1, 1), (9, 9, 9, 1)]
)
def test_at_most_splits_n_into_burst_and_refill(n: int, burst: int | None, capacity: int, amount: int) -> None:
    """The capacity is the burst, half of n rounded up by default; n - burst + 1 units refill each period."""
    limit = Limit.at_most("requests", n, 60.0, burst=burst)
    assert (limit.capacity, limit.refill_amount) == (capacity, amount)
    assert limit.refill_period == pytest.approx(60.0)


@given(st.integers(1, 2_000), st.floats(0.001, 400 * DAY))
def test_at_most_moves_the_period_by_next_to_nothing(n: int, period: float) -> None:
    """A period that is no whole number of nanoseconds for each unit becomes longer, by too little to be noticed."""
    limit = Limit.at_most("requests", n, period)
    assert limit.period_ns % limit.refill_amount == 0
    assert 0 <= limit.period_ns - round(period * NANOSECONDS) <= 2_000 * limit.refill_amount
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 60.0), "n of limit 'a' must be between 1 and .* not 0"),
        ((1.5, 60.0), "n of limit 'a' must be an integer, not 1.5"),
        ((5, 60.0, 6), "burst of limit 'a' must be between 1 and 5, not 6"),
        ((5, 60.0, 0), "burst of limit 'a' must be between 1 and 5, not 0"),
        ((5, 0), "refill_period of limit 'a' must be a number of seconds above 0, not 0"),
        ((10**12, 1e-6), "at most 10"),
    ],
)
def test_at_most_names_what_is_wrong(arguments: tuple[Any, ...], named: str) -> None:
    """A bad n, burst or period of `at_most` is named by its own name."""
    with pytest.raises(ValidationError, match=named):
        Limit.at_most("a", *arguments)


def test_an_allotment_leaves_room() -> None:
    """An allotment is at most half of the time to refill, and leaves a request of one unit possible."""
    assert Limit.per_minute("a", 10_000, burst=50_000, allotment=0.1).allotment_ns == NANOSECONDS // 10
    assert Limit.per_second("a", 2).allotment_ns == 0
    assert Limit.per_second("a", 10**9, burst=2, allotment=1e-9).allotment_ns == 1
    for limit in (
        Limit.per_second("a", 2, allotment=0.5),
        Limit.per_second("a", 3, allotment=0.5),
        Limit.per_minute("a", 7, burst=2, allotment=8.5),
    ):
        assert gcra.cost(limit, 1) <= limit.window - limit.allotment_ns


@pytest.mark.parametrize(
    ("burst", "allotment", "named"),
    [
        (2, 0.501, "at most 0.5 .*not 0.501"),
        (100, 31, "not 31"),
        (2, 0, "not 0"),
        (2, -1.0, "not -1.0"),
        (2, True, "not True"),
        (2, "0.1", "not '0.1'"),
        (2, float("nan"), "not nan"),
        (1, 0.1, "capacity 1 can have no allotment.*raise the burst"),
    ],
)
def test_bad_allotments_are_refused(burst: int, allotment: Any, named: str) -> None:
    """An allotment that is no number, or too long for its limit, is named with the longest one that fits."""
    with pytest.raises(ValidationError, match=named):
        Limit.per_second("a", 2, burst=burst, allotment=allotment)


@pytest.mark.parametrize("enforce", [None, 0, 1, "no"])
def test_enforce_is_a_boolean(enforce: Any) -> None:
    """Whether a limit is enforced is True or False, and nothing that counts as one of them."""
    with pytest.raises(ValidationError, match=r"enforce of limit 'a' must be True or False"):
        Limit.per_minute("a", 5, enforce=enforce)


def test_every_maker_takes_enforce() -> None:
    """A limit is enforced unless its maker is told otherwise."""
    for make in (Limit.per_second, Limit.per_minute, Limit.per_hour, Limit.per_day):
        assert make("a", 5).enforce
        assert not make("a", 5, enforce=False).enforce
    assert not Limit.at_most("a", 5, 1.0, enforce=False).enforce
    assert Limit.per_minute("a", 5, enforce=False) != Limit.per_minute("a", 5)


def test_the_identity_is_the_name_and_the_rate() -> None:
    """What is stored belongs to a name and a rate, written either way; not to capacity, allotment or `enforce`."""
    limit = Limit.per_minute("a", 60)
    same = (
        Limit.per_second("a", 1),
        Limit.per_minute("a", 60, burst=600, allotment=1.0),
        Limit.per_minute("a", 60, enforce=False),
        Limit("a", 5, 30, 30.0),
    )
    other = (Limit.per_minute("b", 60), Limit.per_minute("a", 61), Limit.per_hour("a", 60), Limit.per_minute("a|1", 60))
    assert {each.identity for each in same} == {limit.identity}
    assert limit.identity not in {each.identity for each in other}


def test_a_rate_is_a_base_limit_that_pickles() -> None:
    """A limit is a `BaseLimit`, and keeps its derived fields through pickling, copying and `replace`."""
    limit = Limit.per_minute("a", 60, allotment=0.5, enforce=False)
    assert isinstance(limit, BaseLimit)
    for twin in (pickle.loads(pickle.dumps(limit)), copy.deepcopy(limit), dataclasses.replace(limit)):  # noqa: S301 - just written
        assert twin == limit
        assert (twin.identity, twin.window, twin.allotment_ns) == (limit.identity, limit.window, limit.allotment_ns)
