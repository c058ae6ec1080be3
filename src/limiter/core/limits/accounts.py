"""The account of each kind of limit, and functions of a kind that need no account."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..state import check_readable
from .account import RateAccount
from .concurrency import Concurrency
from .count import CountAccount
from .quota import CalendarQuota
from .rate import Limit
from .session import SessionQuota
from .slots import SlotAccount
from .total import TotalQuota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...models import BaseLimit
    from ..state import Level, View
    from .protocol import Account


ACCOUNTS: dict[type[BaseLimit], Any] = {
    Limit: RateAccount,
    CalendarQuota: CountAccount,
    SessionQuota: CountAccount,
    TotalQuota: CountAccount,
    Concurrency: SlotAccount,
}
"""The class of account of each kind of limit."""


def account_class(limit: BaseLimit) -> Any:
    """Return the class of account of a limit; the limit may be of a subclass."""
    found = ACCOUNTS.get(type(limit))
    return found if found is not None else next(each for kind, each in ACCOUNTS.items() if isinstance(limit, kind))


def open_account(limit: BaseLimit, view: View, others: Mapping[str, Account]) -> Account:
    """Open the account of a limit, besides the others that the batch has opened.

    Raises `UnreadableItem` if the limit's stored state is malformed, and `Unseen` if the account needs a fresh state.
    """
    check_readable(view.state, limit.identity)
    account: Account = account_class(limit)(limit, view, others)
    return account


def cost(limit: BaseLimit, units: int) -> int:
    """Return the cost of units in the measure of the limit's account."""
    spent: int = account_class(limit).cost(limit, units)
    return spent


def units(limit: BaseLimit, cost: int) -> int:
    """Return the units of a cost in the measure of the limit's account."""
    found: int = account_class(limit).units(limit, cost)
    return found


def standing(limit: BaseLimit, level: Level, now: int) -> tuple[int, int | None]:
    """Return the units that are available at a level, and the nanoseconds until all are; None if there is no such time."""
    found: tuple[int, int | None] = account_class(limit).standing(limit, level, now)
    return found


def price(limit: BaseLimit, units: int, reserve: int = 0, oversize: bool = False) -> tuple[int, int]:
    """Return how far the limit's account may be used by a request that leaves a reserve to others, and the cost of its units."""
    found: tuple[int, int] = account_class(limit).price(limit, units, reserve, oversize)
    return found


def reserve(limit: BaseLimit, share: float) -> int:
    """Return a share of the limit's capacity in the measure of its account, rounded up. The share is read as a decimal."""
    part = Fraction(repr(float(share)))
    kept: int = account_class(limit).reserve(limit, part.numerator, part.denominator)
    return kept
