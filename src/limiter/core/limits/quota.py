"""Quotas: a number of units in a period of the calendar; and what all counted kinds of limits have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ...exceptions import ValidationError
from ...models import BaseLimit
from ..units import HOUR, NANOSECONDS
from ..validation import shown
from ..zones import check_zone, local_date, offset, start_of_day
from .checks import check_common, derive
from .text import AMOUNT, PER, PERIODS, shadow, singular

if TYPE_CHECKING:
    from datetime import date

_FORM = re.compile(rf"{AMOUNT}{PER}(?P<unit>[a-z]+)\s+in\s+(?P<zone>\S+)")
_HOUR = int(HOUR)
_LAST = 200_000_000_000
"""Seconds since the epoch of an instant in the year 8307, used for all later ones: calendars end with the year 9999."""
_known: dict[tuple[str, str], tuple[int, int]] = {}
"""The last requested period of each period and zone: its start and its end in seconds."""


@dataclass(frozen=True, slots=True)
class Quota(BaseLimit):
    """Units that are counted from an opening, and do not refill: of a calendar period, of a session, or in all.

    It is made by one of its methods.
    """

    def __post_init__(self) -> None:
        made = "Quota.per_hour, per_day, per_week, per_month, session or total"
        raise ValidationError(f"Quota({shown(self.name)}, ...) does not say what it counts; make it with {made}")

    @classmethod
    def per_hour(cls, name: str, n: int, zone: str = "UTC", *, enforce: bool = True) -> CalendarQuota:
        """Return a quota of `n` units in each hour that the clocks of `zone` show."""
        return CalendarQuota(name, n, "hour", zone, enforce=enforce)

    @classmethod
    def per_day(cls, name: str, n: int, zone: str = "UTC", *, enforce: bool = True) -> CalendarQuota:
        """Return a quota of `n` units in each day, from midnight in `zone`."""
        return CalendarQuota(name, n, "day", zone, enforce=enforce)

    @classmethod
    def per_week(cls, name: str, n: int, zone: str = "UTC", *, enforce: bool = True) -> CalendarQuota:
        """Return a quota of `n` units in each week, from Monday's midnight in `zone`."""
        return CalendarQuota(name, n, "week", zone, enforce=enforce)

    @classmethod
    def per_month(cls, name: str, n: int, zone: str = "UTC", *, enforce: bool = True) -> CalendarQuota:
        """Return a quota of `n` units in each month, from midnight of its first day in `zone`."""
        return CalendarQuota(name, n, "month", zone, enforce=enforce)

    @classmethod
    def session(cls, name: str, n: int, seconds: float, *, enforce: bool = True) -> Quota:
        """Return a quota of `n` units in a window of the given seconds, which begins with the first use."""
        from .session import SessionQuota

        return SessionQuota(name, n, seconds, enforce=enforce)

    @classmethod
    def total(cls, name: str, n: int, *, enforce: bool = True) -> Quota:
        """Return a quota of `n` units in all, which never refill."""
        from .total import TotalQuota

        return TotalQuota(name, n, enforce=enforce)

    def is_over(self, since: int, used: int, instant: int) -> bool:
        """Tell whether what was opened at `since` (-1: nothing) has ended at `instant`, so that the next use opens a new one.

        Times are in nanoseconds since the epoch.
        """
        raise NotImplementedError

    def ends(self, since: int, instant: int) -> int | None:
        """Return when what was opened at `since`, or at `instant` if that is over, ends; None if it never does."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CalendarQuota(Quota):
    """`capacity` units in each `period` (hour, day, week or month) of the calendar of `zone`, counted from 0 in each.

    A day begins at midnight in the zone, also on days of 23 and 25 hours; a week on Monday. Zones are names of the IANA database.
    Another name for the same zone makes another quota.
    """

    period: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        check_common(self)
        if self.period not in PERIODS.values():
            raise ValidationError(
                f"period of limit {self.name!r} must be 'hour', 'day', 'week' or 'month', not {shown(self.period)};"
                " for a rate use Limit.per_minute and the like, for other spans Quota.session"
            )
        check_zone(f"zone of limit {self.name!r}", self.zone)
        derive(self, identity=f"{self.name}|{self.period} {self.zone}")

    def bounds(self, instant: int) -> tuple[int, int]:
        """Return the start of the period that contains `instant`, and the start of the next, in nanoseconds since the epoch."""
        second = min(instant // NANOSECONDS, _LAST)
        start, end = _known.get((self.period, self.zone), (0, 0))
        if not start <= second < end:
            start, end = _bounds(self.period, self.zone, second)
            if self.period != "hour" or offset(self.zone, start) == offset(self.zone, end - 1):
                _known[self.period, self.zone] = start, end
        return start * NANOSECONDS, end * NANOSECONDS

    def is_over(self, since: int, used: int, instant: int) -> bool:
        """Tell whether `since` is in an earlier period than `instant`."""
        return since < self.bounds(instant)[0]

    def ends(self, since: int, instant: int) -> int:
        """Return the end of the period of `instant`, or of `since` if that is later."""
        return self.bounds(max(since, instant))[1]

    @classmethod
    def read(cls, name: str, body: str, enforce: bool) -> CalendarQuota | None:
        """Return the quota that the text after a name describes; None if the text has another form."""
        found = _FORM.fullmatch(body)
        period = PERIODS.get(singular(found["unit"])) if found else None
        return cls(name, int(found["amount"]), period, found["zone"], enforce=enforce) if found and period else None

    def __str__(self) -> str:
        """Return the text that `parse` reads back as an equal quota."""
        return f"{self.name}={int(self.capacity)}/{self.period} in {self.zone}{shadow(self)}"


def _bounds(period: str, zone: str, second: int) -> tuple[int, int]:
    if period == "hour":
        start = second - (second + offset(zone, second)) % _HOUR
        return start, start + _HOUR
    first, following = _days(period, _day(zone, second))
    return start_of_day(zone, first), start_of_day(zone, following)


def _day(zone: str, second: int) -> date:
    """Return the day that an instant counts for: the zone's date, or a later one that had begun before clocks went back."""
    day = local_date(zone, second)
    while start_of_day(zone, following := day + timedelta(days=1)) <= second:
        day = following
    return day


def _days(period: str, day: date) -> tuple[date, date]:
    """Return the first day of the period that contains a day, and the first day of the next."""
    if period == "day":
        return day, day + timedelta(days=1)
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)
