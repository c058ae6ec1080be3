"""Units survive a change of limits: how an account is born beside others of its name, and when those are removed.

Another rate or period under the same name is another account. It starts with the units that are used under that name, and is
separate from then on. A mark in the item names the account that was created last, so that accounts are created one after another,
and a process that has not seen the bucket cannot create one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from ..state import MARK, Condition, Level, Mark, check_readable
from ..units import HOUR, NANOSECONDS
from .protocol import Birth

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ...models import BaseLimit
    from ..state import BucketState, Draft, View
    from .protocol import Account
    from .quota import Quota

MAX_ACCOUNTS = 8
"""Accounts of one name in one bucket; the birth of one more removes the one that is full soonest."""
MAX_LEAVING = 2
"""Accounts that one write removes, because each needs operators of the write's condition."""
REST = int(HOUR) * NANOSECONDS
"""Nanoseconds for which an account must have been full before it is removed, so that its condition fails no write in practice."""
RATE = re.compile("([0-9]+)/([0-9]+)")


class Unseen(Exception):
    """Only a batch that has seen the bucket's present state can create an account."""


def birth(limit: BaseLimit, view: View, opened: Mapping[str, Account]) -> Birth:
    """Return the birth of an account that the state does not hold, beside those that the batch has opened.

    Raises `Unseen` when there are others of its name, and the state is not the batch's own.
    """
    check_readable(view.state, MARK + limit.name)
    others, seen = siblings(view.state, limit.name, limit.identity), view.state.marks.get(limit.name)
    others += [each.identity for each in opened.values() if each.name == limit.name and each.identity not in others]
    if not others and seen in (None, limit.identity):
        return Birth(Mark(limit.name, limit.identity, True, limit.identity), ())
    if not view.fresh:
        raise Unseen
    return Birth(Mark(limit.name, seen, seen is None, limit.identity), others)


def put_mark(draft: Draft, mark: Mark) -> None:
    """Let the update write a mark; of two births of one name in it, keep the one that asserts more."""
    for place, other in enumerate(draft.marks):
        if other.name == mark.name:
            draft.marks[place] = other if mark.absent and mark.seen is not None else mark
            return
    draft.marks.append(mark)


def siblings(state: BucketState, name: str, identity: str = "") -> list[str]:
    """Return the identities of the other accounts of a name."""
    prefix = name + "|"
    return [each for each in state.levels if each.startswith(prefix) and each != identity and "|" not in each[len(prefix) :]]


def measure(identity: str) -> str:
    """Return the rate or period by which an account counts its units: the part of its identity after the name."""
    return identity.rpartition("|")[2]


def rate_of(identity: str) -> tuple[int, int] | None:
    """Return the units per second of a rate, as a fraction; None for another kind of limit."""
    found = RATE.fullmatch(measure(identity))
    return (int(found[1]), int(found[2])) if found else None


def tidy(draft: Draft, state: BucketState, accounts: Collection[Account], now: int) -> list[str]:
    """Let the update remove unneeded accounts of the names that it writes; return those that it removes although needed.

    An account is removed when it has been full for an hour. The birth of one too many removes the one that is full soonest.
    """
    kept = {account.identity for account in accounts}  # Also those that are removed already.
    dropped: list[str] = []
    left = 0
    for account in accounts:
        if not account.total and not account.born:
            continue
        others = [each for each in siblings(state, account.name) if each not in kept]
        for identity in others:
            reason = _rested(identity, state.level(identity), now) if left < MAX_LEAVING else None
            if reason is not None:
                left += 1
                kept.add(identity)
                draft.conditions.append(reason)
                _remove(draft, identity)
        if account.born and len(others) >= MAX_ACCOUNTS and not left:
            dropped.append(min(others, key=lambda each: state.level(each).tat))
            kept.add(dropped[-1])
            _remove(draft, dropped[-1])
    return dropped


def _rested(identity: str, level: Level, now: int) -> Condition | None:
    """Return the condition that an account has been full for an hour; None if it has not been."""
    if rate_of(identity):
        rests = 0 <= level.tat <= now - REST
        return Condition(identity, "tat", None, now - REST, absent=True) if rests else None
    quota = counted(identity)
    rests = quota is not None and level.since >= 0 and quota.is_over(level.since, 1, now - REST)
    return Condition(identity, "since", level.since, level.since, absent=True) if rests else None


def _remove(draft: Draft, identity: str) -> None:
    # All fields, because another writer may have added one that this state does not show.
    draft.removals += [(identity, name) for name in Level._fields]


@lru_cache(maxsize=1_000)
def counted(identity: str) -> Quota | None:
    """Return a quota, session or total with this identity; None for another kind, and for one that this version does not know."""
    from .quota import CalendarQuota
    from .session import SessionQuota
    from .total import TotalQuota

    kind, _, rest = measure(identity).partition(" ")
    try:
        if kind == "total":
            return TotalQuota("any", 1)
        if kind == "session":
            return SessionQuota("any", 1, float(rest))
        return CalendarQuota("any", 1, kind, rest)
    except ValueError:
        return None
