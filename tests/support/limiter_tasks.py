"""Tasks of several clients that acquire, wait, correct, fail and are cancelled at once, in random order."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from support.bucket_world import PromiseBroken, draw_limit, promise, redraw_limit
from support.history import Client, Life
from support.limiter_world import World
from support.watching import watching

from limiter import Limit, MemoryRepository, RateLimiter, RateLimitExceeded
from limiter.core.units import NANOSECONDS
from limiter.exceptions import RateLimiterUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from limiter import Lease
    from limiter.core.records import BucketKey, RecordKey
    from limiter.core.state import BucketState, Update, WriteResult

LIFE: contextvars.ContextVar[Life] = contextvars.ContextVar("LIFE")
REAL_SECONDS = 5.0
"""Seconds of real time, which no correct run takes."""
PATIENCE = 20_000
"""Turns of the event loop within which every caller gets an answer."""
ENTITIES = ("solo", "kid")
CHAINS = {"solo": ("solo",), "kid": ("kid", "parent")}


class BodyFailed(Exception):
    """The error that the body of a lease raises."""


@dataclass(frozen=True, slots=True)
class Script:
    """Which events may happen. Who gets no answer learns that after `silence` turns, in which others may write."""

    clients: int = 3
    epochs: int = 3
    steps: int = 60
    waits: bool = True
    failures: bool = True
    debts: bool = True
    cancels: bool = True
    chains: bool = True
    overrides: bool = False
    changes: bool = False
    losses: float = 0.0
    silence: int = 0
    skew: int = 0
    denial_ttls: tuple[float, ...] = (0.0, 0.0, 1.0)
    lingers: tuple[float, ...] = (0.0,)
    allotments: bool = False
    steady: bool = True
    mates: bool = True
    orders: bool = False
    fleets: bool = False


class Front:
    """What one client sees of the store: every call takes turns of the loop before and after, and responses get lost."""

    def __init__(self, play: Play, client: Client) -> None:
        self.play = play
        self.client = client
        self.clock = client.clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.play.inner, name)

    async def turns(self) -> None:
        """Let other tasks continue."""
        for _ in range(self.play.rng.choice((0, 0, 1, 2, 4))):
            await asyncio.sleep(0)

    async def read_bucket(self, key: BucketKey) -> BucketState:
        await self.turns()
        if self.play.rng.random() < self.play.script.losses:
            raise RateLimiterUnavailable("no answer")
        state = await self.play.inner.read_bucket(key)
        await self.turns()
        self._answer(key, state)
        return state

    async def read_records(self, keys: Iterable[RecordKey], buckets: Iterable[BucketKey] = ()) -> Any:
        await self.turns()
        records, states = await self.play.inner.read_records(tuple(keys), tuple(buckets))
        for key, state in states.items():
            if not self.client.answers[key]:
                self.client.see(key, state)
        return records, states

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        self.play.sending += 1
        try:
            await self.turns()
        finally:
            self.play.sending -= 1
        return await self._send(key, update)

    async def _send(self, key: BucketKey, update: Update) -> WriteResult:
        rng, inner = self.play.rng, self.play.inner
        fate = rng.choice(("unsent", "unapplied", "applied")) if rng.random() < self.play.script.losses else "answered"
        if fate == "unsent":
            raise RateLimiterUnavailable("throttled", unsent=True)
        self.client.losses += fate != "answered"
        if fate == "unapplied":
            raise RateLimiterUnavailable("no answer")
        before = await inner.read_bucket(key)
        outcome = await inner.write_bucket(key, update)
        if outcome.applied and not before.has_stamp(update.stamp):
            self.play.judging(self.play.world.applied, self.client, key, update, before, outcome.state)
        await self.turns()
        if fate == "applied":
            for _ in range(self.play.script.silence):
                await asyncio.sleep(0)
            raise RateLimiterUnavailable("no answer")
        self._answer(key, outcome.state)
        return outcome

    def _answer(self, key: BucketKey, state: BucketState) -> None:
        self.client.see(key, state)
        self.play.answers.append((self.client, key))


class Play:
    """One run: the world, its clients' limiters, and the tasks that live in it."""

    world_type: type[World] = World

    def __init__(self, rng: Random, script: Script) -> None:
        self.rng = rng
        self.script = script
        self.world = self.world_type(skew=script.skew, mates=script.mates)
        self.inner = MemoryRepository(clock=lambda: self.world.now)
        self.sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self.numbers = itertools.count()
        self.answers: list[tuple[Client, BucketKey]] = []
        self.limits = self._draw_limits()
        self.stored: dict[str, list[tuple[Limit, ...]]] = {name: [tuple(self.limits)] for name in ("solo", "kid", "parent")}
        self.tasks: list[asyncio.Task[None]] = []
        self.pairs: list[tuple[Client, RateLimiter]] = []
        self.errors: list[BaseException] = []
        self.sending = 0

    def _draw_limits(self) -> list[Any]:
        """Draw the limits that every client has at first."""
        return [self._allotted(draw_limit(self.rng, name)) for name in "ab"[: self.rng.randint(1, 2)]]

    def _allotted(self, limit: Limit) -> Limit:
        """Give a larger limit of the same rate an allotment, if the script has them."""
        if not self.script.allotments or self.rng.random() < 0.1:
            return limit
        larger = replace(limit, capacity=4 * limit.capacity)
        most = min(larger.window // 2, (larger.capacity - 1) * larger.period_ns // larger.refill_amount)
        return replace(larger, allotment=self.rng.randint(1, most) / NANOSECONDS) if most else limit

    async def run(self) -> World:
        """Play the script."""
        with watching(self.world):
            await self._open()
            for _ in range(self.script.epochs):
                for _ in range(self.script.steps):
                    await self._step()
                await self._drain()
                await self._end_epoch()
            self.world.judge()
            await self._drain_buckets()
        return self.world

    async def _open(self) -> None:
        admin = RateLimiter(self.inner)
        await admin.create_entity("parent")
        await admin.create_entity("kid", parent_id="parent")
        for number in range(self.script.clients):
            rng, skew = self.rng, self.script.skew
            denial_ttl, linger = rng.choice(self.script.denial_ttls), rng.choice(self.script.lingers)
            client = Client(self.world, f"client{number}", offset=rng.randint(-skew, skew), denial_ttl=denial_ttl)
            limiter = RateLimiter(
                Front(self, client),
                self._limits_of(client),
                config_ttl=0 if self.script.changes else 60,
                denial_ttl=denial_ttl,
                linger=linger,
                decision_timeout=REAL_SECONDS,
                sleep=self.sleep,
            )
            self._watch(client, limiter)
            self.world.clients.append(client)
            self.pairs.append((client, limiter))

    def _limits_of(self, _: Client) -> list[Any]:
        """Return the limits that a client has in code."""
        return self.limits

    def _watch(self, client: Client, limiter: RateLimiter) -> None:
        """Record everything that this limiter asks of a bucket, and the outcome."""
        committer = limiter._acquirers.get().committer
        sound = committer.decide

        async def decide(requests: Any) -> Any:
            # Callers who ask for the same may share a request, and its charges.
            requests = [request._replace(charges=(*request.charges,)) for request in requests]
            submissions = [self.world.submit(client, request, LIFE.get(client.closing)) for request in requests]
            try:
                outcomes = await sound(requests)
            except BaseException as error:
                for submission in submissions:
                    self.judging(self.world.finish, submission, error)
                raise
            for submission, outcome in zip(submissions, outcomes, strict=True):
                self.judging(self.world.finish, submission, outcome)
            return outcomes

        committer.decide = decide  # type: ignore[method-assign]

    def judging(self, judge: Callable[..., None], *arguments: Any) -> None:
        """Record what the judge finds, so that no handler can swallow it."""
        try:
            judge(*arguments)
        except PromiseBroken as broken:
            self.errors.append(broken)

    async def sleep(self, seconds: float) -> None:
        """Wait until the world's time has moved on."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self.sleepers, (self.world.now + round(seconds * NANOSECONDS), next(self.numbers), future))
        await future

    def advance(self, time: int) -> None:
        """Move the time on, and wake the tasks whose time has come; in a steady play not during a write."""
        if self.script.steady and self.sending:
            return
        self.world.now = max(self.world.now, time)
        while self.sleepers and self.sleepers[0][0] <= self.world.now:
            _, _, future = heapq.heappop(self.sleepers)
            if not future.done():
                future.set_result(None)

    async def _step(self) -> None:
        rng, choice = self.rng, self.rng.random()
        if choice < 0.6:
            client, limiter = rng.choice(self.pairs)
            self.tasks.append(asyncio.ensure_future(self._live(client, limiter)))
        elif choice < 0.75:
            self._move()
        elif choice < 0.9 and self.script.cancels and self.tasks:
            rng.choice(self.tasks[-6:]).cancel()
        elif self.script.changes and choice < 0.93:
            await self._change()
        for _ in range(rng.choice((0, 0, 0, 1, 1, 3, 8))):
            await self._turn()

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors[0]
        answers, self.answers = self.answers, []
        for client, key in answers:
            self.world.answered(client, key)

    def _move(self) -> None:
        """Let time pass: to or near a moment that matters, by a little, or by a lot."""
        rng, world = self.rng, self.world
        keys = list(world.moments)
        limit = rng.choice(self.limits)
        unit = -(-limit.period_ns // limit.refill_amount)
        choices = [1, unit, rng.randint(0, unit), rng.randint(0, limit.window), limit.window + 1, 10**6]
        if limit.allotment_ns:
            choices += [rng.randint(0, limit.allotment_ns + 1), limit.allotment_ns - 1, limit.allotment_ns // 8]
        if keys:
            level = world.moments[rng.choice(keys)][-1].state.level(limit.identity)
            choices += [
                edge + rng.choice((-1, 0, 0, 1)) - world.now for edge in (level.tat, level.booked, level.tat - limit.window)
            ]
        self.advance(world.now + max(0, rng.choice(choices)))

    async def _change(self) -> None:
        entity = self.rng.choice(("solo", "kid", "parent"))
        limits = tuple(self._allotted(redraw_limit(self.rng, limit)) for limit in self.limits)
        # From when it may be read on; a response with the earlier value may still be under way.
        self.stored[entity].append(limits)
        await self.rng.choice(self.pairs)[1].set_limits(limits, entity_id=entity)

    async def _live(self, client: Client, limiter: RateLimiter) -> None:
        """Run one caller, from its call to the end of its lease."""
        rng = self.rng
        life = Life(f"life {len(self.world.lives)} of {client.name}", client)
        self.world.lives.append(life)
        LIFE.set(life)
        entity = rng.choice(ENTITIES if self.script.chains else ENTITIES[:1])
        given = (
            tuple(self._allotted(redraw_limit(rng, each)) for each in self.limits)
            if self.script.overrides and rng.random() < 0.4
            else None
        )
        amounts = {each.name: rng.choice((0, 1, 1, 1, 2, each.capacity)) for each in self.limits if rng.random() < 0.8} or None
        options: dict[str, Any] = {"limits": given}
        if self.script.waits and rng.random() < 0.4:
            options["timeout"] = rng.choice((0.001, 3.0, 100.0))
        stored = {name: len(self.stored[name]) - 1 for name in CHAINS[entity]}
        try:
            if rng.random() < 0.3:
                decision = await limiter.try_acquire(entity, "api", amounts, **options)
                if decision:
                    self._start(life)
                    life.units = self._asked(amounts)
            else:
                async with limiter.acquire(entity, "api", amounts, **options) as lease:
                    self._start(life)
                    life.units = dict(lease.consumed)
                    promise(life.units == self._asked(amounts), "a lease holds what was asked for")
                    promise(lease.waited <= options.get("timeout", 0) + 1e-9, "no caller waits for longer than agreed")
                    await self._hold(life, lease)
                    promise(dict(lease.consumed) == life.units, "a lease says what it holds")
        except (RateLimitExceeded, BodyFailed, RateLimiterUnavailable, asyncio.CancelledError) as error:
            life.units = None
            if isinstance(error, RateLimitExceeded) and error.retry_after is not None:
                promise(error.retry_after > 0, "who is refused is told to wait")
            lost = isinstance(error, RateLimiterUnavailable)
            promise(self.script.losses > 0 or not lost, "where every call is answered the table is within reach")
        except PromiseBroken as broken:
            self.errors.append(broken)
        self.judging(self._judge_limits, life, entity, given, {name: self.stored[name][last:] for name, last in stored.items()})

    def _start(self, life: Life) -> None:
        """Start a caller."""
        life.started = True
        takings = [each for submission in life.submissions for each in submission.takings]
        promise(
            all(each.start <= life.client.clock() for each in takings if each.limit.enforce and not each.cancelled),
            "no caller starts before its turn",
        )

    def _asked(self, amounts: Mapping[str, int] | None) -> dict[str, int]:
        return dict(amounts) if amounts is not None else {limit.name: 1 for limit in self.limits}

    def _judge_limits(
        self, life: Life, entity: str, given: tuple[Limit, ...] | None, stored: Mapping[str, list[tuple[Limit, ...]]]
    ) -> None:
        """Check that every bucket is asked under limits that applied to it during the call."""
        for each in life.submissions:
            if each.request.forced or not each.request.charges:
                continue
            name = each.key.entity_id
            allowed = [given] if given is not None and name == entity else stored[name]
            charged = {charge.limit for charge in each.request.charges}
            promise(any(charged <= set(limits) for limits in allowed), "a bucket is asked under the limits that apply to it")

    def _names_to_correct(self, life: Life) -> list[str]:
        """Return the limits whose units a body may correct."""
        return list(life.units or ())

    async def _hold(self, life: Life, lease: Lease) -> None:
        """Do what the body does."""
        rng = self.rng
        assert life.units is not None
        names = self._names_to_correct(life)
        for _ in range(rng.choice((0, 0, 1, 2)) if names else 0):
            for _ in range(rng.randint(0, 4)):
                await asyncio.sleep(0)
            name = rng.choice(names)
            choice = rng.random()
            try:
                if choice < 0.3 and self.script.failures:
                    units = rng.randint(0, life.units[name])
                    life.units[name] -= units
                    await lease.release({name: units})
                elif choice < 0.6 and self.script.debts:
                    units = rng.randint(0, 3)
                    await lease.adjust({name: units})
                    life.units[name] += units
                elif choice < 0.8:
                    await lease.consume({name: 1})
                    life.units[name] += 1
            except RateLimitExceeded:
                pass
        if self.script.failures and rng.random() < 0.3:
            raise BodyFailed

    async def _drain(self) -> None:
        """Let every task end, and find those that never do."""
        me = asyncio.current_task()
        for turn in range(PATIENCE):
            if not asyncio.all_tasks() - {me}:
                break
            if turn % 20 == 19 and self.sleepers:
                self.advance(self.sleepers[0][0])
            await self._turn()
        promise(not asyncio.all_tasks() - {me}, "everybody gets an answer")
        for task in self.tasks:
            if (error := None if task.cancelled() else task.exception()) is not None:
                raise error
        self.tasks.clear()
        await self._turn()

    async def _end_epoch(self) -> None:
        for _, limiter in self.pairs:
            if self.script.allotments and self.rng.random() < 0.5:
                self.tasks.append(asyncio.create_task(limiter.close()))
        await self._drain()
        self.world.settle(self.world.lives)
        self.world.lives.clear()

    async def _drain_buckets(self) -> None:
        """Check that the available units are, exactly, what can be consumed, and never more than the capacity."""
        for entity in ("solo", "parent"):
            limiter = RateLimiter(self.inner, self.limits, denial_ttl=0)
            for limit in self.stored[entity][-1]:
                left = (await limiter.check(entity, "api", {limit.name: 0})).statuses[0].available
                promise(left <= limit.capacity, "no more is available than the capacity")
                promise(left <= 0 or bool(await limiter.try_acquire(entity, "api", {limit.name: left})), "what is available is")
                promise(not await limiter.try_acquire(entity, "api", {limit.name: 1}), "what is not available is not")
