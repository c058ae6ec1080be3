"""Callers of one or two processes on one store under the seeded scheduler, and what must hold when they have ended."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.interleaving import Interrupted, Scheduler, switching

from limiter import (
    Concurrency,
    Limit,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncMemoryRepository,
    SyncRateLimiter,
    Throttled,
)
from limiter.audit import History, judge_history
from limiter.audit.history import document
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from limiter import SyncLease
    from limiter.core.records import BucketKey, RecordKey
    from limiter.core.state import BucketState, Update, WriteResult
    from limiter.models import BaseLimit

EPOCH = 1_800_000_000 * NANOSECONDS
FIRM = Limit.per_day("units", 6)
"""It does not refill while a play lasts."""
LIMITS: tuple[BaseLimit, ...] = (
    FIRM,
    Limit.per_second("units", 20, burst=4),
    Limit.per_second("units", 40, burst=60, allotment=0.5),
    Concurrency("units", 2, ttl=60.0),
)
ENTITIES = ("one", "two")
SOON = 0.9
"""Seconds that no decision takes while the store answers, less than a caller waits before it looks for itself."""


class BodyFailed(Exception):
    """The block of a lease failed."""


@dataclass(frozen=True)
class Script:
    """What a play is like."""

    limit: BaseLimit
    processes: int = 1
    callers: int = 3
    calls: int = 3
    timeout: float | None = None
    chains: bool = False
    losses: float = 0.0
    interruptions: int = 0
    throttled: float = 0.0
    connections: int = 64

    @classmethod
    def of(cls, rng: random.Random) -> Script:
        """Draw a script."""
        return cls(
            limit=rng.choice(LIMITS),
            processes=rng.choice((1, 1, 2)),
            callers=rng.randint(2, 5),
            timeout=rng.choice((None, None, 0.2, 2.0)),
            chains=rng.random() < 0.3,
            losses=rng.choice((0.0, 0.0, 0.1)),
            interruptions=rng.choice((0, 0, 1, 3)),
            throttled=rng.choice((0.0, 0.0, 0.2)),
            connections=rng.choice((64, 64, 1, 2)),
        )


class Store(SyncMemoryRepository):
    """A store whose calls take time, in which other callers go on, and whose answers get lost."""

    def __init__(self, play: Play) -> None:
        super().__init__(clock=play.clock)
        self._play = play
        self.max_connections = play.script.connections
        self.is_shared = bool(play.script.throttled)
        """Whether limiters count their writes, and keep a pace."""

    def read_bucket(self, key: BucketKey) -> BucketState:
        """Read after a while; the answer may get lost."""
        self._pass()
        self._lose("no answer", unsent=True)
        state = super().read_bucket(key)
        self._pass()
        return state

    def read_records(self, keys: Iterable[RecordKey], buckets: Iterable[BucketKey] = ()) -> Any:
        """Read after a while."""
        self._pass()
        return super().read_records(tuple(keys), tuple(buckets))

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Write after a while; it may not be sent, or not arrive, or its answer gets lost."""
        self._pass()
        if self._play.rng.random() < self._play.script.throttled:
            raise Throttled("a hot key", hot_key=True)
        self._lose("throttled", unsent=True)
        self._lose("no answer", unsent=False)
        result = super().write_bucket(key, update)
        self._pass()
        self._lose("no answer", unsent=False)
        return result

    def _pass(self) -> None:
        self._play.scheduler.sleep(self._play.rng.choice((0.0, 0.0, 0.001, 0.01)))

    def _lose(self, why: str, *, unsent: bool) -> None:
        if self._play.rng.random() < self._play.script.losses / 3:
            self._play.doubtful = True
            raise RateLimiterUnavailable(why, unsent=unsent)


@dataclass
class Found:
    """What a play has shown: findings, empty if all promises held; how often callers were switched; how calls ended."""

    findings: list[str] = field(default_factory=list)
    switches: int = 0
    allowed: int = 0
    refused: int = 0
    interrupted: int = 0


class Play:
    """One run: callers acquire, wait, correct, fail, and are interrupted while they wait."""

    def __init__(self, seed: int, script: Script | None = None) -> None:
        self.scheduler = Scheduler(seed)
        self.rng = random.Random(seed + 1)  # noqa: S311 - repeatable
        self.script = script or Script.of(self.rng)
        self.history = History()
        self.found = Found()
        self.held: dict[str, int] = dict.fromkeys(ENTITIES, 0)
        self.doubtful = False
        self.limiters: list[SyncRateLimiter] = []

    def clock(self) -> int:
        """Return the store's time."""
        return EPOCH + int(self.scheduler.now * NANOSECONDS)

    def run(self, fault: Callable[[Scheduler], AbstractContextManager[object]] = nullcontext) -> Found:
        """Play, with a fault planted, and return what was found."""
        random.seed(self.rng.random())  # Back-offs of the library draw from it.
        with switching(self.scheduler), fault(self.scheduler):
            store = Store(self)
            for _ in range(self.script.processes):
                hook = Listener(self.history)
                self.limiters.append(
                    SyncRateLimiter(store, [self.script.limit], stored=False, on_decision=hook, writes_per_key=20)
                )
            callers = [self.scheduler.call(self.call) for _ in range(self.script.callers)]
            for _ in range(self.script.interruptions):
                self.scheduler.call(lambda: self.interrupt(callers), background=True)
            self.scheduler.run()
            self.scheduler.call(lambda: self.end(store))
            self.scheduler.run()
        self.found.switches = self.scheduler.switches
        # A write whose answer was lost may count twice, which is told, and makes later refusals right.
        verdict = judge_history(self.history, skip=("refusals",) if self.lost() else ())
        self.found.findings += [str(finding) for finding in verdict.findings]
        return self.found

    def call(self) -> None:
        """Make some calls, one after another."""
        for _ in range(self.script.calls):
            try:
                self.scheduler.sleep(self.rng.choice((0.0, 0.0, 0.002, 0.05)))
                self.acquire(self.rng.choice(self.limiters))
            except BodyFailed:
                pass
            except RateLimitExceeded:
                self.found.refused += 1
            except RateLimiterUnavailable as error:
                self.note_failure(error)
            except Interrupted:
                self.found.interrupted += 1

    def note_failure(self, error: RateLimiterUnavailable) -> None:
        """Note a call that failed. None may while the store answers, unless a caller is interrupted twice in its write.

        A release that fails is not repeated at the end of its lease.
        """
        self.doubtful = True
        if not (self.script.losses or self.script.throttled) and self.script.interruptions < 2:
            self.found.findings.append(f"a call failed although the store answers: {error}")

    def acquire(self, limiter: SyncRateLimiter) -> None:
        """Hold a lease for a while, and correct it."""
        entity, other = self.rng.sample(ENTITIES, 2)
        script, units = self.script, self.rng.choice((1, 1, 2))
        also = [(other, "api", {"units": units})] if script.chains and self.rng.random() < 0.5 else []
        done, held, began = False, 0, self.scheduler.now
        try:
            with limiter.acquire(entity, "api", {"units": units}, also=also, timeout=script.timeout) as lease:
                self.found.allowed += 1
                self.look_at_time(began)
                self.scheduler.sleep(self.rng.choice((0.0, 0.001, 0.02)))
                self.correct(lease)
                held, done = lease.consumed["units"], True
        finally:
            if done and not isinstance(script.limit, Concurrency):
                self.held[entity] += held
                self.held[other] += held * len(also)

    def look_at_time(self, began: float) -> None:
        """Note a decision that came late: a caller was woken by its own alarm only."""
        took = self.scheduler.now - began - (self.script.timeout or 0.0)
        if took > SOON and not (self.script.losses or self.script.throttled):
            self.found.findings.append(f"a decision took {took:.3f} s")

    def correct(self, lease: SyncLease) -> None:
        """Change what the lease holds, or fail."""
        act = self.rng.random()
        if act < 0.25:
            raise BodyFailed
        if act < 0.4:
            lease.release(units=1)
        elif act < 0.5 and not isinstance(self.script.limit, Concurrency):
            lease.adjust(units=1)
        elif act < 0.6:
            lease.consume(units=1)

    def interrupt(self, callers: list[Any]) -> None:
        """Interrupt a caller that waits, some time after the begin."""
        self.scheduler.sleep(self.rng.choice((0.001, 0.005, 0.02, 0.1)))
        for _ in range(3):
            if self.scheduler.wake(self.rng.choice(callers), Interrupted()):
                return
            self.scheduler.pause()

    def end(self, store: Store) -> None:
        """Look whether each bucket serves a new caller of every process, and holds what its callers hold."""
        for limiter in self.limiters:
            for entity in ENTITIES:
                self.try_once(limiter, entity)
        for limiter in self.limiters:
            limiter.close()
        if self.doubtful or self.lost() or self.script.limit != FIRM:
            return
        for bucket, state in store.buckets().items():
            level = state.level(FIRM.identity)
            used = round((level.tat - self.clock()) * FIRM.refill_amount / FIRM.period_ns)
            if max(used, 0) != self.held[bucket.entity_id]:
                self.found.findings.append(f"{bucket.entity_id} holds {used}, and its callers {self.held[bucket.entity_id]}")

    def lost(self) -> int:
        """Return how many losses the limiters tell of."""
        return sum(limiter.stats().corrections_lost for limiter in self.limiters)

    def try_once(self, limiter: SyncRateLimiter, entity: str) -> None:
        """Ask for a unit and give it back."""
        try:
            with limiter.acquire(entity, "api", {"units": 1}):
                raise BodyFailed
        except (BodyFailed, RateLimitExceeded):
            return
        except RateLimiterUnavailable as error:
            self.note_failure(error)


class Listener:
    """Enters every event into a history."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __call__(self, event: Any) -> None:
        """Enter a decision."""
        self._history.enter(document(event))

    def note(self, event: Any) -> None:
        """Enter another event."""
        self._history.enter(document(event))
