"""Calendar quotas: their periods, in every zone and over every change of its clocks."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import BaseLimit, Quota, ValidationError
from limiter.core.limits import CalendarQuota
from limiter.core.units import NANOSECONDS
from limiter.core.zones import local_date, offset, start_of_day

if TYPE_CHECKING:
    from collections.abc import Callable

ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
MAKERS: dict[str, Callable[..., CalendarQuota]] = {
    "hour": Quota.per_hour,
    "day": Quota.per_day,
    "week": Quota.per_week,
    "month": Quota.per_month,
}


def instant(text: str) -> int:
    """Nanoseconds since the epoch of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NANOSECONDS


def shown(time: int) -> str:
    """A time in UTC as text."""
    return datetime.fromtimestamp(time // NANOSECONDS, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("hour", "UTC", "2026-01-01T10:20:30", "2026-01-01T10:00", "2026-01-01T11:00"),
        ("hour", "Asia/Kolkata", "2026-01-01T10:20:30", "2026-01-01T09:30", "2026-01-01T10:30"),
        ("hour", "Asia/Kathmandu", "2026-01-01T10:20:30", "2026-01-01T10:15", "2026-01-01T11:15"),
        ("day", "UTC", "2026-01-01T10:20:30", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("day", "America/Los_Angeles", "2026-01-01T07:59:59", "2025-12-31T08:00", "2026-01-01T08:00"),
        ("day", "America/Los_Angeles", "2026-01-01T08:00:00", "2026-01-01T08:00", "2026-01-02T08:00"),
        ("day", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("day", "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("day", "America/St_Johns", "2010-11-07T02:29:59", "2010-11-06T02:30", "2010-11-07T02:30"),
        ("day", "America/St_Johns", "2010-11-07T03:00:00", "2010-11-07T02:30", "2010-11-08T03:30"),  # again the day before
        ("day", "Antarctica/Casey", "2010-03-04T12:59:59", "2010-03-03T13:00", "2010-03-04T13:00"),
        ("day", "Antarctica/Casey", "2010-03-04T15:30:00", "2010-03-04T13:00", "2010-03-05T16:00"),  # again the day before
        ("day", "America/Toronto", "1919-03-31T04:29:59", "1919-03-30T05:00", "1919-03-31T04:30"),
        ("day", "America/Toronto", "1919-03-31T04:30:00", "1919-03-31T04:30", "1919-04-01T04:00"),  # no midnight
        ("day", "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("day", "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-30T10:00", "2011-12-31T10:00"),
        ("week", "UTC", "2026-01-01T10:20:30", "2025-12-29T00:00", "2026-01-05T00:00"),
        ("week", "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-22T23:00", "2026-03-29T22:00"),
        ("month", "UTC", "2026-01-31T23:59:59", "2026-01-01T00:00", "2026-02-01T00:00"),
        ("month", "UTC", "2028-02-29T12:00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("month", "America/Los_Angeles", "2026-03-09T00:00:00", "2026-03-01T08:00", "2026-04-01T07:00"),
        ("month", "Asia/Tokyo", "2025-12-31T15:00:00", "2025-12-31T15:00", "2026-01-31T15:00"),
    ],
)
def test_periods_begin_and_end_with_the_zone(period: str, zone: str, now: str, start: str, end: str) -> None:
    """A period begins where the calendar of its zone says, and ends where the next begins."""
    quota = MAKERS[period]("tokens", 5, zone)
    assert tuple(map(shown, quota.bounds(instant(now)))) == (start, end)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(MAKERS)),
    st.sampled_from(ZONES),
    st.integers(instant("1975-01-01T00:00:00"), instant("2037-01-01T00:00:00")),
    st.integers(0, 400 * 86_400),
)
def test_periods_follow_one_another(period: str, zone: str, now: int, later: int) -> None:
    """In any zone each instant is in one period, periods do not go back in time, and the start belongs to the period."""
    quota = MAKERS[period]("tokens", 5, zone)
    start, end = quota.bounds(now)
    assert start <= now < end
    assert start % NANOSECONDS == end % NANOSECONDS == 0
    if period != "hour":  # An hour ends early, or another begins late, where clocks change by a part of one.
        assert quota.bounds(start) == quota.bounds(end - 1) == (start, end)
        assert quota.bounds(end)[0] == end
        assert quota.bounds(start - 1)[1] == start
    assert quota.bounds(now + later * NANOSECONDS)[0] >= start
    assert quota.bounds(now) == (start, end)


@given(st.sampled_from(ZONES), st.integers(instant("1975-01-01T00:00:00"), instant("2037-01-01T00:00:00")))
def test_hours_are_those_of_the_clocks(zone: str, now: int) -> None:
    """An hour is 3,600 s long and begins where the zone's clocks, as they are now, show a whole hour."""
    start, end = (each // NANOSECONDS for each in Quota.per_hour("tokens", 5, zone).bounds(now))
    assert end - start == 3_600
    assert (start + offset(zone, now // NANOSECONDS)) % 3_600 == 0


@given(st.sampled_from(ZONES), st.integers(instant("1975-01-01T00:00:00"), instant("2037-01-01T00:00:00")))
def test_weeks_begin_on_monday_and_months_on_the_first(zone: str, now: int) -> None:
    """The zone's date at the start of a week is a Monday, of a month its first; that date's start is theirs, too."""
    week, month = (make("tokens", 5, zone).bounds(now)[0] // NANOSECONDS for make in (Quota.per_week, Quota.per_month))
    for start, wanted in ((week, lambda day: day.weekday() == 0), (month, lambda day: day.day == 1)):
        if local_date(zone, start) != local_date(zone, start + 86_400):  # The day was not left out.
            assert wanted(local_date(zone, start))
            assert start_of_day(zone, local_date(zone, start)) == start


def test_a_quota_is_over_when_its_period_is() -> None:
    """What was opened in an earlier period has ended; what was opened in this one, or by a clock ahead of it, has not."""
    quota = Quota.per_day("tokens", 5)
    midnight = instant("2026-01-02T00:00:00")
    assert quota.is_over(-1, 0, midnight)
    assert quota.is_over(midnight - 1, 5, midnight)
    assert not quota.is_over(midnight, 5, midnight)
    assert not quota.is_over(midnight + 5, 5, midnight - 1)
    assert quota.ends(-1, midnight) == quota.ends(midnight + 5, midnight - 1) == instant("2026-01-03T00:00:00")
    assert quota.ends(midnight - 1, midnight - 1) == midnight


def test_times_beyond_all_calendars_have_a_period() -> None:
    """A time that makes no sense, as a broken clock may have stored, is in some period and raises nothing."""
    for make in MAKERS.values():
        start, end = make("tokens", 5, "Europe/Berlin").bounds(10**37)
        assert start < end


def test_a_quota_is_made_by_a_period() -> None:
    """`Quota` itself counts nothing; its methods make limits of 5 units that are `Quota` and `BaseLimit`."""
    with pytest.raises(ValidationError, match=r"make it with Quota\.per_hour"):
        Quota("tokens", 5)
    for period, make in MAKERS.items():
        quota = make("tokens", 5, enforce=False)
        assert quota == CalendarQuota("tokens", 5, period, "UTC", enforce=False)
        assert isinstance(quota, Quota)
        assert isinstance(quota, BaseLimit)
        assert make("tokens", 5, zone="Asia/Tokyo").zone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("", 5, "day"), "limit name"),
        (("a", 0, "day"), "capacity of limit 'a' must be between 1"),
        (("a", 1.5, "day"), "capacity of limit 'a' must be an integer, not 1.5"),
        (("a", 10**12 + 1, "day"), "not 1000000000001"),
        (("a", 5, "minute"), "period of limit 'a' must be .* not 'minute'; for a rate use Limit.per_minute"),
        (("a", 5, ["day"]), "period of limit 'a'"),
        (("a", 5, "day", "Mars/Phobos"), "zone of limit 'a' cannot be 'Mars/Phobos', which does not exist"),
        (("a", 5, "day", None), "zone of limit 'a' must be the name of a time zone"),
    ],
)
def test_bad_quotas_are_refused(arguments: tuple[Any, ...], named: str) -> None:
    """A quota that makes no sense cannot be made."""
    with pytest.raises(ValidationError, match=named):
        CalendarQuota(*arguments)


def test_the_identity_is_name_period_and_zone() -> None:
    """What was counted belongs to a name, a period and a zone's name; not to the capacity."""
    assert Quota.per_day("a", 5).identity == Quota.per_day("a", 6, enforce=False).identity
    others = [Quota.per_day("b", 5), Quota.per_week("a", 5), Quota.per_day("a", 5, "Etc/UTC"), Quota.per_day("a|day UTC", 5)]
    assert Quota.per_day("a", 5).identity not in {each.identity for each in others}
