"""Facts that a bucket's state proves without a write: refusals, waits, debts and unreadable limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import UnreadableItem
from .limits.accounts import open_account, price
from .request import NotTried, Refusal
from .state import MARK, PAUSED, UNBOUNDED, View
from .validation import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .limits.protocol import Account
    from .request import Charge, Request
    from .slots import Side
    from .state import BucketState


class Ahead(NamedTuple):
    """Undecided requests with the same charges, without a timeout, that came before another one.

    A write that was planned at the time `planned` carries `carried` of them; `waiting` are not in a write yet.
    """

    waiting: int = 0
    carried: int = 0
    planned: int = 0


NONE_AHEAD = Ahead()


def look(
    state: BucketState, request: Request, now: int, ahead: Ahead = NONE_AHEAD, *, error: int = 0, slots: Side | None = None
) -> Refusal | NotTried:
    """Return the refusal of a request that cannot start in time by the state alone; otherwise the levels that it would meet.

    The requests `ahead` count as admitted: those in a write as of its plan, and as many of the waiting ones as fit now. If other
    processes have taken so much since that one of them is refused, the same request behind it is refused too. An account that is
    not stored yet refuses nothing here, because its birth has to be written first.
    """
    opened = _open(View(state, now, error, slots=slots), request.charges, request.headroom, request.oversize)
    waiting = ahead.waiting
    for account, enforced, bound, cost in opened:
        if ahead.carried:
            account.advance(ahead.carried, cost, ahead.planned)
        if waiting and enforced:
            waiting = account.fits(bound, cost, waiting)
    levels, starts, start, last = [], [], max(now, state.paused), UNBOUNDED if state.paused <= now else now
    stored = start
    for account, enforced, bound, cost in opened:
        account.total += cost * (waiting if enforced or not waiting else account.fits(bound, cost, waiting))
        levels.append(account.met())
        starts.append(max(account.earliest(bound, cost), state.paused))
        if enforced:
            start = max(start, starts[-1])
            if not account.inherits:
                stored, last = max(stored, starts[-1]), min(last, account.last)
    if request.headroom:
        last = now
    if stored > now and (stored > request.deadline or stored > last):
        return Refusal(tuple(levels), tuple(starts), now, True, start)
    return NotTried(tuple(levels), tuple(starts), now)


def refused_until(seen: Refusal | NotTried, turn: int) -> Refusal:
    """Return the refusal of a request whose process asks again at `turn`, because it found too little for itself."""
    starts = tuple([max(start, turn) for start in seen.starts])
    return Refusal(seen.levels, starts, seen.now, True, max(starts))


def owes(state: BucketState, charges: Iterable[Charge], now: int) -> bool:
    """Tell whether the bucket is paused, or one of the limits is in debt or promised to waiting callers."""
    opened = _open(View(state, now), [charge._replace(units=0) for charge in charges])
    return state.paused > now or any(account.earliest(bound, 0) > now for account, enforced, bound, _ in opened if enforced)


def wait(state: BucketState, request: Request, now: int) -> int:
    """Return the nanoseconds until the earliest possible start of the request, by the state."""
    opened = _open(View(state, now), request.charges, request.headroom, request.oversize)
    starts = [account.earliest(bound, cost) for account, enforced, bound, cost in opened if enforced]
    return max(0, max([*starts, state.paused]) - now)


def room(view: View, request: Request, before: Sequence[Charge]) -> list[int]:
    """Return how often each charge of the request fits now, behind others, by the state; shadow limits do not count."""
    opened = _open(view, request.charges, request.headroom)
    if view.state.paused > view.now:
        return [0 for _ in opened]
    for limit, units in before:
        for account, *_ in opened:
            if account.identity == limit.identity:
                account.total += price(limit, units)[1]
    return [account.fits(bound, cost, MAX_AMOUNT) if enforced else MAX_AMOUNT for account, enforced, bound, cost in opened]


def unreadable(state: BucketState, requests: Sequence[Request]) -> dict[int, UnreadableItem]:
    """Return an error for each request, by its place, that asks for a limit with a malformed stored state."""
    errors = {}
    for place, request in enumerate(requests):
        for limit in (*(charge.limit for charge in request.charges), *(refund.limit for refund in request.refunds)):
            for what in (limit.identity, MARK + limit.name, PAUSED):
                if what in state.unreadable:
                    errors[place] = UnreadableItem(state.unreadable[what])
    return errors


def _open(
    view: View, charges: Sequence[Charge], headroom: Sequence[int] = (), oversize: bool = False
) -> list[tuple[Account, bool, int, int]]:
    """Return, for each charge, the account, whether the limit is enforced, the bound and the cost."""
    accounts: dict[str, Account] = {}
    opened = []
    for place, (limit, units) in enumerate(charges):
        account = accounts[limit.identity] = open_account(limit, view, accounts)
        opened.append((account, limit.enforce, *price(limit, units, headroom[place] if headroom else 0, oversize)))
    return opened
