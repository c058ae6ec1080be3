"""Recorded histories of an exact model of limits, which shares no code with the limiter: callers, latencies, refunds, chains."""

from __future__ import annotations

import heapq
import itertools
import json
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from limiter.audit import History, judge_history

if TYPE_CHECKING:
    import random
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from limiter.audit import Verdict

SECOND = 1_000_000_000
EPOCH = 1_800_000_000 * SECOND
RESOURCE = "api"


def line(event: str, identifier: str, begin: int, end: int | None, charges: Iterable[Any], **fields: Any) -> dict[str, Any]:
    """Return one line: charges are entity, limit, units, start, since."""
    buckets: list[list[str]] = []
    entries = []
    for entity, text, units, *times in charges:
        if [entity, RESOURCE] not in buckets:
            buckets.append([entity, RESOURCE])
        entries.append([buckets.index([entity, RESOURCE]), text, units, *(times or (None, None))])
    fields = {"process": "p", "outcome": "allowed", "buckets": buckets} | fields
    return {"event": event, "id": identifier, "begin": begin, "end": end, "charges": entries} | fields


def admitted(identifier: str, time: int, text: str, units: int = 1, *, since: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return a decision that allowed units of the entity `user` at one time, without latency."""
    return line("decision", identifier, time, time, [("user", text, units, time, since)], **fields)


def refused(identifier: str, time: int, text: str, units: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a decision that refused units of the entity `user` at one time."""
    return line("decision", identifier, time, time, [("user", text, units, None, None)], outcome="refused", **fields)


def refunded(identifier: str, begin: int, end: int | None, text: str, units: int = 1) -> dict[str, Any]:
    """Return a refund of units of the entity `user`."""
    return line("refund", identifier, begin, end, [("user", text, units)])


def verdict(lines: Iterable[dict[str, Any]], **options: Any) -> Verdict:
    """Return the audit's verdict on these lines, if no refusal is remembered."""
    history = History()
    for each in lines:
        history.enter(each)
    return judge_history(history, **{"denial_ttl": 0.0, **options})


def write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write a record."""
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@dataclass
class Rate:
    """A bucket that refills: `level` units were in use at `then`, and bookings start at `turns`."""

    text: str
    capacity: int
    rate: Fraction
    level: Fraction = Fraction(0)
    then: int = 0
    since: int = -1
    turns: list[int] = field(default_factory=list)

    def take(self, now: int, units: int, *, patience: int = 0, forced: bool = False) -> tuple[int, int | None] | None:
        """Consume units as of `now`, which may be before others'; return the start, and nothing for `since`, or None."""
        # In use at `now`, even if a caller whose clock is ahead has written before.
        level = max(Fraction(0), self.level - (now - self.then) * self.rate)
        wait = -((self.capacity - level - units) / self.rate).__floor__()
        if not forced and (wait > patience or units > self.capacity):
            return None
        if not level and units:
            self.since = now
        if units:
            self.level, self.then = level + units, now
        start = now if forced else now + max(0, wait)
        if start > now:
            self.turns.append(start)
        return start, None

    def opened(self) -> int:
        """Return what a refund has to know of the charge."""
        return self.since

    def give(self, now: int, units: int, opened: int) -> None:
        """Refund units, unless the bucket has been full since, or a caller has been promised a turn."""
        level = max(Fraction(0), self.level - (now - self.then) * self.rate)
        if opened == self.since and level and not any(turn > now for turn in self.turns):
            self.level, self.then = max(Fraction(0), level - units), now


@dataclass
class Count:
    """Units counted from an opening on: for a calendar period of UTC, for a session, or for good."""

    text: str
    capacity: int
    length: int = 0
    session: bool = False
    used: int = 0
    since: int = -1

    def take(self, now: int, units: int, *, patience: int = 0, forced: bool = False) -> tuple[int, int | None] | None:
        """Consume units as of `now`; return the start and the opening that they count in."""
        opens = now if self.session else now - now % self.length if self.length else 0
        over = self.since < 0 or (self.session and (self.since <= now - self.length or self.used <= 0))
        if over or (not self.session and self.since < opens):
            used, since = 0, max(opens, self.since)
        else:
            used, since = self.used, self.since
        if not forced and used + units > self.capacity:
            return None
        self.used, self.since = used + units, since
        return now, since

    def opened(self) -> int:
        """Return what a refund has to know of the charge."""
        return self.since

    def give(self, now: int, units: int, opened: int) -> None:
        """Refund units to the opening that they were consumed in."""
        if opened == self.since:
            self.used -= min(units, self.used)


@dataclass
class Slots:
    """Slots that are held until they are given back."""

    text: str
    capacity: int
    held: int = 0

    def take(self, now: int, units: int, *, patience: int = 0, forced: bool = False) -> tuple[int, int | None] | None:
        """Hold slots."""
        if self.held + units > self.capacity:
            return None
        self.held += units
        return now, None

    def opened(self) -> int:
        """Return what a refund has to know of the charge: nothing."""
        return 0

    def give(self, now: int, units: int, opened: int) -> None:
        """Free slots."""
        self.held -= units


Model = Rate | Count | Slots


def rate(name: str, capacity: int, amount: int, seconds: int) -> Rate:
    """A rate, by its numbers."""
    return Rate(f"{name}={amount}/{seconds} seconds burst {capacity}", capacity, Fraction(amount, seconds * SECOND))


class World:
    """Callers who take turns in the order of time; each is a generator of the nanoseconds that it lets pass."""

    def __init__(self, chance: random.Random, *, latency: int = 0) -> None:
        self.chance = chance
        self.latency = latency
        self.now = EPOCH
        self.lines: list[dict[str, Any]] = []
        self.numbers = itertools.count()
        self.queue: list[tuple[int, int, Generator[int]]] = []

    def start(self, caller: Generator[int], delay: int = 0) -> None:
        """Let a caller begin after a delay."""
        heapq.heappush(self.queue, (self.now + delay, next(self.numbers), caller))

    def run(self) -> list[dict[str, Any]]:
        """Let time pass until all callers are done, and return what was recorded."""
        while self.queue:
            self.now, _, caller = heapq.heappop(self.queue)
            for pause in caller:
                heapq.heappush(self.queue, (self.now + pause, next(self.numbers), caller))
                break
        return self.lines

    def lag(self) -> int:
        """Return the nanoseconds that a message takes."""
        return self.chance.randint(0, self.latency)

    def call(
        self,
        buckets: dict[str, list[Model]],
        units: int,
        *,
        hold: int = 0,
        patience: int = 0,
        back: float = 0.0,
        more: int = 0,
        lost: bool = False,
    ) -> Generator[int]:
        """Make one call: ask the buckets in turn, all or none; hold the lease, correct it, and refund a part."""
        identifier = f"c{next(self.numbers)}"
        begin = self.now
        asked = [(entity, model) for entity, models in buckets.items() for model in models]
        taken: list[tuple[str, Model, int, int, int | None]] = []
        complete = True
        for entity, models in buckets.items():
            yield self.lag()
            plan = self.now
            yield self.lag()
            outcomes = self._take(models, plan, units, patience)
            if outcomes is None:
                complete = False
                break
            taken += [(entity, model, model.opened(), *each) for model, each in zip(models, outcomes, strict=True)]
        if not complete:
            for _, model, opened, _, _ in taken:
                yield self.lag()
                model.give(self.now, units, opened)
            yield self.lag()
            charges = [(entity, model.text, units, None, None) for entity, model in asked]
            waits = {"waits": True} if patience else {}
            self.lines.append(line("decision", identifier, begin, self.now, charges, outcome="refused", **waits))
            return
        yield self.lag()
        charges = [(entity, model.text, units, start, since) for entity, model, _, start, since in taken]
        self.lines.append(line("decision", identifier, begin, self.now, charges, **({"waits": True} if patience else {})))
        start = max(each[3] for each in taken)
        yield max(0, start - self.now) + hold
        if more:
            yield from self._correct(identifier, taken, more)
        given = round((units + more) * back)
        if any(isinstance(model, Slots) for _, model in asked):
            given = units
        if given:
            yield from self._give(identifier, taken, given, lost=lost)

    def _take(self, models: list[Model], plan: int, units: int, patience: int) -> list[tuple[int, int | None]] | None:
        """Consume all limits of one bucket in one write, or none."""
        before = [dict(vars(model), **({"turns": list(model.turns)} if isinstance(model, Rate) else {})) for model in models]
        outcomes = [model.take(plan, units, patience=patience) for model in models]
        found = [each for each in outcomes if each is not None]
        if len(found) == len(models):
            return found
        for model, state in zip(models, before, strict=True):
            vars(model).update(state)
        return None

    def _correct(self, identifier: str, taken: list[tuple[str, Model, int, int, int | None]], units: int) -> Generator[int]:
        begin = self.now
        for place, (entity, model, opened, *rest) in enumerate(taken):
            yield self.lag()
            model.take(self.now, units, forced=True)
            # What was consumed before the bucket was full cannot be refunded.
            taken[place] = (entity, model, opened if opened == model.opened() else -2, *rest)  # type: ignore[assignment]
        yield self.lag()
        charges = [(entity, model.text, units) for entity, model, *_ in taken]
        self.lines.append(line("correction", identifier, begin, self.now, charges))

    def _give(
        self, identifier: str, taken: list[tuple[str, Model, int, int, int | None]], units: int, *, lost: bool
    ) -> Generator[int]:
        begin = self.now
        for _, model, opened, _, _ in taken:
            yield self.lag()
            if not lost or self.chance.random() < 0.5:
                model.give(self.now, units, opened)
        yield self.lag()
        charges = [(entity, model.text, units) for entity, model, *_ in taken]
        self.lines.append(line("refund", identifier, begin, None if lost else self.now, charges))
