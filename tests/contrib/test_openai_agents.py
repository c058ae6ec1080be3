"""The model for the OpenAI Agents SDK, around a fake one."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import async_limiter
from support.presence import needed

from limiter import RateLimitExceeded

agents = needed("agents")

from limiter.contrib.openai_agents import LimiterModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.engines import FakeClock

    from limiter import RateLimiter

LIMITS = ("requests=10/day", "tokens=1000/day", "output_tokens=1000/day")
ESTIMATE = {"requests": 1, "tokens": 400, "output_tokens": 0}


class Fake(agents.Model):  # type: ignore[misc] # it was imported where it is installed
    """A model that says "Yes.", or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def get_response(self, *_: Any, **__: Any) -> Any:
        from openai.types.responses import ResponseOutputMessage, ResponseOutputText

        if self.fails:
            raise ConnectionError
        text = ResponseOutputText(text="Yes.", type="output_text", annotations=[])
        message = ResponseOutputMessage(id="1", content=[text], role="assistant", status="completed", type="message")
        usage = agents.Usage(requests=1, input_tokens=30, output_tokens=12, total_tokens=42)
        return agents.ModelResponse(output=[message], usage=usage, response_id=None)

    async def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(type="response.output_text.delta", delta="Yes.")
        if self.fails:
            raise ConnectionError
        usage = SimpleNamespace(input_tokens=30, output_tokens=12, total_tokens=42)
        yield SimpleNamespace(type="response.completed", response=SimpleNamespace(usage=usage))


async def left(limiter: RateLimiter) -> dict[str, int]:
    """What is left of each limit."""
    return {status.limit.name: status.available for status in (await limiter.check("team", "model")).statuses}


async def ask(limiter: RateLimiter, wrapped: Any, **options: Any) -> str:
    """Run an agent, and return what it says."""
    model = LimiterModel(wrapped, limiter, **({"entity": "team", "resource": "model"} | options))
    settings = agents.RunConfig(tracing_disabled=True)
    result = await agents.Runner.run(agents.Agent(name="Helper", model=model), "What?", run_config=settings)
    return str(result.final_output)


async def test_a_run_is_charged_what_it_used(clock: FakeClock) -> None:
    """The usage of the response replaces its estimate."""
    limiter = async_limiter(clock, *LIMITS)
    assert await ask(limiter, Fake(), estimate=ESTIMATE) == "Yes."
    assert await left(limiter) == {"requests": 9, "tokens": 958, "output_tokens": 988}


async def test_a_stream_is_charged_when_it_ends(clock: FakeClock) -> None:
    """It holds its estimate until its usage is told; a broken one is given back."""
    limiter = async_limiter(clock, *LIMITS)
    model = LimiterModel(Fake(), limiter, entity="team", resource="model", estimate=ESTIMATE)
    seen = [(event.type, (await left(limiter))["tokens"]) async for event in model.stream_response(None, "What?")]
    assert seen == [("response.output_text.delta", 600), ("response.completed", 600)]
    assert await left(limiter) == {"requests": 9, "tokens": 958, "output_tokens": 988}
    broken = LimiterModel(Fake(fails=True), limiter, entity="team", resource="model", estimate=ESTIMATE)
    with pytest.raises(ConnectionError):
        async for _ in broken.stream_response(None, "What?"):
            pass
    assert await left(limiter) == {"requests": 9, "tokens": 958, "output_tokens": 988}


async def test_a_failed_call_is_given_back(clock: FakeClock) -> None:
    """The wrapped model raises."""
    limiter = async_limiter(clock, *LIMITS)
    with pytest.raises(ConnectionError):
        await ask(limiter, Fake(fails=True))
    assert await left(limiter) == {"requests": 10, "tokens": 1000, "output_tokens": 1000}


async def test_a_run_waits_or_is_refused(clock: FakeClock) -> None:
    """Without `timeout` it waits for as long as it takes; the estimate may depend on the input."""
    limiter, begun = async_limiter(clock, *LIMITS), clock()
    await ask(limiter, Fake(), estimate={"requests": 10})
    with pytest.raises(RateLimitExceeded):
        await ask(limiter, Fake(), estimate={"requests": 10}, timeout=5)
    await ask(limiter, Fake(), estimate=lambda instructions, given: {"requests": 10})
    assert clock() - begun == 86_400 * 10**9


def test_importing_the_module_imports_no_agents() -> None:
    """The class is made when it is asked for; without the SDK the error names the extra."""
    code = (
        "import sys, limiter.contrib.openai_agents as module\n"
        "assert 'agents' not in sys.modules\n"
        "sys.modules['agents'] = None\n"
        "try: module.LimiterModel\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "dynamodb-limiter[openai-agents]"' in done.stdout
