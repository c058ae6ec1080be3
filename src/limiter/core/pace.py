"""The pace at which one process writes to a bucket that many processes share, so that the table never has to throttle it."""

from __future__ import annotations

import random

from .units import NANOSECONDS

SHORTEST = NANOSECONDS // 20
LONGEST = 16 * NANOSECONDS
OFF = NANOSECONDS // 1_000
GAIN = 0.5
MIX = 0.3
SERVED = 0.9
RECOVERED = 1.02
AHEAD = 0.5


class Pace:
    __slots__ = ("_aim", "_attempts", "_counted", "_first", "_most", "_served", "_since", "_successes", "interval", "_ratio", "_f")

    def __init__(self, aim: float) -> None:
        self._most = aim
        self._aim = aim
        self.interval = 0
        self._first = True
        self._served = 0.0
        self._since = 0
        self._counted = -1
        self._attempts = 0
        self._successes = 0
        self._f = 1.0

    def delay(self, last: int, now: int) -> int:
        if self.interval < OFF:
            return 0
        spread = random.uniform(0.75, 1.25)
        return max(0, last + int(self.interval * spread) - now)

    def attempt(self) -> None:
        self._attempts += 1

    def note(self, count: int, now: int, *, applied: bool, crowded: bool = False, other: int = 0) -> None:
        """`other` is the interval of the last other writer, 0 if unknown"""
        self._successes += applied
        if self._counted < 0 or count < self._counted:
            self._begin(count, now)
            if self._first and crowded:
                self.interval = other or int(random.uniform(0, 4) * SHORTEST)
            self._first = False
            return
        elapsed = now - self._since
        if elapsed < max(SHORTEST, self.interval * 3 // 4) or not self._attempts:
            return
        self._adjust(count - self._counted, elapsed, other)
        self._begin(count, now)

    def throttled(self) -> None:
        if self._served:
            self._aim = max(1.0, min(self._aim, SERVED * self._served))
        self.interval = min(LONGEST, max(2 * self.interval, SHORTEST))

    def _begin(self, count: int, now: int) -> None:
        self._counted, self._since, self._attempts, self._successes = count, now, 0, 0

    def _adjust(self, writes: int, elapsed: int, other: int) -> None:
        self._served = writes * NANOSECONDS / elapsed
        ratio = self._served / self._aim
        if self.interval < OFF:
            if ratio > 1:
                self.interval = max(other, int(min(elapsed // self._attempts, 2 * SHORTEST) * ratio))
            return
        base = self.interval
        if other > OFF:
            base = int(base ** (1 - MIX) * other**MIX)
        ratio = min(max(ratio, 0.25), 4.0)
        self.interval = min(LONGEST, int(base * ratio**GAIN))
        self._aim = min(self._most, self._aim * RECOVERED ** (elapsed / NANOSECONDS))
