# twin: ../sync/test_refused_writes.py
"""Writes that the table refuses for a reason of its own: conflicts, changes by others, engines that lack a feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.fault_proxy import FaultProxy, error, passing

from limiter import ConfigurationError, EntityChanged, Limit, RateLimiter, Repository, Throttled, ValidationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMITS = [Limit.per_hour("requests", 100)]
NO_ITEM = error(400, "ConditionalCheckFailedException", "The conditional request failed", action="UpdateItem")


@pytest.fixture
def proxy(server_proxy: FaultProxy) -> FaultProxy:
    """The proxy before every server, moto included."""
    return server_proxy


@pytest.fixture
async def limiter(proxy: FaultProxy, table_name: str, aws_session: Any) -> AsyncIterator[RateLimiter]:
    """A limiter behind the proxy."""
    options: dict[str, Any] = {"session": aws_session, "connect_timeout": 30.0, "read_timeout": 30.0}
    async with Repository(table_name, endpoint_url=proxy.endpoint_url, **options) as repository:
        yield RateLimiter(repository, LIMITS, decision_timeout=60.0)


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("policy", ["block", "allow", "local"])
async def test_an_engine_that_returns_no_item_is_named(limiter: RateLimiter, proxy: FaultProxy, policy: Any, seen: bool) -> None:
    """Where a failed condition comes without the item, the engine is at fault: at most three writes, and no policy applies."""
    if seen:
        assert (await limiter.try_acquire("user", "api")).allowed
    before = proxy.counts().actions.get("UpdateItem", 0)
    proxy.inject(NO_ITEM)
    with pytest.raises(ConfigurationError, match="returns no item when a condition fails"):
        await limiter.try_acquire("user", "api", on_unavailable=policy)
    assert proxy.counts().actions["UpdateItem"] - before <= 3
    proxy.heal()
    assert (await limiter.try_acquire("user", "api")).allowed
    assert limiter.stats().breaker == "closed"


async def test_an_item_that_was_deleted_is_no_fault(limiter: RateLimiter) -> None:
    """A bucket that its time to live has just removed fails a condition without an item, and the next write is allowed."""
    assert (await limiter.try_acquire("user", "api", {"requests": 60})).allowed
    await limiter.delete_namespace("default")
    assert (await limiter.try_acquire("user", "api", {"requests": 30})).allowed
    assert (await limiter.check("user", "api")).statuses[0].available == 70


@pytest.mark.parametrize("status", [400, 409, 500])
@pytest.mark.parametrize("code", ["ReplicatedWriteConflictException", "TransactionConflictException"])
async def test_a_conflict_is_repeated_and_counts_once(limiter: RateLimiter, proxy: FaultProxy, code: str, status: int) -> None:
    """A write that conflicted with another one had no effect, for any status: it is repeated, and its units count once."""
    proxy.inject(error(status, code, action="UpdateItem", times=2))
    assert (await limiter.try_acquire("user", "api", {"requests": 10}, on_unavailable="allow")).allowed
    assert (await limiter.check("user", "api")).statuses[0].available == 90
    assert limiter.stats().throttled == 2
    assert limiter.stats().breaker == "closed"


@pytest.mark.one_server  # The proxy answers the writes, for seconds.
@pytest.mark.parametrize("code", ["ReplicatedWriteConflictException", "TransactionConflictException"])
async def test_conflicts_without_end_are_throttling(proxy: FaultProxy, table_name: str, aws_session: Any, code: str) -> None:
    """After a while the caller learns that nothing was taken, and the breaker stays closed for other keys."""
    proxy.inject(passing(action="BatchGetItem"), error(500, code, action="UpdateItem"))
    async with Repository(table_name, endpoint_url=proxy.endpoint_url, session=aws_session) as repository:
        limiter = RateLimiter(repository, LIMITS, decision_timeout=2.0)
        for _ in range(4):
            with pytest.raises(Throttled, match=code) as caught:
                await limiter.try_acquire("user", "api")
            assert caught.value.unsent
        assert limiter.stats().breaker == "closed"


@pytest.mark.parametrize("action", ["PutItem", "UpdateItem"])
@pytest.mark.parametrize("code", ["ThrottlingException", "ReplicatedWriteConflictException"])
async def test_a_link_that_is_throttled_or_in_conflict_is_repeated(
    limiter: RateLimiter, proxy: FaultProxy, action: str, code: str
) -> None:
    """It was not applied: it is made again, and where that goes on it is throttling, and not a change by others."""
    await limiter.create_entity("parent")
    proxy.inject(error(400, code, action=action, times=2))
    assert (await limiter.create_entity("child", parent_id="parent")).entity_id == "child"
    before = proxy.counts().actions[action]
    proxy.inject(error(400, code, action=action))
    with pytest.raises(Throttled, match=code):
        await limiter.create_entity("other", parent_id="parent")
    assert proxy.counts().actions[action] - before == 3
    proxy.heal()
    assert await limiter.get_entity("other") is None


async def test_an_entity_that_is_too_large_is_the_callers(limiter: RateLimiter, proxy: FaultProxy) -> None:
    """What the table itself finds too large is a `ValidationError` that names metadata and the bound, after one attempt."""
    proxy.inject(error(400, "ValidationException", "Item size has exceeded the maximum allowed size", action="PutItem"))
    before = proxy.counts().actions.get("PutItem", 0)
    with pytest.raises(ValidationError, match=r"400 KB.*metadata"):
        await limiter.create_entity("user")
    assert proxy.counts().actions["PutItem"] - before == 1


async def test_a_change_by_others_is_tried_again(limiter: RateLimiter, proxy: FaultProxy) -> None:
    """Each attempt reads the entities again; after the last attempt it raises `EntityChanged`."""
    proxy.inject(error(400, "ConditionalCheckFailedException", action="PutItem", times=2))
    assert (await limiter.create_entity("user")).entity_id == "user"
    proxy.inject(error(400, "ConditionalCheckFailedException", action="PutItem"))
    with pytest.raises(EntityChanged):
        await limiter.create_entity("other")


async def test_a_table_that_refuses_transactions_links_entities(limiter: RateLimiter, proxy: FaultProxy) -> None:
    """As a global table with strong consistency: chains are made, moved and charged without a transaction."""
    refused = "Transactional operations are not supported on this table"
    for action in ("TransactWriteItems", "TransactGetItems"):
        proxy.inject(error(400, "ValidationException", refused, action=action))
    for child, parent in {"org": None, "team": "org", "user": "team"}.items():
        await limiter.create_entity(child, parent_id=parent)
    assert await limiter.try_acquire("user", "api", {"requests": 10})
    assert [(await limiter.check(each, "api")).statuses[0].available for each in ("user", "team", "org")] == [90, 90, 90]
    await limiter.set_parent("user", None)
    with pytest.raises(ValidationError, match="its own ancestor"):
        await limiter.set_parent("org", "team")
    assert not {"TransactWriteItems", "TransactGetItems"} & proxy.counts().actions.keys()


@pytest.mark.parametrize("metadata", [{"key": "x" * 400_000}, {"é" * 200_000: ""}, {str(key): "y" * 30 for key in range(20_000)}])
async def test_metadata_that_is_too_large_is_refused_before_the_call(repository: Any, metadata: dict[str, str]) -> None:
    """The error names metadata and 400 KB; nothing is read or written."""
    limiter = RateLimiter(repository, LIMITS)
    with pytest.raises(ValidationError, match=r"metadata.*400 KB"):
        await limiter.create_entity("user", metadata=metadata)
    assert not repository.take()


async def test_the_largest_metadata_fits(repository: Any) -> None:
    """With the longest ids beside it."""
    limiter = RateLimiter(repository, LIMITS)
    parent = "\U0001f9ca" * 255
    await limiter.create_entity(parent, name=parent)
    await limiter.create_entity("é" * 255, parent_id=parent, name=parent, metadata={"key": "x" * (384 * 1024 - 7)})
    stored = await limiter.get_entity("é" * 255)
    assert stored is not None
    assert len(stored.metadata["key"]) == 384 * 1024 - 7
