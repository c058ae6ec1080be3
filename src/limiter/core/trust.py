"""Whether a clock can be trusted, and a clock that always can.

A clock can have a `trusted` property. While it is false, the clock may be far off: its time is used neither to judge remembered
state nor to write. The next response of the store sets the clock. A clock without the property is always trusted.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

UNTRUSTED = sys.maxsize
"""A time past every expiry."""


def is_trusted(clock: Callable[[], int]) -> bool:
    """Tell whether the time of `clock` can be trusted now."""
    return bool(getattr(clock, "trusted", True))


def present(clock: Callable[[], int]) -> int:
    """Return the time of `clock`, or `UNTRUSTED` while it cannot be trusted."""
    return clock() if getattr(clock, "trusted", True) else UNTRUSTED


def timer_of(clock: Callable[[], int]) -> Callable[[], int]:
    """Return what counts time spans beside `clock`: its monotonic clock, which no response moves, or the clock itself."""
    timer: Callable[[], int] = getattr(clock, "monotonic", clock)
    return timer


def error_of(clock: Callable[[], int]) -> int:
    """Return the nanoseconds by which `clock` may be wrong: one second before the first response."""
    error = getattr(clock, "error", 0.0)
    return NANOSECONDS if error is None else round(error * NANOSECONDS)


def reading(clock: Callable[[], int]) -> tuple[int, int]:
    """Return the time as of `present`, and the nanoseconds by which it may be wrong."""
    return present(clock), error_of(clock)


def relied_on(clock: Callable[[], int]) -> Callable[[], int]:
    """Return a clock with the same time that is always trusted: for a store within this process, whose responses set no clock."""
    return partial(clock)
