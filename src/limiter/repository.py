# twin: sync_repository.py
"""Buckets in a DynamoDB table."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from . import schema
from ._compat import Scope
from .aws_errors import CONDITION_FAILED, error_code, translate
from .infra._client import ClientOptions, close_client, open_client
from .state import Outcome
from .validation import check_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .schema import BucketKey
    from .state import BucketState, Update


class Repository:
    """The table named `stack` in one AWS account and region, seen by one `namespace`.

    Opening neither creates nor changes anything in AWS. It is lazy: the first call opens the client, one for each process and
    event loop, and `close` closes it. Region, credentials and endpoint that are not given follow the standard AWS variables and
    files. A `client` that is given is used as it is and never closed. `clock` is the integer nanoseconds since the epoch on
    which every decision is based.
    """

    def __init__(
        self,
        stack: str,
        *,
        namespace: str = "default",
        region: str | None = None,
        endpoint_url: str | None = None,
        session: Any = None,
        client: Any = None,
        clock: Callable[[], int] = time.time_ns,
        max_connections: int = 64,
        connect_timeout: float = 1.0,
        read_timeout: float = 2.0,
    ) -> None:
        self.stack = check_name("stack", stack)
        self.namespace = check_name("namespace", namespace)
        self.clock = clock
        self._client = client
        self._options = ClientOptions(
            region=region,
            endpoint_url=endpoint_url,
            session=session,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._connections = Scope(_Connection)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stack={self.stack!r} namespace={self.namespace!r}>"

    async def open(self) -> None:
        """Open the client now rather than at the first call; raises `StackNotFound` when there is no such table."""
        await self._call("GetItem", "get_item", {"Key": schema.namespace_key(self.namespace)})

    async def close(self) -> None:
        """Close the client of this process and event loop; a later call opens a new one."""
        connection = self._connections.get()
        async with connection.lock:
            client, connection.client = connection.client, None
            if client is not None:
                await close_client(client)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """The bucket's present state, by a consistent read (half a read unit); an absent bucket is an empty one."""
        parameters = {"Key": schema.bucket_key(key), "ConsistentRead": True}
        answer = await self._call("GetItem", "get_item", parameters)
        return schema.bucket_state(answer.get("Item"))

    async def write_bucket(self, key: BucketKey, update: Update) -> Outcome:
        """Apply `update` if all its conditions hold: one UpdateItem, one write unit whether it does or not."""
        from botocore.exceptions import ClientError

        parameters = schema.update_parameters(update)
        parameters["Key"] = schema.bucket_key(key)
        parameters["ReturnValues"] = "ALL_NEW"
        parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            answer = await self._call("UpdateItem", "update_item", parameters)
        except ClientError as error:
            state = schema.bucket_state(error.response.get("Item"))
            return Outcome(state.stamp == update.stamp, state)
        return Outcome(True, schema.bucket_state(answer["Attributes"]))

    async def _call(self, action: str, method: str, parameters: dict[str, Any]) -> Any:
        """Make one call; a failed condition is raised as botocore has it, everything else as one of the limiter's errors."""
        try:
            client = self._client or await self._opened()
            return await getattr(client, method)(TableName=self.stack, **parameters)
        except Exception as error:
            if _is_failed_condition(error):
                raise
            raise translate(error, self.stack, action) from error

    async def _opened(self) -> Any:
        connection = self._connections.get()
        if connection.client is None:
            async with connection.lock:
                if connection.client is None:
                    connection.client = await open_client("dynamodb", self._options)
        return connection.client


class _Connection:
    """The client of one process and event loop, and the lock under which it is opened and closed."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.client: Any = None


def _is_failed_condition(error: Any) -> bool:
    return hasattr(error, "response") and error_code(error) == CONDITION_FAILED
