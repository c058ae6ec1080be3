"""zae-limiter, used as its documentation says: limits stored as a resource's defaults, one `acquire` for each decision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from zae_limiter import Limit, RateLimiter, RateLimitExceeded, Repository, SyncRateLimiter, SyncRepository

from ..plan import AMPLE
from . import LIMIT, ONE, REGION

if TYPE_CHECKING:
    from ..plan import Job

STACK = "zae-limiter-bench"
PARENT = "parent"


def limit_of(job: Job) -> Any:
    """Return the limit that a job asks for."""
    return Limit.per_second(LIMIT, job.rate) if job.rate else Limit.per_second(LIMIT, 1_000_000, burst=AMPLE)


def resource_of(job: Job) -> str:
    """Return the resource whose defaults hold a limit."""
    return f"resource-{job.rate}"


class Zae:
    """The async limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.resource = resource_of(job)

    async def open(self) -> None:
        """Create the table without CloudFormation, which the engines lack, and store the limit."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            maker = Repository(STACK, region=REGION, endpoint_url=self.job.endpoint_url)
        await maker.create_table()
        await maker.close()
        builder = Repository.builder().stack(STACK).region(REGION).endpoint_url(self.job.endpoint_url)
        self.repository = await builder.build()
        self.limiter = RateLimiter(repository=self.repository)
        await self.limiter.set_resource_defaults(self.resource, [limit_of(self.job)])
        if self.job.chain == "cascade":
            parent = f"{self.job.prefix}{PARENT}"
            await self.limiter.create_entity(parent)
            await self.limiter.create_entity(f"{self.job.prefix}hot", parent_id=parent, cascade=True)

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - no such thing here
        """One acquire."""
        try:
            async with self.limiter.acquire(entity_id=key, resource=self.resource, consume=ONE):
                return True
        except RateLimitExceeded:
            return False

    async def close(self) -> None:
        """Close the client."""
        await self.repository.close()


class ThreadedZae:
    """The sync limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.resource = resource_of(job)

    def open(self) -> None:
        """Create the table without CloudFormation, which the engines lack, and store the limit."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            maker = SyncRepository(STACK, region=REGION, endpoint_url=self.job.endpoint_url)
        maker.create_table()
        maker.close()
        builder = SyncRepository.builder().stack(STACK).region(REGION).endpoint_url(self.job.endpoint_url)
        self.repository = builder.build()
        self.limiter = SyncRateLimiter(repository=self.repository)
        self.limiter.set_resource_defaults(self.resource, [limit_of(self.job)])
        if self.job.chain == "cascade":
            parent = f"{self.job.prefix}{PARENT}"
            self.limiter.create_entity(parent)
            self.limiter.create_entity(f"{self.job.prefix}hot", parent_id=parent, cascade=True)

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """One acquire."""
        try:
            with self.limiter.acquire(entity_id=key, resource=self.resource, consume=ONE):
                return True
        except RateLimitExceeded:
            return False

    def close(self) -> None:
        """Close the client."""
        self.repository.close()
