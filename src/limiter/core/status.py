"""Turns a bucket's outcome into what users see: statuses and decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..exceptions import UnreadableItem
from ..models import LimitStatus
from .limits import gcra
from .request import Charge, Grant, NotTried, Refusal
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .limits import Limit
    from .records import BucketKey
    from .request import Request
    from .state import BucketState


def granted(key: BucketKey, grant: Grant) -> tuple[LimitStatus, ...]:
    """The statuses of an admitted request, after it."""
    return tuple(
        _status(key, receipt.limit, receipt.units, receipt.tat, grant.now, retry_after=0.0) for receipt in grant.receipts
    )


def refused(key: BucketKey, charges: Sequence[Charge], refusal: Refusal | NotTried) -> tuple[LimitStatus, ...]:
    """The statuses of a request that changed nothing."""
    now = refusal.now
    levels = zip(charges, refusal.levels, strict=True)
    return tuple(_status(key, limit, units, tat, now, _wait(limit, units, tat, now)) for (limit, units), tat in levels)


def preview(key: BucketKey, charges: Sequence[Charge], state: BucketState, now: int) -> tuple[LimitStatus, ...]:
    """The statuses that `charges` would meet in `state`; raises `UnreadableItem` when one of its limits makes no sense."""
    for limit, _ in charges:
        if limit.name in state.unreadable:
            raise UnreadableItem(state.unreadable[limit.name])
    levels = tuple(max(state.level(limit.name).tat, now) for limit, _ in charges)
    statuses = refused(key, charges, NotTried(levels, now))
    return tuple(
        replace(status, exceeded=True, retry_after=None) if charge.units > charge.limit.capacity else status
        for charge, status in zip(charges, statuses, strict=True)
    )


def never_satisfiable(requests: Sequence[Request]) -> tuple[LimitStatus, ...]:
    """The statuses of amounts above their capacity, which no wait would help; needs no state."""
    for request in requests:
        for limit, units in request.charges:
            if units > limit.capacity:
                statuses = [_never(each.key, charge) for each in requests for charge in each.charges]
                return tuple(status for status in statuses if status.requested > status.limit.capacity)
    return ()


def _wait(limit: Limit, units: int, tat: int, now: int) -> float:
    return max(0, gcra.start(limit, tat + gcra.cost(limit, units)) - now) / NANOSECONDS


def _never(key: BucketKey, charge: Charge) -> LimitStatus:
    limit, units = charge
    return LimitStatus(key.entity_id, key.resource, limit, units, limit.capacity, True, None, 0.0)


def _status(key: BucketKey, limit: Limit, units: int, tat: int, now: int, retry_after: float) -> LimitStatus:
    return LimitStatus(
        key.entity_id,
        key.resource,
        limit,
        units,
        available=gcra.available(limit, tat, now),
        exceeded=retry_after > 0,
        retry_after=retry_after,
        reset_after=max(0, tat - now) / NANOSECONDS,
    )
