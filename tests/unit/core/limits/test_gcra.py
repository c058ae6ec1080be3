"""The arithmetic, compared with exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from limiter.core.limits import Limit, gcra
from limiter.core.units import DAY, HOUR, MINUTE, NANOSECONDS, SECOND

EPOCH = 1_800_000_000 * NANOSECONDS
PERIODS = st.one_of(st.sampled_from([SECOND, MINUTE, HOUR, DAY]), st.integers(1, 1_000).map(lambda ns: ns / NANOSECONDS))


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    """Limits from the slowest to the fastest, with periods from a nanosecond to a day."""
    period = draw(PERIODS)
    amount = draw(st.integers(1, min(10**9, round(period * NANOSECONDS))))
    capacity = draw(st.one_of(st.integers(1, 50), st.integers(1, 10**6)))
    assume(capacity * period / amount < 3_000_000_000)
    return Limit("a", capacity, amount, period)


@given(limits(), st.integers(0, 10**9))
def test_a_cost_is_the_exact_time_rounded_up(limit: Limit, units: int) -> None:
    """Units cost the time in which they refill, and less than a nanosecond more."""
    exact = Fraction(units * limit.period_ns, limit.refill_amount)
    assert 0 <= gcra.cost(limit, units) - exact < 1


@given(limits())
def test_a_full_bucket_holds_exactly_its_capacity(limit: Limit) -> None:
    """A full bucket, new or idle, has its capacity available, at no time more, and never room for one unit more."""
    for tat in (-1, 0, EPOCH - 1, EPOCH):
        assert gcra.available(limit, tat, EPOCH) == limit.capacity
    assert gcra.start(limit, EPOCH + gcra.cost(limit, limit.capacity)) <= EPOCH
    assert gcra.start(limit, EPOCH + gcra.cost(limit, limit.capacity + 1)) > EPOCH


@given(limits(), st.data())
def test_any_way_to_take_the_capacity_fits(limit: Limit, data: st.DataObject) -> None:
    """Any parts that add up to the capacity fit; one unit more does not."""
    assume(limit.capacity <= limit.period_ns // limit.refill_amount)
    parts = [limit.capacity]
    for _ in range(data.draw(st.integers(0, 12))):
        largest = parts.pop(parts.index(max(parts)))
        cut = data.draw(st.integers(0, largest))
        parts += [cut, largest - cut]
    if limit.capacity <= 50 and data.draw(st.booleans()):
        parts = [1] * limit.capacity
    tat = EPOCH
    for part in parts:
        tat += gcra.cost(limit, part)
        assert gcra.start(limit, tat) <= EPOCH
    assert gcra.start(limit, tat + gcra.cost(limit, 1)) > EPOCH


@given(limits(), st.lists(st.integers(1, 1_000), max_size=30))
def test_takings_that_fit_never_add_up_to_more_than_capacity(limit: Limit, takings: list[int]) -> None:
    """At one instant, all that fits adds up to at most the capacity, in any portions."""
    tat, taken = EPOCH, 0
    for units in takings:
        if gcra.start(limit, tat + gcra.cost(limit, units)) <= EPOCH:
            tat += gcra.cost(limit, units)
            taken += units
    assert taken <= limit.capacity
    assert gcra.available(limit, tat, EPOCH) <= limit.capacity - taken


@given(limits(), st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_what_is_available_can_be_taken(limit: Limit, ahead: int, late: int) -> None:
    """Exactly the units that are available fit; in debt none does."""
    tat = EPOCH + limit.window + ahead * 1_000
    units = gcra.available(limit, tat, EPOCH + late)
    now = EPOCH + late
    assert units <= limit.capacity
    if units >= 0:
        assert gcra.start(limit, max(tat, now) + gcra.cost(limit, units)) <= now
    assert gcra.start(limit, max(tat, now) + gcra.cost(limit, units + 1)) > now


@given(limits(), st.integers(1, 10**6), st.integers(0, 10**12))
def test_a_start_is_the_first_moment(limit: Limit, units: int, ahead: int) -> None:
    """A taking is allowed from its start on, and not a nanosecond earlier."""
    tat = EPOCH + ahead + gcra.cost(limit, units)
    start = gcra.start(limit, tat)
    assert tat <= start + limit.window
    assert tat > start - 1 + limit.window


@settings(max_examples=50)
@given(limits(), st.integers(1, 60))
def test_no_span_admits_more_than_capacity_rate_and_one(limit: Limit, steps: int) -> None:
    """A greedy caller gets at most the capacity, what refills, and one unit for rounding."""
    now, tat, taken = EPOCH, EPOCH, 0
    gap = max(1, limit.period_ns // limit.refill_amount // 2)
    for _ in range(steps):
        units = max(0, gcra.available(limit, tat, now))
        tat = max(tat, now) + gcra.cost(limit, units)
        taken += units
        now += gap
    exact = limit.capacity + Fraction((now - EPOCH) * limit.refill_amount, limit.period_ns)
    assert taken <= exact + 1


@pytest.mark.parametrize(
    ("text", "units", "cost"),
    [
        ("10/second", 1, 100_000_000),
        ("50/day", 1, 1_728_000_000_000),
        ("3/second", 1, 333_333_334),
        ("3/second", 3, 1_000_000_000),
    ],
)
def test_costs_by_hand(text: str, units: int, cost: int) -> None:
    """Some costs that everybody can check."""
    assert gcra.cost(Limit.parse(text), units) == cost


@pytest.mark.parametrize("text", ["10/second", "1/day", "1000000000/second burst 5"])
def test_whole_nanoseconds_need_no_slack(text: str) -> None:
    """Where a unit costs a whole number of nanoseconds, the window is the capacity's cost to the nanosecond."""
    limit = Limit.parse(text)
    assert limit.window == gcra.cost(limit, limit.capacity)
