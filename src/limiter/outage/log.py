"""Tells the log when the limiter begins to go on without the table, and when that has ended: once each, not per decision."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..exceptions import RateLimiterUnavailable

_log = logging.getLogger("limiter")

CALM = 5 * NANOSECONDS
"""Nanoseconds in which everything was decided on the table, after which it has ended: a table that fails now and then flaps."""


class OutageLog:
    """Whether this process goes on without the table. Safe for threads. `clock` is the time in nanoseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began: int | None = None
        self._last = 0
        self._count = 0

    @property
    def active(self) -> bool:
        """Whether it has begun, and has not ended."""
        return self._began is not None

    def note(self, error: RateLimiterUnavailable, policy: str) -> None:
        """Learn that a decision or correction was made without the table, for this reason and as this policy says."""
        now = self._clock()
        with self._lock:
            begins = self._began is None
            if begins:
                self._began, self._count = now, 0
            self._last = now
            self._count += 1
        if begins:
            fields = {"policy": policy, "error": str(error)}
            _log.warning("limiting without the table from now on (%s): %s", policy, error, extra=fields)

    def end(self) -> None:
        """Learn that a decision was made on the table."""
        now = self._clock()
        with self._lock:
            began, count = self._began, self._count
            if began is None or now - self._last < CALM:
                return
            self._began = None
        seconds = (now - began) / NANOSECONDS
        fields = {"seconds": seconds, "degraded": count}
        _log.warning("limiting on the table again, after %.0f s and %d decisions without it", seconds, count, extra=fields)
