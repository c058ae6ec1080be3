"""Checks that every kind of limit makes of its own fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exceptions import ValidationError
from ..units import DAY, NANOSECONDS
from ..validation import MAX_AMOUNT, check_integer, check_name, shown

if TYPE_CHECKING:
    from ...models import BaseLimit

MAX_SPAN = 100 * 366 * DAY
"""Seconds of the longest period, and the longest time in which an empty bucket may fill."""


def check_common(limit: BaseLimit, *, maximum: int = MAX_AMOUNT) -> None:
    """Raise `ValidationError` unless the fields of every limit are usable: name, capacity and `enforce`."""
    check_name("limit name", limit.name)
    check_integer(f"capacity of limit {limit.name!r}", limit.capacity, minimum=1, maximum=maximum)
    if not isinstance(limit.enforce, bool):
        raise ValidationError(f"enforce of limit {limit.name!r} must be True or False, not {shown(limit.enforce)}")


def check_span(what: str, value: object, *, minimum: float = 0.0, maximum: float = MAX_SPAN, form: str = "above 0") -> int:
    """Return the nanoseconds of a span given in seconds if it is between the bounds; `form` gives the bounds in words."""
    # Compared in this order, because a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum or value == 0:
        raise ValidationError(f"{what} must be a number of seconds {form}, not {shown(value)}")
    return round(value * NANOSECONDS)


def derive(limit: BaseLimit, **values: object) -> None:
    """Set fields of a frozen limit that follow from its other fields."""
    for name, value in values.items():
        object.__setattr__(limit, name, value)
