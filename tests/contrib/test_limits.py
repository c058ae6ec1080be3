"""The storage for limits, under its own strategies, Flask-Limiter and slowapi.

The test of `limiter.contrib.counters`.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from support.presence import need

from limiter import ConfigurationError, ValidationError
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

need("fastapi", "flask_limiter", "limits", "slowapi")

import fastapi
import limits
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.aio.strategies import SlidingWindowCounterRateLimiter as AsyncSlidingWindow
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from limiter.contrib.limits import AsyncDynamoDBStorage, DynamoDBStorage

FIVE = limits.RateLimitItemPerMinute(5)
pytestmark = pytest.mark.engines("moto", "dynoxide", "dynamodb-local")


@pytest.fixture
def uri(server_engine: Engine, table_name: str) -> str:
    """The URI of a table of its own."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return f"dynamodb://{table_name}?endpoint_url={quote(server_engine.endpoint_url or '')}"


class Seconds:
    """The test's clock as limits reads one."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def __call__(self) -> float:
        return self._clock() / 1e9


class Lossy:
    """A client that makes each write twice and returns the second answer, as botocore does when the first was lost."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.loses = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.endswith("_item"):
            return found

        def call(**parameters: Any) -> Any:
            self.calls[name] += 1
            if self.loses and name == "update_item":
                found(**parameters)
            return found(**parameters)

        return call


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Lossy]:
    """Returns the client that a storage has opened."""
    import boto3

    opened: list[Lossy] = []
    make = boto3.Session.client

    def open_client(*args: Any, **options: Any) -> Any:
        opened.append(Lossy(make(*args, **options)))
        return opened[-1]

    monkeypatch.setattr(boto3.Session, "client", open_client)
    return lambda: opened[-1]


def test_the_schemes_are_registered(uri: str) -> None:
    """Importing the module is enough for limits to know both schemes."""
    assert isinstance(storage_from_string(uri), DynamoDBStorage)
    assert isinstance(storage_from_string("async+" + uri), AsyncDynamoDBStorage)


def test_a_fixed_window_begins_with_its_first_hit(uri: str, clock: FakeClock) -> None:
    """It counts refused hits too, ends a minute after its first hit, and then a new one begins."""
    storage = DynamoDBStorage(uri, clock=Seconds(clock))
    strategy = FixedWindowRateLimiter(storage)
    begun = clock() / 1e9

    assert [strategy.hit(FIVE, "user") for _ in range(7)] == [True] * 5 + [False] * 2
    assert storage.get(FIVE.key_for("user")) == 7
    assert storage.get_expiry(FIVE.key_for("user")) == begun + 60
    clock.advance(59.999)
    assert not strategy.hit(FIVE, "user")
    clock.advance(0.001)
    assert strategy.hit(FIVE, "user")
    assert strategy.get_window_stats(FIVE, "user") == (begun + 120, 4)


def test_another_process_sees_the_same_window(uri: str, clock: FakeClock) -> None:
    """A storage that remembers nothing, or what has ended since, counts on."""
    one, other = (FixedWindowRateLimiter(DynamoDBStorage(uri, clock=Seconds(clock))) for _ in range(2))
    assert [one.hit(FIVE), other.hit(FIVE), one.hit(FIVE)] == [True] * 3
    clock.advance(60)
    assert [other.hit(FIVE, cost=3), one.hit(FIVE, cost=2), other.hit(FIVE)] == [True, True, False]


def test_the_sliding_window_decides_as_the_one_of_limits_does(
    uri: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two storages in turn admit, at random times and costs, what one in limits' memory admits."""
    monkeypatch.setattr("limits.storage.memory.time.time", Seconds(clock))
    model = MemoryStorage()
    storages = [DynamoDBStorage(uri, clock=Seconds(clock)) for _ in range(2)]
    chance = random.Random(17)  # noqa: S311 - a test
    admitted = []
    for _ in range(150):
        clock.advance(chance.choice([0, 0, 1, 7, 31, 64, 130]))
        cost = chance.randint(1, 6)
        storage = chance.choice(storages)
        expected = model.acquire_sliding_window_entry("user", 5, 60, cost)
        assert storage.acquire_sliding_window_entry("user", 5, 60, cost) == expected
        assert storage.get_sliding_window("user", 60) == pytest.approx(model.get_sliding_window("user", 60))
        admitted.append(expected)
    assert 20 < sum(admitted) < 130


def test_a_window_that_another_clock_has_begun_is_the_present_one(uri: str, clock: FakeClock) -> None:
    """A machine whose clock is behind adds to the newer window, and takes back nothing."""
    late = Seconds(clock)
    ahead, behind = DynamoDBStorage(uri, clock=lambda: late() + 60), DynamoDBStorage(uri, clock=late)
    assert ahead.acquire_sliding_window_entry("user", 5, 60, 4)
    assert behind.acquire_sliding_window_entry("user", 5, 60, 1)
    assert not behind.acquire_sliding_window_entry("user", 5, 60, 1)
    assert not ahead.acquire_sliding_window_entry("user", 5, 60, 1)


@pytest.mark.parametrize("strategy", [FixedWindowRateLimiter, SlidingWindowCounterRateLimiter])
def test_threads_of_several_processes_are_admitted_exactly(uri: str, strategy: Any, clock: FakeClock) -> None:
    """Sixty threads on three storages get exactly the limit, in the first window and after it was forgotten."""
    strategies = [strategy(DynamoDBStorage(uri, clock=Seconds(clock))) for _ in range(3)]
    with ThreadPoolExecutor(20) as pool:
        for _ in range(3):
            hits = list(pool.map(lambda number: strategies[number % 3].hit(FIVE, "user"), range(60)))
            assert hits.count(True) == 5
            clock.advance(120)


def test_the_roll_over_is_exact_too(uri: str, clock: FakeClock) -> None:
    """Threads that meet a new window carry the count before over once."""
    strategies = [SlidingWindowCounterRateLimiter(DynamoDBStorage(uri, clock=Seconds(clock))) for _ in range(3)]
    assert strategies[0].hit(FIVE, "user", cost=4)
    clock.advance(60)
    with ThreadPoolExecutor(20) as pool:
        hits = list(pool.map(lambda number: strategies[number % 3].hit(FIVE, "user"), range(60)))
    assert hits.count(True) == 1
    assert strategies[1].storage.get_sliding_window(FIVE.key_for("user"), 60)[::2] == (4, 1)


def test_a_write_that_is_repeated_counts_once(uri: str, clock: FakeClock, client: Callable[[], Lossy]) -> None:
    """When an answer is lost and botocore sends the write again, the second finds its own id and changes nothing."""
    storage = DynamoDBStorage(uri, clock=Seconds(clock))
    assert storage.check()
    client().loses = True
    assert [storage.incr("fixed", 60, 2) for _ in range(3)] == [2, 4, 6]
    assert all(storage.acquire_sliding_window_entry("roomy", 100, 60, 2) for _ in range(3))
    assert storage.get_sliding_window("roomy", 60)[::2] == (0, 6)
    assert [storage.acquire_sliding_window_entry("sliding", 4, 60, 2) for _ in range(3)] == [True, True, False]
    clock.advance(60)
    assert not storage.acquire_sliding_window_entry("sliding", 4, 60, 2)
    clock.advance(30)
    assert storage.acquire_sliding_window_entry("sliding", 4, 60, 2)
    assert storage.get_sliding_window("sliding", 60)[::2] == (4, 2)


def test_a_hit_is_one_write_and_a_known_refusal_one_read(uri: str, clock: FakeClock, client: Callable[[], Lossy]) -> None:
    """A first hit, one in the same window and one in the next take a write each."""
    storage = DynamoDBStorage(uri, clock=Seconds(clock))
    for seconds in (0, 0, 60, 0, 500):
        clock.advance(seconds)
        assert storage.acquire_sliding_window_entry("sliding", 100, 60)
        storage.incr("fixed", 60)
    assert client().calls == {"update_item": 10}
    client().calls.clear()
    assert not storage.acquire_sliding_window_entry("sliding", 1, 60)
    assert client().calls == {"get_item": 1}
    assert not storage.acquire_sliding_window_entry("sliding", 1, 60, 2)
    assert client().calls == {"get_item": 1}


def test_clear_forgets_one_key(uri: str, clock: FakeClock, client: Callable[[], Lossy]) -> None:
    """It needs no right to delete, and a key that was never hit stays absent."""
    storage = DynamoDBStorage(uri, clock=Seconds(clock))
    for strategy in (FixedWindowRateLimiter(storage), SlidingWindowCounterRateLimiter(storage)):
        assert [strategy.hit(FIVE, name, cost=5) for name in ("one", "other")] == [True, True]
        strategy.clear(FIVE, "one")
        strategy.clear(FIVE, "never")
        assert [strategy.hit(FIVE, name, cost=5) for name in ("one", "other", "never")] == [True, False, True]
    assert set(client().calls) == {"update_item", "get_item"}


def test_reset_deletes_the_counters_of_its_namespace(uri: str) -> None:
    """It says how many there were, also beyond one batch, and leaves other namespaces and other items alone."""
    from limiter import Limit, SyncRateLimiter, SyncRepository

    mine, other = DynamoDBStorage(uri), DynamoDBStorage(uri, namespace="other")
    table, _, endpoint = uri.removeprefix("dynamodb://").partition("?endpoint_url=")
    with SyncRateLimiter(SyncRepository(table, endpoint_url=endpoint.replace("%3A", ":")), decision_timeout=30) as limiter:
        limiter.set_limits([Limit.per_minute("requests", 5)])
        for number in range(28):
            mine.incr(f"key-{number}", 60)
        assert mine.acquire_sliding_window_entry("key", 5, 60)
        assert other.incr("key", 60) == 1
        assert mine.reset() == 29
        assert mine.get("key-1") == 0
        assert other.get("key") == 1
        assert limiter.get_limits() == (Limit.per_minute("requests", 5),)


def test_namespaces_with_a_separator_share_no_counter(uri: str) -> None:
    """No key of one namespace is one of another, and a reset ends at the namespace."""
    one, other = DynamoDBStorage(uri, namespace="a"), DynamoDBStorage(uri, namespace="a#b")
    assert other.incr("key", 60) == 1
    assert one.incr("b#key", 60) == 1
    assert one.reset() == 1
    assert other.get("key") == 1


def test_the_moving_window_is_refused_with_a_remedy(uri: str) -> None:
    """The strategy of limits, Flask-Limiter and the asynchronous strategy say what to use in its place."""
    import flask
    from flask_limiter import Limiter

    with pytest.raises(NotImplementedError, match="'sliding-window-counter' or 'fixed-window'"):
        MovingWindowRateLimiter(storage_from_string(uri))
    with pytest.raises(NotImplementedError, match="'sliding-window-counter' or 'fixed-window'"):
        AsyncMovingWindow(storage_from_string("async+" + uri))
    with pytest.raises(NotImplementedError, match="'sliding-window-counter' or 'fixed-window'"):
        Limiter(lambda: "user", app=flask.Flask(__name__), storage_uri=uri, strategy="moving-window")


async def test_asynchronous_strategies_share_the_counters(uri: str, clock: FakeClock) -> None:
    """Tasks are admitted exactly, together with what synchronous programs have taken."""
    storage = AsyncDynamoDBStorage("async+" + uri, clock=Seconds(clock))
    plain = DynamoDBStorage(uri, clock=Seconds(clock))
    pairs = ((AsyncFixedWindow, FixedWindowRateLimiter), (AsyncSlidingWindow, SlidingWindowCounterRateLimiter))
    try:
        assert await storage.check()
        for asynchronous, synchronous in pairs:
            strategy = asynchronous(storage)
            assert await asyncio.to_thread(synchronous(plain).hit, FIVE, "user", cost=2)
            hits = await asyncio.gather(*(strategy.hit(FIVE, "user") for _ in range(30)))
            assert hits.count(True) == 3
            assert (await strategy.get_window_stats(FIVE, "user")).remaining == 0
            await strategy.clear(FIVE, "user")
            assert await strategy.hit(FIVE, "user", cost=5)
        assert await storage.get_expiry(FIVE.key_for("user")) == clock() / 1e9 + 60
        assert await storage.reset() == 2
    finally:
        await storage.close()


async def test_errors_are_those_that_limits_wraps(server_engine: Engine) -> None:
    """A table that is not there is unhealthy, and a StorageError where exceptions are wrapped."""
    uri = f"dynamodb://no-such-table?endpoint_url={server_engine.endpoint_url}"
    storage = AsyncDynamoDBStorage("async+" + uri, wrap_exceptions=True)
    try:
        assert not await storage.check()
        with pytest.raises(limits.errors.StorageError):
            await storage.incr("key", 60)
    finally:
        await storage.close()
    plain = DynamoDBStorage(uri, wrap_exceptions=True)
    assert not await asyncio.to_thread(plain.check)
    with pytest.raises(limits.errors.StorageError):
        await asyncio.to_thread(plain.incr, "key", 60)


def test_flask_limiter_runs_on_it(uri: str) -> None:
    """Two applications with Flask-Limiter share a limit, send headers, and honour exemptions."""
    import flask
    from flask_limiter import Limiter

    def client() -> Any:
        app = flask.Flask(__name__)
        # A day, so that no window ends in the test.
        limiter = Limiter(
            lambda: "user",
            app=app,
            storage_uri=uri,
            strategy="sliding-window-counter",
            default_limits=["3/day"],
            headers_enabled=True,
        )

        @app.route("/")
        def limited() -> str:
            return "ok"

        @app.route("/free")
        @limiter.exempt
        def free() -> str:
            return "ok"

        return app.test_client()

    one, other = client(), client()
    answers = [each.get("/") for each in (one, other, one, other, one)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert other.get("/free").status_code == 200


def test_slowapi_runs_on_it(uri: str) -> None:
    """Two applications with slowapi together admit exactly what the limit allows."""
    from fastapi.testclient import TestClient
    from slowapi import Limiter, _rate_limit_exceeded_handler
    from slowapi.errors import RateLimitExceeded

    def client() -> Any:
        app = fastapi.FastAPI()
        limiter = Limiter(key_func=lambda: "user", storage_uri=uri)
        app.state.limiter = limiter
        app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type] # as its README does

        @app.get("/")
        @limiter.limit("3/day")
        def read(request: fastapi.Request) -> str:
            return "ok"

        return TestClient(app)

    one, other = client(), client()
    assert [each.get("/").status_code for each in (one, other, one, other)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("dynamodb://", {}, "name the table"),
        ("dynamodb://a/b", {}, "name the table"),
        ("dynamodb://table?zone=eu", {}, "unknown option 'zone'"),
        ("dynamodb://table", {"zone": "eu"}, "unknown option 'zone'"),
        ("dynamodb://table?namespace=a%0Ab", {}, "namespace must not hold control"),
    ],
)
def test_unusable_uris_are_refused(uri: str, options: dict[str, str], words: str) -> None:
    """An unusable URI raises an error that names the value and what is expected."""
    with pytest.raises(ValidationError, match=words):
        storage_from_string(uri, **options)


def test_without_the_extra_the_remedy_is_named() -> None:
    """Importing it where limits is not installed says what to install."""
    code = "import sys; sys.modules['limits.aio.storage'] = None; import limiter.contrib.limits"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ConfigurationError.__name__ in done.stderr
    assert 'pip install "dynamodb-limiter[limits]"' in done.stderr
