"""Time zones: their names, their distance from UTC, and the beginning of their days.

Seconds are whole seconds since the epoch. `zoneinfo` is imported when a zone other than UTC is used first.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING

from ..exceptions import ConfigurationError, ValidationError
from .validation import shown

if TYPE_CHECKING:
    from datetime import tzinfo

_NAME = re.compile("[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_OF_THIS_MACHINE = re.compile("localtime|posixrules|Factory|(?:posix|right)/.*")
"""Names in a system's data that are no zones: its own setting, and zones whose clock counts leap seconds or does not say."""


def check_zone(what: str, value: object) -> str:
    """Return `value` if it is the name of a time zone of the IANA database, such as 'Europe/Berlin' or 'UTC'."""
    if not isinstance(value, str):
        raise ValidationError(f"{what} must be the name of a time zone, such as 'Europe/Berlin' or 'UTC', not {shown(value)}")
    try:
        zone(value)
    except LookupError:
        raise _unknown(what, value) from None
    return value


@cache
def zone(name: str) -> tzinfo:
    """Return the time zone of this name; raises `LookupError` if there is none."""
    if name == "UTC":
        return UTC
    if len(name) > 100 or not _NAME.fullmatch(name) or _OF_THIS_MACHINE.fullmatch(name):
        raise LookupError(name)
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as error:  # A directory, such as America, or a file that holds something else.
        raise LookupError(name) from error


def offset(name: str, second: int) -> int:
    """Return the seconds by which a zone's clocks are ahead of UTC at an instant."""
    distance = datetime.fromtimestamp(second, zone(name)).utcoffset()
    return 0 if distance is None else distance // timedelta(seconds=1)


def local_date(name: str, second: int) -> date:
    """Return the date that a zone's calendars show at an instant."""
    return datetime.fromtimestamp(second, zone(name)).date()


def start_of_day(name: str, day: date) -> int:
    """Return the first instant at which the zone's date is `day` or a later one.

    It is midnight; the first of two where clocks that go back show it twice; and the instant at which clocks jump over it where
    it does not exist.
    """
    midnight = datetime.combine(day, time(), zone(name))
    first = _second(midnight)
    if datetime.fromtimestamp(first, zone(name)).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return first
    # Python gives a time that does not exist two instants, one on each side of the jump.
    before, after = sorted((first, _second(midnight.replace(fold=1))))
    while before + 1 < after:
        middle = (before + after) // 2
        if local_date(name, middle) < day:
            before = middle
        else:
            after = middle
    return after


def _second(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def _unknown(what: str, name: str) -> ValidationError | ConfigurationError:
    from difflib import get_close_matches
    from zoneinfo import available_timezones

    names = available_timezones()
    if not names:
        return ConfigurationError(
            f"{what} cannot be {shown(name)}: this system has no time zone data; install it with `pip install tzdata`"
        )
    near = get_close_matches(name, names, 1, 0.75)
    remedy = f"did you mean {near[0]!r}?" if near else "use a name such as 'Europe/Berlin' or 'UTC'"
    return ValidationError(f"{what} cannot be {shown(name)}, which does not exist; {remedy}")
