# twin: sync_memory_repository.py
"""Buckets in the memory of this process: for tests, and for limiting while the table cannot be reached."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from .state import EMPTY, Outcome
from .validation import check_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .schema import BucketKey
    from .state import BucketState, Update


class MemoryRepository:
    """The same promises as `Repository`, within one process and for as long as it lives.

    Several limiters may share one instance, from any number of threads. Not for limits that several processes share.
    """

    def __init__(self, *, namespace: str = "default", clock: Callable[[], int] = time.time_ns) -> None:
        self.namespace = check_name("namespace", namespace)
        self.clock = clock
        self._buckets: dict[BucketKey, BucketState] = {}
        self._lock = threading.Lock()

    async def open(self) -> None:
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
        """The bucket's present state; an absent bucket is an empty one."""
        return self._buckets.get(key, EMPTY)

    async def write_bucket(self, key: BucketKey, update: Update) -> Outcome:
        """Apply `update` if all its conditions hold."""
        with self._lock:
            state = self._buckets.get(key, EMPTY)
            if not update.holds(state):
                return Outcome(state.stamp == update.stamp, state)
            after = self._buckets[key] = update.apply(state)
            return Outcome(True, after)
