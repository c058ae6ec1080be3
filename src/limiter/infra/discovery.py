# twin: sync_discovery.py
"""Finds the stacks in a region that the limiter deployed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..aws.client import ClientOptions
from ..exceptions import LimiterError
from ..runtime.concurrency import gather
from .stack_client import StackAccess, StackClient
from .stack_summary import read_stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .stack_summary import StackSummary

_AT_ONCE = 10


async def discover(
    region: str | None = None,
    *,
    endpoint_url: str | None = None,
    session: Any = None,
    client: Any = None,
    table_client: Any = None,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> list[StackSummary]:
    """Return the stacks in the region that the limiter deployed, sorted by name, each with its table.

    The limiter's stacks are recognised by their tags. Needs cloudformation:DescribeStacks; without dynamodb:DescribeTable, the
    tables are None.
    """
    options = ClientOptions(
        region=region,
        endpoint_url=endpoint_url,
        session=session,
        connect_timeout=5.0,
        read_timeout=30.0,
        max_connections=_AT_ONCE,
    )
    async with StackClient("*", StackAccess(options, client, table_client, sleep=sleep)) as aws:
        entries = await aws.pages("DescribeStacks", "Stacks")
        stacks = sorted((stack for stack in map(read_stack, entries) if stack.own), key=_name)
        found: list[StackSummary] = []
        if stacks:
            await aws.client("dynamodb")  # Opened before concurrent calls need it.
        for start in range(0, len(stacks), _AT_ONCE):
            some = stacks[start : start + _AT_ONCE]
            found += map(_with_table, some, await gather([partial(aws.table, stack.name) for stack in some]))
        return found


def _name(stack: StackSummary) -> str:
    return stack.name


def _with_table(stack: StackSummary, table: Any) -> StackSummary:
    if isinstance(table, BaseException):
        if not isinstance(table, LimiterError):
            raise table
        return stack
    return replace(stack, table=table)
