# twin: sync_lease.py
"""What `acquire` yields: the amounts taken, and the means to correct them."""

from __future__ import annotations

import threading
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from .commit.charge import charge
from .core import status
from .core.allocation import Holding
from .core.chain import check_known, demands
from .core.request import Charge, Credit, Grant, Request
from .core.share import local_demands, local_limit
from .core.validation import MAX_AMOUNT, check_amounts
from .exceptions import LeaseClosed, RateLimiterUnavailable, RateLimitExceeded, ValidationError
from .runtime.concurrency import shielded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .commit.charge import Verdict
    from .commit.committer import Committer
    from .core.chain import Bucket, Demand
    from .core.records import BucketKey
    from .models import LimitStatus
    from .runtime.concurrency import Home

    SettleAlone = Callable[[Sequence[Demand], RateLimiterUnavailable], Awaitable[None]]


class Lease:
    """Units taken from every bucket of an entity's chain, for as long as the `with` block lasts.

    `waited` is the seconds that the caller waited for its turn. `degraded` is true when the table could not be reached and the
    limiter went on without it; then it may have been taken within this process, at a `share` of every limit.
    """

    def __init__(
        self,
        committer: Committer | None,
        home: Home,
        chain: Sequence[Bucket],
        verdict: Verdict,
        taken: Sequence[Demand],
        *,
        waited: float = 0.0,
        degraded: bool = False,
        share: float = 1.0,
        settle_alone: SettleAlone | None = None,
    ) -> None:
        self._verdict = verdict
        self.waited = waited
        self.degraded = degraded
        self._committer = committer
        self._share = share
        self._settle_alone = settle_alone
        self._chain = chain
        self._lock = threading.Lock()
        self._home = home
        self._tenant = home.tenant()
        self._open = True
        self._refunded = False
        self._consumed = {limit.name: units for demand in taken for limit, units in demand.charges}
        self._held: dict[tuple[BucketKey, str], Holding] | None = None

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<{type(self).__name__} {state} {self.entity_id!r}/{self.resource!r} consumed={self._consumed}>"

    @property
    def entity_id(self) -> str:
        """Whose lease it is."""
        return self._chain[0].key.entity_id

    @property
    def resource(self) -> str:
        """Of what."""
        return self._chain[0].key.resource

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """What every limit that was consulted has said on admission."""
        return self._verdict.statuses

    @property
    def consumed(self) -> Mapping[str, int]:
        """Units held now, by limit name."""
        return MappingProxyType(self._consumed)

    async def adjust(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Correct what was taken, by units of either sign, whether it fits or not: `await lease.adjust(tokens=+120)`.

        The bucket may go into debt, in which nothing is admitted until it is paid. Written when this returns. Raises
        `ValidationError` when more would be given back than is held.
        """
        changes = self._changes(amounts, named)
        await self._settle({name: units for name, units in changes.items() if units})

    async def release(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Give back units that are held: `await lease.release(tokens=30)`."""
        changes = self._changes(amounts, named, minimum=0)
        await self._settle({name: -units for name, units in changes.items() if units})

    async def consume(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Take more, on condition that it fits: `await lease.consume(tokens=50)`.

        Raises `RateLimitExceeded` when it does not; then nothing more was taken, and the lease stays as it was.
        """
        changes = self._changes(amounts, named, minimum=0)
        asked = demands(self._chain, changes)
        status.check_satisfiable(asked)
        if self._committer is None:
            self._count(changes)
        elif asked:
            await shielded(self._consume(self._committer, asked, changes))

    async def _consume(self, committer: Committer, asked: Sequence[Demand], changes: Mapping[str, int]) -> None:
        try:
            verdict = await charge(committer, local_demands(asked, self._share), deadline=0)
        except RateLimiterUnavailable as error:
            await self._go_on(asked, error)
            self._count(changes)
            return
        if not verdict.allowed:
            raise RateLimitExceeded(verdict.statuses)
        await self._keep([(demand.key, grant) for demand, grant in verdict.grants], changes)

    async def _settle(self, changes: Mapping[str, int]) -> None:
        """Write what is added and what is given back, in one update for each bucket."""
        with self._lock:
            requests = self._requests(changes)
        if self._committer is None:
            self._count({name: units for name, units in changes.items() if units > 0})
        elif requests:
            await shielded(self._write(self._committer, requests, changes))

    async def _write(
        self, committer: Committer, requests: Sequence[tuple[BucketKey, Request]], changes: Mapping[str, int]
    ) -> None:
        outcomes = await committer.decide(requests)
        keys = [key for key, _ in requests]
        grants = [(key, each) for key, each in zip(keys, outcomes, strict=True) if isinstance(each, Grant)]
        await self._keep(grants, {name: units for name, units in changes.items() if units > 0 and grants})
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        for error in errors:
            await self._go_on((), error)
        if errors and not grants:
            self._count({name: units for name, units in changes.items() if units > 0})

    async def _go_on(self, asked: Sequence[Demand], error: Exception) -> None:
        """Do without the table, where the caller has said so; raises the error otherwise."""
        if self._settle_alone is None or not isinstance(error, RateLimiterUnavailable):
            raise error
        await self._settle_alone(asked, error)
        self.degraded = True

    async def _keep(self, grants: Sequence[tuple[BucketKey, Grant]], changes: Mapping[str, int]) -> None:
        """Enter what was taken; a lease that was refunded while the write was under way gives it straight back."""
        with self._lock:
            late = self._refunded
            if not late:
                for key, grant in grants:
                    _hold(self._holdings(), key, grant)
                self._add(changes)
        if late and self._committer is not None:
            await self._committer.give_back([(key, grant.receipts) for key, grant in grants])

    async def close(self, *, refund: bool) -> None:
        """End the lease; with `refund` everything it took is given back. Called by the `with` block.

        In a forked child that leaves the block too, nothing is given back: the lease is the parent's, who will do so once.
        """
        if not refund:
            self._open = False
            return
        if self._home.is_inherited():
            return
        with self._lock:
            self._open = False
            self._refunded = True
            requests = self._requests({name: -units for name, units in self._consumed.items()})
        if self._committer is not None and requests:
            refunds = [(key, request.credits) for key, request in requests]
            await self._home.finish(partial(self._committer.credit, refunds), self._tenant)

    def _changes(
        self, amounts: Mapping[str, int] | None, named: Mapping[str, int], *, minimum: int = -MAX_AMOUNT
    ) -> dict[str, int]:
        if not self._open:
            raise LeaseClosed(f"the lease on {self.entity_id!r}/{self.resource!r} has ended: use it inside its with block")
        if not self._home.is_here():
            raise LeaseClosed(
                f"the lease on {self.entity_id!r}/{self.resource!r} was taken by another process or event loop: use it there"
            )
        given = {} if amounts is None else check_amounts(amounts, minimum=minimum)
        changes = given | check_amounts(named, minimum=minimum)
        check_known(self._chain, changes)
        return changes

    def _requests(self, changes: Mapping[str, int]) -> list[tuple[BucketKey, Request]]:
        """The update of each bucket that makes `changes`; what is given back leaves the lease here."""
        for name, units in changes.items():
            held = self._consumed.get(name, 0)
            if -units > held:
                raise ValidationError(f"cannot give back {-units} of {name!r}: the lease holds {held}")
        requests, holdings = [], self._holdings()
        for key, limits in self._chain:
            added = ((limit, changes[limit.name]) for limit in limits if changes.get(limit.name, 0) > 0)
            charges = tuple(Charge(local_limit(limit, self._share), units) for limit, units in added)
            returned = [limit.name for limit in limits if changes.get(limit.name, 0) < 0 and (key, limit.name) in holdings]
            credits = tuple(_release(holdings, (key, name), -changes[name]) for name in returned)
            worth = tuple(credit for credit in credits if credit.cost)
            if charges or worth:
                requests.append((key, Request(charges, worth, forced=True)))
        for name, units in changes.items():
            if units < 0:
                self._consumed[name] += units
        return requests

    def _holdings(self) -> dict[tuple[BucketKey, str], Holding]:
        """What is held of each limit in each bucket; most leases end as they began, and never need to know."""
        if self._held is None:
            held: dict[tuple[BucketKey, str], Holding] = {}
            for demand, grant in self._verdict.grants:
                _hold(held, demand.key, grant)
            self._held = held  # At one stroke: an interruption may strike before.
        return self._held

    def _count(self, changes: Mapping[str, int]) -> None:
        with self._lock:
            self._add(changes)

    def _add(self, changes: Mapping[str, int]) -> None:
        for name, units in changes.items():
            self._consumed[name] = self._consumed.get(name, 0) + units


def _hold(holdings: dict[tuple[BucketKey, str], Holding], key: BucketKey, grant: Grant) -> None:
    for receipt in grant.receipts:
        held = holdings.get((key, receipt.limit.name))
        holdings[key, receipt.limit.name] = Holding.of(receipt) if held is None else held.add(receipt)


def _release(holdings: dict[tuple[BucketKey, str], Holding], place: tuple[BucketKey, str], units: int) -> Credit:
    holdings[place], credit = holdings[place].release(units)
    return credit
