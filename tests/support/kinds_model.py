"""An exact model of buckets of every kind of limit, with arithmetic of its own: what a call has to be told, to the nanosecond.

It shares nothing with the library but the public limits. Calls come one after another; so each has one right outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

from limiter import Limit, Quota

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from limiter import BaseLimit

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
NEVER = 1 << 90
"""A time that does not come."""
Kind = Literal["rate", "quota", "session", "total"]


class Spec(NamedTuple):
    """A limit in numbers. A rate refills `amount` units in `length` nanoseconds; of a session that is the length."""

    kind: Kind
    name: str
    capacity: int
    amount: int = 0
    length: int = HOUR
    enforce: bool = True

    @property
    def limit(self) -> BaseLimit:
        """The limit as the library takes it."""
        match self.kind:
            case "rate":
                return Limit(self.name, self.capacity, self.amount, self.length / SECOND, enforce=self.enforce)
            case "quota":
                return Quota.per_hour(self.name, self.capacity, enforce=self.enforce)
            case "session":
                return Quota.session(self.name, self.capacity, self.length / SECOND, enforce=self.enforce)
            case "total":
                return Quota.total(self.name, self.capacity, enforce=self.enforce)

    @property
    def full(self) -> int:
        """How much may be in use, in the measure of the book: nanoseconds of refill of a rate, units of the others."""
        if self.kind != "rate" or self.length % self.amount == 0:
            return self.cost(self.capacity)
        # Each taking may have been rounded up by less than a nanosecond, and all of the capacity fits all the same.
        return self.cost(self.capacity) + min(self.capacity, self.length // self.amount) - 1

    def cost(self, units: int) -> int:
        """What units come to in the measure of the book."""
        return -(-units * self.length // self.amount) if self.kind == "rate" else units

    def bound(self, units: int, share: float, *, oversize: bool) -> int:
        """Up to where a call for so many units may use the limit."""
        if not units:
            return self.full
        if oversize:
            return self.full if self.kind == "total" else max(self.full, self.cost(units))
        return self.full - -(-self.full * Fraction(str(share)) // 1)

    def start(self, book: Book, units: int, now: int, share: float, *, oversize: bool) -> int:
        """The earliest time, not before now, from which so many units fit; NEVER where there is none."""
        bound, used, cost = self.bound(units, share, oversize=oversize), book.used(self, now), self.cost(units)
        if used + cost <= bound:
            return now
        if cost > bound:
            return NEVER
        return now + used + cost - bound if self.kind == "rate" else book.end(self, now)

    def available(self, book: Book, now: int) -> int:
        """Units that fit now; less than none in debt."""
        room = self.full - book.used(self, now)
        return room * self.amount // self.length if self.kind == "rate" else room


@dataclass
class Book:
    """What is in use of one limit: of a rate the nanoseconds until all has refilled, as of `then`; of the others units.

    Every opening of a count, and every busy period of a rate, has a number; what was taken in an earlier one does not come back.
    """

    level: int = 0
    then: int = 0
    opened: int = -1
    number: int = 0

    def used(self, spec: Spec, now: int) -> int:
        """How much is in use now."""
        if spec.kind == "rate":
            return max(0, self.level - (now - self.then))
        return 0 if self.is_over(spec, now) else self.level

    def is_over(self, spec: Spec, now: int) -> bool:
        """Whether the last opening has ended."""
        match spec.kind:
            case "quota":
                return self.opened < now - now % HOUR
            case "session":
                return self.opened < 0 or self.level <= 0 or now - self.opened >= spec.length
            case _:
                return self.opened < 0

    def end(self, spec: Spec, now: int) -> int:
        """When the present opening ends."""
        match spec.kind:
            case "quota":
                return now - now % HOUR + HOUR
            case "session":
                return self.opened + spec.length
            case _:
                return NEVER

    def take(self, spec: Spec, units: int, now: int) -> int:
        """Take units, whether they fit or not; return the number of the opening or busy period that they count in."""
        if units:
            used = self.used(spec, now)
            if (not used) if spec.kind == "rate" else self.is_over(spec, now):
                self.number += 1
                self.opened = max(now, self.opened + 1)  # Each opening is later than the one before.
            self.level, self.then = used + spec.cost(units), now
        return self.number

    def give(self, spec: Spec, cost: int, number: int, now: int) -> None:
        """Give back what was taken in the opening or busy period of this number."""
        if number == self.number:
            self.level, self.then = max(0, self.used(spec, now) - cost), now

    def withdraw(self, spec: Spec, units: int, now: int) -> None:
        """Give back units of anybody, as far as so many are in use; what they are worth is rounded down."""
        used, worth = self.used(spec, now), units * spec.length // spec.amount if spec.kind == "rate" else units
        if used:
            self.level, self.then = max(0, used - worth), now

    def reset(self, now: int) -> None:
        """Forget all use; what was taken before does not come back."""
        self.level, self.then, self.number = 0, now, self.number + 1
        self.opened = max(now, self.opened + 1) if self.opened >= 0 else self.opened


@dataclass
class Held:
    """What a lease holds of one limit: units, what they cost, and what of that counts in the period of a number."""

    spec: Spec
    units: int = 0
    cost: int = 0
    alive: int = 0
    number: int = -1
    kept: int = 0

    def add(self, units: int, number: int, cost: int | None = None) -> None:
        """Hold more; a shadow that would have refused has charged nothing for it."""
        cost = self.spec.cost(units) if cost is None else cost
        self.alive = (self.alive if number == self.number else 0) + cost
        self.units, self.cost, self.number = self.units + units, self.cost + cost, number

    def release(self, units: int) -> int:
        """Let units go, the last ones first, and return what can be given back for them, rounded down."""
        left = self.units - units
        given = max(0, self.cost - self.spec.cost(left))
        back = min(given, self.alive)
        self.units, self.cost, self.alive = left, self.cost - given, self.alive - back
        return back


class Ask(NamedTuple):
    """What a call asks: its chain of buckets, each with its limits, and the units of each name there."""

    chain: Mapping[str, tuple[tuple[Spec, ...], Mapping[str, int] | None]]
    shares: Mapping[str, float] = {}
    oversize: bool = False
    deadline: int = 0

    def charges(self) -> Iterator[tuple[str, Spec, int]]:
        """Every bucket, limit and units that are asked for."""
        for entity, (specs, amounts) in self.chain.items():
            for spec in specs:
                if amounts is None or spec.name in amounts:
                    yield entity, spec, 1 if amounts is None else amounts[spec.name]

    def share(self, name: str) -> float:
        """What is left to others."""
        return self.shares.get(name, self.shares.get("", 0.0))


@dataclass
class Model:
    """Buckets by entity: a book for each limit, and until when they are paused."""

    books: dict[tuple[str, str], Book] = field(default_factory=dict)
    paused: dict[str, int] = field(default_factory=dict)

    def book(self, entity: str, name: str) -> Book:
        """The book of one limit."""
        return self.books.setdefault((entity, name), Book())

    def start(self, ask: Ask, entity: str, spec: Spec, units: int, now: int) -> int:
        """The time from which one limit of a bucket allows a call, its pause included."""
        start = spec.start(self.book(entity, spec.name), units, now, ask.share(spec.name), oversize=ask.oversize)
        return max(start, self.paused.get(entity, 0))

    def is_hopeless(self, ask: Ask) -> bool:
        """Whether an amount is above what a limit ever has for this call, so that not even a look is needed."""
        return any(
            spec.enforce and spec.cost(units) > spec.bound(units, ask.share(spec.name), oversize=ask.oversize)
            for _, spec, units in ask.charges()
        )

    def verdict(self, ask: Ask, entity: str, now: int) -> tuple[int, bool]:
        """The time from which a bucket allows a call, and whether it is admitted by a write now.

        A start ahead is never promised beside headroom or a pause, nor beyond the end of what is counted in periods.
        """
        paused, charges = self.paused.get(entity, 0), [each for each in ask.charges() if each[0] == entity]
        start = max([now, paused, *(self.start(ask, *each, now) for each in charges if each[1].enforce)])
        ends = [self._end(spec, entity, now) for _, spec, _ in charges if spec.enforce and spec.kind != "rate"]
        ahead = start <= ask.deadline and start < min(ends, default=NEVER) and paused <= now and not _leaves(ask, entity)
        return start, start <= now or ahead

    def _end(self, spec: Spec, entity: str, now: int) -> int:
        book = self.book(entity, spec.name)
        begins = max(now, book.opened + 1)
        return begins + spec.length if spec.kind == "session" and book.is_over(spec, now) else book.end(spec, now)

    def admit(self, ask: Ask, now: int) -> tuple[dict[tuple[str, str], Held], set[tuple[str, str]]]:
        """Take what is asked; return what is held, and the shadows that would have refused and are charged nothing."""
        held, exceeded = {}, set()
        for entity, spec, units in ask.charges():
            place = entity, spec.name
            if not spec.enforce:
                start = spec.start(self.book(*place), units, now, ask.share(spec.name), oversize=ask.oversize)
                patient = spec.kind == "rate" and not _leaves(ask, entity) and start <= ask.deadline
                if start > now and not patient:
                    exceeded.add(place)
                    held[place] = Held(spec)
                    held[place].add(units, self.book(*place).number, 0)
                    continue
            held[place] = Held(spec)
            held[place].add(units, self.book(*place).take(spec, units, now))
        return held, exceeded

    def back(self, held: Mapping[tuple[str, str], Held], now: int) -> None:
        """Give back everything that was not kept."""
        for place, each in held.items():
            self.book(*place).give(each.spec, each.release(max(0, each.units - each.kept)), each.number, now)


def _leaves(ask: Ask, entity: str) -> bool:
    """Whether the call leaves something to others in a bucket."""
    specs, amounts = ask.chain[entity]
    return any(ask.share(spec.name) for spec in specs if amounts is None or spec.name in amounts)


def chain_of(
    targets: Sequence[tuple[str, Mapping[str, int] | None]], parents: Mapping[str, str]
) -> dict[str, Mapping[str, int] | None]:
    """The buckets that targets reach, each with the amounts of the first that does."""
    chain: dict[str, Mapping[str, int] | None] = {}
    for entity, amounts in targets:
        current: str | None = entity
        while current is not None:
            chain.setdefault(current, amounts)
            current = parents.get(current)
    return chain
