"""A world of clients that share one bucket, to fuzz `core.plan.plan` in, and the log from which its promises are judged.

Every client plans against the last state it saw, however old, as the committer does, and the store applies an update if it
holds. The judge knows nothing of `since` or `booked`: it has who was told to go when, what was given back, and how far ahead
the bucket stood before and after. All times are nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from limiter.core import plan as planning
from limiter.core.allocation import Allocation
from limiter.core.headroom import reserves
from limiter.core.limits import Limit, gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.state import EMPTY
from limiter.core.units import DAY, HOUR, NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from limiter.core.plan import Plan
    from limiter.core.request import Receipt
    from limiter.core.state import BucketState, Update

KEY = BucketKey("default", "user", "api")
EPOCH = 1_800_000_000 * NANOSECONDS
STEPS_A_BATCH = 6
SECOND = NANOSECONDS


class PromiseBroken(AssertionError):
    """The bucket, or its slots, broke a promise of the design."""


def promise(kept: bool, what: str) -> None:
    """Raise `PromiseBroken`, which no other assertion does, unless the promise is kept."""
    if not kept:
        raise PromiseBroken(what)


@dataclass(slots=True, eq=False)
class Taking:
    """The units of one limit that one allowed request consumed. They count at `time`, unless the request was cancelled before."""

    receipt: Receipt
    time: int
    order: int
    period: int
    forced: bool
    cancelled: bool = False
    bound: int = 0

    @property
    def name(self) -> str:
        """The limit's identity."""
        return self.receipt.limit.identity

    @property
    def place(self) -> tuple[int, int]:
        """Position in the order of the writes."""
        return self.order, self.receipt.tat

    @property
    def cost(self) -> int:
        """The cost of the units, in nanoseconds."""
        return self.receipt.cost

    @property
    def window(self) -> int:
        """How far ahead of its clock the limit may be, in nanoseconds: less with headroom, more for an oversize request."""
        return self.bound or self.receipt.limit.window


@dataclass(frozen=True, slots=True)
class Giving:
    """The refund of one limit in one update, of requests that had started."""

    name: str
    amount: int
    time: int
    order: int


@dataclass(slots=True, eq=False)
class Admission:
    """An allowed request, and what its caller holds: takings by limit, and the allocation that a lease would have."""

    grant: Grant
    settled: bool = False
    takings: dict[str, list[Taking]] = field(default_factory=dict)
    allocations: dict[str, Allocation] = field(default_factory=dict)

    def add(self, takings: Iterable[Taking]) -> None:
        """Record consumed units."""
        for each in takings:
            self.takings.setdefault(each.name, []).append(each)
            self.allocations[each.name] = self.allocations.get(each.name, Allocation(each.receipt.limit)).add(each.receipt)


@dataclass(slots=True, eq=False)
class Call:
    """A request in progress, and the admission that it settles or cancels, if any."""

    request: Request
    admission: Admission | None = None

    def refunded(self, name: str) -> int:
        """Return the refund of one limit that the call requests."""
        return sum(refund.cost for refund in self.request.refunds if refund.limit.identity == name)

    def takings(self, name: str) -> list[Taking]:
        """Return the takings to which the call's refunds of one limit belong."""
        return self.admission.takings.get(name, []) if self.admission and self.refunded(name) else []


class World:
    """The store, the clock and the log."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.state = EMPTY
        self.order = 0
        self.periods: dict[str, int] = {}
        self.takings: list[Taking] = []
        self.givings: list[Giving] = []
        self.updates: list[Update] = []
        self.limits: set[Limit] = set()
        self.taken: dict[str, int] = {}
        self.births = 0
        self.skewed = False

    def period(self, name: str) -> int:
        """Return the number of a limit's busy period; call it before every write, because a full limit begins a new one."""
        if self.state.level(name).tat <= self.now:
            self.periods[name] = self.periods.get(name, 0) + 1
        return self.periods.get(name, 0)

    def pending(self, name: str) -> list[Taking]:
        """Return the takings whose callers still wait for their turn."""
        return [each for each in self.takings if each.name == name and each.time > self.now and not each.cancelled]

    def write(self, update: Update) -> bool:
        """Apply an update if its condition holds."""
        self.updates.append(update)
        before = self.state
        if not update.holds(before):
            return False
        self.state = update.apply(before)
        self.order += 1
        latest = max((level.tat for level in self.state.levels.values()), default=0)
        promise(self.state.ttl * NANOSECONDS >= latest, "no item expires before its bucket is full")
        for identity in set(self.state.levels) - set(before.levels):
            self._judge_birth(identity, before)
        return True

    def _judge_birth(self, identity: str, before: BucketState) -> None:
        """Check that a new account owes what the name's other accounts have used, for no longer than the one it inherits from."""
        if self.skewed:
            return
        limits = [limit for limit in self.limits if limit.identity == identity]
        spans = [limit.window for limit in limits]
        lag = self.state.level(identity).tat - self.now
        name, others = identity.rpartition("|")[0], {*before.levels, *self.state.levels} - {identity}
        siblings = [each for each in others if each.rpartition("|")[0] == name]
        # The batch's own takings count, even if the batch refunds others.
        tats = {each: max(before.level(each).tat, self.now) + self.taken.get(each, 0) for each in siblings}
        ahead = [max(tat, self.state.level(each).tat) - self.now for each, tat in tats.items()]
        self.births += any(ahead)
        # What the same write consumes is added; the least that is left out of it is nothing.
        taken = sum(each for name, each in self.taken.items() if name == identity)
        promise(lag - taken <= min(max(ahead, default=0), max(spans)), "a newborn owes for no longer than its name did")
        if any(mark.name == name for mark in self.updates[-1].marks):
            # Otherwise its writer still knew it as full, and it had left for that reason.
            promise(lag - taken >= self._least_inherited(limits, siblings, before), "a newborn owes what its name has used")

    def _least_inherited(self, limits: Sequence[Limit], siblings: Sequence[str], before: BucketState) -> int:
        """What a newborn owes at least: the units that the largest of its name has used, as far as any of its limits has them."""
        least = 0
        for identity in siblings:
            span = max(0, before.level(identity).tat - self.now)
            amount, period = (int(each) for each in identity.rpartition("|")[2].split("/"))
            used = -(-span * amount // (period * NANOSECONDS))
            least = max(least, min(min(gcra.cost(limit, min(used, limit.capacity)) for limit in limits), span))
        return least

    def delete_when_full(self) -> None:
        """Delete the item, as TTL may do at any moment after every `tat`."""
        if all(level.tat <= self.now for level in self.state.levels.values()):
            self.state = EMPTY

    def judge(self) -> None:
        """Judge every interval of every limit."""
        for name in {taking.name for taking in self.takings}:
            takings = [each for each in self.takings if each.name == name and not each.cancelled]
            givings = [each for each in self.givings if each.name == name]
            windows = {taking.window for taking in takings}
            if len(windows) > 1:
                _judge_mixed_spans(takings, givings)
                for window in windows if not givings else ():
                    # Who leaves room, or has less, is held to that together with the others of its class.
                    _judge_class([each for each in takings if each.window <= window and not each.forced], window)
                continue
            _judge_spans([each for each in takings if not each.forced], givings)
            for last in takings:
                if not last.forced:
                    earlier = [each for each in takings if each.place <= last.place and each.time <= last.time]
                    _judge_spans(earlier, [each for each in givings if each.order < last.order and each.time <= last.time], last)
            if not givings:
                _judge_units([each for each in takings if not each.forced])


def _judge_spans(takings: Sequence[Taking], givings: Sequence[Giving], last: Taking | None = None) -> None:
    """Check that in every interval takings minus refunds are at most the window plus the interval; or up to `last`."""
    events = [(each.time, each.order, 0, each.cost, each) for each in takings]
    events += [(each.time, each.order, 1, -each.amount, None) for each in givings]
    level = then = 0
    for time, _, _, amount, taking in sorted(events, key=lambda event: event[:3]):
        level = max(0, level - (time - then)) + amount
        then = time
        if taking is not None and not taking.forced and last in (None, taking):
            what = "what is admitted in a span" if last is None else "what is admitted on top of a debt"
            promise(level <= taking.window, f"{what} is at most the window and the span")


def _judge_class(takings: Sequence[Taking], window: int) -> None:
    level = then = 0
    for taking in sorted(takings, key=lambda each: (each.time, each.order)):
        level = max(0, level - (taking.time - then)) + taking.cost
        then = taking.time
        promise(level <= window, "each class is held to its own window and the span")


def _judge_mixed_spans(takings: Sequence[Taking], givings: Sequence[Giving]) -> None:
    """Check the same with the largest window in the interval."""
    events = [(each.time, each.order, 0, each.cost, each.window) for each in takings if not each.forced]
    events += [(each.time, each.order, 1, -each.amount, 0) for each in givings]
    events.sort()
    for index, (first, *_) in enumerate(events):
        total = window = 0
        for time, _, _, amount, own in events[index:]:
            total, window = total + amount, max(window, own)
            promise(total <= window + time - first, "what is admitted in a span is at most its largest window and the span")


def _judge_units(takings: Sequence[Taking]) -> None:
    """Check that in every interval at most the capacity, the refill, and one unit for rounding are consumed."""
    level = then = 0
    for taking in sorted(takings, key=lambda each: (each.time, each.order)):
        limit = taking.receipt.limit
        level = max(0, level - (taking.time - then) * limit.refill_amount) + taking.receipt.units * limit.period_ns
        then = taking.time
        most = max(limit.capacity, taking.receipt.units)  # An oversize request is allowed from a full bucket.
        promise(level <= (most + 1) * limit.period_ns, "in units it is at most capacity + rate × span + 1")


class Client:
    """One process: the last state it saw, and what its callers hold. Its clock is `offset` nanoseconds off."""

    def __init__(self, world: World, name: str, offset: int = 0) -> None:
        self.world = world
        self.name = name
        self.offset = offset
        self.state = EMPTY
        self.seen = False
        self.held: list[Admission] = []
        self.stamps = 0

    def forget(self) -> None:
        """Treat the bucket as empty, as one that was never seen."""
        self.state, self.seen = EMPTY, False

    def submit(self, calls: Sequence[Call]) -> list[Grant | Refusal]:
        """Decide a batch as the committer does, and record what happens."""
        outcomes: dict[int, Grant | Refusal] = {}
        fresh = not self.seen and any(call.request.refunds for call in calls)
        if fresh:
            # The value of a refund depends on the state, so a bucket that was never seen is read first.
            self.state = self.world.state
        steps = writes = 0
        while waiting := [place for place in range(len(calls)) if place not in outcomes]:
            steps += 1
            promise(steps <= STEPS_A_BATCH, "a batch comes to an end")
            self.stamps += 1
            batch = [calls[place] for place in waiting]
            plan = planning.plan(
                self.state,
                [call.request for call in batch],
                self.world.now + self.offset,
                f"{self.name}-{self.stamps}",
                fresh=fresh,
            )
            self._judge_plan(batch, plan)
            decided: dict[int, Grant | Refusal] = {}
            if fresh:
                decided |= plan.refused
            if plan.update is not None:
                writes += 1
                decided |= self._write(batch, plan, plan.update)
                fresh = True
            elif fresh:
                decided |= plan.grants(self.state)
            else:
                self.state, fresh = self.world.state, True
            self.seen |= fresh
            outcomes |= {waiting[place]: outcome for place, outcome in decided.items()}
        promise(len(calls) > 1 or writes <= 2, "one request takes at most two writes while no other client writes")
        return [outcomes[place] for place in range(len(calls))]

    def _judge_plan(self, batch: Sequence[Call], plan: Plan) -> None:
        if len(plan.refused) == len(batch):
            promise(plan.update is None or bool(plan.update.marks), "a refusal writes nothing but births")
        if plan.update is None:
            return
        for _, _, low, high, _ in plan.update.conditions:
            promise(low is None or high is None or low <= high, "a condition's bounds are in order, as engines demand")
        changed = [change[:2] for change in plan.update.changes]
        promise(len(changed) == len(set(changed)), "an attribute is changed once in an update, as engines demand")

    def _write(self, batch: Sequence[Call], plan: Plan, update: Update) -> dict[int, Grant]:
        world = self.world
        known = self.state == world.state
        names = {charge.limit.identity for call in batch for charge in call.request.charges}
        names |= {refund.limit.identity for call in batch for refund in call.request.refunds}
        periods = {name: world.period(name) for name in names}
        before = world.state
        world.limits |= {charge.limit for call in batch for charge in call.request.charges}
        world.taken = {identity: account.total for identity, account in plan.accounts.items()}
        applied = world.write(update)
        promise(applied or not known, "an update that was planned on the present state is applied")
        self.state = world.state
        if not applied:
            promise(world.state == before, "an update that does not hold changes nothing")
            return {}
        grants = plan.grants(self.state)
        carried = [batch[place] for place in grants]
        taken = [self._enter(batch[place], grant, periods) for place, grant in grants.items()]
        if not self.offset:
            for name in names:
                self._judge_limit(name, before, [each for takings in taken for each in takings if each.name == name], carried)
        return grants

    def _enter(self, call: Call, grant: Grant, periods: dict[str, int]) -> list[Taking]:
        """Record one admission."""
        forced = call.request.forced
        takings = [
            Taking(
                receipt,
                grant.now if forced else max(grant.now, receipt.start),
                self.world.order,
                periods[receipt.limit.identity],
                forced,
                bound=_bound(call.request, place),
            )
            for place, receipt in enumerate(grant.receipts)
        ]
        self.world.takings += [each for each in takings if each.cost]
        promise(not call.request.headroom or grant.start <= grant.now, "a caller with headroom books nothing")
        if call.request.charges and not forced:
            promise(grant.start <= max(grant.now, call.request.deadline), "no caller waits for longer than agreed")
            call.admission = Admission(grant)
            self.held.append(call.admission)
        if call.admission is not None:
            call.admission.add(takings)
        return takings

    def _judge_limit(self, name: str, before: BucketState, taken: Sequence[Taking], carried: Sequence[Call]) -> None:
        """Judge what an update consumed and refunded of one limit."""
        world = self.world
        now, after = world.now, world.state.level(name).tat
        total = sum(each.cost for each in taken)
        tat = max(now, before.level(name).tat) if total else before.level(name).tat
        if name not in before.levels and name in world.state.levels:
            tat = after - total
            promise(tat >= now, "an account begins no earlier than now")
        given = tat + total - after
        wanted = sum(call.refunded(name) for call in carried)
        promise(0 <= given <= wanted, "a bucket moves by what was taken and what was given back")
        tops = sorted(each.receipt.tat for each in taken if each.cost)
        promise(not tops or tops[-1] == tat + total, "receipts tell where they left the bucket")
        effective = max(now, tat + total) - max(now, after)
        period = world.periods.get(name, 0)
        alive = sum(min(call.refunded(name), sum(e.cost for e in call.takings(name) if e.period == period)) for call in carried)
        promise(effective <= alive, "nothing is given back that was taken before the bucket was full")
        self._judge_giving(name, tat + total, effective, alive, [each for call in carried for each in call.takings(name)])

    def _judge_giving(self, name: str, full: int, effective: int, alive: int, returned: Sequence[Taking]) -> None:
        world = self.world
        whole = max(0, min(alive, full - world.now))
        written = [each for each in world.takings if each.name == name]
        if all(each.time <= world.now for each in written):
            promise(effective == whole, "without pending bookings a refund is whole")
        last = max(written, key=lambda each: each.place, default=None)
        if last in returned and last.time > world.now and len(returned) == 1 and len({each.window for each in written}) == 1:
            promise(effective == whole, "the latest booking is given back whole")
        cancelled = [each for each in returned if each.time > world.now]
        for each in cancelled:
            each.cancelled = True
        if effective:
            built_on = max((each.receipt.tat for each in world.pending(name) if not each.forced), default=0)
            promise(world.state.level(name).tat >= built_on, "nothing is given back that a pending booking was built on")
            started = min(effective, sum(each.cost for each in returned if not each.cancelled))
            if started:
                world.givings.append(Giving(name, started, world.now, world.order))


@dataclass(frozen=True, slots=True)
class Script:
    """Which events may happen in a world."""

    clients: int = 3
    steps: int = 30
    bookings: bool = True
    refunds: bool = True
    debts: bool = True
    overrides: bool = False
    rates: bool = False
    expiry: bool = False
    offsets: int = 0
    headroom: bool = False
    oversize: bool = False
    orders: bool = False


def _bound(request: Request, place: int) -> int:
    """How far ahead a limit may stand after a request, by arithmetic of its own; 0 for as far as its window."""
    limit, units = request.charges[place]
    if request.forced or not units:
        return 0
    if request.oversize:
        return max(limit.window, gcra.cost(limit, units))  # type: ignore[attr-defined, arg-type] # a rate
    return limit.window - request.headroom[place] if request.headroom else 0  # type: ignore[attr-defined] # a rate


def play_seed(seed: int, script: Script) -> World:
    """Play a script at random, in the same way for the same seed."""
    return play(Random(seed), script)  # noqa: S311 - no secret


def play(rng: Random, script: Script) -> World:
    """Play a script at random, and judge the result."""
    world = World()
    world.skewed = bool(script.offsets)
    players = [Client(world, f"client{index}", rng.randint(-script.offsets, script.offsets)) for index in range(script.clients)]
    limits = [draw_limit(rng, name) for name in "abc"[: rng.randint(1, 3)]]
    rivals = (
        {limit.name: [draw_limit(rng, limit.name) for _ in range(rng.randint(1, 3))] for limit in limits} if script.rates else {}
    )
    for _ in range(script.steps):
        if rng.random() < 0.4:
            move(rng, world, limits, expiry=script.expiry)
        player = rng.choice(players)
        if rng.random() < 0.05:
            player.forget()
        own = [redraw_limit(rng, limit) for limit in limits] if script.overrides and rng.random() < 0.6 else limits
        if script.rates:
            own = [rng.choice((limit, *rivals[limit.name])) for limit in limits]
        calls = [draw_call(rng, player, own, script) for _ in range(rng.choice((1, 1, 2, 3)))]
        busy = [call.admission for call in calls if call.admission is not None]
        if calls and len(busy) == len(set(map(id, busy))):
            player.submit(calls)
    world.judge()
    return world


def draw_limit(rng: Random, name: str) -> Limit:
    """Draw a limit whose unit costs between one nanosecond and minutes."""
    capacity, amount = rng.randint(1, 5), rng.randint(1, 4)
    period = rng.choice((rng.randint(amount, 12) / NANOSECONDS, 1.0, 60.0, DAY))
    return Limit(name, capacity, amount, period)


def redraw_limit(rng: Random, limit: Limit) -> Limit:
    """Draw the same limit with other numbers."""
    return Limit(limit.name, rng.randint(1, 9), limit.refill_amount, limit.refill_period)


def move(rng: Random, world: World, limits: Sequence[Limit], *, expiry: bool) -> None:
    """Let time pass: to or near a moment that matters, by a little, or by a lot; and let TTL delete at times."""
    limit = rng.choice(limits)
    level = world.state.level(limit.identity)
    edge = rng.choice((level.tat, level.booked, level.tat - limit.window)) + rng.choice((-1, 0, 0, 1))
    unit = gcra.cost(limit, 1)
    passing = rng.choice((edge - world.now, edge - world.now, 1, unit, rng.randint(0, unit), rng.randint(0, limit.window)))
    if rng.random() < 0.05:
        passing = round(rng.choice((HOUR, DAY, 40 * DAY)) * NANOSECONDS)
    world.now += max(0, passing)
    if expiry and rng.random() < 0.2:
        world.delete_when_full()


def draw_call(rng: Random, player: Client, limits: Sequence[Limit], script: Script) -> Call:
    """Draw something that a limiter may ask of the bucket."""
    choice = rng.random()
    if player.held and choice < 0.5:
        admission = player.held[rng.randrange(len(player.held))]
        if script.refunds and choice < 0.25:
            player.held.remove(admission)
            waits = admission.grant.start > player.world.now
            return withdrawal(admission) if waits or (not admission.settled and rng.random() < 0.7) else refund(admission)
        if admission.grant.start <= player.world.now and (script.refunds or script.debts):
            return settlement(rng, admission, script)
    return taking(rng, player.world.now, limits, script)


def taking(rng: Random, now: int, limits: Sequence[Limit], script: Script) -> Call:
    """Draw an acquire of some of the limits, zero amounts included, with a short or long timeout."""
    charges = [Charge(limit, rng.choice((1, 1, rng.randint(0, limit.capacity)))) for limit in limits if rng.random() < 0.8]
    charges = charges or [Charge(limits[0], 1)]
    if script.oversize and rng.random() < 0.25:
        charges = [each._replace(units=rng.choice((each.units, 2 * each.limit.capacity + 1))) for each in charges]
        patience = rng.choice((0, 0, 3 * max(gcra.cost(*each) for each in charges)))  # type: ignore[arg-type] # rates
        return Call(Request(KEY, tuple(charges), deadline=now + patience, oversize=True))
    if script.headroom and rng.random() < 0.5:
        kept = reserves(charges, rng.choice((0.2, 0.5, 0.9)))
        return Call(Request(KEY, tuple(charges), deadline=now + rng.choice((0, SECOND)), headroom=kept))
    longest = max(charge.limit.window for charge in charges)
    patience = rng.choice((0, rng.randint(0, longest), 3 * longest)) if script.bookings else 0
    return Call(Request(KEY, tuple(charges), deadline=now + patience))


def withdrawal(admission: Admission) -> Call:
    """Draw what a cancelled caller sends: everything its grant consumed."""
    receipts = admission.grant.receipts
    refunds = tuple(each.refund() for each in receipts if each.cost)
    return Call(Request(KEY, refunds=refunds), admission)


def refund(admission: Admission) -> Call:
    """Draw what a lease sends at the end of a failed block: everything that it holds."""
    refunds = []
    for name, held in admission.allocations.items():
        admission.allocations[name], refund = held.release(held.units)
        refunds.append(refund)
    return Call(Request(KEY, refunds=tuple(refund for refund in refunds if refund.cost), forced=True), admission)


def settlement(rng: Random, admission: Admission, script: Script) -> Call:
    """Draw a correction: a lease consumes more of each limit, refunds some of it, or leaves it."""
    charges, refunds, admission.settled = [], [], True
    for name, held in tuple(admission.allocations.items()):
        choice = rng.random()
        if script.debts and choice < 0.4:
            charges.append(Charge(held.limit, rng.randint(1, 2 * held.limit.capacity)))
        elif script.refunds and choice < 0.8 and held.units:
            admission.allocations[name], refund = held.release(rng.randint(1, held.units))
            if refund.cost:
                refunds.append(refund)
    return Call(Request(KEY, tuple(charges), tuple(refunds), forced=True), admission)
