# twin: sync_stack_client.py
"""Calls AWS for stacks: CloudFormation, DynamoDB and IAM. Repeats throttled calls, and explains errors."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..aws.client import close_client, open_client
from ..exceptions import LimiterError, RateLimiterUnavailable
from .cloudformation_errors import Conflict, Missing, Unchanged, explain, is_conflict, is_missing, is_unchanged
from .stack_events import read_event, take_new
from .stack_summary import read_stack, read_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from ..aws.client import ClientOptions
    from .stack_events import StackEvent
    from .stack_summary import StackSummary, TableSummary

RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each repetition of a call that was throttled or not answered; half a minute in total."""


@dataclass(frozen=True, slots=True)
class StackAccess:
    """How to reach AWS, and the clock and sleep to use. Clients that are given are used as they are and never closed."""

    options: ClientOptions
    client: Any = None
    table_client: Any = None
    policy_client: Any = None
    sleep: Callable[[float], Awaitable[None]] | None = None
    clock: Callable[[], float] = time.monotonic


class StackClient:
    """Makes the calls of one operation. Opens each client on first use and closes it at the end of the `with` block."""

    def __init__(self, stack: str, access: StackAccess) -> None:
        self.stack = stack
        self._access = access
        self._given = {"cloudformation": access.client, "dynamodb": access.table_client, "iam": access.policy_client}
        self._opened: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._opened:
            _, client = self._opened.popitem()
            await close_client(client)

    async def call(self, service: str, action: str, **parameters: Any) -> Any:
        """Make one call, and repeat it while AWS throttles or does not respond.

        Raises the limiter's errors, among them `Missing`, `Unchanged` and `Conflict`, which callers handle.
        """
        for delay in (*RETRY_DELAYS, None):
            try:
                client = await self.client(service)
                method = re.sub(r"\B([A-Z])", r"_\1", action).lower()
                return await getattr(client, method)(**parameters)
            except Exception as error:
                explained = self._explain(error, f"{service}:{action}")
                if delay is None or not isinstance(explained, RateLimiterUnavailable):
                    raise explained from error
            await self.pause(delay)
        raise AssertionError("the last attempt returns or raises")

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds."""
        if self._access.sleep is not None:
            await self._access.sleep(seconds)
        else:
            await asyncio.sleep(seconds)

    async def find(self, name: str) -> StackSummary | None:
        """Return the stack of that name or id; None when it does not exist."""
        try:
            answer = await self.call("cloudformation", "DescribeStacks", StackName=name)
        except Missing:
            return None
        found = [read_stack(entry) for entry in answer["Stacks"]]
        return found[0] if found and found[0].phase != "gone" else None

    async def table(self, name: str) -> TableSummary | None:
        """Return the table of that name; None when it does not exist."""
        try:
            return read_table(await self.call("dynamodb", "DescribeTable", TableName=name))
        except Missing:
            return None

    async def pages(self, action: str, key: str, **parameters: Any) -> list[Any]:
        """Return the entries of all pages of a response."""
        found: list[Any] = []
        while True:
            page = await self.call("cloudformation", action, **parameters)
            found += page.get(key, ())
            if not page.get("NextToken"):
                return found
            parameters["NextToken"] = page["NextToken"]

    async def policy_holders(self, policy_arn: str) -> list[tuple[str, str]]:
        """Return who a managed policy is attached to, as pairs of "role", "user" or "group" and a name."""
        found: list[tuple[str, str]] = []
        parameters = {"PolicyArn": policy_arn}
        while True:
            page = await self.call("iam", "ListEntitiesForPolicy", **parameters)
            for kind in ("Role", "User", "Group"):
                found += [(kind.lower(), each[f"{kind}Name"]) for each in page.get(f"Policy{kind}s", ())]
            if not page.get("IsTruncated"):
                return found
            parameters["Marker"] = page["Marker"]

    async def new_events(self, stack_id: str, seen: str | None) -> list[StackEvent]:
        """Return the events after the event `seen`, oldest first; without `seen`, those of the latest operation."""
        found: list[StackEvent] = []
        parameters = {"StackName": stack_id}
        while True:
            page = await self.call("cloudformation", "DescribeStackEvents", **parameters)
            new, complete = take_new([read_event(entry) for entry in page["StackEvents"]], seen)
            found += new
            if complete or not page.get("NextToken"):
                return found[::-1]
            parameters["NextToken"] = page["NextToken"]

    async def last_event(self, stack_id: str) -> str | None:
        """Return the id of the newest event; None when there is none yet."""
        try:
            page = await self.call("cloudformation", "DescribeStackEvents", StackName=stack_id)
        except Missing:
            return None
        return page["StackEvents"][0]["EventId"] if page["StackEvents"] else None

    async def client(self, service: str) -> Any:
        """Return the client of that service, opened on first use."""
        if self._given[service] is not None:
            return self._given[service]
        if service not in self._opened:
            self._opened[service] = await open_client(service, self._access.options)
        return self._opened[service]

    def _explain(self, error: Exception, action: str) -> LimiterError:
        if isinstance(error, LimiterError):
            return error
        if is_missing(error):
            return Missing(f"{action}: {self.stack!r} does not exist")
        if is_unchanged(error):
            return Unchanged(str(error))
        if is_conflict(error):
            return Conflict(f"stack {self.stack!r} is being changed by another operation: {error}")
        return explain(error, action, self.stack, self.region())

    def region(self) -> str | None:
        """Return the region; None when it is not known."""
        client = self._given["cloudformation"] or self._opened.get("cloudformation")
        region = getattr(getattr(client, "meta", None), "region_name", None) or self._access.options.region
        return region if isinstance(region, str) else None
