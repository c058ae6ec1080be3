"""The bound on what is spent of a limit with an allotment, for any number of processes: searched, and played at random.

One unit refills in a tick. Processes take units for a call, take blocks, spend them, and fail, which gives back what the call
held. The plans and blocks are the library's own; the judge counts what was spent in every span, and what was given back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest

from limiter import Limit
from limiter.commit.allotment import Block
from limiter.core.limits import gcra
from limiter.core.plan import plan
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Receipt, Refund, Request
from limiter.core.state import EMPTY, BucketState
from limiter.core.units import NANOSECONDS

KEY = BucketKey("default", "user", "api")
EPOCH = 1_800_000_000 * NANOSECONDS
TICK = 1 / NANOSECONDS
Held = tuple[int, int, int]
"""Of a block its units, its busy period, and when it was planned."""
Move = tuple[str, int, int]


def limit_of(capacity: int, horizon: int) -> Limit:
    """Return a limit of which one unit refills in a tick, and blocks live for some ticks."""
    return Limit("units", capacity, 1, TICK, allotment=horizon / NANOSECONDS)


@dataclass(frozen=True)
class Rules:
    """How the processes behave; all but the first are faults."""

    window: bool = True
    renews: bool = False
    gives_back_aged: bool = False
    counts_before: bool = True


SOUND = Rules()


@dataclass(frozen=True)
class World:
    """A bucket, the blocks and leases that processes hold, and what was spent and given back."""

    limit: Limit
    rules: Rules = SOUND
    now: int = EPOCH
    state: BucketState = field(default=EMPTY)
    blocks: tuple[Held, ...] = ()
    leases: tuple[tuple[int, int], ...] = ()
    spent: tuple[tuple[int, int], ...] = ()
    given: tuple[tuple[int, int], ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for worlds that differ by time alone."""
        level, now = self.state.level(self.limit.identity), self.now
        past = tuple((now - time, units) for time, units in (*self.spent, (now, 0), *self.given))
        blocks = tuple(sorted((units, level.since - since, now - planned) for units, since, planned in self.blocks))
        leases = tuple(sorted((units, level.since - since) for units, since in self.leases))
        return max(0, level.tat - now), now - level.since, past, blocks, leases

    def free(self) -> int:
        """The units that a call could take."""
        level = self.state.level(self.limit.identity)
        return gcra.available(self.asked, level.tat, self.now)

    @property
    def asked(self) -> Limit:
        """The limit as calls ask for it."""
        return self.limit if self.rules.window else replace(self.limit, allotment=None)

    def tick(self) -> World:
        """Let one unit refill; blocks die."""
        later = replace(self, now=self.now + 1)
        if self.rules.gives_back_aged:
            return later
        return replace(later, blocks=tuple(held for held in later.blocks if later.block(held).is_alive(later.now, later.now)))

    def block(self, held: Held) -> Block:
        """The library's block."""
        units, since, planned = held
        return Block(Grant([Receipt(self.limit, units, units, since, planned, planned)], planned), (planned, planned), 0)

    def take(self, limit: Limit, units: int) -> tuple[World, Receipt] | None:
        """Take units by a write."""
        made = plan(self.state, [Request(KEY, (Charge(limit, units),))], self.now, f"{len(self.spent)}-{self.now}")
        if made.update is None or not made.shares or not made.update.holds(self.state):
            return None
        after = made.update.apply(self.state)
        return replace(self, state=after), made.grants(after)[0].receipts[0]

    def give(self, units: int, since: int, *, counted: bool = True) -> World:
        """Give units back to the bucket."""
        request = Request(KEY, refunds=(Refund(self.limit, units, since),))
        made = plan(self.state, [request], self.now, f"{len(self.given)}={self.now}")
        if not units or made.update is None:
            return self
        given = (*self.given, (self.now, units)) if counted else self.given
        return replace(self, state=made.update.apply(self.state), given=given)

    def call(self, units: int) -> World | None:
        """Take units for a call, which spends them."""
        taken = self.take(self.asked, units)
        return None if taken is None else taken[0].spend(units, taken[1].since)

    def order(self, units: int) -> World | None:
        """Take a block."""
        taken = self.take(self.limit, units)
        if taken is None:
            return None
        held = [(each[0], each[1], self.now) for each in self.blocks] if self.rules.renews else self.blocks
        return replace(taken[0], blocks=(*held, (units, taken[1].since, self.now)))

    def pay(self, place: int, units: int) -> World | None:
        """Spend units of a block."""
        held = self.blocks[place]
        block = self.block(held)
        if not block.is_alive(self.now, self.now) or not block.covers([Charge(self.limit, units)]):
            return None
        (receipt,) = block.pay([Charge(self.limit, units)], self.now).receipts
        left = [(block.units(0), *held[1:])] if block.units(0) else []
        others = (*self.blocks[:place], *left, *self.blocks[place + 1 :])
        return replace(self, blocks=others).spend(units, receipt.since)

    def give_back(self, place: int) -> World:
        """Give a block's units back to the bucket, whole or worth their cost less their age: by a fault."""
        units, since, planned = self.blocks[place]
        left = replace(self, blocks=(*self.blocks[:place], *self.blocks[place + 1 :]))
        age = self.now - planned if self.rules.gives_back_aged else 0
        return left.give(max(0, units - age), since, counted=False)

    def fail(self, place: int) -> World:
        """Give back what a call holds."""
        units, since = self.leases[place]
        return replace(self, leases=(*self.leases[:place], *self.leases[place + 1 :])).give(units, since)

    def spend(self, units: int, since: int) -> World:
        """Count units as spent, by a call that may fail."""
        return replace(self, spent=(*self.spent, (self.now, units)), leases=(*self.leases, (units, since)))

    def excess(self) -> int:
        """The most that was spent in a span up to now beyond the bound, less what was given back for it.

        A block is spent before its last tick is over, so in whole ticks the bound is one unit lower.
        """
        worst, before = -self.limit.capacity, self.limit.allotment_ns if self.rules.counts_before else 1
        for begin, _ in self.spent:
            spent = sum(units for time, units in self.spent if time >= begin)
            given = sum(units for time, units in self.given if time > begin - before)
            worst = max(worst, spent - given - self.limit.capacity - (self.now - begin) + 1)
        return worst

    def play(self, move: Move) -> World | None:
        """The world after a move; None where it is not possible."""
        name, place, units = move
        match name:
            case "tick":
                return self.tick()
            case "call":
                return self.call(units)
            case "order":
                return self.order(units)
            case "pay":
                return self.pay(place, units)
            case "back":
                return self.give_back(place)
            case _:
                return self.fail(place)

    def moves(self) -> list[Move]:
        """The moves that matter: one unit or all."""
        amounts = sorted({1, self.free()} - {0}) if self.free() > 0 else []
        moves = [("tick", 0, 0), *(("call", 0, units) for units in amounts), *(("order", 0, units) for units in amounts)]
        for place, (units, *_) in enumerate(self.blocks):
            moves += [("pay", place, each) for each in sorted({1, units})]
        return moves + [("fail", place, 0) for place in range(len(self.leases))]


def search(world: World, depth: int) -> tuple[int, int]:
    """Play every history of so many moves; return the worst excess, and how many different worlds there were."""
    seen, front, worst = {world.key}, [world], -world.limit.capacity
    for _ in range(depth):
        after = []
        for each in front:
            for move in each.moves():
                found = each.play(move)
                if found is not None and found.key not in seen:
                    seen.add(found.key)
                    after.append(found)
                    worst = max(worst, found.excess())
        front = after
    return worst, len(seen)


def wander(random: Random, limit: Limit, processes: int, rules: Rules = SOUND, steps: int = 150) -> int:
    """Play one random history; return the worst excess."""
    world, worst = World(limit, rules), -limit.capacity
    for _ in range(steps):
        free = max(1, world.free())
        block = random.randrange(len(world.blocks)) if world.blocks else -1
        moves = ["tick"] * 3 + ["call"]
        moves += ["order"] * 2 if len(world.blocks) < processes else []
        moves += ["pay"] if world.blocks else []
        moves += ["fail"] if world.leases else []
        name = random.choice(moves)
        if name == "tick":
            for _ in range(random.choice((1, 1, 2, limit.allotment_ns - 1, limit.allotment_ns))):
                world = world.tick()
            world = replace(world, leases=world.leases[-processes:], spent=world.spent[-60:])
            continue
        place = random.randrange(len(world.leases)) if name == "fail" else block
        units = (
            world.blocks[block][0] if name == "pay" and random.random() < 0.5 else random.choice((1, 2, (free + 1) // 2, free))
        )
        if name == "pay":
            units = min(units, world.blocks[block][0])
        world = world.play((name, place, units)) or world
        worst = max(worst, world.excess())
    return worst


@pytest.mark.parametrize(("capacity", "horizon"), [(4, 1), (4, 2), (6, 2)])
def test_no_short_history_exceeds_the_bound(capacity: int, horizon: int) -> None:
    """Every order of calls, blocks, spending, failures and ticks keeps the bound, and some reach it."""
    worst, worlds = search(World(limit_of(capacity, horizon)), 6)
    assert worst == 0
    assert worlds > 1_000


@pytest.mark.parametrize("processes", [1, 4, 16])
def test_no_random_history_exceeds_the_bound(processes: int) -> None:
    """However many processes hold blocks, what is spent in a span is at most the capacity and the refill."""
    random = Random(processes)  # noqa: S311 - no secret
    worst = [wander(random, limit_of(random.choice((6, 20, 40)), random.randint(1, 3)), processes) for _ in range(40)]
    assert max(worst) <= 0
    assert max(worst) > -6


FAULTS = {
    "a caller plans with the full window": Rules(window=False),
    "what is left of a block lives as long as the next one": Rules(renews=True),
    "only what is given back in the span counts": Rules(counts_before=False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_rule_is_needed(name: str) -> None:
    """Without one of the rules random histories exceed the bound."""
    random = Random(name)  # noqa: S311 - no secret
    excess = (wander(random, limit_of(random.choice((6, 20)), random.choice((1, 2, 3))), 4, FAULTS[name]) for _ in range(200))
    assert any(each > 0 for each in excess)


# Found by an exhaustive search: where units are given back that were not spent, 7 are spent at one instant of 6.
GIVEN_BACK: dict[str, tuple[int, Rules, list[Move]]] = {
    "stale units, worth their cost less their age": (
        1,
        Rules(gives_back_aged=True),
        [
            *[("call", 0, 3), ("tick", 0, 0), ("tick", 0, 0), ("order", 0, 4), ("fail", 0, 0), ("tick", 0, 0)],
            *[("order", 0, 4), ("back", 0, 0), ("tick", 0, 0), ("call", 0, 2), ("back", 0, 0), ("call", 0, 5)],
        ],
    ),
    "units for a call that is refused elsewhere, whole": (
        2,
        SOUND,
        [
            *[("order", 0, 2), ("tick", 0, 0), ("order", 0, 3), ("back", 0, 0), ("tick", 0, 0)],
            *[("order", 0, 3), ("back", 0, 0), ("tick", 0, 0), ("call", 0, 4), ("pay", 0, 3)],
        ],
    ),
}


@pytest.mark.parametrize("name", GIVEN_BACK)
def test_what_is_not_spent_must_not_go_back_to_the_bucket(name: str) -> None:
    """Either way to give units of a block back breaks the bound."""
    horizon, rules, moves = GIVEN_BACK[name]
    world = World(limit_of(6, horizon), rules)
    for move in moves:
        after = world.play(move)
        assert after is not None, move
        world = after
    assert world.excess() > 0
