"""Limiters that share buckets of every kind of limit, beside an exact model of them; chance says what happens.

Calls come one after another, from clients that each remember what they saw last, so each has one right outcome. They ask several
targets, leave headroom, exceed capacities, wait, correct, give back, are shadows; buckets are paused, reset and corrected from
outside.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from support.bucket_world import EPOCH, PromiseBroken, promise
from support.kinds_model import HOUR, NEVER, SECOND, Ask, Held, Model, Spec, chain_of

from limiter import Decision, RateLimitExceeded, SyncMemoryRepository, SyncRateLimiter, ValidationError
from limiter.exceptions import LimiterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

RESOURCE = "api"
JITTER = SECOND
TICK = 3
"""Nanoseconds between two calls, so that each opening has a time of its own."""
PARENTS = {"kid": "team"}
OTHERS = tuple(f"target-{number:02}" for number in range(13))
ENTITIES = ("solo", "kid", "team", *OTHERS)
NAMES = ("a", "b", "c", "d")
SHARES: tuple[dict[str, float], ...] = ({}, {}, {"": 0.2}, {"": 0.5}, {"a": 0.34, "c": 0.5})
ACTIONS = (
    *("acquire", "acquire", "acquire", "acquire", "check", "correct", "reset", "pause", "advance", "advance"),
    *("advance_to_edge", "advance_to_edge", "adjust", "consume", "keep", "end", "end"),
)


def draw_spec(rng: Random, name: str) -> Spec:
    """A limit of any kind."""
    capacity, enforce = rng.randint(1, 10), rng.random() < 0.8
    match rng.choice(("rate", "rate", "rate", "quota", "session", "total")):
        case "rate":
            return Spec("rate", name, capacity, rng.randint(1, 7), rng.choice((1, 7, 60)) * SECOND, enforce)
        case "quota":
            return Spec("quota", name, capacity, enforce=enforce)
        case "session":
            return Spec("session", name, capacity, length=rng.choice((5, 30)) * SECOND, enforce=enforce)
        case _:
            return Spec("total", name, capacity * 4, enforce=enforce)


class Body(Exception):
    """What a block raises."""


class Open:
    """A lease that is open, and what the model says that it holds."""

    def __init__(self, block: Any, lease: Any, chain: Mapping[str, tuple[Spec, ...]], own: dict[str, int]) -> None:
        self.block = block
        self.lease = lease
        self.chain = chain
        self.own = own
        self.held: dict[tuple[str, str], Held] = {}


class KindsPlay:
    """Three clients of one store, and the model."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.told: list[str] = []
        self.now = EPOCH
        self.sleeps: list[int] = []
        self.model = Model()
        self.open: list[Open] = []
        self.inner = SyncMemoryRepository(clock=lambda: self.now)
        self.limiters = [SyncRateLimiter(self.inner, denial_ttl=0, sleep=self._sleep, decision_timeout=5.0) for _ in range(3)]
        self.specs: dict[str, tuple[Spec, ...]] = {}
        self._set_limits(rng)
        # Most of what happens concerns few buckets.
        self.near = [*rng.sample(OTHERS, 2), "solo", "kid", "team"][: rng.randint(3, 5)]

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(round(seconds * SECOND))
        self.now += self.sleeps[-1]

    def _set_limits(self, rng: Random) -> None:
        """Every bucket has limits of its own."""
        admin = self.limiters[0]
        admin.create_entity("team")
        admin.create_entity("kid", parent_id="team")
        for entity in ENTITIES:
            names = sorted(rng.sample(NAMES, rng.randint(1, len(NAMES))))
            self.specs[entity] = tuple(draw_spec(rng, name) for name in names)
            admin.set_limits([spec.limit for spec in self.specs[entity]], entity_id=entity)

    def run(self, steps: int) -> None:
        """Let chance decide what happens, step by step; the last steps are told with a promise that is broken."""
        for _ in range(steps):
            action, arguments = self._draw()
            self.told.append(f"{action.__name__}{arguments}")
            if not action.__name__.startswith("advance"):
                self.now += TICK
            try:
                action(*arguments)
            except (PromiseBroken, LimiterError) as broken:
                raise PromiseBroken(f"{broken}, by {'; '.join(self.told[-8:])}") from broken
        for opened in self.open:
            opened.block.__exit__(None, None, None)

    def _draw(self) -> tuple[Any, tuple[Any, ...]]:
        rng, client, entity = self.rng, self.rng.randrange(3), self.rng.choice(self.near)
        names, shares = rng.sample(NAMES, rng.randint(1, 3)), rng.choice(SHARES)
        name = rng.choice(ACTIONS if self.open else ACTIONS[:12])
        arguments: dict[str, Any] = {
            "acquire": lambda: self._draw_call(client),
            "check": lambda: (
                *(client, rng.sample(self.near, rng.randint(1, 3)), self._draw_amounts()),
                *(shares, not shares and rng.random() < 0.4),
            ),
            "correct": lambda: (client, entity, {each: rng.randint(-9, 9) for each in names}),
            "reset": lambda: (client, entity, rng.choice((None, names))),
            "pause": lambda: (client, entity, rng.choice((0, 1, 30))),
            "advance": lambda: (rng.choice((1, SECOND // 7, SECOND, 7 * SECOND, 60 * SECOND, HOUR)),),
            "advance_to_edge": lambda: (entity, names[0], rng.randint(-1, 1)),
            "adjust": lambda: (rng.randrange(9), names[0], rng.randint(-4, 6)),
            "consume": lambda: (rng.randrange(9), names[0], rng.randint(0, 5)),
            "keep": lambda: (rng.randrange(9),),
            "end": lambda: (rng.randrange(9), rng.random() < 0.5),
        }
        return getattr(self, name), arguments[name]()

    def _draw_amounts(self) -> dict[str, int] | None:
        rng = self.rng
        chosen = rng.sample(NAMES, rng.randint(1, 3))
        return None if rng.random() < 0.4 else {name: rng.choice((0, 1, 1, 2, 3, 5, 9)) for name in chosen}

    def _draw_call(self, client: int) -> tuple[Any, ...]:
        rng, shares = self.rng, self.rng.choice(SHARES)
        entities = rng.sample(self.near, rng.randint(1, 3))
        if rng.random() < 0.05:
            entities = [each for each in ENTITIES if each != "team"]
        oversize, timeout = not shares and rng.random() < 0.2, rng.choice((0, 0, 0, 1, 5, 40, 4000))
        changes = {name: (rng.randint(1, 12), rng.random() < 0.7) for name in NAMES} if rng.random() < 0.3 else None
        return (
            client,
            entities,
            self._draw_amounts(),
            self._draw_amounts(),
            shares,
            oversize,
            timeout,
            changes,
            rng.random() < 0.5,
        )

    # What is asked.

    def _asking(
        self, targets: list[tuple[str, dict[str, int] | None]], changes: Mapping[str, tuple[int, bool]] | None
    ) -> tuple[list[Any], dict[str, tuple[tuple[Spec, ...], Mapping[str, int] | None]], dict[str, Any]]:
        """The targets without unknown names, the chain that the model sees, and the options of the call."""
        first, options = targets[0][0], dict[str, Any]()
        specs = dict(self.specs)
        if changes:
            own = (each._replace(capacity=changes[each.name][0], enforce=changes[each.name][1]) for each in specs[first])
            specs[first] = tuple(own)
            options["limits"] = [spec.limit for spec in specs[first]]
        targets = [(entity, targets[0][1] if amounts is None else amounts) for entity, amounts in targets]
        known = {spec.name for entity in chain_of(targets, PARENTS) for spec in specs[entity]}
        cleaned = [
            (entity, None if amounts is None else {name: units for name, units in amounts.items() if name in known} or None)
            for entity, amounts in targets
        ]
        cleaned = [(entity, cleaned[0][1] if amounts is None else amounts) for entity, amounts in cleaned]
        if len(cleaned) > 1:
            options["also"] = [(entity, RESOURCE, amounts) for entity, amounts in cleaned[1:]]
        chain = {entity: (specs[entity], amounts) for entity, amounts in chain_of(cleaned, PARENTS).items()}
        return cleaned, chain, options

    def acquire(
        self,
        client: int,
        entities: list[str],
        amounts: dict[str, int] | None,
        theirs: dict[str, int] | None,
        shares: dict[str, float],
        oversize: bool,
        timeout: int,
        changes: Any,
        hold: bool,
    ) -> None:
        """A call of any kind: what it is told is what the model says, and what it takes as well."""
        targets = [(entity, theirs if place else amounts) for place, entity in enumerate(entities)]
        targets, chain, options = self._asking(targets, changes)
        asked = [spec for specs, _ in chain.values() for spec in specs]
        if any(spec.kind == "rate" and not spec.enforce for spec in asked):
            timeout = 0  # A shadow books without a wait, and its bookings keep what others give back.
        options |= {"headroom": shares.get("", shares or None), "oversize": oversize}
        ask = Ask(chain, shares, oversize, self.now + timeout * SECOND)
        options["timeout"] = timeout or None
        limiter, began = self.limiters[client], self.now
        self.sleeps.clear()
        call = targets[0][0], RESOURCE, targets[0][1]
        lease, told = None, None
        if hold:
            block = limiter.acquire(*call, **options)
            try:
                lease = block.__enter__()
                told = Decision(True, lease.statuses, 0.0)
            except RateLimitExceeded as error:
                told = Decision(False, error.statuses, error.retry_after)
        else:
            told = limiter.try_acquire(*call, **options)
        asked_at = self._judge(ask, told, began)
        if not told.allowed:
            return
        held, exceeded = self.model.admit(ask, asked_at)
        promise(
            {(each.entity_id, each.limit.name) for each in told.statuses if each.exceeded} == exceeded,
            "an admission tells which shadows would have refused",
        )
        for each in told.statuses:
            spec = next(spec for spec in chain[each.entity_id][0] if spec.name == each.limit.name)
            if each.exceeded:
                continue  # What a shadow shows that is charged nothing may be of the state that was seen last.
            left = spec.available(self.model.book(each.entity_id, spec.name), asked_at)
            promise(each.available == left, f"an admission tells what is left ({each}, {left})")
        if lease is not None:
            own = (
                call[2]
                if call[2] is not None
                else {spec.name: 1 for specs, mine in chain.values() if mine is None for spec in specs}
            )
            promise(lease.consumed == own, "a lease says what it holds")
            self.open.append(Open(block, lease, {entity: specs for entity, (specs, _) in chain.items()}, dict(own)))
            self.open[-1].held = held
        self._compare(chain)

    def _judge(self, ask: Ask, told: Decision, began: int) -> int:
        """Follow a call through its sleeps; return the time at which it was decided."""
        time, sleeps = began, list(self.sleeps)
        if self.model.is_hopeless(ask):
            promise(not told.allowed and told.retry_after is None and not sleeps, "what can never be is refused at once")
            return time
        while True:
            verdicts = [self.model.verdict(ask, entity, time) for entity in {entity for entity, *_ in ask.charges()}]
            if all(admitted for _, admitted in verdicts):
                wait = max([start for start, _ in verdicts], default=time) - time
                promise(told.allowed, "nothing is refused that fits")
                promise(sleeps == ([wait] if wait > 0 else []), f"a caller waits for its start ({sleeps}, {wait})")
                return time
            delays = [start - time for start, admitted in verdicts if not admitted]
            left = ask.deadline - time
            if not sleeps:
                promise(not told.allowed, "nothing is admitted that does not fit")
                promise(any(delay > left for delay in delays), "who can wait until it fits does")
                if not self.sleeps:
                    self._judge_refusal(ask, told, time)
                return time
            delay = sleeps.pop(0)
            spread = [(min(left, each + 1), min(left, each + max(1, min(JITTER, each // 10)))) for each in delays]
            promise(any(low <= delay <= high for low, high in spread), f"a caller sleeps until it may fit ({delay}, {spread})")
            time += delay

    def _judge_refusal(self, ask: Ask, told: Decision, now: int) -> None:
        """Every limit that was consulted and refuses says so, and when it would not."""
        expected = {(entity, spec.name): self.model.start(ask, entity, spec, units, now) for entity, spec, units in ask.charges()}
        promise(bool(told.statuses), "a refusal has statuses")
        for each in told.statuses:
            if each.exceeded and each.limit.enforce:
                start = expected[each.entity_id, each.limit.name]
                promise(start > now, "a limit that would allow a call does not refuse it")
                promise(each.retry_after == (None if start >= NEVER else (start - now) / SECOND), "a refusal tells when to retry")
        promise(told == Decision(False, told.statuses, told.retry_after), "a refusal is one")

    def _compare(self, entities: Iterable[str]) -> None:
        """What is available in each bucket is what the model says."""
        for entity in entities:
            asked = {spec.name: 0 for spec in self.specs[entity]}
            for status in self.limiters[0].check(entity, RESOURCE, asked).statuses:
                if status.entity_id != entity:
                    continue
                spec = next(each for each in self.specs[entity] if each.name == status.limit.name)
                left = spec.available(self.model.book(entity, spec.name), self.now)
                promise(
                    status.available == left, f"what is left is as the model says ({entity}, {spec}, {status.available}, {left})"
                )

    def check(
        self, client: int, entities: list[str], amounts: dict[str, int] | None, shares: dict[str, float], oversize: bool
    ) -> None:
        """A look tells what an acquire would be told, of every limit."""
        targets, chain, options = self._asking([(entity, amounts) for entity in entities], None)
        ask = Ask(chain, shares, oversize, self.now)
        headroom = shares.get("", shares or None)
        told = self.limiters[client].check(
            targets[0][0], RESOURCE, targets[0][1], headroom=headroom, oversize=oversize, **options
        )
        expected = {
            (entity, spec.name): self.model.start(ask, entity, spec, units, self.now) for entity, spec, units in ask.charges()
        }
        found = {(each.entity_id, each.limit.name): each.retry_after for each in told.statuses}
        waits = {place: None if start >= NEVER else (start - self.now) / SECOND for place, start in expected.items()}
        promise(found == waits, f"a look tells when each limit allows it ({found}, {waits})")

    # Leases.

    def _lease(self, place: int) -> Open:
        return self.open[place % len(self.open)]

    def adjust(self, place: int, name: str, units: int) -> None:
        """A correction of either sign reaches every bucket that has the name."""
        opened = self._lease(place)
        places = [(entity, spec) for entity, specs in opened.chain.items() for spec in specs if spec.name == name]
        most = max(
            [opened.own.get(name, 0), *(opened.held[entity, name].units for entity, _ in places if (entity, name) in opened.held)]
        )
        if not places or -units > most:
            with pytest.raises(ValidationError):
                opened.lease.adjust({name: units})
            return
        opened.lease.adjust({name: units})
        for entity, spec in places:
            held = opened.held.setdefault((entity, name), Held(spec))
            if units > 0:
                held.add(units, self.model.book(entity, name).take(spec, units, self.now))
            elif units < 0:
                number = held.number
                self.model.book(entity, name).give(spec, held.release(min(-units, held.units)), number, self.now)
        if units > 0 or name in opened.own:
            opened.own[name] = max(0, opened.own.get(name, 0) + units)
        self._compare(opened.chain)

    def consume(self, place: int, name: str, units: int) -> None:
        """More, if it fits everywhere."""
        opened = self._lease(place)
        chain = {entity: (specs, {name: units}) for entity, specs in opened.chain.items()}
        ask = Ask(chain)
        if not list(ask.charges()):
            return
        verdicts = [self.model.verdict(ask, entity, self.now) for entity in {entity for entity, *_ in ask.charges()}]
        fits = not self.model.is_hopeless(ask) and all(start <= self.now for start, _ in verdicts)
        with contextlib.nullcontext() if fits else pytest.raises(RateLimitExceeded):
            opened.lease.consume({name: units})
        if fits:
            taken, _ = self.model.admit(ask, self.now)
            for where, more in taken.items():
                opened.held.setdefault(where, Held(more.spec)).add(more.units, more.number, more.cost)
            opened.own[name] = opened.own.get(name, 0) + units
        self._compare(opened.chain)

    def keep(self, place: int) -> None:
        """What is held now stays charged."""
        opened = self._lease(place)
        opened.lease.keep()
        for each in opened.held.values():
            each.kept = each.units

    def end(self, place: int, failing: bool) -> None:
        """A block ends, well or not."""
        opened = self.open.pop(place % len(self.open))
        promise(
            {name: units for name, units in opened.lease.consumed.items() if units}
            == {name: units for name, units in opened.own.items() if units},
            "a lease says what it holds",
        )
        opened.block.__exit__(*((Body, Body(), None) if failing else (None, None, None)))
        if failing:
            self.model.back(opened.held, self.now)
        self._compare(opened.chain)

    # From outside.

    def correct(self, client: int, entity: str, amounts: dict[str, int]) -> None:
        """Units are charged or given back from outside a lease."""
        specs = [spec for spec in self.specs[entity] if spec.name in amounts]
        self.limiters[client].adjust(entity, RESOURCE, {spec.name: amounts[spec.name] for spec in specs})
        for spec in specs:
            book, units = self.model.book(entity, spec.name), amounts[spec.name]
            if units > 0:
                book.take(spec, units, self.now)
            elif units < 0:
                book.withdraw(spec, -units, self.now)
        self._compare([entity])

    def reset(self, client: int, entity: str, names: list[str] | None) -> None:
        """Some limits of a bucket, or all, are as new."""
        own = [spec.name for spec in self.specs[entity]]
        chosen = own if names is None else [name for name in own if name in names]
        self.limiters[client].reset(entity, RESOURCE, None if names is None else chosen)
        for name in chosen:
            self.model.book(entity, name).reset(self.now)
        self._compare([entity])

    def pause(self, client: int, entity: str, seconds: int) -> None:
        """A bucket is paused, or its pause ended."""
        self.limiters[client].pause(entity, RESOURCE, seconds)
        until = max(self.model.paused.get(entity, 0), self.now + seconds * SECOND)
        self.model.paused[entity] = until if seconds else 0
        self.check(0, [entity], None, {}, False)

    # Time.

    def advance(self, nanoseconds: int) -> None:
        """Time passes."""
        self.now += nanoseconds

    def advance_to_edge(self, entity: str, name: str, beside: int) -> None:
        """Time passes until a limit is full, a period ends or a pause is over, or a nanosecond less or more."""
        spec = next((each for each in self.specs[entity] if each.name == name), None)
        if spec is not None:
            book = self.model.book(entity, name)
            edge = book.then + book.level if spec.kind == "rate" else book.end(spec, self.now)
            self.now = max(self.now, edge + beside if edge < NEVER else 0)
        if self.model.paused.get(entity, 0) > self.now:
            self.now = self.model.paused[entity] + beside
