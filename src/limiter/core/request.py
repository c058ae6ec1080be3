"""What is asked of one bucket, and what comes back: the values that travel between a caller, a batch and the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from ..models import Prefetch
    from .limits import Limit
    from .records import BucketKey


class Charge(NamedTuple):
    """`units` to take from `limit`."""

    limit: Limit
    units: int


class Refund(NamedTuple):
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
    """What one caller asks of the bucket `key`.

    `charges` are admitted all or none, if they can start by `deadline` (nanoseconds since the epoch). A `forced` request is
    admitted always, into debt if need be. `refunds` are given back as far as they are still worth something. With `prefetch`,
    units may be taken in advance of later requests.
    """

    key: BucketKey
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
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

    def refund(self) -> Refund:
        """What gives it all back."""
        return Refund(self.limit, self.cost, self.since, self.start, self.tat, self.earlier)


_BEYOND = Receipt._fields.index("cost")
_FIGURES = len(Receipt._fields) - _BEYOND
_START = 2 + Receipt._fields.index("start") - _BEYOND


class Grant(tuple[Any, ...]):
    """The request is admitted, from `start` on, as decided at `now`.

    One flat tuple: `now`, the charges, and of each charge what its receipt says beyond it. Hundreds are made at once, and
    whatever each of them consisted of would be the garbage collector's to visit.
    """

    __slots__ = ()

    def __new__(cls, receipts: Sequence[Receipt], now: int) -> Self:
        """The grant that these receipts make up."""
        charges = tuple(Charge(receipt.limit, receipt.units) for receipt in receipts)
        figures: list[Any] = [figure for receipt in receipts for figure in receipt[_BEYOND:]]
        return cls.of(charges, figures, now)

    @classmethod
    def of(cls, charges: tuple[Charge, ...], figures: Iterable[int], now: int) -> Self:
        """The grant of `charges`; for each of them come the figures that a `Receipt` has, from `cost` on."""
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
        return tuple(Receipt(*charge, *self[at : at + _FIGURES]) for charge, at in zip(self[1], places, strict=True))

    @property
    def start(self) -> int:
        """The time from which every limit allows the request."""
        latest: int = max(self[_START::_FIGURES], default=self[0])
        return latest


class Refusal(NamedTuple):
    """The request does not fit; `levels` are the limits' `tat` at `now`, in the order of the charges.

    Either the state alone is enough to refuse it, or only together with what others of its batch take.
    """

    levels: tuple[int, ...]
    now: int
    by_state: bool = True


class NotTried(NamedTuple):
    """The request fits, but was not sent, because another one of the same caller is refused; `levels` as of a refusal."""

    levels: tuple[int, ...]
    now: int


def refund_of(key: BucketKey, receipts: Iterable[Receipt]) -> Request:
    """The request that gives back everything that the receipts say was taken of a bucket."""
    return Request(key, refunds=tuple(receipt.refund() for receipt in receipts if receipt.cost))
