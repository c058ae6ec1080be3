"""The model and the concurrency limiter for PydanticAI, around its own models for tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import async_limiter
from support.presence import needed

from limiter import Limit, MemoryRepository, RateLimiter, RateLimitExceeded

pydantic_ai = needed("pydantic_ai")

from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel

from limiter.contrib.pydantic_ai import LimiterConcurrency, LimiterModel

if TYPE_CHECKING:
    from support.engines import FakeClock


LIMITS = ("requests=10/day", "tokens=1000/day", "output_tokens=1000/day")
ESTIMATE = {"requests": 1, "tokens": 400, "output_tokens": 0}


async def left(limiter: RateLimiter) -> dict[str, int]:
    """What is left of each limit."""
    return {status.limit.name: status.available for status in (await limiter.check("team", "model")).statuses}


def model(limiter: RateLimiter, wrapped: Any = None, **options: Any) -> Any:
    """A limited model."""
    return LimiterModel(wrapped or TestModel(), limiter, **({"entity": "team", "resource": "model"} | options))


async def test_a_run_is_charged_what_it_used(clock: FakeClock) -> None:
    """The usage of each response replaces its estimate."""
    limiter = async_limiter(clock, *LIMITS)
    result = await pydantic_ai.Agent(model(limiter, estimate=ESTIMATE)).run("What?")
    usage = result.usage
    spent = usage.input_tokens + usage.output_tokens
    assert spent > 0
    assert await left(limiter) == {"requests": 9, "tokens": 1000 - spent, "output_tokens": 1000 - usage.output_tokens}


async def test_a_stream_is_charged_when_it_ends(clock: FakeClock) -> None:
    """A stream is charged its estimate while it runs, and its actual usage at the end."""
    limiter = async_limiter(clock, *LIMITS)
    async with pydantic_ai.Agent(model(limiter, estimate=ESTIMATE)).run_stream("What?") as result:
        assert await left(limiter) == {"requests": 9, "tokens": 600, "output_tokens": 1000}
        assert await result.get_output()
        usage = result.usage
    spent = usage.input_tokens + usage.output_tokens
    assert await left(limiter) == {"requests": 9, "tokens": 1000 - spent, "output_tokens": 1000 - usage.output_tokens}


async def test_a_failed_request_is_given_back(clock: FakeClock) -> None:
    """The wrapped model raises."""
    limiter = async_limiter(clock, *LIMITS)

    def fail(*_: Any) -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await pydantic_ai.Agent(model(limiter, FunctionModel(fail))).run("What?")
    assert await left(limiter) == {"requests": 10, "tokens": 1000, "output_tokens": 1000}


async def test_a_run_waits_or_is_refused(clock: FakeClock) -> None:
    """Without `timeout` it waits for as long as it takes."""
    limiter, begun = async_limiter(clock, *LIMITS), clock()
    everything = {"requests": 10}
    await pydantic_ai.Agent(model(limiter, estimate=everything)).run("What?")
    with pytest.raises(RateLimitExceeded):
        await pydantic_ai.Agent(model(limiter, estimate=everything, timeout=5)).run("What?")
    await pydantic_ai.Agent(model(limiter, estimate=lambda messages: everything)).run("What?")
    assert clock() - begun == 86_400 * 10**9


async def test_the_estimate_is_counted_or_guessed(clock: FakeClock) -> None:
    """By default from the length of the messages, with `count_tokens` by the wrapped model."""
    from pydantic_ai.usage import RequestUsage

    class Counting(TestModel):
        async def count_tokens(self, *_: Any) -> Any:
            return RequestUsage(input_tokens=1001)

    limiter = async_limiter(clock, *LIMITS)
    await pydantic_ai.Agent(model(limiter, Counting())).run("What?")
    with pytest.raises(RateLimitExceeded, match="1001"):
        await pydantic_ai.Agent(model(limiter, Counting(), count_tokens=True)).run("What?")


async def test_concurrency_takes_and_frees(clock: FakeClock) -> None:
    """Each run takes 1 of every limit, from whichever task, and its end is noted; a rate is not given back by the end."""
    limiter = async_limiter(clock, "requests=10/day")
    concurrency = LimiterConcurrency(limiter, entity="team", resource="model")
    agent = pydantic_ai.Agent(TestModel(), max_concurrency=concurrency)
    await asyncio.gather(*(agent.run("What?") for _ in range(3)))
    assert await left(limiter) == {"requests": 7}


async def test_slots_are_shared_by_all_processes(clock: FakeClock) -> None:
    """Of ten runs in two programs never more than two run at once, all of them run, and the slots are free at the end."""
    running, peak = 0, 0

    async def answer(*_: Any) -> Any:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return ModelResponse([TextPart("Yes.")])

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    repository = MemoryRepository(clock=clock)
    limiters = [RateLimiter(repository, [Limit.parse("runs=2 at once")], sleep=sleep) for _ in range(2)]
    agents = [
        pydantic_ai.Agent(FunctionModel(answer), max_concurrency=LimiterConcurrency(limiter, entity="team", resource="model"))
        for limiter in limiters
    ]
    results = await asyncio.gather(*(agent.run("What?") for agent in agents for _ in range(5)))
    assert [result.output for result in results] == ["Yes."] * 10
    assert peak == 2
    while (await left(limiters[0])) != {"runs": 2}:  # noqa: ASYNC110 - PydanticAI does not wait for the end of a release
        await asyncio.sleep(0)


def test_importing_the_module_imports_no_pydantic_ai() -> None:
    """The classes are made when they are asked for; without PydanticAI the error names the extra."""
    code = (
        "import sys, limiter.contrib.pydantic_ai as module\n"
        "assert 'pydantic_ai' not in sys.modules\n"
        "sys.modules['pydantic_ai'] = None\n"
        "try: module.LimiterModel\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "dynamodb-limiter[pydantic-ai]"' in done.stdout
