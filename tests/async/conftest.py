# twin: ../sync/conftest.py
"""A limiter on every engine, with a clock that the test owns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client
from support.fault_proxy import FaultProxy

from limiter import Limit, MemoryRepository, RateLimiter, Repository
from limiter.aws.client import ClientOptions, new_session
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.engines import Engine, FakeClock

    from limiter.repository_protocol import RepositoryProtocol


class Counting:
    """A repository that counts the calls made through it."""

    def __init__(self, inner: RepositoryProtocol) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name not in COUNTED:
            return getattr(self.inner, name)
        self.calls[name] += 1
        return getattr(self.inner, name)

    def take(self) -> dict[str, int]:
        """The calls made since the last look."""
        seen = dict(self.calls)
        self.calls.clear()
        return seen


PATIENT = {"connect_timeout": 30.0, "read_timeout": 30.0}
"""Test machines stall; an engine that is there must not count as unavailable."""
COUNTED = ("read_bucket", "read_records", "write_bucket")


@pytest.fixture(scope="session")
def aws_session() -> Any:
    """One session for all tests, which reads botocore's model of DynamoDB once: a client of its own takes a thirtieth then."""
    return new_session(ClientOptions())


@pytest.fixture
async def open_repository(
    engine: Engine, table_name: str, clock: FakeClock, aws_session: Any
) -> AsyncIterator[Callable[..., Any]]:
    """Opens repositories of one table, each with a client of its own; in memory they are one and the same."""
    opened: list[Any] = []
    if engine.endpoint_url:
        create_table(table_name, client=plain_client(engine.endpoint_url))

    def new(namespace: str = "default") -> Any:
        if engine.endpoint_url:
            options = {"endpoint_url": engine.endpoint_url, "session": aws_session, "clock": clock, **PATIENT}
            opened.append(Repository(table_name, namespace=namespace, **options))
        elif not opened:
            opened.append(MemoryRepository(namespace=namespace, clock=clock))
        return opened[-1]

    yield new
    for repository in opened:
        await repository.close()


@pytest.fixture(scope="session")
def proxies() -> Iterator[Callable[[str], FaultProxy]]:
    """One proxy that makes faults before each engine, for all tests."""
    started: dict[str, FaultProxy] = {}

    def before(endpoint_url: str) -> FaultProxy:
        if endpoint_url not in started:
            started[endpoint_url] = FaultProxy(endpoint_url)
        return started[endpoint_url]

    yield before
    for proxy in started.values():
        proxy.stop()


@pytest.fixture
def proxy(atomic_engine: Engine, table_name: str, proxies: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy without faults before an engine with a table, and no pauses before calls are repeated."""
    yield from proxied(atomic_engine, table_name, proxies, monkeypatch)


@pytest.fixture
def server_proxy(server_engine: Engine, table_name: str, proxies: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """The same before every server, for faults that are no races."""
    yield from proxied(server_engine, table_name, proxies, monkeypatch)


def proxied(engine: Engine, table_name: str, proxies: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before one engine; how often a call is repeated does not depend on this machine's speed."""
    monkeypatch.setattr("limiter.runtime.retry.BACKOFF", 0.0)
    monkeypatch.setattr("limiter.runtime.retry.RETRY_FOR", 60.0)
    create_table(table_name, client=plain_client(str(engine.endpoint_url)))
    proxy: FaultProxy = proxies(engine.endpoint_url)
    proxy.heal()
    yield proxy
    proxy.heal()


@pytest.fixture(params=["direct", "botocore"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return str(request.param)


@pytest.fixture
async def connect(
    transport: str, table_name: str, clock: FakeClock, aws_session: Any
) -> AsyncIterator[Callable[..., Repository]]:
    """Makes repositories of one table at an address, which take either transport; they are closed in the end."""
    made: list[Repository] = []
    shared = {"session": aws_session, "clock": clock, "transport": transport}

    def new(endpoint_url: str, **options: Any) -> Repository:
        made.append(Repository(table_name, endpoint_url=endpoint_url, **shared, **options))
        return made[-1]

    yield new
    for repository in made:
        await repository.close()


@pytest.fixture
async def repository(open_repository: Callable[..., Any]) -> Counting:
    """An open repository that counts its calls."""
    counting = Counting(open_repository())
    await counting.open()
    return counting


@pytest.fixture
async def new_limiter(repository: Counting, open_repository: Callable[..., Any], clock: FakeClock) -> Callable[..., RateLimiter]:
    """Makes limiters that share the table and nothing else, and that wait by moving the clock."""
    first = [True]

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    def new(*limits: str, **options: Any) -> RateLimiter:
        shared = repository if first and first.pop() else open_repository()
        # Test machines stall; an engine that is there must not count as unavailable.
        options = {"sleep": sleep, "decision_timeout": 60.0} | options
        return RateLimiter(shared, [Limit.parse(limit) for limit in limits], **options)

    return new


class Store:
    """A repository in memory that counts the calls of decisions, corrections and checks, and fails them while it has an error."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.inner = MemoryRepository(clock=clock)
        self.error: Exception | None = None
        self.calls = self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read_bucket(self, *arguments: Any) -> Any:
        self.count()
        return await self.inner.read_bucket(*arguments)

    async def read_records(self, *arguments: Any) -> Any:
        self.count()
        return await self.inner.read_records(*arguments)

    async def write_bucket(self, *arguments: Any) -> Any:
        self.count()
        return await self.inner.write_bucket(*arguments)

    def count(self) -> None:
        self.calls += 1
        if self.error is not None:
            self.failures += 1
            raise self.error


@pytest.fixture
def store(clock: FakeClock) -> Store:
    """A store that works."""
    return Store(clock)


@pytest.fixture
def closed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker that opened stays open."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 3600.0)


@pytest.fixture
def tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker that opened lets one call at a time through."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 0.0)
