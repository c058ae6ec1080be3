"""Counts the calls to DynamoDB that a peer makes, and what they would be billed.

Calls are counted where a peer makes all of them. For this library that is its table, above both transports. botocore's classes
stay as they are, because the limiter sends nothing directly where they have been patched. For the same reason a bare client is
counted by itself. For other libraries it is the method of all clients of botocore and aiobotocore.

Counting costs a call of a function and a list append. Capacity is asked for (`ReturnConsumedCapacity`) only while `accounting`,
outside the timed part. A write whose condition fails is answered without its capacity; it costs what a write of that size costs,
here one unit, and twice that for each item of a transaction.
"""

from __future__ import annotations

import functools
import importlib
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES = frozenset({"UpdateItem", "PutItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})
READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems"})
REFUSED_BY_CONDITION = frozenset({"ConditionalCheckFailedException", "TransactionCanceledException"})
WRITE_UNIT_DOLLARS = 0.625
READ_UNIT_DOLLARS = 0.125
"""Dollars per million units, on demand, us-east-1."""


class Counts(Protocol):
    """What counts the calls of a peer, in this process or in another."""

    accounting: bool

    def reset(self) -> None:
        """Start from nothing."""

    def summary(self) -> dict[str, Any]:
        """Return the calls by name, and the units."""


class Meter:
    """The calls since the last `reset`."""

    def __init__(self) -> None:
        self.accounting = False
        self.last_update: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        """Start from nothing."""
        self.calls: list[str] = []
        self.units: list[tuple[str, float]] = []

    def count_limiter(self) -> None:
        """Count the calls of this library, by either transport."""
        table: Any = importlib.import_module("limiter.aws.table").Table
        table._call = self._counted_async(table._call)
        table = importlib.import_module("limiter.aws.sync_table").SyncTable
        table._call = self._counted(table._call)

    def count_client(self, client: Any) -> None:
        """Count the calls of one client of boto3."""
        client._make_api_call = self._counted(client._make_api_call)

    def count_async_client(self, client: Any) -> None:
        """Count the calls of one client of aiobotocore."""
        client._make_api_call = self._counted_async(client._make_api_call)

    def count_botocore(self) -> None:
        """Count the calls of all clients of botocore and, if installed, aiobotocore."""
        base: Any = importlib.import_module("botocore.client").BaseClient
        base._make_api_call = self._counted(base._make_api_call)
        with suppress(ImportError):
            base = importlib.import_module("aiobotocore.client").AioBaseClient
            base._make_api_call = self._counted_async(base._make_api_call)

    def summary(self) -> dict[str, Any]:
        """Return the calls by name, and the units."""
        return {
            "calls": dict(Counter(self.calls)),
            "write_units": sum(units for name, units in self.units if name in WRITES),
            "read_units": sum(units for name, units in self.units if name in READS),
        }

    def _counted(self, make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def counted(*arguments: Any) -> Any:
            *before, operation, parameters = arguments
            parameters = self._before(operation, parameters)
            try:
                answer = make(*before, operation, parameters)
            except Exception as error:
                self._failed(operation, parameters, error)
                raise
            self._answered(operation, answer)
            return answer

        return counted

    def _counted_async(self, make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        async def counted(*arguments: Any) -> Any:
            *before, operation, parameters = arguments
            parameters = self._before(operation, parameters)
            try:
                answer = await make(*before, operation, parameters)
            except Exception as error:
                self._failed(operation, parameters, error)
                raise
            self._answered(operation, answer)
            return answer

        return counted

    def _before(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(operation)
        if operation == "UpdateItem":
            self.last_update = parameters
        if self.accounting and operation in WRITES | READS:
            return {**parameters, "ReturnConsumedCapacity": "TOTAL"}
        return parameters

    def _answered(self, operation: str, answer: dict[str, Any]) -> None:
        if self.accounting:
            consumed = answer.get("ConsumedCapacity") or []
            for each in consumed if isinstance(consumed, list) else [consumed]:
                self.units.append((operation, float(each["CapacityUnits"])))

    def _failed(self, operation: str, parameters: dict[str, Any], error: Exception) -> None:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        if self.accounting and code in REFUSED_BY_CONDITION:
            self.units.append((operation, 2.0 * len(parameters.get("TransactItems", ())) or 1.0))


METER = Meter()
"""The meter of this process."""


def dollars_per_million(write_units: float, read_units: float) -> float:
    """Return the price of a million decisions that consume these units each."""
    return write_units * WRITE_UNIT_DOLLARS + read_units * READ_UNIT_DOLLARS
