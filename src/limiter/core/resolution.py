"""Stored limits and entities, and how they resolve to the buckets that a call charges.

A record is the limits of one level, or one entity. Levels, from the most to the least specific: an entity's limits for a
resource, its limits for any resource, a resource's limits for any entity, the namespace's. A level replaces those below it in
full.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import UnreadableItem
from .call import check_number
from .chain import Bucket
from .limits import Access
from .records import BucketKey, EntityKey, EntityRecord, LimitsKey, Record, ScheduledLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .call import Call
    from .records import Limits, RecordKey

MAX_DEPTH = 8
"""Entities in a chain, the charged one included."""


class Missing(Enum):
    """Stands for a record that is not known; None stands for one that does not exist."""

    MISSING = "missing"


MISSING = Missing.MISSING
Lookup = Record | UnreadableItem | Missing | None


class MissingRecords(NamedTuple):
    """The records to read before a chain can be resolved."""

    records: tuple[RecordKey, ...]


def levels(entity_id: str, resource: str) -> tuple[LimitsKey, ...]:
    """Return the levels that apply to an entity and a resource, the most specific first."""
    return LimitsKey(entity_id, resource), LimitsKey(entity_id), LimitsKey(None, resource), LimitsKey()


def resolve(call: Call, lookup: Callable[[RecordKey], Lookup], now: int) -> tuple[Bucket, ...] | MissingRecords:
    """Return the buckets of a call at `now`, the entity's own first; or the records that are needed to find them.

    Each target's chain is followed to its end. An ancestor that does not exist ends it, as does an entity that does not cascade,
    and a bucket that was reached before, which stays the earlier target's. Raises `UnreadableItem` when a record that matters
    could not be read, and `ValidationError` when there are too many buckets.
    """
    needed: list[RecordKey] = []
    chain: dict[BucketKey, Bucket] = {}
    for number, target in enumerate(call.targets):
        for key, record in _climb(target.key, chain, lookup):
            limits, until = None if chain else call.limits, None
            if limits is None:
                limits, until = _strongest(levels(key.entity_id, key.resource), lookup, needed, now)
            if record is MISSING:
                needed.append(EntityKey(key.entity_id))
            chain[key] = Bucket.of(key, call.defaults if limits is None else limits, number, until)
    check_number(len(chain))
    return MissingRecords(tuple(dict.fromkeys(needed))) if needed else tuple(chain.values())


def in_code(call: Call) -> tuple[Bucket, ...]:
    """Return the buckets of a call if nothing is stored: no levels, no parents."""
    own = Bucket.of(call.key, call.defaults if call.limits is None else call.limits)
    return (own, *(Bucket.of(target.key, call.defaults, number) for number, target in enumerate(call.also, 1)))


def _climb(
    key: BucketKey, chain: Mapping[BucketKey, Bucket], lookup: Callable[[RecordKey], Lookup]
) -> Iterator[tuple[BucketKey, Record | Missing | None]]:
    """Return the buckets from an entity's own up to the last known or expected ancestor, each with the entity's record."""
    current: str | None = key.entity_id
    hint: tuple[str, ...] = ()
    first = True
    while current is not None and (place := key._replace(entity_id=current)) not in chain:
        record = _readable(lookup(EntityKey(current)))
        if record is None and not first:
            break
        first = False
        yield place, record
        current, hint = _next(record, hint)


def _next(record: object, hint: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return the entity that follows in the chain, and the ones expected after it."""
    if isinstance(record, EntityRecord):
        parent = record.entity.parent_id if record.entity.cascade else None
        return parent, record.ancestors[1:] if record.ancestors[:1] == (parent,) else ()
    return (hint[0], hint[1:]) if record is MISSING and hint else (None, ())


def _strongest(
    keys: tuple[LimitsKey, ...], lookup: Callable[[RecordKey], Lookup], needed: list[RecordKey], now: int
) -> tuple[Limits | None, int | None]:
    """Return the limits of the most specific level at `now`, and until when they apply if they follow a schedule."""
    for key in keys:
        value = _readable(lookup(key))
        if value is MISSING:
            needed.append(key)
        elif isinstance(value, ScheduledLimits):
            present = value.at(now)
            return present.limits, present.until
        elif isinstance(value, tuple | Access):
            return value, None
    return None, None


def _readable(value: Lookup) -> Record | Missing | None:
    if isinstance(value, UnreadableItem):
        raise value
    return value
