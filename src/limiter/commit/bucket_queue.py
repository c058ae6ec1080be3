# twin: sync_bucket_queue.py
"""What one process knows of a bucket, the requests that wait for it, and the callers who wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.plan import NOBODY, Queue, owes
from ..core.request import Grant, Request
from ..core.state import EMPTY
from ..exceptions import anew
from ..runtime.wakeup import Signal
from .prefetch import Purse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.plan import Plan
    from ..core.records import BucketKey
    from ..core.request import Charge, Refusal, Unsent
    from ..core.state import Update


GROUNDED = (0, 0, 0)
"""No write is under way."""


class Ticket:
    """One request on its way through a lane.

    Nobody waits for its outcome where `caller` is None, and nobody any more where it was `abandoned`. It has `entered` when it
    was queued, and is `counted` while those who ask the same can be refused because of it. The outcome stays None where it
    never was, because another one of the same caller was refused at once and of this one nothing is known.
    """

    __slots__ = ("abandoned", "caller", "counted", "done", "entered", "lane", "outcome", "request", "returns")

    def __init__(self, request: Request, lane: Lane, caller: Caller | None = None) -> None:
        self.request = request
        self.lane = lane
        self.caller = caller
        self.returns = bool(request.credits)
        self.abandoned = False
        self.counted = False
        self.entered = False
        self.done = False
        self.outcome: Grant | Refusal | Unsent | Exception | None = None

    def result(self) -> Grant | Refusal | Unsent | Exception | None:
        """The outcome; an error anew for everybody who shares it."""
        outcome = self.outcome
        if not isinstance(outcome, Exception):
            return outcome
        fresh = anew(outcome)
        fresh.__cause__ = outcome.__cause__
        return fresh

    def finish(self, outcome: Grant | Refusal | Unsent | Exception) -> None:
        """Settle the ticket and wake whoever waits for it."""
        self.outcome, self.done = outcome, True
        if self.caller is not None:
            self.caller.pending -= 1
            self.caller.set()


class Caller(Signal):
    """Somebody who waits for some tickets until `expires`, in seconds of the monotonic clock.

    `pending` of them are undecided. It is set when one is decided, and when there is a lane to lead: one of `leads`. `leading`
    counts those that the caller is leading already.
    """

    __slots__ = ("expires", "leading", "leads", "pending", "tickets")

    def __init__(self, expires: float) -> None:
        super().__init__()
        self.expires = expires
        self.leads: tuple[Lane, ...] = ()
        self.leading = 0
        self.tickets: tuple[Ticket, ...] = ()
        self.pending = 0


class Lane:
    """What this process knows of one bucket, and the requests that wait for it.

    `leader` is who is to lead, and then the lead itself, while it carries out batches; None when the lane is at rest.
    `returning` is how many requests on their way give something back, and `ahead` how many ask to take exactly `alike` at once.
    `denied` is the time of the last refusal. `flight` is the time at which the write under way was planned, how many of those
    ahead it carries, and how many are in its batch. `state` is the last one seen, at the time `seen`, and `fresh` when the
    present batch has seen it, and `called` when it has made a call; the last write was at the time `wrote`. `sent` is an update
    without an answer yet, with the tickets that it was planned for; `stamp` names it. While a lost update may still arrive,
    `carried` are the tickets in it, to which alone its stamp bears witness, and `covered` says that others have written since.
    `trouble` is what the last call failed with. `pace` is the least time between two writes, in nanoseconds, that throttling
    has taught.
    """

    __slots__ = (
        *("ahead", "alike", "batch", "called", "carried", "covered", "denied", "flight", "fresh", "key", "leader", "pace"),
        *("purse", "queue", "returning", "seen", "sent", "stamp", "state", "trouble", "wrote"),
    )

    def __init__(self, key: BucketKey) -> None:
        self.key = key
        self.state = EMPTY
        self.seen: int | None = None
        self.wrote: int | None = None
        self.pace = 0
        self.purse: Purse | None = None
        self.fresh = False
        self.called = False
        self.leader: object = None
        self.trouble: Exception | None = None
        self.carried: list[Ticket] = []
        self.covered = False
        self.queue: list[Ticket] = []
        self.returning = 0
        self.ahead = 0
        self.denied = 0
        self.flight = GROUNDED
        self.alike: tuple[Charge, ...] = ()
        self.batch: list[Ticket] = []
        self.sent: tuple[Plan, Update, list[Ticket]] | None = None
        self.stamp = ""

    def add(self, ticket: Ticket, now: int = 0) -> None:
        """Put a ticket at the end of the queue, at the time `now`."""
        self.queue.append(ticket)
        ticket.entered = True
        self.returning += ticket.returns
        request = ticket.request
        if not request.charges or request.forced or request.deadline > now:
            return
        if not self.ahead:
            self.alike = request.charges
        if request.charges == self.alike:
            ticket.counted = True
            self.ahead += 1

    def board(self, carried: Sequence[Ticket], planned: int) -> None:
        """A write sets out, planned at that time, that carries so many of the batch."""
        self.flight = planned, sum([each.counted for each in carried]), sum([each.counted for each in self.batch])

    def before(self, request: Request, now: int) -> Queue:
        """Those who have asked for exactly the same and are not decided yet.

        The ones of a batch whom its write does not carry have been refused by its plan, and only wait to be told.
        """
        if request.deadline > now or request.charges != self.alike:
            return NOBODY
        planned, carried, aboard = self.flight
        return Queue(self.ahead - aboard, carried, planned)

    def covers(self, request: Request, now: int) -> bool:
        """Whether it can be paid from what was taken in advance, which is no way past a debt, or past those who wait."""
        if self.purse is None or request.prefetch is None or owes(self.state, request.charges, now):
            return False
        return self.purse.covers(request.charges, now)

    def pay(self, request: Request, now: int) -> Grant | None:
        """Pay for it from what was taken in advance, where it is covered."""
        if request.prefetch is None or owes(self.state, request.charges, now):
            return None
        if self.purse is None:
            self.purse = Purse()
        return self.purse.spend(request.charges, request.prefetch, now)

    def order_block(self, now: int) -> Ticket | None:
        """Have the batch take a block in advance, and give back what has gone stale."""
        if self.purse is None or not any(ticket.request.prefetch for ticket in self.batch):
            return None
        stale = self.purse.empty(now)
        if stale:
            self.batch.append(Ticket(Request(credits=stale), self))
            self.returning += 1
        charges = self.purse.order(charge for each in self.batch if each.request.prefetch for charge in each.request.charges)
        block = Ticket(Request(charges), self) if charges else None
        if block is not None:
            self.batch.append(block)
        return block

    def deposit(self, block: Ticket, now: int) -> None:
        """Keep a block that the batch has taken, however it ended."""
        if self.purse is not None and isinstance(block.outcome, Grant):
            self.purse.deposit(block.outcome, now)

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out of the queue; false when it is not there any more."""
        if ticket not in self.queue:
            return False
        self.queue.remove(ticket)
        self._discount(ticket)
        return True

    def finish(self, ticket: Ticket, outcome: Grant | Refusal | Exception) -> None:
        """Settle a ticket of the batch; what was granted to somebody who has gone is queued to be given back."""
        self._discount(ticket)
        if not ticket.abandoned:
            ticket.finish(outcome)
            return
        ticket.done = True
        if isinstance(outcome, Grant):
            credits = tuple(receipt.credit() for receipt in outcome.receipts if receipt.cost)
            if credits:
                self.add(Ticket(Request(credits=credits), self))

    def drop_abandoned(self) -> None:
        """Leave out of the batch what nobody waits for any more, unless it gives something back."""
        for ticket in self.batch:
            if ticket.abandoned and not ticket.returns and not ticket.done:
                ticket.done = True
                self._discount(ticket)
        self.batch = [ticket for ticket in self.batch if not ticket.done]

    def _discount(self, ticket: Ticket) -> None:
        self.returning -= ticket.returns
        self.ahead -= ticket.counted
        ticket.counted = False
        if not self.ahead:
            self.alike = ()

    def heir(self) -> Caller | None:
        """Who leads next: the last who came, having the most patience left, if it leads nothing else; None when nobody waits."""
        last = None
        for ticket in reversed(self.queue):
            if ticket.caller is not None and not ticket.caller.leading:
                return ticket.caller
            last = last or ticket.caller
        return last
