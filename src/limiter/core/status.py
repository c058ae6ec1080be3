"""Turns a bucket's outcome into the values that users see: statuses and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..models import LimitStatus
from .limits.accounts import price, standing
from .preview import look
from .request import Charge, Grant, NotTried, Refusal, Request
from .state import UNBOUNDED, Level
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import BucketKey
    from .state import BucketState


def granted(key: BucketKey, grant: Grant) -> tuple[LimitStatus, ...]:
    """Return the statuses of an allowed request, after it; a shadow limit that would have refused it is exceeded."""
    return tuple(
        _status(key, Charge(each.limit, each.units), Level(each.tat, each.since), each.left_out or grant.now, grant.now)
        for each in grant.receipts
    )


def refused(key: BucketKey, charges: Sequence[Charge], refusal: Refusal | NotTried) -> tuple[LimitStatus, ...]:
    """Return the statuses of a request that changed nothing."""
    met = zip(charges, refusal.levels, refusal.starts, strict=True)
    return tuple([_status(key, charge, level, start, refusal.now) for charge, level, start in met])


def preview(
    key: BucketKey, charges: Sequence[Charge], state: BucketState, now: int, asked: Request | None = None, *, error: int = 0
) -> tuple[LimitStatus, ...]:
    """Return the statuses that `charges` would meet in `state`; raises `UnreadableItem` if one of its limits is malformed.

    `asked` is the whole request, where it has more than charges.
    """
    request = Request(key, tuple(charges)) if asked is None else asked
    return refused(key, charges, look(state, request._replace(deadline=now), now, error=error))


def never_satisfiable(requests: Sequence[Request]) -> tuple[LimitStatus, ...]:
    """Return the statuses of amounts above a capacity or its headroom, which no wait would help; needs no state."""
    return tuple([_never(each.key, charge) for each in requests for charge in _never_allowed(each)])


def _never_allowed(request: Request) -> list[Charge]:
    """Return the charges that an enforced limit could never allow."""
    reserves = request.headroom or (0,) * len(request.charges)
    prices = [price(*charge, kept, request.oversize) for charge, kept in zip(request.charges, reserves, strict=True)]
    pairs = zip(request.charges, prices, strict=True)
    return [charge for charge, (bound, cost) in pairs if cost > bound and charge.limit.enforce]


def _never(key: BucketKey, charge: Charge) -> LimitStatus:
    limit, units = charge
    return LimitStatus(key.entity_id, key.resource, limit, units, limit.capacity, True, None, 0.0)


def _status(key: BucketKey, charge: Charge, level: Level, start: int, now: int) -> LimitStatus:
    """Return the status of one charge that meets, or leaves, a level, and is allowed from `start` on."""
    limit, units = charge
    available, rest = standing(limit, level, now)
    return LimitStatus(
        key.entity_id,
        key.resource,
        limit,
        units,
        available=available,
        exceeded=start > now,
        retry_after=None if start >= UNBOUNDED else max(0, start - now) / NANOSECONDS,
        reset_after=None if rest is None else rest / NANOSECONDS,
    )
