"""Stored limits of one entity, with a schedule that changes them for one minute of each day."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from limiter import BaseLimit

MINUTE, DAY = 60 * NANOSECONDS, 24 * 60


class Level(NamedTuple):
    """Stored limits, and the others that a schedule puts in their place for one minute of each day."""

    plain: tuple[BaseLimit, ...]
    minute: int = -1
    instead: tuple[BaseLimit, ...] = ()

    def at(self, now: int) -> tuple[BaseLimit, ...]:
        """Return the limits that apply at a time."""
        return self.instead if now // MINUTE % DAY == self.minute else self.plain

    def during(self, first: int, last: int) -> list[tuple[BaseLimit, ...]]:
        """Return all limits that apply at some time in a span."""
        window = first - first % (DAY * MINUTE) + self.minute * MINUTE
        edges = [window + day * DAY * MINUTE + beside for day in range(2) for beside in (0, MINUTE)]
        return [self.at(now) for now in (first, last, *(edge for edge in edges if first <= edge <= last))]

    @property
    def schedule(self) -> list[tuple[str, str, tuple[BaseLimit, ...]]]:
        """The windows of the schedule."""
        start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (self.minute, (self.minute + 1) % DAY))
        return [(f"{start}-{end}", "UTC", self.instead)] if self.instead else []
