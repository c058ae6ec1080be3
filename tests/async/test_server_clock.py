# twin: ../sync/test_server_clock.py
"""Every repository without a clock of its own goes by the time of the server that it talks to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client

from limiter import Limit, RateLimiter, Repository, StackNotFound
from limiter.aws.clock import ServerClock
from limiter.core.units import NANOSECONDS
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.engines import Engine, FakeClock

TELLING = pytest.mark.engines("dynoxide", "dynamodb-local")
"""Engines that write a `Date` into their answers; moto's server does not."""


@pytest.fixture
async def on_machine(server_engine: Engine, table_name: str, aws_session: Any) -> AsyncIterator[Callable[..., Repository]]:
    """Opens repositories of one table on machines whose clocks are so many seconds ahead."""
    opened: list[Repository] = []
    create_table(table_name, client=plain_client(str(server_engine.endpoint_url)))
    url = server_engine.endpoint_url
    options: dict[str, Any] = {"endpoint_url": url, "session": aws_session, "connect_timeout": 30.0, "read_timeout": 30.0}

    def new(skew: float, stack: str = table_name, **more: Any) -> Repository:
        clock = ServerClock(lambda: time.time_ns() + round(skew * NANOSECONDS))
        opened.append(Repository(stack, **options, **{"clock": clock} | more))
        return opened[-1]

    yield new
    for repository in opened:
        await repository.close()


def error(repository: Repository) -> float:
    """The seconds by which a repository's time is ahead of the engine's, which has that of this machine."""
    return (repository.clock() - time.time_ns()) / NANOSECONDS


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was told about clocks."""
    return [record.getMessage() for record in caplog.records if record.name == "limiter.clock"]


@TELLING
@pytest.mark.parametrize("skew", [30.0, -30.0])
async def test_the_first_answer_corrects_the_clock(
    skew: float, on_machine: Callable[..., Repository], caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that is thirty seconds off goes by the server's time after one call, and is told once, with the remedy."""
    repository = on_machine(skew)
    assert repository.skew is None
    assert error(repository) == pytest.approx(skew, abs=5)
    for _ in range(3):
        await repository.open()
        assert abs(error(repository)) < 5
        assert repository.skew == pytest.approx(skew, abs=5)
    (told,) = warnings(caplog)
    assert ("ahead of" if skew > 0 else "behind") in told
    assert "NTP" in told


@TELLING
async def test_errors_tell_the_time_too(on_machine: Callable[..., Repository]) -> None:
    """An answer that refuses carries a date like any other."""
    repository = on_machine(30.0, "no-such-table")
    with pytest.raises(StackNotFound):
        await repository.open()
    assert abs(error(repository)) < 5


async def test_a_machine_that_is_right_is_left_alone(
    server_engine: Engine, table_name: str, on_machine: Callable[..., Repository], caplog: pytest.LogCaptureFixture
) -> None:
    """By default a repository is anchored, and where the clocks agree, or the engine tells no time, nothing is said."""
    repository = on_machine(0.0, clock=None)
    assert await RateLimiter(repository, [Limit.per_hour("requests", 5)], decision_timeout=60).try_acquire("user")
    assert repository.skew == (None if server_engine.name == "moto" else 0.0)
    assert abs(error(repository)) < 5
    assert not warnings(caplog)


async def test_an_injected_clock_is_used_as_it_is(
    on_machine: Callable[..., Repository], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever brings a clock gets no other time, no skew and no warning, however far off it is."""
    repository = on_machine(0.0, clock=clock)
    await repository.open()
    assert repository.clock is clock
    assert repository.clock() == clock.START_NS
    assert repository.skew is None
    assert not warnings(caplog)


@TELLING
@pytest.mark.parametrize("given", [False, True])
async def test_machines_with_wrong_clocks_share_a_limit(given: bool, on_machine: Callable[..., Repository]) -> None:
    """What is gone for one of two machines a minute apart is gone for the other; what is left is there for both.

    Also where the limits come with the call: the first decision follows a first answer.
    """
    limits = [Limit.per_minute("requests", 600)]
    more: dict[str, Any] = {"limits": limits} if given else {}
    start = time.monotonic()
    slow, fast = (RateLimiter(on_machine(skew), [] if given else limits, decision_timeout=60) for skew in (-30.0, 30.0))
    assert (await slow.try_acquire("user", consume={"requests": 300}, **more)).allowed
    assert (await fast.try_acquire("user", consume={"requests": 290}, **more)).allowed
    decision = await fast.try_acquire("user", consume={"requests": 200}, **more)
    if time.monotonic() - start < 10:  # in which a hundred refill
        assert not decision.allowed
        assert decision.retry_after == pytest.approx(19, abs=12)
    assert (await fast.try_acquire("other", consume={"requests": 300}, **more)).allowed
    assert (await slow.try_acquire("other", consume={"requests": 250}, **more)).allowed


async def test_the_first_call_is_a_read(repository: Any) -> None:
    """No decision is written by a clock that no answer has corrected, also where limits come with the call."""
    await RateLimiter(repository, decision_timeout=60).try_acquire("user", limits=[Limit.per_hour("requests", 5)])
    assert list(repository.take()) == ["read_records", "write_bucket"]
