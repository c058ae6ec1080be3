# twin: ../sync/test_discovery.py
"""Discovery of every stack in a region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.scripted_cloudformation import Client, Cloud, denied, refused

from limiter import PermissionDenied, StackManager, discover

if TYPE_CHECKING:
    from support.engines import Engine


async def find(cloud: Cloud) -> list[Any]:
    """All stacks of a cloud."""

    async def sleep(seconds: float) -> None:
        cloud.now += seconds

    async def respond(method: str, **parameters: Any) -> Any:
        return cloud.respond(method, parameters)

    return await discover(client=Client(respond), table_client=Client(respond), sleep=sleep)


async def test_finds_own_stacks_on_every_page() -> None:
    """Stacks of others are left out, pages are followed, and names are in order."""
    cloud = Cloud(page_size=2)
    for number in range(25):
        cloud.add(f"app-{number:02}", own=number % 5 != 0)
    found = await find(cloud)
    assert [stack.name for stack in found] == [f"app-{number:02}" for number in range(25) if number % 5 != 0]
    assert {(stack.version, stack.schema_version, stack.status) for stack in found} == {("0.0.1", 1, "CREATE_COMPLETE")}
    assert {stack.table.size_bytes for stack in found if stack.table} == {2048}


async def test_a_table_that_cannot_be_seen_is_none() -> None:
    """A stack whose table is hidden or gone does not spoil the list."""
    cloud = Cloud()
    for name in ("app-a", "app-b", "app-c"):
        cloud.add(name)
    cloud.fail("DescribeTable", denied("dynamodb:DescribeTable"))
    assert sorted(stack.table is None for stack in await find(cloud)) == [False, False, True]
    del cloud.tables["app-b"]
    assert [stack.name for stack in await find(cloud) if stack.table is None] == ["app-b"]


async def test_nothing_to_find() -> None:
    """Without stacks the list is empty, and DynamoDB is not asked."""
    cloud = Cloud()
    assert await find(cloud) == []
    assert cloud.count("DescribeTable") == 0


async def test_throttling_and_lost_access() -> None:
    """Throttling is waited out; a missing permission is named."""
    cloud = Cloud()
    cloud.add("my-app")
    cloud.fail("DescribeStacks", refused("Throttling", "Rate exceeded"))
    assert len(await find(cloud)) == 1
    cloud.fail("DescribeStacks", denied("cloudformation:DescribeStacks"))
    with pytest.raises(PermissionDenied, match="lack cloudformation:DescribeStacks"):
        await find(cloud)


@pytest.mark.engines("moto")
async def test_on_an_engine(server_engine: Engine, table_name: str) -> None:
    """A stack that was deployed is found with its table."""
    manager = StackManager(table_name, region="us-east-1", endpoint_url=server_engine.endpoint_url)
    await manager.deploy()
    found = await discover("us-east-1", endpoint_url=server_engine.endpoint_url)
    assert table_name in [stack.name for stack in found if stack.table is not None]
    await manager.delete()
