"""Schedules: which limits apply, and until when."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import BLOCKED, UNLIMITED, Limit, ValidationError
from limiter.core.schedule import DAYS, NEVER, Schedule, Window, check_schedule, spans
from limiter.core.units import NANOSECONDS
from limiter.core.zones import offset

PLAIN = (Limit.per_minute("requests", 1),)
OFFICE = (Limit.per_minute("requests", 2),)
NIGHT = (Limit.per_minute("requests", 3),)
BERLIN = "mon-fri 09:00-17:00"


def instant(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> int:
    """Nanoseconds since the epoch of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * NANOSECONDS


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("mon 09:00-17:00", [(540, 1_020)]),
        ("mon", [(0, 1_440)]),
        ("mon 00:00-24:00", [(0, 1_440)]),
        ("mon,wed 01:00-02:00", [(60, 120), (2_940, 3_000)]),
        ("mon-tue 22:00-06:00", [(1_320, 1_800), (2_760, 3_240)]),
        ("sun 22:00-06:00", [(0, 360), (9_960, 10_080)]),
        ("sun-mon 01:00-02:00", [(60, 120), (8_700, 8_760)]),
        ("mon".ljust(200), [(0, 1_440)]),
        (" fri , mon - tue  01:00 - 02:00 ", [(60, 120), (1_500, 1_560), (5_820, 5_880)]),
        ("23:00-24:00", [(day * 1_440 + 1_380, day * 1_440 + 1_440) for day in range(7)]),
        ("sat 18:00-00:00", [(8_280, 8_640)]),
    ],
)
def test_times_of_the_week_are_read(when: str, expected: list[tuple[int, int]]) -> None:
    """Days may be single, listed, or a range, also over Sunday; times may pass midnight; either may be left out."""
    assert list(spans(when)) == expected


@pytest.mark.parametrize(
    ("when", "named"),
    [
        ("", "is not a time of the week; write it like 'mon-fri 09:00-17:00'"),
        ("weekdays 09:00-17:00", "is not a time of the week"),
        ("mon-fri 9-17", "is not a time of the week"),
        ("mon-fri 9:00-17:00", "is not a time of the week"),
        ("mon-fri 09:00", "is not a time of the week"),
        ("mon-fri 09:00-17:00 x", "is not a time of the week"),
        ("mon 09:00-25:00", "25:00 in .* is not a time of the day, which are from 00:00 to 24:00"),
        ("mon 09:61-17:00", "09:61 in"),
        ("mon 09:00-24:30", "24:30 in"),
        ("mox 09:00-17:00", "'mox' in 'mox 09:00-17:00' is not a weekday, which are mon, tue"),
        ("mon,mon 09:00-17:00", "names a weekday twice"),
        ("mon-fri,wed 09:00-17:00", "names a weekday twice"),
        ("mon 09:00-09:00", "a whole day is '00:00-24:00'"),
        ("mon 24:00-06:00", "no time between"),
        ("mon".ljust(201), "is not a time of the week"),
        ("x" * 1_000, "is not a time of the week"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_other_times_are_refused(when: str, named: str) -> None:
    """A time of the week that cannot be read is named with what is wrong in it."""
    with pytest.raises(ValidationError, match=named):
        check_schedule([(when, "UTC", OFFICE)])


@pytest.mark.parametrize(
    ("now", "limits", "until"),
    [
        ("2026-01-05T08:59:59", PLAIN, "2026-01-05T09:00"),  # a Monday
        ("2026-01-05T09:00:00", OFFICE, "2026-01-05T17:00"),
        ("2026-01-05T16:59:59", OFFICE, "2026-01-05T17:00"),
        ("2026-01-05T17:00:00", PLAIN, "2026-01-06T09:00"),
        ("2026-01-09T17:00:00", PLAIN, "2026-01-12T09:00"),  # Friday evening
        ("2026-03-27T17:00:00", PLAIN, "2026-03-30T09:00"),  # clocks change on this week's Sunday
        ("2026-10-23T17:00:00", PLAIN, "2026-10-26T09:00"),
    ],
)
def test_a_window_applies_at_its_local_times(now: str, limits: Any, until: str) -> None:
    """The limits of a window apply from its beginning until before its end by the clocks of its zone."""
    schedule = check_schedule([(BERLIN, "Europe/Berlin", OFFICE)])
    assert schedule.limits_at(instant(now), PLAIN) == limits
    assert schedule.next_change(instant(now)) == instant(until)


def test_a_window_on_a_day_whose_clocks_change() -> None:
    """A time that comes twice is in the window twice; one that does not exist is left out."""
    schedule = check_schedule([("sun 02:15-02:45", "Europe/Berlin", OFFICE)])
    start = instant("2026-10-25T02:00:00")
    steps = [start]
    while (following := schedule.next_change(steps[-1])) is not None and following < start + 3 * 3_600 * NANOSECONDS:
        steps.append(following)
    assert [(step - start) // NANOSECONDS // 60 for step in steps] == [0, 15, 45, 75, 105]
    assert [schedule.limits_at(step, PLAIN) for step in steps] == [PLAIN, OFFICE, PLAIN, OFFICE, PLAIN]
    across = check_schedule([("sun 02:30-03:30", "Europe/Berlin", OFFICE)])
    steps = [start]
    for _ in range(4):
        steps.append(across.next_change(steps[-1]) or 0)
    assert [(step - start) // NANOSECONDS // 60 for step in steps] == [0, 30, 60, 90, 150]
    spring = instant("2026-03-29T00:00:00")
    assert schedule.next_change(spring) == instant("2026-04-05T02:15:00")


def test_windows_of_different_zones_and_midnights() -> None:
    """Windows are in the order of their times, in any zones."""
    schedule = check_schedule(
        [
            ("mon-fri 09:00-17:00", "Europe/Berlin", OFFICE),
            ("mon-fri 12:00-18:00", "America/New_York", NIGHT),
            ("sat-sun", "UTC", BLOCKED),
        ]
    )
    now = instant("2026-01-09T10:00:00")
    seen = []
    for _ in range(6):
        seen.append(schedule.limits_at(now, PLAIN))
        now = schedule.next_change(now) or 0
    assert seen == [OFFICE, PLAIN, NIGHT, PLAIN, BLOCKED, PLAIN]


SPEC = st.tuples(st.sampled_from(DAYS), st.integers(0, 95), st.integers(1, 95)).map(
    lambda each: f"{each[0]} {_time(each[1])}-{_time((each[1] + each[2]) % 96)}"
)


def _time(quarter: int) -> str:
    return f"{quarter // 4:02}:{quarter % 4 * 15:02}"


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SPEC, ZONES), min_size=1, max_size=4), st.integers(1_750_000_000, 1_850_000_000))
def test_nothing_changes_before_the_next_change(specs: list[tuple[str, str]], second: int) -> None:
    """From one instant to the next change the same limits apply at every minute, and other ones at the change."""
    chosen: list[tuple[str, str, Any]] = []
    for place, (when, zone) in enumerate(specs):
        try:
            chosen = [*chosen, (when, zone, [Limit.per_minute("requests", 10 + place)])]
            check_schedule(chosen)
        except ValidationError:
            chosen.pop()
    if not chosen:
        return
    schedule = check_schedule(chosen)
    now = second * NANOSECONDS
    until = schedule.next_change(now)
    assert until is not None
    present = schedule.limits_at(now, PLAIN)
    minutes = range(second, until // NANOSECONDS, 60)
    assert all(schedule.limits_at(minute * NANOSECONDS, PLAIN) == present for minute in (*minutes, until // NANOSECONDS - 1))
    assert until > now
    if until < now + 8 * 86_400 * NANOSECONDS:
        assert schedule.limits_at(until, PLAIN) != present


@settings(max_examples=60, deadline=None)
@given(SPEC, ZONES, SPEC, ZONES)
def test_windows_that_overlap_are_found(one: str, zone: str, other: str, second_zone: str) -> None:
    """Two windows are refused where an instant lies in both, in any week of a year in which no clock changes."""
    windows = (Window(one, zone, OFFICE), Window(other, second_zone, NIGHT))
    first = 1_767_225_600  # The year 2026.
    weeks = [(begin, begin + 604_800) for begin in range(first, first + 53 * 604_800, 4 * 604_800)]
    meet = any(
        windows[0].covers(second) and windows[1].covers(second)
        for begin, end in weeks
        if all(offset(each, begin) == offset(each, end) for each in (zone, second_zone))
        for second in range(begin, end, 900)
    )
    if meet:
        with pytest.raises(ValidationError, match="overlap"):
            check_schedule(windows)
    elif zone == second_zone:
        assert check_schedule(windows) == Schedule(windows)


@pytest.mark.parametrize("second", ["mon 17:00-18:00", "mon 00:00-09:00", "sun 22:00-09:00"])
def test_windows_may_touch(second: str) -> None:
    """A window may begin at the minute in which another one ends, in either order."""
    windows = [("mon 09:00-17:00", "UTC", OFFICE), (second, "UTC", NIGHT)]
    assert len(check_schedule(windows).windows) == len(check_schedule(windows[::-1]).windows) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("mon-fri 09:00-17:00", "UTC"), ("wed 16:59-18:00", "UTC")),
        (("sun 22:00-06:00", "UTC"), ("mon 05:00-07:00", "UTC")),
        (("mon-fri 09:00-17:00", "Europe/Berlin"), ("mon-fri 10:59-12:00", "America/New_York")),
        (("sat-sun", "UTC"), ("sun 12:00-13:00", "UTC")),
    ],
)
def test_overlaps_are_named(first: tuple[str, str], second: tuple[str, str]) -> None:
    """The error names both windows, and what to do."""
    with pytest.raises(ValidationError) as caught:
        check_schedule([(*first, OFFICE), (*second, NIGHT)])
    for part in (*first, *second, "overlap", "change their times"):
        assert part in str(caught.value)


def test_windows_that_touch_are_fine() -> None:
    """A window may begin where another ends, in the same zone or in another."""
    assert check_schedule([("mon 09:00-17:00", "UTC", OFFICE), ("mon 17:00-18:00", "UTC", NIGHT)]).windows
    assert check_schedule([("sun 22:00-06:00", "UTC", OFFICE), ("mon 06:00-07:00", "UTC", NIGHT)]).windows
    assert check_schedule([("mon 09:00-10:00", "UTC", OFFICE), ("mon 15:30-16:00", "Asia/Kolkata", NIGHT)]).windows


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("mon-fri 09:00-17:00", "schedule must be a list of windows"),
        (5, "schedule must be a list of windows"),
        ([("mon", "UTC")], "a window is"),
        (["mon"], "a window is"),
        ([(5, "UTC", OFFICE)], "the time of a window must be a text, not 5"),
        ([("mon", "Mars/Phobos", OFFICE)], "zone of the window 'mon' cannot be 'Mars/Phobos', which does not exist"),
        ([("mon", "UTC", [])], "at least one limit"),
        ([("mon", "UTC", [UNLIMITED, *OFFICE])], "pass UNLIMITED alone"),
        ([(f"mon {_time(quarter)}-{_time(quarter + 1)}", "UTC", OFFICE) for quarter in range(51)], "at most 50"),
    ],
    ids=range(9),
)
def test_bad_schedules_are_refused(value: Any, named: str) -> None:
    """A schedule that is none is told what to write."""
    with pytest.raises(ValidationError, match=named):
        check_schedule(value)


def test_a_schedule_is_a_value() -> None:
    """A schedule equals another of the same windows, pickles, and holds what was given."""
    schedule = check_schedule([(BERLIN, "Europe/Berlin", list(OFFICE)), ("sat", "UTC", UNLIMITED)])
    assert schedule.windows == ((BERLIN, "Europe/Berlin", OFFICE), ("sat", "UTC", UNLIMITED))
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301 - just written


def test_no_windows_change_nothing() -> None:
    """Without windows the plain limits apply for good."""
    assert check_schedule([]) == NEVER
    assert NEVER.limits_at(10**18, PLAIN) is PLAIN
    assert NEVER.next_change(10**18) is None


def test_a_window_of_the_whole_week_is_looked_at_again() -> None:
    """Limits that always apply are good for eight days at a time."""
    schedule = check_schedule([("mon-sun", "UTC", OFFICE)])
    assert schedule.next_change(10**18) == 10**18 + timedelta(days=8) // timedelta(microseconds=1) * 1_000
