"""Bare `update_item` calls with this library's warm request, byte for byte except the stamp: the lower bound of any limiter.

It decides nothing, never waits and cannot be refused; it shows what one call costs. The plain peers have the libraries' own
settings and a connection for each caller; the tuned ones have the settings with which this library opens its client.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from ..metering import METER
from . import REGION
from .ours import ThreadedLimiter

if TYPE_CHECKING:
    from ..plan import Job

WARM = 3
"""Acquires after which the request is that of a bucket in steady use."""


class Template:
    """The request to repeat."""

    def __init__(self, job: Job) -> None:
        self._sample = f"{job.prefix}hot"
        self._parameters = self._capture(job, WARM if job.driver in ("closed", "turns") else 1)
        self._values = self._parameters["ExpressionAttributeValues"]
        self._writer = os.urandom(6).hex()
        self._stamps = itertools.count(1)

    def request(self, key: str) -> dict[str, Any]:
        """Return the request for one key, with its own stamp."""
        values = {**self._values, ":w": {"S": f"{self._writer}{next(self._stamps):x}"}}
        parameters = {**self._parameters, "ExpressionAttributeValues": values}
        if key != self._sample:
            parameters["Key"] = {
                name: {"S": value["S"].replace(self._sample, key)} for name, value in self._parameters["Key"].items()
            }
        return parameters

    def _capture(self, job: Job, acquires: int) -> dict[str, Any]:
        limiter = ThreadedLimiter(job, {})
        limiter.open()
        for _ in range(acquires):
            limiter.acquire(self._sample)
        limiter.close()
        return dict(METER.last_update)


class Aiobotocore:
    """aiobotocore with its default settings."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.template = Template(job)

    async def open(self) -> None:
        """Open a client with a connection for each caller."""
        from aiobotocore.config import AioConfig
        from aiobotocore.session import get_session

        config = AioConfig(max_pool_connections=max(10, self.job.callers))
        context = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=self.job.endpoint_url, config=config)
        self.client: Any = await context.__aenter__()
        METER.count_async_client(self.client)

    async def acquire(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - no such thing here
        """One call."""
        await self.client.update_item(**self.template.request(key))
        return True

    async def close(self) -> None:
        """Close the client."""
        await self.client.__aexit__(None, None, None)


class TunedAiobotocore(Aiobotocore):
    """aiobotocore as this library opens it."""

    async def open(self) -> None:
        """Open a client by the library's own function."""
        from limiter.aws.client import ClientOptions, open_client

        self.client = await open_client("dynamodb", ClientOptions(region=REGION, endpoint_url=self.job.endpoint_url))
        METER.count_async_client(self.client)


class Boto3:
    """boto3 with its default settings."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job
        self.template = Template(job)

    def open(self) -> None:
        """Open a client with a connection for each caller."""
        import boto3
        from botocore.config import Config

        config = Config(max_pool_connections=max(10, self.job.callers))
        self.client = boto3.client("dynamodb", region_name=REGION, endpoint_url=self.job.endpoint_url, config=config)
        METER.count_client(self.client)

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """One call."""
        self.client.update_item(**self.template.request(key))
        return True

    def close(self) -> None:
        """Close the client."""
        self.client.close()


class TunedBoto3(Boto3):
    """boto3 as this library opens it."""

    def open(self) -> None:
        """Open a client by the library's own function."""
        from limiter.aws.client import ClientOptions, sync_open_client

        self.client = sync_open_client("dynamodb", ClientOptions(region=REGION, endpoint_url=self.job.endpoint_url))
        METER.count_client(self.client)
