"""Slots that are held until their lease ends."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import BaseLimit, Concurrency, Quota, ValidationError
from limiter.core.units import NANOSECONDS


@pytest.mark.parametrize(("ttl", "nanoseconds"), [(1, NANOSECONDS), (60.0, 60 * NANOSECONDS), (86_400, 86_400 * NANOSECONDS)])
def test_a_ttl_is_from_a_second_to_a_day(ttl: float, nanoseconds: int) -> None:
    """The bounds of `ttl` themselves are allowed."""
    assert Concurrency("calls", 20, ttl=ttl).ttl_ns == nanoseconds


@pytest.mark.parametrize(
    "ttl",
    [0.999, 86_400.5, 0, -1, True, None, "60", float("nan"), 10**5_000],
    ids=lambda ttl: repr(ttl)[:8] if ttl != 10**5_000 else "huge",
)
def test_other_ttls_are_refused(ttl: Any) -> None:
    """A `ttl` below a second or above a day is named with its bounds."""
    with pytest.raises(ValidationError, match=r"ttl of limit 'calls' must be a number of seconds from 1 to 86400 \(a day\), not"):
        Concurrency("calls", 20, ttl=ttl)


@pytest.mark.parametrize("capacity", [0, -1, 2.5, True, None, 1_000_000])
def test_bad_capacities_are_refused(capacity: Any) -> None:
    """The slots of a limit are a whole number from 1 to 999,999, which an entry in the table has digits for."""
    with pytest.raises(ValidationError, match="capacity of limit 'calls'"):
        Concurrency("calls", capacity)


def test_slots_are_a_base_limit_with_an_identity() -> None:
    """What is held belongs to the name; capacity, `ttl` and `enforce` can change."""
    limit = Concurrency("calls", 20)
    assert isinstance(limit, BaseLimit)
    assert (limit.ttl, limit.enforce) == (60.0, True)
    assert limit.identity == Concurrency("calls", 5, ttl=1.0, enforce=False).identity
    assert limit.identity not in {Concurrency("other", 20).identity, Quota.total("calls", 20).identity}
