"""What `plan` knows of a kind of limit: its account in a batch."""

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
        """Whether a start ahead may be promised: then it is the bound before where the taking leaves the account."""

    @property
    def last(self) -> int:
        """The latest start that a caller may be promised."""

    def price(self, limit: Any, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        """How far the account may be used by a request for units that leaves so much to others; and what they cost."""

    def met(self) -> Level:
        """The level that the next request of the batch meets."""

    def earliest(self, bound: int, cost: int) -> int:
        """The time from which a taking is allowed; not after now where it fits, UNBOUNDED where it never does."""

    def fits(self, bound: int, cost: int, most: int) -> int:
        """How many such takings fit now one after another, `most` at most."""

    def advance(self, count: int, cost: int, planned: int) -> None:
        """Enter takings that a write carries which was planned at the time `planned`."""

    def take(self, bound: int, cost: int, patience: int | None) -> int:
        """Enter a taking, forced where `patience` is None, and return the total so far."""

    def leave_out(self, bound: int, cost: int, patience: int) -> None:
        """Enter that a shadow's taking does not fit, so that a write of the batch asserts it."""

    def give(self, refund: Refund) -> None:
        """Enter a refund, which comes after everything that the batch takes."""

    def withdraw(self, draft: Draft, units: int) -> int:
        """Give back up to `units` of cost, of any caller, and return what that changes the total by."""

    def write(self, draft: Draft) -> int:
        """Add conditions and changes to the update, and return until when the item is needed."""

    def ground(self, after: BucketState) -> tuple[int, int]:
        """What the batch met in fact, and its `since`, once the update has left `after`."""

    def ground_at_most(self, after: BucketState) -> tuple[int, int]:
        """The most that the batch can have met, and its `since` as planned, once others have written behind it too."""
