"""Time zones: their names, and when their days begin."""

from __future__ import annotations

import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import ConfigurationError, ValidationError
from limiter.core.zones import check_zone, local_date, offset, start_of_day, zone


def second(text: str) -> int:
    """Seconds since the epoch of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("name", "day", "start"),
    [
        ("UTC", date(2026, 3, 29), "2026-03-29T00:00:00"),
        ("Europe/Berlin", date(2026, 3, 29), "2026-03-28T23:00:00"),
        ("Europe/Berlin", date(2026, 3, 30), "2026-03-29T22:00:00"),
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00"),  # clocks jump from 00:00 to 01:00
        ("Asia/Beirut", date(2022, 3, 27), "2022-03-26T22:00:00"),  # likewise
        ("America/Toronto", date(1919, 3, 31), "1919-03-31T04:30:00"),  # clocks jump from 23:30 to 00:30
        ("Atlantic/Azores", date(2022, 10, 30), "2022-10-30T00:00:00"),  # midnight comes twice
        ("America/Havana", date(2022, 11, 6), "2022-11-06T04:00:00"),
        ("America/St_Johns", date(2010, 11, 7), "2010-11-07T02:30:00"),  # at 00:01 clocks go back to 23:01 of the day before
        ("Antarctica/Casey", date(2010, 3, 5), "2010-03-04T13:00:00"),  # at 02:00 clocks go back to 23:00 of the day before
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00"),  # a day that is left out
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00:00"),
        ("Pacific/Apia", date(2012, 1, 1), "2011-12-31T10:00:00"),
    ],
    ids=lambda value: str(value),
)
def test_a_day_begins_at_its_first_instant(name: str, day: date, start: str) -> None:
    """A day begins at midnight, at the first of two midnights, or at the jump over a midnight that does not exist."""
    first = start_of_day(name, day)
    assert first == second(start)
    assert local_date(name, first) >= day
    assert local_date(name, first - 1) < day


@settings(deadline=None)
@given(
    st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})),
    st.dates(date(1975, 1, 1), date(2037, 1, 1)),
)
def test_the_day_before_is_over(name: str, day: date) -> None:
    """In any zone no instant before a day's start within a day has its date or a later one, and its start has."""
    first = start_of_day(name, day)
    assert local_date(name, first) >= day
    assert all(local_date(name, first - before) < day for before in (1, 60, 1_800, 3_600, 7_200, 43_200))


def test_offsets_are_those_of_the_zone() -> None:
    """A zone's clocks are as far from UTC as it says for that time of the year."""
    assert offset("UTC", second("2026-07-01T00:00:00")) == 0
    assert offset("Europe/Berlin", second("2026-07-01T00:00:00")) == 7_200
    assert offset("Europe/Berlin", second("2026-01-01T00:00:00")) == 3_600
    assert offset("Asia/Kolkata", second("2026-01-01T00:00:00")) == 19_800
    assert offset("Africa/Monrovia", second("1971-01-01T00:00:00")) == -2_670
    assert local_date("Pacific/Auckland", second("2026-01-01T12:00:00")) == date(2026, 1, 2)
    assert zone("Europe/Berlin").utcoffset(datetime(2026, 1, 1)) == timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Mars/Phobos", "'Mars/Phobos', which does not exist; use a name such as 'Europe/Berlin' or 'UTC'"),
        ("Europe/Berlim", "did you mean 'Europe/Berlin'"),
        ("America", "does not exist"),
        ("", "does not exist"),
        ("../etc/passwd", "does not exist"),
        ("/etc/localtime", "does not exist"),
        ("localtime", "does not exist"),
        ("posixrules", "does not exist"),
        ("right/UTC", "does not exist"),
        ("Europe/Berlin\x00", "does not exist"),
        ("x" * 1_000, "characters"),
        (None, "must be the name of a time zone, such as 'Europe/Berlin' or 'UTC', not None"),
        (2, "not 2"),
        (UTC, "must be the name of a time zone"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_zone_is_refused(name: Any, named: str) -> None:
    """A zone that does not exist, or that means another thing on each machine, is named with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        check_zone("zone", name)
    assert named in str(caught.value)


def test_a_system_without_zones_is_told_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no time zone data, the error says how to get them; UTC needs none."""
    for module in {"tzdata", *(name for name in sys.modules if name.startswith("tzdata."))}:
        monkeypatch.setitem(sys.modules, module, None)
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    zone.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r"zone cannot be 'Europe/Berlin': .* `pip install tzdata`"):
            check_zone("zone", "Europe/Berlin")
        assert check_zone("zone", "UTC") == "UTC"
    finally:
        zoneinfo.reset_tzpath(to=before)
    assert check_zone("zone", "Europe/Berlin") == "Europe/Berlin"
