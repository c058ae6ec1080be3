"""Decides requests against one bucket without doing any I/O.

A batch of requests is played, one after another, against the last state seen. Those that fit become one conditional `Update`,
whose conditions assert exactly what the admissions were built on: for each limit whether it is idle (full) or busy, and how far
its `tat` may lie ahead. So if the state has changed meanwhile, the update either still admits all of them rightly or is not
applied, and the state that comes back decides anew. What was refused is final only when the state was fresh.

Within a batch everything that takes comes first and everything that gives back last, so that a refund never hides that a bucket
had been full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .limits import gcra
from .limits.account import RateAccount
from .preview import look
from .request import Grant, Refusal
from .state import TTL, Change, Condition, Update, check_readable
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .limits import Limit
    from .request import Charge, Request
    from .state import BucketState

TTL_GRACE = 3_600
"""Seconds by which `ttl` is set beyond what is needed, so that a busy bucket seldom has to move it."""

Entry = tuple[RateAccount, "Limit", int]
"""The account, the limit and the cost of one charge."""


@dataclass(slots=True, eq=False)
class Plan:
    """How a batch meets one state: an update that carries some of its requests, and the refusals that the state gives others.

    A request that is neither carried nor refused has to be planned again after the update. `update` is None when there is
    nothing to write: no request was admitted, or all that was to be given back is worth nothing any more. `shares` say of each
    carried request, by its place in the batch, where in `totals` its own begin: what the batch has taken of each of its limits
    up to and with it. (In one list, since hundreds of little tuples would call for the garbage collector.)

    While the plan is made, the accounts add `conditions` and `changes` to it, and `reasons`: conditions that are asserted only
    where there is something to write.
    """

    state: BucketState
    requests: Sequence[Request]
    now: int
    update: Update | None = None
    refused: dict[int, Refusal] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    totals: list[int] = field(default_factory=list)
    accounts: dict[str, RateAccount] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    reasons: list[Condition] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    _charges: tuple[Charge, ...] = ()
    _entries: list[Entry] = field(default_factory=list)

    def grants(self, after: BucketState) -> dict[int, Grant]:
        """The outcome of every carried request, by its place in the batch, once the update has left the state `after`."""
        grounds = {name: account.ground(after.level(name)) for name, account in self.accounts.items()}
        earlier = {name: account.level.booked for name, account in self.accounts.items()}
        return {place: self._grant(self.requests[place], first, grounds, earlier) for place, first in self.shares.items()}

    def _grant(self, request: Request, first: int, grounds: Mapping[str, tuple[int, int]], earlier: dict[str, int]) -> Grant:
        figures: list[int] = []
        for index, (limit, units) in enumerate(request.charges, first):
            name, cost = limit.name, gcra.cost(limit, units)
            before, since = grounds[name]
            tat = before + self.totals[index]
            start = gcra.start(limit, tat)
            if request.forced:
                start = min(start, self.now)  # Debt is no booking, and its refund undoes none.
            figures += cost, since, start, tat, earlier[name]
            if cost:
                earlier[name] = max(start, earlier[name])
        return Grant.of(request.charges, figures, self.now)

    def _play(self) -> None:
        """Carry, refuse or leave each request, in order."""
        returning = {refund.limit.name for request in self.requests for refund in request.refunds}
        for index, request in enumerate(self.requests):
            start = self._earliest_start(request)
            if request.forced or start <= self.now:
                self._take(index, request)
            elif start > request.deadline:
                by_state = isinstance(look(self.state, request, self.now), Refusal)
                self.refused[index] = Refusal(self._levels(request), self.now, by_state)
            elif not any(charge.limit.name in returning for charge in request.charges):
                self._take(index, request)
            # else: a booking would void the refunds of its batch, so it is left for the next update.

    def _account(self, limit: Limit) -> RateAccount:
        """The account of one limit, opened on first use."""
        account = self.accounts.get(limit.name)
        if account is None:
            check_readable(self.state, limit.name)
            account = self.accounts[limit.name] = RateAccount(limit.name, self.state.level(limit.name), self.now)
        return account

    def _entries_of(self, charges: tuple[Charge, ...]) -> list[Entry]:
        """The entry of each charge; callers who ask the same often pass the same tuple."""
        if charges is not self._charges:
            entries = [(self._account(limit), limit, gcra.cost(limit, units)) for limit, units in charges]
            self._charges, self._entries = charges, entries
        return self._entries

    def _levels(self, request: Request) -> tuple[int, ...]:
        """The `tat` that each charge of the request meets."""
        return tuple([account.tat + account.total for account, _, _ in self._entries_of(request.charges)])

    def _earliest_start(self, request: Request) -> int:
        """The time from which every limit would allow the request, or now."""
        earliest = self.now
        for account, limit, cost in self._entries_of(request.charges):
            start = gcra.start(limit, account.tat + account.total + cost)
            if start > earliest:
                earliest = start
        return earliest

    def _take(self, index: int, request: Request) -> None:
        """Carry the request: enter its charges."""
        self.shares[index] = len(self.totals)
        patience = None if request.forced else max(0, request.deadline - self.now)
        for account, limit, cost in self._entries_of(request.charges):
            self.totals.append(account.take(limit, cost, patience))

    def _write(self, stamp: str) -> Update | None:
        """The update that makes every change entered so far; None when there is nothing to write."""
        for index in self.shares:
            for refund in self.requests[index].refunds:
                self._account(refund.limit).give(refund)
        # What takes comes first, as its requests do.
        accounts = sorted(self.accounts.values(), key=lambda account: not account.takes)
        reach = max([account.write(self) for account in accounts], default=self.now)
        if not self.conditions:
            return None
        self.conditions += self.reasons
        if reach > self.now or not self.changes:
            self._extend_ttl(reach)
        return Update(stamp, tuple(self.conditions), tuple(self.changes))

    def _extend_ttl(self, reach: int) -> None:
        check_readable(self.state, TTL)
        needed = -(-reach // NANOSECONDS)
        if self.state.ttl >= needed:
            self.conditions.append(Condition(TTL, "ttl", needed, None))
        else:
            # Another limit of the bucket, not seen here, may need a later end: so it only ever moves forward.
            self.conditions.append(Condition(TTL, "ttl", None, needed + TTL_GRACE, absent=True))
            self.changes.append(Change(TTL, "ttl", None, needed + TTL_GRACE))


def plan(state: BucketState, requests: Sequence[Request], now: int, stamp: str) -> Plan:
    """Play `requests` in order against `state` at `now`; `stamp` names the update.

    Raises `UnreadableItem` when the stored state of a limit that is asked for makes no sense.
    """
    made = Plan(state, requests, now)
    made._play()
    made.update = made._write(stamp)
    return made
