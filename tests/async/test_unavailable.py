# twin: ../sync/test_unavailable.py
"""Tables that are missing, cannot be reached, or may not be used.

The test of `limiter.aws.table` and `limiter.runtime.retry`.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import free_port, plain_client

from limiter import ConfigurationError, Limit, RateLimiter, RateLimiterUnavailable, Repository, StackNotFound
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engines import Engine, FakeClock

LIMITS = [Limit.parse("requests=2/minute")]


@pytest.fixture
async def unreachable(clock: FakeClock) -> AsyncIterator[Repository]:
    """A repository whose endpoint refuses connections."""
    repository = Repository("my-app", endpoint_url=f"http://127.0.0.1:{free_port()}", clock=clock)
    yield repository
    await repository.close()


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
async def test_a_missing_table_is_named_with_the_remedy(engine: Engine, table_name: str) -> None:
    """Opening and acquiring never create a table; both errors say how to create it."""
    repository = Repository(table_name, endpoint_url=engine.endpoint_url, connect_timeout=30.0, read_timeout=30.0)
    with pytest.raises(StackNotFound, match=f"limiter deploy {table_name}"):
        await repository.open()
    with pytest.raises(StackNotFound, match=f"limiter deploy {table_name}"):
        await RateLimiter(repository, LIMITS, on_unavailable="allow").try_acquire("user")
    await repository.close()


async def test_an_endpoint_that_refuses_is_unavailable(unreachable: Repository) -> None:
    """By default the caller is told, with the cause."""
    with pytest.raises(RateLimiterUnavailable, match="could not connect") as error:
        await RateLimiter(unreachable, LIMITS).try_acquire("user")
    assert error.value.unsent
    assert error.value.__cause__ is not None


# eventlet leaves the socket of a failed handshake to the garbage collector, where closing it raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_https_address_of_a_plain_server_is_named(server_engine: Engine, table_name: str) -> None:
    """If the server does not use TLS, the error says that the address must begin with http://."""
    address = str(server_engine.endpoint_url).replace("http://", "https://")
    repository = Repository(table_name, endpoint_url=address)
    with pytest.raises(RateLimiterUnavailable, match=r"begin with http://") as error:
        await repository.open()
    assert error.value.unsent
    await repository.close()
    del error, repository
    gc.collect()


async def test_without_the_table_everything_can_be_allowed(unreachable: Repository) -> None:
    """With "allow" the lease is marked, and its corrections do nothing."""
    limiter = RateLimiter(unreachable, LIMITS, on_unavailable="allow")
    for _ in range(3):
        async with limiter.acquire("user", consume={"requests": 2}) as lease:
            assert lease.degraded
            await lease.adjust(requests=5)
            await lease.release(requests=1)
            assert lease.consumed["requests"] == 6


async def test_without_the_table_this_process_can_limit_alone(unreachable: Repository) -> None:
    """With "local" the same limits hold within the process, for a limiter or for a call."""
    limiter = RateLimiter(unreachable, LIMITS)
    decisions = [await limiter.try_acquire("user", on_unavailable="local") for _ in range(3)]
    assert [decision.allowed for decision in decisions] == [True, True, False]
    async with limiter.acquire("other", on_unavailable="local") as lease:
        assert lease.degraded


@pytest.mark.parametrize(("variable", "remedy"), [("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), ("AWS_DEFAULT_REGION", "region")])
async def test_missing_settings_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str) -> None:
    """Missing credentials or a missing region raise an error that says where to set them; that is not an outage."""
    monkeypatch.delenv(variable)
    repository: Any = Repository("my-app")
    with pytest.raises(ConfigurationError, match=remedy):
        await RateLimiter(repository, LIMITS, on_unavailable="allow").try_acquire("user")
    await repository.close()


@pytest.fixture
async def twice(server_engine: Engine, table_name: str, clock: FakeClock) -> AsyncIterator[tuple[RateLimiter, RateLimiter]]:
    """Two limiters of one table, the first by its ARN and the second by its name."""
    client = plain_client(str(server_engine.endpoint_url))
    create_table(table_name, client=client)
    # DynamoDB Local has a region of its own in its ARNs, and takes any.
    arn = client.describe_table(TableName=table_name)["Table"]["TableArn"].replace("ddblocal", "us-east-1")
    options: dict[str, Any] = {"endpoint_url": server_engine.endpoint_url, "clock": clock}
    options |= {"connect_timeout": 30.0, "read_timeout": 30.0}
    async with Repository(arn, **options) as by_arn, Repository(table_name, **options) as by_name:
        yield RateLimiter(by_arn, LIMITS, decision_timeout=60), RateLimiter(by_name, LIMITS, decision_timeout=60)


@pytest.mark.engines("moto", "dynamodb-local")
async def test_a_table_is_reached_by_its_arn(twice: tuple[RateLimiter, RateLimiter]) -> None:
    """Decisions and stored limits are the same by the table's ARN and by its name."""
    by_arn, by_name = twice
    await by_arn.set_limits([Limit.parse("requests=1/minute")], entity_id="user")
    assert await by_arn.try_acquire("user")
    assert not await by_name.try_acquire("user")


@pytest.mark.engines("moto", "dynamodb-local")
async def test_entities_and_namespaces_are_reached_by_the_arn(twice: tuple[RateLimiter, RateLimiter]) -> None:
    """Parents, listings and the deletion of a namespace work by the table's ARN."""
    by_arn, by_name = twice
    await by_arn.create_entity("team")
    await by_arn.create_entity("user", parent_id="team")
    assert [each.entity_id for each in await by_name.list_children("team")] == ["user"]
    assert await by_arn.list_namespaces() == ("default",)
    await by_arn.delete_namespace("default")
    assert await by_name.list_namespaces() == ()
