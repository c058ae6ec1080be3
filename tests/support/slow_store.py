"""A repository for asyncio with slow writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limiter import MemoryRepository
    from limiter.core.records import BucketKey
    from limiter.core.state import Update, WriteResult


class Slow:
    """A repository whose writes take a number of turns of the loop, given for each entity."""

    def __init__(self, inner: MemoryRepository, turns: dict[str, int]) -> None:
        self.inner, self.turns = inner, turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        for _ in range(self.turns[key.entity_id]):
            await asyncio.sleep(0)
        return await self.inner.write_bucket(key, update)
