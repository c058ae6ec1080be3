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
from .core.chain import check_known, check_no_slots, requests
from .core.request import Charge, Grant, Refund, Request
from .core.share import local_limit, local_requests
from .core.validation import MAX_AMOUNT, check_amounts
from .events import asked_of, fence_of, requested, taken
from .exceptions import LeaseClosed, LeaseLost, NeverSatisfiable, RateLimiterUnavailable, ValidationError
from .runtime.concurrency import shielded
from .runtime.scope import Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from .commit.charge import Admission
    from .commit.committer import Committer
    from .core.records import BucketKey
    from .models import BaseLimit, LimitStatus
    from .trail import Change, Trail

    Correct = Callable[[Sequence[Request], RateLimiterUnavailable, bool], Awaitable[Admission | None]]


class Lease:
    """Units consumed from every bucket of an entity's chain, for the length of the `with` block.

    `waited` is the seconds that the caller waited for its turn. `degraded` is true if the table could not be reached and the
    limiter went on without it.
    """

    def __init__(
        self, admission: Admission, consumed: dict[str, int], correct: Correct | None, trail: Trail | None = None
    ) -> None:
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
        self._consumed = consumed
        self._held: dict[tuple[BucketKey, str], Allocation] | None = None
        self._kept: dict[tuple[BucketKey, str], int] = {}
        self._kept_units: dict[str, int] = {}

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
    def fence(self) -> int | None:
        """A number that grows with every slot of the entity's own bucket that is granted; None without slots there.

        Pass it along to what the slots protect, and have that refuse a lower number than the highest that it has seen. With one
        slot the numbers grow in time; with more, each is given once. None without the table, too, where nothing can order them.
        """
        return fence_of(self._admission, self._chain[0].key)

    @property
    def lost(self) -> bool:
        """Whether slots of the lease have expired unrenewed, so that other callers may hold them by now."""
        committer = self._committer
        if committer is None or not self._has_slots():
            return False
        slots = [(key, name, held.since) for (key, name), held in self._allocations().items() if held.units and held.limit.holds]
        return any(committer.has_lost(*each) for each in slots)

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """The status of every limit that was consulted, as of the admission."""
        return self._admission.statuses

    @property
    def consumed(self) -> Mapping[str, int]:
        """Units held now, by limit name: the call's own amounts as corrected since, without those of other targets."""
        return MappingProxyType(self._consumed)

    async def adjust(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Correct the consumed units, by units of either sign, whether they fit or not: `await lease.adjust(tokens=+120)`.

        The bucket may go into debt; then it allows nothing until the debt has refilled. Written when this returns. Raises
        `ValidationError` if more would be refunded than is held.
        """
        changes = self._changes(amounts, named)
        check_no_slots(self._chain, changes)
        await self._settle({name: units for name, units in changes.items() if units})

    async def release(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Return held units to the bucket: `await lease.release(tokens=30)`."""
        changes = self._changes(amounts, named, minimum=0)
        await self._settle({name: -units for name, units in changes.items() if units})

    async def consume(self, amounts: Mapping[str, int] | None = None, /, **named: int) -> None:
        """Consume more, if it fits: `await lease.consume(tokens=50)`.

        Raises `RateLimitExceeded` if it does not fit; then nothing more was consumed, and the lease is unchanged.
        """
        changes = self._changes(amounts, named, minimum=0)
        asked = requests(self._chain, changes)
        if never := status.never_satisfiable(asked):
            raise NeverSatisfiable(never)
        if self._committer is None or not asked:
            self._count(changes)
        else:
            await shielded(self._consume(self._committer, asked, changes))

    def keep(self) -> None:
        """Keep the held units charged, even if the block raises. Makes no call.

        Units that are consumed later are refunded on an error as before, and `adjust` and `release` continue to work.
        """
        self._check_open()
        with self._lock:
            self._kept = {place: held.units for place, held in self._allocations().items()}
            self._kept_units = dict(self._consumed)

    async def _consume(self, committer: Committer, asked: Sequence[Request], changes: Mapping[str, int]) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.now()
        try:
            admission = await charge(committer, self._chain, local_requests(asked, self._admission.share))
        except RateLimiterUnavailable as error:
            if trail is not None:
                trail.consumed(begin, "failed", requested(asked))
            await self._go_on(asked, error, limited=True)
            self._count(changes)
            return
        if not admission.allowed:
            if trail is not None:
                trail.consumed(begin, "refused", asked_of(admission.statuses))
            raise admission.refusal()
        kept = await self._hold([(request.key, grant) for request, grant in admission.grants], changes)
        if trail is not None:
            trail.consumed(begin, "allowed" if kept else "failed", taken(admission))

    async def _settle(self, changes: Mapping[str, int]) -> None:
        """Write what is added and what is given back, in one update for each bucket."""
        with self._lock:
            asked, made = self._requests(changes)
        if self._committer is None or not asked:
            self._count({name: units for name, units in changes.items() if units > 0})
        else:
            await shielded(self._write(self._committer, asked, changes, made))

    async def _write(
        self, committer: Committer, asked: Sequence[Request], changes: Mapping[str, int], made: Sequence[Change]
    ) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.changing(made)
        outcomes = await committer.decide(asked)
        grants = [(request.key, each) for request, each in zip(asked, outcomes, strict=True) if isinstance(each, Grant)]
        kept = await self._hold(grants, {name: units for name, units in changes.items() if units > 0 and grants})
        errors = [(request, each) for request, each in zip(asked, outcomes, strict=True) if isinstance(each, Exception)]
        if trail is not None:
            trail.changed(begin, made, written=kept and not errors)
        for request, error in errors:
            await self._go_on([request], error, limited=False)
        if errors and not grants:
            self._count({name: units for name, units in changes.items() if units > 0})

    async def _go_on(self, lost: Sequence[Request], error: Exception, *, limited: bool) -> None:
        """Go on without the table if the caller has said so; raises the error otherwise."""
        if self._correct is None or not isinstance(error, RateLimiterUnavailable):
            raise error
        admission = await self._correct(lost, error, limited)
        if admission is not None and not admission.allowed:
            raise admission.refusal()
        self.degraded = True

    async def _hold(self, grants: Sequence[tuple[BucketKey, Grant]], changes: Mapping[str, int]) -> bool:
        """Enter what was taken; a lease that was refunded while the write was under way gives it straight back, and says so."""
        with self._lock:
            late = self._refunded
            if not late:
                for key, grant in grants:
                    _allocate(self._allocations(), key, grant)
                self._add(changes)
        if late and self._committer is not None:
            await self._committer.refund_grants(grants)
        return not late

    async def close(self, *, refund: bool) -> None:
        """End the lease; with `refund` everything it holds is refunded. Called by the `with` block.

        In a forked child that leaves the block too, nothing is refunded: the lease is the parent's, which refunds it once.
        """
        if not refund and not self._has_slots():
            self._open = False
            return
        if self._origin.is_forked():
            return
        with self._lock:
            self._open = False
            self._refunded = refund
            if self._trail is not None and self._has_slots():
                self._tell_expiries(self._trail)
            refunds, changes = self._refunds(everything=refund)
        if self._committer is not None and refunds:
            await self._origin.run_cleanup(partial(self._refund, self._committer, refunds, changes), self._task)

    def _tell_expiries(self, trail: Trail) -> None:
        """Report slots that were lost: they were held until their last renewal, and for their time to live."""
        committer = self._committer
        for (key, name), held in self._allocations().items():
            if committer is not None and held.limit.holds and held.units and committer.has_lost(key, name, held.since):
                trail.expired(committer.last_renewal(key, name, held.since), key, held.limit, held.units)

    async def _refund(self, committer: Committer, refunds: Sequence[Request], changes: Sequence[Change]) -> None:
        trail = self._trail
        begin = 0 if trail is None else trail.changing(changes)
        written = await committer.write_refunds(refunds)
        if trail is not None:
            trail.changed(begin, changes, written=written)

    def _changes(
        self, amounts: Mapping[str, int] | None, named: Mapping[str, int], *, minimum: int = -MAX_AMOUNT
    ) -> dict[str, int]:
        self._check_open()
        if self.lost:
            raise LeaseLost(
                f"slots of the lease on {self.entity_id!r}/{self.resource!r} have expired unrenewed, and other callers may hold"
                " them: stop what they protect"
            )
        given = {} if amounts is None else check_amounts(amounts, minimum=minimum)
        changes = given | check_amounts(named, minimum=minimum)
        check_known(self._chain, changes)
        return changes

    def _check_open(self) -> None:
        if not self._open:
            raise LeaseClosed(f"the lease on {self.entity_id!r}/{self.resource!r} has ended: use it inside its with block")
        if not self._origin.is_current():
            raise LeaseClosed(
                f"the lease on {self.entity_id!r}/{self.resource!r} belongs to another process or event loop: use it there"
            )

    def _has_slots(self) -> bool:
        """Tell whether the lease holds, or held, slots, which are freed at its end in any case."""
        if self._held is None:
            return any(request.slots for request in self._admission.requests)
        return any(held.limit.holds for held in self._held.values())

    def _refunds(self, *, everything: bool = True) -> tuple[list[Request], list[Change]]:
        """Return one request for each bucket that refunds everything but what is kept, and frees all slots; and the changes."""
        allocations, asked, made = self._allocations(), [], []
        for bucket in self._chain:
            held = {
                limit: each
                for limit in bucket.limits
                if (everything or limit.holds) and (each := allocations.get((bucket.key, limit.name)))
            }
            spare = {limit: max(0, each.units - self._kept_of(bucket.key, limit)) for limit, each in held.items()}
            refunds = [_release(allocations, (bucket.key, limit.name), units) for limit, units in spare.items()]
            worth = tuple(refund for refund in refunds if refund.cost)
            made += [(bucket.key, limit, -units) for limit, units in spare.items()]
            if worth:
                asked.append(Request(bucket.key, refunds=worth, slots=_hold(worth)))
        if everything:
            self._consumed.update({name: min(units, self._kept_units.get(name, 0)) for name, units in self._consumed.items()})
        return asked, made

    def _kept_of(self, key: BucketKey, limit: BaseLimit) -> int:
        return 0 if limit.holds else self._kept.get((key, limit.name), 0)

    def _requests(self, changes: Mapping[str, int]) -> tuple[list[Request], list[Change]]:
        """Return the request of each bucket that makes `changes`, and its changes; refunded units leave the lease here."""
        allocations = self._allocations()
        for name, units in changes.items():
            most = max([self._consumed.get(name, 0), *(held.units for (_, each), held in allocations.items() if each == name)])
            if -units > most:
                raise ValidationError(f"cannot refund {-units} of {name!r}: the lease holds {most}")
        asked, made = [], []
        for bucket in self._chain:
            wanted = {limit: changes.get(limit.name, 0) for limit in bucket.limits}
            added = {limit: units for limit, units in wanted.items() if units > 0}
            charges = tuple(Charge(local_limit(limit, self._admission.share), units) for limit, units in added.items())
            held = {limit: allocations.get((bucket.key, limit.name)) for limit, units in wanted.items() if units < 0}
            spare = {limit: min(-wanted[limit], each.units) for limit, each in held.items() if each}
            refunds = [_release(allocations, (bucket.key, limit.name), units) for limit, units in spare.items()]
            worth = tuple(refund for refund in refunds if refund.cost)
            made += [*((bucket.key, limit, units) for limit, units in added.items())]
            made += [*((bucket.key, limit, -units) for limit, units in spare.items())]
            if charges or worth:
                scheduled = bucket.until is not None
                asked.append(Request(bucket.key, charges, worth, forced=True, scheduled=scheduled, slots=_hold(worth)))
        for name, units in changes.items():
            if units < 0 and name in self._consumed:
                self._consumed[name] = max(0, self._consumed[name] + units)
        return asked, made

    def _allocations(self) -> dict[tuple[BucketKey, str], Allocation]:
        """Return what is held of each limit in each bucket. Built on first use, because most leases never need it."""
        if self._held is None:
            held: dict[tuple[BucketKey, str], Allocation] = {}
            for request, grant in self._admission.grants:
                _allocate(held, request.key, grant)
            self._held = held  # In one step, because an interruption may come before it.
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


def _hold(refunds: Iterable[Refund]) -> bool:
    return any(refund.limit.holds for refund in refunds)


def _release(allocations: dict[tuple[BucketKey, str], Allocation], place: tuple[BucketKey, str], units: int) -> Refund:
    allocations[place], refund = allocations[place].release(units)
    return refund
