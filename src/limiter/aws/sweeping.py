# twin: sync_sweeping.py
"""Deletes items whose `ttl` has passed, from tables without time to live, as those of several Regions are."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS
from ..models import Sweep
from ..runtime.concurrency import gather
from ..runtime.retry import ATTEMPTS
from . import queries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from . import schema
    from .table import Table

AT_ONCE = 8
"""The most deletions at the same time, since each may take a round trip between Regions."""
GRACE = 60 * NANOSECONDS
"""How long an item is kept after its `ttl`, for clocks that differ."""


class Sweeper:
    """Sweeps a table: `clock` returns nanoseconds since the epoch, `monotonic` monotonic seconds, and `sleep` waits seconds."""

    def __init__(
        self,
        table: Table,
        clock: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._table = table
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep

    async def sweep(
        self, max_rate: int, segment: int, segments: int, *, dry_run: bool, on_progress: Callable[[Sweep], None] | None
    ) -> Sweep:
        """Delete the expired items of a segment, at most `max_rate` a second; with `dry_run`, count them only."""
        done = Sweep()
        batch: list[schema.Item] = []
        scan = queries.expired_scan((self._clock() - GRACE) // NANOSECONDS, segment, segments)
        async for item in self._table.pages("Scan", scan):
            done = replace(done, expired=done.expired + 1)
            if dry_run:
                continue
            batch.append(item)
            if len(batch) == min(AT_ONCE, max_rate):
                done = await self._delete(batch, max_rate, done)
                batch = []
                if on_progress is not None:
                    on_progress(done)
        return await self._delete(batch, max_rate, done)

    async def _delete(self, items: list[schema.Item], max_rate: int, done: Sweep) -> Sweep:
        """Delete items at once, and wait until so many deletions are due."""
        due = self._monotonic() + len(items) / max_rate
        outcomes = await gather([partial(self._delete_item, item) for item in items])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        left = due - self._monotonic()
        if left > 0:
            await (self._sleep or asyncio.sleep)(left)
        deleted = sum(outcome is True for outcome in outcomes)
        return replace(done, deleted=done.deleted + deleted, renewed=done.renewed + len(items) - deleted)

    async def _delete_item(self, item: schema.Item) -> bool:
        """Delete an item unless it was written anew since it was read; an item that is gone counts as deleted."""
        from botocore.exceptions import ClientError

        try:
            await self._table.call("DeleteItem", queries.expired_deletion(self._table.name, item), attempts=ATTEMPTS)
        except ClientError:
            return False
        return True
