"""What one process holds of one bucket in advance: blocks of units that one write took, spent here without any.

A unit dies an allotment after the write that took it was planned, and is lost then: it refills with the bucket. Units of quotas
and sessions in the same block go back whole instead, on condition of their opening. Everybody who asks for such a limit leaves
room for the refill of one allotment, so what is admitted in any span is at most the capacity and what refills in the span,
however many processes hold blocks. See ADR-180.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ..core import preview
from ..core.allocation import Allocation
from ..core.allotment import Sizing, lifetime, span
from ..core.limits import Limit
from ..core.request import Charge, Grant, Receipt, Request
from ..exceptions import UnreadableItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.records import BucketKey
    from ..core.request import Refund
    from ..core.state import View
    from ..models import BaseLimit

KEPT = 8
"""Blocks of one kind that are kept after they were spent, in case units come back."""


class Block:
    """Units of several limits that one write took, to be spent before `until` (store's time) and `expires` (monotonic time).

    Once it `is_ended` it holds nothing any more.
    """

    __slots__ = ("_held", "_tats", "_worth_until", "expires", "is_ended", "until")

    def __init__(self, grant: Grant, planned: tuple[int, int], error: int) -> None:
        receipts = grant.receipts
        life = lifetime(receipt.limit for receipt in receipts)
        self._held = [Allocation.of(receipt) if receipt.left_out is None else Allocation(receipt.limit) for receipt in receipts]
        self._tats = [receipt.tat for receipt in receipts]
        self.until = min([planned[0] + life, *(_end(receipt) - 2 * error for receipt in receipts)])
        self.expires = planned[1] + life
        self.is_ended = False
        self._worth_until = max([_end(receipt) for receipt in receipts if not isinstance(receipt.limit, Limit)], default=0)

    def units(self, place: int) -> int:
        """Return the units that are left of the limit at that place."""
        return self._held[place].units

    def is_alive(self, now: int, age: int) -> bool:
        """Tell whether the units may be spent, by both clocks."""
        return now < self.until and age < self.expires

    def covers(self, charges: Sequence[Charge]) -> bool:
        """Tell whether all that is asked for is left."""
        for (_, units), held in zip(charges, self._held, strict=True):  # noqa: SIM110 - a loop is faster, and every acquire asks
            if units > held.units:
                return False
        return True

    def pay(self, charges: tuple[Charge, ...], now: int) -> Payment:
        """Pay for a request that the block covers."""
        held, figures = self._held.copy(), list[int]()
        for place, (_, units) in enumerate(charges):
            held[place], refund = held[place].release(units)
            figures += refund.cost, refund.since, now, self._tats[place], -1
        payment = Payment.of(charges, figures, now)
        payment.block = self
        self._held = held  # The last step: an interruption before it has taken nothing.
        return payment

    def take_back(self, receipts: Sequence[Receipt]) -> list[Refund]:
        """Hold units again that a call could not use; return what goes back to the bucket instead, if the block has ended."""
        for place, receipt in enumerate(receipts):
            self._held[place] = self._held[place].add(receipt)
        return self.leave() if self.is_ended else []

    def owes(self, now: int) -> bool:
        """Tell whether units are held that have to go back while their period lasts; those of a rate are lost."""
        return now < self._worth_until and any(held.units and not isinstance(held.limit, Limit) for held in self._held)

    def leave(self) -> list[Refund]:
        """End the block, and return what is left of limits that count: units of a rate are lost."""
        self.is_ended = True
        counted = [held.release(held.units)[1] for held in self._held if held.units and not isinstance(held.limit, Limit)]
        self._held = [Allocation(held.limit) for held in self._held]
        return [refund for refund in counted if refund.cost]


class Payment(Grant):
    """A grant that a block has paid for."""

    block: Block

    def give_back(self) -> list[Refund]:
        """Put the units of a call that could not use them into their block, with their age; return what goes to the bucket."""
        return self.block.take_back(self.receipts)


class Stock:
    """The blocks for requests that name the same limits and leave the same headroom, and how many units to take for them.

    Requests that no block covers may be refused until the time of the process's next write.
    """

    def __init__(self, limits: tuple[BaseLimit, ...], headroom: tuple[int, ...]) -> None:
        self._limits = limits
        self._headroom = headroom
        self._life = lifetime(limits)
        self._sizing = Sizing()
        self._units = [Sizing() for _ in limits]
        self._blocks: list[Block] = []
        self._last: Block | None = None
        self._turn = 0

    def observe(self, charges: Sequence[Charge], now: int) -> None:
        """Note what was asked for, however it is paid."""
        self._sizing.observe(now)
        for sizing, (_, units) in zip(self._units, charges, strict=True):
            sizing.observe(now, units)

    def find(self, charges: Sequence[Charge], now: int, age: int) -> Block | None:
        """Return the block that paid last if it covers a request, else the oldest one that does."""
        last = self._last
        if last is None or not (last.covers(charges) and last.is_alive(now, age)):
            self._last = next((each for each in self._blocks if each.covers(charges) and each.is_alive(now, age)), None)
        return self._last

    def order(self, key: BucketKey, view: View, age: int, taken: Sequence[Charge]) -> tuple[Request, int] | None:
        """Return the request for the next block, after the charges of the same write, and its number of requests; or None."""
        if not self._sizing.level:
            return None  # Its requests have waited for so long that their rate was forgotten.
        means = self._means()
        asked, free = self._room(key, view, taken, means)
        alive = [block for block in self._blocks if block.is_alive(view.now, age)]
        held = sum(min(block.units(place) / mean for place, mean in enumerate(means)) for block in alive)
        count = self._sizing.order(span(self._life), held, free)
        if not count:
            return None
        charges = tuple([Charge(limit, max(1, int(count * mean))) for limit, mean in zip(self._limits, means, strict=True)])
        return asked._replace(charges=charges), count

    def refuse_until(self, key: BucketKey, view: View, turn: int, span: int) -> int:
        """Refuse until `turn` what no block covers, if others may use up what is free: a state is believed for an allotment.

        `view` is the state as it was seen. One process of many counts on a part of it, and writes again within `span`. Return
        the time until which it refuses, 0 if it does not.
        """
        self._turn = 0
        if self._sizing.level and self._sizing.exceeds(self._room(key, view, (), self._means())[1], span):
            self._turn = min(turn, view.now + self._life)
        return self._turn

    def turn(self, now: int) -> int:
        """Return the time until which it refuses, 0 if it does not. A turn further away is of a clock that was set back since."""
        return self._turn if now < self._turn <= now + self._life else 0

    def _means(self) -> list[float]:
        """Return the units of each limit that a request has asked for on average."""
        return [sizing.level / self._sizing.level for sizing in self._units]

    def _room(self, key: BucketKey, view: View, taken: Sequence[Charge], means: Sequence[float]) -> tuple[Request, int]:
        """Return a request for one unit of each limit, and how many average requests fit behind what is `taken`."""
        asked = Request(key, tuple([Charge(limit, 1) for limit in self._limits]), headroom=self._headroom)
        room = preview.room(view, asked, taken)
        return asked, int(min(units / mean for units, mean in zip(room, means, strict=True)))

    def note(self, count: int, *, granted: bool) -> None:
        """Learn from what became of an order for so many requests."""
        self._sizing.note(count, granted=granted)

    def add(self, grant: Grant, planned: tuple[int, int], error: int) -> None:
        """Hold a block that was granted, as planned at a store's and a monotonic time; the former may be wrong by `error`."""
        self._blocks.append(Block(grant, planned, error))

    def end(self, now: int, age: int) -> list[Refund]:
        """Forget the blocks that may not be spent any more, and return what goes back of them."""
        dead = [block for block in self._blocks if not block.is_alive(now, age)]
        kept = [block for block in self._blocks if block not in dead]
        spent = [block for block in kept[:-KEPT] if not any(block.units(place) for place in range(len(self._limits)))]
        self._blocks = [block for block in kept if block not in spent]
        return [refund for block in dead + spent for refund in block.leave()]

    def leave(self) -> list[Refund]:
        """End all blocks, and return what goes back of them."""
        blocks, self._blocks = self._blocks, []
        return [refund for block in blocks for refund in block.leave()]

    def owes(self, now: int) -> bool:
        """Tell whether units are held that have to go back; those of a rate are lost."""
        return any(block.owes(now) for block in self._blocks)

    def matters(self, now: int) -> bool:
        """Tell whether anything is held, or asked for."""
        return bool(self._blocks) or not self._sizing.is_idle(now)


class Order:
    """A block that a batch asks for beside its requests: for `count` requests of one stock.

    `planned` are the store's time and the monotonic time of the first plan under the stamp that carries it.
    """

    __slots__ = ("count", "planned", "stock")

    def __init__(self, stock: Stock, count: int) -> None:
        self.stock = stock
        self.count = count
        self.planned = (0, 0)


class Allotments:
    """What one process holds in advance of one bucket. Not safe for threads: the caller holds a lock."""

    def __init__(self) -> None:
        self._stocks: dict[tuple[object, ...], Stock] = {}

    def observe(self, request: Request, now: int) -> None:
        """Note what was asked for, however it is paid."""
        self._stock(request).observe(request.charges, now)

    def covers(self, request: Request, now: int, age: int) -> bool:
        """Tell whether a block covers the request."""
        return self._stock(request).find(request.charges, now, age) is not None

    def pay(self, request: Request, now: int, age: int, *, noted: bool = True) -> Payment | None:
        """Pay for the request from a block that covers it. If it was not `noted` before, note what was asked for."""
        stock = self._stock(request)
        block = stock.find(request.charges, now, age)
        if block is None:
            return None
        if not noted:
            stock.observe(request.charges, now)
        return block.pay(request.charges, now)

    def refuse_until(self, key: BucketKey, view: View, turn: int, span: int) -> int:
        """Refuse until `turn` what no block covers, if the process needs more until then than its part of what is free.

        Return the latest time until which anything is refused, 0 if nothing is.
        """
        latest = 0
        for stock in self._stocks.values():
            with suppress(UnreadableItem):  # Those who ask for it are told.
                latest = max(latest, stock.refuse_until(key, view, turn, span))
        return latest

    def turn(self, request: Request, now: int) -> int:
        """Return the time until which the request is refused if no block covers it, 0 if it is not."""
        return self._stock(request).turn(now)

    def orders(self, key: BucketKey, requests: Sequence[Request], view: View, age: int) -> list[tuple[Request, Order]]:
        """Return the blocks to take along with a write that carries the requests."""
        stocks = dict.fromkeys([self._stock(request) for request in requests if request.allots])
        taken = [charge for request in requests for charge in request.charges]
        made: list[tuple[Request, Order]] = []
        for stock in stocks:
            try:
                found = stock.order(key, view, age, taken)
            except UnreadableItem:
                continue  # Those who ask for it are told.
            if found is not None:
                made.append((found[0], Order(stock, found[1])))
                taken += found[0].charges
        return made

    def end(self, now: int, age: int) -> tuple[Refund, ...]:
        """Forget what may not be spent any more, and what is no longer asked for; return what goes back of it."""
        refunds = tuple([refund for stock in self._stocks.values() for refund in stock.end(now, age)])
        self._stocks = {kind: stock for kind, stock in self._stocks.items() if stock.matters(now)}
        return refunds

    def owes(self, now: int) -> bool:
        """Tell whether units are held that have to go back."""
        return any(stock.owes(now) for stock in self._stocks.values())

    def leave(self) -> tuple[Refund, ...]:
        """End all blocks, and return what goes back of them."""
        return tuple([refund for stock in self._stocks.values() for refund in stock.leave()])

    def _stock(self, request: Request) -> Stock:
        limits = tuple([limit for limit, _ in request.charges])
        stock = self._stocks.get((limits, request.headroom))
        if stock is None:
            stock = self._stocks[limits, request.headroom] = Stock(limits, request.headroom)
        return stock


def _end(receipt: Receipt) -> int:
    """Return the time after which units that count may not be spent: the end of their period."""
    limit = receipt.limit
    end = None if isinstance(limit, Limit) else limit.ends(receipt.since, receipt.since)  # type: ignore[attr-defined] # a quota
    return _NEVER if end is None else end


_NEVER = 1 << 200
