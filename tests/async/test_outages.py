# twin: ../sync/test_outages.py
"""What a limiter does while its table cannot be reached, and when it is back: every fault between client and engine.

The test of `limiter.outage.fallback`, `limiter.outage.log` and `limiter.outage.unreported`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.fault_proxy import (
    FaultProxy,
    black_hole,
    delay,
    denied,
    error,
    expired_credentials,
    hold,
    passing,
    refuse,
    reset,
    server_error,
    service_unavailable,
    throttle,
    trickle,
)

from limiter import (
    Limit,
    LimiterError,
    PermissionDenied,
    RateLimiter,
    RateLimiterUnavailable,
    RateLimitExceeded,
    Repository,
    StackNotFound,
    ValidationError,
)
from limiter.commit.breaker import REST, THRESHOLD
from limiter.core.records import BucketKey
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.engines import Engine, FakeClock
    from support.fault_proxy import Fault

    from limiter.acquirer import OnUnavailable

pytestmark = pytest.mark.engines("dynoxide")

LIMITS = [Limit.per_hour("requests", 10)]
POLICIES: tuple[OnUnavailable, ...] = ("block", "allow", "local")
DEADLINE, SLACK, PATIENCE, ATTEMPTS = 1.0, 1.5, 30.0, 5
OUTAGES = {
    "refused": refuse(),
    "black hole": black_hole(),
    "errors at once": server_error(),
    "overload": service_unavailable(),
    "throttling": throttle(),
    "account throttling": throttle("ThrottlingException"),
    "trickle": trickle(0.2),
    "late": delay(3.0),
    "resets": reset(),
    "expired credentials": expired_credentials(),
}
NOWHERE = "http://no-such-host.invalid:1234"


class Failed(Exception):
    """The block fails, and what it took is given back."""


class World:
    """Limiters behind a proxy, one beside it, and the table that all of them use."""

    def __init__(self, proxy: FaultProxy, connect: Callable[..., Repository], url: str, clock: FakeClock) -> None:
        self.proxy, self.connect, self.clock = proxy, connect, clock
        self.beside = RateLimiter(connect(url, read_timeout=PATIENCE), LIMITS, denial_ttl=0, decision_timeout=PATIENCE)

    def limiter(self, *, patient: bool = True, url: str = "", limits: Any = LIMITS, **options: Any) -> RateLimiter:
        """One behind the proxy. A patient one does not take a machine that stalls for an outage."""
        timeouts = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE} if patient else {}
        options = {"denial_ttl": 0, "config_ttl": 3_600} | ({"decision_timeout": PATIENCE} if patient else {}) | options
        return RateLimiter(self.connect(url or self.proxy.endpoint_url, **timeouts), limits, **options)

    async def missing(self, entity_id: str = "user") -> int:
        """Units that are missing from the table's bucket, rounded up."""
        state = await self.beside.repository.read_bucket(BucketKey("default", entity_id, "default"))
        span = max(0, state.level(LIMITS[0].identity).tat - self.clock())
        return -(-span * 10 // (3_600 * 10**9))


@pytest.fixture
def world(connect: Callable[..., Repository], proxy: FaultProxy, atomic_engine: Engine, clock: FakeClock) -> World:
    """A world of its own, whose calls take either transport."""
    return World(proxy, connect, atomic_engine.endpoint_url or "", clock)


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A breaker that opens stays open for longer than a test takes."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 10 * PATIENCE)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open breaker does not rest: the next caller looks."""
    monkeypatch.setattr("limiter.commit.breaker.REST", 0.0)


async def together(calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Makes all calls at once; raises what one of them raised."""
    outcomes = await gather(calls)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes


async def eventually(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it comes true in time."""
    for _ in range(int(PATIENCE * 100)):
        if await condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def until_held(world: World, count: int) -> None:
    """Waits until so many requests have been held."""

    async def reached() -> bool:
        return world.proxy.counts().held >= count

    assert await eventually(reached)


async def meet(limiter: RateLimiter, policy: Any, entity_id: str = "user", resource: str = "default") -> None:
    """One decision, which the outage meets: the policy takes effect."""
    if policy != "block":
        async with limiter.acquire(entity_id, resource, on_unavailable=policy) as lease:
            assert lease.degraded
        return
    with pytest.raises(RateLimiterUnavailable) as unavailable:
        await limiter.try_acquire(entity_id, resource, on_unavailable=policy)
    assert unavailable.value.__cause__ is not None


async def go_down(world: World, limiter: RateLimiter, fault: Fault | None = None) -> None:
    """The table goes away, until the breaker is open."""
    world.proxy.inject(server_error() if fault is None else fault)
    for _ in range(THRESHOLD):
        with suppress(RateLimiterUnavailable):
            await limiter.try_acquire("another", on_unavailable="block")
    assert limiter.stats().breaker == "open"


@pytest.mark.usefixtures("lasting")
@pytest.mark.parametrize(("name", "warm"), [*((name, True) for name in OUTAGES), ("black hole", False), ("throttling", False)])
async def test_policies_take_effect_in_time(world: World, name: str, warm: bool) -> None:
    """Within the deadline, and at once and without any call when the breaker is open; all of it is counted."""
    limiter = world.limiter(patient=False)
    await limiter.repository.open()
    if warm:
        assert await eventually(partial(warmed, limiter))
    before = limiter.stats()
    world.proxy.inject(OUTAGES[name])
    for number, policy in enumerate(POLICIES):
        assert limiter.stats().breaker == "closed"
        began = time.monotonic()
        await meet(limiter, policy, f"other-{number}" if not warm else "user")
        assert time.monotonic() - began < DEADLINE + SLACK
    opened, requests = limiter.stats(), world.proxy.counts().requests
    assert opened.breaker == "open"
    assert opened.degraded - before.degraded == 2
    assert opened.decisions - before.decisions == 2
    assert opened.failures - before.failures >= 3
    assert opened.calls - before.calls >= 3
    began = time.monotonic()
    for policy in POLICIES * 3:
        await meet(limiter, policy)
        await meet(limiter, policy, "newcomer")
    assert time.monotonic() - began < SLACK
    assert limiter.stats().calls == opened.calls
    assert world.proxy.counts().requests == requests
    assert limiter.stats().degraded == opened.degraded + 12


async def warmed(limiter: RateLimiter, entity_id: str = "user") -> bool:
    """Whether the limiter has decided on the table, and knows all that it needs."""
    with suppress(RateLimiterUnavailable):
        await limiter.try_acquire(entity_id, on_unavailable="block")
        return True
    return False


@pytest.mark.usefixtures("lasting")
async def test_a_name_that_does_not_resolve_is_an_outage(world: World) -> None:
    """As is every other reason not to connect."""
    limiter = world.limiter(patient=False, url=NOWHERE)
    for policy in POLICIES:
        began = time.monotonic()
        await meet(limiter, policy)
        assert time.monotonic() - began < DEADLINE + 10 * SLACK  # The resolver and the first client take what they take.
    assert limiter.stats().breaker == "open"
    calls = limiter.stats().calls
    for policy in POLICIES:
        await meet(limiter, policy)
    assert limiter.stats().calls == calls


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (denied(), PermissionDenied),
        (error(400, "UnrecognizedClientException"), PermissionDenied),
        (error(400, "ResourceNotFoundException"), StackNotFound),
        (error(400, "ValidationException"), LimiterError),
        (error(400, "ItemCollectionSizeLimitExceededException"), LimiterError),
    ],
    ids=["denied", "unknown key", "no table", "invalid", "too large"],
)
async def test_a_refusal_to_serve_is_no_outage(world: World, fault: Fault, expected: type[Exception]) -> None:
    """Denied permissions and programming errors are raised under every policy, and never open the breaker."""
    limiter = world.limiter()
    for action in ("BatchGetItem", "UpdateItem"):
        world.proxy.inject(fault | {"action": action})
        for policy in POLICIES * 2:
            with pytest.raises(expected) as raised:
                await limiter.try_acquire("user", on_unavailable=policy)
            assert not isinstance(raised.value, RateLimiterUnavailable)
    stats = limiter.stats()
    assert (stats.breaker, stats.degraded, stats.failures) == ("closed", 0, 0)


@pytest.mark.usefixtures("lasting")
async def test_a_mistake_is_one_in_an_outage_too(world: World) -> None:
    """Where the limits are known, a name that they lack, or an amount above a capacity, is refused under every policy."""
    limiter = world.limiter()
    assert await limiter.try_acquire("user")
    await go_down(world, limiter)
    for policy in POLICIES:
        with pytest.raises(ValidationError, match="unknown limit"):
            await limiter.try_acquire("user", consume={"tokens": 1}, on_unavailable=policy)
        never = await limiter.try_acquire("user", consume={"requests": 11}, on_unavailable=policy)
        assert never.retry_after is None
    assert limiter.stats().degraded == 0


@pytest.mark.usefixtures("eager")
async def test_one_at_a_time_looks_and_no_caller_waits_for_it(world: World) -> None:
    """While one call is on its way to see whether the table is back, fifty callers, of its bucket too, go on without."""
    limiter = world.limiter(on_unavailable="allow")
    assert await limiter.try_acquire("user")
    await go_down(world, limiter)
    held = world.proxy.counts().held
    world.proxy.inject(hold())

    async def look() -> bool:
        async with limiter.acquire("user") as lease:
            return lease.degraded

    async def crowd() -> None:
        await until_held(world, held + 1)
        requests, calls = world.proxy.counts().requests, limiter.stats().calls
        assert limiter.stats().breaker == "half-open"
        await together([partial(meet, limiter, "allow", f"user-{number}" if number % 2 else "user") for number in range(50)])
        assert limiter.stats().breaker == "half-open"
        assert (world.proxy.counts().requests, limiter.stats().calls) == (requests, calls)
        world.proxy.heal()

    degraded, _ = await together([look, crowd])
    assert not degraded
    assert limiter.stats().breaker == "closed"


@pytest.mark.usefixtures("eager")
async def test_a_look_that_fails_leaves_the_breaker_open(world: World) -> None:
    """And the next one may look; each look ends with the retries of one call."""
    limiter = world.limiter()
    await go_down(world, limiter)
    for _ in range(3):
        requests = world.proxy.counts().requests
        await meet(limiter, "block")
        assert limiter.stats().breaker == "open"
        assert 1 <= world.proxy.counts().requests - requests <= 3


@pytest.mark.parametrize("name", ["refused", "black hole", "errors at once"])
async def test_recovery_is_noticed_at_once_and_without_a_herd(world: World, name: str) -> None:
    """Within a second of the engine's return callers are served by it, with a call for each of them."""
    limiter = world.limiter(patient=False, on_unavailable="allow")
    users = [f"user-{number}" for number in range(10)]
    for user in users:
        assert await eventually(partial(warmed, limiter, user))
    for _ in range(ATTEMPTS):  # Test machines stall.
        if await recover(world, limiter, OUTAGES[name], users) < 1.0:
            return
    pytest.fail(f"recovery was not noticed within a second, in {ATTEMPTS} attempts")


async def recover(world: World, limiter: RateLimiter, fault: Fault, users: list[str]) -> float:
    """The seconds that it takes from the end of an outage until everybody was served by the table."""
    world.proxy.inject(fault)
    while limiter.stats().breaker == "closed":
        await limiter.try_acquire(users[0])
    before, began = limiter.stats(), time.monotonic()

    async def call(user: str) -> float:
        degraded = True
        while degraded:
            await asyncio.sleep(0.01)
            async with limiter.acquire(user) as lease:
                degraded = lease.degraded
        return time.monotonic()

    async def heal() -> float:
        await asyncio.sleep(0.5)
        looks = limiter.stats().calls - before.calls
        assert looks <= 3 * (1 + (time.monotonic() - began) / (REST / 2))  # Half a rest apart, of three attempts each.
        world.proxy.heal()
        return time.monotonic()

    healed, *served = await together([heal, *(partial(call, user) for user in users)])
    after = limiter.stats()
    assert after.breaker == "closed"
    # The caller that probed when the table came back may have to read what became of its first attempt.
    assert (after.calls - before.calls) - (after.failures - before.failures) <= len(users) + 1
    return float(max(served) - healed)


async def test_a_waiter_in_line_keeps_its_place(world: World) -> None:
    """A caller whose start was booked before the outage does not need the table any more."""

    async def sleep(seconds: float) -> None:
        world.proxy.inject(refuse())
        world.clock.advance(seconds)

    limiter = world.limiter(sleep=sleep)
    assert await limiter.try_acquire("user", consume={"requests": 10})
    async with limiter.acquire("user", timeout=600.0) as lease:
        assert lease.waited == pytest.approx(360.0)
        assert not lease.degraded


@pytest.mark.parametrize("patience", [None, 60.0])
async def test_no_caller_sleeps_longer_than_it_would_wait(world: World, patience: float | None) -> None:
    """Where a clock is set back while a caller is decided, a start told by the wrong time is given back."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    limiter = world.limiter(sleep=sleep)
    for policy in POLICIES[:2]:
        user = f"user-{policy}"
        assert await limiter.try_acquire(user, consume={"requests": 10})
        held = world.proxy.counts().held
        world.clock.advance(3_600)
        world.proxy.inject(hold(action="UpdateItem"))

        async def set_back(held: int = held) -> None:
            await until_held(world, held + 1)
            world.clock.advance(-3_600)
            world.proxy.heal()

        async def take(policy: OnUnavailable = policy, user: str = user) -> None:
            async with limiter.acquire(user, timeout=patience, on_unavailable=policy) as lease:
                assert lease.degraded

        outcome, _ = await gather([take, set_back])
        assert (type(outcome) is RateLimiterUnavailable) is (policy == "block"), outcome
        assert not slept
        assert await world.missing(user) == 10


@pytest.mark.usefixtures("lasting")
async def test_a_waiter_can_wait_here(world: World) -> None:
    """With "local" the wait is for this process's own bucket, which refills at its share of the rate."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.clock.advance(seconds)

    limiter = world.limiter(sleep=sleep, local_share=0.5, on_unavailable="local")
    await go_down(world, limiter)
    assert await limiter.try_acquire("user", consume={"requests": 5})
    with pytest.raises(RateLimiterUnavailable):
        await limiter.try_acquire("user", timeout=1_000.0, on_unavailable="block")
    assert not await limiter.try_acquire("user", timeout=600.0)
    async with limiter.acquire("user", timeout=1_000.0) as lease:
        assert (lease.degraded, lease.waited, slept) == (True, pytest.approx(720.0), [pytest.approx(720.0)])


@pytest.mark.usefixtures("lasting")
async def test_local_limits_at_a_share(world: World) -> None:
    """Of rate and capacity; an amount above the share, though not above the limit, still fits once."""
    limiter = world.limiter(on_unavailable="local", local_share=0.25)
    await go_down(world, limiter)
    assert [(await limiter.try_acquire("user")).allowed for _ in range(4)] == [True, True, True, False]
    assert [(await limiter.try_acquire("big", consume={"requests": 8})).allowed for _ in range(2)] == [True, False]
    assert (await limiter.try_acquire("big", consume={"requests": 11})).retry_after is None
    world.clock.advance(1_441)
    assert [(await limiter.try_acquire("user")).allowed for _ in range(2)] == [True, False]
    assert (limiter.stats().degraded, limiter.stats().refusals) == (9, 4)


@pytest.mark.usefixtures("eager")
async def test_a_local_lease_is_corrected_like_any_other(world: World) -> None:
    """Corrections of a local lease count within the process, at its share, and its end refunds them even if the table is back."""
    limiter = world.limiter(on_unavailable="local", local_share=0.5)
    await go_down(world, limiter)
    async with limiter.acquire("user", consume={"requests": 1}) as lease:
        await lease.consume(requests=4)
        for units in (1, 6):
            with pytest.raises(RateLimitExceeded) as refused:
                await lease.consume(requests=units)
            assert refused.value.retry_after is not None
        await lease.release(requests=3)
        await lease.adjust(requests=4)
        assert lease.consumed == {"requests": 6}
        world.proxy.heal()
        assert await limiter.try_acquire("user", consume={"requests": 1})
        assert await world.missing() == 7
        await lease.adjust(requests=1)
        assert await limiter.try_acquire("user", consume={"requests": 1})
        assert await world.missing() == 9


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("policy", ["allow", "local"])
async def test_a_lease_of_the_table_can_end_without_it(world: World, policy: Any) -> None:
    """The lost corrections of such a lease are counted and raise nothing; the end of a failed block raises nothing either."""
    limiter = world.limiter(on_unavailable=policy)
    for correct in ("adjust", "release", "consume", None):
        world.proxy.heal()
        before = limiter.stats().corrections_lost
        with suppress(Failed):
            async with limiter.acquire(f"user-{correct}", consume={"requests": 2}) as lease:
                assert not lease.degraded
                await go_down(world, limiter)
                if correct is None:
                    raise Failed
                await getattr(lease, correct)(requests=1)
                assert lease.degraded
        assert limiter.stats().corrections_lost == before + 1


@pytest.mark.usefixtures("eager")
async def test_a_lease_of_the_table_cannot_be_corrected_without_it(world: World) -> None:
    """With "block" a correction that was not written raises, with the cause."""
    limiter = world.limiter()
    async with limiter.acquire("user", consume={"requests": 2}) as lease:
        await go_down(world, limiter)
        for correct in (lease.adjust, lease.consume):
            with pytest.raises(RateLimiterUnavailable) as unavailable:
                await correct(requests=1)
            assert unavailable.value.__cause__ is not None
        assert lease.consumed == {"requests": 2}
        assert not lease.degraded


@pytest.mark.usefixtures("eager")
async def test_what_a_lease_took_here_is_handed_back(world: World) -> None:
    """Also when the lease itself was of the table."""
    limiter = world.limiter(on_unavailable="local")
    async with limiter.acquire("user", consume={"requests": 2}) as lease:
        await go_down(world, limiter)
        await lease.consume(requests=3)
        assert lease.consumed == {"requests": 5}
        with pytest.raises(RateLimitExceeded):
            await lease.consume(requests=8)
    world.proxy.heal()
    assert await limiter.try_acquire("user")
    assert await world.missing() == 6


@pytest.mark.usefixtures("eager")
async def test_the_table_is_charged_with_what_was_allowed_here(world: World) -> None:
    """As far as it has not refilled since, once, before the next decision on the table."""
    limiter = world.limiter(on_unavailable="local", local_share=0.5)
    await go_down(world, limiter)
    for units in (3, 2):
        assert await limiter.try_acquire("user", consume={"requests": units})
    world.clock.advance(2 * 720)
    world.proxy.heal()
    assert await limiter.try_acquire("user")
    assert await world.missing() == 4
    assert await limiter.try_acquire("user")
    assert await world.missing() == 5


@pytest.mark.usefixtures("eager")
async def test_a_table_that_comes_and_goes_gives_no_new_burst(world: World) -> None:
    """What was allowed here stays known here, and the table is charged with it once."""
    limiter = world.limiter(on_unavailable="local", local_share=0.5)
    for taken in range(1, 5):
        await go_down(world, limiter)
        assert await limiter.try_acquire("user", consume={"requests": 1})
        world.proxy.heal()
        assert await limiter.try_acquire("user")
        assert await world.missing() == 2 * taken
    await go_down(world, limiter)
    assert [(await limiter.try_acquire("user")).allowed for _ in range(2)] == [True, False]
    world.proxy.heal()
    assert await limiter.try_acquire("user")
    assert await world.missing() == 10


@pytest.mark.usefixtures("eager")
async def test_handing_back_leads_into_no_debt(world: World) -> None:
    """However many processes report at once, and any number of units was taken in between."""
    limiters = [world.limiter(on_unavailable="local", local_share=0.5) for _ in range(4)]
    for limiter in limiters:
        await go_down(world, limiter)
        assert await limiter.try_acquire("user", consume={"requests": 5})
    assert await world.beside.try_acquire("user", consume={"requests": 1})
    world.proxy.heal()
    decisions = await together([partial(limiter.try_acquire, "user", consume={"requests": 1}) for limiter in limiters])
    assert await world.missing() == 10
    assert not all(decisions)
    assert not await limiters[0].try_acquire("user")


@pytest.mark.usefixtures("eager")
async def test_usage_whose_report_was_put_back_is_reported_later(world: World) -> None:
    """A table that goes away in that very moment is charged when it is back again."""
    limiter = world.limiter(on_unavailable="local")
    assert await limiter.try_acquire("user")
    await go_down(world, limiter)
    assert await limiter.try_acquire("user", consume={"requests": 3})
    for _ in range(3):
        assert await limiter.try_acquire("user")
    world.proxy.heal()
    assert await limiter.try_acquire("user")
    assert await world.missing() == 8


@pytest.mark.usefixtures("lasting")
async def test_limits_that_were_never_read(world: World) -> None:
    """It is unknown whether a name is wrong: "allow" lets it through, and "local", which cannot keep it, is unavailable."""
    await world.beside.set_limits([Limit.per_hour("tokens", 100)], entity_id="user")
    limiter = world.limiter(limits=())
    await go_down(world, limiter)
    async with limiter.acquire("user", consume={"tokens": 50}, on_unavailable="allow") as lease:
        assert lease.degraded
        await lease.adjust(tokens=5)
        assert lease.consumed == {"tokens": 55}
    async with limiter.acquire("user", on_unavailable="allow") as lease:
        assert lease.degraded
    for amounts in (None, {"tokens": 50}):
        with pytest.raises(RateLimiterUnavailable, match="never read") as unavailable:
            await limiter.try_acquire("user", consume=amounts, on_unavailable="local")
        assert unavailable.value.__cause__ is not None


async def test_a_late_write_is_given_back(world: World) -> None:
    """A request that was abandoned at its deadline, queued or in flight, keeps no units that are written later."""
    limiter = world.limiter(decision_timeout=DEADLINE)
    for entity_id in ("user", "other"):
        await world.beside.try_acquire(entity_id)
    assert await eventually(partial(warmed, limiter))
    base, before, held = await world.missing(), limiter.stats(), world.proxy.counts().held
    world.proxy.inject(hold())
    came: list[int] = []
    kept: list[int] = []

    async def take(place: int) -> None:
        async def ready() -> bool:
            return len(came) >= place and (not place or world.proxy.counts().held > held)

        assert await eventually(ready)
        came.append(place)
        with suppress(RateLimiterUnavailable):
            await limiter.try_acquire("user")
            kept.append(place)

    async def release() -> None:
        async def all_came() -> bool:
            return len(came) == 4

        assert await eventually(all_came)
        await asyncio.sleep(0.05)
        world.proxy.inject(passing(times=1), delay(2 * DEADLINE, times=1))

    await together([*(partial(take, place) for place in range(4)), release])

    async def settled() -> bool:
        # A write, one that is late, and one that gives back.
        return limiter.stats().calls - before.calls >= 3 and await world.missing() == base + len(kept)

    assert len(kept) < 4
    assert await eventually(settled)
    await limiter.try_acquire("other")
    assert limiter.stats().breaker == "closed"


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException"])
async def test_a_hot_key_makes_batches_larger(world: World, code: str) -> None:
    """Writes to a hot key become fewer and larger until the throttling ends; other keys are not affected."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        world.clock.advance(seconds)
        await asyncio.sleep(0.02)

    limits = [Limit.per_second("requests", 10**6)]
    limiter = world.limiter(limits=limits, sleep=sleep)
    for entity_id in ("hottest", "other"):
        await limiter.try_acquire(entity_id)
    before = limiter.stats()
    world.proxy.inject(throttle(code, hot_key=True, action="UpdateItem", text="hottest", times=3))

    async def call(entity_id: str) -> None:
        for _ in range(5):
            async with limiter.acquire(entity_id) as lease:
                assert not lease.degraded

    await together([*(partial(call, "hottest") for _ in range(20)), partial(call, "other")])
    hot = limiter.stats()
    assert (hot.throttled, hot.failures - before.failures) == (3, 3)
    assert hot.breaker == "closed"
    assert (hot.decisions - before.decisions) >= 3 * (hot.batches - before.batches)
    assert pauses
    assert max(pauses) <= 0.2
    for _ in range(30):
        await limiter.try_acquire("hottest")
    pauses.clear()
    await limiter.try_acquire("hottest")
    assert pauses == []


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"])
async def test_a_table_that_is_used_up_is_no_hot_key(world: World, code: str) -> None:
    """Its throttling is an outage for every key."""
    limiter = world.limiter()
    await go_down(world, limiter, throttle(code))
    assert limiter.stats().throttled == THRESHOLD
    await meet(limiter, "allow", "another")
