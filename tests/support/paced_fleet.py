"""A small discrete simulation of processes that write to one key and keep their pace; times in nanoseconds."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limiter.core.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
SAVED = 0.1


@dataclass
class Second:
    """What happened to the key in one second."""

    served: int = 0
    throttled: int = 0
    writers: Counter[int] = field(default_factory=Counter)


class Key:
    """A partition key that serves `units` writes in a second, and saves the units of a tenth of one."""

    def __init__(self, units: float) -> None:
        self.units = units
        self.left = units * SAVED
        self.counted = 0

    def spends(self, now: int) -> bool:
        """Spend one unit, if there is one."""
        self.left = min(self.units * SAVED, self.left + (now - self.counted) / SECOND * self.units)
        self.counted = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(eq=False)
class Writer:
    """One process: `every` is the mean time between its requests, 0 for one that always has some; it lives until `until`."""

    number: int
    pace: Pace
    every: float
    until: int
    wrote: int = -SECOND
    delays: list[int] = field(default_factory=list)


class Fleet:
    """Writers on one key. Of the writes that are served, each is defeated with the chance `defeats`."""

    def __init__(self, *, aim: float = 700, units: float = 1_000, trip: tuple[int, int] = (3, 8), defeats: float = 0.0) -> None:
        self.random = random.Random(1)  # noqa: S311 - a simulation
        random.seed(1)
        self.aim = aim
        self.key = Key(units)
        self.trip = trip
        self.defeats = defeats
        self.now = 0
        self.count = 0
        self.seconds: list[Second] = []
        self.writers: list[Writer] = []
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def start(self, number: int, *, at: float = 0.0, until: float = 1e6, every: float = 0.0) -> None:
        """Let so many processes begin at a time, in seconds, and leave at another."""
        for _ in range(number):
            writer = Writer(len(self.writers), Pace(self.aim, 16 * SECOND), every * SECOND, int(until * SECOND))
            self.writers.append(writer)
            first = self.random.expovariate(1 / writer.every) if every else self.random.uniform(0, 2 * MILLISECOND)
            self._at(int(at * SECOND + first), self._ask, writer)

    def run(self, seconds: int) -> None:
        """Play so many seconds."""
        self.seconds += [Second() for _ in range(seconds)]
        end = len(self.seconds) * SECOND
        while self._events and self._events[0][0] < end:
            self.now, _, happen, arguments = heapq.heappop(self._events)
            happen(*arguments)

    def _at(self, time: int, happen: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._order), happen, arguments))

    def _half(self) -> int:
        return int(self.random.uniform(*self.trip) * MILLISECOND / 2)

    def _ask(self, writer: Writer) -> None:
        """Write as soon as the pace permits."""
        if self.now < writer.until:
            due = max(self.now, writer.wrote + writer.pace.wait())
            writer.delays.append(due - self.now)
            self._at(due, self._send, writer)

    def _send(self, writer: Writer) -> None:
        writer.wrote = self.now
        self._at(self.now + self._half(), self._reach, writer, writer.pace.toll)

    def _reach(self, writer: Writer, toll: int) -> None:
        second = self.seconds[self.now // SECOND]
        if not self.key.spends(self.now):
            second.throttled += 1
            self._at(self.now + self._half(), self._hear_throttled, writer)
            return
        second.served += 1
        second.writers[writer.number] += 1
        applied = self.random.random() >= self.defeats
        self.count += toll * applied
        self._at(self.now + self._half(), self._hear, writer, self.count, applied)

    def _hear(self, writer: Writer, count: int, applied: bool) -> None:
        writer.pace.note(count, self.now, applied=applied)
        self._at(self.now + int(self.random.expovariate(1 / writer.every) if writer.every else 0), self._ask, writer)

    def _hear_throttled(self, writer: Writer) -> None:
        writer.pace.note_throttled(self.now)
        self._ask(writer)
