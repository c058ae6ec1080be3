"""Headroom: the share of each limit that a request leaves to others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..exceptions import ValidationError
from .limits.accounts import reserve
from .validation import check_name, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .request import Charge

Headroom = float | Mapping[str, float] | None
"""One share for every limit, or a share by limit name; a limit that is not named leaves nothing."""


def check_headroom(headroom: object, *, oversize: bool = False) -> Headroom:
    """Return the headroom if its shares are from 0 to below 1. An `oversize` request must not leave any."""
    if headroom is None or headroom == 0:
        return None
    if oversize:
        raise ValidationError("oversize=True cannot be combined with headroom, which its debt would use up; pass one of them")
    if isinstance(headroom, Mapping):
        return {check_name("limit name", name): _share(f"headroom of {name!r}", share) for name, share in headroom.items()}
    return _share("headroom", headroom)


def reserves(charges: Sequence[Charge], headroom: Headroom) -> tuple[int, ...]:
    """Return what each charge leaves to others, in the measure of its limit's account; empty if nothing is left.

    A share of a rate is rounded up to a nanosecond, a share of the other kinds to a unit. Slots leave nothing.
    """
    if headroom is None:
        return ()
    shares = [headroom.get(limit.name, 0.0) if isinstance(headroom, Mapping) else headroom for limit, _ in charges]
    kept = tuple([reserve(limit, share) if share else 0 for (limit, _), share in zip(charges, shares, strict=True)])
    return kept if any(kept) else ()


def _share(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValidationError(f"{what} must be a share from 0 to below 1, such as 0.2, not {shown(value)}")
    return float(value)
