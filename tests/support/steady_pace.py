"""A pace that does not learn."""

from __future__ import annotations

from limiter.core.pace import Pace
from limiter.core.units import NANOSECONDS


class SteadyPace(Pace):
    """A pace whose `interval` and `part` stay as they were given; it waits for exactly the interval."""

    interval = 0
    part = 1.0

    def __init__(self, interval: int = NANOSECONDS // 10, part: float = 1.0) -> None:
        super().__init__(700, NANOSECONDS)
        self.interval, self.part = interval, part

    def wait(self) -> int:
        """Return the interval."""
        return self.interval

    def note(self, count: int, now: int, *, applied: bool) -> None:
        """Learn nothing."""

    def note_throttled(self, now: int) -> None:
        """Learn nothing."""
