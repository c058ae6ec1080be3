"""What one process allows by itself while the table cannot be reached."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from . import gcra
from .bucket import Charge
from .demand import Demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .demand import Bucket
    from .models import Limit
    from .state import BucketState


def local_limit(limit: Limit, share: float, units: int = 1) -> Limit:
    """The limit at a share of its rate and of its capacity, of which at least `units` remain, so that one request fits."""
    if share == 1:
        return limit
    return replace(limit, capacity=max(ceil(limit.capacity * share), units), refill_period=limit.refill_period / share)


def local_chain(chain: Sequence[Bucket], share: float) -> tuple[Bucket, ...]:
    """The buckets of a chain with their limits at that share."""
    return tuple(each._replace(limits=tuple(local_limit(limit, share) for limit in each.limits)) for each in chain)


def local_demands(asked: Sequence[Demand], share: float) -> tuple[Demand, ...]:
    """The same demands, on limits at that share."""
    return tuple(
        Demand(key, tuple(Charge(local_limit(limit, share, units), units) for limit, units in charges)) for key, charges in asked
    )


def outstanding(limits: Sequence[Limit], share: float, state: BucketState, now: int) -> tuple[Charge, ...]:
    """What was allowed here at that share and has not refilled since, to be charged to the table when it is back."""
    charges = []
    for limit in limits:
        local = local_limit(limit, share)
        units = max(0, state.level(limit.name).tat - now) * local.refill_amount // local.period_ns
        charges.append(Charge(limit, min(units, limit.capacity)))
    return tuple(charge for charge in charges if charge.units)


def fitting(charges: Sequence[Charge], levels: Sequence[int], now: int) -> tuple[Charge, ...]:
    """As much of the charges as fits beside what the limits' levels are, so that no bucket goes into debt."""
    fits = (
        Charge(limit, min(units, gcra.available(limit, tat, now))) for (limit, units), tat in zip(charges, levels, strict=True)
    )
    return tuple(charge for charge in fits if charge.units > 0)
