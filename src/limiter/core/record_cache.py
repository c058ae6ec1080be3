"""Records that were read, each for a bounded time; absent ones count as read too."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

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
    """Keeps at most `max_entries` records for `ttl` nanoseconds each, the least recently used going first.

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
        self.generation = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: RecordKey) -> tuple[Lookup, int]:
        """Return the record, or None if it does not exist, and the time until which it holds; MISSING if it is not known."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return MISSING, 0
            self._entries.move_to_end(key)
            return entry.value, entry.expires

    def store(self, records: Mapping[RecordKey, Lookup], generation: int) -> None:
        """Keep the result of a fetch that began at `generation`."""
        with self._lock:
            expires = self._clock() + self._ttl
            absent = _Entry(None, expires, generation)  # One for all: most are absent, and an attacker can ask for many.
            for key, value in records.items():
                entry = self._entries.get(key)
                if entry is None or entry.generation <= generation:
                    self._keep(key, absent if value is None else _Entry(value, expires, generation))

    def put(self, key: RecordKey, value: Lookup) -> None:
        """Keep a record that this process has written."""
        with self._lock:
            self.generation += 1
            self._keep(key, _Entry(value, self._clock() + self._ttl, self.generation))

    def clear(self) -> None:
        """Forget everything, including the results of fetches in progress."""
        with self._lock:
            self.generation += 1
            for key in self._entries:
                self._entries[key] = _Entry(MISSING, 0, self.generation)

    def _keep(self, key: RecordKey, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
