"""Both twins send the same bytes to DynamoDB, in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from support.recording_proxy import RecordingProxy

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from support.engines import Engine, FakeClock
    from support.recording_proxy import Sent

    Steps = Generator[Any, Any, None]

TOKENS, REQUESTS = Limit.parse("tokens=1000/second burst 5000"), Limit.parse("requests=10/minute")


class Changed(Exception):
    """The body of a block fails."""


def enter(block: Any) -> Any:
    """Enter a context manager of either kind."""
    return block.__aenter__() if hasattr(block, "__aenter__") else block.__enter__()


def leave(block: Any, error: BaseException | None = None) -> Any:
    """Leave it again."""
    leaving = getattr(block, "__aexit__", None) or block.__exit__  # None on the sync side
    return leaving(type(error) if error else None, error, None)


# A script yields what either limiter returned: a result, or something that the driver has to await first.


def decisions(limiter: Any, clock: FakeClock) -> Steps:
    """Acquires of all kinds: admitted, refused, of nothing, with other limits, in a bucket known and unknown, idle and busy."""
    for seconds in (0, 0, 1, 60, 3_600):
        clock.advance(seconds)
        yield limiter.try_acquire("user", "api", {"tokens": 100, "requests": 4})
    yield limiter.try_acquire("user", "api", {"tokens": 0})
    yield limiter.try_acquire("user", "api", {"tokens": 5_000, "requests": 10})
    yield limiter.try_acquire("user", "api")
    yield limiter.try_acquire("user", "api", {"tokens": 1}, limits=[Limit.per_second("tokens", 7)])
    yield limiter.check("user", "api", {"tokens": 3})
    yield limiter.try_acquire("üser ☃", 'api "v1"', {"requests": 1})


def settlements(limiter: Any, clock: FakeClock) -> Steps:
    """Leases that take more, give back, fail, and go into debt."""
    block = limiter.acquire("user", "api", {"tokens": 500, "requests": 1})
    lease = yield enter(block)
    yield lease.adjust(tokens=120, requests=-1)
    yield lease.release(tokens=20)
    yield lease.consume(tokens=30)
    clock.advance(0.25)
    yield lease.adjust({"tokens": 100_000})
    yield leave(block)
    for error in (None, Changed()):
        block = limiter.acquire("other", "api", {"tokens": 7})
        yield enter(block)
        yield leave(block, error)
    try:
        yield enter(limiter.acquire("user", "api", {"tokens": 1}))
    except RateLimitExceeded:
        pass
    else:
        raise AssertionError("admitted in debt")


def bookings(limiter: Any, clock: FakeClock) -> Steps:
    """Callers who wait for their turn, and some whose wait is refused."""
    for timeout in (0, 10, 10, 0.1, 60):
        yield limiter.try_acquire("user", "api", {"requests": 7}, timeout=timeout)
    clock.advance(1)
    yield limiter.try_acquire("user", "api", {"requests": 7}, timeout=3_600)


def administration(limiter: Any, clock: FakeClock) -> Steps:
    """Limits and entities that are stored, read, used and removed."""
    yield limiter.set_limits([TOKENS])
    yield limiter.set_limits([TOKENS, REQUESTS], entity_id="user", resource="api")
    yield limiter.get_limits("user", "api")
    yield limiter.resolve_limits("user", "api")
    yield limiter.create_entity("team", name="Team", metadata={"plan": "gold"})
    yield limiter.create_entity("user", parent_id="team")
    yield limiter.get_entity("user")
    yield limiter.list_children("team")
    yield limiter.delete_limits("user", "api")
    yield limiter.set_parent("user", None)
    yield limiter.delete_entity("user")
    clock.advance(600)
    yield limiter.try_acquire("user", "api", {"tokens": 1})


SCRIPTS = (decisions, settlements, bookings, administration)


@pytest.fixture(autouse=True)
def _equal_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both twins draw the same where they draw at random: the writer's name, and the marks of links."""
    chance = SimpleNamespace(urandom=lambda size: b"\xab" * size)
    for module in ("commit.writer", "commit.sync_writer", "aws.linking", "aws.sync_linking"):
        monkeypatch.setattr(f"limiter.{module}.os", chance)


@pytest.fixture
def proxy(server_engine: Engine) -> Iterator[RecordingProxy]:
    """A proxy before each engine."""
    assert server_engine.endpoint_url is not None
    with RecordingProxy(server_engine.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def fresh(server_engine: Engine, table_name: str) -> Callable[[], str]:
    """Makes the table anew, empty."""
    client = boto3.client("dynamodb", endpoint_url=server_engine.endpoint_url)

    def make() -> str:
        with contextlib.suppress(client.exceptions.ResourceNotFoundException):
            client.delete_table(TableName=table_name)
            client.get_waiter("table_not_exists").wait(TableName=table_name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        create_table(table_name, client=client)
        return table_name

    return make


async def send_async(script: Callable[..., Steps], table: str, proxy: RecordingProxy, clock: FakeClock) -> list[Sent]:
    """Act a script out with the asynchronous limiter, and return what it sent."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    async with Repository(
        table, endpoint_url=proxy.endpoint_url, clock=clock, connect_timeout=30.0, read_timeout=30.0
    ) as repository:
        steps = script(RateLimiter(repository, [TOKENS, REQUESTS], sleep=sleep, decision_timeout=60), clock)
        step = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                try:
                    result = await step if inspect.isawaitable(step) else step
                except Exception as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
    return proxy.take()


def send_sync(script: Callable[..., Steps], table: str, proxy: RecordingProxy, clock: FakeClock) -> list[Sent]:
    """Act a script out with the synchronous limiter, and return what it sent."""
    with SyncRepository(
        table, endpoint_url=proxy.endpoint_url, clock=clock, connect_timeout=30.0, read_timeout=30.0
    ) as repository:
        steps = script(SyncRateLimiter(repository, [TOKENS, REQUESTS], sleep=clock.advance, decision_timeout=60), clock)
        result = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                result = steps.send(result)
    return proxy.take()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_twins_send_equal_bytes(
    script: Callable[..., Steps], proxy: RecordingProxy, fresh: Callable[[], str], clock: FakeClock
) -> None:
    """The same calls at the same times lead to the same requests, to the byte."""
    started = clock()
    by_async = asyncio.run(send_async(script, fresh(), proxy, clock))
    clock.now_ns = started
    proxy.take()
    by_sync = send_sync(script, fresh(), proxy, clock)
    assert len(by_sync) >= 5
    assert by_async == by_sync


@pytest.mark.engines("moto")
def test_a_difference_would_be_seen(
    proxy: RecordingProxy, fresh: Callable[[], str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another name of a writer, which is a few bytes of a request, makes the requests differ."""
    table = fresh()
    by_one = send_sync(decisions, table, proxy, clock)
    monkeypatch.setattr("limiter.commit.sync_writer.os", SimpleNamespace(urandom=lambda size: b"\xac" * size))
    clock.now_ns = type(clock).START_NS
    by_other = send_sync(decisions, fresh(), proxy, clock)
    assert len(by_one) == len(by_other)
    assert by_one != by_other
