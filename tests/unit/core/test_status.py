"""What users are told."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from limiter import Decision, Limit
from limiter.core import status as rules
from limiter.core.limits import gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Receipt, Refusal, Request
from limiter.core.state import EMPTY, BucketState, Level
from limiter.core.units import NANOSECONDS

KEY = BucketKey("default", "user", "api")
NOW = 1_800_000_000 * NANOSECONDS
TEN, ONE = Limit.per_second("ten", 10), Limit.per_second("one", 1)
LIMITS = st.builds(Limit, st.just("a"), st.integers(1, 100), st.integers(1, 50), st.sampled_from([1.0, 60.0, 3_600.0]))


def state(limit: Limit, ahead: int) -> BucketState:
    """A bucket whose `tat` lies ahead of now."""
    return BucketState({limit.name: Level(NOW + ahead, NOW)})


def test_an_admitted_request_is_told_what_is_left() -> None:
    """After an admission the statuses count what the bucket has left, and when it will be full; nothing is exceeded."""
    tat = NOW + gcra.cost(TEN, 4)
    (status,) = rules.granted(KEY, Grant((Receipt(TEN, 4, gcra.cost(TEN, 4), NOW, NOW, tat),), NOW))
    assert (status.entity_id, status.resource, status.limit, status.requested) == ("user", "api", TEN, 4)
    assert (status.available, status.exceeded, status.retry_after, status.reset_after) == (6, False, 0.0, 0.4)
    assert Decision.of([status]) == Decision(allowed=True, statuses=(status,), retry_after=0.0)


def test_a_refused_request_is_told_what_stood_in_the_way() -> None:
    """Of several limits those that had too little are exceeded, and the longest wait counts."""
    charges = (Charge(TEN, 4), Charge(ONE, 1))
    statuses = rules.refused(KEY, charges, Refusal((NOW + gcra.cost(TEN, 3), NOW + gcra.cost(ONE, 1) // 4), NOW))
    assert [(status.available, status.exceeded, status.retry_after) for status in statuses] == [(7, False, 0.0), (0, True, 0.25)]
    decided = Decision.of(statuses)
    assert not decided
    assert decided.retry_after == 0.25


def test_what_can_never_be_has_no_time() -> None:
    """A request above a capacity is told so without a look, and no other wait covers that up."""
    statuses = rules.never_satisfiable([Request(KEY, (Charge(TEN, 11), Charge(ONE, 1)))])
    assert [(status.limit, status.exceeded, status.retry_after) for status in statuses] == [(TEN, True, None)]
    waiting = rules.refused(KEY, (Charge(ONE, 1),), Refusal((NOW + 5 * NANOSECONDS,), NOW))
    assert Decision.of([*waiting, *statuses]).retry_after is None
    assert rules.never_satisfiable([Request(KEY, (Charge(TEN, 10), Charge(ONE, 0)))]) == ()


def test_a_debt_is_negative() -> None:
    """In debt the available units are negative, and even nothing has to wait until it is paid."""
    (status,) = rules.preview(KEY, (Charge(TEN, 0),), state(TEN, gcra.cost(TEN, 15)), NOW)
    assert (status.available, status.exceeded, status.retry_after, status.reset_after) == (-5, True, 0.5, 1.5)


def test_a_preview_of_an_empty_bucket_and_of_too_much() -> None:
    """An unknown bucket is full, and a preview tells what can never be as an acquire would."""
    fine, never = rules.preview(KEY, (Charge(TEN, 10), Charge(ONE, 2)), EMPTY, NOW)
    assert (fine.available, fine.exceeded, fine.reset_after) == (10, False, 0.0)
    assert (never.exceeded, never.retry_after) == (True, None)


def test_a_preview_of_what_can_never_be_tells_what_is_there() -> None:
    """Above the capacity there is no time to come back, and what is left, and when it is full, is as the bucket says."""
    (never,) = rules.preview(KEY, (Charge(TEN, 11),), state(TEN, gcra.cost(TEN, 6)), NOW)
    assert (never.available, never.exceeded, never.retry_after, never.reset_after) == (4, True, None, 0.6)


@given(LIMITS, st.integers(0, 100), st.integers(-(10**9), 2 * 10**12))
def test_the_wait_is_exact(limit: Limit, units: int, ahead: int) -> None:
    """After the wait that is told the same request fits, and a nanosecond before it does not."""
    assume(units <= limit.capacity)
    (status,) = rules.preview(KEY, (Charge(limit, units),), state(limit, ahead), NOW)
    assert status.retry_after is not None
    wait = round(status.retry_after * NANOSECONDS)
    (then,) = rules.preview(KEY, (Charge(limit, units),), state(limit, ahead), NOW + wait)
    assert not then.exceeded
    if status.exceeded:
        (before,) = rules.preview(KEY, (Charge(limit, units),), state(limit, ahead), NOW + wait - 1)
        assert before.exceeded
        assert status.available < max(units, 1)
    else:
        assert status.available >= units


@given(LIMITS, st.integers(-(10**9), 2 * 10**12))
def test_a_bucket_is_full_after_the_reset(limit: Limit, ahead: int) -> None:
    """After `reset_after` seconds the whole capacity is available."""
    (status,) = rules.preview(KEY, (Charge(limit, 0),), state(limit, ahead), NOW)
    later = NOW + round(status.reset_after * NANOSECONDS)
    (then,) = rules.preview(KEY, (Charge(limit, 0),), state(limit, ahead), later)
    assert (then.available, then.reset_after) == (limit.capacity, 0.0)
