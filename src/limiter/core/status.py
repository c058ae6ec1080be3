"""Turns a bucket's outcome into what users see: statuses and decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..exceptions import NeverSatisfiable, UnreadableItem
from ..models import Decision, LimitStatus
from .limits import gcra
from .request import Charge, Grant, Refusal, Unsent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..models import Limit
    from .chain import Demand
    from .records import BucketKey
    from .state import BucketState


def granted(key: BucketKey, grant: Grant) -> tuple[LimitStatus, ...]:
    """The statuses of an admitted request, after it."""
    return tuple(
        _status(key, receipt.limit, receipt.units, receipt.tat, grant.now, retry_after=0.0) for receipt in grant.receipts
    )


def refused(key: BucketKey, charges: Sequence[Charge], refusal: Refusal | Unsent) -> tuple[LimitStatus, ...]:
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
    statuses = refused(key, charges, Unsent(levels, now))
    return tuple(
        replace(status, exceeded=True, retry_after=None) if charge.units > charge.limit.capacity else status
        for charge, status in zip(charges, statuses, strict=True)
    )


def check_satisfiable(asked: Sequence[Demand]) -> None:
    """Raise `NeverSatisfiable` when no wait would help, because an amount is above its capacity; needs no state."""
    for _key, charges in asked:
        for limit, units in charges:
            if units > limit.capacity:
                statuses = [_never(each.key, charge) for each in asked for charge in each.charges]
                raise NeverSatisfiable(tuple(status for status in statuses if status.requested > status.limit.capacity))


def decide(statuses: Sequence[LimitStatus]) -> Decision:
    """The decision that the statuses add up to."""
    violations = [status.retry_after for status in statuses if status.exceeded]
    waits = [wait for wait in violations if wait is not None]
    retry_after = None if len(waits) < len(violations) else max(waits, default=0.0)
    return Decision(not violations, tuple(statuses), retry_after)


def _wait(limit: Limit, units: int, tat: int, now: int) -> float:
    return max(0, gcra.start(limit, tat + gcra.cost(limit, units)) - now) / gcra.NANOSECONDS


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
        reset_after=max(0, tat - now) / gcra.NANOSECONDS,
    )
