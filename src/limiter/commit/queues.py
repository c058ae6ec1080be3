"""The queues of the buckets that a process has used lately. Buckets that have refilled are forgotten, and what is too many."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.records import BucketKey

MAX_QUEUES = 100_000
"""Buckets whose last state is remembered. A forgotten bucket costs a second write when it is used again."""
KEPT = 1_000
"""Buckets that are remembered though they have refilled: more than one call can charge, since it may hold their queues."""
LOOKS = 2
"""Queues that are looked at for each new one: so the refilled ones become fewer while new ones come."""


class Forgettable(Protocol):
    """A queue, as far as it matters for whether it can be forgotten; see `BucketQueue`."""

    def is_idle(self, now: int) -> bool:
        """Tell whether no call is in progress, and nothing is held."""

    def has_refilled(self, now: int) -> bool:
        """Tell whether what is known of the bucket equals what is assumed of an unknown one."""

    def forget(self) -> None:
        """End what calls may still refer to."""


Q = TypeVar("Q", bound=Forgettable)


class Queues(OrderedDict["BucketKey", Q]):
    """The queues by bucket, about `most` of them, roughly in the order of their last use, which callers keep with `move_to_end`.

    The caller holds the committer's lock. `clock` returns nanoseconds since the epoch.
    """

    def __init__(self, make: Callable[[BucketKey], Q], most: int | None, clock: Callable[[], int]) -> None:
        super().__init__()
        self._make = make
        self._most = most or MAX_QUEUES
        self._clock = clock

    def __missing__(self, key: BucketKey) -> Q:
        """Make the queue of a bucket on its first use."""
        queue = self[key] = self._make(key)
        if len(self) > min(KEPT, self._most):
            now = self._clock()
            for _ in range(LOOKS):
                self._look_at_oldest(now)
        return queue

    def _look_at_oldest(self, now: int) -> None:
        """Forget the oldest queue if it may go; otherwise look at others first, since it may stay so for long."""
        key, oldest = next(iter(self.items()))
        if oldest.is_idle(now) and (len(self) > self._most or oldest.has_refilled(now)):
            del self[key]
            oldest.forget()
        else:
            self.move_to_end(key)
