"""The rate limiter for LangChain, in front of a fake chat model."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.processes import need

from limiter import (
    BlockingCallWarning,
    ConfigurationError,
    Limit,
    MemoryRepository,
    NeverSatisfiable,
    RateLimiter,
    RateLimitExceeded,
    Repository,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)

if TYPE_CHECKING:
    from support.engines import Engine, FakeClock

PER_SECOND, BURST = 10, 5
LIMIT = Limit.per_second("requests", PER_SECOND, burst=BURST)


def rate_limiter(clock: FakeClock, **options: Any) -> Any:
    """A DynamoDBRateLimiter of both kinds, each with a bucket in memory, that waits by moving the clock."""
    need("langchain_core")
    from limiter.contrib.langchain import DynamoDBRateLimiter

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    return DynamoDBRateLimiter(
        sync_limiter=SyncRateLimiter(SyncMemoryRepository(clock=clock), [LIMIT], sleep=clock.advance, denial_ttl=0),
        limiter=RateLimiter(MemoryRepository(clock=clock), [LIMIT], sleep=sleep, denial_ttl=0),
        **options,
    )


def chat_model(limiter: Any) -> Any:
    """A model that answers "yes"."""
    need("langchain_core")
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    return GenericFakeChatModel(messages=map(AIMessage, itertools.repeat("yes")), rate_limiter=limiter)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it where LangChain is not installed says what to install."""
    monkeypatch.delitem(sys.modules, "limiter.contrib.langchain", raising=False)
    monkeypatch.setitem(sys.modules, "langchain_core.rate_limiters", None)
    with pytest.raises(ConfigurationError, match=r'pip install "dynamodb-limiter\[langchain\]"'):
        importlib.import_module("limiter.contrib.langchain")


def test_it_is_what_langchain_asks_for(clock: FakeClock) -> None:
    """It is a BaseRateLimiter."""
    limiter = rate_limiter(clock)
    from langchain_core.rate_limiters import BaseRateLimiter

    assert isinstance(limiter, BaseRateLimiter)


def test_a_model_waits_for_its_turn(clock: FakeClock) -> None:
    """Calls beyond the burst wait, each for the time that the rate asks for."""
    model = chat_model(rate_limiter(clock))
    begun = clock()

    assert [model.invoke("?").content for _ in range(BURST + 20)] == ["yes"] * (BURST + 20)

    assert clock() - begun == 20 * 10**9 // PER_SECOND


async def test_a_model_that_is_awaited_waits_for_its_turn(clock: FakeClock) -> None:
    """So do asynchronous calls."""
    model = chat_model(rate_limiter(clock))
    begun = clock()

    assert [(await model.ainvoke("?")).content for _ in range(BURST + 20)] == ["yes"] * (BURST + 20)

    assert clock() - begun == 20 * 10**9 // PER_SECOND


def test_streams_and_batches_wait_too(clock: FakeClock) -> None:
    """Every call of a batch, and every stream, takes units of its own."""
    model = chat_model(rate_limiter(clock))
    begun = clock()

    assert len(model.batch(["?"] * BURST, config={"max_concurrency": 1})) == BURST
    assert list(model.stream("?"))

    assert clock() - begun == 10**9 // PER_SECOND


async def test_without_blocking_the_answer_comes_at_once(clock: FakeClock) -> None:
    """`blocking=False` says whether there was enough, and waits for nothing."""
    limiter = rate_limiter(clock)
    begun = clock()

    with pytest.warns(BlockingCallWarning, match="SyncRateLimiter.try_acquire blocks"):
        assert [limiter.acquire(blocking=False) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert [await limiter.aacquire(blocking=False) for _ in range(BURST + 2)] == [True] * BURST + [False] * 2
    assert clock() == begun


def test_a_wait_that_is_too_long_is_raised(clock: FakeClock) -> None:
    """A call that would wait longer than `max_wait` is refused at once by an error, which LangChain hands to the caller."""
    model = chat_model(rate_limiter(clock, max_wait=0.05))
    begun = clock()

    for _ in range(BURST):
        model.invoke("?")
    with pytest.raises(RateLimitExceeded) as refused:
        model.invoke("?")

    assert refused.value.retry_after == pytest.approx(1 / PER_SECOND)
    assert clock() == begun


async def test_an_awaited_wait_that_is_too_long_is_raised(clock: FakeClock) -> None:
    """So is an asynchronous one."""
    model = chat_model(rate_limiter(clock, max_wait=0.05))

    for _ in range(BURST):
        await model.ainvoke("?")
    with pytest.raises(RateLimitExceeded):
        await model.ainvoke("?")


def test_what_can_never_be_is_raised(clock: FakeClock) -> None:
    """A call that takes more than the capacity is refused by an error that says so."""
    with pytest.raises(NeverSatisfiable):
        rate_limiter(clock, consume={"requests": BURST + 1}).acquire()


async def test_a_kind_that_was_not_given_is_named(clock: FakeClock) -> None:
    """Without the limiter for a way of calling, that way says which one to give."""
    need("langchain_core")
    from limiter.contrib.langchain import DynamoDBRateLimiter

    with pytest.raises(ConfigurationError, match=r"limiter=RateLimiter"):
        await DynamoDBRateLimiter(sync_limiter=SyncRateLimiter(SyncMemoryRepository())).aacquire()
    with pytest.raises(ConfigurationError, match=r"sync_limiter=SyncRateLimiter"):
        DynamoDBRateLimiter(limiter=RateLimiter(MemoryRepository())).acquire()
    with pytest.raises(ConfigurationError, match=r"sync_limiter=SyncRateLimiter"):
        DynamoDBRateLimiter()
    with pytest.raises(ValidationError, match=r"max_wait"):
        rate_limiter(clock, max_wait=-1)


async def test_both_kinds_share_the_table(server_engine: Engine, table: str) -> None:
    """Agents that call synchronously and ones that call asynchronously are held to one limit, on every engine."""
    need("langchain_core")
    from limiter.contrib.langchain import DynamoDBRateLimiter

    limits = [Limit("requests", 8, 1, 86400.0)]
    options: dict[str, Any] = {"endpoint_url": server_engine.endpoint_url, "connect_timeout": 30, "read_timeout": 30}
    async with RateLimiter(Repository(table, **options), limits, decision_timeout=60) as limiter:
        with SyncRepository(table, **options) as repository:
            both = DynamoDBRateLimiter(
                sync_limiter=SyncRateLimiter(repository, limits, decision_timeout=60), limiter=limiter, max_wait=1
            )
            model = chat_model(both)
            replies = await asyncio.gather(
                *(model.ainvoke("?") for _ in range(6)),
                *(asyncio.to_thread(model.invoke, "?") for _ in range(6)),
                return_exceptions=True,
            )

    assert [type(reply).__name__ for reply in replies].count("AIMessage") == 8
    assert sum(isinstance(reply, RateLimitExceeded) for reply in replies) == 4
