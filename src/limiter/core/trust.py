"""Whether a clock may be relied on, and a clock that always may.

A clock can have a `trusted` property. While it is false, the time that the clock tells may be far off: nothing remembered is
judged by it, and nothing is written by it. The next answer of the store sets it. A clock without the property is relied on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def is_trusted(clock: Callable[[], int]) -> bool:
    """Whether the time that `clock` tells may be relied on now."""
    return bool(getattr(clock, "trusted", True))


def relied_on(clock: Callable[[], int]) -> Callable[[], int]:
    """The same time, relied on in any case: for a store within this process, whose answers set no clock."""
    return partial(clock)
