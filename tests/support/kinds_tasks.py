"""Tasks of several clients that share buckets of every kind of limit, in random order; the clients may differ in their numbers.

They ask several targets, leave headroom, exceed capacities, wait, correct, fail, are cancelled and lose answers, while buckets
are paused, reset and corrected from outside. In a mixed fleet half of the clients have other rates, periods and capacities under
the same names, and calls with limits of their own take turns between both.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.bucket_world import PromiseBroken, draw_limit, promise
from support.history import Life
from support.kinds_measure import HOUR, Terms, kind_of
from support.kinds_world import KindsWorld
from support.limiter_tasks import ENTITIES, LIFE, BodyFailed, Play
from support.stored_levels import DAY, MINUTE, Level

from limiter import Concurrency, Limit, Quota, RateLimitExceeded
from limiter.core.units import NANOSECONDS
from limiter.exceptions import LeaseLost, RateLimiterUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from support.history import Client
    from support.limiter_world import World

    from limiter import BaseLimit, Lease, RateLimiter

SHARES: tuple[dict[str, float], ...] = ({}, {}, {}, {"": 0.2}, {"": 0.5}, {"a": 0.34, "q": 0.5})
NAMES = "abmqstwc"
EVERY = ("solo", "kid", "parent")


def draw(rng: Random, name: str) -> Any:
    """Draw a limit; its name says of which kind."""
    capacity = rng.randint(1, 6)
    match name:
        case "m":
            return Limit.at_most(name, capacity, rng.choice((1.0, 7.0)))
        case "q":
            return (Quota.per_hour if rng.random() < 0.7 else Quota.per_day)(name, capacity)
        case "s":
            return Quota.session(name, capacity, rng.choice((1.0, 5.0, 60.0)))
        case "t":
            return Quota.total(name, 6 * capacity)
        case "w":
            return replace(draw(rng, rng.choice("aqs")), name=name, enforce=False)
        case "c":
            return Concurrency(name, capacity, rng.choice((1.0, 20.0, 86_400.0)))
        case _:
            return draw_limit(rng, name)


class KindsTasks(Play):
    """One run with limits of every kind."""

    world_type = KindsWorld
    world: KindsWorld

    def _draw_limits(self) -> list[Any]:
        rng = self.rng
        names = sorted(rng.sample(NAMES, rng.randint(1, 4)))
        limits = [draw(rng, name) for name in names]
        # What a mixed fleet has under the same names; slots are one number for all.
        self.others = [limit if limit.holds else self._redraw(limit) for limit in limits] if self.script.fleets else limits
        self.open_leases: dict[str, list[tuple[Lease, int, int]]] = {}
        self.levels: dict[str, list[Level]] = {entity: [] for entity in EVERY}
        return limits

    def _redraw(self, limit: BaseLimit) -> Any:
        """Draw other numbers: of the same kind, and now and then of the same rate or period."""
        while True:
            other = draw(self.rng, limit.name)
            if kind_of(other) == kind_of(limit):
                return other

    async def _change(self) -> None:
        """Store other limits for an entity, and perhaps yet others for this minute or the next one."""
        rng, entity = self.rng, self.rng.choice(EVERY)
        plain, instead = ([each if each.holds else self._redraw(each) for each in self.limits] for _ in range(2))
        level = Level(tuple(plain))
        if rng.random() < 0.5:
            level = Level(level.plain, (self.world.now // MINUTE + rng.randint(0, 1)) % DAY, tuple(instead))
        # From when it may be read on; a response with the earlier value may still be under way.
        self.levels[entity].append(level)
        await rng.choice(self.pairs)[1].set_limits(list(level.plain), entity_id=entity, schedule=level.schedule)

    def _limits_of(self, client: Client) -> list[Any]:
        return self.others if int(client.name[-1]) % 2 else self.limits

    async def run(self) -> World:
        """Play the script; what the library draws by itself is drawn from the same seed."""
        state = random.getstate()
        random.seed(self.rng.random())
        try:
            return await super().run()
        finally:
            random.setstate(state)

    async def _step(self) -> None:
        if self.script.orders and self.rng.random() < 0.06:
            client, limiter = self.rng.choice(self.pairs)
            self.tasks.append(asyncio.ensure_future(self._order(client, limiter)))
        await super()._step()

    async def _order(self, client: Client, limiter: RateLimiter) -> None:
        """Change a bucket from outside a lease."""
        rng, life = self.rng, Life("order", client, doubtful=True)
        LIFE.set(life)
        entity, names = rng.choice(EVERY), [limit.name for limit in self.limits if not limit.holds]
        choice = rng.random()
        try:
            if choice < 0.3:
                await limiter.pause(entity, "api", rng.choice((0.0, 0.5, 20.0)))
            elif choice < 0.6:
                await limiter.reset(entity, "api", rng.choice((None, names[:1] or None)))
            elif names:
                await limiter.adjust(entity, "api", {name: rng.randint(-4, 4) for name in names})
        except (RateLimiterUnavailable, asyncio.CancelledError):
            pass

    def _move(self) -> None:
        """Let time pass: to or near a moment that matters, by a little, or by a lot."""
        rng, world = self.rng, self.world
        limit, now = rng.choice([*self.limits, *self.others]), world.now
        choices = [1, 10**6, NANOSECONDS // 7, NANOSECONDS, rng.randint(0, 10 * NANOSECONDS)]
        states = [moments[-1].state for moments in world.moments.values()]
        if states:
            state = rng.choice(states)
            level = state.level(limit.identity)
            match kind_of(limit):
                case "rate":
                    edges = [level.tat, level.booked, level.tat - limit.window]
                case "quota":
                    edges = [now - now % HOUR + HOUR]
                case "session":
                    edges = [level.since + round(limit.seconds * NANOSECONDS)]
                case _:
                    edges = [now + rng.choice((1, 25)) * NANOSECONDS]
            edges += [(now // MINUTE + 1) * MINUTE] if self.script.changes else []
            choices += [edge + rng.choice((-1, 0, 0, 1)) - now for edge in (*edges, state.paused)]
        self.advance(now + max(0, rng.choice(choices)))

    def _draw_call(self, limits: list[Any], others: list[Any]) -> tuple[str, dict[str, int] | None, dict[str, Any], Terms]:
        rng, options = self.rng, dict[str, Any]()
        entity = rng.choice(ENTITIES)
        if rng.random() < 0.25:
            limits = others
            options["limits"] = limits
        amounts = {each.name: rng.choice((0, 1, 1, 1, 2, each.capacity)) for each in limits if rng.random() < 0.8} or None
        terms = Terms(rng.choice(SHARES))
        if not terms.shares and rng.random() < 0.15:
            terms = Terms(oversize=True)
            amounts = {name: units + rng.choice((0, 0, 3)) for name, units in (amounts or {}).items()} or None
        options |= {"headroom": terms.shares.get("", terms.shares or None), "oversize": terms.oversize}
        if self.script.waits and rng.random() < 0.4:
            options["timeout"] = rng.choice((0.001, 3.0, 100.0))
        if rng.random() < 0.3:
            options["also"] = [(rng.choice([each for each in EVERY if each != entity]), "api")]
        return entity, amounts, options, terms

    async def _live(self, client: Client, limiter: RateLimiter) -> None:
        """Run one caller, from its call to the end of its lease."""
        rng = self.rng
        life = Life(f"life {len(self.world.lives)} of {client.name}", client)
        self.world.lives.append(life)
        LIFE.set(life)
        own = self._limits_of(client)
        entity, amounts, options, life.terms = self._draw_call(own, self.limits if own is self.others else self.others)
        asked = dict(amounts) if amounts is not None else {limit.name: 1 for limit in self.limits}
        began = client.clock()
        stored = {name: len(self.levels[name]) for name in EVERY}
        slots, ended = any(limit.holds and asked.get(limit.name) for limit in self.limits), False
        try:
            if rng.random() < 0.3 and not slots:
                if await limiter.try_acquire(entity, "api", amounts, **options):
                    self._start(life)
                    life.units = asked
            else:
                async with limiter.acquire(entity, "api", amounts, **options) as lease:
                    self._start(life)
                    life.units, life.terms = dict(lease.consumed), Terms()
                    promise(life.units == asked, "a lease holds what was asked for")
                    promise(slots or lease.waited <= options.get("timeout", 0) + 1e-9, "no caller waits for longer than agreed")
                    await self._hold_slots(life, lease)
                    ended = True
        except (RateLimitExceeded, BodyFailed, LeaseLost, RateLimiterUnavailable, asyncio.CancelledError) as error:
            # Who is interrupted while its slots are freed keeps the rest.
            life.units = life.units if ended else None
            if isinstance(error, RateLimitExceeded) and error.retry_after is not None:
                promise(error.retry_after > 0, "who is refused is told to wait")
            lost = isinstance(error, RateLimiterUnavailable)
            promise(self.script.losses > 0 or not lost, "where every call is answered the table is within reach")
        except PromiseBroken as broken:
            self.errors.append(broken)
        self.judging(self._judge_buckets, life, entity, options)
        known = {name: [Level(tuple(own)), *self.levels[name]][first:] for name, first in stored.items()}
        self.judging(self._judge_limits_asked, life, began, known, (entity, options.get("limits")))

    async def _hold_slots(self, life: Life, lease: Lease) -> None:
        """Hold the lease, as one more holder of its slots in each bucket, of which there are never too many."""
        slots = {
            charge.limit: (each.key.entity_id, charge.units)
            for each in life.submissions
            for charge in each.request.charges
            if charge.limit.holds
        }
        entries = [
            (self.open_leases.setdefault(entity, []), (lease, units, limit.capacity)) for limit, (entity, units) in slots.items()
        ]
        for holders, entry in entries:
            holders.append(entry)
            living = sum(units for each, units, _ in holders if not each.lost)
            promise(lease.lost or living <= entry[2], "no more callers hold slots than there are")
        try:
            await self._hold(life, lease)
            promise(dict(lease.consumed) == life.units, "a lease says what it holds")
        finally:
            for holders, entry in entries:
                holders.remove(entry)

    def _names_to_correct(self, life: Life) -> list[str]:
        assert life.units is not None
        slots = {limit.name for limit in self.limits if limit.holds}
        return [name for name in life.units if name not in slots]

    def _judge_limits_asked(
        self, life: Life, began: int, stored: Mapping[str, Sequence[Level]], given: tuple[str, Sequence[Any] | None]
    ) -> None:
        """Check that each bucket is asked under limits that applied to it, by the client's clock, during the call."""
        for each in life.submissions:
            if each.request.forced or not each.request.charges:
                continue
            name = each.key.entity_id
            levels = [Level(tuple(given[1]))] if given[1] is not None and name == given[0] else stored[name]
            charged = {charge.limit for charge in each.request.charges}
            allowed = [limits for level in levels for limits in level.during(began, each.clock)]
            promise(any(charged <= set(limits) for limits in allowed), "a bucket is asked under the limits that apply to it")

    def _judge_buckets(self, life: Life, entity: str, options: Mapping[str, Any]) -> None:
        """Check that every bucket of every target is asked, by a call that is allowed."""
        targets = [entity, *(each for each, _ in options.get("also", ()))]
        asked = {each.key.entity_id for each in life.submissions if not each.request.forced and each.request.charges}
        chain = {*targets, *(["parent"] if "kid" in targets else [])}
        promise(asked <= chain, "no bucket is asked that the call does not name")
        holds = any(limit.holds and (life.units or {}).get(limit.name) for limit in self.limits)  # Slots may be handed on.
        promise(life.units is None or holds or asked == chain, "every bucket of a call is charged")

    async def _drain_buckets(self) -> None:
        """What is left is judged by the levels."""
