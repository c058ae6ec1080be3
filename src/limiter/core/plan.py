"""Decides requests against one bucket without doing any I/O.

A batch of requests is played, one after another, against the last state seen. Those that fit become one conditional `Update`,
whose conditions assert exactly what the admissions were built on: for each limit whether it is idle (full) or busy, and how far
its `tat` may lie ahead. So if the state has changed meanwhile, the update either still admits all of them rightly or is not
applied, and the state that comes back decides anew. What was refused is final only when the state was fresh.

Within a batch everything that takes comes first and everything that gives back last, so that a refund never hides that a bucket
had been full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import UnreadableItem
from .limits import gcra
from .request import Grant, NotTried, Refusal
from .state import TTL, Change, Condition, Update
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .limits import Limit
    from .request import Charge, Refund, Request
    from .state import BucketState, Level

TTL_GRACE = 3_600
"""Seconds by which `ttl` is set beyond what is needed, so that a busy bucket seldom has to move it."""
DEBT_MARGIN = 86_400 * NANOSECONDS
"""Nanoseconds by which a bucket's debt may have grown unseen before a settlement has to look again."""
UNBOUNDED = 1 << 100
"""Later than any time in nanoseconds, and no less so where Python's words have 32 bits."""


@dataclass(slots=True)
class _Ledger:
    """What the batch does to one limit, starting from `tat`, which is not before `now`.

    It takes `total` in all; it `takes` also where that is nothing. Where somebody has to wait, the last who does leaves the
    bucket at `tat` moved on by `booked`, and `ceiling` is the latest `tat` from which everybody up to that one is still right.
    Those behind are still right up to `patient` if they may wait, and up to `prompt` if they must not. Up to `tightest` nobody
    in the batch would have to wait.
    """

    tat: int
    idle: bool
    earlier: int
    takes: bool = False
    total: int = 0
    tightest: int = UNBOUNDED
    ceiling: int = UNBOUNDED
    patient: int = UNBOUNDED
    prompt: int = UNBOUNDED
    booked: int | None = None
    refunded: int = 0

    def admit(self, limit: Limit, cost: int, now: int, patience: int) -> None:
        """Enter a taking, already in the total, that may start so many nanoseconds after `now`, and has to fit."""
        room = now + limit.window - self.total
        if not cost:
            self.ceiling = min(self.ceiling, room + patience)
            return
        self.tightest = min(self.tightest, room)
        if self.tat > room:
            self.booked = self.total
            self.ceiling = min(self.ceiling, self.patient, room + patience)
            self.patient = self.prompt = UNBOUNDED
        else:
            self.patient = min(self.patient, room + patience)
            self.prompt = min(self.prompt, room)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a batch meets one state: an update that carries some of its requests, and the refusals that the state gives others.

    A request that is neither carried nor refused has to be planned again after the update. `update` is None when there is
    nothing to write: nobody was admitted, or all that was to be given back is worth nothing any more. `shares` say of each
    carried request, by its place in the batch, where in `totals` its own begin: what the batch has taken of each of its limits
    up to and with it. (In one list, since hundreds of little tuples would call for the garbage collector.)
    """

    now: int
    requests: Sequence[Request]
    update: Update | None
    refused: dict[int, Refusal]
    shares: dict[int, int]
    totals: list[int]
    ledgers: dict[str, _Ledger]

    def grants(self, after: BucketState) -> dict[int, Grant]:
        """The outcome of every carried request, by its place in the batch, once the update has left the state `after`."""
        grounds = {name: self._ground(ledger, after.level(name)) for name, ledger in self.ledgers.items()}
        earlier = {name: ledger.earlier for name, ledger in self.ledgers.items()}
        return {place: self._grant(self.requests[place], first, grounds, earlier) for place, first in self.shares.items()}

    def _ground(self, ledger: _Ledger, level: Level) -> tuple[int, int]:
        """The `tat` that the batch has met in fact, and the busy period that it belongs to."""
        if ledger.idle and ledger.total:
            return self.now, level.since
        return max(self.now, level.tat - ledger.total + ledger.refunded), level.since

    def _grant(self, request: Request, first: int, grounds: Mapping[str, tuple[int, int]], earlier: dict[str, int]) -> Grant:
        figures: list[int] = []
        for index, (limit, units) in enumerate(request.charges, first):
            name, cost = limit.name, gcra.cost(limit, units)
            before, since = grounds[name]
            tat = before + self.totals[index]
            start = gcra.start(limit, tat)
            if request.forced:
                start = min(start, self.now)  # Debt is no booking, and its credit undoes none.
            figures += cost, since, start, tat, earlier[name]
            if cost:
                earlier[name] = max(start, earlier[name])
        return Grant.of(request.charges, figures, self.now)


def plan(state: BucketState, requests: Sequence[Request], now: int, stamp: str) -> Plan:
    """Play `requests` in order against `state` at `now`; `stamp` names the update.

    Raises `UnreadableItem` when the stored state of a limit that is asked for makes no sense.
    """
    draft = _Draft(state, now)
    shares: dict[int, int] = {}
    refused: dict[int, Refusal] = {}
    returning = {refund.limit.name for request in requests for refund in request.refunds}
    for index, request in enumerate(requests):
        start = draft.earliest_start(request)
        if request.forced or start <= now:
            shares[index] = draft.take(request)
        elif start > request.deadline:
            refused[index] = Refusal(draft.levels(request), now, isinstance(look(state, request, now), Refusal))
        elif not any(charge.limit.name in returning for charge in request.charges):
            shares[index] = draft.take(request)
        # else: a booking would void the refunds of its batch, so it is left for the next update.
    refunds = [refund for index in shares for refund in requests[index].refunds]
    return Plan(now, requests, draft.update(refunds, stamp), refused, shares, draft.totals, draft.ledgers)


def unreadable(state: BucketState, requests: Sequence[Request]) -> dict[int, UnreadableItem]:
    """The errors of those requests, by their place, that ask for a limit whose stored state makes no sense."""
    errors = {}
    for place, request in enumerate(requests):
        for limit in (*(charge.limit for charge in request.charges), *(refund.limit for refund in request.refunds)):
            if limit.name in state.unreadable:
                errors[place] = UnreadableItem(state.unreadable[limit.name])
    return errors


class Ahead(NamedTuple):
    """Requests for exactly the same, to be admitted at once or not at all, that come before another and are not decided yet.

    A write that was planned at the time `planned` carries `carried` of them; `waiting` are in none.
    """

    waiting: int = 0
    carried: int = 0
    planned: int = 0


NONE_AHEAD = Ahead()


def look(state: BucketState, request: Request, now: int, ahead: Ahead = NONE_AHEAD) -> Refusal | NotTried:
    """The refusal of a request that the state alone keeps from starting in time; what else it would meet.

    Whoever is `ahead` counts as admitted: those whom a write carries as of its plan, of those who wait as many as fit now. If
    others have taken so much meanwhile that one of them is refused, so is whoever asks for the same behind it.
    """
    latest = max(now, request.deadline)
    met, waiting = [], ahead.waiting
    for limit, units in request.charges:
        _check_readable(state, limit.name)
        tat, cost = state.level(limit.name).tat, gcra.cost(limit, units)
        if ahead.carried:
            tat = max(tat, ahead.planned) + ahead.carried * cost
        tat = max(tat, now)
        met.append((limit, tat, cost))
        if waiting:
            waiting = _fitting(now - gcra.start(limit, tat), cost, waiting)
    levels = tuple([tat + waiting * cost for _, tat, cost in met])
    late = any(gcra.start(limit, tat + (waiting + 1) * cost) > latest for limit, tat, cost in met)
    return Refusal(levels, now) if late else NotTried(levels, now)


def owes(state: BucketState, charges: Iterable[Charge], now: int) -> bool:
    """Whether one of the limits is in debt, or promised to callers who wait."""
    return any(gcra.start(limit, state.level(limit.name).tat) > now for limit, _ in charges)


def wait(state: BucketState, request: Request, now: int) -> int:
    """Nanoseconds until the request could start at the earliest, by what the state says."""
    starts = [
        gcra.start(limit, max(state.level(limit.name).tat, now) + gcra.cost(limit, units)) for limit, units in request.charges
    ]
    return max(0, max(starts, default=now) - now)


class _Draft:
    """An update in the making."""

    def __init__(self, state: BucketState, now: int) -> None:
        self.state = state
        self.now = now
        self.ledgers: dict[str, _Ledger] = {}
        self.totals: list[int] = []
        self._charges: tuple[Charge, ...] = ()
        self._entries: list[tuple[_Ledger, Limit, int]] = []
        self.conditions: list[Condition] = []
        self.reasons: list[Condition] = []
        self.changes: list[Change] = []

    def ledger(self, name: str) -> _Ledger:
        """The account of one limit, opened on first use."""
        ledger = self.ledgers.get(name)
        if ledger is None:
            _check_readable(self.state, name)
            level = self.state.level(name)
            ledger = _Ledger(max(level.tat, self.now), level.tat <= self.now, level.booked)
            self.ledgers[name] = ledger
        return ledger

    def entries(self, charges: tuple[Charge, ...]) -> list[tuple[_Ledger, Limit, int]]:
        """The account, the limit and the cost of each charge; callers who ask the same often pass the same tuple."""
        if charges is not self._charges:
            entries = [(self.ledger(limit.name), limit, gcra.cost(limit, units)) for limit, units in charges]
            self._charges, self._entries = charges, entries
        return self._entries

    def levels(self, request: Request) -> tuple[int, ...]:
        """The `tat` that each charge of the request meets."""
        return tuple([ledger.tat + ledger.total for ledger, _, _ in self.entries(request.charges)])

    def earliest_start(self, request: Request) -> int:
        """The time from which every limit would allow the request, or now."""
        earliest = self.now
        for ledger, limit, cost in self.entries(request.charges):
            start = gcra.start(limit, ledger.tat + ledger.total + cost)
            if start > earliest:
                earliest = start
        return earliest

    def take(self, request: Request) -> int:
        """Enter the request's charges, and return where the totals of its limits begin."""
        first = len(self.totals)
        for ledger, limit, cost in self.entries(request.charges):
            ledger.takes = True
            ledger.total += cost
            self.totals.append(ledger.total)
            if not request.forced:
                ledger.admit(limit, cost, self.now, max(0, request.deadline - self.now))
        return first

    def update(self, refunds: Sequence[Refund], stamp: str) -> Update | None:
        """The update that makes every change entered so far and gives back `refunds`; None when there is nothing to write."""
        reach = self.now
        returned: dict[str, list[Refund]] = {}
        for refund in refunds:
            returned.setdefault(refund.limit.name, []).append(refund)
        for name, ledger in self.ledgers.items():
            if ledger.takes:
                reach = max(reach, self._write_charges(name, ledger, returned.pop(name, [])))
        for name, alone in returned.items():
            self._write_refunds(name, self.ledger(name), alone)
        if not self.conditions:
            return None
        self.conditions += self.reasons
        if reach > self.now or not self.changes:
            self._extend_ttl(reach)
        return Update(stamp, tuple(self.conditions), tuple(self.changes))

    def _write_charges(self, name: str, ledger: _Ledger, refunds: Sequence[Refund]) -> int:
        """Add one limit's part of the update, and return how far into the future its `tat` can be left.

        The four cases, by what is taken and by the state it is taken from:

        1. nothing (amounts of 0): only the ceiling is asserted;
        2. idle: `tat` starts again from now, and a new busy period begins, which voids every credit of an older one;
        3. busy: `tat` moves on by the total;
        4. busy with callers who wait: the start of the last of them is stored as well, and nothing is given back.
        """
        ceiling = _ceiling(ledger)
        if not ledger.total:
            self.conditions.append(Condition(name, "tat", None, ceiling, absent=True))
            self._write_refunds(name, ledger, refunds)
            return self.now
        if ledger.idle:
            self.conditions.append(Condition(name, "tat", None, self.now, absent=True))
            self.changes.append(Change(name, "tat", None, self.now + ledger.total))
            self.changes.append(Change(name, "since", None, self.now))
            self._write_booking(name, ledger)
            return self.now + ledger.total
        if self._keeps_booked(name, ledger):
            ceiling = min(ceiling, ledger.tat)
        self.conditions.append(Condition(name, "tat", self.now + 1, ceiling))
        self._write_booking(name, ledger)
        if ledger.booked is None:
            self._write_refunds(name, ledger, refunds)
        if not ledger.refunded:
            self.changes.append(Change(name, "tat", "tat", ledger.total))
        return ceiling + ledger.total

    def _keeps_booked(self, name: str, ledger: _Ledger) -> bool:
        """Whether a caller under another window was promised a later start, which has to stay on record."""
        return ledger.booked is not None and ledger.tat + self.now - ledger.tightest < self.state.level(name).booked

    def _write_booking(self, name: str, ledger: _Ledger) -> None:
        if ledger.booked is None:
            return
        base, origin = (None, self.now) if ledger.idle else ("tat", 0)
        self.changes.append(Change(name, "floor", base, origin + ledger.booked))
        if self._keeps_booked(name, ledger):
            self.conditions.append(Condition(name, "booked", ledger.tat + self.now - ledger.tightest, None))
        else:
            self.changes.append(Change(name, "booked", base, origin + self.now - ledger.tightest))

    def _write_refunds(self, name: str, ledger: _Ledger, refunds: Sequence[Refund]) -> None:
        """Add what one limit gets back: nothing of an older busy period, nothing that a pending booking was built on."""
        if not refunds:
            return
        level = self.state.level(name)
        alive = [refund for refund in refunds if refund.since == level.since]
        undone, booked = _undo_last_bookings(level, alive, self.now)
        plain = sum(refund.cost for refund in alive) - undone
        if plain and booked > self.now:
            # Others were promised starts up to the floor; only what was taken above it is free.
            floor = level.floor - undone
            plain = min(plain, max(0, ledger.tat + ledger.total - undone - floor))
            if plain:
                self.conditions.append(Condition(name, "tat", floor + undone + plain - ledger.total, None))
        ledger.refunded = undone + plain
        reasons = [Condition(name, "since", level.since, level.since)]
        if level.booked > self.now:
            reasons.append(Condition(name, "booked", level.booked, level.booked))
            reasons.append(Condition(name, "floor", level.floor, level.floor))
        else:
            reasons.append(Condition(name, "booked", None, self.now, absent=True))
        if not ledger.refunded:
            # What bookings hold back may be free by now: whatever else is written asserts that it is not.
            self.reasons += reasons if alive else []
            return
        self.conditions += reasons
        self.changes.append(Change(name, "tat", "tat", ledger.total - ledger.refunded))
        if undone:
            self.changes.append(Change(name, "floor", "floor", -undone))
        if booked < level.booked:
            self.changes.append(Change(name, "booked", None, booked))

    def _extend_ttl(self, reach: int) -> None:
        _check_readable(self.state, TTL)
        needed = -(-reach // NANOSECONDS)
        if self.state.ttl >= needed:
            self.conditions.append(Condition(TTL, "ttl", needed, None))
        else:
            # Another limit of the bucket, not seen here, may need a later end: so it only ever moves forward.
            self.conditions.append(Condition(TTL, "ttl", None, needed + TTL_GRACE, absent=True))
            self.changes.append(Change(TTL, "ttl", None, needed + TTL_GRACE))


def _check_readable(state: BucketState, name: str) -> None:
    if name in state.unreadable:
        raise UnreadableItem(state.unreadable[name])


def _fitting(room: int, cost: int, most: int) -> int:
    """How many takings of `cost` fit into so many nanoseconds, `most` at most; in debt not even one of nothing does."""
    if room < 0:
        return 0
    return min(most, room // cost) if cost else most


def _ceiling(ledger: _Ledger) -> int:
    """The latest `tat` from which every taking of the batch is still right, in its order.

    Behind the last who is booked by plan nobody who takes may have to wait in fact, since that start would not be on record.
    """
    ceiling = min(ledger.ceiling, ledger.prompt)
    return ledger.tat + DEBT_MARGIN if ceiling == UNBOUNDED else ceiling


def _undo_last_bookings(level: Level, refunds: Iterable[Refund], now: int) -> tuple[int, int]:
    """Take back bookings that nothing was built on, the latest first; return their cost and the latest start left.

    The booking that reaches up to the floor is the last. With it gone, no pending start under its window can lie after its own
    less its cost; under other windows, none that was known can lie after the latest at that time.
    """
    undone, booked = 0, level.booked
    for refund in sorted(refunds, key=lambda each: each.level, reverse=True):
        if refund.start > now and refund.level == level.floor - undone:
            undone += refund.cost
            booked = max(refund.start - refund.cost, refund.earlier) if refund.start == booked else booked
    return undone, booked
