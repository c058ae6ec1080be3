"""The interface by which `plan` knows a kind of limit: its account in a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..request import Refund
    from ..state import BucketState, Draft, Level, Mark


class Birth(NamedTuple):
    """The first use of an account: the mark that is written with it, and the identities of the other accounts of its name."""

    mark: Mark
    siblings: Sequence[str]

    @property
    def inherits(self) -> bool:
        """Whether the name is, or was, used by another account."""
        return bool(self.siblings) or not self.mark.absent


class Account(Protocol):
    """What a batch does to one limit: the only way in which `plan` knows a kind of limit.

    Costs, bounds and totals are in the kind's own measure: nanoseconds of refill for a rate, units for the others.
    """

    identity: str
    name: str
    level: Level
    birth: Birth | None
    enforced: bool
    takes: bool
    inherits: bool
    born: bool
    total: int

    @property
    def books(self) -> bool:
        """Whether a future start may be promised. It is then the level that the charge leaves, less the bound."""

    @property
    def last(self) -> int:
        """The latest start that a caller may be promised."""

    def price(self, limit: Any, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """Return how far the account may be used by a request that leaves a reserve to others, and the cost of its units."""

    def met(self) -> Level:
        """Return the level that the next request of the batch meets."""

    def earliest(self, bound: int, cost: int) -> int:
        """Return the time from which a charge is allowed: at most now if it fits, UNBOUNDED if never."""

    def fits(self, bound: int, cost: int, most: int) -> int:
        """Return how many such charges fit now in a row, up to `most`."""

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter charges of a write that was planned at the time `planned`."""

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a charge, which is forced if `patience` is None, and return the total so far."""

    def leave_out(self, bound: int, cost: int, patience: int) -> None:
        """Record that a shadow's charge does not fit, so that a write of the batch asserts it."""

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after all charges of the batch."""

    def withdraw(self, draft: Draft, units: int) -> int:
        """Refund up to `units` of cost, of any caller, and return the change of the total."""

    def write(self, draft: Draft) -> int:
        """Add conditions and changes to the update, and return until when the item is needed."""

    def ground(self, after: BucketState) -> tuple[int, int]:
        """Return the level that the batch actually met, and its `since`; the state is now `after`."""

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """Return the highest level that the batch can have met, and its planned `since`; others have written after it."""
