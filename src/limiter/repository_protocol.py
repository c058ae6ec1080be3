# twin: sync_repository_protocol.py
"""The protocol of a store of buckets and records, and every type that its methods name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from .core.limits import Access
from .core.records import BucketKey, CacheableKeys, EntityKey, EntityRecord, Limits, LimitsKey, Record, RecordKey, ScheduledLimits
from .core.resolution import MISSING, Lookup, Missing
from .core.schedule import Schedule, Window
from .core.state import BucketState, Change, Condition, Level, Update, WriteResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

__all__ = [
    "MISSING",
    "Access",
    "BucketKey",
    "BucketState",
    "BucketStore",
    "CacheableKeys",
    "Change",
    "Condition",
    "EntityKey",
    "EntityRecord",
    "Level",
    "Limits",
    "LimitsKey",
    "Lookup",
    "Missing",
    "Record",
    "RecordKey",
    "RecordStore",
    "RepositoryProtocol",
    "Schedule",
    "ScheduledLimits",
    "Update",
    "Window",
    "WriteResult",
]


class BucketStore(Protocol):
    """A store of buckets, each of which is written atomically and read as last written."""

    @property
    def clock(self) -> Callable[[], int]:
        """The time in nanoseconds since the epoch."""

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """Return the bucket's present state. An absent bucket is an empty one."""

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Apply `update` if all its conditions hold.

        Raises `RateLimiterUnavailable` if the store did not respond; its `unsent` tells whether the update may have been applied.
        """


class RecordStore(Protocol):
    """A store of one namespace's limits and entities, each of which is written atomically and read as last written."""

    @property
    def namespace(self) -> str:
        """The namespace of these buckets and records."""

    async def read_records(
        self, keys: Sequence[RecordKey], buckets: Sequence[BucketKey] = ()
    ) -> tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]]:
        """Return records, and buckets with them, in one round trip.

        What is returned is what was written last; for `CacheableKeys` it may be some seconds old.
        """

    async def write_limits(self, key: LimitsKey, limits: Record | None) -> None:
        """Store a level of limits, or remove it."""

    async def link_entity(
        self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool = False
    ) -> None:
        """Store an entity that is `new` or has the parent `before`, while each of its ancestors has the parent that was `seen`.

        An entity that is named as a parent there, and not seen itself, must not exist. Raises `EntityChanged` otherwise.
        """

    async def delete_entity(self, entity_id: str) -> tuple[RecordKey, ...]:
        """Remove an entity and its stored limits, and return what was removed; its buckets stay until they are full."""

    async def children(self, entity_id: str) -> tuple[str, ...]:
        """Return the entities that have this parent, by name."""

    async def limited_entities(self, resource: str) -> tuple[str, ...]:
        """Return the entities that have their own limits for a resource, by name."""

    async def levels(self) -> tuple[LimitsKey, ...]:
        """Return all levels of limits that are stored in the namespace."""

    async def entities(self) -> tuple[str, ...]:
        """Return the ids of all stored entities of the namespace, sorted."""

    async def buckets(self) -> dict[BucketKey, BucketState]:
        """Return all buckets of the namespace with their states, which may be some seconds old."""

    async def resources(self, entity_id: str) -> tuple[str, ...]:
        """Return the resources for which an entity has a bucket, by name."""

    async def namespaces(self) -> tuple[str, ...]:
        """Return all namespaces in the store, by name."""

    async def delete_namespace(self, namespace: str) -> int:
        """Remove everything in a namespace, and return the number of items; safe to repeat."""


class RepositoryProtocol(BucketStore, RecordStore, Protocol):
    """A store of one namespace's buckets and records, which can be opened and closed."""

    async def open(self) -> None:
        """Make the store ready; does nothing if it is."""

    async def prepare(self) -> None:
        """Prepare the store for its first call, without calling it."""

    async def close(self) -> None:
        """Release what `open` acquired; does nothing if the store is closed."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
