"""Calendar periods of a time zone, computed by the audit itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..core.units import NANOSECONDS
from ..exceptions import ValidationError


class Calendar:
    """The hours, days, weeks (from Monday) or months of a time zone."""

    def __init__(self, unit: str, zone: str) -> None:
        try:
            self._zone = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValidationError(f"time zone {zone!r} is not known here; install the package tzdata") from error
        self._unit = unit
        self._last = 0, 0

    def period(self, time: int) -> tuple[int, int]:
        """Return the begin and the end of the period that contains a time, in nanoseconds since the epoch."""
        if not self._last[0] <= time < self._last[1]:
            begin, end = self._hour(time // NANOSECONDS) if self._unit == "hour" else self._days(time // NANOSECONDS)
            self._last = begin * NANOSECONDS, end * NANOSECONDS
        return self._last

    def _hour(self, seconds: int) -> tuple[int, int]:
        offset = datetime.fromtimestamp(seconds, self._zone).utcoffset() or timedelta()
        begin = seconds - (seconds + int(offset.total_seconds())) % 3_600
        return begin, begin + 3_600

    def _days(self, seconds: int) -> tuple[int, int]:
        day = datetime.fromtimestamp(seconds, self._zone).date()
        if self._start(day + timedelta(days=1)) <= seconds:  # The clocks went back over midnight.
            day += timedelta(days=1)
        first, next_first = self._around(day)
        return self._start(first), self._start(next_first)

    def _around(self, day: date) -> tuple[date, date]:
        if self._unit == "week":
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        if self._unit == "month":
            first = day.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)
        return day, day + timedelta(days=1)

    def _start(self, day: date) -> int:
        """Return the first second of a date: midnight, or the time at which the clocks skip midnight."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        high = int(midnight.timestamp())
        if datetime.fromtimestamp(high, self._zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
            return high
        low = int((midnight.replace(tzinfo=UTC) - timedelta(days=2)).timestamp())
        high = max(high, low) + 86_400
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (low, middle) if datetime.fromtimestamp(middle, self._zone).date() >= day else (middle, high)
        return high
