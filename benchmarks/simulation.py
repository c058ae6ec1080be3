"""A discrete-event model of many processes on one key: what one machine cannot measure.

The model, and what it assumes:

- The key lies in one partition, which serves 1,000 write units per second. It is a token bucket of a tenth of a second; DynamoDB
  may save up to five minutes of unused capacity, which a key under steady load does not have. A write that finds no unit is
  answered as throttled. A write whose condition fails costs a unit. Reads are free (their bound of 3,000 units is not modelled).
- A call takes 5 ms in the median, log-normal, half before the partition and half after. Clocks agree. Processes cost no CPU time.
- Each process follows the library's rules: one write in flight; everything queued rides on the next, at most 1,000; the bucket's
  mode (idle or busy) is guessed from the state last seen, and a wrong guess costs a second write; a state seen at most a second
  ago proves refusals; a throttled write is tried three times in all, 50 ms times 2 to the attempt and a random factor apart,
  and then its batch fails.
- `linger` is the least time between two writes of a process; later callers wait, also to be refused.
- With an `allotment` H a write may take units in advance, as many as the library's own `Sizing` says. They die H after the write
  was planned, what is not spent by then is lost, and every write plans with a window that is H shorter.
- `paced` processes keep the library's own `Pace`, so that the fleet keeps below 700 writes per second, and requests that queue in
  between join a write that is tried again. Within a second of a refusal, a write carries only that `part` of what seems to fit
  which the pace says, and a batch writes at most twice in a turn, otherwise four times. What does not fit behind the requests
  before it is refused by a fresh state. With an allotment, a process that needs more until its next turn than its part of what it
  saw free refuses until then what no block covers, and what the writes of the turn have not got. The library's longest interval
  is half of its decision timeout, so the model shows a timeout of 32 s. The other policies show what the library would be like
  without a pace.
- `excess` is what was spent beyond the capacity and what refills in any span, counted by a meter that knows no process.
- Callers arrive at random (Poisson), each asks for one unit once, and does not come back when it is refused or failed.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from limiter.core.allotment import Sizing, span
from limiter.core.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WRITE_UNITS_PER_SECOND = 1_000.0
SAVED_SECONDS = 0.1
ROUND_TRIP, ROUND_TRIP_SIGMA = 0.005, 0.25
ATTEMPTS, BACKOFF = 3, 0.05
MAX_BATCH = 1_000
DENIAL_TTL = 1.0
SCARCE = 1.0
WRITES_PER_KEY, LONGEST = 700.0, 16.0
AT_ONCE, IN_PLENTY = 2, 4


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet of processes: `per_process` and `in_all` are requests per second, one of which is given.

    The capacity is what `limit` units per second refill in `window` seconds. The bucket may begin `empty`, so that a run need not
    wait until its units are spent. `allotment` is that of policies with one, in seconds.
    """

    name: str
    limit: float
    per_process: float = 0.0
    in_all: float = 0.0
    window: float = 1.0
    empty: bool = False
    allotment: float = 0.5

    def rate(self, processes: int) -> float:
        """Return the requests per second of one process."""
        return self.per_process or self.in_all / processes


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings of a process that decide how it spends its writes."""

    name: str
    linger: float = 0.0
    allotted: bool = False
    paced: bool = False


FLEETS = (
    Fleet("each process asks 20/s, limit 10,000/s", 10_000.0, per_process=20.0),
    Fleet("all processes together ask 20,000/s, limit 10,000/s", 10_000.0, in_all=20_000.0),
    Fleet(
        "all processes together ask 20,000/s, limit 10,000/s, capacity of a minute",
        10_000.0,
        in_all=20_000.0,
        window=60.0,
        empty=True,
        allotment=5.0,
    ),
)
POLICIES = (
    Policy("plain"),
    Policy("linger 0.1 s", linger=0.1),
    Policy("paced", paced=True),
    Policy("paced, allotment", allotted=True, paced=True),
)


@dataclass(slots=True)
class Tally:
    """The counts after the warm-up."""

    admitted: int = 0
    refused: int = 0
    failed: int = 0
    writes: int = 0
    overtaken: int = 0
    throttled: int = 0
    excess: float = 0.0
    latencies: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Process:
    """One process's view of the key."""

    queue: deque[float] = field(default_factory=deque)
    batch: list[float] = field(default_factory=list)
    busy: bool = False
    fresh: bool = False
    seen: float = -math.inf
    denied: float = -math.inf
    turn: float = -math.inf
    level: float = 0.0
    failures: int = 0
    linger: float = 0.0
    written: int = 0
    wrote: float = -math.inf
    pace: Pace = field(default_factory=lambda: Pace(WRITES_PER_KEY, nanoseconds(LONGEST)))
    sizing: Sizing = field(default_factory=Sizing)
    ordered: bool = False
    blocks: deque[list[float]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Write:
    """A write under way: requests and units in advance that it carries, and the state that it asserts; times in seconds."""

    number: int
    block: int
    idle: bool
    ceiling: float
    planned: float
    toll: int


class Partition:
    """The bucket's `tat` in seconds, its count, and the write units that are left."""

    def __init__(self) -> None:
        self.tat = 0.0
        self.count = 0
        self._units = WRITE_UNITS_PER_SECOND * SAVED_SECONDS
        self._counted = 0.0

    def spend(self, now: float) -> bool:
        """Spend one write unit, if there is one."""
        saved = self._units + (now - self._counted) * WRITE_UNITS_PER_SECOND
        self._units, self._counted = min(WRITE_UNITS_PER_SECOND * SAVED_SECONDS, saved), now
        if self._units < 1.0:
            return False
        self._units -= 1.0
        return True


class Meter:
    """What was spent beyond a capacity and what refills, in any span: a leaky bucket that counts nothing else."""

    def __init__(self, capacity: float, rate: float, level: float) -> None:
        self._capacity = capacity
        self._rate = rate
        self._level = level
        self._seen = 0.0
        self.excess = 0.0

    def spend(self, now: float, units: int) -> None:
        """Count units that were spent at `now`."""
        self._level = max(0.0, self._level - (now - self._seen) * self._rate) + units
        self._seen = now
        self.excess = max(self.excess, self._level - self._capacity)


class Model:
    """One run: processes, the partition, and the events to come."""

    def __init__(self, fleet: Fleet, policy: Policy, processes: int, warm_up: float, seconds: float) -> None:
        self.policy = policy
        self.tally = Tally()
        self._cost = 1.0 / fleet.limit
        self._allotment = fleet.allotment if policy.allotted else 0.0
        self._window = fleet.window - self._allotment
        self._rate = fleet.rate(processes)
        self._warm_up, self._end = warm_up, warm_up + seconds
        self._now = 0.0
        self._random = random.Random(1)  # noqa: S311 - a model that is the same every time
        self._partition = Partition()
        self._partition.tat = self._window if fleet.empty else 0.0
        capacity = fleet.limit * fleet.window
        self._meter = Meter(capacity, fleet.limit, fleet.limit * self._partition.tat)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._processes = [Process(linger=policy.linger) for _ in range(processes)]

    def run(self) -> Tally:
        """Play all events until the end."""
        random.seed(1)  # The library's pace draws from it.
        for process in self._processes:
            self._after(self._random.expovariate(self._rate), self._arrive, process)
        while self._events and self._events[0][0] < self._end:
            self._now, _, happen, arguments = heapq.heappop(self._events)
            happen(*arguments)
        self.tally.excess = max(0.0, self._meter.excess)
        return self.tally

    def _after(self, delay: float, happen: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self._now + delay, next(self._order), happen, arguments))

    def _half_trip(self) -> float:
        return ROUND_TRIP / 2 * math.exp(self._random.gauss(0.0, ROUND_TRIP_SIGMA))

    def _count(self, name: str, number: int = 1) -> None:
        if self._now >= self._warm_up:
            setattr(self.tally, name, getattr(self.tally, name) + number)

    def _decide(self, name: str, arrivals: Sequence[float]) -> None:
        self._count(name, len(arrivals))
        if self._now >= self._warm_up:
            self.tally.latencies.extend(self._now - arrival for arrival in arrivals)

    def _arrive(self, process: Process) -> None:
        self._after(self._random.expovariate(self._rate), self._arrive, process)
        if self._allotment:
            process.sizing.observe(nanoseconds(self._now))
        process.queue.append(self._now)
        if not process.busy:
            self._pay(process)
            if not process.queue:
                return
        if self._now < process.turn:
            self._decide("refused", [process.queue.pop()])
            return
        if not process.busy:
            process.busy = True
            self._linger(process)

    def _pay(self, process: Process) -> None:
        """Pay for queued requests from the oldest blocks whose units may still be spent."""
        while process.blocks and process.queue:
            block = process.blocks[0]
            if block[1] <= self._now or not block[0]:
                process.blocks.popleft()
                continue
            block[0] -= 1
            self._meter.spend(self._now, 1)
            self._decide("admitted", [process.queue.popleft()])

    def _linger(self, process: Process) -> None:
        delay = self._delay(process)
        if delay > 0:
            self._after(delay, self._lead, process)
        else:
            self._lead(process)

    def _delay(self, process: Process) -> float:
        """Return the seconds until the process may write again."""
        if self.policy.paced:
            return process.wrote + process.pace.wait() / 1e9 - self._now
        return process.seen + process.linger - self._now

    def _lead(self, process: Process) -> None:
        process.batch = [process.queue.popleft() for _ in range(min(len(process.queue), MAX_BATCH))]
        process.fresh, process.failures, process.ordered, process.written = False, 0, False, 0
        self._step(process)

    def _step(self, process: Process) -> None:
        """Plan against the state last seen, and write what fits."""
        believed = max(process.level, self._now)
        room = int((self._now + self._window - believed) / self._cost + 1e-9)
        fitting = min(room, len(process.batch))
        if process.fresh or self._now - process.seen <= DENIAL_TTL:
            if process.batch[fitting:]:
                process.denied = self._now
            self._decide("refused", process.batch[fitting:])
            process.batch = process.batch[:fitting]
        if not process.batch:
            self._hand_over(process)
            return
        scarce = self._now - process.denied <= SCARCE
        if self.policy.paced and process.written >= (AT_ONCE if scarce else IN_PLENTY) and (delay := self._delay(process)) > 0:
            self._await_turn(process)
            if process.turn > self._now:
                self._decide("refused", [*process.batch, *process.queue])
                process.batch = []
                process.queue.clear()
                process.busy = False
                return
            self._after(delay, self._retry, process)
            return
        if not fitting:
            self._after(2 * self._half_trip(), self._look, process)
            return
        block = self._block(process, room - fitting)
        write = Write(
            self._carried(process, fitting),
            block,
            process.level <= self._now,
            self._now + self._window,
            self._now,
            process.pace.toll,
        )
        process.wrote = self._now
        process.written += 1
        self._count("writes")
        self._after(self._half_trip(), self._reach, process, write)

    def _carried(self, process: Process, fitting: int) -> int:
        """Return how many of the requests that seem to fit a write carries: fewer where units are scarce and writes defeated."""
        scarce = self.policy.paced and self._now - process.denied <= SCARCE
        return max(1, int(process.pace.part * fitting)) if scarce else fitting

    def _block(self, process: Process, room: int) -> int:
        """Return the units to take in advance, which each batch asks for once."""
        if not self._allotment or process.ordered:
            return 0
        process.ordered = True
        held = sum(units for units, until in process.blocks if until > self._now)
        return process.sizing.order(span(nanoseconds(self._allotment)), held, room)

    def _reach(self, process: Process, write: Write) -> None:
        """Let the write arrive at the partition."""
        partition = self._partition
        if not partition.spend(self._now):
            self._count("throttled")
            self._after(self._half_trip(), self._throttled, process)
            return
        after = max(partition.tat, self._now) + (write.number + write.block) * self._cost
        applied = write.idle == (partition.tat <= self._now) and after <= write.ceiling + 1e-9
        if applied:
            partition.tat = after
            self._meter.spend(self._now, write.number)
            partition.count += write.toll
        else:
            self._count("overtaken")
        self._after(self._half_trip(), self._answer, process, write, applied, (partition.tat, partition.count))

    def _answer(self, process: Process, write: Write, applied: bool, state: tuple[float, int]) -> None:
        level, count = state
        process.seen, process.level, process.fresh = self._now, level, True
        process.pace.note(count, nanoseconds(self._now), applied=applied)
        if applied:
            self._decide("admitted", process.batch[: write.number])
            process.batch = process.batch[write.number :]
        if write.block:
            process.sizing.note(write.block, granted=applied)
        if write.block and applied:
            process.blocks.append([write.block, write.planned + self._allotment])
            self._pay(process)
        if process.batch:
            self._step(process)
        else:
            self._hand_over(process)

    def _look(self, process: Process) -> None:
        process.seen, process.level, process.fresh = self._now, self._partition.tat, True
        self._step(process)

    def _throttled(self, process: Process) -> None:
        process.failures += 1
        process.pace.note_throttled(nanoseconds(self._now))
        if process.failures == ATTEMPTS and not self.policy.paced:
            self._decide("failed", process.batch)
            process.batch = []
            self._hand_over(process)
            return
        pause = BACKOFF * 2**process.failures / 2 * self._random.uniform(0.5, 1.5)
        self._after(max(0.0, self._delay(process)) if self.policy.paced else pause, self._retry, process)

    def _retry(self, process: Process) -> None:
        if self.policy.paced:
            process.batch += [process.queue.popleft() for _ in range(min(len(process.queue), MAX_BATCH - len(process.batch)))]
            process.fresh, process.written = False, 0
        self._step(process)

    def _await_turn(self, process: Process) -> None:
        """Refuse until the process's next turn what no block covers, if it needs more than its part of what it saw free."""
        span = process.pace.longest_wait
        if self._allotment and self.policy.paced and span:
            room = int((process.seen + self._window - max(process.level, process.seen)) / self._cost)
            if process.sizing.exceeds(room, span):
                process.turn = process.denied = min(process.wrote + span / 1e9, process.seen + self._allotment)

    def _hand_over(self, process: Process) -> None:
        self._await_turn(process)
        process.busy = bool(process.queue)
        if process.busy:
            # By a separate event, so that a long run of refusals does not nest.
            self._after(max(0.0, self._delay(process)), self._lead, process)


def nanoseconds(seconds: float) -> int:
    """Return a time of the model in the library's unit."""
    return int(seconds * 1e9)


def cases(fleet: Sequence[int]) -> Iterator[tuple[Fleet, Policy, int]]:
    """Yield every run of the model."""
    return itertools.product(FLEETS, POLICIES, fleet)


def turns(fleet: Sequence[int]) -> int:
    """Return how often `run` reports."""
    return len(list(cases(fleet)))


def run(sizes: Sequence[int], seconds: float, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every fleet under every policy, at every size, for so many seconds after a warm-up that is as long.

    Rates are per second of simulated time.
    """
    found = []
    for fleet, policy, processes in cases(sizes):
        tally = Model(fleet, policy, processes, seconds, seconds).run()
        found.append(figures(fleet, policy, processes, seconds, tally))
        report(f"{fleet.name}: {policy.name}, {processes:,} processes")
    return found


def figures(fleet: Fleet, policy: Policy, processes: int, seconds: float, tally: Tally) -> dict[str, Any]:
    """Return one run in JSON's types."""
    ordered = sorted(tally.latencies)
    decided = tally.admitted + tally.refused
    names = ("admitted", "refused", "failed", "writes", "overtaken", "throttled")
    return {
        "fleet": asdict(fleet),
        "policy": asdict(policy),
        "processes": processes,
        "asked_per_second": fleet.rate(processes) * processes,
        "decisions_per_second": decided / seconds,
        **{f"{name}_per_second": getattr(tally, name) / seconds for name in names},
        "excess": tally.excess,
        "p50_ms": 1e3 * ordered[len(ordered) // 2] if ordered else 0.0,
        "p99_ms": 1e3 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0,
    }
