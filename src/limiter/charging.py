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
    from .models import LimitStatus


class Verdict(NamedTuple):
    """`grants`, one for each demand, when the whole chain admits the call; empty when it does not."""

    allowed: bool
    statuses: tuple[LimitStatus, ...]
    grants: tuple[Grant, ...]

    @property
    def start(self) -> int:
        """The time from which every bucket allows the call, in nanoseconds since the epoch."""
        return max((grant.start for grant in self.grants), default=0)


async def charge(committer: Committer, demands: Sequence[Demand], deadline: int) -> Verdict:
    """Take what is demanded, to start by `deadline`; when a bucket refuses, nothing stays taken.

    Raises what a bucket's write raised, after giving back what the others took.
    """
    requests = [Request(demand.charges, deadline=deadline) for demand in demands]
    if len(requests) == 1:
        outcomes: list[Grant | Refusal | BaseException] = [await committer.submit(demands[0].key, requests[0])]
    else:
        calls = [partial(committer.submit, demand.key, request) for demand, request in zip(demands, requests, strict=True)]
        outcomes = await gather(calls)
    grants = tuple(outcome for outcome in outcomes if isinstance(outcome, Grant))
    if len(grants) < len(outcomes):
        await _give_back(committer, demands, outcomes)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    statuses = _statuses(demands, outcomes)
    return Verdict(len(grants) == len(outcomes), statuses, grants if len(grants) == len(outcomes) else ())


async def _give_back(
    committer: Committer, demands: Sequence[Demand], outcomes: Sequence[Grant | Refusal | BaseException]
) -> None:
    pairs = zip(demands, outcomes, strict=True)
    taken = [(demand.key, outcome.receipts) for demand, outcome in pairs if isinstance(outcome, Grant)]
    await gather([partial(committer.give_back, key, receipts) for key, receipts in taken])


def _statuses(demands: Sequence[Demand], outcomes: Sequence[Grant | Refusal | BaseException]) -> tuple[LimitStatus, ...]:
    statuses: list[LimitStatus] = []
    for demand, outcome in zip(demands, outcomes, strict=True):
        if isinstance(outcome, Grant):
            statuses += decision.granted(demand.key, outcome)
        elif not isinstance(outcome, BaseException):
            statuses += decision.refused(demand.key, demand.charges, outcome)
    return tuple(statuses)
