# twin: ../sync/test_logging.py
"""What the log is told: the beginning and end of an outage, once, with fields that a machine can read, and no secrets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import free_port

from limiter import Limit, RateLimiter, RateLimiterUnavailable, Repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import FakeClock

    Told = Callable[[str], list[logging.LogRecord]]

LIMITS = [Limit.parse("requests=50/hour")]
DOWN = RateLimiterUnavailable("down", unsent=True)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """The records of one logger so far, down to INFO unless a test asks for more."""
    caplog.set_level(logging.INFO, "limiter")
    return lambda name: [record for record in caplog.records if record.name == name]


def levels(records: list[logging.LogRecord]) -> list[str]:
    """The levels of records."""
    return [record.levelname for record in records]


@pytest.mark.usefixtures("tried_at_once")
async def test_going_on_without_the_table_is_told_once_and_so_is_its_end(store: Any, clock: FakeClock, told: Told) -> None:
    """However many decisions it takes, two warnings: why, and after how long."""
    limiter = RateLimiter(store, LIMITS, on_unavailable="allow", decision_timeout=30.0)
    store.error = DOWN
    for _ in range(5):
        await limiter.try_acquire("user")
    (begun,) = told("limiter")
    assert (begun.levelname, vars(begun)["policy"], vars(begun)["error"]) == ("WARNING", "allow", "down")
    store.error = None
    await limiter.try_acquire("user")
    clock.advance(5)
    for _ in range(3):
        await limiter.try_acquire("user")
    _, ended = told("limiter")
    assert (ended.levelname, vars(ended)["seconds"], vars(ended)["degraded"]) == ("WARNING", 5.0, 5)
    store.error = DOWN
    await limiter.try_acquire("user")
    assert len(told("limiter")) == 3


async def test_a_table_that_fails_now_and_then_is_told_of_once(store: Any, clock: FakeClock, told: Told) -> None:
    """Where decisions with and without the table alternate, it has not ended."""
    limiter = RateLimiter(store, LIMITS, on_unavailable="allow", decision_timeout=30.0)
    for number in range(10):
        store.error = DOWN if number % 2 else None
        await limiter.try_acquire("user")
        clock.advance(1)
    assert limiter.stats().degraded == 5
    assert len(told("limiter")) == 1


@pytest.mark.usefixtures("tried_at_once")
async def test_the_breaker_tells_when_it_opens_and_closes(store: Any, told: Told) -> None:
    """A warning with the cause, and an information, once each."""
    limiter = RateLimiter(store, LIMITS, on_unavailable="allow", decision_timeout=30.0)
    await limiter.try_acquire("user")
    store.error = DOWN
    for _ in range(2):
        await limiter.try_acquire("user")
    assert told("limiter.breaker") == []
    for _ in range(4):
        await limiter.try_acquire("user")
    (opened,) = told("limiter.breaker")
    assert (opened.levelname, vars(opened)["failures"], vars(opened)["error"]) == ("WARNING", 3, "down")
    store.error = None
    for _ in range(2):
        await limiter.try_acquire("user")
    assert levels(told("limiter.breaker")) == ["WARNING", "INFO"]
    assert vars(told("limiter.breaker")[1])["failures"] == 6


@pytest.mark.usefixtures("closed_for_long")
async def test_every_lost_correction_is_told(store: Any, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """With the bucket and the units that it was for; at DEBUG, once the open breaker has been told of."""
    caplog.set_level(logging.DEBUG, "limiter.committer")
    limiter = RateLimiter(store, LIMITS, on_unavailable="allow", decision_timeout=30.0)
    with pytest.raises(ZeroDivisionError):
        async with limiter.acquire("user", "api") as lease:
            store.error = DOWN
            await lease.adjust(requests=1)
            for _ in range(2):
                await limiter.try_acquire("user")
            assert limiter.stats().breaker == "open"
            await lease.adjust(requests=2)
            raise ZeroDivisionError
    records = told("limiter.committer")
    assert levels(records) == ["WARNING", "DEBUG", "DEBUG"]
    assert limiter.stats().corrections_lost == 3
    for record in records:
        fields = vars(record)
        assert (fields["namespace"], fields["entity_id"], fields["resource"]) == ("default", "user", "api")
    assert vars(records[0])["error"] == "down"
    assert [vars(record)["units"]["requests"] for record in records] == [1, 2, 1], "two corrections, and a refund of what is held"


async def test_decisions_are_logged_at_debug_only(
    store: Any, clock: FakeClock, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, each decision is one record with its outcome; at other levels there is none."""
    limiter = RateLimiter(store, [Limit.parse("requests=1/hour"), Limit.parse("tokens=9/hour")])
    await limiter.try_acquire("other")
    assert told("limiter.decisions") == []
    caplog.set_level(logging.DEBUG, "limiter.decisions")
    for _ in range(2):
        await limiter.try_acquire("user", "api")
    admitted, refused = (vars(record) for record in told("limiter.decisions"))
    for fields in (admitted, refused):
        assert (fields["namespace"], fields["entity_id"], fields["resource"]) == ("default", "user", "api")
        assert (fields["degraded"], fields["waited"]) == (False, 0.0)
        assert fields["seconds"] >= 0
    assert (admitted["allowed"], admitted["violated"]) == (True, [])
    assert (refused["allowed"], refused["violated"]) == (False, ["requests"])
    assert told("limiter.decisions")[1].getMessage() == "user/api refused by requests"


async def test_a_hook_that_fails_changes_no_decision(store: Any, told: Told) -> None:
    """It is an error in the log, with its traceback and whose decision it was."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("in the hook")

    assert await RateLimiter(store, LIMITS, on_decision=fail).try_acquire("user", "api")
    (record,) = told("limiter")
    fields = vars(record)
    assert (record.levelname, fields["entity_id"], fields["resource"], fields["error"]) == ("ERROR", "user", "api", "in the hook")
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interruption_in_the_hook_takes_nothing(store: Any, error: type[BaseException]) -> None:
    """An interruption in the hook is raised, the block is not entered, and its units are refunded."""

    def interrupt(_: object) -> None:
        raise error

    limiter = RateLimiter(store, LIMITS, on_decision=interrupt)
    before = (await limiter.check("user", "api")).statuses[0].available
    with pytest.raises(error):
        async with limiter.acquire("user", "api"):
            pytest.fail("the block was entered")
    assert (await limiter.check("user", "api")).statuses[0].available == before


async def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In every failure, credentials stay out of every message and field of the limiter's loggers."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "whisper")
    caplog.set_level(logging.DEBUG, "limiter")
    repository = Repository("my-app", endpoint_url=f"http://127.0.0.1:{free_port()}")
    limiter = RateLimiter(repository, LIMITS, on_unavailable="local")
    for _ in range(4):
        async with limiter.acquire("user") as lease:
            await lease.adjust(requests=1)
    await repository.close()
    records = [record for record in caplog.records if record.name.split(".")[0] == "limiter"]
    assert {"limiter", "limiter.breaker", "limiter.decisions"} <= {record.name for record in records}
    for record in records:
        text = record.getMessage() + repr(vars(record))
        assert "hush-hush" not in text
        assert "whisper" not in text
