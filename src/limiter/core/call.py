"""What a call asks for, and the checks of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from ..exceptions import ValidationError
from .records import BucketKey
from .validation import check_amounts, check_name, shown

if TYPE_CHECKING:
    from .headroom import Headroom
    from .records import Limits

OnUnavailable = Literal["block", "allow", "local"]
Also = Iterable[tuple[str, str] | tuple[str, str, Mapping[str, int] | None]]
MAX_BUCKETS = 16
"""Buckets that one call may charge, chains included."""


class Target(NamedTuple):
    """An entity, with its chain, and a resource that a call charges; `amounts` of None stand for 1 of every limit."""

    key: BucketKey
    amounts: Mapping[str, int] | None


class Call(NamedTuple):
    """A call that charges the entity and resource in `key`, and the targets in `also`: all or none.

    `amounts` are units by limit name; None asks for 1 of every limit. `limits` replace the entity's own limits; `defaults` apply
    if nothing is stored. The caller waits up to `patience` nanoseconds for its turn. It arrived at `asked` (monotonic seconds).
    It leaves `headroom` to others. With `oversize` an amount above a capacity is admitted when the bucket is full. `for_good`
    means that no lease can refund anything.
    """

    key: BucketKey
    amounts: Mapping[str, int] | None
    limits: Limits | None
    defaults: Limits
    patience: int = 0
    on_unavailable: OnUnavailable = "block"
    asked: float = 0.0
    also: tuple[Target, ...] = ()
    headroom: Headroom = None
    oversize: bool = False
    for_good: bool = False

    @property
    def targets(self) -> tuple[Target, ...]:
        """Everything that is charged, the call's own target first."""
        return (Target(self.key, self.amounts), *self.also)

    @property
    def names(self) -> set[str]:
        """Every limit that is asked for by name."""
        return {name for target in self.targets for name in target.amounts or ()}


def check_policy(policy: str) -> OnUnavailable:
    """Return `policy` if it is one of the policies for outages."""
    if policy not in get_args(OnUnavailable):
        raise ValidationError(f"on_unavailable must be one of {', '.join(get_args(OnUnavailable))}, not {shown(policy)}")
    return policy  # type: ignore[return-value] # one of the literals, as just checked


def check_also(also: object, own: BucketKey, amounts: Mapping[str, int] | None) -> tuple[Target, ...]:
    """Return the targets besides the `own` one; targets without amounts are charged the amounts of the call.

    `also` contains pairs of an entity and a resource, or triples with amounts. No target may be named twice.
    """
    if also is None or also == ():
        return ()
    if isinstance(also, str | bytes) or not hasattr(also, "__iter__"):
        raise ValidationError(f'also must be a list of targets such as [("everybody", "search")], not {shown(also)}')
    targets = [_target(each, own.namespace, amounts) for each in also]
    seen = {own}
    for key, _ in targets:
        if key in seen:
            raise ValidationError(
                f"the target {key.entity_id!r}/{key.resource!r} is named twice: name each once, in also or before"
            )
        seen.add(key)
    check_number(len(seen))
    return tuple(targets)


def check_number(buckets: int) -> None:
    """Raise `ValidationError` if a call charges too many buckets."""
    if buckets > MAX_BUCKETS:
        raise ValidationError(
            f"{buckets} buckets are too many for one call: name fewer in also; at most {MAX_BUCKETS}, parents included"
        )


def _target(each: object, namespace: str, amounts: Mapping[str, int] | None) -> Target:
    parts = tuple(each) if isinstance(each, tuple | list) else ()
    if len(parts) not in (2, 3):
        raise ValidationError(
            'a target in also must be like ("everybody", "search") or ("everybody", "search", {"requests": 1}), '
            f"not {shown(each)}"
        )
    key = BucketKey(namespace, check_name("entity_id in also", parts[0]), check_name("resource in also", parts[1]))
    given = parts[2] if len(parts) == 3 else None
    return Target(key, amounts if given is None else check_amounts(given))
