# twin: sync_bucket_queue.py
"""The queue of one bucket: what this process knows of the bucket, and the requests and callers that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..core.forgetting import is_forgettable
from ..core.preview import NONE_AHEAD, Ahead, look, owes, refused_until
from ..core.request import Grant, Request, refund_of
from ..core.state import EMPTY, View
from ..core.units import NANOSECONDS
from ..exceptions import anew
from ..runtime.wakeup import Wakeup
from .allotment import Allotments

if TYPE_CHECKING:
    from ..core.pace import Pace
    from ..core.records import BucketKey
    from ..core.request import Charge, NotTried, Refusal
    from ..core.state import BucketState
    from ..runtime.wakeup import Relay
    from .slots import BucketSlots

    # None if another request of the same caller was refused at once, and this one was not examined.
    Outcome = Grant | Refusal | NotTried | Exception | None

SCARCE = NANOSECONDS
"""Nanoseconds after a refusal for which the bucket counts as scarce."""


class PendingRequest:
    """One request on its way through a queue.

    `waiter` is the caller to wake; None for requests that the limiter makes itself. `abandoned` means that the caller has gone. A
    request has `entered` when it was queued. It is `counted` while equal requests behind it can be refused because of it.
    """

    __slots__ = ("abandoned", "counted", "done", "entered", "outcome", "queue", "request", "returns", "waiter")

    def __init__(self, request: Request, queue: BucketQueue, waiter: Waiter | None = None) -> None:
        self.request = request
        self.queue = queue
        self.waiter = waiter
        self.returns = bool(request.refunds) or (request.slots and request.is_settlement)
        self.abandoned = False
        self.counted = False
        self.entered = False
        self.done = False
        self.outcome: Outcome = None

    def result(self) -> Outcome:
        """Return the outcome. Callers that share an error each get a copy."""
        outcome = self.outcome
        if not isinstance(outcome, Exception):
            return outcome
        fresh = anew(outcome)
        fresh.__cause__ = outcome.__cause__
        return fresh

    def finish(self, outcome: Outcome, relay: Relay | None = None) -> None:
        """Set the outcome and wake the caller, at once or by a relay."""
        self.outcome, self.done = outcome, True
        waiter = self.waiter
        if waiter is None:
            return
        if relay is not None:
            relay.add(waiter, waits=not waiter.leading and not waiter.to_lead)
        waiter.pending -= 1
        if relay is None:
            waiter.set()


class Waiter(Wakeup):
    """A task or thread that waits for its requests. At `expires` (monotonic seconds) it checks whether the table still responds.

    It is woken when one of them is decided, or when it becomes leader of a queue in `to_lead`. `pending` counts its undecided
    requests, `leading` the queues that it leads already. The table may take `patience` seconds.
    """

    __slots__ = ("expires", "leading", "patience", "pending", "requests", "to_lead")

    def __init__(self, now: float, patience: float) -> None:
        super().__init__()
        self.patience = patience
        self.expires = now + patience
        self.to_lead: tuple[BucketQueue, ...] = ()
        self.leading = 0
        self.requests: tuple[PendingRequest, ...] = ()
        self.pending = 0


class CurrentBatch(Protocol):
    """The current batch of a queue, as the queue and its committer use it; see `Batch`."""

    requests: list[PendingRequest]
    in_flight: tuple[int, int, int]
    sent: float | None
    last_error: Exception | None

    async def carry_out(self) -> None:
        """Decide every request."""

    def fail(self, error: Exception) -> None:
        """End every undecided request with the error."""

    def keep_blocks(self) -> None:
        """Keep the blocks that the batch has taken in advance."""


class BucketQueue:
    """What this process knows of one bucket, and the requests that wait for it.

    `state` is the last state seen, at the time `seen`; the last write was at `wrote`. `denied` is the time of the last refusal.
    `leader` is the waiter that is about to lead, then a token while batches are carried out, and None when the queue is at rest.
    `batch` is the current batch. `slots` are the slots that the process holds; None if it never held any. `returning` counts
    the requests with refunds. `ahead` counts those that ask for `same_charges` without a timeout. `pace` is what is known of the
    other processes that write to it; None as long as none has been seen. `relay` wakes the callers that the last batch decided,
    if they are many. `unowed` are a state, charges, and the time from which that state owes nothing to their limits' callers.
    """

    __slots__ = (
        *(
            "ahead",
            "allotments",
            "batch",
            "denied",
            "key",
            "leader",
            "pace",
            "relay",
            "requests",
            "returning",
            "same_charges",
            "warned",
        ),
        *("seen", "slots", "state", "unowed", "wrote"),
    )

    def __init__(self, key: BucketKey) -> None:
        self.key = key
        self.state = EMPTY
        self.unowed: tuple[BucketState, tuple[Charge, ...], int] = (EMPTY, (), 0)
        self.seen: int | None = None
        self.wrote: int | None = None
        self.denied = 0
        self.leader: object = None
        self.batch: CurrentBatch | None = None
        self.requests: list[PendingRequest] = []
        self.returning = 0
        self.ahead = 0
        self.same_charges: tuple[object, ...] = ()
        self.pace: Pace | None = None
        self.relay: Relay | None = None
        self.warned = False
        self.allotments: Allotments | None = None
        self.slots: BucketSlots | None = None

    @property
    def is_paced(self) -> bool:
        """Whether the process waits between its writes, because many processes write to the bucket."""
        return self.pace is not None and self.pace.interval > 0

    def part(self, now: int) -> float:
        """Return the part that a write carries of the requests that seem to fit; the whole unless some did not fit lately."""
        return self.pace.part if self.pace is not None and self.is_scarce(now) else 1.0

    def is_scarce(self, now: int) -> bool:
        """Tell whether units were lacking lately, so that others take what a write needs."""
        return now - self.denied <= SCARCE

    def is_idle(self, now: int) -> bool:
        """Tell whether no request is in progress, and nothing is held that has to be given back."""
        if self.leader is not None or self.requests or (self.slots is not None and not self.slots.is_idle):
            return False
        return self.allotments is None or not self.allotments.owes(now)

    def has_refilled(self, now: int) -> bool:
        """Tell whether what is known of the bucket equals what is assumed of an unknown one."""
        return self.seen is not None and is_forgettable(self.state, now)

    def forget(self) -> None:
        """End the blocks, so that units of calls that end later go back to the bucket."""
        if self.allotments is not None:
            self.allotments.leave()

    def add(self, pending: PendingRequest, now: int = 0) -> None:
        """Put a request at the end of the queue, at the time `now`."""
        if self.slots is not None and pending.request.slots:
            self.slots.absorb(pending)
        self.requests.append(pending)
        pending.entered = True
        self.returning += pending.returns
        request = pending.request
        if not request.charges or request.forced or request.deadline > now:
            return
        if not self.ahead:
            self.same_charges = request.terms
        if request.terms == self.same_charges:
            pending.counted = True
            self.ahead += 1

    def before(self, request: Request, now: int) -> Ahead:
        """Return the undecided requests for exactly the same charges that came earlier.

        Requests of the current batch that its write does not carry were refused by its plan, so they do not count.
        """
        if request.deadline > now or request.terms != self.same_charges:
            return NONE_AHEAD
        if self.batch is None:
            return Ahead(self.ahead)
        planned, carried, in_batch = self.batch.in_flight
        return Ahead(self.ahead - in_batch, carried, planned)

    def covers(self, request: Request, now: int, age: int) -> bool:
        """Tell whether a block can pay for the request. It cannot while there is a debt or a caller waits."""
        if self.allotments is None or not request.allots or self._forbids(request, now):
            return False
        return self.allotments.covers(request, now, age)

    def pay(self, request: Request, now: int, age: int, *, noted: bool = False) -> Grant | None:
        """Return the payment from a block; None if none covers the request, or the bucket has to be asked.

        A payment notes what was asked for, unless that was `noted` before.
        """
        if self.allotments is None or self._forbids(request, now):
            return None
        return self.allotments.pay(request, now, age, noted=noted)

    def _forbids(self, request: Request, now: int) -> bool:
        """Tell whether the bucket has to be asked: it is in debt, callers wait for their turn, or its item makes no sense."""
        state, charges, since = self.unowed
        if state is self.state and since <= now and charges == request.charges:
            return False
        if self.state.unreadable or owes(self.state, request.charges, now):
            return True
        self.unowed = self.state, request.charges, now
        return False

    def refuse_until_turn(self, error: int) -> None:
        """Refuse until the next write what no block covers, if many processes write and little was free when last seen."""
        if self.pace is None or not self.is_paced or self.allotments is None or self.seen is None or self.wrote is None:
            return
        span = self.pace.longest_wait
        turn = self.allotments.refuse_until(self.key, View(self.state, self.seen, error), self.wrote + span, span)
        self.denied = max(self.denied, turn)

    def turned_away(self, request: Request, now: int, error: int) -> Refusal | None:
        """Return the refusal of a request that is refused until the next write unless a block covers it; None if it is not."""
        if self.allotments is None or not request.allots or request.refunds or request.deadline > now:
            return None
        turn = self.allotments.turn(request, now)
        return refused_until(look(self.state, request, now, error=error), turn) if turn else None

    def observe(self, request: Request, now: int) -> None:
        """Note what was asked for, however it is paid."""
        if self.allotments is None:
            self.allotments = Allotments()
        self.allotments.observe(request, now)

    def pay_waiting(self, now: int, age: int) -> int:
        """Pay for requests in the queue from blocks, in their order up to the first that none covers; return how many."""
        paid = 0
        while self.requests and (pending := self.requests[0]).request.allots:
            grant = self.pay(pending.request, now, age, noted=True)
            if grant is None:
                break
            del self.requests[0]
            self.finish(pending, grant)
            paid += 1
        return paid

    def remove(self, pending: PendingRequest) -> bool:
        """Take a request out of the queue; return False if it is in a batch already."""
        if pending not in self.requests:
            return False
        self.requests.remove(pending)
        self.discount(pending)
        return True

    def finish(self, pending: PendingRequest, outcome: Outcome, relay: Relay | None = None) -> None:
        """Set the outcome of a request in the batch. A grant whose caller has gone is queued to be refunded."""
        self.discount(pending)
        if not pending.abandoned:
            pending.finish(outcome, relay)
            return
        pending.done = True
        if isinstance(outcome, Grant):
            request = refund_of(self.key, outcome.receipts)
            if request.refunds:
                self.add(PendingRequest(request, self))

    def discount(self, pending: PendingRequest) -> None:
        """Stop counting a request as undecided."""
        self.returning -= pending.returns
        self.ahead -= pending.counted
        pending.counted = False
        if not self.ahead:
            self.same_charges = ()

    def next_leader(self) -> Waiter | None:
        """Choose the next leader, or None if no caller waits.

        Prefers the latest arrival, whose deadline is furthest away, among callers that lead no other queue.
        """
        last = None
        for pending in reversed(self.requests):
            if pending.waiter is None or pending.abandoned:
                continue
            if not pending.waiter.leading:
                return pending.waiter
            last = last or pending.waiter
        return last
