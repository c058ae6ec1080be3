"""Whether a clock can be trusted, and a clock that always can.

A clock can have a `trusted` property. While it is false, the time that the clock tells may be far off: nothing remembered is
judged by it, and nothing is written by it. The next answer of the store sets it. A clock without the property is relied on.
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


def error_of(clock: Callable[[], int]) -> int:
    """Return the nanoseconds by which `clock` may be wrong: a second before it has learnt anything."""
    error = getattr(clock, "error", 0.0)
    return NANOSECONDS if error is None else round(error * NANOSECONDS)


def reading(clock: Callable[[], int]) -> tuple[int, int]:
    """Return the time as of `present`, and the nanoseconds by which it may be wrong."""
    return present(clock), error_of(clock)


def relied_on(clock: Callable[[], int]) -> Callable[[], int]:
    """Return the same time, trusted in any case: for a store within this process, whose responses set no clock."""
    return partial(clock)
