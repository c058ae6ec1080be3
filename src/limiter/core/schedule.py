"""Schedules: limits that apply at some times of the week only.

A window names weekdays, times of the day and a zone: `"mon-fri 09:00-17:00"` in `Europe/Berlin`. It applies at every instant at
which the clocks and calendars of its zone show one of its days and times, so on days of 23 and 25 hours too. The beginning
belongs to a window and the end does not.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import ValidationError
from .limits import Access, check_level
from .units import NANOSECONDS
from .validation import shown
from .zones import check_zone, offset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from ..models import BaseLimit

    Windows: TypeAlias = Iterable[tuple[str, str, Iterable[BaseLimit] | Access]]

Limits = tuple["BaseLimit", ...] | Access
Span = tuple[int, int]
"""The first minute and the one behind the last, counted from Monday's midnight."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_WINDOWS = 50
_MINUTE, _DAY, _WEEK = 60, 24 * 60, 7 * 24 * 60
_MONDAY = 4 * 86_400
"""Seconds from the epoch to the first Monday after it."""
_AHEAD = 8 * 86_400
"""Seconds within which every window begins and ends, though clocks may change."""
_SAMPLE = 3 * 3_600
"""Seconds between looks at a zone's clocks. They do not change and change back in so short a time."""
_COMPARED = range(1_735_689_600, 2_145_916_800, 86_400)
"""The days from 2025 to 2037, over which the clocks of two zones are compared."""
_DAY_LIST = r"[a-z]{3}(?:\s*[-,]\s*[a-z]{3})*"
_TIME = "[0-9]{2}:[0-9]{2}"
_FORM = re.compile(rf"(?P<days>{_DAY_LIST})?\s*(?:(?P<start>{_TIME})\s*-\s*(?P<end>{_TIME}))?")
_HINT = "write it like 'mon-fri 09:00-17:00', 'sat,sun' or '22:00-06:00'"


class Window(NamedTuple):
    """`limits` in place of the plain ones whenever it is `when`, such as "mon-fri 09:00-17:00", in `zone`."""

    when: str
    zone: str
    limits: Limits

    def covers(self, second: int) -> bool:
        """Tell whether the window applies at an instant, in seconds since the epoch."""
        minute = (second + offset(self.zone, second) - _MONDAY) // _MINUTE % _WEEK
        return any(start <= minute < end for start, end in spans(self.when))


class Schedule(NamedTuple):
    """Windows of which no two overlap."""

    windows: tuple[Window, ...] = ()

    def limits_at(self, now: int, plain: Limits) -> Limits:
        """Return the limits that apply at `now`, in nanoseconds since the epoch: those of a window, or the plain ones."""
        place = self._place(now // NANOSECONDS)
        return plain if place is None else self.windows[place].limits

    def next_change(self, now: int) -> int | None:
        """Return when other limits than at `now` begin to apply, or the time until which none do; None without windows.

        Times are in nanoseconds since the epoch. The next change may be further ahead than eight days, the longest time answered.
        """
        if not self.windows:
            return None
        second = now // NANOSECONDS
        present = self._place(second)
        changes = (each for each in sorted(self._candidates(second)) if self._place(each) != present)
        return next(changes, second + _AHEAD) * NANOSECONDS

    def _place(self, second: int) -> int | None:
        return next((place for place, window in enumerate(self.windows) if window.covers(second)), None)

    def _candidates(self, second: int) -> set[int]:
        """Return every instant ahead at which a window may begin or end: at its own times, or when clocks change."""
        found: set[int] = set()
        for zone in {window.zone for window in self.windows}:
            changes = list(_clock_changes(zone, second, second + _AHEAD))
            found.update(changes)
            edges = {edge for window in self.windows if window.zone == zone for span in spans(window.when) for edge in span}
            for ahead in {offset(zone, instant) for instant in (second, *changes)}:
                local = second + ahead - _MONDAY
                for edge in edges:
                    found.update(_repeated(edge * _MINUTE, local, second))
        return {each for each in found if second < each <= second + _AHEAD}


NEVER = Schedule()


def check_schedule(value: object) -> Schedule:
    """Return the schedule that an iterable of (when, zone, limits) makes up; no two of its windows overlap."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ValidationError(
            f"schedule must be a list of windows such as ('mon-fri 09:00-17:00', 'Europe/Berlin', [...]), not {shown(value)}"
        )
    windows = tuple(_window(each) for each in value)
    if len(windows) > MAX_WINDOWS:
        raise ValidationError(f"a schedule of {len(windows)} windows is too long; at most {MAX_WINDOWS} are supported")
    for place, window in enumerate(windows):
        for other in windows[:place]:
            if _overlap(other, window):
                raise ValidationError(
                    f"windows {other.when!r} in {other.zone} and {window.when!r} in {window.zone} overlap;"
                    " change their times so that one list of limits applies at a time"
                )
    return Schedule(windows)


@cache
def spans(when: str) -> tuple[Span, ...]:
    """Return the minutes of the week that a window's text names, in order; one that passes Sunday's midnight is two spans."""
    found = _FORM.fullmatch(when.strip()) if len(when) <= 200 else None
    if found is None or not when.strip():
        raise ValidationError(f"{shown(when)} is not a time of the week; {_HINT}")
    start, end = _time(when, found["start"] or "00:00"), _time(when, found["end"] or "24:00")
    if start in (end, _DAY):
        raise ValidationError(f"{shown(when)} has no time between its beginning and its end; a whole day is '00:00-24:00'")
    length = (end - start) % _DAY or _DAY
    pieces: list[Span] = []
    for day in _days(when, found["days"]):
        first = day * _DAY + start
        pieces += [(first, min(first + length, _WEEK))]
        pieces += [(0, first + length - _WEEK)] if first + length > _WEEK else []
    return tuple(sorted(pieces))


def _window(value: object) -> Window:
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise ValidationError(
            f"a window is (when, zone, limits), such as ('mon-fri 09:00-17:00', 'UTC', [...]), not {shown(value)}"
        )
    when, zone, limits = value
    if not isinstance(when, str):
        raise ValidationError(f"the time of a window must be a text, not {shown(when)}; {_HINT}")
    spans(when)
    zone = check_zone(f"zone of the window {when!r}", zone)
    try:
        return Window(when.strip(), zone, check_level(limits))
    except ValidationError as error:
        raise ValidationError(f"limits of the window {when!r} in {zone}: {error}") from error


def _time(when: str, text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if hour * 60 + minute > _DAY or minute > 59:
        raise ValidationError(f"{text} in {shown(when)} is not a time of the day, which are from 00:00 to 24:00")
    return hour * 60 + minute


def _days(when: str, text: str | None) -> list[int]:
    """Return the weekdays that a text names, each once, Monday being 0."""
    if text is None:
        return list(range(7))
    named: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        names = [first.strip(), last.strip() or first.strip()]
        for name in names:
            if name not in DAYS:
                raise ValidationError(f"{name!r} in {shown(when)} is not a weekday, which are {', '.join(DAYS)}")
        start, end = (DAYS.index(name) for name in names)
        named += [(start + step) % 7 for step in range((end - start) % 7 + 1)]
    if len(named) != len(set(named)):
        raise ValidationError(f"{shown(when)} names a weekday twice; name each once")
    return named


def _overlap(one: Window, other: Window) -> bool:
    """Tell whether two windows apply at one instant, with the clocks of both zones as they are at the beginning of any day.

    For some hours of a day one zone's clocks may have changed and the other's may not. Where windows meet in these only, the
    first one of the schedule applies.
    """
    if one.zone == other.zone:
        return _meet(one, other, 0)
    return any(_meet(one, other, seconds) for seconds in _distances(one.zone, other.zone))


@cache
def _distances(one: str, other: str) -> frozenset[int]:
    """Return every number of seconds by which a zone's clocks are ahead of another's on some day."""
    return frozenset(later - earlier for earlier, later in zip(_offsets(one), _offsets(other), strict=True))


@cache
def _offsets(zone: str) -> tuple[int, ...]:
    return tuple(offset(zone, second) for second in _COMPARED)


def _meet(one: Window, other: Window, ahead: int) -> bool:
    """Tell whether two windows share an instant where the clocks of the second are so many seconds ahead of the first's."""
    week = _WEEK * _MINUTE
    for start, end in _in_seconds(one.when):
        for first, last in _in_seconds(other.when):
            # The second begins so long after the first's beginning, and the first so long after the second's.
            if (first - ahead - start) % week < end - start or (start - first + ahead) % week < last - first:
                return True
    return False


def _in_seconds(when: str) -> Iterator[Span]:
    return ((start * _MINUTE, end * _MINUTE) for start, end in spans(when))


def _repeated(edge: int, local: int, second: int) -> Iterable[int]:
    """Return the instants, from a local time at an instant on, at which clocks show a time of the week, if they do not change."""
    week = _WEEK * _MINUTE
    following = second + (edge - local) % week
    return (following, following + week)


def _clock_changes(zone: str, first: int, last: int) -> Iterator[int]:
    """Return the instants between two others at which a zone's clocks change."""
    before = first
    while before < last:
        after = min(before + _SAMPLE, last)
        if offset(zone, before) != offset(zone, after):
            yield _change(zone, before, after)
        before = after


def _change(zone: str, before: int, after: int) -> int:
    earlier = offset(zone, before)
    while before + 1 < after:
        middle = (before + after) // 2
        if offset(zone, middle) == earlier:
            before = middle
        else:
            after = middle
    return after
