"""Jobs that continue in a thread pool after their request was answered, each with its lease."""

from __future__ import annotations

import asyncio
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from limiter import Lease

_log = logging.getLogger("gateway.jobs")

MAX_REMEMBERED = 10_000
"""Jobs whose status is kept; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job's state, and its owner."""

    job_id: str
    owner: str
    status: Literal["queued", "running", "done", "failed"] = "queued"
    result: list[str] | None = None
    error: str | None = None


class JobManager:
    """Runs jobs in threads, and remembers their results. Belongs to one event loop."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="job")
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: dict[str, Job] = {}

    async def submit(
        self, owner: str, acquisition: AbstractAsyncContextManager[Lease], tokens: int, work: Callable[[], list[str]]
    ) -> Job:
        """Queue a job, once its lease is acquired; raises what acquiring raises.

        The job keeps the lease until it has ended: what a job did not use is given back, and everything if it fails.
        """
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(acquisition)
            job = Job(uuid.uuid4().hex, owner)
            self._keep(job)
            task = asyncio.create_task(self._run(job, stack.pop_all(), lease, tokens, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return job

    def get(self, job_id: str, owner: str) -> Job | None:
        """Return a job, if it is the owner's."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None

    async def close(self) -> None:
        """Cancel the jobs that have not ended, and refund their units."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _run(self, job: Job, stack: AsyncExitStack, lease: Lease, tokens: int, work: Callable[[], list[str]]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> list[str]:
            loop.call_soon_threadsafe(self._keep, replace(job, status="running"))
            return work()

        try:
            async with stack:
                words = await loop.run_in_executor(self._pool, run)
                await lease.adjust(tokens=len(words) - tokens)
        except Exception as error:
            _log.warning("job %s failed: %r", job.job_id, error)
            self._keep(replace(job, status="failed", error=str(error)))
        else:
            self._keep(replace(job, status="done", result=words))

    def _keep(self, job: Job) -> None:
        self._jobs[job.job_id] = job
        if len(self._jobs) > MAX_REMEMBERED:
            del self._jobs[next(iter(self._jobs))]
