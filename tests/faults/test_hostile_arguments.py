"""For every argument a call works or raises a typed error, and a call that fails has written nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile_values import ANYTHING, DEEP, Endless, Mixed, Mute, Text

from limiter import (
    Entity,
    Limit,
    LimiterError,
    MemoryRepository,
    RateLimiter,
    Repository,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)
from limiter.aws import queries, schema
from limiter.core.records import BucketKey, EntityKey, EntityRecord, LimitsKey

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS = Limit.parse("requests=10/minute")
WRITES = ("write_bucket", "write_limits", "link_entity", "delete_entity", "delete_namespace")


class Watched:
    """A repository in memory that counts writes."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.writes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)
        return self._counted(method) if name in WRITES else method

    def _counted(self, method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.writes[method.__name__] += 1
            return method(*arguments, **named)

        return call


def call_sync(use: Callable[[Any], Any]) -> tuple[Any, Counter[str]]:
    """Return what the sync limiter returned or raised, and what it wrote."""
    store = Watched(SyncMemoryRepository(clock=lambda: 10**18))
    try:
        return use(SyncRateLimiter(store, [REQUESTS])), store.writes
    except Exception as error:
        return error, store.writes


def call_async(use: Callable[[Any], Any]) -> tuple[Any, Counter[str]]:
    """Return what the async limiter returned or raised, and what it wrote."""

    async def call() -> tuple[Any, Counter[str]]:
        store = Watched(MemoryRepository(clock=lambda: 10**18))
        try:
            return await use(RateLimiter(store, [REQUESTS])), store.writes
        except Exception as error:
            return error, store.writes

    return asyncio.run(call())


def check_outcome(outcome: Any, writes: Counter[str]) -> None:
    """Check that there is a result, or a typed error with a short message and nothing written."""
    if isinstance(outcome, Exception):
        assert isinstance(outcome, LimiterError), repr(outcome)
        assert 0 < len(str(outcome)) < 1_000
        assert not +writes


@pytest.mark.parametrize("call", [call_sync, call_async])
@settings(max_examples=250, derandomize=True, deadline=None)
@given(parameter=st.sampled_from(["entity_id", "resource", "consume", "limits", "timeout"]), value=ANYTHING)
def test_any_value_for_any_parameter(call: Callable[..., Any], parameter: str, value: Any) -> None:
    """An acquire or a check with one strange argument works, or raises a typed error before it writes anything."""
    check_outcome(*call(lambda limiter: limiter.try_acquire(**{parameter: value})))
    if parameter != "timeout":
        check_outcome(*call(lambda limiter: limiter.check(**{parameter: value})))


ADMINISTRATION: dict[str, Callable[[Any, Any], Any]] = {
    "set_limits": lambda limiter, value: limiter.set_limits(value),
    "set_limits of an entity": lambda limiter, value: limiter.set_limits([REQUESTS], entity_id=value),
    "set_limits of a resource": lambda limiter, value: limiter.set_limits([REQUESTS], resource=value),
    "get_limits": lambda limiter, value: limiter.get_limits(value, value),
    "delete_limits": lambda limiter, value: limiter.delete_limits(value, value),
    "resolve_limits": lambda limiter, value: limiter.resolve_limits(value, value),
    "create_entity": lambda limiter, value: limiter.create_entity(value),
    "create_entity under": lambda limiter, value: limiter.create_entity("new", parent_id=value),
    "create_entity named": lambda limiter, value: limiter.create_entity("new", name=value),
    "create_entity with metadata": lambda limiter, value: limiter.create_entity("new", metadata=value),
    "set_parent": lambda limiter, value: limiter.set_parent(value, value),
    "get_entity": lambda limiter, value: limiter.get_entity(value),
    "delete_entity": lambda limiter, value: limiter.delete_entity(value),
    "list_children": lambda limiter, value: limiter.list_children(value),
    "list_entities": lambda limiter, value: limiter.list_entities(value),
    "list_resources": lambda limiter, value: limiter.list_resources(value),
    "delete_namespace": lambda limiter, value: limiter.delete_namespace(value),
}


@pytest.mark.parametrize("call", [call_sync, call_async])
@settings(max_examples=250, derandomize=True, deadline=None)
@given(method=st.sampled_from(sorted(ADMINISTRATION)), value=ANYTHING)
def test_any_value_for_administration(call: Callable[..., Any], method: str, value: Any) -> None:
    """Calls that change or list stored records accept a value, or raise a typed error before they write anything."""
    check_outcome(*call(lambda limiter: ADMINISTRATION[method](limiter, value)))


@settings(max_examples=250, derandomize=True, deadline=None)
@given(method=st.sampled_from(["adjust", "release", "consume"]), value=ANYTHING)
def test_any_value_for_a_lease(method: str, value: Any) -> None:
    """A lease that is corrected by a strange value raises a typed error and holds what it held."""
    store = SyncMemoryRepository(clock=lambda: 10**18)
    limiter = SyncRateLimiter(store, [REQUESTS])
    with limiter.acquire(consume={"requests": 3}) as lease:
        before = dict(lease.consumed)
        try:
            getattr(lease, method)(value)
        except LimiterError:
            assert dict(lease.consumed) == before


CONSTRUCTORS: dict[str, Callable[[Any], Any]] = {
    "limits": lambda value: SyncRateLimiter(SyncMemoryRepository(), value),
    "config_ttl": lambda value: SyncRateLimiter(SyncMemoryRepository(), config_ttl=value),
    "denial_ttl": lambda value: SyncRateLimiter(SyncMemoryRepository(), denial_ttl=value),
    "linger": lambda value: SyncRateLimiter(SyncMemoryRepository(), linger=value),
    "writes_per_key": lambda value: SyncRateLimiter(SyncMemoryRepository(), writes_per_key=value),
    "store": lambda value: SyncRateLimiter(value),
    "namespace": lambda value: SyncMemoryRepository(namespace=value),
    "stack": lambda value: SyncRepository(value),
    "namespace of a table": lambda value: SyncRepository("my-app", namespace=value),
    "endpoint_url": lambda value: SyncRepository("my-app", endpoint_url=value),
    "asynchronous stack": lambda value: Repository(value),
    "Limit name": lambda value: Limit(value, 1, 1),
    "Limit capacity": lambda value: Limit("a", value, 1),
    "Limit amount": lambda value: Limit("a", 1, value),
    "Limit period": lambda value: Limit("a", 1, 1, value),
    "Limit burst": lambda value: Limit.per_hour("a", 1, burst=value),
    "Limit.parse": lambda value: Limit.parse(value),
}


@settings(max_examples=500, derandomize=True, deadline=None)
@given(constructor=st.sampled_from(sorted(CONSTRUCTORS)), value=ANYTHING)
def test_any_value_for_a_constructor(constructor: str, value: Any) -> None:
    """Constructors accept usable values only, and their error messages are short."""
    try:
        outcome: object = CONSTRUCTORS[constructor](value)
    except ValidationError as error:
        outcome = error
    assert len(str(outcome)) < 1_000 or not isinstance(outcome, ValidationError)


@pytest.mark.parametrize(
    "value", [Mute(), DEEP, 10**5_000, [10**5_000], "x" * 10**7], ids=["mute", "deep", "huge", "list", "long"]
)
def test_what_cannot_be_shown_is_still_refused(value: Any) -> None:
    """A value whose repr fails is named by its type."""
    with pytest.raises(ValidationError) as caught:
        Limit("a", value, 1)
    assert len(str(caught.value)) < 300


def test_an_endless_list_of_limits_is_refused() -> None:
    """Limits are counted while they are read."""
    endless = (Limit.per_second(f"limit {number}", 1) for number in iter(int, 1))
    for limits in (Endless(1), Endless(REQUESTS), endless):
        with pytest.raises(ValidationError):
            SyncRateLimiter(SyncMemoryRepository(), limits)
    distinct = iter(lambda counter=Counter(): counter.update(a=1) or Limit.per_second(f"limit {counter['a']}", 1), None)
    with pytest.raises(ValidationError, match="too many"):
        SyncRateLimiter(SyncMemoryRepository(), distinct)


@pytest.mark.parametrize("text", ["1/" + " " * 10**6 + "!", "=" * 10**6, "1" * 10**6, "a=" + " " * 10**6, "1/1" + "0" * 10**6])
def test_parsing_takes_no_longer_for_a_long_text(text: str) -> None:
    """A text that is too long for a limit is refused by its length, before a pattern could take quadratic time."""
    with pytest.raises(ValidationError, match="characters"):
        Limit.parse(text)


@pytest.mark.parametrize("value", [Text("red"), Mixed.RED])
def test_a_key_holds_what_was_checked(value: Any) -> None:
    """A subclass of str that shows another text than it holds is stored as what it holds, in every part of a key."""
    entity = EntityRecord(Entity(value, parent_id=value), (value,))
    shown = [
        schema.bucket_key(BucketKey(value, value, value)),
        schema.record_item(value, LimitsKey(value, value), (Limit.per_second(value, 1),)),
        schema.record_item(value, EntityKey(value), entity),
        queries.children_query(value, value),
        queries.limited_entities_query(value, value),
        queries.partition_query(value, value, "l"),
        queries.keys_scan(value),
    ]
    assert "red" in str(shown)
    for text in _texts(shown):
        assert "other" not in str.__str__(text)
        assert "Mixed" not in str.__str__(text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in (*value, *value.values()) for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("parameter", ["on_unavailable"])
@pytest.mark.parametrize("value", [Mute(), DEEP, "x" * 10_000], ids=["mute", "deep", "long"])
def test_options_that_cannot_be_shown_are_refused(parameter: str, value: Any) -> None:
    """A policy whose repr fails is named by its type as well."""
    outcome, writes = call_sync(lambda limiter: limiter.try_acquire(**{parameter: value}))
    assert isinstance(outcome, ValidationError)
    check_outcome(outcome, writes)
