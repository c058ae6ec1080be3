"""The pace at which one process writes to a bucket that many processes share, so that the table need not throttle it.

Every write adds to one number of the bucket, its count: `ATTEMPT` for itself and for each attempt of its process since its last
applied one whose condition failed, and its part of what the fleet's level has to change by. The level is the logarithm of the
interval that the fleet keeps between two writes of one process; 0 stands for none. From the count each answer tells how much the
fleet writes, and what interval it keeps.

A process draws its own interval towards the fleet's, and both towards the aim. A process that sees no other waits for nothing.
See ADR-186.
"""

from __future__ import annotations

import random
from math import exp, log

from .units import NANOSECONDS

ATTEMPT = 100_000_000
"""What an attempt adds to the count. What the count holds beside its attempts is the level, at most half of it either way."""
LEVELS = 100_000
"""Levels for each factor of e between intervals."""
BASE = NANOSECONDS // 1_000
"""The interval of level 0, in nanoseconds."""
SHORTEST = log(3)
"""The logarithm of the shortest interval that is waited for, as a multiple of `BASE`: an answer takes about as long."""
WINDOW = NANOSECONDS // 20
"""Fewest nanoseconds over which the fleet's writes are counted; in a longer interval, three quarters of it."""
GAIN = 0.5
"""The part of its distance from the aim, in logarithms, that the interval is corrected by in a window."""
STEEPEST = 4.0
"""The largest distance from the aim, as a factor, that is corrected in one window."""
MIX = 0.4
"""The part of its distance from the fleet's level, in logarithms, by which a process approaches it in a window."""
SERVED = 0.9
"""The part of the writes that the table served while it throttled that is aimed at afterwards."""
RECOVERY = 0.02
"""The part by which such an aim grows in a second, after it has held for `HELD`."""
HELD = 30 * NANOSECONDS
"""Nanoseconds for which an aim holds after the table has throttled."""
LUMPS, STRETCH = 10, 4
"""A window lasts until it shows so many times the failures that one applied write reports, or for so many times its length."""
REPEATED = 1.5
"""Writes of a turn in the interval to begin with, since some are defeated and repeated. Found by trial; see ADR-186."""
SPREAD = 0.25
"""The part of the interval by which a wait may be shorter or longer."""

FEWER = 0.7
"""The factor by which a defeated write makes the next one carry less of what seems to fit."""
MORE = 0.1
"""What an applied write adds to that part, up to the whole."""


def split(count: int) -> tuple[int, int]:
    """Return the attempts and the level that a count holds."""
    level = (count + ATTEMPT // 2) % ATTEMPT - ATTEMPT // 2
    return (count - level) // ATTEMPT, level


class Pace:
    """What one process knows of the fleet that writes to a bucket, and the interval that it keeps; times in nanoseconds.

    `most` is the most writes in a second of the whole fleet, `longest` the longest interval. `interval` is 0 while the process
    waits for nothing.
    """

    __slots__ = (
        *("_aim", "_alone", "_attempts", "_began", "_counted", "_failed", "_held", "_level", "_longest", "_losses", "_most"),
        *("_part", "_pending", "_reported", "_throttled", "_window"),
    )

    def __init__(self, most: float, longest: int) -> None:
        self._most = self._aim = most
        self._longest = log(max(longest, BASE) / BASE)
        self._level = 0.0
        self._window = (0, 0)
        self._throttled = False
        self._alone = False
        self._held = 0
        self._counted = -1
        self._began = 0
        self._attempts = 0
        self._reported = 0
        self._failed = 0
        self._losses = 0.0
        self._part = 1.0
        self._pending = 0

    @property
    def interval(self) -> int:
        """The interval that the process keeps between its writes, on average."""
        return int(BASE * exp(self._level)) if self._level > SHORTEST else 0

    @property
    def part(self) -> float:
        """The part that a write carries of the requests that seem to fit, since others may take what they need."""
        return self._part

    @property
    def toll(self) -> int:
        """What the next write adds to the count."""
        return (1 + self._failed) * ATTEMPT + self._pending

    def wait(self) -> int:
        """Return the nanoseconds from the last write to the next one: the interval, spread so that processes do not meet."""
        return int(self.interval * random.uniform(1 - SPREAD, 1 + SPREAD))  # noqa: S311 - spreads processes, hides nothing

    @property
    def longest_wait(self) -> int:
        """The most nanoseconds from the last write to the next one."""
        return int(self.interval * (1 + SPREAD))

    @property
    def is_alone(self) -> bool:
        """Whether the last window shows no other process, and the count tells of none."""
        return self._alone and not self._level and not self._pending

    def begin(self, count: int, now: int) -> None:
        """Begin a window at a count that was seen at `now`."""
        self._counted, self._began, self._attempts, self._reported = split(count)[0], now, 0, 0

    def note(self, count: int, now: int, *, applied: bool) -> None:
        """Learn from the count in the answer to a write."""
        self._attempts += 1
        self._part = min(1.0, self._part + MORE) if applied else self._part * FEWER
        if applied:
            self._losses += (self._failed - self._losses) / 4
            self._reported += 1 + self._failed
            self._failed = self._pending = 0
        else:
            self._failed += 1
        attempts, level = split(count)
        if self._counted < 0 or attempts < self._counted or now < self._began:
            self.begin(count, now)
            return
        fleet, elapsed = attempts - self._counted, now - self._began
        window = max(WINDOW, 3 * self.interval // 4)
        enough = elapsed >= window and (fleet >= LUMPS * max(self._losses, self._failed) or elapsed >= STRETCH * window)
        if enough or (not self._level and elapsed >= BASE and fleet > self._reported and self._is_crowded(fleet, elapsed)):
            self._adjust(fleet, elapsed, max(0, level) / LEVELS, now)
            self._pending = round(min(1.0, self._attempts / max(1, fleet)) * (self._level * LEVELS - level))
            self.begin(count, now)

    def note_throttled(self, now: int) -> None:
        """Learn that the table serves less than the fleet asks for; the end of the window tells how much that is."""
        self._throttled = True
        self._held = now + HELD
        self._level = min(self._longest, max(self._level + log(2), log(WINDOW / BASE)))

    def _is_crowded(self, fleet: int, elapsed: int) -> bool:
        """Tell whether the fleet seems to write faster than it may, if writes fail as often elsewhere: that is counted late."""
        return fleet * (1 + self._failed) * NANOSECONDS > self._aim * max(elapsed, WINDOW // 4)

    def _adjust(self, fleet: int, elapsed: int, level: float, now: int) -> None:
        """Correct the interval by what the fleet wrote in a window."""
        if self._throttled and self._window[1]:
            # One window alone may be short, and misses the attempts that are reported late.
            served = (fleet + self._window[0]) * NANOSECONDS / (elapsed + self._window[1])
            self._aim = max(1.0, min(self._aim, SERVED * served))
        self._window, self._throttled = (fleet, elapsed), False
        ratio = fleet * NANOSECONDS / elapsed / self._aim
        if now >= self._held:
            self._aim = min(self._most, self._aim * (1 + RECOVERY) ** (elapsed / NANOSECONDS))
        self._alone = fleet <= self._reported and not self._failed and now >= self._held
        if self._alone:
            self._level = 0.0
        elif self._level:
            own = self._level + MIX * (level - self._level)
            change = GAIN * log(min(max(ratio, 1 / STEEPEST), STEEPEST))
            self._level = min(self._longest, max(0.0, own + change))
        elif self._is_crowded(fleet, elapsed):
            self._level = min(self._longest, self._fair(fleet, level))

    def _fair(self, fleet: int, level: float) -> float:
        """Return the level to begin with: the fleet's, or the one at which as many processes as seem to write keep to the aim."""
        processes = fleet / max(1, self._attempts)
        return max(level, log(max(1.0, REPEATED * processes / self._aim * NANOSECONDS / BASE)))
