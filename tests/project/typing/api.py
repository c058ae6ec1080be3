"""Every public call in use, for type checkers only: nothing runs this file. `make check` reads it with mypy and pyright.

`assert_type` states what a call returns. A line with an ignore comment has to be an error, since both checkers report comments
that are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, assert_type

from limiter import (
    BLOCKED,
    UNLIMITED,
    BaseLimit,
    Blocked,
    BlockingCallWarning,
    CacheStatistics,
    Charged,
    CircuitOpen,
    Concurrency,
    ConfigurationError,
    Decision,
    DecisionEvent,
    DeletionProtected,
    Deployment,
    Drift,
    Entity,
    EntityChanged,
    EntityExists,
    EntityNotFound,
    Lease,
    LeaseClosed,
    LeaseEvent,
    LeaseLost,
    Limit,
    LimiterError,
    LimitStatus,
    MemoryRepository,
    NeverSatisfiable,
    PermissionDenied,
    Plan,
    Quota,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    ReplacementRefused,
    Repository,
    RepositoryProtocol,
    RuntimeNotReady,
    StackBusy,
    StackEvent,
    StackFailed,
    StackManager,
    StackNotFound,
    StackNotOwned,
    StackSettings,
    StackSummary,
    Statistics,
    Sweep,
    SyncLease,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    SyncRepositoryProtocol,
    SyncStackManager,
    Throttled,
    UnreadableItem,
    ValidationError,
    __version__,
    discover,
    sync_discover,
)
from limiter.local import LocalEngine
from limiter.repository_protocol import (
    BucketKey,
    BucketState,
    BucketStore,
    EntityKey,
    Limits,
    LimitsKey,
    Lookup,
    RecordKey,
    Window,
    WriteResult,
)
from limiter.testing import create_table

if TYPE_CHECKING:
    from limiter.repository_protocol import RecordStore, Update
    from limiter.sync_repository_protocol import SyncBucketStore, SyncRecordStore

print(__version__.upper())


def limits() -> list[Limit]:
    """Make limits in every way."""
    allotted = Limit.per_minute("tokens", 10_000, burst=50_000, allotment=0.1, enforce=False)
    made = [Limit("requests", 10, 10, 60.0), Limit.per_second("a", 1), Limit.per_hour("b", 1), Limit.per_day("c", 1), allotted]
    made.append(Limit.at_most("requests", 15, 60.0, burst=8))
    assert_type(allotted.capacity, int)
    assert_type(allotted.refill_amount, int)
    assert_type(allotted.refill_period, float)
    Limit("requests", "10", 10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return made


def other_kinds() -> list[BaseLimit]:
    """Make the other kinds of limits."""
    quotas = [Quota.per_hour("q", 1), Quota.per_day("q", 1, "Europe/Berlin"), Quota.per_week("q", 1), Quota.per_month("q", 1)]
    counted = [*quotas, Quota.session("messages", 50, 5 * 3600), Quota.total("credits", 10_000, enforce=False)]
    assert_type(counted[0].name, str)
    assert_type(counted[0].enforce, bool)
    return [*counted, Concurrency("calls", 20, ttl=60.0)]


def access() -> None:
    """Name the constants that stand in place of a list of limits."""
    print(UNLIMITED, BLOCKED)


def decisions(decision: Decision, status: LimitStatus, event: DecisionEvent) -> None:
    """Read the values that decisions consist of."""
    assert_type(decision.allowed, bool)
    assert_type(decision.statuses, tuple[LimitStatus, ...])
    assert_type(decision.retry_after, float | None)
    assert_type(Decision.of([status]), Decision)
    assert_type(status.limit, BaseLimit)
    assert_type((status.entity_id, status.resource), tuple[str, str])
    assert_type((status.requested, status.available, status.exceeded), tuple[int, int, bool])
    assert_type((status.retry_after, status.reset_after), tuple[float | None, float | None])
    assert_type((event.entity_id, event.resource, event.statuses), tuple[str, str, tuple[LimitStatus, ...]])
    assert_type((event.allowed, event.degraded, event.waited, event.seconds), tuple[bool, bool, float, float])


def records(event: LeaseEvent, charged: Charged) -> None:
    """Read what a hook with a method `note` is told."""
    assert_type((event.kind, event.id, event.process_id, event.begin, event.end), tuple[str, str, str, int, int | None])
    assert_type((event.outcome, event.degraded, event.waits), tuple[str, bool, bool])
    assert_type((charged.limit, charged.units, charged.start, charged.since), tuple[BaseLimit, int, int | None, int | None])


def statistics(counts: Statistics, cache: CacheStatistics) -> None:
    """Read the counts."""
    assert_type((counts.decisions, counts.refusals, counts.degraded, counts.calls), tuple[int, int, int, int])
    assert_type((counts.failures, counts.throttled, counts.batches, counts.cache_hits), tuple[int, int, int, int])
    assert_type((counts.corrections_lost, counts.skew), tuple[int, float | None])
    if counts.breaker == "closed":
        print(cache.entries, cache.hits, cache.misses, cache.fetches)


def errors(error: Exception) -> str | None:
    """Catch every error, and read what it tells."""
    try:
        raise error
    except Blocked as blocked:
        return blocked.entity_id + blocked.resource
    except NeverSatisfiable as never:
        assert_type(never.decision, Decision)
    except RateLimitExceeded as refused:
        assert_type(refused.retry_after, float | None)
        assert_type(refused.statuses, tuple[LimitStatus, ...])
        assert_type(refused.violations, tuple[LimitStatus, ...])
        assert_type(refused.degraded, bool)
    except Throttled as throttled:
        assert_type(throttled.hot_key, bool)
    except (CircuitOpen, RateLimiterUnavailable) as unavailable:
        assert_type(unavailable.unsent, bool)
    except StackFailed as failed:
        return failed.stack + failed.status + failed.reason + (failed.resource or "")
    except (StackNotFound, StackNotOwned, StackBusy, DeletionProtected, ReplacementRefused) as stack:
        return str(stack)
    except (EntityNotFound, EntityExists, EntityChanged, ValidationError, UnreadableItem) as data:
        return str(data)
    except (LeaseClosed, LeaseLost, ConfigurationError, PermissionDenied, RuntimeNotReady, LimiterError) as other:
        return str(other)
    except BlockingCallWarning:
        return None
    return None


async def pause(seconds: float) -> None:
    """Wait, in tests that own time."""


def repositories() -> list[RepositoryProtocol]:
    """Make stores."""
    whole = Repository(
        "my-app",
        namespace="default",
        region="eu-west-1",
        endpoint_url="http://127.0.0.1:8000",
        session=None,
        client=None,
        clock=lambda: 0,
        max_connections=64,
        connect_timeout=0.4,
        read_timeout=0.5,
    )
    assert_type(whole.skew, float | None)
    assert whole.transport is None
    assert_type((whole.stack, whole.namespace), tuple[str, str])
    return [whole, MemoryRepository(namespace="default", clock=lambda: 0)]


def sync_repositories() -> list[SyncRepositoryProtocol]:
    """Make the sync versions of stores."""
    whole = SyncRepository(
        "my-app",
        namespace="default",
        region="eu-west-1",
        endpoint_url="http://127.0.0.1:8000",
        session=None,
        client=None,
        clock=lambda: 0,
        max_connections=64,
        connect_timeout=0.4,
        read_timeout=0.5,
    )
    assert_type(whole.skew, float | None)
    assert whole.transport is None
    assert_type((whole.stack, whole.namespace), tuple[str, str])
    return [whole, SyncMemoryRepository(namespace="default", clock=lambda: 0)]


def limiters(store: RepositoryProtocol, told: Callable[[DecisionEvent], object]) -> RateLimiter:
    """Make a limiter with every option."""
    return RateLimiter(
        store,
        limits(),
        "local",
        config_ttl=60.0,
        denial_ttl=1.0,
        linger=0.0,
        writes_per_key=700,
        decision_timeout=1.0,
        local_share=0.5,
        on_decision=told,
        sleep=pause,
        stored=True,
    )


def sync_limiters(store: SyncRepositoryProtocol, told: Callable[[DecisionEvent], object]) -> SyncRateLimiter:
    """Make the sync version with every option."""
    SyncRateLimiter(MemoryRepository())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return SyncRateLimiter(
        store,
        limits(),
        "local",
        config_ttl=60.0,
        denial_ttl=1.0,
        linger=0.0,
        writes_per_key=700,
        decision_timeout=1.0,
        local_share=0.5,
        on_decision=told,
        sleep=lambda seconds: None,
        stored=False,
    )


async def deciding(store: Repository) -> None:
    """Ask in every way."""
    async with store, RateLimiter(store, limits()) as limiter:
        acquisition = limiter.acquire(
            "user-42",
            "gpt-4",
            {"requests": 1},
            limits=limits(),
            timeout=5.0,
            on_unavailable="block",
            also=[("provider", "gpt-4"), ("everybody", "search", {"requests": 1})],
            refund_on_error=(ValueError, TimeoutError),
        )
        async with acquisition as lease:
            assert_type(lease, Lease)
            assert_type((lease.entity_id, lease.resource, lease.waited, lease.degraded), tuple[str, str, float, bool])
            assert_type(lease.consumed, Mapping[str, int])
            assert_type(lease.statuses, tuple[LimitStatus, ...])
            assert_type((lease.fence, lease.lost), tuple[int | None, bool])
            lease.keep()
            assert_type(await lease.adjust(tokens=120), None)
            assert_type(await lease.consume({"tokens": 50}), None)
            assert_type(await lease.release({"tokens": 30}, requests=1), None)
        decision = await limiter.try_acquire("user-42", consume={"requests": 1}, limits=limits(), timeout=1)
        assert_type(decision, Decision)
        assert_type(await limiter.try_acquire("user-42", "gpt-4", on_unavailable="allow"), Decision)
        assert_type(await limiter.check("user-42", "gpt-4", {"requests": 1}, limits=limits()), Decision)
        assert_type(await limiter.pause("user-42", "gpt-4", 30.0), None)
        assert_type(await limiter.reset("user-42", "gpt-4", ["requests"]), None)
        assert_type(await limiter.adjust("user-42", "gpt-4", {"requests": -1}), None)
        assert_type(await limiter.resolve_limits("user-42", "gpt-4"), Limits)
        assert_type(limiter.stats(), Statistics)
        assert_type(limiter.config_statistics, CacheStatistics)
        assert_type(limiter.limits, Limits)
        limiter.acquire(on_unavailable="retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with limiter.acquire():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
            pass
        await limiter.close()
    await store.open()
    await store.close()


def sync_deciding(store: SyncRepository) -> None:
    """Ask the sync version in every way."""
    with store, SyncRateLimiter(store, limits()) as limiter:
        acquisition = limiter.acquire(
            "user-42",
            "gpt-4",
            {"requests": 1},
            limits=limits(),
            timeout=5.0,
            on_unavailable="block",
            also=[("provider", "gpt-4"), ("everybody", "search", {"requests": 1})],
            refund_on_error=(ValueError, TimeoutError),
        )
        with acquisition as lease:
            assert_type(lease, SyncLease)
            assert_type((lease.entity_id, lease.resource, lease.waited, lease.degraded), tuple[str, str, float, bool])
            assert_type(lease.consumed, Mapping[str, int])
            assert_type(lease.statuses, tuple[LimitStatus, ...])
            assert_type((lease.fence, lease.lost), tuple[int | None, bool])
            lease.keep()
            lease.adjust(tokens=120)
            lease.consume({"tokens": 50})
            lease.release({"tokens": 30}, requests=1)
        decision = limiter.try_acquire("user-42", consume={"requests": 1}, limits=limits(), timeout=1)
        assert_type(decision, Decision)
        assert_type(limiter.try_acquire("user-42", "gpt-4", on_unavailable="allow"), Decision)
        assert_type(limiter.check("user-42", "gpt-4", {"requests": 1}, limits=limits()), Decision)
        assert_type(limiter.pause("user-42", "gpt-4", 30.0), None)
        assert_type(limiter.reset("user-42", "gpt-4", ["requests"]), None)
        assert_type(limiter.adjust("user-42", "gpt-4", {"requests": -1}), None)
        assert_type(limiter.resolve_limits("user-42", "gpt-4"), Limits)
        assert_type(limiter.stats(), Statistics)
        assert_type(limiter.config_statistics, CacheStatistics)
        assert_type(limiter.limits, Limits)
        limiter.acquire(on_unavailable="retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        limiter.close()
    store.open()
    store.close()


def entity_of(question: str) -> str:
    """Choose the entity by the arguments of a decorated call."""
    return question


def amounts_of(question: str) -> dict[str, int]:
    """Choose the amounts by the arguments of a decorated call."""
    return {"requests": len(question)}


async def decorating(limiter: RateLimiter) -> None:
    """A decorated function keeps its signature."""

    @limiter.limited("user-42", "gpt-4", {"requests": 1}, limits=limits(), timeout=1.0, on_unavailable="allow")
    async def answer(question: str, *, words: int = 100) -> str:
        return question * words

    @limiter.limited(entity_of, consume=amounts_of)
    async def other(question: str) -> int:
        return len(question)

    assert_type(await answer("why?", words=10), str)
    assert_type(await other("why?"), int)
    await answer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await answer("why?", words="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await answer("why?", letters=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def sync_decorating(limiter: SyncRateLimiter) -> None:
    """A function decorated by the sync version keeps its signature."""

    @limiter.limited("user-42", "gpt-4", {"requests": 1}, limits=limits(), timeout=1.0, on_unavailable="allow")
    def answer(question: str, *, words: int = 100) -> str:
        return question * words

    @limiter.limited(entity_of, consume=amounts_of)
    def other(question: str) -> int:
        return len(question)

    assert_type(answer("why?", words=10), str)
    assert_type(other("why?"), int)
    answer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    answer("why?", words="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    answer("why?", letters=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def administration(limiter: RateLimiter) -> None:
    """Store limits and entities."""
    await limiter.set_limits(limits(), entity_id="user-42", resource="gpt-4")
    await limiter.set_limits(UNLIMITED, entity_id="user-42")
    await limiter.set_limits(limits(), schedule=[("mon-fri 09:00-17:00", "Europe/Berlin", limits()), ("sat", "UTC", BLOCKED)])
    assert_type(await limiter.get_schedule("user-42", "gpt-4"), tuple[Window, ...])
    assert_type(await limiter.get_limits("user-42"), Limits | None)
    await limiter.delete_limits(resource="gpt-4")
    assert_type(await limiter.list_limits(), dict[LimitsKey, Limits])
    made = await limiter.create_entity("user-42", parent_id="team", cascade=True, name="Ann", metadata={"plan": "pro"})
    assert_type(made, Entity)
    assert_type((made.entity_id, made.parent_id, made.cascade, made.name), tuple[str, str | None, bool, str | None])
    assert_type(await limiter.get_entity("user-42"), Entity | None)
    assert_type(await limiter.set_parent("user-42", None), Entity)
    assert_type(await limiter.put_entity(made), Entity)
    assert_type(await limiter.list_stored_entities(), tuple[Entity, ...])
    await limiter.delete_entity("user-42")
    assert_type(await limiter.list_children("team"), tuple[Entity, ...])
    assert_type(await limiter.list_entities("gpt-4"), tuple[str, ...])
    assert_type(await limiter.list_resources("user-42"), tuple[str, ...])
    assert_type(await limiter.list_namespaces(), tuple[str, ...])
    assert_type(await limiter.delete_namespace("old"), int)


def sync_administration(limiter: SyncRateLimiter) -> None:
    """Store limits and entities by the sync version."""
    limiter.set_limits(limits(), entity_id="user-42", resource="gpt-4")
    limiter.set_limits(BLOCKED, entity_id="user-42")
    limiter.set_limits(BLOCKED, schedule=[("mon-fri 09:00-17:00", "Europe/Berlin", limits()), ("sat", "UTC", UNLIMITED)])
    for window in limiter.get_schedule("user-42", "gpt-4"):
        assert_type(window, Window)
        assert_type((window.when, window.zone, window.limits), tuple[str, str, Limits])
    assert_type(limiter.get_limits("user-42"), Limits | None)
    limiter.delete_limits(resource="gpt-4")
    assert_type(limiter.list_limits(), dict[LimitsKey, Limits])
    made = limiter.create_entity("user-42", parent_id="team", cascade=True, name="Ann", metadata={"plan": "pro"})
    assert_type(made, Entity)
    assert_type(limiter.get_entity("user-42"), Entity | None)
    assert_type(limiter.set_parent("user-42", None), Entity)
    assert_type(limiter.put_entity(made), Entity)
    assert_type(limiter.list_stored_entities(), tuple[Entity, ...])
    limiter.delete_entity("user-42")
    assert_type(limiter.list_children("team"), tuple[Entity, ...])
    assert_type(limiter.list_entities("gpt-4"), tuple[str, ...])
    assert_type(limiter.list_resources("user-42"), tuple[str, ...])
    assert_type(limiter.list_namespaces(), tuple[str, ...])
    assert_type(limiter.delete_namespace("old"), int)


async def sweeping(store: Repository, told: Callable[[Sweep], None]) -> None:
    """A sweep returns what it found."""
    done = await store.sweep(max_rate=100, segment=0, segments=4, dry_run=True, on_progress=told)
    assert_type(done, Sweep)
    assert_type(done.expired + done.deleted + done.renewed, int)


def sync_sweeping(store: SyncRepository, told: Callable[[Sweep], None]) -> None:
    """The same in the sync version."""
    assert_type(store.sweep(max_rate=100, segment=0, segments=4, dry_run=True, on_progress=told), Sweep)


async def stacks(on_event: Callable[[StackEvent], None]) -> None:
    """Deploy and inspect."""
    manager = StackManager("my-app", region="eu-west-1", endpoint_url=None, session=None, client=None, sleep=pause)
    settings = StackSettings(billing_mode="on-demand", retain=True, tags={"team": "a"})
    assert_type(await manager.deploy(settings, adopt=True, timeout=60.0, on_event=on_event), Deployment)
    assert_type(await manager.plan(settings), Plan)
    assert_type(await manager.status(), StackSummary)
    assert_type(await manager.events(10), tuple[StackEvent, ...])
    assert_type(await manager.drift(timeout=60.0), Drift)
    assert_type(await manager.wait(), StackSummary | None)
    assert_type(await manager.delete(), bool)
    assert_type(manager.template(retain=True), str)
    assert_type(await discover("eu-west-1"), list[StackSummary])


def sync_stacks(on_event: Callable[[StackEvent], None]) -> None:
    """Deploy and inspect by the sync version."""
    manager = SyncStackManager("my-app", region="eu-west-1", endpoint_url=None, session=None, client=None)
    settings = StackSettings(billing_mode="on-demand", retain=True, tags={"team": "a"})
    assert_type(manager.deploy(settings, adopt=True, timeout=60.0, on_event=on_event), Deployment)
    assert_type(manager.plan(settings), Plan)
    assert_type(manager.status(), StackSummary)
    assert_type(manager.events(10), tuple[StackEvent, ...])
    assert_type(manager.drift(timeout=60.0), Drift)
    assert_type(manager.wait(), StackSummary | None)
    assert_type(manager.delete(), bool)
    assert_type(manager.template(retain=True), str)
    assert_type(sync_discover("eu-west-1"), list[StackSummary])


def stack_values(event: StackEvent, summary: StackSummary, plan: Plan, deployment: Deployment, drift: Drift) -> None:
    """Read the values that a stack manager returns."""
    assert_type((event.timestamp, summary.created), tuple[datetime | None, datetime | None])
    assert_type((summary.name, summary.status, event.resource), tuple[str, str, str])
    assert_type((plan.changed, deployment.changed, drift.stack), tuple[bool, bool, str])


async def a_store(store: BucketStore, records: RecordStore, update: Update) -> None:
    """What the author of a store needs has a name in `limiter.repository_protocol`."""
    key = BucketKey("default", "user-42", "gpt-4")
    assert_type(await store.read_bucket(key), BucketState)
    assert_type(await store.write_bucket(key, update), WriteResult)
    found = await records.read_records([LimitsKey(), EntityKey("user-42")], [key])
    assert_type(found, tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]])
    assert_type(await records.levels(), tuple[LimitsKey, ...])


def a_sync_store(store: SyncBucketStore, records: SyncRecordStore, update: Update) -> None:
    """The same of the sync version."""
    key = BucketKey("default", "user-42", "gpt-4")
    assert_type(store.read_bucket(key), BucketState)
    assert_type(store.write_bucket(key, update), WriteResult)
    assert_type(records.levels(), tuple[LimitsKey, ...])


def local() -> None:
    """Run the embedded engine, and make its table."""
    with LocalEngine(port=0, start_timeout=10.0) as engine:
        create_table("my-app", endpoint_url=engine.endpoint_url, region="eu-west-1")
        engine.reset()
    engine.start()
    engine.stop()
