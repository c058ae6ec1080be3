"""What a bucket's state proves without a write: refusals, waits, debts and unreadable limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..exceptions import UnreadableItem
from .limits import gcra
from .limits.account import fitting
from .request import NotTried, Refusal
from .state import check_readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .request import Charge, Request
    from .state import BucketState


class Ahead(NamedTuple):
    """Requests for exactly the same, to be admitted at once or not at all, that come before another and are not decided yet.

    A write that was planned at the time `planned` carries `carried` of them; `waiting` are in no write.
    """

    waiting: int = 0
    carried: int = 0
    planned: int = 0


NONE_AHEAD = Ahead()


def look(state: BucketState, request: Request, now: int, ahead: Ahead = NONE_AHEAD) -> Refusal | NotTried:
    """The refusal of a request that the state alone keeps from starting in time; otherwise what the request would meet.

    The requests `ahead` count as admitted: those that a write carries as of its plan, of those that wait as many as fit now. If
    other processes have taken so much since that one of them is refused, so is the same request behind it.
    """
    latest = max(now, request.deadline)
    met, waiting = [], ahead.waiting
    for limit, units in request.charges:
        check_readable(state, limit.name)
        tat, cost = state.level(limit.name).tat, gcra.cost(limit, units)
        if ahead.carried:
            tat = max(tat, ahead.planned) + ahead.carried * cost
        tat = max(tat, now)
        met.append((limit, tat, cost))
        if waiting:
            waiting = fitting(limit, tat, cost, waiting, now)
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


def unreadable(state: BucketState, requests: Sequence[Request]) -> dict[int, UnreadableItem]:
    """The errors of those requests, by their place, that ask for a limit whose stored state makes no sense."""
    errors = {}
    for place, request in enumerate(requests):
        for limit in (*(charge.limit for charge in request.charges), *(refund.limit for refund in request.refunds)):
            if limit.name in state.unreadable:
                errors[place] = UnreadableItem(state.unreadable[limit.name])
    return errors
