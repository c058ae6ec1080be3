"""A world of clients that share one bucket of quotas, sessions and totals, and the ledger from which its counts are judged.

Clients plan against the last state they saw, and their clocks differ by up to the error that they state. The ledger knows only
what callers were told: of each opening how much was taken and given back. It compares the item with that sum after every write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.bucket_world import EPOCH, KEY, promise

from limiter.core import plan as planning
from limiter.core.allocation import Allocation
from limiter.core.limits import Quota, SessionQuota
from limiter.core.limits.quota import CalendarQuota
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.state import EMPTY
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from limiter.core.plan import Plan
    from limiter.core.request import Receipt
    from limiter.core.state import BucketState, Update

SECOND = NANOSECONDS
HOUR = 3_600 * SECOND


@dataclass(slots=True)
class Opening:
    """What the ledger knows of the present opening of one count; `outstanding` is what each admission can still refund."""

    since: int = -1
    used: int = 0
    outstanding: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Held:
    """What one caller holds, by identity."""

    number: int
    allocations: dict[str, Allocation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    """Which events may happen in a world."""

    limits: tuple[Quota, ...]
    steps: int = 60
    clients: int = 3
    error: int = 0
    orders: bool = True
    forced: bool = True


class World:
    """The store, the true time, and the ledger."""

    def __init__(self, script: Script) -> None:
        self.now = EPOCH
        self.state = EMPTY
        self.openings: dict[str, Opening] = {}
        self.updates: list[Update] = []
        self.numbers = 0
        self.script = script

    def write(self, update: Update) -> bool:
        """Apply an update if its condition holds."""
        self.updates.append(update)
        if not update.holds(self.state):
            return False
        self.state = update.apply(self.state)
        return True

    def enter(self, limit: Quota, receipt: Receipt, number: int, *, forced: bool) -> None:
        """Record what one caller was told of one count."""
        book = self.openings.setdefault(limit.identity, Opening())
        if receipt.cost and receipt.since != book.since:
            self._judge_opening(limit, book, receipt.since)
            self.openings[limit.identity] = book = Opening(receipt.since)
        book.used += receipt.cost
        if receipt.cost > 0:
            book.outstanding[number] = book.outstanding.get(number, 0) + receipt.cost
        promise(not receipt.cost or receipt.tat == book.used, "a receipt tells what is used after it")
        promise(
            forced or not receipt.cost or book.used <= limit.capacity, "what is admitted of an opening is at most the capacity"
        )

    def _judge_opening(self, limit: Quota, book: Opening, since: int) -> None:
        promise(since > book.since, "each opening is later than the one before")
        if isinstance(limit, CalendarQuota):
            promise(limit.bounds(since)[0] > book.since, "a quota opens once in a period")
            promise(since <= self.now, "no period opens early")
        elif isinstance(limit, SessionQuota):
            slack = 2 * self.script.error
            promise(book.used <= 0 or since >= book.since + limit.length_ns - slack, "a session in use lasts its length")
        else:
            promise(book.since < 0, "a total opens once")

    def give(self, limit: Quota, given: int, wanted: Sequence[tuple[int, int, int]]) -> None:
        """Record what an update refunded, of what was `wanted`: the admission, the opening, and the units."""
        book = self.openings.get(limit.identity, Opening())
        alive = sum(min(units, book.outstanding.get(number, 0)) for number, since, units in wanted if since == book.since)
        promise(0 <= given <= alive, "a refund gives back at most what was taken, once, and of the same opening")
        book.used -= given
        for number, since, units in wanted:
            if since == book.since:
                book.outstanding[number] = max(0, book.outstanding.get(number, 0) - units)

    def judge(self) -> None:
        """Check that the item equals the ledger, and does not expire before the end of what is used."""
        for limit in self.script.limits:
            level, book = self.state.level(limit.identity), self.openings.get(limit.identity, Opening())
            promise(max(0, level.tat) == book.used, "the item equals the sum of the history")
            end = limit.ends(level.since, level.since) if level.since >= 0 else 0
            if book.used > 0:
                promise(end is None or self.state.ttl * SECOND >= end, "no item expires before its count ends")
                promise(end is not None or self.state.ttl >= 9_999_999_999, "a total is never deleted while something is used")


class Client:
    """One process: the last state it saw, what its callers hold, and a clock that is `offset` nanoseconds off."""

    def __init__(self, world: World, name: str, offset: int) -> None:
        self.world = world
        self.name = name
        self.offset = offset
        self.state = EMPTY
        self.held: list[Held] = []
        self.stamps = 0

    def submit(self, requests: Sequence[tuple[Request, Held]]) -> dict[int, Grant | Refusal]:
        """Decide a batch as the committer does."""
        outcomes: dict[int, Grant | Refusal] = {}
        fresh = False
        for _ in range(8):
            waiting = [place for place in range(len(requests)) if place not in outcomes]
            if not waiting:
                return outcomes
            self.stamps += 1
            batch = [requests[place][0] for place in waiting]
            error, now = self.world.script.error, self.world.now + self.offset
            plan = planning.plan(self.state, batch, now, f"{self.name}-{self.stamps}", error=error, fresh=fresh)
            decided: dict[int, Grant | Refusal] = dict(plan.refused) if fresh else {}
            if plan.update is not None:
                decided |= self._write([requests[place] for place in waiting], plan, plan.update)
            elif fresh:
                decided |= plan.grants(self.state)
            self.state, fresh = self.world.state, True
            outcomes |= {waiting[place]: outcome for place, outcome in decided.items()}
        promise(False, "a batch comes to an end")
        return {}

    def _write(self, batch: Sequence[tuple[Request, Held]], plan: Plan, update: Update) -> dict[int, Grant]:
        before, known = self.world.state, self.state == self.world.state
        for _, _, low, high, _ in update.conditions:
            promise(low is None or high is None or low <= high, "a condition's bounds are in order, as engines demand")
        changed = [change[:2] for change in update.changes] + list(update.removals)
        promise(len(changed) == len(set(changed)), "an attribute is changed once in an update, as engines demand")
        applied = self.world.write(update)
        promise(applied or not known, "an update that was planned on the present state is applied")
        if not applied:
            return {}
        promise(not update.holds(self.world.state), "an update is not applied twice")
        grants = plan.grants(self.world.state)
        for place, grant in grants.items():
            self._enter(*batch[place], grant)
        for limit in self.world.script.limits:
            self._give(limit, before, [batch[place] for place in grants], list(grants.values()))
        self._clear([batch[place][0] for place in grants])
        self.world.judge()
        return grants

    def _enter(self, request: Request, held: Held, grant: Grant) -> None:
        for receipt in grant.receipts:
            limit = receipt.limit
            self.world.enter(limit, receipt, held.number, forced=request.forced)  # type: ignore[arg-type] # quotas alone
            if receipt.cost > 0:
                held.allocations[limit.identity] = held.allocations.get(limit.identity, Allocation(limit)).add(receipt)
        if not request.is_order and grant.receipts and held not in self.held:
            self.held.append(held)

    def _give(self, limit: Quota, before: BucketState, batch: Sequence[tuple[Request, Held]], grants: Sequence[Grant]) -> None:
        wanted = [
            (held.number, refund.since, refund.cost)
            for request, held in batch
            for refund in request.refunds
            if refund.limit.identity == limit.identity
        ]
        if not wanted:
            return
        taken = sum(each.cost for grant in grants for each in grant.receipts if each.limit.identity == limit.identity)
        level, after = before.level(limit.identity), self.world.state.level(limit.identity)
        start = 0 if taken and after.since != level.since else max(0, level.tat)
        self.world.give(limit, start + taken - max(0, after.tat), wanted)

    def _clear(self, requests: Sequence[Request]) -> None:
        for limit in self.world.script.limits:
            if any(limit.name in request.clear for request in requests):
                self.world.openings[limit.identity] = Opening(self.world.state.level(limit.identity).since)


def play(rng: Random, script: Script) -> World:
    """Play a script at random, and judge the result."""
    world = World(script)
    clients = [Client(world, f"client{place}", rng.randint(-script.error, script.error)) for place in range(script.clients)]
    for _ in range(script.steps):
        if rng.random() < 0.4:
            _move(rng, world)
        client = rng.choice(clients)
        if rng.random() < 0.1:
            client.state = EMPTY
        batch = [_draw(rng, world, client, script) for _ in range(rng.choice((1, 1, 2, 3)))]
        helds = [id(held) for _, held in batch]
        if len(set(helds)) == len(helds):
            client.submit(batch)
    world.judge()
    return world


def _move(rng: Random, world: World) -> None:
    limit = rng.choice(world.script.limits)
    level = world.state.level(limit.identity)
    end = limit.ends(level.since, world.now) or world.now
    edge = end - world.now + rng.choice((-1, 0, 0, 1, world.script.error, -world.script.error))
    world.now += max(0, rng.choice((edge, edge, 1, SECOND, rng.randint(0, HOUR))))


def _draw(rng: Random, world: World, client: Client, script: Script) -> tuple[Request, Held]:
    choice, now = rng.random(), world.now + client.offset
    world.numbers += 1
    new = Held(world.numbers)
    if client.held and choice < 0.4:
        held = client.held[rng.randrange(len(client.held))]
        return _settlement(rng, held, script), held
    if script.orders and choice < 0.47:
        return Request(KEY, clear=(rng.choice(script.limits).name,)), new
    if script.orders and choice < 0.55:
        return Request(KEY, (Charge(rng.choice(script.limits), -rng.randint(1, 8)),), forced=True), new
    charges = [Charge(limit, rng.choice((0, 1, 1, rng.randint(0, limit.capacity)))) for limit in script.limits]
    wait = rng.choice((0, 0, HOUR))
    return Request(KEY, tuple(rng.sample(charges, rng.randint(1, len(charges)))), deadline=now + wait), new


def _settlement(rng: Random, held: Held, script: Script) -> Request:
    charges, refunds = [], []
    for identity, allocation in tuple(held.allocations.items()):
        choice = rng.random()
        if script.forced and choice < 0.3:
            charges.append(Charge(allocation.limit, rng.randint(1, allocation.limit.capacity)))
        elif choice < 0.8 and allocation.units:
            held.allocations[identity], refund = allocation.release(rng.randint(1, allocation.units))
            if refund.cost:
                refunds.append(refund)
    return Request(KEY, tuple(charges), tuple(refunds), forced=True)
