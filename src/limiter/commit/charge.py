# twin: sync_charge.py
"""Charges all the buckets of a chain, or none: the writes go out together, and a refusal or failure gives back the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core import status
from ..core.request import Grant, Refusal, Request, Unsent
from ..runtime.concurrency import shielded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.chain import Demand
    from ..models import LimitStatus, Prefetch
    from .committer import Committer, Outcome


class Verdict:
    """What became of each demand, None where its bucket was not asked.

    It is `allowed` when the whole chain admits the call, from `start` on, in nanoseconds since the epoch.
    """

    __slots__ = ("allowed", "demands", "outcomes", "start")

    def __init__(self, demands: Sequence[Demand] = (), outcomes: Sequence[Outcome] = ()) -> None:
        self.demands = demands
        self.outcomes = outcomes
        self.allowed = True
        self.start = 0
        for outcome in outcomes:
            if isinstance(outcome, Grant):
                self.start = max(self.start, outcome.start)
            else:
                self.allowed = False

    @property
    def grants(self) -> list[tuple[Demand, Grant]]:
        """What was granted of the demands."""
        pairs = zip(self.demands, self.outcomes, strict=True)
        return [(demand, outcome) for demand, outcome in pairs if isinstance(outcome, Grant)]

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """What every limit that was consulted has said."""
        statuses: list[LimitStatus] = []
        for demand, outcome in zip(self.demands, self.outcomes, strict=True):
            if isinstance(outcome, Grant):
                statuses += status.granted(demand.key, outcome)
            elif isinstance(outcome, Refusal | Unsent):
                statuses += status.refused(demand.key, demand.charges, outcome)
        return tuple(statuses)


async def charge(
    committer: Committer, demands: Sequence[Demand], deadline: int, prefetch: Prefetch | None = None, expires: float | None = None
) -> Verdict:
    """Take what is demanded, to start by `deadline`, decided by `expires`; when a bucket refuses, nothing stays taken.

    Raises what a bucket's write raised, after giving back what the others took.
    """
    requests = [(key, Request(charges, deadline=deadline, prefetch=prefetch)) for key, charges in demands]
    verdict = Verdict(demands, await committer.decide(requests, expires))
    if not verdict.allowed:
        if len(requests) > 1:
            await shielded(committer.give_back([(demand.key, grant.receipts) for demand, grant in verdict.grants]))
        for outcome in verdict.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
    return verdict
