"""The SDKs of OpenAI and Anthropic with a limited transport, in front of a server on this machine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import left, new_limiter, other, wait
from support.model_provider import TEXT, serving
from support.presence import needed

from limiter import RateLimitExceeded
from limiter.contrib.httpx import ANTHROPIC, OPENAI, AsyncLimiterTransport, LimiterTransport

httpx2 = needed("httpx2")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import FakeClock
    from support.model_provider import Provider

MESSAGES = [{"role": "user", "content": "Why?"}]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A server."""
    with serving() as provider:
        yield provider


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of client and limiter."""
    return str(request.param)


@pytest.fixture(params=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> Any:
    """Each SDK."""
    return needed(request.param)


def ask(sdk: Any, kind: str, provider: Provider, limiter: Any, *, retries: int = 2, **terms: Any) -> str:
    """Ask a model through a new client of an SDK, and return what it says."""
    name = sdk.__name__
    headers = OPENAI if name == "openai" else ANTHROPIC
    terms = {"entity": "us", "resource": "model", "remaining": headers} | terms
    options = {"api_key": "none", "max_retries": retries, "base_url": provider.url + ("/v1" if name == "openai" else "")}

    def call(client: Any) -> Any:
        if name == "openai":
            return client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        return client.messages.create(model="claude", max_tokens=10, messages=MESSAGES)

    def text(reply: Any) -> str:
        return str(reply.choices[0].message.content if name == "openai" else reply.content[0].text)

    if kind == "sync":
        transport = LimiterTransport(httpx2.HTTPTransport(), limiter, **terms)
        with httpx2.Client(transport=transport) as inner:
            make = sdk.OpenAI if name == "openai" else sdk.Anthropic
            return text(call(make(http_client=inner, **options)))

    async def run() -> str:
        transport = AsyncLimiterTransport(httpx2.AsyncHTTPTransport(), limiter, **terms)
        async with httpx2.AsyncClient(transport=transport) as inner:
            make = sdk.AsyncOpenAI if name == "openai" else sdk.AsyncAnthropic
            return text(await call(make(http_client=inner, **options)))

    return asyncio.run(run())


def test_a_429_is_waited_out_and_each_attempt_is_charged(sdk: Any, kind: str, provider: Provider, clock: FakeClock) -> None:
    """The SDK repeats the call by itself; the attempt waits in the transport until the pause is over."""
    limiter = new_limiter(kind, clock, "requests=100/day")
    provider.refusals = [429]
    assert ask(sdk, kind, provider, limiter, timeout=60) == TEXT
    assert provider.requests == 2
    assert left(limiter, "us", "model") == {"requests": 98}
    assert clock() >= clock.START_NS + 10**7


def test_another_process_is_paused_too(sdk: Any, kind: str, provider: Provider, clock: FakeClock) -> None:
    """A 429 that one program gets holds all of them back until its Retry-After; the refusal reaches the caller."""
    limiter = new_limiter(kind, clock, "requests=100/day")
    provider.refusals, provider.headers = [429], {"Retry-After": "30"}
    with pytest.raises(sdk.RateLimitError):
        ask(sdk, kind, provider, limiter, retries=0)
    assert wait(limiter, "us", "model") == 30.0
    with pytest.raises((RateLimitExceeded, sdk.APIConnectionError)) as refused:
        ask(sdk, kind, provider, other(limiter), retries=0)
    assert isinstance(refused.value.__cause__ or refused.value, RateLimitExceeded)
    assert provider.requests == 1


@pytest.mark.parametrize(("told", "expected"), [(40, 40), (100_000, 99)])
def test_headers_only_ever_lower_what_is_left(
    sdk: Any, kind: str, provider: Provider, clock: FakeClock, told: int, expected: int
) -> None:
    """Where the provider says that less is left than we count, its word holds, and ours otherwise."""
    limiter = new_limiter(kind, clock, "requests=100/day")
    names = (OPENAI if sdk.__name__ == "openai" else ANTHROPIC).values()
    provider.headers = dict.fromkeys(names, str(told))
    assert ask(sdk, kind, provider, limiter) == TEXT
    assert left(limiter, "us", "model") == {"requests": expected}


def test_a_stream_passes(provider: Provider, clock: FakeClock) -> None:
    """A streamed reply comes through as it was sent."""
    openai = needed("openai")
    limiter = new_limiter("sync", clock, "requests=100/day")
    with httpx2.Client(transport=LimiterTransport(httpx2.HTTPTransport(), limiter, entity="us")) as inner:
        client = openai.OpenAI(api_key="none", base_url=provider.url, http_client=inner)
        stream = client.chat.completions.create(model="gpt-5", messages=MESSAGES, stream=True)
        assert [chunk.choices[0].delta.content for chunk in stream] == [TEXT]
    assert left(limiter, "us") == {"requests": 99}
