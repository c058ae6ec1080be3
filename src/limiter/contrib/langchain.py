"""A rate limiter for LangChain's chat models, on limits that all processes share.

    sync_limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_minute("requests", 60)])
    model = ChatOpenAI(..., rate_limiter=DynamoDBRateLimiter(sync_limiter=sync_limiter, resource="gpt-4"))

Needs langchain-core: `pip install "dynamodb-limiter[langchain]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.limits import check_amounts
from ..core.validation import check_name, check_seconds
from ..exceptions import ConfigurationError

try:
    from langchain_core.rate_limiters import BaseRateLimiter
except ImportError as missing:
    message = f'LangChain is not installed ({missing}); run: pip install "dynamodb-limiter[langchain]"'
    raise ConfigurationError(message) from missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..limiter import RateLimiter
    from ..sync_limiter import SyncRateLimiter

__all__ = ["DynamoDBRateLimiter"]


class DynamoDBRateLimiter(BaseRateLimiter):
    """Takes units for good before each call of a model, and waits for its turn where there are none.

    `sync_limiter` serves `invoke`, `stream` and `batch`, `limiter` serves `ainvoke` and its kin; a program that calls both ways
    gives both. `consume` is what each call takes, by default 1 of every limit.

    `max_wait`, in seconds, bounds the wait for one call: the turn is booked by one write, so nobody overtakes, and a wait that is
    known to take longer is refused at once. LangChain does not look at what a blocking acquire returns, so the refusal is raised.

    Not for limits of tokens that the reply uses: LangChain asks before the call and never again. For those put `limiter.acquire`
    around the call, and `lease.adjust` the tokens when the reply is there.
    """

    def __init__(
        self,
        *,
        sync_limiter: SyncRateLimiter | None = None,
        limiter: RateLimiter | None = None,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        max_wait: float = 300.0,
    ) -> None:
        if sync_limiter is None and limiter is None:
            raise ConfigurationError("DynamoDBRateLimiter needs sync_limiter=SyncRateLimiter(...) or limiter=RateLimiter(...)")
        check_seconds("max_wait", max_wait)
        self.entity_id = check_name("entity_id", entity_id)
        self.resource = check_name("resource", resource)
        self.consume = None if consume is None else check_amounts(consume)
        self.max_wait = max_wait
        self._sync_limiter = sync_limiter
        self._limiter = limiter

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.entity_id!r}/{self.resource!r} max_wait={self.max_wait}>"

    def acquire(self, *, blocking: bool = True) -> bool:
        """Take what a call takes; with `blocking` wait for it, without say at once whether it was there.

        Raises, when blocking, `RateLimitExceeded` where the wait would exceed `max_wait`.
        """
        if self._sync_limiter is None:
            raise ConfigurationError("a synchronous call needs DynamoDBRateLimiter(sync_limiter=SyncRateLimiter(...))")
        if not blocking:
            return self._sync_limiter.try_acquire(self.entity_id, self.resource, self.consume).allowed
        with self._sync_limiter.acquire(self.entity_id, self.resource, self.consume, timeout=self.max_wait):
            return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """The same as `acquire`, for asynchronous calls."""
        if self._limiter is None:
            raise ConfigurationError("an asynchronous call needs DynamoDBRateLimiter(limiter=RateLimiter(...))")
        if not blocking:
            return (await self._limiter.try_acquire(self.entity_id, self.resource, self.consume)).allowed
        async with self._limiter.acquire(self.entity_id, self.resource, self.consume, timeout=self.max_wait):
            return True
