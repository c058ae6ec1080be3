"""Keys and values of stored records: buckets, levels of limits, entities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..models import BaseLimit
from .limits import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..models import Entity
    from .schedule import Schedule, Window


class BucketKey(NamedTuple):
    """The key of a bucket: a namespace, an entity and a resource."""

    namespace: str
    entity_id: str
    resource: str


class LimitsKey(NamedTuple):
    """One level of stored limits: an entity's, a resource's, or with both None the namespace's."""

    entity_id: str | None = None
    resource: str | None = None


class EntityKey(NamedTuple):
    """One stored entity."""

    entity_id: str


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """A stored entity, and the ancestors that it had when its place was last written, its parent first.

    The ancestors are a hint that lets a whole chain be read at once; what counts is each entity's own parent.
    """

    entity: Entity
    ancestors: tuple[str, ...] = ()


def missing_ancestor(seen: Mapping[str, str | None]) -> str | None:
    """Return the parent that the last of a chain names and that does not exist, given each ancestor's parent; None otherwise."""
    return next((parent for parent in seen.values() if parent is not None and parent not in seen), None)


Limits = tuple[BaseLimit, ...] | Access


class Present(NamedTuple):
    """The limits of a level that apply from `since` until before `until`, in nanoseconds since the epoch."""

    limits: Limits
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class ScheduledLimits:
    """A level whose `plain` limits apply outside the windows of its schedule, which has at least one."""

    plain: Limits
    schedule: Schedule
    _last: Present | None = field(default=None, init=False, repr=False, compare=False)

    def at(self, now: int) -> Present:
        """Return the limits that apply at `now`, in nanoseconds since the epoch; computed once for the time until they change."""
        last = self._last
        if last is None or not last.since <= now < last.until:
            last = Present(self.schedule.limits_at(now, self.plain), now, self.schedule.next_change(now) or now + 1)
            object.__setattr__(self, "_last", last)
        return last


def scheduled(plain: Limits, schedule: Schedule) -> Limits | ScheduledLimits:
    """Return the record of a level with these limits outside the windows of `schedule`."""
    return ScheduledLimits(plain, schedule) if schedule.windows else plain


def plain_limits(record: object) -> Limits | None:
    """Return the limits of a level's record outside the windows of its schedule; None if it is no level."""
    plain = record.plain if isinstance(record, ScheduledLimits) else record
    return plain if isinstance(plain, tuple | Access) else None


def windows_of(record: object) -> tuple[Window, ...]:
    """Return the windows of a level's schedule; empty without a schedule."""
    return record.schedule.windows if isinstance(record, ScheduledLimits) else ()


RecordKey = LimitsKey | EntityKey


class CacheableKeys(tuple[RecordKey, ...]):
    """The keys of records that are read for a cache: a copy that misses the writes of the last second will do.

    A store may read them for less, or like any other keys.
    """

    __slots__ = ()


Record = Limits | ScheduledLimits | EntityRecord
