# twin: ../sync/test_lost_answers.py
"""Writes whose answers are lost, wholly or from any byte on, and requests that are lost on the way, or arrive late.

The rule. A debit that was sent again counts once if at most two other writes came in between, and at most twice otherwise. A
refund or settlement never gives back more than was taken, in any order of events; at worst it gives back nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fault_proxy import FaultProxy, cut, cut_request, hold, keep, passing, reset, server_error, throttle

from limiter import Limit, RateLimiter, RateLimiterUnavailable, Repository
from limiter.core.records import BucketKey
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.engines import Engine, FakeClock

# One unit takes one nanosecond to refill, so that the table's numbers are units.
LIMITS = [Limit(name, 100_000, 1_000_000_000, 1.0) for name in ("requests", "tokens")]
PATIENCE = 10.0
MEDDLED = 7


class Failed(Exception):
    """The block fails, and what it took is given back."""


class Units(NamedTuple):
    """Units of both limits."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: Units, times: int = 1) -> Units:
        """The sum, limit by limit."""
        return Units(self.requests + times * other.requests, self.tokens + times * other.tokens)


class World:
    """A limiter behind a proxy, another one beside it, and the table that both of them use."""

    def __init__(self, proxy: FaultProxy, limiter: RateLimiter, other: RateLimiter) -> None:
        self.proxy = proxy
        self.limiter = limiter
        self.other = other
        self.entities = map("user-{}".format, itertools.count())
        self.entity = next(self.entities)
        self.before = Units()

    async def missing(self) -> Units:
        """What is missing from the bucket, exactly."""
        state = await self.other.repository.read_bucket(BucketKey("default", self.entity, "api"))
        now = self.other.repository.clock()
        return Units(*(max(0, state.level(limit.identity).tat - now) for limit in LIMITS))

    async def taken(self) -> Units:
        """What was taken from the bucket since the last look."""
        before, self.before = self.before, await self.missing()
        return self.before.plus(before, times=-1)

    def acquire(self, **units: int) -> Any:
        """An acquire through the proxy."""
        return self.limiter.acquire(self.entity, "api", units)

    async def until_held(self, before: int, ended: Any = None) -> bool:
        """Whether one more request than `before` was held, in time and before the end of what makes them."""
        for _ in range(int(PATIENCE * 1_000)):
            if self.proxy.counts().held > before:
                return True
            if ended is not None and ended.is_set():
                return False
            await asyncio.sleep(0.001)
        return False

    async def meddle(self, writes: int = 1) -> Units:
        """What another client takes, by so many writes."""
        for _ in range(writes):
            await self.other.try_acquire(self.entity, "api", {"requests": MEDDLED, "tokens": MEDDLED})
        return Units().plus(Units(MEDDLED, MEDDLED), times=writes)

    async def interfere(self, act: Callable[[], Awaitable[Units]], writes: int = 1) -> tuple[Units, Units]:
        """What `act` holds, and what another client took when the first request that is held had arrived, before it goes on."""
        held, ended = self.proxy.counts().held, asyncio.Event()

        async def acting() -> Units:
            try:
                return await act()
            finally:
                ended.set()

        async def meddle() -> Units:
            if not await self.until_held(held, ended):
                return Units()
            taken = await self.meddle(writes)
            self.proxy.heal()
            return taken

        outcomes = await gather([acting, meddle])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes[0], outcomes[1]  # type: ignore[return-value] # no errors any more


@pytest.fixture
async def world(connect: Callable[..., Repository], proxy: FaultProxy, atomic_engine: Engine) -> World:
    """A world of its own, whose calls take either transport."""
    ways = (connect(each.endpoint_url, read_timeout=PATIENCE) for each in (proxy, atomic_engine))
    made = World(proxy, *(RateLimiter(each, LIMITS, denial_ttl=0, decision_timeout=60) for each in ways))
    for limiter in (made.limiter, made.other):
        await limiter.try_acquire(made.entity, "api", {"requests": 1, "tokens": 1})
    await made.taken()
    return made


async def debit(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and keeps them."""
    strike()
    async with world.acquire(requests=5):
        return Units(requests=5)


async def debit_and_fail(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and gives them back because the block fails."""
    strike()
    with suppress(Failed):
        async with world.acquire(requests=5):
            raise Failed
    return Units()


async def refund(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5 and 3, and gives them back because the block fails."""
    with suppress(Failed):
        async with world.acquire(requests=5, tokens=3):
            strike()
            raise Failed
    return Units()


async def more(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and corrects that to 8."""
    async with world.acquire(requests=5) as lease:
        strike()
        await lease.adjust(requests=3)
        return Units(**lease.consumed)


async def less(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and corrects that to 3."""
    async with world.acquire(requests=5) as lease:
        strike()
        await lease.adjust(requests=-2)
        return Units(**lease.consumed)


async def settlement(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5 and 5, and settles on 9 and 2 in one write."""
    async with world.acquire(requests=5, tokens=5) as lease:
        strike()
        await lease.adjust(requests=4, tokens=-3)
        return Units(**lease.consumed)


async def release(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and gives back 4."""
    async with world.acquire(requests=5) as lease:
        strike()
        await lease.release(requests=4)
        return Units(**lease.consumed)


async def consume(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5, and 6 more if they fit."""
    async with world.acquire(requests=5) as lease:
        strike()
        await lease.consume(requests=6)
        return Units(**lease.consumed)


async def stale_debit(world: World, strike: Callable[[], None]) -> Units:
    """Takes 5 from a bucket that it believes full and that is not, so that the first write is refused by the table."""
    world.entity, world.before = next(world.entities), Units()
    await world.limiter.check(world.entity, "api", {"requests": 5})
    await world.other.try_acquire(world.entity, "api", {"requests": 2})
    strike()
    async with world.acquire(requests=5):
        return Units(requests=7)


class Scene(NamedTuple):
    """Something that a client does, of which one write is struck, and what that write takes and gives back."""

    play: Any
    debited: Units = Units()
    refunded: Units = Units()


SCENES = {
    "debit": Scene(debit, Units(5)),
    "refund": Scene(refund, refunded=Units(5, 3)),
    "more": Scene(more, Units(3)),
    "less": Scene(less, refunded=Units(2)),
    "settlement": Scene(settlement, Units(4), Units(0, 3)),
    "release": Scene(release, refunded=Units(4)),
    "consume": Scene(consume, Units(6)),
    "stale debit": Scene(stale_debit),  # what is struck is a write that the table refuses
}
# At how many bytes the answers are cut: at each for the conversations that matter most, where this project reads the answer.
EVERY = {"direct": {"debit": 1, "refund": 1, "stale debit": 17}, "botocore": {"debit": 11, "refund": 11}}
WRITE = {"action": "UpdateItem", "times": 1}


async def play(world: World, scene: Scene, *faults: Any) -> tuple[Units, Units]:
    """What a scene has taken from the table when faults strike its write, and what its client believes to hold."""
    held = await scene.play(world, lambda: world.proxy.inject(*faults))
    return await world.taken(), held


def boundaries(size: int, engine: Engine, *, step: int = 0) -> list[int]:
    """Where to cut a message: at every `step` bytes on the fastest engine, else here and there, the ends included."""
    stride = step if step and engine.name == "dynoxide" else size // 5
    return sorted({0, 1, 12, 13, *range(0, size, stride), size - 1})


async def test_a_lost_answer_changes_nothing(world: World, atomic_engine: Engine, transport: str) -> None:
    """Wherever the answer to a write is cut off, the write counts exactly once: no other write came in between."""
    for name, scene in SCENES.items():
        await play(world, scene, passing())
        size = world.proxy.counts().answer_bytes
        for kept in boundaries(size, atomic_engine, step=EVERY[transport].get(name, 0)):
            taken, held = await play(world, scene, cut(kept, **WRITE))
            assert taken == held, f"{name} cut behind {kept} of {size} bytes"


async def test_a_lost_request_is_sent_again_if_it_takes(world: World, atomic_engine: Engine) -> None:
    """Wherever a request is cut off on its way, a debit is sent again, and a refund is at worst lost."""
    for name, scene in SCENES.items():
        await play(world, scene, passing())
        size = world.proxy.counts().request_bytes
        for sent in boundaries(size, atomic_engine):
            taken, held = await play(world, scene, cut_request(sent, **WRITE))
            assert taken == held.plus(scene.refunded), f"{name} cut behind {sent} of {size} bytes"


async def test_the_answer_about_a_lost_answer_may_be_lost_too(world: World, atomic_engine: Engine) -> None:
    """The read after a lost response may be cut off at any place; a partial response proves nothing."""
    await play(world, SCENES["debit"], cut(0, **WRITE))
    size = world.proxy.counts().answer_bytes
    for name in ("debit", "refund"):
        for kept in boundaries(size, atomic_engine, step=17):
            taken, held = await play(world, SCENES[name], cut(0, **WRITE), cut(kept, action="GetItem", times=1))
            assert taken == held, f"{name} cut behind {kept} of {size} bytes"


async def test_a_write_that_two_others_covered_counts_once(world: World) -> None:
    """When other clients have written once or twice before the loss is noticed, a debit and a refund count exactly once."""
    for (name, scene), kept, writes in itertools.product(SCENES.items(), (0, 100), (1, 2)):
        struck = partial(play, world, scene, cut(kept, **WRITE), hold())
        (taken, held), meddled = await world.interfere(struck, writes)
        assert meddled == Units(writes * MEDDLED, writes * MEDDLED), name
        assert taken == held.plus(meddled), f"{name} covered by {writes}"


async def test_what_a_covered_write_took_is_given_back_whole(world: World) -> None:
    """A block whose debit was found behind two writes of others gives back all of it when it fails."""
    for writes in (1, 2):
        await world.taken()

        async def fail() -> Units:
            return await debit_and_fail(world, lambda: world.proxy.inject(cut(0, **WRITE), hold()))

        held, meddled = await world.interfere(fail, writes)
        assert await world.taken() == meddled
        assert held == Units()


async def test_a_write_that_three_others_covered_counts_twice_at_most(world: World) -> None:
    """When others have written three times before the loss is noticed, a debit counts once more, and a refund not again."""
    for name, scene in SCENES.items():
        struck = partial(play, world, scene, cut(0, **WRITE), hold())
        (taken, held), meddled = await world.interfere(struck, 3)
        assert taken == held.plus(meddled).plus(scene.debited), name


async def test_a_write_that_arrives_late_counts_twice_at_most(world: World) -> None:
    """A request that hangs in the network until it was sent again and three others have written counts once more if it takes.

    If it gives back it is not sent again, so that it counts once, however late.
    """
    for name, scene in SCENES.items():
        early, held = await play(world, scene, keep(**WRITE))
        assert early == held.plus(scene.refunded), name
        meddled = await world.meddle(3)
        world.proxy.deliver()
        late = meddled.plus(scene.debited).plus(scene.refunded, times=-1)
        assert await world.taken() == late, name


async def test_a_write_that_arrives_late_but_next_counts_once(world: World) -> None:
    """A request that hangs in the network until it was sent again, and two others wrote, finds its stamp, and does nothing."""
    for name, writes in itertools.product(("debit", "more", "consume", "settlement"), range(3)):
        early, held = await play(world, SCENES[name], keep(**WRITE))
        assert early == held.plus(SCENES[name].refunded), name
        meddled = await world.meddle(writes)
        world.proxy.deliver()
        assert await world.taken() == meddled, name


async def test_a_refund_that_arrives_late_does_not_pass_for_the_next_debit(world: World) -> None:
    """A debit is not mistaken for a refund that was abandoned and arrives late."""
    await play(world, SCENES["refund"], keep(**WRITE))
    world.proxy.deliver()
    await world.taken()
    assert await play(world, SCENES["debit"]) == (Units(5), Units(5))


async def test_losses_that_go_on_leave_a_debit_counted_once(world: World) -> None:
    """A caller that gets `RateLimiterUnavailable` may have been counted, once, and holds nothing."""
    await world.taken()
    world.proxy.inject(cut(0))
    with pytest.raises(RateLimiterUnavailable):
        await debit(world, lambda: None)
    assert await world.taken() == Units(5)
    world.proxy.heal()
    assert await play(world, SCENES["debit"]) == (Units(5), Units(5))


async def test_losses_that_go_on_leave_a_refund_counted_once_or_lost(world: World) -> None:
    """Whether the last refund of a lease was written or never arrived, it is not given back by a later one."""
    for lost, left in ((cut(0), Units()), (cut_request(0), Units(5, 3))):
        assert await play(world, SCENES["refund"], lost) == (left, Units())
        world.proxy.heal()
        assert await play(world, SCENES["refund"]) == (Units(), Units())


async def test_a_correction_that_failed_is_not_made_by_the_end_of_the_lease(world: World) -> None:
    """A lease whose release went wrong does not give the same units back a second time when its block fails."""
    for lost, left in ((cut(0), Units()), (cut_request(0), Units(4))):
        await world.taken()
        with suppress(Failed):
            async with world.acquire(requests=5) as lease:
                world.proxy.inject(lost)
                with pytest.raises(RateLimiterUnavailable):
                    await lease.release(requests=4)
                world.proxy.heal()
                raise Failed
        assert await world.taken() == left


async def test_a_write_that_is_covered_twice_is_not_made_a_third_time(world: World) -> None:
    """If the second write is lost and covered too, the caller gets an error, and the debit counts twice at most."""
    await world.taken()

    async def meddle() -> None:
        before = world.proxy.counts().held
        for faults in ([passing(action="GetItem", times=1), cut(0, **WRITE), hold()], []):
            assert await world.until_held(before)
            before = world.proxy.counts().held
            await world.meddle(3)
            world.proxy.inject(*faults)

    struck = partial(debit, world, lambda: world.proxy.inject(cut(0, **WRITE), hold()))
    outcome, _ = await gather([struck, meddle])
    assert isinstance(outcome, RateLimiterUnavailable)
    assert await world.taken() == Units(6 * MEDDLED + 2 * 5, 6 * MEDDLED)


async def test_no_caller_is_admitted_by_a_late_write_without_it(world: World) -> None:
    """A write that arrives late proves the requests that it carried, and none that came to fit since."""
    world.entity, held = next(world.entities), world.proxy.counts().held
    occupied = world.other.acquire(world.entity, "api", {"requests": LIMITS[0].capacity - 10})
    await occupied.__aenter__()
    await world.limiter.check(world.entity, "api", {"requests": 1})
    world.proxy.inject(hold())

    async def take(units: int) -> int:
        if units > 1:
            await world.until_held(held)  # behind the first
        return units * (await world.limiter.try_acquire(world.entity, "api", {"requests": units})).allowed

    async def direct() -> int:
        assert await world.until_held(held)
        await asyncio.sleep(0.05)  # in which the others queue up, of whom only one fits
        world.proxy.inject(passing(times=1), keep(**WRITE), hold())
        assert await world.until_held(held + 1)
        await occupied.__aexit__(Failed, Failed(), None)  # now both of them fit
        world.proxy.inject(passing(action="GetItem", times=1), hold())
        assert await world.until_held(held + 2)
        world.proxy.deliver()
        world.proxy.heal()
        return 0

    admitted = await gather([partial(take, 1), partial(take, 6), partial(take, 5), direct])
    assert (await world.missing()).requests == sum(admitted) == 12


async def test_a_lost_batch_counts_once(world: World) -> None:
    """The answer to a write that carries many callers' debits and refunds is lost: each of them counts once."""
    await world.taken()

    async def call() -> Units:
        return await SCENES["debit"].play(world, lambda: None)

    async def back() -> Units:
        return await SCENES["refund"].play(world, lambda: None)

    async def queue_up() -> Units:
        await world.until_held(held)
        await asyncio.sleep(0.02)  # in which the others queue up; the fewer there are the less is shown
        world.proxy.inject(passing(times=1), *(cut(size, **WRITE) for size in (0, 200, 450)))
        return Units()

    for _ in range(10):
        held = world.proxy.counts().held
        world.proxy.inject(hold())
        outcomes = await gather([*[call] * 10, *[back] * 5, queue_up])
        assert outcomes == [Units(5)] * 10 + [Units()] * 6
        assert await world.taken() == Units(50)


async def test_a_lost_answer_in_a_chain_counts_once(world: World) -> None:
    """Of a charge that goes up to a parent any of the answers is lost: both buckets are charged once."""
    await world.limiter.create_entity("org")
    await world.limiter.create_entity("key", parent_id="org")
    world.entity = "key"
    await debit(world, lambda: None)
    for text, kept in itertools.product(("org", "key"), (0, 150)):
        world.proxy.inject(cut(kept, text=text, **WRITE))
        await debit(world, lambda: None)
    for entity in ("org", "key"):
        world.entity = entity
        assert await world.missing() == Units(25)


FAULTS = {
    "none": [],
    "throttled": [throttle(**WRITE)],
    "failing": [server_error(**WRITE)],
    "reset": [reset(**WRITE)],
    "request cut": [cut_request(700, **WRITE)],
    "late": [keep(**WRITE)],
    "lost": [cut(0, **WRITE)],
    "lost in the head": [cut(150, **WRITE)],
    "lost in the body": [cut(400, **WRITE)],
    "lost twice": [cut(0, **WRITE), cut(200, action="GetItem", times=1)],
    "lost for good": [cut(0)],
    "covered": [cut(0, **WRITE), hold()],
    "covered by two": [cut(0, **WRITE), hold()],
    "covered by three": [cut(0, **WRITE), hold()],
}
COVERS = {"covered": 1, "covered by two": 2, "covered by three": 3}
CERTAIN = ("none", "throttled", "lost", "lost in the head", "lost in the body", "lost twice", *COVERS)
"""A refund that meets one of these is made; one that meets another may be lost, which the rule permits."""


class Bounds:
    """What is missing from a bucket at least and at most, in units, by the rule at the head of this file."""

    def __init__(self) -> None:
        self.least = self.most = 0
        self.late: list[tuple[int, int]] = []
        """What each request that hangs in the network takes, and what it gives back, when it arrives."""

    def debit(self, units: int, fault: str, *, told: bool, covered: bool) -> None:
        """A caller has taken, and was told so or not."""
        self.least += units if told else 0
        self.most += 2 * units if covered else units
        if fault == "late":
            self.late.append((units, 0))

    def refund(self, units: int, fault: str, *, whole: bool) -> None:
        """A caller has given back, which is certain only when `whole` says that the bucket has not been full since."""
        if fault == "late":
            self.late.append((0, units))
        else:
            self.least = max(0, self.least - units)
        if fault in CERTAIN and whole:
            self.most = max(0, self.most - units)

    def deliver(self) -> None:
        """All that hangs in the network arrives, and is applied or not."""
        for debited, refunded in self.late:
            self.least = max(0, self.least - refunded)
            self.most += debited
        self.late.clear()

    def refill(self, units: int) -> None:
        """Time passes in which so much refills."""
        self.least, self.most = max(0, self.least - units), max(0, self.most - units)


class Held:
    """A lease that a game holds; `whole` as long as the bucket cannot have been full since it was taken."""

    def __init__(self, acquisition: Any, lease: Any) -> None:
        self.acquisition = acquisition
        self.lease = lease
        self.whole = True

    async def adjust(self, change: int) -> bool:
        """Correct the lease."""
        await self.lease.adjust(requests=change)
        return True

    async def fail(self) -> bool:
        """Have its block fail."""
        await self.acquisition.__aexit__(Failed, Failed(), None)
        return True


class Game:
    """A sequence of moves by two clients on a bucket of its own, and the bounds that follow from it."""

    def __init__(self, world: World, clock: FakeClock) -> None:
        world.entity = next(world.entities)
        self.world = world
        self.clock = clock
        self.bounds = Bounds()
        self.held: list[Held] = []
        self.meddled = 0

    async def move(self, what: str, units: int, which: int, fault: str) -> None:
        """One move. A move that needs a lease takes one if there is none."""
        if what == "pass":
            self.clock.now_ns += units
            self.bounds.refill(units)
        elif what == "deliver":
            self.world.proxy.deliver()
            self.bounds.deliver()
        elif what == "other":
            await self.world.other.try_acquire(self.world.entity, "api", {"requests": units})
            self.bounds.debit(units, "none", told=True, covered=False)
        elif what == "take" or not self.held:
            await self.take(units, fault)
        else:
            await self.settle(what, units, self.held[which % len(self.held)], fault)
        self.bounds.debit(self.meddled, "none", told=True, covered=False)
        self.meddled = 0
        missing = (await self.world.missing()).requests
        assert self.bounds.least <= missing <= self.bounds.most
        if not self.bounds.least:
            for each in self.held:
                each.whole = False

    async def take(self, units: int, fault: str) -> None:
        """Take another lease."""
        acquisition = self.world.acquire(requests=units)
        lease, covered = await self.strike(fault, acquisition.__aenter__)
        self.bounds.debit(units, fault, told=lease is not None, covered=covered)
        if lease is not None:
            self.held.append(Held(acquisition, lease))

    async def settle(self, what: str, units: int, held: Held, fault: str) -> None:
        """Take more, give back some, or fail."""
        consumed = held.lease.consumed["requests"]
        if what == "more":
            told, covered = await self.strike(fault, partial(held.adjust, units))
            self.bounds.debit(units, fault, told=bool(told), covered=covered)
            return
        if what == "less":
            back = min(units, consumed)
            told, _ = await self.strike(fault, partial(held.adjust, -back))
        else:
            back = consumed
            self.held.remove(held)
            told, _ = await self.strike(fault, held.fail)
        self.bounds.refund(back, fault, whole=held.whole and bool(told))

    async def strike(self, fault: str, act: Callable[[], Awaitable[Any]]) -> tuple[Any, bool]:
        """What a move returns that meets a fault, None if the table was out of reach; and whether three others came between."""
        self.world.proxy.inject(*FAULTS[fault])
        result, meddled = None, Units()
        with suppress(RateLimiterUnavailable):
            if fault in COVERS:
                result, meddled = await self.world.interfere(act, COVERS[fault])
            else:
                result = await act()
        self.world.proxy.heal()
        self.meddled = meddled.requests
        return result, self.meddled > 2 * MEDDLED


MOVES = st.tuples(
    st.sampled_from(["take", "take", "take", "more", "less", "fail", "other", "pass", "deliver"]),
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from(list(FAULTS)),
)


@given(moves=st.lists(MOVES, min_size=3, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_rule_holds_after_any_faults(world: World, clock: FakeClock, moves: list[tuple[str, int, int, str]]) -> None:
    """After any sequence of moves and faults, the units missing from the bucket are within the stated bounds."""
    game = Game(world, clock)
    for each in moves:
        await game.move(*each)
    await game.move("deliver", 0, 0, "none")
