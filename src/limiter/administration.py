# twin: sync_administration.py
"""Stored limits, entities and namespaces, and their changes at run time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .core.limits import check_level
from .core.records import EntityKey, EntityRecord, LimitsKey, plain_limits, scheduled, windows_of
from .core.resolution import MAX_DEPTH
from .core.schedule import check_schedule
from .core.validation import check_metadata, check_name, check_optional_name, shown
from .exceptions import EntityChanged, EntityExists, EntityNotFound, UnreadableItem, ValidationError
from .models import Entity
from .runtime.retry import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .core.limits import Access
    from .core.record_cache import RecordCache
    from .core.records import Limits, RecordKey
    from .core.schedule import Window, Windows
    from .models import BaseLimit
    from .repository_protocol import RepositoryProtocol

ATTEMPTS = 10
"""How many times a move of an entity is tried while other callers change the same chain."""
LONGEST_PAUSE = 3
"""The attempt after which the pauses no longer grow: a few tenths of a second."""


class Administration:
    """Changes and lists what is stored in the repository's namespace.

    A change applies in this process at once, and in other processes within the `config_ttl` of their limiters. With
    `stored=False` every call is a `ValidationError`, because the limiter would never read what it changes.
    """

    def __init__(self, repository: RepositoryProtocol, records: Callable[[], RecordCache], *, stored: bool = True) -> None:
        self.repository = repository
        self._records = records
        self._stored = stored

    @property
    def _store(self) -> RepositoryProtocol:
        """The repository, if limits are stored; raises `ValidationError` otherwise."""
        if not self._stored:
            raise ValidationError(
                "this limiter was made with stored=False, so it reads no stored limits, entities or namespaces: "
                "use a limiter without stored=False to change or list them"
            )
        return self.repository

    async def set_limits(
        self,
        limits: Iterable[BaseLimit] | Access,
        entity_id: str | None = None,
        resource: str | None = None,
        *,
        schedule: Windows = (),
    ) -> None:
        """Replace the limits of one level: of an entity, a resource, an entity for a resource, or of the namespace.

        UNLIMITED or BLOCKED replaces the list. `schedule` holds windows such as
        `("mon-fri 09:00-17:00", "Europe/Berlin", [...])`, which must not overlap: within a window its limits apply, and otherwise
        `limits`. Without a schedule, a stored schedule of the level is removed.

        Consumed units stay consumed. A higher capacity frees the difference at once, a lower one can put a bucket in debt, and a
        new rate begins with the units that were used under the old one. Raises `ValidationError` for unusable limits or ids.
        """
        key = _limits_key(entity_id, resource)
        checked = scheduled(check_level(limits), check_schedule(schedule))
        await self._store.write_limits(key, checked)
        self._records().put(key, checked)

    async def get_limits(self, entity_id: str | None = None, resource: str | None = None) -> Limits | None:
        """Return the limits stored at one level, or UNLIMITED or BLOCKED, read from the store; None if there are none.

        The limits of a schedule's windows are left out: `get_schedule` returns them.
        """
        return plain_limits(await self._read(_limits_key(entity_id, resource)))

    async def get_schedule(self, entity_id: str | None = None, resource: str | None = None) -> tuple[Window, ...]:
        """Return the windows in which other limits apply at one level, read from the store; empty without a schedule.

        A window is a tuple of its times, a time zone, and its limits.
        """
        return windows_of(await self._read(_limits_key(entity_id, resource)))

    async def delete_limits(self, entity_id: str | None = None, resource: str | None = None) -> None:
        """Remove one level with its schedule, so that the next less specific one applies; does nothing if it is not stored."""
        key = _limits_key(entity_id, resource)
        await self._store.write_limits(key, None)
        self._records().put(key, None)

    async def list_limits(self) -> dict[LimitsKey, Limits]:
        """Return every stored level by its entity and resource, without schedules. Reads the whole table: not for a hot path."""
        keys = await self._store.levels()
        records, _ = await self._store.read_records(keys)
        found: dict[LimitsKey, Limits] = {}
        for key in keys:
            value = records[key]
            if isinstance(value, UnreadableItem):
                raise value
            if (plain := plain_limits(value)) is not None:
                found[key] = plain
        return found

    async def create_entity(
        self,
        entity_id: str,
        *,
        parent_id: str | None = None,
        cascade: bool = True,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Entity:
        """Store an entity; with a parent and `cascade`, the parent is charged for everything that it consumes.

        Raises `EntityExists`, `EntityNotFound` for the parent, and `ValidationError` for a chain of more than eight.
        """
        check_name("entity_id", entity_id)
        check_optional_name("parent_id", parent_id)
        entity = Entity(entity_id, parent_id, bool(cascade), check_optional_name("name", name), check_metadata(metadata))
        for attempt in range(ATTEMPTS):
            await self._pause(attempt)
            if await self.get_entity(entity_id) is not None:
                raise EntityExists(f"entity {entity_id!r} exists already; use set_parent to move it")
            if await self._place(entity, None):
                return entity
        raise _contested(entity_id)

    async def put_entity(self, entity: Entity) -> Entity:
        """Store an entity as given: create it, or replace its parent, cascade, name and metadata.

        Raises `EntityNotFound` when the parent is not stored, and `ValidationError` for a cycle or a chain of more than eight.
        """
        given = _checked(entity)
        for attempt in range(ATTEMPTS):
            await self._pause(attempt)
            record = await self._entity(given.entity_id)
            if await self._place(given, record):
                return given
        raise _contested(given.entity_id)

    async def get_entity(self, entity_id: str) -> Entity | None:
        """Return a stored entity, read from the store; None if there is none."""
        record = await self._entity(check_name("entity_id", entity_id))
        return record.entity if record else None

    async def set_parent(self, entity_id: str, parent_id: str | None) -> Entity:
        """Move an entity, and everything below it, under another parent, or with None under no parent.

        Open leases settle with the buckets that they charged. Raises `EntityNotFound`, and `ValidationError` if a cycle or a
        chain of more than eight would result.
        """
        check_name("entity_id", entity_id)
        check_optional_name("parent_id", parent_id)
        for attempt in range(ATTEMPTS):
            await self._pause(attempt)
            record = await self._entity(entity_id)
            if record is None:
                raise EntityNotFound(f"entity {entity_id!r} is not registered; create it with create_entity")
            moved = replace(record.entity, parent_id=parent_id)
            if await self._place(moved, record):
                return moved
        raise _contested(entity_id)

    async def delete_entity(self, entity_id: str) -> None:
        """Remove an entity and its stored limits; its children then have no parent to charge. Its buckets stay until full."""
        for key in await self._store.delete_entity(check_name("entity_id", entity_id)):
            self._records().put(key, None)

    async def list_children(self, entity_id: str) -> tuple[Entity, ...]:
        """Return the entities that have this parent, by name; the list trails changes by a moment."""
        return tuple(record.entity for record in await self._children(check_name("entity_id", entity_id)))

    async def list_stored_entities(self) -> tuple[Entity, ...]:
        """Return every stored entity, sorted by id. Reads the whole table: not for a hot path."""
        return tuple(record.entity for record in await self._entity_records(await self._store.entities()))

    async def list_entities(self, resource: str) -> tuple[str, ...]:
        """Return the entities that have their own limits for a resource, by name; the list trails changes by a moment."""
        return await self._store.limited_entities(check_name("resource", resource))

    async def list_resources(self, entity_id: str) -> tuple[str, ...]:
        """Return the resources for which an entity has a bucket, by name."""
        return await self._store.resources(check_name("entity_id", entity_id))

    async def list_namespaces(self) -> tuple[str, ...]:
        """Return all namespaces in the table, by name. Reads the whole table: not for a hot path."""
        return await self._store.namespaces()

    async def delete_namespace(self, namespace: str) -> int:
        """Remove every bucket, limit and entity of a namespace, and return the number of items.

        Reads the whole table. After an interruption, call it again. Programs that still use the namespace begin with full
        buckets.
        """
        count = await self._store.delete_namespace(check_name("namespace", namespace))
        if namespace == self._store.namespace:
            self._records().clear()
        return count

    async def _read(self, key: RecordKey) -> object:
        records, _ = await self._store.read_records([key])
        value = records[key]
        if isinstance(value, UnreadableItem):
            raise value
        return value

    async def _entity(self, entity_id: str) -> EntityRecord | None:
        value = await self._read(EntityKey(entity_id))
        return value if isinstance(value, EntityRecord) else None

    async def _ancestry(self, entity_id: str, parent_id: str | None, height: int = 0) -> dict[str, str | None]:
        """Return the parents of all ancestors, nearest first, as if `entity_id`, with `height` generations below, were placed."""
        seen: dict[str, str | None] = {}
        while parent_id is not None:
            if parent_id == entity_id:
                raise ValidationError(
                    f"entity {entity_id!r} would become its own ancestor: {' > '.join([entity_id, *seen, parent_id])}"
                )
            record = await self._entity(parent_id)
            if record is None and not seen:
                raise EntityNotFound(f"parent entity {parent_id!r} is not registered; create it first")
            if record is None or parent_id in seen:
                break
            seen[parent_id] = record.entity.parent_id
            parent_id = seen[parent_id]
        if len(seen) + 1 + height > MAX_DEPTH:
            raise ValidationError(f"a chain of {len(seen) + 1 + height} entities is too deep; at most {MAX_DEPTH} are supported")
        return seen

    async def _place(self, entity: Entity, stored: EntityRecord | None) -> bool:
        """Store an entity below its parent, in place of `stored`; returns false if another caller changed the chain."""
        below = await self._descendants(entity.entity_id) if stored else []
        height = max((len(each.ancestors) for each in below), default=0)
        seen = await self._ancestry(entity.entity_id, entity.parent_id, height)
        before = stored.entity.parent_id if stored else None
        if not await self._link(EntityRecord(entity, tuple(seen)), seen, before, new=stored is None):
            return False
        for each in below:
            # Only a hint for reading their whole chain at once, so a concurrent change of their place does no harm.
            await self._link(replace(each, ancestors=each.ancestors + tuple(seen)), {}, each.entity.parent_id)
        return True

    async def _children(self, entity_id: str) -> list[EntityRecord]:
        found = await self._entity_records(await self._store.children(entity_id))
        return [record for record in found if record.entity.parent_id == entity_id]

    async def _entity_records(self, ids: Iterable[str]) -> list[EntityRecord]:
        """Return the stored entities among these ids; raises `UnreadableItem` for one that cannot be read."""
        keys = [EntityKey(each) for each in ids]
        records, _ = await self._store.read_records(keys)
        found = []
        for key in keys:
            value = records[key]
            if isinstance(value, UnreadableItem):
                raise value
            if isinstance(value, EntityRecord):
                found.append(value)
        return found

    async def _descendants(self, entity_id: str) -> list[EntityRecord]:
        """Return everything below an entity, each with its ancestors up to and including that entity."""
        found: list[EntityRecord] = []
        generation: list[tuple[str, ...]] = [(entity_id,)]
        while generation and len(generation[0]) <= MAX_DEPTH:
            below = []
            for line in generation:
                for child in await self._children(line[0]):
                    if child.entity.entity_id not in line:
                        found.append(EntityRecord(child.entity, line))
                        below.append((child.entity.entity_id, *line))
            generation = below
        return found

    async def _pause(self, attempt: int) -> None:
        """Wait before another attempt, at random, so that callers that change the same entities do not collide again."""
        if attempt:
            await backoff(min(attempt, LONGEST_PAUSE))

    async def _link(self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool = False) -> bool:
        try:
            await self._store.link_entity(record, seen, before, new=new)
        except EntityChanged:
            return False
        self._records().put(EntityKey(record.entity.entity_id), record)
        return True


def _checked(entity: Entity) -> Entity:
    """Return an entity all of whose parts are usable; raises `ValidationError`."""
    if not isinstance(entity, Entity):
        raise ValidationError(f"entity must be an Entity, not {shown(entity)}")
    return Entity(
        check_name("entity_id", entity.entity_id),
        check_optional_name("parent_id", entity.parent_id),
        bool(entity.cascade),
        check_optional_name("name", entity.name),
        check_metadata(entity.metadata),
    )


def _contested(entity_id: str) -> EntityChanged:
    return EntityChanged(f"entity {entity_id!r} was modified concurrently in {ATTEMPTS} attempts; try again")


def _limits_key(entity_id: str | None, resource: str | None) -> LimitsKey:
    return LimitsKey(check_optional_name("entity_id", entity_id), check_optional_name("resource", resource))
