"""Units of time."""

from __future__ import annotations

NANOSECONDS = 1_000_000_000
"""Nanoseconds per second."""
SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3_600.0, 86_400.0
"""Seconds."""
