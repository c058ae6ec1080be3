"""Calls that reserve an estimate and settle the truth."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import async_limiter, left, new_limiter

from limiter import LeaseLost, RateLimiterUnavailable, RateLimitExceeded, ValidationError
from limiter.contrib.llm import reserve, sync_reserve, usage_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.engines import FakeClock

LIMITS = ("requests=10/hour", "tokens=1000/hour")
ESTIMATE = {"requests": 1, "tokens": 400}


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of limiter."""
    return str(request.param)


def make(kind: str, limiter: Any, body: Callable[[Any], object], **options: Any) -> None:
    """Reserve the estimate, and do something with the call."""
    if kind == "sync":
        with sync_reserve(limiter, "user", "model", ESTIMATE, **options) as call:
            body(call)
        return

    async def run() -> None:
        async with reserve(limiter, "user", "model", ESTIMATE, **options) as call:
            body(call)

    asyncio.run(run())


@pytest.mark.parametrize(("used", "tokens"), [(None, 600), (150, 850), (400, 600), (1500, -500), (0, 1000)])
def test_the_truth_replaces_the_estimate(kind: str, clock: FakeClock, used: int | None, tokens: int) -> None:
    """Less is given back, more is charged, into debt if need be; without a report the estimate stays."""
    limiter = new_limiter(kind, clock, *LIMITS)
    make(kind, limiter, lambda call: used is None or call.report(tokens=used))
    assert left(limiter, "user", "model") == {"requests": 9, "tokens": tokens}


def test_a_failed_call_is_free(kind: str, clock: FakeClock) -> None:
    """Nothing was reported, so everything is given back."""
    limiter = new_limiter(kind, clock, *LIMITS)

    def fail(call: Any) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        make(kind, limiter, fail)
    assert left(limiter, "user", "model") == {"requests": 10, "tokens": 1000}


def test_a_stream_that_breaks_pays_for_what_has_arrived(kind: str, clock: FakeClock) -> None:
    """The last report counts, and the request too."""
    limiter = new_limiter(kind, clock, *LIMITS)

    def stream(call: Any) -> None:
        for tokens in (50, 100, 150):
            call.report({"tokens": tokens})
        raise ConnectionError

    with pytest.raises(ConnectionError):
        make(kind, limiter, stream)
    assert left(limiter, "user", "model") == {"requests": 9, "tokens": 850}


async def test_a_cancelled_call_is_settled(clock: FakeClock) -> None:
    """Cancellation, and a generator that is closed early, count as failures."""
    limiter, begun = async_limiter(clock, *LIMITS), asyncio.Event()

    async def call_model() -> None:
        async with reserve(limiter, "user", "model", ESTIMATE):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call_model())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def stream() -> AsyncIterator[int]:
        async with reserve(limiter, "user", "model", ESTIMATE) as call:
            for number in range(1, 10):
                call.report(tokens=100 * number)
                yield number

    chunks = stream()
    assert [await anext(chunks), await anext(chunks)] == [1, 2]
    await chunks.aclose()  # type: ignore[attr-defined] # it is a generator
    decision = await limiter.check("user", "model")
    assert [status.available for status in decision.statuses] == [9, 800]


def test_a_call_waits_for_its_turn_or_is_refused(kind: str, clock: FakeClock) -> None:
    """`timeout` has the same effect as in `acquire`."""
    limiter, begun = new_limiter(kind, clock, *LIMITS), clock()
    for _ in range(2):
        make(kind, limiter, lambda call: None)
    with pytest.raises(RateLimitExceeded):
        make(kind, limiter, lambda call: None)
    make(kind, limiter, lambda call: None, timeout=3600)
    assert clock() - begun == 720 * 10**9


def test_what_was_not_reserved_cannot_be_reported(kind: str, clock: FakeClock) -> None:
    """Reporting a misspelt name is an error; the adapters leave out names without a limit."""
    limiter = new_limiter(kind, clock, *LIMITS)
    with pytest.raises(ValidationError, match="cannot report 'token', only requests, tokens"):
        make(kind, limiter, lambda call: call.report(token=5))
    make(kind, limiter, lambda call: call.report_known({"token": 5, "tokens": 100}))
    assert left(limiter, "user", "model") == {"requests": 9, "tokens": 900}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [RateLimiterUnavailable("the table is down"), LeaseLost("the slots are lost")])
def test_an_unstored_settlement_loses_no_reply(
    kind: str, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fails: bool, error: Exception
) -> None:
    """When the end cannot be settled, the caller gets the reply, or its own error, and the log the reason."""
    limiter = new_limiter(kind, clock, *LIMITS)

    def body(call: Any) -> None:
        def down(*_: Any) -> None:
            raise error

        monkeypatch.setattr(type(call.lease), "adjust", down)
        monkeypatch.setattr(type(call.lease), "release", down)
        if fails:
            raise KeyError
        call.report(tokens=5)

    if fails:
        with pytest.raises(KeyError):
            make(kind, limiter, body)
    else:
        make(kind, limiter, body)
    (record,) = (record for record in caplog.records if record.name == "limiter.contrib")
    assert record.getMessage() == f"a call of user/model stays charged by its estimate: {error}"


def test_usage_is_read_from_what_replies_say() -> None:
    """A total that is missing is the sum; nothing said is nothing reported."""
    assert usage_of(10, 5) == {"tokens": 15, "input_tokens": 10, "output_tokens": 5}
    assert usage_of(10, 5, 20)["tokens"] == 20
    assert usage_of(None, None) == {}
