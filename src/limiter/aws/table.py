# twin: sync_table.py
"""One DynamoDB table, and the calls to it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..core.limits.gcra import NANOSECONDS
from ..exceptions import ConfigurationError, LimiterError, RateLimiterUnavailable
from ..runtime.concurrency import Home, Scope
from .client import close_client, open_client, use_client
from .clock import MAX_SKEW
from .errors import OPENING, is_decided_by_condition, is_of_table, translate
from .responses import check_answer, check_whole, holds_something

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .client import ClientOptions
    from .clock import ServerClock

_log = logging.getLogger("limiter.clock")

ATTEMPTS = 3
"""How often a call that may be repeated is made before the table counts as unavailable."""
RETRY_FOR = 1.0
"""Seconds that all attempts together may be expected to take."""
BACKOFF = 0.05
"""Seconds before the second attempt, on average; doubled before the next."""


class Table:
    """A table by its name, and a client for each process and event loop, opened by the first call.

    `clock` learns the server's time from every answer of the table, of errors too, and from nobody else's.
    """

    def __init__(self, name: str, client: Any, options: ClientOptions, clock: ServerClock | None = None) -> None:
        self.name = name
        self._clock = clock
        self._warned: int | None = None
        self._looks_again = 0
        self._client = client
        self._options = options
        self._client_home: Home | None = None
        self._connections = Scope(_Connection)

    async def call(self, action: str, parameters: dict[str, Any], *, attempts: int = 1) -> Any:
        """Make one call to the table, up to `attempts` times while it is unavailable.

        A condition that did not hold is raised as botocore raises it, everything else as one of the limiter's errors.
        """
        repetition = Repetition(attempts)
        while True:
            try:
                return await self._send(action, parameters)
            except RateLimiterUnavailable:
                if repetition.is_over():
                    raise
            await repetition.pause()

    async def pages(self, action: str, parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The items of a Query or Scan, page after page."""
        start: dict[str, Any] = {}
        while True:
            page = await self.call(action, {"TableName": self.name, **parameters, **start}, attempts=ATTEMPTS)
            for item in page.get("Items", ()):
                yield item
            if not page.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    async def prepare(self) -> None:
        """Open the client of this process and event loop now."""
        await self._open()

    async def close(self) -> None:
        """Close the client of this process and event loop; a later call opens a new one."""
        connection = self._connections.get()
        async with connection.lock:
            client, connection.client = connection.client, None
            if client is not None and client is not self._client:
                await close_client(client)

    async def _send(self, action: str, parameters: dict[str, Any]) -> Any:
        client = await self._open()
        try:
            return await self._ask(getattr(client, _METHODS[action]), action, parameters)
        except LimiterError:
            raise
        except Exception as error:
            if is_decided_by_condition(error):
                raise
            raise translate(error, self.name, action, getattr(client, "meta", None)) from error

    async def _ask(self, method: Any, action: str, parameters: dict[str, Any]) -> Any:
        """Make the call, check what it answers, and learn the server's time from that if it is the table's."""
        sent = 0 if self._clock is None else self._clock.monotonic()
        try:
            answer = await method(**parameters)
        except Exception as error:
            if is_of_table(error, action):
                self._learn(getattr(error, "response", None), sent)
            raise
        check_whole(answer, self.name, action)
        check_answer(action, parameters, answer)
        if holds_something(answer):
            self._learn(answer, sent)
        return answer

    def _learn(self, answer: Any, sent: int) -> None:
        clock = self._clock
        if clock is not None:
            clock.observe_answer(answer, sent)
            self._warn_of_skew(clock)

    def _warn_of_skew(self, clock: ServerClock) -> None:
        """Warn once in each process; looks once a second."""
        now = clock.monotonic()
        if now < self._looks_again:
            return
        self._looks_again = now + NANOSECONDS
        skew = clock.skew
        if skew is None or abs(skew) <= MAX_SKEW or self._warned == os.getpid():
            return
        self._warned = os.getpid()
        _log.warning(
            "this machine's clock is %.1f s %s that of table %r; limits go by the table's time, so they hold, but AWS refuses "
            "requests that are five minutes off: synchronise the clock (NTP, chrony, Amazon Time Sync)",
            abs(skew),
            "ahead of" if skew > 0 else "behind",
            self.name,
            extra={"table": self.name, "skew": skew},
        )

    async def _open(self) -> Any:
        try:
            return await self._opened()
        except LimiterError:
            raise
        except Exception as error:
            raise translate(error, self.name, OPENING) from error

    async def _opened(self) -> Any:
        connection = self._connections.get()
        client = connection.client
        if client is None:
            async with connection.lock:
                client = connection.client
                if client is None:
                    client = connection.client = self._given() or await open_client("dynamodb", self._options)
        return client

    def _given(self) -> Any:
        """The client that the caller has passed, which cannot follow into another event loop or a forked child."""
        if self._client is None:
            return None
        if self._client_home is None:
            self._client_home = Home()
        elif not self._client_home.is_here():
            raise ConfigurationError(
                "the client= of this repository was used by another process or event loop, where its connections belong; "
                "pass session=, or neither, and the repository opens a client for each"
            )
        return use_client(self._client)


class _Connection:
    """The client of one process and event loop, and the lock under which it is opened and closed."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.client: Any = None


async def pause(attempt: int) -> None:
    """Wait before the attempt after number `attempt`, longer each time, and not in step with others."""
    await asyncio.sleep(BACKOFF * 2**attempt * random.uniform(0.25, 0.75))  # noqa: S311 - spreads callers, hides nothing


class Repetition:
    """How often something is attempted: `attempts` times at most, while the next attempt can be expected to end in time."""

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        self._attempts = attempts
        self._attempt = 1
        self._first = self._began = monotonic()

    def is_over(self) -> bool:
        """Whether the attempt that has just failed was the last."""
        # The next attempt may well take as long as this one did.
        return self._attempt == self._attempts or 2 * monotonic() - self._began - self._first > RETRY_FOR

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await pause(self._attempt)
        self._attempt += 1
        self._began = monotonic()


_METHODS = {
    "BatchGetItem": "batch_get_item",
    "BatchWriteItem": "batch_write_item",
    "DeleteItem": "delete_item",
    "GetItem": "get_item",
    "PutItem": "put_item",
    "Query": "query",
    "Scan": "scan",
    "TransactWriteItems": "transact_write_items",
    "UpdateItem": "update_item",
}
