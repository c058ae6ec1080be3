"""Turns a bucket's outcome into what users see: statuses and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exceptions import NeverSatisfiable
from ..models import Decision, LimitStatus
from .limits.accounts import price, standing
from .preview import look
from .request import Charge, Grant, NotTried, Refusal, Request
from .state import UNBOUNDED, Level
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .chain import Demand
    from .records import BucketKey
    from .state import BucketState


def granted(key: BucketKey, grant: Grant) -> tuple[LimitStatus, ...]:
    """The statuses of an admitted request, after it; a shadow is exceeded that would have refused it."""
    return tuple(
        _status(key, Charge(each.limit, each.units), Level(each.tat, each.since), each.left_out or grant.now, grant.now)
        for each in grant.receipts
    )


def refused(key: BucketKey, charges: Sequence[Charge], refusal: Refusal | NotTried) -> tuple[LimitStatus, ...]:
    """The statuses of a request that changed nothing."""
    met = zip(charges, refusal.levels, refusal.starts, strict=True)
    return tuple([_status(key, charge, level, start, refusal.now) for charge, level, start in met])


def preview(
    key: BucketKey, charges: Sequence[Charge], state: BucketState, now: int, asked: Request | None = None, *, error: int = 0
) -> tuple[LimitStatus, ...]:
    """The statuses that `charges` would meet in `state`; raises `UnreadableItem` when one of its limits makes no sense.

    `asked` is the whole request, where it has more than charges.
    """
    request = Request(tuple(charges)) if asked is None else asked
    return refused(key, charges, look(state, request._replace(deadline=now), now, error=error))


def check_satisfiable(asked: Sequence[Demand]) -> None:
    """Raise `NeverSatisfiable` when no wait would help, because an amount is above its capacity; needs no state."""
    never = [_never(each.key, charge) for each in asked for charge in each.charges if is_never(charge)]
    if never:
        raise NeverSatisfiable(tuple(never))


def is_never(charge: Charge, headroom: int = 0, oversize: bool = False) -> bool:
    """Whether an enforced limit could never allow the charge beside a reserve for others."""
    bound, cost = price(charge.limit, charge.units, headroom, oversize)
    return charge.limit.enforce and cost > bound


def decide(statuses: Sequence[LimitStatus]) -> Decision:
    """The decision that the statuses add up to; shadows are left out of it."""
    violations = [status.retry_after for status in statuses if status.exceeded and status.limit.enforce]
    waits = [wait for wait in violations if wait is not None]
    retry_after = None if len(waits) < len(violations) else max(waits, default=0.0)
    return Decision(not violations, tuple(statuses), retry_after)


def _never(key: BucketKey, charge: Charge) -> LimitStatus:
    limit, units = charge
    return LimitStatus(key.entity_id, key.resource, limit, units, limit.capacity, True, None, 0.0)


def _status(key: BucketKey, charge: Charge, level: Level, start: int, now: int) -> LimitStatus:
    """The status of one charge that meets, or leaves, a level, and is allowed from `start` on."""
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
