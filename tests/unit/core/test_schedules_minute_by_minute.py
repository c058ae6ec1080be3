"""The limits that resolve at each minute are those that the clocks and calendars of the windows' zones name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.engines import FakeClock

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter, ValidationError
from limiter.core.schedule import DAYS, check_schedule

PLAIN = (Limit.per_minute("requests", 1),)
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "America/Santiago": ("2026-04-04", "2026-09-05"),  # at midnight
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),  # by half an hour
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),  # by two hours
    "Pacific/Apia": ("2011-12-29",),  # the next day was left out
}
"""The days on which clocks change, in UTC."""
HOURS = 40

Spec = tuple[str, str]


def _time(quarter: int) -> str:
    return f"{quarter // 4:02}:{quarter % 4 * 15:02}"


def _days(first: int, last: int) -> str:
    return DAYS[first] if first == last else f"{DAYS[first]}-{DAYS[last]}"


TIMES = st.tuples(st.integers(0, 95), st.integers(1, 95)).map(lambda each: f"{_time(each[0])}-{_time(sum(each) % 96)}")
WHEN = st.one_of(
    TIMES,
    st.builds(_days, st.integers(0, 6), st.integers(0, 6)),
    st.builds(lambda days, times: f"{days} {times}", st.builds(_days, st.integers(0, 6), st.integers(0, 6)), TIMES),
)
PLACES = st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days])


def named(when: str, zone: str, moment: datetime) -> bool:
    """Whether a window's text names the time that clocks in its zone show at a moment."""
    local = moment.astimezone(ZoneInfo(zone))
    days, times = next(
        (days, times or "00:00-24:00")
        for days, times in [when.split(" ") if " " in when else ("mon-sun", when) if when[0].isdigit() else (when, "")]
    )
    first, _, last = days.partition("-")
    listed, day = [DAYS.index(first)], DAYS.index(first)
    while DAYS[day] != (last or first):
        day = (day + 1) % 7
        listed.append(day)
    start, end = times.split("-")
    shown, today, yesterday = f"{local:%H:%M}", local.weekday(), (local.weekday() - 1) % 7
    if start < end:
        return today in listed and start <= shown < end
    return (today in listed and shown >= start) or (yesterday in listed and shown < end)


def without_overlaps(specs: list[Spec]) -> list[Spec]:
    """Those windows that overlap no earlier one."""
    chosen: list[Spec] = []
    for spec in specs:
        try:
            check_schedule([(*each, PLAIN) for each in [*chosen, spec]])
        except ValidationError:
            continue
        chosen.append(spec)
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(WHEN, st.sampled_from(sorted(CHANGES))), min_size=1, max_size=4), PLACES)
@example([("sun 02:15-02:45", "Europe/Berlin")], ("Europe/Berlin", "2026-10-25"))
@example([("sun 02:15-02:45", "Europe/Berlin")], ("Europe/Berlin", "2026-03-29"))
@example(
    [("sat-sun 22:00-06:00", "America/Santiago"), ("sun 06:00-07:00", "America/Santiago")], ("America/Santiago", "2026-09-05")
)
@example([("fri", "Pacific/Apia"), ("sat", "Pacific/Apia")], ("Pacific/Apia", "2011-12-29"))
def test_limits_resolve_as_the_clocks_on_the_wall_say(specs: list[Spec], place: tuple[str, str]) -> None:
    """Over a change of clocks, at each minute and just before it, from records that are read once."""
    specs = [("12:00-13:00", place[0])] if not (fitting := without_overlaps(specs)) else fitting
    windows = [(when, zone, (Limit.per_minute("requests", 10 + number),)) for number, (when, zone) in enumerate(specs)]
    start = datetime.fromisoformat(place[1]).replace(tzinfo=UTC) - timedelta(hours=3)
    clock = FakeClock(int(start.timestamp()) * 10**9)
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), config_ttl=8 * 86_400.0)
    limiter.set_limits(PLAIN, schedule=windows)
    for minute in range(HOURS * 60):
        for nanosecond in (-1, 0):
            clock.now_ns = int(start.timestamp()) * 10**9 + minute * 60 * 10**9 + nanosecond
            moment = start + timedelta(seconds=minute * 60 + nanosecond)
            expected = next((limits for when, zone, limits in windows if named(when, zone, moment)), PLAIN)
            assert limiter.resolve_limits("user", "api") == expected, moment


@pytest.mark.parametrize(("zone", "day"), [(zone, day) for zone, days in CHANGES.items() for day in days])
def test_the_clocks_change_on_these_days(zone: str, day: str) -> None:
    """So that the test above tests what it says."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    seen = {(start + timedelta(hours=hour)).astimezone(ZoneInfo(zone)).utcoffset() for hour in range(-3, HOURS - 3)}
    assert len(seen) == 2
