# twin: sync_charging.py
"""Charges all the buckets of a chain, or none: the writes go out together, and a refusal or failure gives back the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from . import decision
from ._compat import gather, shielded
from .bucket import Grant, Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .bucket import Refusal
    from .committer import Committer
    from .demand import Demand
    from .models import LimitStatus, Prefetch
    from .records import BucketKey


class Verdict(NamedTuple):
    """What each bucket said to its demand; the call is `allowed` when all of them granted it."""

    demands: Sequence[Demand] = ()
    outcomes: Sequence[Grant | Refusal] = ()

    @property
    def allowed(self) -> bool:
        """Whether the whole chain admits the call."""
        return all(isinstance(outcome, Grant) for outcome in self.outcomes)

    @property
    def grants(self) -> list[tuple[Demand, Grant]]:
        """Each demand that was granted, with its grant."""
        pairs = zip(self.demands, self.outcomes, strict=True)
        return [(demand, outcome) for demand, outcome in pairs if isinstance(outcome, Grant)]

    @property
    def start(self) -> int:
        """The time from which every bucket allows the call, in nanoseconds since the epoch."""
        return max((grant.start for _, grant in self.grants), default=0)

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """What every limit that was consulted has said."""
        statuses: list[LimitStatus] = []
        for demand, outcome in zip(self.demands, self.outcomes, strict=True):
            if isinstance(outcome, Grant):
                statuses += decision.granted(demand.key, outcome)
            else:
                statuses += decision.refused(demand.key, demand.charges, outcome)
        return tuple(statuses)


async def charge(committer: Committer, demands: Sequence[Demand], deadline: int, prefetch: Prefetch | None = None) -> Verdict:
    """Take what is demanded, to start by `deadline`; when a bucket refuses, nothing stays taken.

    Raises what a bucket's write raised, after giving back what the others took.
    """
    if len(demands) == 1:
        key, charges = demands[0]
        return Verdict(demands, (await committer.submit(key, Request(charges, deadline=deadline, prefetch=prefetch)),))
    outcomes: dict[BucketKey, Grant | Refusal | Exception] = {}
    requests = [(key, Request(charges, deadline=deadline, prefetch=prefetch)) for key, charges in demands]
    try:
        for interruption in await gather([partial(_submit, committer, key, request, outcomes) for key, request in requests]):
            if interruption is not None:
                raise interruption
    except BaseException:
        await shielded(_give_back(committer, outcomes))
        raise
    if not all(isinstance(outcome, Grant) for outcome in outcomes.values()):
        await shielded(_give_back(committer, outcomes))
    decided = []
    for key, _ in demands:
        outcome = outcomes[key]
        if isinstance(outcome, Exception):
            raise outcome
        decided.append(outcome)
    return Verdict(demands, decided)


async def _submit(
    committer: Committer, key: BucketKey, request: Request, outcomes: dict[BucketKey, Grant | Refusal | Exception]
) -> None:
    """Note the outcome where an interruption of the others does not lose it."""
    try:
        outcomes[key] = await committer.submit(key, request)
    except Exception as error:
        outcomes[key] = error


async def _give_back(committer: Committer, outcomes: Mapping[BucketKey, Grant | Refusal | Exception]) -> None:
    granted = [(key, outcome) for key, outcome in outcomes.items() if isinstance(outcome, Grant)]
    await gather([partial(committer.give_back, key, grant.receipts) for key, grant in granted])
