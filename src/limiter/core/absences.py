"""The keys of records that do not exist, which most do not: a set entry for each, in place of an entry of a cache.

The sets expire as a whole. So a key holds for the time to live, or for up to an eighth less.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .records import RecordKey

PARTS = 8
"""Sets that one time to live is divided into."""


class _Cohort(NamedTuple):
    """Keys that expire together."""

    expires: int
    keys: set[RecordKey]


class Absences:
    """Keys that were read in vain, each in the set of its time; `ttl` in nanoseconds.

    Expired keys are kept for when nothing can be read. The caller bounds their number by `shrink`, and locks.
    """

    def __init__(self, ttl: int) -> None:
        self._ttl = ttl
        self._cohorts: deque[_Cohort] = deque()
        self._expired: set[RecordKey] = set()

    def __len__(self) -> int:
        return len(self._expired) + sum([len(cohort.keys) for cohort in self._cohorts])

    def expiry(self, key: RecordKey) -> int | None:
        """Return the time until which a key is known to be absent, 0 if it was once, None if nothing is known."""
        for cohort in reversed(self._cohorts):
            if key in cohort.keys:
                return cohort.expires
        return 0 if key in self._expired else None

    def add(self, key: RecordKey, now: int) -> None:
        """Note that a key was read in vain at `now`."""
        self.discard(key)
        last = self._cohorts[-1] if self._cohorts else None
        if last is None or not self._ttl - self._ttl // PARTS <= last.expires - now <= self._ttl:
            self._expire(now)
            last = _Cohort(now + self._ttl, set())
            self._cohorts.append(last)
        last.keys.add(key)

    def discard(self, key: RecordKey) -> None:
        """Forget a key."""
        self._expired.discard(key)
        for cohort in self._cohorts:
            cohort.keys.discard(key)

    def shrink(self) -> None:
        """Forget the keys that were read first: the expired ones, or else those of the oldest set."""
        if self._expired:
            self._expired.clear()
        elif self._cohorts:
            self._cohorts.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._expired.clear()
        self._cohorts.clear()

    def _expire(self, now: int) -> None:
        while self._cohorts and self._cohorts[0].expires <= now:
            self._expired |= self._cohorts.popleft().keys
