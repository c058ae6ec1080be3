"""The audit reads limits and computes calendar periods with code of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import Concurrency, Limit, Quota
from limiter.audit.periods import Calendar
from limiter.audit.rules import Rule, rule

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokens=10000/minute burst 50000", Rule("rate", "tokens", 50_000, 10_000, 60 * SECOND)),
        ("a=b=5/0.5 seconds", Rule("rate", "a=b", 5, 5, SECOND // 2)),
        ("a=5/second burst 9 allotment 0.1", Rule("rate", "a", 9, 5, SECOND, SECOND // 10)),
        ("t=1000000/day in America/Los_Angeles", Rule("quota", "t", 10**6, calendar="day", zone="America/Los_Angeles")),
        ("m=50/session of 5 hours", Rule("session", "m", 50, period=5 * 3_600 * SECOND)),
        ("m=50/session of 90 seconds shadow", Rule("session", "m", 50, period=90 * SECOND, enforced=False)),
        ("credits=10000 in all", Rule("total", "credits", 10_000)),
        ("calls=20 at once", Rule("slots", "calls", 20, period=60 * SECOND)),
        ("calls=20 at once ttl 7.5 shadow", Rule("slots", "calls", 20, period=7_500_000_000, enforced=False)),
    ],
)
def test_every_kind_is_read(text: str, expected: Rule) -> None:
    """A limit's text says all that the audit needs."""
    assert rule(text) == expected


@given(st.integers(1, 10**5), st.integers(1, 10**6), st.integers(1, 10**7).map(lambda milliseconds: milliseconds / 1000))
def test_a_rate_has_the_numbers_of_its_limit(capacity: int, amount: int, period: float) -> None:
    """The audit reads the text of a rate as the numbers of the limit."""
    limit = Limit("a", capacity, min(amount, round(period * SECOND)), period)
    found = rule(str(limit))
    assert (found.kind, found.capacity, found.amount, found.period) == ("rate", capacity, limit.refill_amount, limit.period_ns)


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        (Limit.per_hour("a", 7, burst=9), "rate"),
        (Limit("a", 3, 7, 0.25), "rate"),
        (Quota.per_hour("a", 7), "quota"),
        (Quota.per_month("a", 7, "Asia/Kolkata"), "quota"),
        (Quota.session("a", 7, 90.5), "session"),
        (Quota.session("a", 7, 5 * 3_600), "session"),
        (Quota.total("a", 7), "total"),
        (Concurrency("a", 7), "slots"),
        (Concurrency("a", 7, ttl=7.5), "slots"),
    ],
    ids=str,
)
def test_each_kind_of_limit_is_read_from_its_text(limit: Any, kind: str) -> None:
    """The audit reads the text of a limit as the same kind and capacity, enforced or not."""
    found = rule(str(limit))
    assert (found.kind, found.name, found.capacity, found.enforced) == (kind, "a", limit.capacity, True)
    assert rule(f"{limit} shadow").enforced is False


def nanoseconds(zone: str, *fields: int) -> int:
    """Nanoseconds of a local time."""
    return int(datetime(*fields, tzinfo=ZoneInfo(zone)).timestamp()) * SECOND  # type: ignore[arg-type, misc] # year to minute


@pytest.mark.parametrize(
    ("unit", "zone", "inside", "begin", "end"),
    [
        ("hour", "Asia/Kolkata", (2027, 1, 1, 12, 40), (2027, 1, 1, 12, 0), (2027, 1, 1, 13, 0)),
        ("day", "Europe/Berlin", (2027, 3, 28, 12), (2027, 3, 28), (2027, 3, 29)),
        ("week", "UTC", (2027, 1, 3, 23), (2026, 12, 28), (2027, 1, 4)),
        ("month", "America/New_York", (2028, 2, 29, 23), (2028, 2, 1), (2028, 3, 1)),
        # Midnight does not exist: the clocks went from 00:00 to 01:00.
        ("day", "America/Santiago", (2026, 9, 6, 12), (2026, 9, 6, 1), (2026, 9, 7)),
        # Clocks went from 23:30 to 00:30, so the date began at half past.
        ("day", "America/Toronto", (1919, 3, 31, 12), (1919, 3, 31, 0, 30), (1919, 4, 1)),
        # They go back over midnight: a minute past it they show the day before again, which is over.
        ("day", "America/Havana", (2026, 11, 1, 12), (2026, 11, 1), (2026, 11, 2)),
    ],
)
def test_periods_are_those_of_the_calendar(
    unit: str, zone: str, inside: tuple[int, ...], begin: tuple[int, ...], end: tuple[int, ...]
) -> None:
    """A period runs from its first instant in the zone to that of the next."""
    expected = nanoseconds(zone, *begin), nanoseconds(zone, *end)
    calendar = Calendar(unit, zone)
    assert calendar.period(nanoseconds(zone, *inside)) == expected
    assert calendar.period(expected[0]) == expected
    assert calendar.period(expected[1] - 1) == expected
    assert calendar.period(expected[1])[0] == expected[1]
    assert calendar.period(expected[0] - 1)[1] == expected[0]
