"""The queues of the buckets that a process has used lately; those that have not been used for longest are forgotten."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.records import BucketKey

MAX_QUEUES = 100_000
"""Buckets whose last state is remembered. A forgotten bucket costs a second write when it is used again."""


class Forgettable(Protocol):
    """A queue, as far as it matters for whether it can be forgotten; see `BucketQueue`."""

    @property
    def is_idle(self) -> bool:
        """Whether no call is in progress, and nothing is held."""


Q = TypeVar("Q", bound=Forgettable)


class Queues(OrderedDict["BucketKey", Q]):
    """The queues by bucket, about `most` of them, in the order of their last use, which callers keep with `move_to_end`.

    The caller holds the committer's lock.
    """

    def __init__(self, make: Callable[[BucketKey], Q], most: int | None) -> None:
        super().__init__()
        self._make = make
        self._most = most or MAX_QUEUES

    def __missing__(self, key: BucketKey) -> Q:
        """Make the queue of a bucket on its first use."""
        queue = self[key] = self._make(key)
        if len(self) > self._most:
            self._forget_oldest()
        return queue

    def _forget_oldest(self) -> None:
        key, oldest = next(iter(self.items()))
        if oldest.is_idle:
            del self[key]
        else:
            self.move_to_end(key)  # Otherwise nothing would be forgotten while this one is busy.
