# twin: sync_memory_repository.py
"""Buckets and records in the memory of this process: for tests, and for limiting while the table cannot be reached."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NoReturn, Self

from .core.forgetting import is_forgettable
from .core.records import EntityKey, EntityRecord, LimitsKey, missing_ancestor
from .core.state import EMPTY, WriteResult
from .core.validation import check_clock, check_name
from .exceptions import EntityChanged, ValidationError
from .runtime.scope import ProcessLocal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from .core.records import BucketKey, Record, RecordKey
    from .core.resolution import Lookup
    from .core.state import BucketState, Update

LOOKED_AT = 2
"""Buckets that are examined for each new one."""


class MemoryRepository:
    """Keeps the promises of `Repository` within one process and for as long as the object lives.

    Several limiters may share one instance, from any number of threads. Not for limits that several processes share. Buckets that
    are full again are forgotten while others are written.

    - `namespace`: the namespace of all limits, entities and buckets.
    - `clock`: returns integer nanoseconds since the epoch, on which every decision is based.
    """

    def __init__(self, *, namespace: str = "default", clock: Callable[[], int] = time.time_ns) -> None:
        self.namespace = check_name("namespace", namespace)
        self.clock = check_clock(clock)
        self._buckets: OrderedDict[BucketKey, BucketState] = OrderedDict()
        self._records: dict[RecordKey, Record] = {}
        self._locks = ProcessLocal(threading.Lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} namespace={self.namespace!r}>"

    def __reduce__(self) -> NoReturn:
        """Raise: a copy would count separately, so its limits would be added to these."""
        raise ValidationError(
            f"{self!r} cannot be pickled or copied, since each copy would allow its limits once more: share it between the "
            "limiters of one process, and use a Repository for several"
        )

    async def open(self) -> None:
        """Do nothing: memory is always open."""

    async def prepare(self) -> None:
        """Do nothing: memory is always open."""

    async def close(self) -> None:
        """Do nothing: what is stored stays until the instance is collected."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """Return the bucket's present state. An absent bucket is an empty one, and a full one is removed."""
        with self._locks.get():
            self._forget(key, self.clock())
            return self._buckets.get(key, EMPTY)

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Apply `update` if all its conditions hold."""
        with self._locks.get():
            state = self._buckets.get(key, EMPTY)
            if not update.holds(state):
                return WriteResult(state.has_stamp(update.stamp), state)
            if key not in self._buckets:
                self._forget_oldest()
            after = self._buckets[key] = update.apply(state)
            return WriteResult(True, after)

    async def read_records(
        self, keys: Sequence[RecordKey], buckets: Sequence[BucketKey] = ()
    ) -> tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]]:
        """Return records, and buckets with them."""
        with self._locks.get():
            return {key: self._records.get(key) for key in keys}, {key: self._buckets.get(key, EMPTY) for key in buckets}

    async def write_limits(self, key: LimitsKey, limits: Record | None) -> None:
        """Store a level of limits, or remove it."""
        with self._locks.get():
            if limits is None:
                self._records.pop(key, None)
            else:
                self._records[key] = limits

    async def link_entity(
        self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool = False
    ) -> None:
        """Store an entity that is `new` or has the parent `before`, while each of its ancestors has the parent that was `seen`.

        An entity that is named as a parent there, and not seen itself, must not exist. Raises `EntityChanged` otherwise.
        """
        key = EntityKey(record.entity.entity_id)
        with self._locks.get():
            stands = key not in self._records if new else self._has_parent(key.entity_id, before)
            missing = missing_ancestor(seen)
            stands = stands and (missing is None or EntityKey(missing) not in self._records)
            if not stands or not all(self._has_parent(ancestor, parent) for ancestor, parent in seen.items()):
                raise EntityChanged(f"entity {key.entity_id!r} or one of its ancestors was modified concurrently; try again")
            self._records[key] = record

    async def delete_entity(self, entity_id: str) -> tuple[RecordKey, ...]:
        """Remove an entity and its stored limits, and return what was removed; its buckets stay until they are full."""
        with self._locks.get():
            keys = tuple(key for key in self._records if key.entity_id == entity_id)
            for key in keys:
                del self._records[key]
        return (*keys, EntityKey(entity_id))

    async def children(self, entity_id: str) -> tuple[str, ...]:
        """Return the entities that have this parent, by name."""
        with self._locks.get():
            return tuple(sorted(each.entity.entity_id for each in self._entities() if each.entity.parent_id == entity_id))

    async def limited_entities(self, resource: str) -> tuple[str, ...]:
        """Return the entities that have their own limits for a resource, by name."""
        with self._locks.get():
            keys = [key for key in self._records if isinstance(key, LimitsKey) and key.resource == resource]
        return tuple(sorted(key.entity_id for key in keys if key.entity_id is not None))

    async def levels(self) -> tuple[LimitsKey, ...]:
        """Return all levels of limits that are stored in the namespace."""
        with self._locks.get():
            return tuple(key for key in self._records if isinstance(key, LimitsKey))

    async def entities(self) -> tuple[str, ...]:
        """Return the ids of all stored entities of the namespace, sorted."""
        with self._locks.get():
            return tuple(sorted(each.entity.entity_id for each in self._entities()))

    async def buckets(self) -> dict[BucketKey, BucketState]:
        """Return all buckets of the namespace with their states."""
        with self._locks.get():
            return dict(self._buckets)

    async def resources(self, entity_id: str) -> tuple[str, ...]:
        """Return the resources for which an entity has a bucket, by name."""
        with self._locks.get():
            return tuple(sorted(key.resource for key in self._buckets if key.entity_id == entity_id))

    async def namespaces(self) -> tuple[str, ...]:
        """Return all namespaces in the store, by name."""
        with self._locks.get():
            return (self.namespace,) if self._buckets or self._records else ()

    async def delete_namespace(self, namespace: str) -> int:
        """Remove everything in a namespace, and return the number of items; safe to repeat."""
        if namespace != self.namespace:
            return 0
        with self._locks.get():
            count = len(self._buckets) + len(self._records)
            self._buckets.clear()
            self._records.clear()
            return count

    def _forget(self, key: BucketKey, now: int) -> bool:
        state = self._buckets.get(key)
        if state is None or not is_forgettable(state, now):
            return False
        del self._buckets[key]
        return True

    def _forget_oldest(self) -> None:
        """Examine a few buckets for each new one, so that full ones do not outnumber the others for long."""
        now = self.clock()
        for _ in range(min(LOOKED_AT, len(self._buckets))):
            key = next(iter(self._buckets))
            if not self._forget(key, now):
                self._buckets.move_to_end(key)

    def _entities(self) -> list[EntityRecord]:
        return [record for record in self._records.values() if isinstance(record, EntityRecord)]

    def _has_parent(self, entity_id: str, parent: str | None) -> bool:
        record = self._records.get(EntityKey(entity_id))
        return isinstance(record, EntityRecord) and record.entity.parent_id == parent
