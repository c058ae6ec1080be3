"""What is asked of one bucket, and what comes back: the values that travel between a caller, a batch and the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .models import Limit, Prefetch


class Charge(NamedTuple):
    """`units` to take from `limit`."""

    limit: Limit
    units: int


class Credit(NamedTuple):
    """`cost` nanoseconds to give back to `limit`, taken in the busy period `since`.

    For a booking that has not started, `start` is its start, `level` the `tat` that it left the bucket at, and `earlier` the
    latest start promised before it.
    """

    limit: Limit
    cost: int
    since: int
    start: int = -1
    level: int = -1
    earlier: int = -1


class Request(NamedTuple):
    """What one caller asks of one bucket.

    `charges` are admitted all or none, if they can start by `deadline` (nanoseconds since the epoch). A `forced` request is
    admitted always, into debt if need be. `credits` are given back as far as they are still worth something. With `prefetch`,
    units may be taken in advance of later requests.
    """

    charges: tuple[Charge, ...] = ()
    credits: tuple[Credit, ...] = ()
    deadline: int = 0
    forced: bool = False
    prefetch: Prefetch | None = None


class Receipt(NamedTuple):
    """What was taken of one limit: `cost` in nanoseconds, in the busy period `since`, leaving the bucket at `tat`.

    `start` is the time from which it may be used; it lies ahead of the decision only where the caller has to wait, which nobody
    has who is forced in. `earlier` is the latest start that was promised before it.
    """

    limit: Limit
    units: int
    cost: int
    since: int
    start: int
    tat: int
    earlier: int = -1

    def credit(self) -> Credit:
        """What gives it all back."""
        return Credit(self.limit, self.cost, self.since, self.start, self.tat, self.earlier)


class Grant(NamedTuple):
    """The request is admitted, from `start` on, as decided at `now`."""

    receipts: tuple[Receipt, ...]
    now: int

    @property
    def start(self) -> int:
        """The time from which every limit allows the request."""
        latest = self.receipts[0].start if self.receipts else self.now
        for receipt in self.receipts:
            latest = max(latest, receipt.start)
        return latest


class Refusal(NamedTuple):
    """The request does not fit; `levels` are the limits' `tat` at `now`, in the order of the charges.

    Either the state alone is enough to refuse it, or only together with what others of its batch take.
    """

    levels: tuple[int, ...]
    now: int
    by_state: bool = True


class Unsent(NamedTuple):
    """The request fits, but was not sent, because another one of the same caller is refused; `levels` as of a refusal."""

    levels: tuple[int, ...]
    now: int
