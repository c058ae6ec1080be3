"""Requests to one bucket and their outcomes: the values that pass between a caller, a batch and the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .state import UNBOUNDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from ..models import BaseLimit
    from .records import BucketKey
    from .state import Level


class Charge(NamedTuple):
    """`units` to take from `limit`. In a `forced` request from outside a lease, negative units refund those of any caller."""

    limit: BaseLimit
    units: int


class Refund(NamedTuple):
    """`cost` to refund to `limit`. It was taken in the busy period, or in the period or session, that began at `since`.

    A cost is in the measure of the limit's account: nanoseconds of refill for a rate, units for the other kinds. For a booking
    that has not started, `start` is its start, `level` is the `tat` that it left the bucket at, and `earlier` is the latest start
    promised before it, UNBOUNDED if that is not known.
    """

    limit: BaseLimit
    cost: int
    since: int
    start: int = -1
    level: int = -1
    earlier: int = -1


class Request(NamedTuple):
    """A request to the bucket `key`.

    `charges` are admitted all or none, if they can start by `deadline` (nanoseconds since the epoch). A `forced` request is
    admitted always, into debt if need be. `refunds` are given back as far as they are still worth something. One that `allots`
    may be paid from units that its process took in advance.

    `headroom` is what each charge leaves to others, in the measure of the limit's account and in the order of the charges; if
    empty, nothing is left. With `oversize` an amount above a capacity is admitted when the whole capacity is available. `clear`
    names limits that are reset as if nothing had been used. `pause` is the time until which the bucket admits nothing; 0 ends a
    pause. A request is `scheduled` if a schedule changes the limits. `slots` means that it takes, frees or renews slots.
    """

    key: BucketKey
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    deadline: int = 0
    forced: bool = False
    allots: bool = False
    headroom: tuple[int, ...] = ()
    oversize: bool = False
    clear: tuple[str, ...] = ()
    pause: int | None = None
    scheduled: bool = False
    slots: bool = False

    @property
    def is_settlement(self) -> bool:
        """Whether it only asks for a write of the process's slots."""
        return self.slots and not self.charges and not self.refunds

    @property
    def terms(self) -> tuple[object, ...]:
        """The charges, and the room left to others. If a request is refused, so are later ones on the same terms."""
        return self.charges, self.headroom, self.oversize

    @property
    def is_order(self) -> bool:
        """Whether it changes the bucket from outside a lease. Such a request is planned alone."""
        return bool(self.clear) or self.pause is not None or (self.forced and any(units < 0 for _, units in self.charges))


class Receipt(NamedTuple):
    """What was taken of one limit: its `cost`, in the busy period or opening that began at `since`, leaving the account at `tat`.

    `start` is the time from which it may be used. It is later than the decision only if the caller has to wait, which forced
    requests never do. `earlier` is the latest start that was promised before it, -1 if there is none, UNBOUNDED if that is not
    known. A value below -1 marks a shadow limit that would have refused, and was charged nothing. For slots, `since` is the
    generation of the leases that hold them, and `earlier` is the number of the fence.
    """

    limit: BaseLimit
    units: int
    cost: int
    since: int
    start: int
    tat: int
    earlier: int = -1

    def refund(self) -> Refund:
        """Return the refund of all of it."""
        return Refund(self.limit, self.cost, self.since, self.start, self.tat, self.earlier)

    @property
    def left_out(self) -> int | None:
        """The time from which a shadow limit would allow the request, if it would have refused it; otherwise None."""
        return -self.earlier if self.earlier < -1 else None


_BEYOND = Receipt._fields.index("cost")
_FIGURES = len(Receipt._fields) - _BEYOND
_START = 2 + Receipt._fields.index("start") - _BEYOND


class Grant(tuple[Any, ...]):
    """The request is admitted, from `start` on, as decided at `now`.

    A grant is one flat tuple: `now`, the charges, and for each charge the further fields of its receipt. Hundreds are made at
    once, and the garbage collector would visit each part of a nested one.
    """

    __slots__ = ()

    def __new__(cls, receipts: Sequence[Receipt], now: int) -> Self:
        """Make a grant of these receipts."""
        charges = tuple(Charge(receipt.limit, receipt.units) for receipt in receipts)
        figures: list[Any] = [figure for receipt in receipts for figure in receipt[_BEYOND:]]
        return cls.of(charges, figures, now)

    @classmethod
    def of(cls, charges: tuple[Charge, ...], figures: Iterable[int], now: int) -> Self:
        """Return the grant of `charges`; `figures` are, for each of them, the fields of a `Receipt` from `cost` on."""
        return tuple.__new__(cls, (now, charges, *figures))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(receipts={self.receipts!r}, now={self.now!r})"

    @property
    def now(self) -> int:
        """The time of the decision."""
        now: int = self[0]
        return now

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What was taken of each limit."""
        places = range(2, len(self), _FIGURES)
        return tuple([Receipt(*charge, *self[at : at + _FIGURES]) for charge, at in zip(self[1], places, strict=True)])

    @property
    def start(self) -> int:
        """The time from which every enforced limit allows the request."""
        latest: int = self[0]
        for (limit, _), start in zip(self[1], self[_START::_FIGURES], strict=True):
            if start > latest and limit.enforce:
                latest = start
        return latest


class Refusal(NamedTuple):
    """The request does not fit; `levels` are the levels that each charge would meet at `now`, in the order of the charges.

    `by_state` means that the state alone refuses it, without the other requests of its batch. `starts` are the times from which
    each limit would allow it, UNBOUNDED if it never does, and `start` is the time from which all enforced limits would. That time
    is not after the request's deadline if no future start may be promised: then the caller can wait and ask again.
    """

    levels: tuple[Level, ...]
    starts: tuple[int, ...]
    now: int
    by_state: bool = True
    start: int = UNBOUNDED


class NotTried(NamedTuple):
    """The request fits, but was not sent, because another request of the same caller is refused; fields as in `Refusal`."""

    levels: tuple[Level, ...]
    starts: tuple[int, ...]
    now: int


def refund_of(key: BucketKey, receipts: Iterable[Receipt]) -> Request:
    """Return the request that refunds everything that the receipts show as taken from a bucket."""
    refunds = tuple([receipt.refund() for receipt in receipts if receipt.cost > 0])
    return Request(key, refunds=refunds, slots=any(refund.limit.holds for refund in refunds))
