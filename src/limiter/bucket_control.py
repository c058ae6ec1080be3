# twin: sync_bucket_control.py
"""Changes of a bucket from outside a lease: corrections, resets and pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.chain import check_known, check_no_slots
from .core.request import Charge, Grant, Request
from .core.validation import MAX_AMOUNT, check_amounts, check_name, check_seconds
from .exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .core.chain import Bucket


class BucketControl:
    """Changes what a bucket holds, for every process that shares it. Parents are not changed.

    Under UNLIMITED or BLOCKED a change does nothing, because nothing is counted there.
    """

    async def _order(self, entity_id: str, resource: str, order: Callable[[Bucket], Request]) -> Grant | None:
        """Write the request that `order` makes for the entity's own bucket; None if nothing is counted there."""
        raise NotImplementedError

    async def adjust(self, entity_id: str, resource: str, amounts: Mapping[str, int]) -> None:
        """Correct what a bucket counts as used: `await limiter.adjust("user-42", "gpt-4", {"tokens": -500, "requests": +1})`.

        Positive units are charged, into debt if necessary. Negative units are refunded, at most until the bucket is full. Raises
        `ValidationError` for a name that the bucket has no limit for.
        """
        checked = check_amounts(amounts, minimum=-MAX_AMOUNT)

        def order(bucket: Bucket) -> Request:
            check_known((bucket,), checked)
            check_no_slots((bucket,), checked)
            charges = tuple(Charge(limit, checked[limit.name]) for limit in bucket.limits if checked.get(limit.name))
            return Request(bucket.key, charges, forced=True, scheduled=bucket.until is not None)

        await self._order(entity_id, resource, order)

    async def reset(self, entity_id: str, resource: str, names: Iterable[str] | None = None) -> None:
        """Reset the limits of a bucket as if nothing had been used: those in `names`, or all. Slots stay held.

        Units that were consumed before can no longer be refunded. Raises `ValidationError` for a name that the bucket has no
        limit for.
        """
        if isinstance(names, str):
            raise ValidationError(f"names must be a list of limit names, not {names!r}; wrap a single one in a list")
        asked = None if names is None else tuple(check_name("limit name", name) for name in names)

        def order(bucket: Bucket) -> Request:
            check_known((bucket,), asked or ())
            return Request(bucket.key, clear=tuple(limit.name for limit in bucket.limits) if asked is None else asked)

        await self._order(entity_id, resource, order)

    async def pause(self, entity_id: str, resource: str, seconds: float) -> None:
        """Let a bucket allow nothing for some seconds, in every process; 0 ends a pause. For a provider's Retry-After.

        A pause never shortens a longer one. Callers with a `timeout` wait until it ends. Held units stay held.
        """
        nanoseconds = check_seconds("seconds", seconds)

        def order(bucket: Bucket) -> Request:
            return Request(bucket.key, pause=self._now() + nanoseconds if nanoseconds else 0)

        await self._order(entity_id, resource, order)

    def _now(self) -> int:
        """Return the time of the repository, in nanoseconds since the epoch."""
        raise NotImplementedError
