"""The events that hooks receive: what one call, or its lease, has asked for, consumed or given back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .commit.charge import Admission
    from .commit.sync_charge import SyncAdmission
    from .core.call import Call
    from .core.records import BucketKey
    from .core.request import Request
    from .models import BaseLimit, LimitStatus

    Admitted = Admission | SyncAdmission


@dataclass(frozen=True, slots=True)
class Charged:
    """What a call requests, consumes or refunds of one limit of one bucket.

    `start` is the time from which the units may be used, in nanoseconds of the repository's clock; None if nothing was consumed.
    `since` is the time from which the bucket counts them.
    """

    entity_id: str
    resource: str
    limit: BaseLimit
    units: int
    start: int | None = None
    since: int | None = None


@dataclass(repr=False)  # Not frozen: each decision with a hook makes one, and to freeze it takes longer than to make it.
class DecisionEvent:
    """One decision, as `on_decision` receives it. A hook pays for what it reads: the statuses and what follows are made then.

    - `degraded`: the decision was made without the table.
    - `seconds`: the time that the decision took, without the `waited` seconds of a caller with a `timeout` (`waits`).
    - `id`: names the call and its lease; unique in this process.
    - `process_id`: names the limiter in this process; unique.
    - `begin`, `end`: when the call came and when it was decided, in nanoseconds of the repository's clock.
    - `retried`: the call had waited before it was decided, and may have been refused by one of its buckets.
    - `headroom`, `oversize`: as the call gave them.
    """

    entity_id: str
    resource: str
    allowed: bool
    degraded: bool
    waited: float
    seconds: float
    id: str
    process_id: str
    begin: int
    end: int
    waits: bool
    retried: bool
    headroom: float | Mapping[str, float] | None
    oversize: bool
    _call: Call = field(compare=False)
    _admission: Admitted = field(compare=False)

    @cached_property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """The status of every limit that was consulted."""
        return self._admission.statuses

    @cached_property
    def buckets(self) -> tuple[tuple[str, str], ...]:
        """The entity and resource of each bucket of the call."""
        return charged_buckets(self._call, self._admission) if self.allowed else buckets_of(self.charges)

    @cached_property
    def charges(self) -> tuple[Charged, ...]:
        """What the call consumed of their limits, or requested."""
        return tuple(taken(self._admission) if self.allowed else asked_of(self.statuses))

    @cached_property
    def fence(self) -> int | None:
        """The number that the call's lease has for its slots, if any."""
        return fence_of(self._admission, self._call.key)

    @property
    def kind(self) -> str:
        """`decision`."""
        return "decision"

    @property
    def outcome(self) -> str:
        """`allowed` or `refused`."""
        return "allowed" if self.allowed else "refused"

    def values(self) -> dict[str, object]:
        """Return all that the event tells, by name."""
        names = [each.name for each in fields(self) if each.compare]
        return {name: getattr(self, name) for name in (*names, "statuses", "buckets", "charges", "fence")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values().items())})"

    def __getstate__(self) -> dict[str, object]:
        """Pickle and copy what the event tells, without what it is made from."""
        return self.values()


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """An event of a call or its lease other than a decision, for a hook with a method `note`.

    - `kind`: `decision` for a call that failed, `consume` when the lease requested more, `correction` when more was charged in
      any case, `refund` for units that are about to be refunded, `written` when the refund of the same `begin` is known to be
      written, `expiry` for slots that were lost: they were renewed last at `begin`. From outside a lease: `correction`,
      `withdrawal` for units that are refunded, `reset`, and `pause`, whose charges start at its end.
    - `outcome`: `allowed`, `refused`, or `failed`: not known.
    - `end`: None if the end is not known yet.
    """

    kind: str
    id: str
    process_id: str
    begin: int
    end: int | None
    outcome: str
    degraded: bool
    waits: bool
    buckets: tuple[tuple[str, str], ...]
    charges: tuple[Charged, ...]


def buckets_of(charges: Iterable[Charged]) -> tuple[tuple[str, str], ...]:
    """Return the buckets of the charges, each once."""
    return tuple(dict.fromkeys((each.entity_id, each.resource) for each in charges))


def fence_of(admission: Admitted, own: BucketKey) -> int | None:
    """Return the fence of the slots that were granted in the entity's own bucket; None without slots, or without the table."""
    granted = [grant for request, grant in admission.grants if request.slots and request.key == own]
    numbers = [each.earlier for grant in granted for each in grant.receipts if each.limit.holds and each.cost]
    return numbers[0] if numbers and not admission.degraded else None


def taken(admission: Admitted) -> list[Charged]:
    """Return what was granted: the units of each limit, and the time from which they may be used.

    A shadow that would have refused was charged nothing.
    """
    return [
        Charged(
            *(request.key.entity_id, request.key.resource, each.limit),
            0 if each.left_out else each.units,
            max(each.start, grant.now),
            each.since,
        )
        for request, grant in admission.grants
        for each in grant.receipts
    ]


def asked_of(statuses: Iterable[LimitStatus]) -> list[Charged]:
    """Return what was requested of the limits that were consulted."""
    return [Charged(each.entity_id, each.resource, each.limit, each.requested) for each in statuses]


def requested(requests: Iterable[Request]) -> list[Charged]:
    """Return what requests ask for, without limits of which they ask for nothing."""
    return [
        Charged(request.key.entity_id, request.key.resource, limit, units)
        for request in requests
        for limit, units in request.charges
        if units
    ]


def charged_buckets(call: Call, admission: Admitted) -> tuple[tuple[str, str], ...]:
    """Return the buckets that have a limit named by the call, and so had to be charged."""
    amounts = [target.amounts for target in call.targets]
    return tuple(
        (bucket.key.entity_id, bucket.key.resource)
        for bucket in admission.chain
        if any((asked := amounts[bucket.target]) is None or limit.name in asked for limit in bucket.limits)
    )
