"""An earlier version of this library, which the parent process has put in the place of this one.

Uses only what all versions have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository

from ..plan import AMPLE
from . import LIMIT, REGION, ours

if TYPE_CHECKING:
    from ..plan import Job


def where(job: Job) -> dict[str, Any]:
    """Return the options of a repository."""
    return {"namespace": job.prefix, "region": REGION, "endpoint_url": job.endpoint_url, **ours.PATIENT}


class Limiter(ours.Limiter):
    """The async limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.limiter = RateLimiter(
            Repository(job.table, **where(job)), [Limit.per_second(LIMIT, 1, burst=AMPLE)], decision_timeout=60
        )


class ThreadedLimiter(ours.ThreadedLimiter):
    """The sync limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.limiter = SyncRateLimiter(
            SyncRepository(job.table, **where(job)), [Limit.per_second(LIMIT, 1, burst=AMPLE)], decision_timeout=60
        )
