"""The table of costs in the README: calls and capacity units, counted on engines that bill as AWS does."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, Repository
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.engines import Engine, FakeClock

    Opened = tuple["Meter", Callable[..., RateLimiter]]

LIMITS = ("requests=100/minute", "tokens=100000/minute")
AMOUNTS = {"requests": 1, "tokens": 500}


class Meter:
    """The calls made through a client since the last reading, and the units that they consumed."""

    def __init__(self, client: Any) -> None:
        self.calls: Counter[str] = Counter()
        self.written = self.read = 0.0
        self.client = client
        client.meta.events.register("provide-client-params.dynamodb.*", self._ask)
        client.meta.events.register("after-call.dynamodb.*", self._note)

    def _ask(self, params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "TOTAL"

    def _note(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls[model.name] += 1
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name == "UpdateItem":
            # The answer to a condition that did not hold names no units; it costs one.
            self.written += units or 1.0
        else:
            self.read += units

    async def size(self, table: str) -> tuple[int, int]:
        """The bytes of the one bucket in a table, as AWS counts them, and the number of processes that hold slots in it.

        AWS counts names, texts, and half a byte for each digit.
        """
        items = (await self.client.scan(TableName=table))["Items"]
        (bucket,) = [item for item in items if item["sk"]["S"].startswith("b#")]
        values = [(name, next(iter(value.values()))) for name, value in bucket.items()]
        self.take()
        bytes_ = sum(len(name) + (len(text) // 2 + 2 if "N" in bucket[name] else len(text)) for name, text in values)
        return bytes_, sum(name.startswith("c:") for name in bucket)

    def take(self) -> tuple[dict[str, int], float, float]:
        """Calls, write units and read units."""
        reading = dict(self.calls), self.written, self.read
        self.calls.clear()
        self.written = self.read = 0.0
        return reading


@pytest.fixture
async def opened(
    atomic_engine: Engine, table_name: str, clock: FakeClock
) -> AsyncIterator[tuple[Meter, Callable[..., RateLimiter]]]:
    """A meter, and what makes limiters that it reads."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    from aiobotocore.session import AioSession

    async with AioSession().create_client("dynamodb", endpoint_url=atomic_engine.endpoint_url) as client:

        async def sleep(seconds: float) -> None:
            clock.advance(seconds)

        def new(*limits: str, **options: Any) -> RateLimiter:
            repository = Repository(table_name, client=client, clock=clock)
            parsed = [Limit.parse(limit) for limit in limits or LIMITS]
            return RateLimiter(repository, parsed, sleep=sleep, decision_timeout=60, **options)

        yield Meter(client), new


async def test_an_admission_costs_a_write_unit_and_a_first_one_a_read_besides(opened: Opened) -> None:
    """Two limits in one bucket: one UpdateItem when warm, one BatchGetItem of five items before it when not.

    The levels that all entities share are known to the process by then, so another entity costs three items, at half a unit each.
    """
    meter, new = opened
    limiter = new()
    async with limiter.acquire("user", "search", AMOUNTS):
        calls, written, read = meter.take()
    assert (calls, written) == ({"BatchGetItem": 1, "UpdateItem": 1}, 1.0)
    assert read <= 2.5
    assert await limiter.try_acquire("other", "search", AMOUNTS)
    calls, written, read = meter.take()
    assert (calls, written) == ({"BatchGetItem": 1, "UpdateItem": 1}, 1.0)
    assert read <= 1.5
    async with limiter.acquire("user", "search", AMOUNTS):
        pass
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


@pytest.mark.engines("dynoxide")  # DynamoDB Local counts no items that are absent.
async def test_what_was_written_last_costs_a_unit_for_each_item(opened: Opened) -> None:
    """A limiter that may remember nothing reads consistently, and so does one whose process has written a record."""
    meter, new = opened
    limiter = new(config_ttl=0)
    assert await limiter.try_acquire("user", "search", AMOUNTS)
    assert meter.take() == ({"BatchGetItem": 1, "UpdateItem": 1}, 1.0, 5.0)
    limiter = new()
    await limiter.create_entity("user")
    meter.take()
    assert await limiter.try_acquire("user", "search", AMOUNTS)
    _, _, read = meter.take()
    assert read == 4.0


async def test_five_limits_cost_one_write_unit(opened: Opened) -> None:
    """The item stays below 1 KB, with bookings too."""
    meter, new = opened
    limiter = new(*(f"limit-number-{number}=1/second" for number in range(5)))
    await limiter.try_acquire("user", "search")
    await limiter.try_acquire("user", "search", timeout=5)
    meter.take()
    await limiter.try_acquire("user", "search", timeout=5)
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


EVERY_KIND = (
    "requests=100/minute burst 50",
    "tokens=1000000/day in America/Los_Angeles",
    "probe=10/second shadow",
    "messages=50/session of 5 hours",
    "words=10/3 seconds",
)
"""A limit of each kind; a kind that is added has its line here, in place of the last one."""
PROCESSES = 8


async def test_a_bucket_of_every_kind_costs_one_write_unit(opened: Opened) -> None:
    """With a rate, a quota, a shadow and a session in five limits that eight processes share, each acquire is one write unit.

    So it is in debt, with bookings, and where the shadow would have refused.
    """
    meter, new = opened
    limiters = [new(*EVERY_KIND) for _ in range(PROCESSES)]
    for turn in range(2):
        for limiter in limiters:
            await limiter.check("user", "search")
            meter.take()
            amounts = {"requests": 1, "tokens": 5, "probe": 9, "messages": 1, "words": turn}
            async with limiter.acquire("user", "search", amounts, timeout=60):
                pass
            calls, written, _ = meter.take()
            # A process that has seen the bucket change since it wrote may have to write twice, as with any limits.
            assert calls["UpdateItem"] == written <= 2.0
            assert await limiter.try_acquire("user", "search", {**amounts, "words": 0})
            assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)
    await limiters[0].adjust("user", "search", {"requests": 10**6, "tokens": 10**9, "messages": 40})
    meter.take()
    await limiters[0].adjust("user", "search", {"requests": 1})
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


async def test_a_refusal_is_free_for_a_second_and_then_a_read(opened: Opened, clock: FakeClock) -> None:
    """What is known to be refused is looked up again after a second, by a read and not by a write."""
    meter, new = opened
    limiter = new("requests=1/hour")
    await limiter.try_acquire("user", "search")
    meter.take()
    assert not await limiter.try_acquire("user", "search")
    assert meter.take() == ({}, 0.0, 0.0)
    clock.advance(1.0)
    assert not await limiter.try_acquire("user", "search")
    assert meter.take() == ({"GetItem": 1}, 0.0, 1.0)


async def test_a_surprising_refusal_and_a_surprising_admission_cost_a_write_more(opened: Opened, clock: FakeClock) -> None:
    """When another process has changed the bucket, one write finds out: it refuses, or a second one admits."""
    meter, new = opened
    one, other = new("requests=2/hour"), new("requests=2/hour")
    await one.check("user", "search")
    await one.try_acquire("user", "search", {"requests": 0})
    assert await other.try_acquire("user", "search")
    meter.take()
    assert await one.try_acquire("user", "search")
    assert meter.take() == ({"UpdateItem": 2}, 2.0, 0.0)
    assert not await other.try_acquire("user", "search")
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


async def test_tasks_that_ask_at_once_share_one_write(opened: Opened) -> None:
    """Fifty tasks on one bucket are decided by one UpdateItem."""
    meter, new = opened
    limiter = new()
    await limiter.try_acquire("user", "search")
    meter.take()
    decisions = await asyncio.gather(*(limiter.try_acquire("user", "search") for _ in range(50)))
    assert all(decisions)
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


async def test_a_wait_costs_a_write_unit(opened: Opened) -> None:
    """A turn is booked by one UpdateItem, however long the wait."""
    meter, new = opened
    limiter = new("requests=1/second")
    await limiter.try_acquire("user", "search")
    meter.take()
    async with limiter.acquire("user", "search", timeout=5) as lease:
        assert lease.waited == 1.0
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


async def test_a_chain_costs_a_write_unit_for_each_bucket(opened: Opened) -> None:
    """A key, its project and its organisation: three UpdateItems."""
    meter, new = opened
    limiter = new()
    await limiter.create_entity("organisation")
    await limiter.create_entity("project", parent_id="organisation")
    await limiter.create_entity("key", parent_id="project")
    await limiter.try_acquire("key", "search")
    meter.take()
    await limiter.try_acquire("key", "search")
    assert meter.take() == ({"UpdateItem": 3}, 3.0, 0.0)


async def test_a_correction_costs_a_write_unit_and_the_end_of_the_block_nothing(opened: Opened) -> None:
    """Each correction is one UpdateItem, and so is giving everything back."""
    meter, new = opened
    limiter = new()
    async with limiter.acquire("user", "search", AMOUNTS) as lease:
        for correct in (lease.adjust, lease.consume, lease.release):
            meter.take()
            await correct(tokens=10)
            assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)
    assert meter.take() == ({}, 0.0, 0.0)
    with pytest.raises(KeyError):
        async with limiter.acquire("user", "search", AMOUNTS):
            meter.take()
            raise KeyError
    assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)


async def test_a_bucket_of_five_kinds_costs_one_unit_an_acquire(opened: Opened, table_name: str) -> None:
    """A rate, a quota, a shadow, a session, and slots that each of eight processes holds: one write unit an acquire, below 1 KB.

    Each process that knows the bucket enters for a unit and leaves for a unit: at first, where the shadow would have refused, and
    where it has to wait.
    """
    meter, new = opened
    limits = (*EVERY_KIND[:3], "messages=100/session of 5 hours", "calls=20 at once")
    limiters = [new(*limits) for _ in range(PROCESSES)]
    leases = [limiter.acquire("user-42", "gpt-4") for limiter in limiters]
    for held in leases:
        await held.__aenter__()
    for more in ({}, {"probe": 9}, {"requests": 3}):
        amounts = {"requests": 1, "tokens": 1, "probe": 1, "messages": 1, "calls": 1, **more}
        for limiter in limiters:
            meter.take()
            async with limiter.acquire("user-42", "gpt-4", amounts, timeout=60):
                # A process that has not seen the bucket change since it wrote may have to write twice, as with any limits.
                calls, written, _ = meter.take()
                assert calls["UpdateItem"] == written <= 2.0
            meter.take()
            acquisition = limiter.acquire("user-42", "gpt-4", amounts, timeout=60)
            lease = await acquisition.__aenter__()
            assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)
            size, holders = await meter.size(table_name)
            assert size < 1_000
            assert holders == PROCESSES
            await acquisition.__aexit__(None, None, None)
            assert meter.take() == ({"UpdateItem": 1}, 1.0, 0.0)
    assert lease.waited > 0
    for held in leases:
        await held.__aexit__(None, None, None)


@pytest.mark.parametrize(("holders", "units"), [(8, 1.0), (20, 1.0), (50, 2.0)])
async def test_many_processes_make_a_bucket_of_slots_dearer(opened: Opened, holders: int, units: float) -> None:
    """Each process that holds slots adds an attribute, so that a bucket of more than some 20 costs a second unit."""
    meter, new = opened
    limits = ("requests=1000/minute", "tokens=1000/second", "calls=100 at once")
    limiters = [new(*limits) for _ in range(holders)]
    for limiter in limiters:
        await limiter.acquire("user-42", "gpt-4").__aenter__()
    meter.take()
    await limiters[-1].acquire("user-42", "gpt-4").__aenter__()
    _, written, _ = meter.take()
    assert written == units
