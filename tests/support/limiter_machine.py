"""A state machine of Hypothesis that drives sync limiters, one call at a time, and shrinks what it finds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from support.bucket_world import promise
from support.history import Client, Life
from support.kinds_measure import cost_of
from support.limiter_tasks import REAL_SECONDS, BodyFailed
from support.limiter_world import World
from support.stored_levels import DAY, MINUTE, Level
from support.watching import watching

from limiter import Limit, RateLimitExceeded, SyncMemoryRepository, SyncRateLimiter
from limiter.core.records import BucketKey
from limiter.core.units import NANOSECONDS
from limiter.exceptions import LimiterError, RateLimiterUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from limiter import SyncLease
    from limiter.core.state import BucketState, Update, WriteResult

LIMITS = (Limit("a", 4, 4, 1.0), Limit("b", 3, 1, 7.0))
ALLOTTED = (Limit("a", 12, 4, 1.0, allotment=0.5), Limit("b", 9, 1, 7.0, allotment=7.0))
RESOURCE = "api"
LINGER = 0.05
CHAINS = {"solo": ("solo",), "kid": ("kid", "parent")}
AMOUNTS = st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), min_size=1)
TIMEOUTS = st.sampled_from((None, 0.001, 1.0, 30.0))
FATES = st.lists(st.sampled_from(("answered", "unsent", "unapplied", "applied")), min_size=1, max_size=4)


def with_capacity(capacity: int) -> tuple[Limit, ...]:
    """Return the limits with another capacity."""
    return tuple(Limit(each.name, capacity, each.refill_amount, each.refill_period) for each in LIMITS)


class Interrupted(BaseException):
    """An error that ends a wait early."""


class SyncFront:
    """What one client sees of the store; `fates` says what becomes of its next writes."""

    def __init__(self, inner: SyncMemoryRepository, client: Client) -> None:
        self.inner = inner
        self.client = client
        self.clock = client.clock
        self.fates: deque[str] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read_bucket(self, key: BucketKey) -> BucketState:
        state = self.inner.read_bucket(key)
        self._answer(key, state)
        return state

    def read_records(self, keys: Iterable[Any], buckets: Iterable[BucketKey] = ()) -> Any:
        records, states = self.inner.read_records(tuple(keys), tuple(buckets))
        for key, state in states.items():
            if not self.client.answers[key]:
                self.client.see(key, state)
        return records, states

    def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        fate = self.fates.popleft() if self.fates else "answered"
        if fate == "unsent":
            raise RateLimiterUnavailable("throttled", unsent=True)
        self.client.losses += fate != "answered"
        if fate == "unapplied":
            raise RateLimiterUnavailable("no answer")
        before = self.inner.read_bucket(key)
        outcome = self.inner.write_bucket(key, update)
        if outcome.applied and not before.has_stamp(update.stamp):
            self.client.world.applied(self.client, key, update, before, outcome.state)
        if fate == "applied":
            raise RateLimiterUnavailable("no answer")
        self._answer(key, outcome.state)
        return outcome

    def _answer(self, key: BucketKey, state: BucketState) -> None:
        self.client.see(key, state)
        self.client.world.answered(self.client, key)


class Held:
    """A lease that is open, and what its caller was told."""

    def __init__(self, life: Life, acquisition: Any, lease: SyncLease) -> None:
        self.life = life
        self.acquisition = acquisition
        self.lease = lease


class LimiterMachine(RuleBasedStateMachine):
    """Three clients: one that always looks, one that remembers refusals, one that lingers."""

    skew = 0
    limits: tuple[Limit, ...] = LIMITS

    def __init__(self) -> None:
        super().__init__()
        self.world = World(skew=self.skew, mates=False)
        self.watching = watching(self.world)
        self.watching.__enter__()
        self.inner = SyncMemoryRepository(clock=lambda: self.world.now)
        self.stored = dict.fromkeys(("solo", "kid", "parent"), Level(self.limits))
        self.interrupting = False
        self.acting: Life | None = None
        self.held: list[Held] = []
        self.fronts: list[SyncFront] = []
        self.limiters: list[SyncRateLimiter] = []
        admin = SyncRateLimiter(self.inner)
        admin.create_entity("parent")
        admin.create_entity("kid", parent_id="parent")
        for options in ({}, {"denial_ttl": 1.0}, {"linger": LINGER}):
            self._open(**{"denial_ttl": 0.0, **options})

    def _open(self, *, denial_ttl: float, linger: float = 0.0) -> None:
        client = Client(self.world, f"client{len(self.fronts)}", denial_ttl=denial_ttl)
        front = SyncFront(self.inner, client)
        limiter = SyncRateLimiter(
            front,
            self.limits,
            config_ttl=0,
            denial_ttl=denial_ttl,
            linger=linger,
            sleep=self._sleep,
            decision_timeout=REAL_SECONDS,
        )
        committer = limiter._acquirers.get().committer
        sound = committer.decide

        def decide(requests: Any) -> Any:
            # Callers who ask for the same may share a request, and its charges.
            requests = [request._replace(charges=(*request.charges,)) for request in requests]
            submissions = [self.world.submit(client, request, self.acting or client.closing) for request in requests]
            try:
                outcomes = sound(requests)
            except BaseException as error:
                for submission in submissions:
                    self.world.finish(submission, error)
                raise
            for submission, outcome in zip(submissions, outcomes, strict=True):
                self.world.finish(submission, outcome)
            return outcomes

        committer.decide = decide  # type: ignore[method-assign]
        self.world.clients.append(client)
        self.fronts.append(front)
        self.limiters.append(limiter)

    def _sleep(self, seconds: float) -> None:
        # A refund whose own write is interrupted while it lingers is lost, as if the process had died.
        if self.interrupting and seconds > LINGER:
            self.interrupting = False
            raise Interrupted
        self.world.now += round(seconds * NANOSECONDS)

    @initialize(offsets=st.lists(st.integers(-1, 1), min_size=3, max_size=3))
    def set_clocks(self, offsets: list[int]) -> None:
        """Every client has a clock of its own."""
        for front, offset in zip(self.fronts, offsets, strict=True):
            front.client.offset = offset * self.skew

    def _call(self, place: int, entity: str, amounts: Mapping[str, int] | None, options: dict[str, Any], *, hold: bool) -> None:
        """Acquire, and hold the lease or end it at once; a refusal and an interruption leave nothing."""
        front, limiter = self.fronts[place], self.limiters[place]
        life = self.acting = Life(f"life {len(self.world.lives)} of {front.client.name}", front.client)
        self.world.lives.append(life)
        asked = dict(amounts) if amounts is not None else {limit.name: 1 for limit in LIMITS}
        try:
            if hold:
                acquisition = limiter.acquire(entity, RESOURCE, amounts, **options)
                lease = acquisition.__enter__()
                promise(dict(lease.consumed) == asked, "a lease holds what was asked for")
                promise(lease.waited <= (options["timeout"] or 0) + 1e-9, "no caller waits for longer than agreed")
                life.started, life.units = True, asked
                self.held.append(Held(life, acquisition, lease))
            elif limiter.try_acquire(entity, RESOURCE, amounts, **options):
                life.units = asked
        except RateLimitExceeded as error:
            own = options["limits"] or self.stored[entity].at(self.world.now)
            never = any(units > limit.capacity for limit in own for name, units in asked.items() if limit.name == name)
            promise(error.retry_after != 0.0, "who is refused is told to wait")
            promise(not never or error.retry_after is None, "what can never be is said to be so")
        except (RateLimiterUnavailable, Interrupted):
            pass
        finally:
            self.acting, self.interrupting = None, False
        self._judge_limits(life, entity, asked, options["limits"])
        if life.units is None or not hold:
            self.world.settle([life])

    def _judge_limits(self, life: Life, entity: str, asked: Mapping[str, int], given: tuple[Limit, ...] | None) -> None:
        """Check that each bucket of the chain is asked for the amounts, under the limits that apply to it."""
        calls = [each for each in life.submissions if each.request.charges and not each.request.forced]
        for each in calls:
            name = each.key.entity_id
            own = given if given is not None and name == entity else self.stored[name].at(each.clock)
            expected = {(limit, asked[limit.name]) for limit in own if limit.name in asked}
            promise(set(each.request.charges) == expected, "a bucket is asked for what was asked, under its limits")
        if life.units is not None:
            promise({each.key.entity_id for each in calls} == set(CHAINS[entity]), "the whole chain is charged")

    @rule(
        place=st.integers(0, 2),
        entity=st.sampled_from(sorted(CHAINS)),
        amounts=AMOUNTS,
        timeout=TIMEOUTS,
        capacity=st.none() | st.integers(2, 6),
        hold=st.booleans(),
        interrupting=st.booleans(),
    )
    def acquire(
        self,
        place: int,
        entity: str,
        amounts: dict[str, int] | None,
        timeout: float | None,
        capacity: int | None,
        hold: bool,
        interrupting: bool,
    ) -> None:
        """Acquire with or without a lease, with or without `limits=`; waits may be interrupted."""
        given = None if capacity is None else with_capacity(capacity)
        self.interrupting = interrupting and timeout is not None
        self._call(place, entity, amounts, {"timeout": timeout, "limits": given}, hold=hold)

    def _settle(self, place: int, name: str, action: Callable[[Held, str], None]) -> None:
        held = self.held[place % len(self.held)]
        if held.life.units is None or name not in held.life.units:
            return
        self.acting = held.life
        try:
            action(held, name)
        except RateLimiterUnavailable:
            # A refund has left the lease, and an addition has not entered it yet.
            held.life.units = dict(held.lease.consumed)
        except RateLimitExceeded:
            pass
        finally:
            self.acting = None
        promise(dict(held.lease.consumed) == held.life.units, "a lease says what it holds")

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 9), name=st.sampled_from("ab"), units=st.integers(-3, 4))
    def adjust(self, place: int, name: str, units: int) -> None:
        """Correct a lease by either sign."""

        def action(held: Held, name: str) -> None:
            assert held.life.units is not None
            if held.life.units[name] + units < 0:
                with pytest.raises(LimiterError, match="cannot refund"):
                    held.lease.adjust({name: units})
                return
            held.lease.adjust({name: units})
            held.life.units[name] += units

        self._settle(place, name, action)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 9), name=st.sampled_from("ab"), units=st.integers(0, 3))
    def consume(self, place: int, name: str, units: int) -> None:
        """Consume more, if it fits."""

        def action(held: Held, name: str) -> None:
            assert held.life.units is not None
            held.lease.consume({name: units})
            held.life.units[name] += units

        self._settle(place, name, action)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 9), failing=st.booleans())
    def end(self, place: int, failing: bool) -> None:
        """End a body, normally or by an error."""
        held = self.held.pop(place % len(self.held))
        self.acting = held.life
        error = BodyFailed() if failing else None
        held.acquisition.__exit__(type(error) if error else None, error, None)
        self.acting = None
        if failing:
            held.life.units = None
        self.world.settle([held.life])

    # If a clock is set back, the cached configuration lives longer by the same time.
    @precondition(lambda self: not self.skew)
    @rule(
        place=st.integers(0, 2),
        entity=st.sampled_from(("solo", "kid", "parent")),
        capacity=st.integers(3, 6),
        instead=st.none() | st.integers(3, 6),
        ahead=st.integers(0, 1),
    )
    def set_limits(self, place: int, entity: str, capacity: int, instead: int | None, ahead: int) -> None:
        """Change limits, and perhaps once more for this minute or the next one."""
        level = Level(with_capacity(capacity))
        if instead is not None:
            level = Level(level.plain, (self.world.now // MINUTE + ahead) % DAY, with_capacity(instead))
        self.stored[entity] = level
        self.limiters[place].set_limits(level.plain, entity_id=entity, schedule=level.schedule)

    @rule(
        place=st.integers(0, 2), entity=st.sampled_from(("solo", "parent")), name=st.sampled_from("ab"), units=st.integers(0, 4)
    )
    def check(self, place: int, entity: str, name: str, units: int) -> None:
        """Check that a look tells what an acquire would be told, by exact arithmetic, and never more than the capacity."""
        front = self.fronts[place]
        limit = next(each for each in self.stored[entity].at(front.client.clock()) if each.name == name)
        tat = self.inner.read_bucket(BucketKey("default", entity, RESOURCE)).level(limit.identity).tat
        now = front.client.clock()
        decision = self.limiters[place].check(entity, RESOURCE, {name: units})
        fits = max(tat, now) + cost_of(limit, units) <= now + limit.window and units <= limit.capacity
        promise(decision.allowed == fits, "a look tells what an acquire would be told")
        promise(decision.statuses[0].available <= limit.capacity, "no more is available than the capacity")

    @rule(seconds=st.sampled_from((0.001, 0.25, 0.999999999, 1.0, 3.5, 7.0, 60.0)))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.world.now += round(seconds * NANOSECONDS)

    @rule(entity=st.sampled_from(("solo", "kid", "parent")), name=st.sampled_from("ab"), beside=st.integers(-1, 1))
    def advance_to_full(self, entity: str, name: str, beside: int) -> None:
        """Let time pass until a bucket is full, or a nanosecond less or more."""
        tat = (
            self.inner.read_bucket(BucketKey("default", entity, RESOURCE))
            .level(next(each.identity for each in LIMITS if each.name == name))
            .tat
        )
        self.world.now = max(self.world.now, tat + beside)

    @precondition(lambda self: any(level.instead for level in self.stored.values()))
    @rule(beside=st.integers(-1, 1))
    def advance_to_change_over(self, beside: int) -> None:
        """Let time pass until a schedule may bring other limits, or a nanosecond less or more."""
        self.world.now = max(self.world.now, (self.world.now // MINUTE + 1) * MINUTE + beside)

    @precondition(lambda self: self.skew)
    @rule(place=st.integers(0, 2), offset=st.integers(-2, 2))
    def drift(self, place: int, offset: int) -> None:
        """Set a clock, forward or back."""
        self.fronts[place].client.offset = offset * self.skew // 2

    @rule(place=st.integers(0, 2), fates=FATES)
    def lose(self, place: int, fates: list[str]) -> None:
        """Decide the outcome of the next writes."""
        self.fronts[place].fates = deque(fates)

    @rule()
    def close(self) -> None:
        """Close a client, which ends its blocks."""
        self.limiters[2].close()

    def teardown(self) -> None:
        """End everything; then judge every interval."""
        try:
            for front in self.fronts:
                front.fates.clear()
            while self.held:
                self.end(0, False)
            self.close()
            self.world.settle([])
            self.world.judge()
        finally:
            self.watching.__exit__(None, None, None)


class AllottedMachine(LimiterMachine):
    """The same with limits that every client may take in advance."""

    limits = ALLOTTED


class SkewedMachine(LimiterMachine):
    """The same with clocks that are up to 100 ms off and are set now and then."""

    skew = 100_000_000
