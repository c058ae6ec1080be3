"""Logs when the limiter begins to work without the table, and when that has ended: once each, not per decision."""

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
    """Tells whether this process works without the table. Safe for threads. `clock` returns nanoseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began: int | None = None
        self.active = False
        """Whether an outage has begun and not ended. Read by every call, so not computed."""
        self._last = 0
        self._count = 0

    def note(self, error: RateLimiterUnavailable, policy: str) -> None:
        """Record a decision or correction that was made without the table, with its reason and policy."""
        now = self._clock()
        with self._lock:
            begins = self._began is None
            if begins:
                self._began, self._count, self.active = now, 0, True
            self._last = now
            self._count += 1
        if begins:
            fields = {"policy": policy, "error": str(error)}
            _log.warning("limiting without the table from now on (%s): %s", policy, error, extra=fields)

    def end(self) -> None:
        """Record a decision that was made on the table."""
        now = self._clock()
        with self._lock:
            began, count = self._began, self._count
            if began is None or now - self._last < CALM:
                return
            self._began, self.active = None, False
        seconds = (now - began) / NANOSECONDS
        fields = {"seconds": seconds, "degraded": count}
        _log.warning("limiting on the table again, after %.0f s and %d decisions without it", seconds, count, extra=fields)
