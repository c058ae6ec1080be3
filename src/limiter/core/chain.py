"""The buckets of an entity's chain, and the requests that a call makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import ValidationError
from .limits import unknown_limit
from .request import Charge, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..models import Prefetch
    from .call import Call
    from .limits import Limit
    from .records import BucketKey


class Bucket(NamedTuple):
    """One bucket of an entity's chain, and the limits that apply to it."""

    key: BucketKey
    limits: tuple[Limit, ...]


def requests(chain: Sequence[Bucket], amounts: Mapping[str, int] | None, prefetch: Prefetch | None = None) -> tuple[Request, ...]:
    """The requests that `amounts` makes of the buckets of the chain; without amounts, 1 of every limit.

    A limit that is not named is not consulted, and a bucket of which nothing is asked is left out. Raises `ValidationError` for a
    name that no bucket of the chain has, and when no limits apply at all.
    """
    if not any(bucket.limits for bucket in chain):
        key = chain[0].key
        raise ValidationError(
            f"no limits apply to entity {key.entity_id!r} and resource {key.resource!r}: "
            "pass limits= to the call or to the limiter, or store some with set_limits"
        )
    if amounts is not None:
        check_known(chain, amounts)
    asked = [(bucket.key, _charges(bucket, amounts)) for bucket in chain]
    return tuple([Request(key, charges, prefetch=prefetch) for key, charges in asked if charges])


def own_requests(call: Call) -> tuple[Request, ...]:
    """What the call asks of the entity's own bucket, as far as it is known before anything is read."""
    if not call.limits:
        return ()
    known = {limit.name for limit in call.limits}
    amounts = None if call.amounts is None else {name: units for name, units in call.amounts.items() if name in known}
    return requests((Bucket(call.key, call.limits),), amounts)


def check_known(chain: Sequence[Bucket], names: Iterable[str]) -> None:
    """Raise `ValidationError` for a name that no bucket of the chain has a limit for."""
    known = {limit.name for bucket in chain for limit in bucket.limits}
    for name in names:
        if name not in known:
            raise unknown_limit(name, known)


def _charges(bucket: Bucket, amounts: Mapping[str, int] | None) -> tuple[Charge, ...]:
    if amounts is None:
        return tuple(Charge(limit, 1) for limit in bucket.limits)
    return tuple(Charge(limit, amounts[limit.name]) for limit in bucket.limits if limit.name in amounts)
