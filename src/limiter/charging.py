# twin: sync_charging.py
"""Charges all the buckets of a chain, or none: the writes go out together, and a refusal or failure gives back the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from . import decision
from ._compat import gather
from .bucket import Grant, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bucket import Refusal
    from .committer import Committer
    from .demand import Demand
    from .models import LimitStatus, Prefetch


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
    requests = [(key, Request(charges, deadline=deadline, prefetch=prefetch)) for key, charges in demands]
    calls = [partial(committer.submit, key, request) for key, request in requests]
    outcomes = await gather(calls)
    granted = [(demand.key, each) for demand, each in zip(demands, outcomes, strict=True) if isinstance(each, Grant)]
    if len(granted) < len(outcomes):
        await gather([partial(committer.give_back, key, grant.receipts) for key, grant in granted])
    decided = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        decided.append(outcome)
    return Verdict(demands, decided)
