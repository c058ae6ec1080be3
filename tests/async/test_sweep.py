# twin: ../sync/test_sweep.py
"""A sweep of a table without time to live: expired buckets go, and nothing else does."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client

from limiter import Limit, RateLimiter, Repository, Sweep, ValidationError
from limiter.aws.schema import bucket_key
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engines import Engine, FakeClock

LIMITS = [Limit.per_minute("requests", 10)]
LONG = 10 * 24 * 3_600.0


@pytest.fixture
async def store(server_engine: Engine, table_name: str, aws_session: Any, clock: FakeClock) -> AsyncIterator[Repository]:
    """A store on a server's table, with a clock that tests move."""
    create_table(table_name, client=plain_client(str(server_engine.endpoint_url)))
    options: dict[str, Any] = {"connect_timeout": 30.0, "read_timeout": 30.0, "clock": clock, "session": aws_session}
    async with Repository(table_name, endpoint_url=server_engine.endpoint_url, **options) as repository:
        yield repository


async def test_expired_buckets_are_deleted_and_nothing_else(store: Repository, clock: FakeClock) -> None:
    """Stored limits, entities and buckets in use stay; a second sweep finds nothing."""
    limiter = RateLimiter(store, decision_timeout=60)
    await limiter.set_limits(LIMITS)
    await limiter.create_entity("user-0")
    for number in range(12):
        await limiter.try_acquire(f"user-{number}", "api")
    clock.advance(LONG)
    await limiter.try_acquire("user-0", "api", {"requests": 4})
    assert await store.sweep(dry_run=True) == Sweep(11, 0, 0)
    assert await store.sweep(max_rate=100_000) == Sweep(11, 11, 0)
    assert [key.entity_id for key in await store.buckets()] == ["user-0"]
    assert (await limiter.check("user-0", "api")).statuses[0].available == 6
    assert await limiter.get_limits() == tuple(LIMITS)
    assert await limiter.get_entity("user-0") is not None
    assert await store.sweep(max_rate=100_000) == Sweep()


@pytest.mark.one_server
async def test_segments_share_the_table(store: Repository, clock: FakeClock) -> None:
    """Each expired bucket is in one of the segments, of every namespace."""
    limiter = RateLimiter(store, LIMITS, decision_timeout=60)
    for number in range(10):
        await limiter.try_acquire(f"user-{number}", "api")
    clock.advance(LONG)
    done = [await store.sweep(max_rate=100_000, segment=each, segments=3) for each in range(3)]
    assert sum(each.deleted for each in done) == 10
    assert await store.buckets() == {}


@pytest.mark.one_server
async def test_a_bucket_that_is_renewed_before_its_deletion_is_kept(
    store: Repository, clock: FakeClock, server_engine: Engine
) -> None:
    """A bucket that is written between the read of its expired item and the deletion is kept."""
    limiter = RateLimiter(store, LIMITS, decision_timeout=60)
    for number in range(12):
        await limiter.try_acquire(f"user-{number}", "api")
    clock.advance(LONG)
    keys = list(await store.buckets())
    client = plain_client(str(server_engine.endpoint_url))

    def renew(_: Sweep) -> None:
        """Renew what is not deleted after the first deletions; all has been read by then."""
        for key in keys:
            with suppress(client.exceptions.ConditionalCheckFailedException):
                client.update_item(
                    TableName=store.stack,
                    Key=bucket_key(key),
                    UpdateExpression="SET #t = :later",
                    ConditionExpression="attribute_exists(#t)",
                    ExpressionAttributeNames={"#t": "ttl"},
                    ExpressionAttributeValues={":later": {"N": str(clock() // 10**9 + 60)}},
                )

    done = await store.sweep(max_rate=100_000, on_progress=renew)
    assert (done.expired, done.renewed) == (12, 4)
    assert len(await store.buckets()) == 4


@pytest.mark.one_server
@pytest.mark.parametrize("options", [{"max_rate": 0}, {"segments": 0}, {"segment": 1}, {"segment": -1}, {"segment": True}])
async def test_wrong_arguments_are_named(store: Repository, options: dict[str, Any]) -> None:
    """The error names the argument."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        await store.sweep(**options)
