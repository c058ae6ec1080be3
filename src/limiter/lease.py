# twin: sync_lease.py
"""What `acquire` yields: the amounts taken, and the means to correct them."""

from __future__ import annotations

import threading
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from .commit.charge import charge
from .core import status
from .core.allocation import Allocation
from .core.chain import check_known, requests
from .core.limits import check_amounts
from .core.request import Charge, Grant, Refund, Request
from .core.share import local_limit, local_requests
from .core.validation import MAX_AMOUNT
from .exceptions import LeaseClosed, NeverSatisfiable, RateLimiterUnavailable, ValidationError
from .runtime.concurrency import shielded
from .runtime.scope import Origin
from .trail import asked_of, changed, taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .commit.charge import Admission
    from .commit.committer import Committer
    from .core.records import BucketKey
    from .models import LimitStatus
    from .trail import Trail

    Correct = Callable[[Sequence[Request], RateLimiterUnavailable], Awaitable[Admission | None]]


class Lease:
    """Units taken from every bucket of an entity's chain, for as long as the `with` block lasts.

    `waited` is the seconds that the caller waited for its turn. `degraded` is true if the table could not be reached and the
    limiter went on without it.
    """

    def __init__(self, admission: Admission, correct: Correct | None, trail: Trail | None = None) -> None:
        self._admission = admission
        self._trail = trail
        self._correct = correct
        self.waited = admission.waited
        self.degraded = admission.degraded
        self._committer = admission.committer
        self._chain = admission.chain
        self._lock = threading.Lock()
        self._origin = Origin() if admission.committer is None else admission.committer.origin
        self._task = self._origin.current_task()
        self._open = True
        self._refunded = False
        self._consumed = {limit.name: units for request in admission.requests for limit, units in request.charges}
        self._held: dict[tuple[BucketKey, str], Allocation] | None = None

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<{type(self).__name__} {state} {self.entity_id!r}/{self.resource!r} consumed={self._consumed}>"

    @property
    def entity_id(self) -> str:
        """The entity that is limited."""
        return self._chain[0].key.entity_id

    @property
    def resource(self) -> str:
        """The resource that is limited."""
        return self._chain[0].key.resource

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """The status of every limit that was consulted, as of the admission."""
        return self._admission.statuses

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
        asked = requests(self._chain, changes)
        if never := status.never_satisfiable(asked):
            raise NeverSatisfiable(never)
        if self._committer is None:
            self._count(changes)
        elif asked:
            await shielded(self._consume(self._committer, asked, changes))

    async def _consume(self, committer: Committer, asked: Sequence[Request], changes: Mapping[str, int]) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.now()
        try:
            admission = await charge(committer, self._chain, local_requests(asked, self._admission.share))
        except RateLimiterUnavailable as error:
            if trail is not None:
                trail.consumed(begin, "failed", changed(self._chain, changes))
            await self._go_on(asked, error)
            self._count(changes)
            return
        if not admission.allowed:
            if trail is not None:
                trail.consumed(begin, "refused", asked_of(admission.statuses))
            raise admission.refusal()
        kept = await self._keep([(request.key, grant) for request, grant in admission.grants], changes)
        if trail is not None:
            trail.consumed(begin, "allowed" if kept else "failed", taken(admission))

    async def _settle(self, changes: Mapping[str, int]) -> None:
        """Write what is added and what is given back, in one update for each bucket."""
        with self._lock:
            asked = self._requests(changes)
        if self._committer is None:
            self._count({name: units for name, units in changes.items() if units > 0})
        elif asked:
            await shielded(self._write(self._committer, asked, changes))

    async def _write(self, committer: Committer, asked: Sequence[Request], changes: Mapping[str, int]) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.changing(self._chain, changes)
        outcomes = await committer.decide(asked)
        grants = [(request.key, each) for request, each in zip(asked, outcomes, strict=True) if isinstance(each, Grant)]
        kept = await self._keep(grants, {name: units for name, units in changes.items() if units > 0 and grants})
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if trail is not None:
            trail.changed(begin, self._chain, changes, written=kept and not errors)
        for error in errors:
            await self._go_on((), error)
        if errors and not grants:
            self._count({name: units for name, units in changes.items() if units > 0})

    async def _go_on(self, asked: Sequence[Request], error: Exception) -> None:
        """Go on without the table if the caller has said so; raises the error otherwise."""
        if self._correct is None or not isinstance(error, RateLimiterUnavailable):
            raise error
        admission = await self._correct(asked, error)
        if admission is not None and not admission.allowed:
            raise admission.refusal()
        self.degraded = True

    async def _keep(self, grants: Sequence[tuple[BucketKey, Grant]], changes: Mapping[str, int]) -> bool:
        """Enter what was taken; a lease that was refunded while the write was under way gives it straight back, and says so."""
        with self._lock:
            late = self._refunded
            if not late:
                for key, grant in grants:
                    _allocate(self._allocations(), key, grant)
                self._add(changes)
        if late and self._committer is not None:
            await self._committer.refund_grants([(key, grant.receipts) for key, grant in grants])
        return not late

    async def close(self, *, refund: bool) -> None:
        """End the lease; with `refund` everything it took is given back. Called by the `with` block.

        In a forked child that leaves the block too, nothing is given back: the lease is the parent's, who will do so once.
        """
        if not refund:
            self._open = False
            return
        if self._origin.is_forked():
            return
        with self._lock:
            self._open = False
            self._refunded = True
            changes = {name: -units for name, units in self._consumed.items()}
            asked = self._requests(changes)
        if self._committer is not None and asked:
            refunds = [request._replace(forced=False) for request in asked]
            await self._origin.run_cleanup(partial(self._refund, self._committer, refunds, changes), self._task)

    async def _refund(self, committer: Committer, refunds: Sequence[Request], changes: Mapping[str, int]) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.changing(self._chain, changes)
        written = await committer.write_refunds(refunds)
        if trail is not None:
            trail.changed(begin, self._chain, changes, written=written)

    def _changes(
        self, amounts: Mapping[str, int] | None, named: Mapping[str, int], *, minimum: int = -MAX_AMOUNT
    ) -> dict[str, int]:
        if not self._open:
            raise LeaseClosed(f"the lease on {self.entity_id!r}/{self.resource!r} has ended: use it inside its with block")
        if not self._origin.is_current():
            raise LeaseClosed(
                f"the lease on {self.entity_id!r}/{self.resource!r} was taken by another process or event loop: use it there"
            )
        given = {} if amounts is None else check_amounts(amounts, minimum=minimum)
        changes = given | check_amounts(named, minimum=minimum)
        check_known(self._chain, changes)
        return changes

    def _requests(self, changes: Mapping[str, int]) -> list[Request]:
        """The update of each bucket that makes `changes`; what is given back leaves the lease here."""
        for name, units in changes.items():
            held = self._consumed.get(name, 0)
            if -units > held:
                raise ValidationError(f"cannot give back {-units} of {name!r}: the lease holds {held}")
        asked, allocations = [], self._allocations()
        for key, limits in self._chain:
            added = ((limit, changes[limit.name]) for limit in limits if changes.get(limit.name, 0) > 0)
            charges = tuple(Charge(local_limit(limit, self._admission.share), units) for limit, units in added)
            returned = [limit.name for limit in limits if changes.get(limit.name, 0) < 0 and (key, limit.name) in allocations]
            refunds = tuple(_release(allocations, (key, name), -changes[name]) for name in returned)
            worth = tuple(refund for refund in refunds if refund.cost)
            if charges or worth:
                asked.append(Request(key, charges, worth, forced=True))
        for name, units in changes.items():
            if units < 0:
                self._consumed[name] += units
        return asked

    def _allocations(self) -> dict[tuple[BucketKey, str], Allocation]:
        """What is held of each limit in each bucket; most leases end as they began, and never need to know."""
        if self._held is None:
            held: dict[tuple[BucketKey, str], Allocation] = {}
            for request, grant in self._admission.grants:
                _allocate(held, request.key, grant)
            self._held = held  # At one stroke: an interruption may strike before.
        return self._held

    def _count(self, changes: Mapping[str, int]) -> None:
        with self._lock:
            self._add(changes)

    def _add(self, changes: Mapping[str, int]) -> None:
        for name, units in changes.items():
            self._consumed[name] = self._consumed.get(name, 0) + units


def _allocate(allocations: dict[tuple[BucketKey, str], Allocation], key: BucketKey, grant: Grant) -> None:
    for receipt in grant.receipts:
        held = allocations.get((key, receipt.limit.name))
        allocations[key, receipt.limit.name] = Allocation.of(receipt) if held is None else held.add(receipt)


def _release(allocations: dict[tuple[BucketKey, str], Allocation], place: tuple[BucketKey, str], units: int) -> Refund:
    allocations[place], refund = allocations[place].release(units)
    return refund
