"""A world of processes that share one bucket's slots, played by chance, and a recorder that judges what they hold.

The processes use the library's rules (`plan` and `SlotLedger`); the table, the network and the clocks are played here. Requests
arrive late, twice or never, answers are lost, processes are killed, stopped and started again, clocks are off and drift. The
recorder knows nothing of entries: it has who was told to hold a slot, and until when that process believes so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.bucket_world import EPOCH, KEY, SECOND, promise

from limiter import Concurrency
from limiter.core import plan as planning
from limiter.core.request import Charge, Refund, Request
from limiter.core.slot_ledger import SlotLedger
from limiter.core.slots import count_of, until_of
from limiter.core.state import EMPTY

if TYPE_CHECKING:
    from random import Random

    from limiter.core.plan import Plan
    from limiter.core.request import Receipt
    from limiter.core.state import BucketState, Update

NAME = "calls"
LOST = 0.15
"""The part of the answers that are lost on their way."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: the limit, how many processes at once, for how many steps, and by how many seconds clocks may be off."""

    capacity: int = 4
    ttl: float = 60.0
    processes: int = 4
    steps: int = 400
    error: int = 10 * SECOND
    deletes: bool = True


@dataclass(slots=True, eq=False)
class Lease:
    """Slots that a caller was told to hold."""

    units: int
    generation: int
    fence: int


@dataclass(slots=True, eq=False)
class Sent:
    """A write on its way, and its answer once it has arrived."""

    process: Process
    plan: Plan
    update: Update
    leased: int = 0
    answer: tuple[bool, BucketState] | None = None
    copies: int = 1


class World:
    """The table, true time, and the recorder."""

    def __init__(self, rng: Random, script: Script) -> None:
        self.rng = rng
        self.script = script
        self.limit = Concurrency(NAME, script.capacity, ttl=script.ttl)
        self.time = EPOCH
        self.state = EMPTY
        self.processes: list[Process] = []
        self.network: list[Sent] = []
        self.updates: list[Update] = []
        self.applied: set[str] = set()
        self.fences: list[int] = []
        self.counts = dict.fromkeys(("writes", "handed", "evicted", "lost answers", "lost leases", "covered"), 0)
        self.born = 0

    def write(self, update: Update) -> tuple[bool, BucketState]:
        """Apply an update if it holds, as an engine does."""
        before = self.state
        self.updates.append(update)
        if not update.holds(before):
            return before.stamp == update.stamp, before
        self.state = update.apply(before)
        self.applied.add(update.stamp)
        self.counts["writes"] += 1
        self.counts["evicted"] += sum(len(each.dead) for each in update.slots)
        self.judge_item()
        return True, self.state

    def judge_item(self) -> None:
        """The number held in all is the sum of the entries, and the item outlives them."""
        entries = self.state.slots.entries.get(NAME, {})
        held = self.state.slots.held.get(NAME, 0)
        promise(held == sum(map(count_of, entries.values())), "held in all is the sum of the entries")
        latest = max([until_of(entry) for entry in entries.values()], default=0)
        promise(self.state.ttl * SECOND >= latest, "the item outlives its entries")

    def judge(self, told: Lease | None = None) -> None:
        """Those who believe that they hold a slot, and who was `told` so just now, are never more than there are slots."""
        leases = [lease for each in self.processes for lease in each.believed()]
        working = sum(lease.units for lease in leases) + (0 if told is None or told in leases else told.units)
        promise(working <= self.script.capacity, "no more slots are held at once than there are")

    def delete_if_over(self) -> None:
        """Delete the item once its time to live has passed, as the table does."""
        if 0 <= self.state.ttl * SECOND < self.time:
            self.state = EMPTY

    def note_grant(self, fence: int) -> None:
        """Enter the number of a new grant."""
        promise(fence not in self.fences, "no two grants have the same number")
        if self.script.capacity == 1:
            promise(fence > max(self.fences, default=0), "numbers grow in time where there is one slot")
        self.fences.append(fence)


class Process:
    """One process: its clocks, what it knows, and its callers' leases."""

    def __init__(self, world: World) -> None:
        rng, script = world.rng, world.script
        self.world = world
        self.error = rng.choice((0, script.error // 10, script.error))
        self.offset = rng.randint(-self.error, self.error)
        self.drift = rng.randint(-400, 400)
        self.ledger = SlotLedger(f"p{world.born:07}")
        world.born += 1
        self.state = EMPTY
        self.seen = 0
        self.fresh = False
        self.stamps = 0
        self.sent: Sent | None = None
        self.unknown: Sent | None = None
        self.stopped_until = 0
        self.jump = 0
        self.leases: list[Lease] = []
        self.held_back: list[Receipt] = []

    @property
    def now(self) -> int:
        """The table's time as the process knows it."""
        return self.world.time + self.offset + self.jump

    @property
    def mono(self) -> int:
        """The process's monotonic time."""
        passed = self.world.time - EPOCH
        return passed + passed * self.drift // 1_000_000

    @property
    def generation(self) -> int:
        """The generation of the leases that the process can still have."""
        own = self.ledger.side(0, 0).own.get(NAME)
        return 1 if own is None else own.generation

    def believed(self) -> list[Lease]:
        """The leases whose callers have no way to know that they are lost."""
        return [lease for lease in self.leases if not self.ledger.is_lost(NAME, lease.generation, self.now, self.mono)]

    def step(self) -> None:
        """Do one thing."""
        rng = self.world.rng
        choice = rng.random()
        if choice < 0.3 and self.leases:
            self.release()
        elif choice < 0.5:
            self.take_over()
        elif self.sent is not None:
            self.wait()
        elif self.unknown is not None:
            unknown, self.unknown = self.unknown, None
            self.recover(unknown)
        elif choice < 0.58:
            self.look()
        else:
            self.send()

    def release(self) -> None:
        """End a lease, or a part of it; or find that it is lost."""
        lease = self.world.rng.choice(self.leases)
        units = self.world.rng.randint(1, lease.units)
        self.ledger.release((Refund(self.world.limit, units, lease.generation),), self.mono)
        lease.units -= units
        if not lease.units:
            self.leases.remove(lease)

    def take_over(self) -> None:
        """Have a caller take a slot that is spare in the process."""
        receipts = self.ledger.hand_over((Charge(self.world.limit, 1),), self.state, self.now, self.mono)
        for receipt in receipts or ():
            self.world.counts["handed"] += 1
            self.hold(receipt, handed=True)

    def hold(self, receipt: Receipt, *, handed: bool = False) -> None:
        """Enter that a caller holds slots."""
        lease = Lease(receipt.cost, receipt.since, receipt.earlier)
        self.leases.append(lease)
        # An answer may come so late that a lease is lost from the beginning, and says so.
        if not self.ledger.is_lost(NAME, receipt.since, self.now, self.mono) or handed:
            self.world.note_grant(receipt.earlier)
            self.world.judge(lease)

    def look(self) -> None:
        """Read the bucket."""
        self.learn(self.world.state)

    def learn(self, state: BucketState, applied: Sent | None = None) -> None:
        """Keep a state that an answer has shown, which sets the clock too; a write that was `applied` has granted its slots."""
        self.jump = 0
        self.state, self.seen, self.fresh = state, self.now, True
        covered = applied is not None and state.stamp != applied.update.stamp
        grants = {} if applied is None else applied.plan.grants(state)
        taken = [receipt for grant in grants.values() for receipt in grant.receipts if receipt.cost]
        self.ledger.learn(state.slots, self.mono, taken, () if applied is None or covered else applied.update.slots)
        lost = [lease for lease in self.leases if self.ledger.is_lost(NAME, lease.generation, self.now, self.mono)]
        self.world.counts["lost leases"] += len(lost)
        if applied is not None:
            self.tell(taken, covered=covered)

    def send(self) -> None:
        """Plan a batch and send its write."""
        rng = self.world.rng
        asked = [rng.randint(1, 2) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
        requests = [Request(KEY, (Charge(self.world.limit, units),)) for units in asked if units <= self.world.script.capacity]
        self.stamps += 1
        side = self.ledger.side(self.seen, self.mono, draws=bool(self.held_back))
        plan = planning.plan(
            self.state, requests, self.now, f"{self.ledger.holder}-{self.stamps}", error=self.error, fresh=self.fresh, slots=side
        )
        if plan.update is None:
            if self.fresh and not asked:
                self.deliver(numbered=False)
            return
        if not self.ledger.start(plan.update, self.mono):
            return
        leased = sum(lease.units for lease in self.leases if lease.generation == self.generation)
        leased += sum(receipt.cost for receipt in self.held_back if receipt.since == self.generation)
        self.sent = Sent(self, plan, plan.update, leased, copies=rng.choice((1, 1, 1, 1, 1, 1, 2, 0)))
        self.world.network.append(self.sent)

    def wait(self) -> None:
        """Take the answer if it has come; else, now and then, give up on it."""
        sent = self.sent
        if sent is None:
            return
        if sent.answer is not None and self.world.rng.random() >= LOST:
            self.sent = None
            self.answer(sent, *sent.answer)
        elif sent.answer is not None or self.world.rng.random() < 0.1:
            self.world.counts["lost answers"] += 1
            self.ledger.doubt(sent.update)
            self.sent = None
            self.unknown = sent if self.world.rng.random() < 0.8 else None

    def recover(self, sent: Sent) -> None:
        """Find out by a read what became of a write, as a batch does."""
        state = self.world.state
        shown = self.ledger.verdict(sent.update, state.slots, self.now, self.mono)
        verdict = bool(shown) or state.has_stamp(sent.update.stamp)
        applied = sent.update.stamp in self.world.applied
        promise(applied or not verdict, "no caller is told of a write that was not applied")
        promise(verdict or shown is None or not applied, "no write is made again that was applied")
        self.learn(state, sent if verdict else None)

    def answer(self, sent: Sent, applied: bool, state: BucketState) -> None:
        """Take an answer."""
        if not applied:
            self.ledger.fail(sent.update)
        if applied:
            own = count_of(state.slots.entry(NAME, self.ledger.holder))
            taken = sum(each.taken for each in sent.update.slots)
            promise(not sent.update.slots or own == sent.leased + taken, "an entry counts the leases, and nothing else")
        self.learn(state, sent if applied else None)

    def tell(self, taken: list[Receipt], *, covered: bool) -> None:
        """Tell the callers of an applied write; if others have written since, once numbers were drawn for them."""
        if covered:
            self.world.counts["covered"] += len(taken)
            self.held_back += taken
            return
        for receipt in taken:
            self.hold(receipt)
        self.deliver(numbered=True)

    def deliver(self, *, numbered: bool) -> None:
        """Tell the callers whose grant was held back."""
        told, self.held_back = self.held_back, []
        for receipt in told:
            self.hold(self.ledger.numbered(receipt) if numbered else receipt)


def play(rng: Random, script: Script) -> World:
    """Let chance act, and judge every step."""
    world = World(rng, script)
    for _ in range(script.steps):
        while len(world.processes) < script.processes:
            world.processes.append(Process(world))
        _act(rng, world)
        world.judge()
    return world


def _act(rng: Random, world: World) -> None:
    choice = rng.random()
    ttl = int(world.script.ttl * SECOND)
    process = rng.choice(world.processes)
    if choice < 0.3:
        long = rng.choice((ttl // 6, ttl // 3, rng.randint(0, ttl), ttl if rng.random() < 0.95 else 4_000 * SECOND))
        world.time += long if rng.random() < 0.1 else rng.choice((1, SECOND // 1_000, SECOND // 10, SECOND))
    elif choice < 0.305:
        world.processes.remove(process)
    elif choice < 0.31:
        process.stopped_until = world.time + rng.randint(0, 2 * ttl)
    elif choice < 0.315:
        process.jump = rng.randint(0, 2 * ttl)
    elif choice < 0.32 and world.script.deletes:
        world.delete_if_over()
    elif choice < 0.55 and world.network:
        _deliver(rng, world)
    elif process.stopped_until <= world.time:
        process.step()


def _deliver(rng: Random, world: World) -> None:
    """Have a request arrive, in any order; some are lost, some arrive twice."""
    sent = world.network.pop(rng.randrange(len(world.network)))
    if sent.copies <= 0:
        return
    result = world.write(sent.update)
    sent.answer = sent.answer or result
    sent.copies -= 1
    if sent.copies:
        world.network.append(sent)
