"""The buckets that a call charges, and the requests that it makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import ValidationError
from .allotment import allots
from .headroom import reserves
from .limits import BLOCKED, Access, unknown_limit
from .request import Charge, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..models import BaseLimit
    from .call import Call
    from .records import BucketKey, Limits


class Bucket(NamedTuple):
    """One bucket that a call charges, and the limits that apply to it: none if its level is the constant `access`.

    `target` is the number of the target that led to it; the call's own target has the number 0. A schedule may change the limits
    at `until`, in nanoseconds since the epoch; None without a schedule.
    """

    key: BucketKey
    limits: tuple[BaseLimit, ...]
    access: Access | None = None
    target: int = 0
    until: int | None = None

    @classmethod
    def of(cls, key: BucketKey, limits: Limits, target: int = 0, until: int | None = None) -> Bucket:
        """Return the bucket to which the level `limits` applies."""
        return cls(key, (), limits, target, until) if isinstance(limits, Access) else cls(key, limits, None, target, until)


def requests(chain: Sequence[Bucket], amounts: Mapping[str, int] | None) -> tuple[Request, ...]:
    """Return the requests that `amounts` makes of every bucket; without amounts, 1 of every limit.

    A limit that is not named is not consulted, and a bucket without charges is left out. Raises `ValidationError` for a name that
    no bucket has, and when no limits apply at all.
    """
    if amounts is not None:
        check_known(chain, amounts)
    return _requests(chain, (amounts,))


def call_requests(chain: Sequence[Bucket], call: Call) -> tuple[Request, ...]:
    """Return the requests of a call to its buckets, each with the amounts of the target that led to it first."""
    if call.also:
        check_known(chain, call.names)
        asked = _requests(chain, [target.amounts for target in call.targets])
    else:
        asked = requests(chain, call.amounts)
    return _as_asked(asked, call)


def own_requests(call: Call) -> tuple[Request, ...]:
    """Return the requests to the entity's own bucket that are known before anything is read."""
    if not call.limits or isinstance(call.limits, Access):
        return ()
    known = {limit.name for limit in call.limits}
    amounts = None if call.amounts is None else {name: units for name, units in call.amounts.items() if name in known}
    return _as_asked(requests((Bucket(call.key, call.limits),), amounts), call)


def _as_asked(asked: tuple[Request, ...], call: Call) -> tuple[Request, ...]:
    """Return the requests with the headroom of the call, or with its permission to exceed a capacity."""
    if call.headroom is None and not call.oversize:
        return asked
    return tuple(
        [
            each._replace(
                headroom=reserves(each.charges, call.headroom), oversize=call.oversize, allots=each.allots and not call.oversize
            )
            for each in asked
        ]
    )


def own_amounts(chain: Sequence[Bucket], call: Call) -> dict[str, int]:
    """Return the units that a call asks for without amounts, by limit name: 1 of every limit of such targets."""
    reached = {0, *(number for number, target in enumerate(call.also, 1) if target.amounts is None)}
    return {limit.name: 1 for bucket in chain if bucket.target in reached for limit in bucket.limits}


def blocked(chain: Iterable[Bucket]) -> BucketKey | None:
    """Return the first bucket whose level is BLOCKED, or None."""
    return next((bucket.key for bucket in chain if bucket.access is BLOCKED), None)


def next_change(chain: Iterable[Bucket]) -> int | None:
    """Return when a schedule may change the limits of a bucket, in nanoseconds since the epoch; None without schedules."""
    return min((bucket.until for bucket in chain if bucket.until is not None), default=None)


def check_known(chain: Sequence[Bucket], names: Iterable[str]) -> None:
    """Raise `ValidationError` for a name that no bucket has a limit for. A bucket without limits accepts any name."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    for name in names:
        if name not in known and not any(bucket.access for bucket in chain):
            raise unknown_limit(name, known)


def check_no_slots(chain: Sequence[Bucket], names: Iterable[str]) -> None:
    """Raise `ValidationError` for a name of slots. They cannot be corrected, because a lease holds each until its end."""
    held = {limit.name for bucket in chain for limit in bucket.limits if limit.holds}
    for name in names:
        if name in held:
            raise ValidationError(
                f"slots of {name!r} cannot be adjusted: a lease holds them until its end, or until lease.release({name}=1)"
            )


def check_held(requests: Iterable[Request]) -> None:
    """Raise `ValidationError` if a call without a lease would take slots."""
    names = [limit.name for request in requests if request.slots for limit, units in request.charges if limit.holds and units]
    if names:
        raise ValidationError(
            f"try_acquire cannot take slots of {names[0]!r}, since no lease would hold them: use acquire, or leave {names[0]!r}"
            " out of consume"
        )


def _requests(chain: Sequence[Bucket], amounts: Sequence[Mapping[str, int] | None]) -> tuple[Request, ...]:
    if not any(bucket.limits or bucket.access for bucket in chain):
        key = chain[0].key
        raise ValidationError(
            f"no limits apply to entity {key.entity_id!r} and resource {key.resource!r}: "
            "pass limits= to the call or to the limiter, or store some with set_limits"
        )
    asked = [(bucket, _charges(bucket, amounts[bucket.target if len(amounts) > 1 else 0])) for bucket in chain]
    return tuple([_request(bucket, charges) for bucket, charges in asked if charges])


def _request(bucket: Bucket, charges: tuple[Charge, ...]) -> Request:
    slots = any(limit.holds for limit, _ in charges)
    return Request(bucket.key, charges, allots=allots(charges), scheduled=bucket.until is not None, slots=slots)


def _charges(bucket: Bucket, amounts: Mapping[str, int] | None) -> tuple[Charge, ...]:
    if amounts is None:
        return tuple(Charge(limit, 1) for limit in bucket.limits)
    return tuple(Charge(limit, amounts[limit.name]) for limit in bucket.limits if limit.name in amounts)
