# twin: sync_charge.py
"""Charges all buckets of a chain or none, and waits for the start.

The writes are sent in parallel. If one bucket refuses or fails, the others are refunded.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from ..core import status
from ..core.limits.slots import short_of_slots
from ..core.request import Grant, NotTried, Refusal
from ..core.state import UNBOUNDED
from ..core.units import NANOSECONDS
from ..exceptions import Blocked, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded
from ..models import Decision
from ..runtime.concurrency import shielded
from .slot_line import SlotLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.chain import Bucket
    from ..core.records import BucketKey
    from ..core.request import Request
    from ..models import LimitStatus
    from .bucket_queue import Outcome
    from .committer import Committer

JITTER = NANOSECONDS
"""Most nanoseconds by which callers that wait for the same time are spread."""
SLACK = 2 * NANOSECONDS
"""Nanoseconds by which a response may set the clock back without the start being rejected."""


class Admission:
    """The outcome of a call: whether it is `allowed`, and the outcome of each request, None if its bucket was not asked.

    The call may start at `start` (nanoseconds since the epoch), for which it has `waited` seconds; at `decided` it began to wait
    for its turn, 0 if it did not. `retried` says that it had waited before it was decided. `committer` decided it; None means
    that it was not counted at all. `degraded` means without the table. `share` is the part of every limit that this process keeps
    by itself; None means that the table keeps them. `never` holds the statuses of amounts above a capacity. `blocked` is the
    bucket whose level is BLOCKED, because of which no bucket was asked.
    """

    __slots__ = (
        "allowed",
        "blocked",
        "chain",
        "committer",
        "decided",
        "degraded",
        "never",
        "outcomes",
        "requests",
        "retried",
        "share",
        "start",
        "waited",
    )

    def __init__(
        self,
        committer: Committer | None,
        chain: Sequence[Bucket],
        requests: Sequence[Request],
        outcomes: Sequence[Outcome] = (),
        never: tuple[LimitStatus, ...] = (),
        blocked: BucketKey | None = None,
    ) -> None:
        self.committer = committer
        self.chain = chain
        self.requests = requests
        self.outcomes = outcomes
        self.never = never
        self.blocked = blocked
        self.allowed = not never and blocked is None
        self.start = self.decided = 0
        self.waited = 0.0
        self.retried = self.degraded = False
        self.share: float | None = None
        for outcome in outcomes:
            if isinstance(outcome, Grant):
                self.start = max(self.start, outcome.start)
            else:
                self.allowed = False

    @property
    def grants(self) -> list[tuple[Request, Grant]]:
        """The requests that were granted."""
        pairs = zip(self.requests, self.outcomes, strict=True) if self.outcomes else ()
        return [(request, outcome) for request, outcome in pairs if isinstance(outcome, Grant)]

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """The status of every limit that was consulted."""
        if self.never or not self.outcomes:
            return self.never
        statuses: list[LimitStatus] = []
        for request, outcome in zip(self.requests, self.outcomes, strict=True):
            if isinstance(outcome, Grant):
                statuses += status.granted(request.key, outcome)
            elif isinstance(outcome, Refusal | NotTried):
                statuses += status.refused(request.key, request.charges, outcome)
        return tuple(statuses)

    @property
    def decision(self) -> Decision:
        """The outcome as a value; a BLOCKED bucket has no limits that could have statuses."""
        return Decision.of(self.statuses) if self.blocked is None else Decision(False, (), None)

    def refusal(self) -> RateLimitExceeded:
        """Return the error for a caller that was refused."""
        if self.blocked is not None:
            return Blocked((), self.degraded, self.blocked.entity_id, self.blocked.resource)
        return (NeverSatisfiable if self.never else RateLimitExceeded)(self.statuses, self.degraded)

    async def refund(self) -> None:
        """Refund everything that was granted, even if the caller is cancelled during this."""
        if self.committer is not None:
            await shielded(self.committer.refund_grants([(request.key, grant) for request, grant in self.grants]))


async def charge(committer: Committer, chain: Sequence[Bucket], requests: Sequence[Request]) -> Admission:
    """Charge all requests. If a bucket refuses, the other buckets are refunded.

    Raises the error of a bucket's write, after refunding the others.
    """
    admission = Admission(committer, chain, requests, await committer.decide(requests))
    if not admission.allowed:
        if len(requests) > 1:
            await admission.refund()
        for outcome in admission.outcomes:
            if isinstance(outcome, Exception):
                raise outcome
    return admission


async def charge_in_turn(committer: Committer, chain: Sequence[Bucket], requests: Sequence[Request], patience: int) -> Admission:
    """Charge, and wait up to `patience` nanoseconds for the start. If the wait is interrupted, everything is refunded."""
    waited, deadline, asked = 0, 0, requests  # A deadline of 0 is always in the past.
    if patience:
        deadline = committer.clock() + patience
        asked = [request._replace(deadline=deadline) for request in requests]
    slots = any(request.slots for request in requests)
    if slots and committer.has_line and (line := SlotLine.ahead(committer, requests)) is not None:
        admission = await _stand_in_line(committer, chain, asked, line, deadline)
        waited = committer.clock() - deadline + patience if patience else 0
    else:
        admission = await charge(committer, chain, asked)
    while patience and not admission.allowed:
        if (place := short_of_slots(requests, admission.outcomes, deadline)) is not None and committer.clock() < deadline:
            line = SlotLine(committer, asked, place)
            admission = await _stand_in_line(committer, chain, asked, line, deadline, admission)
            waited = committer.clock() - deadline + patience
            continue
        if not (delay := _delay(admission, committer.clock(), patience - waited)):
            break
        # No future start may be promised for a quota, a paused bucket, or a request with headroom.
        await (committer.sleep or asyncio.sleep)(delay / NANOSECONDS)
        waited += delay
        deadline = committer.clock() + patience - waited
        admission = await charge(committer, chain, [request._replace(deadline=deadline) for request in requests])
    admission.waited, admission.retried = waited / NANOSECONDS, waited > 0
    if not admission.allowed:
        return admission
    now = committer.clock()
    if admission.start > now:
        if admission.start - now > patience + SLACK:
            # The table ignored the condition, or a response has set the clock back, and the deadline came from a wrong clock.
            await admission.refund()
            raise RateLimiterUnavailable("the granted start time exceeds the timeout")
        admission.decided, delay = now, admission.start - now
        admission.waited += delay / NANOSECONDS
        try:
            await (committer.sleep or asyncio.sleep)(delay / NANOSECONDS)
        except BaseException:
            await admission.refund()
            raise
    return admission


async def _stand_in_line(
    committer: Committer,
    chain: Sequence[Bucket],
    requests: Sequence[Request],
    line: SlotLine,
    deadline: int,
    refused: Admission | None = None,
) -> Admission:
    """Wait in line for slots until the deadline, behind callers of this process that came earlier."""
    found: object = None
    if committer.clock() < deadline:
        found = await line.wait(deadline, partial(charge, committer, chain, requests))
    if isinstance(found, Admission):
        return found
    if isinstance(found, Grant):
        return Admission(committer, chain, requests, [found])
    return Admission(committer, chain, requests, line.refusals()) if refused is None else refused


async def wait_for_change(committer: Committer, delay: int, patience: int) -> float:
    """Wait until a schedule changes the limits, in `delay` nanoseconds, and return the seconds waited."""
    seconds = _spread(delay, patience) / NANOSECONDS
    await (committer.sleep or asyncio.sleep)(seconds)
    return seconds


def _delay(admission: Admission, now: int, left: int) -> int:
    """Return the nanoseconds after which a refused caller asks again, at most `left`; 0 if that would not help.

    A random part is added, which spreads callers that wait for the same time.
    """
    starts = [outcome.start for outcome in admission.outcomes if isinstance(outcome, Refusal)]
    delay = max(starts, default=UNBOUNDED) - now
    return _spread(delay, left) if not admission.never and 0 < delay <= left else 0


def _spread(delay: int, left: int) -> int:
    """Return a delay of up to `left` that differs between callers that wait for the same time."""
    return min(left, delay + random.randint(1, max(1, min(JITTER, delay // 10))))  # noqa: S311 - spreads callers, hides nothing
