# twin: sync_linking.py
"""Stores an entity below its parent, all or nothing, without a transaction, which a table of several Regions refuses.

The entity is marked first. Then its ancestors are read, each of which must be as it was seen; a mark of another link is removed
from them. Last the entity is written, if it still has its own mark. Of two links that each read what the other writes, the one
that reads later sees the other's mark, or what the other has written. So both never succeed, and neither do links that together
would make a ring. A mark that a crash leaves behind has no effect but one write of the next link that reads it. See ADR-190.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..exceptions import EntityChanged, Throttled
from ..runtime.retry import Retry
from . import queries, schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ..core.records import EntityRecord
    from .table import Table


class Linker:
    """Links the entities of one namespace of a table; `read` returns the items of keys, by a consistent read."""

    def __init__(
        self, table: Table, namespace: str, read: Callable[[list[schema.Item]], Awaitable[dict[tuple[str, str], schema.Item]]]
    ) -> None:
        self._table = table
        self._namespace = namespace
        self._read = read

    async def link(self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool) -> None:
        """Store an entity that is `new` or has the parent `before`, whose ancestors are as `seen`; else raise `EntityChanged`."""
        writes = queries.LinkWrites(self._table.name, self._namespace, record, os.urandom(9).hex())
        if not seen:
            await self._write("PutItem", writes.put(before, new=new), record)
            return
        await self._write("UpdateItem", writes.mark(before, new=new), record)
        try:
            for ancestor, mark in (await self._marks(record, seen)).items():
                await self._remove(writes, ancestor, mark, stored=ancestor in seen)
            await self._write("PutItem", writes.put_marked(), record)
        except EntityChanged:
            if new:
                with suppress(EntityChanged):  # Another link uses the item.
                    await self._remove(writes, record.entity.entity_id, writes.own, stored=False)
            raise

    async def _remove(self, writes: queries.LinkWrites, entity_id: str, mark: str, *, stored: bool) -> None:
        """Remove a mark, and with it the item of an entity that is not stored."""
        if stored:
            await self._write("UpdateItem", writes.unmark(entity_id, mark), writes.record)
        else:
            await self._write("DeleteItem", writes.remove_mark(entity_id, mark), writes.record)

    async def _marks(self, record: EntityRecord, seen: Mapping[str, str | None]) -> dict[str, str]:
        """Return the marks of the ancestors that have one; raises `EntityChanged` if an ancestor is not as it was seen."""
        keys = {ancestor: queries.entity_key(self._namespace, ancestor) for ancestor in queries.ancestors(seen)}
        found = await self._read(list(keys.values()))
        items = {ancestor: found.get(schema.item_key(key)) for ancestor, key in keys.items()}
        if any(schema.link_of(item) != (ancestor in seen, seen.get(ancestor)) for ancestor, item in items.items()):
            raise _changed(record)
        return {ancestor: mark for ancestor, item in items.items() if (mark := schema.mark_of(item))}

    async def _write(self, action: str, parameters: dict[str, Any], record: EntityRecord) -> None:
        """Make a write, and repeat it only while it is throttled, and so certainly not applied."""
        from botocore.exceptions import ClientError

        retry = Retry()
        while True:
            try:
                await self._table.call(action, parameters)
                return
            except Throttled:
                if retry.is_over():
                    raise
            except ClientError as error:
                raise _changed(record) from error
            await retry.backoff()


def _changed(record: EntityRecord) -> EntityChanged:
    return EntityChanged(f"entity {record.entity.entity_id!r} or one of its ancestors was modified concurrently; try again")
