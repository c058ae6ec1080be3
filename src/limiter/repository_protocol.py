# twin: sync_repository_protocol.py
"""What a store of buckets must be able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .schema import BucketKey
    from .state import BucketState, Outcome, Update


class RepositoryProtocol(Protocol):
    """A store of buckets. Updates of one bucket are atomic; every read sees every update that was answered before it."""

    @property
    def namespace(self) -> str:
        """The tenant whose buckets these are."""

    @property
    def clock(self) -> Callable[[], int]:
        """The time in nanoseconds since the epoch."""

    async def open(self) -> None:
        """Make the store ready; does nothing when it is."""

    async def close(self) -> None:
        """Release what `open` acquired; does nothing when it is closed."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """The bucket's present state; an absent bucket is an empty one."""

    async def write_bucket(self, key: BucketKey, update: Update) -> Outcome:
        """Apply `update` if all its conditions hold.

        Raises `RateLimiterUnavailable` when the store did not answer, and tells whether the update may have been applied.
        """
