"""What is stored about limits and entities, and how it resolves to the buckets that a call charges.

A record is the limits of one level, or one entity. Levels, from the strongest to the weakest: an entity's limits for a resource,
its limits for any resource, a resource's limits for any entity, the namespace's. A level replaces those below it, whole.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import UnreadableItem
from .chain import Bucket
from .records import BucketKey, EntityKey, EntityRecord, LimitsKey, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from .call import Call
    from .limits import Limit
    from .records import RecordKey

MAX_DEPTH = 8
"""Entities in a chain, the charged one included."""


class Missing(Enum):
    """Stands for a record that is not known, as None stands for one that does not exist."""

    MISSING = "missing"


MISSING = Missing.MISSING
Lookup = Record | UnreadableItem | Missing | None


class MissingRecords(NamedTuple):
    """What has to be read before a chain can be resolved, and the buckets that are new as well."""

    records: tuple[RecordKey, ...]
    buckets: tuple[BucketKey, ...]


def levels(entity_id: str, resource: str) -> tuple[LimitsKey, ...]:
    """The levels that apply to an entity and a resource, the strongest first."""
    return LimitsKey(entity_id, resource), LimitsKey(entity_id), LimitsKey(None, resource), LimitsKey()


def resolve(call: Call, lookup: Callable[[RecordKey], Lookup]) -> tuple[Bucket, ...] | MissingRecords:
    """The chain of buckets, the entity's own first; or all that is needed to know it, as far as that can be told.

    An ancestor that does not exist ends the chain, as does an entity that does not cascade. Raises `UnreadableItem` when a record
    that matters could not be read.
    """
    needed: list[RecordKey] = []
    cold: list[BucketKey] = []
    chain: dict[str, Bucket] = {}
    current: str | None = call.key.entity_id
    hint: tuple[str, ...] = ()
    while current is not None and current not in chain:
        record = _readable(lookup(EntityKey(current)))
        if record is None and chain:
            break
        before = len(needed)
        limits = call.limits if call.limits is not None and not chain else None
        if limits is None:
            limits = _strongest(levels(current, call.key.resource), lookup, needed)
        if record is MISSING:
            needed.append(EntityKey(current))
        key = BucketKey(call.key.namespace, current, call.key.resource)
        chain[current] = Bucket(key, call.defaults if limits is None else limits)
        if len(needed) > before:
            cold.append(key)
        current, hint = _next(record, hint)
    return MissingRecords(tuple(dict.fromkeys(needed)), tuple(cold)) if needed else tuple(chain.values())


def _next(record: object, hint: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The entity that follows in the chain, and the ones expected after it."""
    if isinstance(record, EntityRecord):
        parent = record.entity.parent_id if record.entity.cascade else None
        return parent, record.ancestors[1:] if record.ancestors[:1] == (parent,) else ()
    return (hint[0], hint[1:]) if record is MISSING and hint else (None, ())


def _strongest(
    keys: tuple[LimitsKey, ...], lookup: Callable[[RecordKey], Lookup], needed: list[RecordKey]
) -> tuple[Limit, ...] | None:
    for key in keys:
        value = _readable(lookup(key))
        if value is MISSING:
            needed.append(key)
        elif isinstance(value, tuple):
            return value
    return None


def _readable(value: Lookup) -> Record | Missing | None:
    if isinstance(value, UnreadableItem):
        raise value
    return value
