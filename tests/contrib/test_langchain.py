"""The rate limiter for LangChain, in front of a fake chat model."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.presence import need

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


@pytest.mark.parametrize(("name", "package"), [("DynamoDBRateLimiter", "langchain_core"), ("LimiterMiddleware", "langchain")])
def test_langchain_is_imported_on_first_use(name: str, package: str) -> None:
    """The module imports LangChain on first use, makes each class once, and says what to install if it is missing."""
    need(package)
    code = (
        "import sys, limiter.contrib.langchain as module\n"
        "assert not [each for each in sys.modules if each.startswith('langchain')]\n"
        f"assert module.{name} is module.{name}\n"
        f"del module.{name}\n"
        f"for each in [each for each in sys.modules if each.startswith('{package}.')]: sys.modules[each] = None\n"
        f"try: module.{name}\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    extra = "langchain" if package == "langchain_core" else "langchain-agents"
    assert done.stdout.startswith("ConfigurationError")
    assert f'pip install "dynamodb-limiter[{extra}]"' in done.stdout


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
    """A sync or async call without its kind of limiter raises an error that names the missing parameter."""
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


async def test_a_large_batch_waits(clock: FakeClock) -> None:
    """A thousand calls at once are made at the rate, and none is refused."""
    model = chat_model(rate_limiter(clock))
    begun = clock()

    assert len(await model.abatch(["?"] * 1000)) == 1000

    assert clock() - begun >= (1000 - BURST) * 10**9 // PER_SECOND


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


TOKENS = [Limit.per_day("requests", 100), Limit.per_day("tokens", 10_000), Limit.per_day("output_tokens", 1000)]


def agent(clock: FakeClock, replies: list[Any], **terms: Any) -> tuple[Any, SyncRateLimiter, RateLimiter]:
    """An agent of a fake model that gives these replies, and the limiters of its middleware."""
    need("langchain")
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    from limiter.contrib.langchain import LimiterMiddleware

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    synchronous = SyncRateLimiter(SyncMemoryRepository(clock=clock), TOKENS, sleep=clock.advance, denial_ttl=0)
    asynchronous = RateLimiter(MemoryRepository(clock=clock), TOKENS, sleep=sleep, denial_ttl=0)
    middleware = LimiterMiddleware(sync_limiter=synchronous, limiter=asynchronous, **({"entity": "team"} | terms))
    return create_agent(GenericFakeChatModel(messages=iter(replies)), middleware=[middleware]), synchronous, asynchronous


def reply(total: int | None = None, output: int = 0) -> Any:
    """A model's reply that says what it has used."""
    need("langchain_core")
    from langchain_core.messages import AIMessage

    if total is None:
        return AIMessage("yes")
    return AIMessage("yes", usage_metadata={"input_tokens": total - output, "output_tokens": output, "total_tokens": total})


ASK = {"messages": [("user", "Is this a question of some twenty tokens, or of a few more than that, would you say?")]}


def available(decision: Any) -> dict[str, int]:
    """What is left of each limit."""
    return {status.limit.name: status.available for status in decision.statuses}


def test_an_agent_is_charged_what_its_calls_used(clock: FakeClock) -> None:
    """The estimate of a call is replaced by the usage of its reply; without one it stays."""
    runnable, limiter, _ = agent(clock, [reply(700), reply()])
    runnable.invoke(ASK)
    assert available(limiter.check("team")) == {"requests": 99, "tokens": 9300, "output_tokens": 1000}
    runnable.invoke(ASK)
    left = available(limiter.check("team"))
    assert left["requests"] == 98
    assert 9300 - 60 < left["tokens"] < 9300 - 15


async def test_an_awaited_agent_is_charged_what_its_calls_used(clock: FakeClock) -> None:
    """So is one that is awaited, by the limits that the estimate names, in the place that the request decides."""
    terms: dict[str, Any] = {
        "entity": lambda request: "small" if len(request.messages) < 2 else "large",
        "resource": lambda request: type(request.model).__name__,
        "estimate": {"requests": 1, "tokens": 500, "output_tokens": 0},
    }
    runnable, _, limiter = agent(clock, [reply(700, output=50)], **terms)
    await runnable.ainvoke(ASK)
    left = available(await limiter.check("small", "GenericFakeChatModel"))
    assert left == {"requests": 99, "tokens": 9300, "output_tokens": 950}


def test_an_agent_waits_is_refused_or_exempt(clock: FakeClock) -> None:
    """Without `max_wait` a call waits; with it a longer wait is refused; an entity of None is free."""
    begun = clock()
    runnable, _, _ = agent(clock, [reply(20_000), reply(10)])
    runnable.invoke(ASK)
    runnable.invoke(ASK)
    assert clock() - begun > 86_400 * 10**9
    runnable, _, _ = agent(clock, [reply(20_000), reply(10)], max_wait=10)
    runnable.invoke(ASK)
    with pytest.raises(RateLimitExceeded):
        runnable.invoke(ASK)
    runnable, limiter, _ = agent(clock, [reply(20_000)], entity=lambda request: None)
    runnable.invoke(ASK)
    assert limiter.stats().decisions == 0


def test_a_failed_call_of_an_agent_is_free(clock: FakeClock) -> None:
    """The model raises, and the estimate is given back."""
    runnable, limiter, _ = agent(clock, [])
    with pytest.raises(RuntimeError):
        runnable.invoke(ASK)
    assert available(limiter.check("team"))["tokens"] == 10_000
