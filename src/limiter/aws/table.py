# twin: sync_table.py
"""One DynamoDB table, and the calls to it."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.units import NANOSECONDS
from ..exceptions import ConfigurationError, LimiterError, RateLimiterUnavailable
from ..runtime.retry import ATTEMPTS, Retry
from ..runtime.scope import LoopLocal, Origin
from .client import close_client, open_client, use_client
from .clock import MAX_SKEW
from .direct import open_direct
from .errors import OPENING, is_decided_by_condition, is_of_table, translate
from .responses import check
from .transport import DIRECT_ACTIONS, Transport, TransportChoice, Unsuitable
from .wire import UnexpectedForm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .client import ClientOptions
    from .clock import ServerClock

_log = logging.getLogger("limiter.clock")


class Table:
    """A table, and a client for each process and event loop, opened by the first call.

    `clock` learns the server's time from every response of the table, errors included, and ignores responses of other servers.
    `transport` decides which calls do not use the client.
    """

    def __init__(
        self,
        name: str,
        client: Any,
        options: ClientOptions,
        clock: ServerClock | None = None,
        transport: TransportChoice | None = None,
    ) -> None:
        self.name = name
        self.transport = transport or TransportChoice("botocore")
        self._clock = clock
        self._warned: int | None = None
        self._looks_again = 0
        self._client = client
        self._options = options
        self._client_origin: Origin | None = None
        self._connections = LoopLocal(_Connection)

    async def call(self, action: str, parameters: dict[str, Any], *, attempts: int = 1) -> Any:
        """Make one call to the table, up to `attempts` times while it is unavailable.

        Raises botocore's error if a condition did not hold, and one of the limiter's errors for anything else.
        """
        if attempts == 1:
            return await self._send(action, parameters)
        retry = Retry(attempts)
        while True:
            try:
                return await self._send(action, parameters)
            except RateLimiterUnavailable:
                if retry.is_over():
                    raise
            await retry.backoff()

    async def pages(self, action: str, parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a Query or Scan, page after page."""
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
            opened, connection.opened = connection.opened, None
            if opened is not None:
                await self._close(opened)

    async def _send(self, action: str, parameters: dict[str, Any]) -> Any:
        opened = await self._open()
        try:
            return await self._ask(opened, action, parameters)
        except LimiterError:
            raise
        except Exception as error:
            if "ConditionExpression" in parameters and is_decided_by_condition(error):
                raise
            raise translate(error, self.name, action, getattr(opened.client, "meta", None)) from error

    async def _ask(self, opened: _Opened, action: str, parameters: dict[str, Any]) -> Any:
        """Make the call, check its response, and learn the server's time if the response is the table's."""
        sent = 0 if self._clock is None else self._clock.monotonic()
        try:
            answer = await self._call(opened, action, parameters)
        except Exception as error:
            if is_of_table(error, action):
                self._learn(getattr(error, "response", None), sent)
            raise
        if check(action, parameters, answer, self.name):
            self._learn(answer, sent)
        elif self._clock is not None:
            self._clock.observe_undated()
        return answer

    async def _call(self, opened: _Opened, action: str, parameters: dict[str, Any]) -> Any:
        """Make the call directly if that is suitable, otherwise by botocore. A call that was sent is not repeated."""
        if opened.direct is not None and action in DIRECT_ACTIONS and self.transport.tries_direct:
            try:
                answer = await opened.direct.call(action, parameters)
            except Unsuitable as error:
                self.transport.refuse(error)
            except UnexpectedForm as error:
                self.transport.hand_over(f"{action} on table {self.name!r} was answered with {error}")
                raise
            else:
                self.transport.settle()
                return answer
        return await getattr(opened.client, _METHODS[action])(**parameters)

    def _learn(self, answer: Any, sent: int) -> None:
        clock = self._clock
        if clock is not None:
            clock.observe_answer(answer, sent)
            self._warn_of_skew(clock)

    def _warn_of_skew(self, clock: ServerClock) -> None:
        """Warn once in each process if the machine's clock is wrong; checks once a second."""
        now = clock.monotonic()
        if now < self._looks_again:
            return
        self._looks_again = now + NANOSECONDS
        skew = clock.skew
        if skew is None or abs(skew) <= MAX_SKEW or self._warned == os.getpid():
            return
        self._warned = os.getpid()
        _log.warning(
            "this machine's clock is %.1f s %s that of table %r; limits use the table's time, so they hold, but AWS refuses "
            "requests that are five minutes off: synchronise the clock (NTP, chrony, Amazon Time Sync)",
            abs(skew),
            "ahead of" if skew > 0 else "behind",
            self.name,
            extra={"table": self.name, "skew": skew},
        )

    async def _open(self) -> _Opened:
        try:
            return await self._opened()
        except LimiterError:
            raise
        except Exception as error:
            raise translate(error, self.name, OPENING) from error

    async def _opened(self) -> _Opened:
        connection = self._connections.get()
        opened = connection.opened
        if opened is None:
            async with connection.lock:
                opened = connection.opened
                if opened is None:
                    opened = connection.opened = await self._new()
        return opened

    async def _new(self) -> _Opened:
        client = self._given() or await open_client("dynamodb", self._options)
        if not self.transport.tries_direct:
            return _Opened(client, None)
        try:
            return _Opened(client, await self._new_direct(client))
        except BaseException:
            await self._close(_Opened(client, None))
            raise

    async def _new_direct(self, client: Any) -> Transport | None:
        """Open the direct transport beside a client; None if it is not suitable."""
        try:
            direct = await open_direct(client, self.name)
        except Unsuitable as error:
            self.transport.refuse(error)
            return None
        self.transport.settle()
        return direct

    async def _close(self, opened: _Opened) -> None:
        if opened.direct is not None:
            await opened.direct.close()
        if opened.client is not self._client:
            await close_client(opened.client)

    def _given(self) -> Any:
        """Return the client that the caller passed; raises `ConfigurationError` in another event loop or a forked child."""
        if self._client is None:
            return None
        if self._client_origin is None:
            self._client_origin = Origin()
        elif not self._client_origin.is_current():
            raise ConfigurationError(
                "the client= of this repository was used by another process or event loop, which owns its connections; "
                "pass session=, or neither, and the repository opens a client for each"
            )
        return use_client(self._client)


class _Opened(NamedTuple):
    """A client, and the direct transport beside it, if there is one."""

    client: Any
    direct: Transport | None


class _Connection:
    """What one process and event loop has opened, and the lock that guards opening and closing."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.opened: _Opened | None = None


_METHODS = {
    "BatchGetItem": "batch_get_item",
    "BatchWriteItem": "batch_write_item",
    "DeleteItem": "delete_item",
    "GetItem": "get_item",
    "PutItem": "put_item",
    "Query": "query",
    "Scan": "scan",
    "UpdateItem": "update_item",
}
