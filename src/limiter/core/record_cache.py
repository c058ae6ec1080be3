"""Records that were read, each for a bounded time; absent ones count as read too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .absences import Absences
from .resolution import MISSING
from .trust import present

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .records import RecordKey
    from .resolution import Lookup


class _Entry(NamedTuple):
    value: Lookup
    expires: int
    generation: int


class RecordCache:
    """Keeps at most `max_entries` records for `ttl` nanoseconds each, the least recently used going first, then absent ones.

    A record that was written through this process replaces what any fetch begun before the write may bring: `generation` is the
    number of such writes, and what is stored under an older one loses against them.
    """

    def __init__(self, clock: Callable[[], int], ttl: int, max_entries: int) -> None:
        self._clock = clock
        self.now = partial(present, clock)
        """The time by which records age, in nanoseconds since the epoch; past every expiry while the clock is not trusted."""
        self._ttl = ttl
        self._max_entries = max_entries
        self._entries: OrderedDict[RecordKey, _Entry] = OrderedDict()
        self._absences = Absences(ttl)
        self.generation = 0
        self._cleared = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries) + len(self._absences)

    def lookup(self, key: RecordKey) -> tuple[Lookup, int]:
        """Return the record, or None if it does not exist, and the time until which it holds; MISSING if it is not known."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                expires = self._absences.expiry(key)
                return (MISSING, 0) if expires is None else (None, expires)
            self._entries.move_to_end(key)
            return entry.value, entry.expires

    def store(self, records: Mapping[RecordKey, Lookup], generation: int) -> None:
        """Keep the result of a fetch that began at `generation`."""
        with self._lock:
            if generation < self._cleared:
                return
            now = self._clock()
            for key, value in records.items():
                entry = self._entries.get(key)
                if entry is None and value is None:
                    self._absences.add(key, now)
                elif entry is None or entry.generation <= generation:
                    self._keep(key, _Entry(value, now + self._ttl, generation))
            self._bound()

    def put(self, key: RecordKey, value: Lookup) -> None:
        """Keep a record that this process has written."""
        with self._lock:
            self.generation += 1
            self._keep(key, _Entry(value, self._clock() + self._ttl, self.generation))
            self._bound()

    def clear(self) -> None:
        """Forget everything, including the results of fetches in progress."""
        with self._lock:
            self.generation += 1
            self._cleared = self.generation
            self._entries.clear()
            self._absences.clear()

    def _keep(self, key: RecordKey, entry: _Entry) -> None:
        self._absences.discard(key)
        self._entries[key] = entry
        self._entries.move_to_end(key)

    def _bound(self) -> None:
        """Forget records until no more are kept than may be: absent ones first, since anybody can ask for many."""
        while len(self) > self._max_entries:
            if len(self._absences):
                self._absences.shrink()
            else:
                self._entries.popitem(last=False)
