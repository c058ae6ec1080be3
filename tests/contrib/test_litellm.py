"""The logger for LiteLLM: calls of its SDK and router with mocked replies, and the hooks that its proxy calls."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import async_limiter, sync_limiter
from support.presence import needed

from limiter import Concurrency, Limit, MemoryRepository, RateLimiter, RateLimitExceeded
from limiter.contrib.llm import sync_reserve

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would download prices
# Its background worker belongs to the event loop that has begun it.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import FakeClock

LIMITS = ("requests=10/day", "tokens=1000/day", "output_tokens=1000/day")
ESTIMATE = {"requests": 1, "tokens": 400, "output_tokens": 0}
ASK: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What?"}]}


@pytest.fixture(scope="module")
def litellm() -> Any:
    """The library; its import takes seconds."""
    return needed("litellm")


async def settled(litellm: Any, condition: Callable[[], Any]) -> None:
    """Wait until LiteLLM's background worker has logged what it has to."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - nothing tells when the worker is done
            await asyncio.sleep(0.01)


async def left(limiter: RateLimiter, entity: str = "default", resource: str = "gpt-4o-mini") -> dict[str, int]:
    """What is left of each limit."""
    return {status.limit.name: status.available for status in (await limiter.check(entity, resource)).statuses}


def logger(litellm: Any, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch, **terms: Any) -> Any:
    """A logger that LiteLLM calls."""
    from limiter.contrib.litellm import LimiterLogger

    # It keeps one logger of each class.
    litellm.logging_callback_manager._reset_all_callbacks()
    made = LimiterLogger(limiter, **({"estimate": ESTIMATE} | terms))
    monkeypatch.setattr(litellm, "callbacks", [made])
    return made


async def test_a_call_is_charged_what_it_used(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usage of the response replaces the estimate, for the limits that the estimate names."""
    limiter = async_limiter(clock, *LIMITS)
    logger(litellm, limiter, monkeypatch)
    response = await litellm.acompletion(**ASK, user="ann", mock_response="Yes.")
    used = response.usage
    expected = {"requests": 9, "tokens": 1000 - used.total_tokens, "output_tokens": 1000 - used.completion_tokens}

    async def charged() -> bool:
        return await left(limiter, "ann") == expected

    await settled(litellm, charged)


async def test_a_stream_is_charged_when_it_ends(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then its estimate is held."""
    limiter = async_limiter(clock, *LIMITS)
    logger(litellm, limiter, monkeypatch)
    stream = await litellm.acompletion(**ASK, mock_response="Yes, quite so.", stream=True)
    assert await left(limiter) == {"requests": 9, "tokens": 600, "output_tokens": 1000}
    assert [chunk async for chunk in stream]

    async def charged() -> bool:
        now = await left(limiter)
        return now["requests"] == 9 and 900 < now["tokens"] < 1000 and now["output_tokens"] < 1000

    await settled(litellm, charged)


async def test_a_failed_call_is_given_back(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's error costs nothing."""
    limiter = async_limiter(clock, *LIMITS)
    logger(litellm, limiter, monkeypatch)
    with pytest.raises(litellm.InternalServerError):
        await litellm.acompletion(**ASK, mock_response="litellm.InternalServerError", num_retries=0)

    async def given_back() -> bool:
        return await left(limiter) == {"requests": 10, "tokens": 1000, "output_tokens": 1000}

    await settled(litellm, given_back)


@pytest.mark.parametrize("response", ["Yes.", "litellm.InternalServerError"])
async def test_a_call_holds_a_slot(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, response: str) -> None:
    """A second call waits until the first has ended, also by an error, and the rest of a failed call is refunded."""
    limits = [Concurrency("calls", 1), Limit.per_hour("requests", 10)]
    limiter = RateLimiter(MemoryRepository(clock=clock), limits)
    logger(litellm, limiter, monkeypatch, estimate={"calls": 1, "requests": 1}, timeout=30.0)
    calls = (litellm.acompletion(**ASK, mock_response=response, num_retries=0) for _ in range(2))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    async def over() -> bool:
        return await left(limiter) == {"calls": 1, "requests": 8 if response == "Yes." else 10}

    await settled(litellm, over)
    assert len([each for each in outcomes if isinstance(each, Exception)]) == (0 if response == "Yes." else 2)


async def test_a_refused_call_is_not_made(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal reaches the caller, and an entity of None is exempt."""
    limiter = async_limiter(clock, *LIMITS)
    logger(litellm, limiter, monkeypatch, entity=lambda data, key: data.get("user"), estimate={"requests": 10})
    await litellm.acompletion(**ASK, user="ann", mock_response="Yes.")
    with pytest.raises(Exception, match="requests") as refused:
        await litellm.acompletion(**ASK, user="ann", mock_response="Yes.")
    error: BaseException | None = refused.value
    while error is not None and not isinstance(error, RateLimitExceeded):
        error = error.__cause__ or error.__context__
    assert isinstance(error, RateLimitExceeded)
    await litellm.acompletion(**ASK, mock_response="Yes.")


async def test_synchronous_calls_take_the_helper(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM does not ask its callbacks in `litellm.completion`; `sync_reserve` around it charges what it used."""
    asked = async_limiter(clock, *LIMITS)
    logger(litellm, asked, monkeypatch)
    litellm.completion(**ASK, mock_response="Yes.")
    assert asked.stats().decisions == 0
    limiter = sync_limiter(clock, *LIMITS)
    with sync_reserve(limiter, "ann", "gpt-4o-mini", ESTIMATE) as call:
        reply = litellm.completion(**ASK, mock_response="Yes.")
        call.report(tokens=reply.usage.total_tokens)
    assert limiter.check("ann", "gpt-4o-mini").statuses[1].available == 1000 - reply.usage.total_tokens


async def test_the_router_reserves_too(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource is the deployment's model."""
    limiter = async_limiter(clock, *LIMITS)
    logger(litellm, limiter, monkeypatch, entity="team", resource="pool")
    deployment = {"model_name": "fast", "litellm_params": {"model": "gpt-4o-mini", "mock_response": "Yes.", "api_key": "none"}}
    router = litellm.Router(model_list=[deployment])
    await router.acompletion(model="fast", messages=ASK["messages"])

    async def charged() -> bool:
        now = await left(limiter, "team", "pool")
        return now["requests"] == 9 and now["tokens"] > 900

    await settled(litellm, charged)


async def test_the_proxy_is_told_when_to_come_back(litellm: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key is the entity; a refusal is a 429 with Retry-After; a call is reserved once, also when it reaches the SDK."""
    fastapi = needed("fastapi")
    limiter = async_limiter(clock, *LIMITS)
    hooks = logger(litellm, limiter, monkeypatch, estimate=None)
    key = SimpleNamespace(api_key="hash-of-key")

    def data(number: int) -> dict[str, Any]:
        return ASK | {"litellm_call_id": f"call-{number}", "max_tokens": 600}

    await hooks.async_pre_call_hook(key, None, data(1), "completion")
    await hooks.async_pre_call_deployment_hook(data(1), None)
    before = await left(limiter, "hash-of-key")
    assert before["requests"] == 9
    assert 350 < before["tokens"] < 400
    with pytest.raises(fastapi.HTTPException) as refused:
        await hooks.async_pre_call_hook(key, None, data(2), "completion")
    assert refused.value.status_code == 429
    assert int(refused.value.headers["Retry-After"]) > 10_000
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    await hooks.async_log_success_event(data(1), {"usage": usage}, None, None)
    await hooks.async_log_success_event(data(1), {"usage": usage}, None, None)
    assert (await left(limiter, "hash-of-key"))["tokens"] == 990


async def test_importing_the_module_imports_no_litellm() -> None:
    """The class is made when it is asked for; without LiteLLM the error names the extra."""
    code = (
        "import sys, limiter.contrib.litellm as module\n"
        "assert 'litellm' not in sys.modules\n"
        "sys.modules['litellm'] = None\n"
        "try: module.LimiterLogger\n"
        "except Exception as error: print(error)\n"
    )
    run = [sys.executable, "-c", code]
    done = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True, check=True)
    assert 'pip install "dynamodb-limiter[litellm]"' in done.stdout
