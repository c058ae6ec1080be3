"""Whether a clock may be relied on, and a clock that always may.

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
    """Whether the time that `clock` tells may be relied on now."""
    return bool(getattr(clock, "trusted", True))


def present(clock: Callable[[], int]) -> int:
    """The time that `clock` tells, or `UNTRUSTED` while it may not be relied on."""
    return clock() if getattr(clock, "trusted", True) else UNTRUSTED


def error_of(clock: Callable[[], int]) -> int:
    """Nanoseconds by which `clock` may be wrong: a second before it has learnt anything."""
    error = getattr(clock, "error", 0.0)
    return NANOSECONDS if error is None else round(error * NANOSECONDS)


def reading(clock: Callable[[], int]) -> tuple[int, int]:
    """The time as of `present`, and the nanoseconds by which it may be wrong."""
    return present(clock), error_of(clock)


def relied_on(clock: Callable[[], int]) -> Callable[[], int]:
    """The same time, relied on in any case: for a store within this process, whose answers set no clock."""
    return partial(clock)
