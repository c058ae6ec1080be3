"""This library: tasks, threads and greenlets."""

from __future__ import annotations

import copy
import re
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository, SyncRateLimiter, SyncRepository

from ..plan import AMPLE
from . import LIMIT, ONE, REGION, RESOURCE

if TYPE_CHECKING:
    from limiter import Statistics

    from ..plan import Job

PARENT = "parent"

SET_TO_VALUE = re.compile(r"(#\w+) = (:\w+)")
PATIENT = {"connect_timeout": 30.0, "read_timeout": 30.0}
"""An engine that is slow under load is measured rather than given up."""


def limit_of(job: Job, allotment: float | None = None) -> Limit:
    """The limit that a job asks for."""
    rate, burst = (job.rate, job.burst or job.rate) if job.rate else (1, AMPLE)
    return Limit.per_second(LIMIT, rate, burst=burst, allotment=allotment)


def arranged(job: Job, options: dict[str, Any]) -> tuple[dict[str, Any], list[Limit], dict[str, Any]]:
    """The options of a repository, the limits, and the options of a limiter, from a peer's options."""
    others = dict(options)
    limits = [limit_of(job, others.pop("allotment", None))]
    where = {"namespace": job.prefix, "region": REGION, "endpoint_url": job.endpoint_url}
    return {**where, "transport": others.pop("transport", "auto"), **PATIENT}, limits, others


class Limiter:
    """The async limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        where, limits, others = arranged(job, options)
        self.limiter = RateLimiter(Repository(job.table, **where), limits, decision_timeout=60, **others)

    async def open(self) -> None:
        """Open the client, and store an entity with a parent if the job needs one."""
        await self.limiter.__aenter__()
        if self.job.chain == "cascade":
            await self.limiter.create_entity(PARENT)
            await self.limiter.create_entity(f"{self.job.prefix}hot", parent_id=PARENT)

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - handed on
        """One acquire."""
        try:
            async with self.limiter.acquire(key, RESOURCE, ONE, timeout=timeout):
                return True
        except RateLimitExceeded:
            return False

    async def owe(self, key: str, units: int) -> None:
        """Consume more than the limit allows; no other request is allowed until it has refilled."""
        async with self.limiter.acquire(key, RESOURCE, ONE) as lease:
            await lease.adjust({LIMIT: units})

    def statistics(self) -> Statistics:
        """Return what the limiter has counted."""
        return self.limiter.stats()

    async def close(self) -> None:
        """Close the client."""
        await self.limiter.__aexit__(None, None, None)


class ThreadedLimiter:
    """The sync limiter."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        where, limits, others = arranged(job, options)
        self.limiter = SyncRateLimiter(SyncRepository(job.table, **where), limits, decision_timeout=60, **others)

    def open(self) -> None:
        """Open the client, and store an entity with a parent if the job needs one."""
        self.limiter.__enter__()
        if self.job.chain == "cascade":
            self.limiter.create_entity(PARENT)
            self.limiter.create_entity(f"{self.job.prefix}hot", parent_id=PARENT)

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """One acquire."""
        try:
            with self.limiter.acquire(key, RESOURCE, ONE, timeout=timeout):
                return True
        except RateLimitExceeded:
            return False

    def owe(self, key: str, units: int) -> None:
        """Consume more than the limit allows; no other request is allowed until it has refilled."""
        with self.limiter.acquire(key, RESOURCE, ONE) as lease:
            lease.adjust({LIMIT: units})

    def statistics(self) -> Statistics:
        """Return what the limiter has counted."""
        return self.limiter.stats()

    def close(self) -> None:
        """Close the client."""
        self.limiter.__exit__(None, None, None)


class TwoKeys(Limiter):
    """Two independent keys with half of the callers each: the baseline for a cascade."""

    async def open(self) -> None:
        """Open the client; there is no chain."""
        await self.limiter.__aenter__()
        self._turn = 0

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - handed on
        """One acquire of one of the two."""
        self._turn ^= 1
        return await super().acquire(f"{key}{self._turn}", timeout)


class ThreadedTwoKeys(ThreadedLimiter):
    """Two independent keys with half of the callers each."""

    def open(self) -> None:
        """Open the client; there is no chain."""
        self.limiter.__enter__()
        self._turn = 0

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """One acquire of one of the two."""
        self._turn ^= 1
        return super().acquire(f"{key}{self._turn}", timeout)


class Replay:
    """A client whose first update is real; later responses are made from it and the request, so that no engine is needed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.answer: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    async def update_item(self, **parameters: Any) -> Any:
        """Return the first response again, with the values that this update sets, and the present time."""
        if self.answer is None:
            self.answer = await self.client.update_item(**parameters)
        answer = copy.deepcopy(self.answer)
        names, values = parameters["ExpressionAttributeNames"], parameters["ExpressionAttributeValues"]
        for name, value in SET_TO_VALUE.findall(parameters["UpdateExpression"]):
            answer["Attributes"][names[name]] = values[value]
        answer["ResponseMetadata"]["HTTPHeaders"]["date"] = formatdate(usegmt=True)
        return answer

    async def batch_get_item(self, **parameters: Any) -> Any:
        """Nothing is stored."""
        return {"Responses": {table: [] for table in parameters["RequestItems"]}, "UnprocessedKeys": {}}


class ReplayedLimiter(Limiter):
    """The async limiter without an engine's time, with many keys: for memory, not for speed."""

    async def open(self) -> None:
        """Open a real client behind the replay."""
        from aiobotocore.session import get_session

        self._context = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=self.job.endpoint_url)
        client = Replay(await self._context.__aenter__())
        repository = Repository(self.job.table, namespace=self.job.prefix, client=client)
        self.limiter = RateLimiter(repository, [limit_of(self.job)], decision_timeout=60)
        await self.limiter.__aenter__()

    async def close(self) -> None:
        """Close the real client."""
        await self._context.__aexit__(None, None, None)
