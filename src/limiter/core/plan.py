"""Decides requests against one bucket without doing any I/O.

The requests of a batch are applied, one after another, to the last state seen. Requests that fit become one conditional `Update`.
Its conditions assert exactly what the admissions depend on, limit by limit: each kind of limit has an account that knows them. If
the state has changed since, the update either still admits all of them correctly or is not applied, and the returned state
decides again. A refusal is final only if the state was fresh.

Within a batch all charges come first and all refunds last, so that a refund never hides that a bucket was full.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .limits.accounts import ACCOUNTS, account_class
from .limits.births import Unseen, rate_of, tidy
from .limits.count import FAR
from .limits.slots import numbered
from .preview import look
from .request import Grant, Refusal
from .resetting import clear, pause
from .state import PAUSED, TTL, UNBOUNDED, Change, Condition, Mark, Update, View, check_readable
from .units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..models import BaseLimit
    from .limits.protocol import Account
    from .request import Request
    from .slots import Side, SlotWrite
    from .state import BucketState

TTL_GRACE = 3_600
"""Seconds by which `ttl` is set beyond the time needed, so that a busy bucket rarely has to move it."""

Entry = tuple["Account", bool, int, int]
"""One charge: its account, whether the limit is enforced, the bound and the cost."""


@dataclass(slots=True, eq=False)
class Plan:
    """The result of a batch against one state: an update that carries some of its requests, and the refusals of others.

    A request that is neither carried nor refused has to be planned again after the update. `update` is None when there is
    nothing to write: no request was admitted, or no refund is still valid. It may carry no request, to write the birth of an
    account that refuses. `shares` maps the place of each carried request in the batch to its first place in `totals`. `totals`
    holds what the batch has taken of each of the request's limits, up to and including this request. (It is one list, because
    hundreds of small tuples would trigger the garbage collector.) `left_out` holds, by place in `totals`, the charges of shadow
    limits that did not fit: the level that they met, and the time from which they would fit.

    `rivals` are names of which the batch uses one rate or period while another is in use. `dropped` are identities that had to
    leave the item although they were not full.

    While the plan is made, the accounts add `conditions`, `changes`, `marks` and `removals` to it, and `reasons`: conditions that
    are asserted only if there is something to write. `reach` is the time until which a change from outside a lease is needed.
    """

    view: View
    requests: Sequence[Request]
    update: Update | None = None
    refused: dict[int, Refusal] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    totals: list[int] = field(default_factory=list)
    left_out: dict[int, tuple[int, int]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    conditions: list[Condition] = field(default_factory=list)
    reasons: list[Condition] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    removals: list[tuple[str, str]] = field(default_factory=list)
    slots: tuple[SlotWrite, ...] = ()
    rivals: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    reach: int = 0
    _asked: tuple[object, ...] = ()
    _entries: list[Entry] = field(default_factory=list)

    @property
    def now(self) -> int:
        """The time of the plan."""
        return self.view.now

    def proven(self, *, behind_equals: bool) -> dict[int, Refusal]:
        """Return the refusals that hold if others write first, by place.

        A state proves those that it refuses alone. Slots can be freed at any time, by any process, so an older state does not
        prove that none is free. A fresh one also proves those `behind_equals`, if so asked: if one of the requests before is
        refused later, because others have taken so much, so is the same request behind it.
        """
        fresh, equals = self.view.fresh, self._equals() if behind_equals and self.view.fresh else 0
        return {
            place: refusal
            for place, refusal in self.refused.items()
            if place < equals or (refusal.by_state and (fresh or not self.requests[place].slots))
        }

    def _equals(self) -> int:
        """Return how many requests, from the first on, only ask, without a timeout, on the same terms."""
        for place, request in enumerate(self.requests):
            asks = _asks(request) and not request.slots and request.deadline <= self.view.now
            if not asks or request.terms != self.requests[0].terms:
                return place
        return len(self.requests)

    def grants(self, after: BucketState, sent_first: Plan | None = None) -> dict[int, Grant]:
        """Return the outcome of every carried request, by its place in the batch; the state is now `after`.

        If other processes have written since the update, only an upper bound of what the batch met is known. Then a caller waits
        until its true start or later. Its booking is not undone when it is cancelled, because a later booking may depend on it.
        If another plan was `sent_first` with the same stamp, it is then unknown which of the two was applied.
        """
        covered = self.update is not None and after.stamp != self.update.stamp
        grounds, earlier, known = {}, {}, self.view.now if covered else UNBOUNDED
        for identity, account in self.accounts.items():
            grounds[identity] = account.ground(after)
            if covered:
                other = account if sent_first is None else sent_first.accounts.get(identity, account)
                grounds[identity] = _either(account.ground_at_most(after), other.ground_at_most(after))
            earlier[identity] = account.level.booked
        pairs = self.shares.items()
        grants = {place: self._grant(self.requests[place], first, grounds, earlier, known) for place, first in pairs}
        return numbered(grants, self.slots, after) if self.slots and not covered else grants

    def outcomes(self, after: BucketState, sent_first: Plan | None = None) -> dict[int, Grant | Refusal]:
        """Return what the applied update has decided, by place in the batch; the state is now `after`.

        A request that did not fit beside the others is refused by the time of their write, before later refills. If an attribute
        has become unreadable, the next look ends the affected requests. If others have written since, the refused ones are
        planned again.
        """
        decided: dict[int, Grant | Refusal] = {**self.grants(after, sent_first)}
        if after.unreadable or self.update is None or after.stamp != self.update.stamp:
            return decided
        for place in self.refused:
            found = look(after, self.requests[place], self.now, error=self.view.error)
            if isinstance(found, Refusal):
                decided[place] = found
        return decided

    def _grant(
        self, request: Request, first: int, grounds: Mapping[str, tuple[int, int]], earlier: dict[str, int], known: int
    ) -> Grant:
        figures: list[int] = []
        now = self.view.now
        for index, (account, enforced, bound, cost) in enumerate(self._entries_of(request), first):
            identity = account.identity
            before, since = grounds[identity]
            if not enforced and index in self.left_out:
                tat, start = self.left_out[index]
                figures += 0, since, now, tat, -start
                continue
            total = self.totals[index]
            tat = before + total
            start = tat - bound if account.books else now
            told = min(start, now) if request.forced else start  # It does not book, nor does its refund undo a booking.
            figures += total if cost < 0 else cost, since, told, tat, earlier[identity] if told <= known else UNBOUNDED
            if cost > 0:
                earlier[identity] = max(told, earlier[identity])
        return Grant.of(request.charges, figures, now)

    def _play(self, places: Iterable[int]) -> None:
        """Carry, refuse or leave each request at these places, in order. A change from outside a lease is planned alone."""
        returning = {refund.limit.identity for request in self.requests for refund in request.refunds}
        now = self.view.now
        for index in places:
            request = self.requests[index]
            if (request.forced or request.clear or request.pause is not None) and request.is_order:
                if not index:
                    self._follow(request)
                    return
                continue
            start, last = self._earliest_start(request)
            if request.forced or start <= now:
                self._carry(index, request, returning, last)
            elif start > request.deadline or start > last:
                self._refuse(index, request, start)
            elif not any(charge.limit.identity in returning for charge in request.charges):
                self._carry(index, request, returning, last)
            # Otherwise a booking would void the refunds of its batch, so the request is left for the next update.

    def _places(self, part: float) -> list[int]:
        """Return the places of what is carried if only a part of it may ask for units: the first ones, at least one.

        What is forced, gives back or asks for nothing stays.
        """
        asking = [place for place in self.shares if _asks(self.requests[place])]
        left = frozenset(asking[max(1, int(part * len(asking))) :])
        return [place for place in self.shares if place not in left]

    def _account(self, limit: BaseLimit) -> Account:
        """Return the account of one limit; opens it on first use."""
        account = self.accounts.get(limit.identity)
        if account is None:
            if self.view.state.unreadable:
                check_readable(self.view.state, limit.identity)
            kind = ACCOUNTS.get(type(limit)) or account_class(limit)
            account = self.accounts[limit.identity] = kind(limit, self.view, self.accounts)
        return account

    def _entries_of(self, request: Request) -> list[Entry]:
        """Return the entry of each charge; cached, because equal requests often share one tuple of charges."""
        charges, headroom, oversize = request.charges, request.headroom, request.oversize
        if self._asked and charges is self._asked[0] and (headroom, oversize) == self._asked[1:]:
            return self._entries
        entries: list[Entry] = []
        for place, (limit, units) in enumerate(charges):
            account = self._account(limit)
            if limit.enforce:
                account.enforced = True
            entries.append((account, limit.enforce, *account.price(limit, units, headroom[place] if headroom else 0, oversize)))
        self._asked, self._entries = (charges, headroom, oversize), entries
        return entries

    def _earliest_start(self, request: Request) -> tuple[int, int]:
        """Return the time from which every enforced limit allows the request, at least now; and the latest start to promise."""
        now, paused = self.view.now, self.view.state.paused
        if not request.charges:
            return now, UNBOUNDED
        earliest, last = max(now, paused), now if request.headroom or paused > now else UNBOUNDED
        for account, enforced, bound, cost in self._entries_of(request):
            if enforced:
                start = account.earliest(bound, cost)
                if start > earliest:
                    earliest = start
                if account.last < last:
                    last = account.last
        return earliest, last

    def _carry(self, index: int, request: Request, returning: set[str], last: int) -> None:
        """Carry the request: enter its charges, except those of shadow limits that do not fit. No start after `last` is promised.

        Others may have taken more since the state was seen, so that the start is later than planned.
        """
        first, now = len(self.totals), self.view.now
        patience = None if request.forced else max(0, request.deadline - now)
        if request.headroom and patience:
            patience = 0
        promised = patience if patience is None or last == UNBOUNDED else min(patience, max(0, last - now))
        for account, enforced, bound, cost in self._entries_of(request):
            if patience is not None and not enforced:
                start = account.earliest(bound, cost)
                if start > now and (start > now + patience or start > account.last or account.identity in returning):
                    # A charge that could book, if its batch had no refunds, is asserted not to fit now.
                    account.leave_out(bound, cost, patience if start > now + patience else 0)
                    self.left_out[len(self.totals)] = account.met().tat, start
                    self.totals.append(0)
                    continue
            self.totals.append(account.take(bound, cost, promised if enforced else patience))
        self.shares[index] = first

    def _refuse(self, index: int, request: Request, start: int) -> None:
        state, now = self.view.state, self.view.now
        entries = self._entries_of(request)
        levels = tuple([account.met() for account, *_ in entries])
        starts = tuple([max(account.earliest(bound, cost), state.paused) for account, _, bound, cost in entries])
        by_state = isinstance(look(state, request, now, error=self.view.error, slots=self.view.slots), Refusal)
        self.refused[index] = Refusal(levels, starts, now, by_state, start)

    def _follow(self, request: Request) -> None:
        """Carry a change from outside a lease: clear limits, pause the bucket, or refund what others have taken."""
        if not self.view.fresh:
            raise Unseen
        self.shares[0] = 0
        self.reach = clear(self, self.view, request.clear)
        if request.pause is not None:
            self.reach = max(self.reach, pause(self, self.view, request.pause))
        for account, _, bound, cost in self._entries_of(request):
            self.totals.append(account.withdraw(self, -cost) if cost < 0 else account.take(bound, cost, None))

    def _write(self, stamp: str, count: int) -> Update | None:
        """Return the update that makes every change entered so far; None when there is nothing to write."""
        now, state = self.view.now, self.view.state
        for index in self.shares:
            for refund in self.requests[index].refunds:
                check_readable(state, refund.limit.identity)
                # A limit that has left the item cannot be refunded, and a refund does not open its account.
                if refund.cost > 0 and state.level(refund.limit.identity).tat >= 0:
                    self._account(refund.limit).give(refund)
        # Charges come first, as in the batch; the birth of a shadow limit is written only along with other changes.
        accounts = sorted(self.accounts.values(), key=lambda account: (not account.takes, not account.enforced))
        reach = max(now, self.reach)
        for account in accounts:
            reach = max(reach, account.write(self))
        if not self.conditions and not self.changes and not self.slots:
            return None
        self._assert_bucket(count)
        if len(state.levels) > len(accounts):
            self.dropped = tuple(tidy(self, state, accounts, now))
        self.rivals = self._names_of_rivals()
        self.conditions += self.reasons
        if reach > now or not self.changes:
            self._extend_ttl(reach)
        marks, removals = tuple(self.marks), tuple(self.removals)
        return Update(stamp, tuple(self.conditions), tuple(self.changes), marks, removals, self.slots, count)

    def _assert_bucket(self, count: int) -> None:
        """Assert that the bucket is not paused; and, if nothing is known of it, that its count is a number."""
        state = self.view.state
        # What is forced, and what only refunds, is written in a paused bucket too; a call is not, even if it takes nothing.
        if not all(self.requests[index].forced or not self.requests[index].charges for index in self.shares):
            if state.unreadable:
                check_readable(state, PAUSED)
            self.conditions.append(Condition(TTL, "paused", None, self.view.now, absent=True))
        if count and not (state.stamp or self.view.fresh):
            self.conditions.append(Condition(TTL, "count", 0, None, absent=True))

    def _renew_slots(self, side: Side) -> None:
        """Add to the update the renewal of the process's slots that are due, and the release of slots whose leases have ended."""
        for limit in side.due:
            if limit.identity not in self.view.state.unreadable:
                self._account(limit)

    def _names_of_rivals(self) -> tuple[str, ...]:
        marks = self.view.state.marks
        named = [
            each for each in self.accounts.values() if each.total > 0 and marks.get(each.name, each.identity) != each.identity
        ]
        return tuple(sorted({account.name for account in named if self._has_rival(account)})) if named else ()

    def _has_rival(self, account: Account) -> bool:
        """Tell whether another account of the name, opened later, is in use."""
        newest = self.view.state.marks.get(account.name, account.identity)
        if newest == account.identity or account.born:
            return False
        other = self.accounts.get(newest)
        level = self.view.state.level(newest)
        return level.tat > (self.view.now if rate_of(newest) else 0) or (other is not None and other.total > 0)

    def _extend_ttl(self, reach: int) -> None:
        if self.view.state.unreadable:
            check_readable(self.view.state, TTL)
        needed = -(-reach // NANOSECONDS)
        if self.view.state.ttl >= needed:
            self.conditions.append(Condition(TTL, "ttl", needed, None))
        else:
            # Another limit of the bucket, not seen here, may need a later end, so the end only moves forward.
            end = min(needed + TTL_GRACE, max(needed, FAR // NANOSECONDS))
            self.conditions.append(Condition(TTL, "ttl", None, end, absent=True))
            self.changes.append(Change(TTL, "ttl", None, end))


def _asks(request: Request) -> bool:
    """Tell whether the request asks for units, and nothing else depends on it."""
    return not (request.forced or request.refunds) and any(units for _, units in request.charges)


def _either(ground: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """Return the most that a batch met by either of two plans, and the older busy period: a refund is void in a newer one."""
    return max(ground[0], other[0]), min(ground[1], other[1])


def plan(
    state: BucketState,
    requests: Sequence[Request],
    now: int,
    stamp: str,
    *,
    error: int = 0,
    fresh: bool = True,
    slots: Side | None = None,
    count: int = 0,
    part: float = 1.0,
) -> Plan:
    """Apply `requests` in order to `state` at `now`, which may be wrong by `error`; `stamp` names the update.

    `fresh` means that the batch has read or written the state itself. If a decision needs a fresh state and this one is not, the
    plan carries and refuses nothing: then the state has to be read. `slots` is what the process knows of its slots. `count` is
    what the update adds to the bucket's. Of the requests that fit, only a `part` is carried, the first ones; the rest is left.
    What does not fit beside all of them is refused.

    Raises `UnreadableItem` if the stored state of a requested limit is malformed.
    """
    view = View(state, now, error, fresh, slots)
    made = Plan(view, requests)
    try:
        made._play(range(len(requests)))
        if part < 1 and len(made.shares) > 1:
            places, refused = made._places(part), made.refused
            if len(places) < len(made.shares):
                made = Plan(view, requests, refused=refused)
                made._play(places)
        if slots is not None:
            made._renew_slots(slots)
        made.update = made._write(stamp, count)
    except Unseen:
        return Plan(view, requests)
    return made
