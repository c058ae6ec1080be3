# twin: sync_slots.py
"""The slots of one process: what it holds in each bucket, and their renewal in time.

When a lease ends, the process keeps its slots. They pass to the first caller in line for that bucket, or to a caller that arrives
before the next write; otherwise that write frees them.
"""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections import deque
from os import urandom
from typing import TYPE_CHECKING, Protocol

from ..core import preview
from ..core.limits.slots import without_room
from ..core.request import Grant, Request
from ..core.slot_ledger import SlotLedger
from ..core.trust import is_trusted, timer_of
from ..core.units import NANOSECONDS
from ..runtime.heartbeat import Heartbeat
from ..runtime.wakeup import Wakeup

if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from ..core.records import BucketKey
    from ..core.request import Refusal
    from ..core.slots import Side, SlotWrite
    from ..core.state import BucketState, Update

    Decide = Callable[[Sequence[Request]], Awaitable[Sequence[object]]]

_log = logging.getLogger("limiter.committer")

RENEWED_AT_ONCE = 32
"""Buckets whose slots are renewed together."""


class Known(Protocol):
    """What is known of a bucket, as its slots use it; see `BucketQueue`."""

    key: BucketKey
    state: BucketState
    seen: int | None


class Pending(Protocol):
    """An undecided request, as the slots of its bucket use it; see `PendingRequest`."""

    request: Request
    done: bool


class InLine(Wakeup):
    """A caller that waits in line for slots, until `expires` (monotonic seconds).

    `request` is its request, if it asks only for slots of one bucket: then another caller may hand it a `grant`. Otherwise it is
    woken to `look` when a slot was freed. It is `pending` until it leaves the line.
    """

    __slots__ = ("expires", "grant", "look", "pending", "request")

    def __init__(self, request: Request | None) -> None:
        super().__init__()
        self.request = request
        self.grant: Grant | None = None
        self.look = False
        self.pending = 1
        self.expires = 0.0

    def handed(self) -> Grant | None:
        """Return the grant that was handed to it, if any."""
        return self.grant


class SlotKeeper:
    """Keeps the slots of one committer under one `holder` id, and renews them. `waiting` counts the callers in line.

    The renewal takes the committer's `lock`, and `close` needs none. The other methods are called with it held.
    """

    def __init__(self, clock: Callable[[], int], decide: Decide, lock: threading.Lock) -> None:
        self.holder = urlsafe_b64encode(urandom(6)).decode()
        self.waiting = 0
        self._clock = clock
        self._monotonic = timer_of(clock)
        self._decide = decide
        self._lock = lock
        self._active: dict[BucketKey, BucketSlots] = {}
        self._heartbeat = Heartbeat(self._renew)

    @property
    def now(self) -> int:
        """The table's time."""
        return self._clock()

    @property
    def mono(self) -> int:
        """The monotonic time, in nanoseconds."""
        return self._monotonic()

    @property
    def is_on_time(self) -> bool:
        """Whether the clock can be trusted. No slot is handed on by a clock that may have stopped."""
        return is_trusted(self._clock)

    def open(self, known: Known) -> BucketSlots:
        """Create the record of the slots of a bucket."""
        return BucketSlots(self, known)

    def watch(self, slots: BucketSlots, renewal: int | None) -> None:
        """Schedule the next renewal of a bucket's slots, in nanoseconds; None stops it, because nothing is held."""
        if renewal is None:
            self._active.pop(slots.key, None)
        else:
            self._active[slots.key] = slots
            self._heartbeat.wake(renewal / NANOSECONDS)

    def close(self) -> None:
        """Stop renewing, until slots are taken again."""
        self._heartbeat.stop()

    async def _renew(self) -> float | None:
        """Renew the slots that are due, and return the seconds until the next renewal."""
        with self._lock:
            due = [each for each in self._active.values() if each.renewal() == 0]
        for first in range(0, len(due), RENEWED_AT_ONCE):
            await self._renew_some(due[first : first + RENEWED_AT_ONCE])
        with self._lock:
            waits = [wait for each in self._active.values() if (wait := each.renewal()) is not None]
        return min(waits) / NANOSECONDS if waits else None

    async def _renew_some(self, due: Sequence[BucketSlots]) -> None:
        with self._lock:
            for each in due:
                each.note_attempt()
        try:
            await self._decide([Request(each.key, slots=True) for each in due])
        except Exception:  # The next attempt may succeed. Without a renewal all slots would be lost.
            _log.exception("slots were not renewed, which is tried again soon", extra={"buckets": len(due)})


class BucketSlots:
    """The process's slots of one bucket: the ledger of what it holds, and the line of waiting callers.

    No caller looks for slots of other processes before `next_look`. With `draws` the next write draws fence numbers in any case.
    All methods are called with the committer's lock held, unless their docstring says otherwise.
    """

    def __init__(self, keeper: SlotKeeper, known: Known) -> None:
        self.key = known.key
        self.line: deque[InLine] = deque()
        self.next_look = 0
        self.draws = False
        self._keeper = keeper
        self._known = known
        self._ledger = SlotLedger(keeper.holder)
        self._planned = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held and no caller waits, so that the bucket can be forgotten."""
        return self._ledger.is_idle and not self.line

    @property
    def is_unsettled(self) -> bool:
        """Whether the process's slots need a write."""
        return self.draws or self._ledger.is_unsettled(self._keeper.mono)

    def absorb(self, pending: Pending) -> None:
        """Move the slots that a request frees from the request to the process, which hands them on or frees them."""
        request = pending.request
        ended = [refund for refund in request.refunds if refund.limit.holds]
        if ended:
            pending.request = request._replace(refunds=tuple([each for each in request.refunds if each not in ended]))
            self._ledger.release(ended, self._keeper.mono)
            self._hand_on()

    def serve(self, pending: Pending) -> Grant | None:
        """Return the grant of a request that needs no write: spare slots exist, or the slots it frees were handed on."""
        request = pending.request
        if request.is_settlement:
            return None if self.is_unsettled else Grant((), self._keeper.now)
        return None if self.line else self._hand_over(request)

    def side(self) -> Side:
        """Return what a plan needs to know of the process's slots."""
        self._planned = self._keeper.mono
        return self._ledger.side(self._known.seen or 0, self._planned, draws=self.draws)

    def start(self, update: Update) -> bool:
        """Record the sending of an update; return False if a slot that it frees was handed on: then plan again."""
        return self._ledger.start(update.slots, update.stamp, self._planned)

    def fail(self, update: Update) -> None:
        """Record that the last update had no effect."""
        self._ledger.fail(update.slots)

    def doubt(self, update: Update) -> None:
        """Record that the last update got no response."""
        self._ledger.doubt(update.slots)
        self._keeper.watch(self, self.renewal())

    def verdict(self, update: Update, state: BucketState) -> bool | None:
        """Tell whether the last update was applied, by a state read since; None if its slots do not show it."""
        return self._ledger.verdict(update.slots, update.stamp, state.slots)

    def learn(self, state: BucketState, told: Iterable[tuple[Pending, object]] = (), writes: Sequence[SlotWrite] = ()) -> None:
        """Record a state from a response, and the grants of a write; `writes` are passed if they were the bucket's last."""
        self._ledger.learn(state.slots, self._keeper.mono)
        self._ledger.number(writes, state.slots.fence)
        for pending, outcome in told:
            if isinstance(outcome, Grant) and pending.request.slots and not pending.done:
                self._ledger.grant(outcome.receipts, self._keeper.mono)
        self._keeper.watch(self, self.renewal())

    def numbered(self, grant: Grant) -> Grant:
        """Return a grant that was held back, with fence numbers that were drawn since."""
        return Grant([self._ledger.numbered(receipt) for receipt in grant.receipts], grant.now)

    def give_up(self, grant: Grant) -> None:
        """End the leases of a grant that cannot be delivered."""
        self._ledger.release([receipt.refund() for receipt in grant.receipts if receipt.limit.holds], self._keeper.mono)

    def renewal(self) -> int | None:
        """Return the nanoseconds until the next renewal; None if nothing is held."""
        return self._ledger.next_renewal(self._keeper.mono)

    def note_attempt(self) -> None:
        """Record an attempt to renew the slots, so that the next one comes a while later, even if this one fails."""
        self._ledger.note_attempt(self._keeper.mono)

    def is_lost(self, name: str, generation: int) -> bool:
        """Tell whether other processes may hold the slots of a lease. May be called without the lock."""
        return self._ledger.is_lost(name, generation, self._keeper.now, self._keeper.mono)

    def last_renewal(self, name: str, generation: int) -> int:
        """Return the table's time of the last renewal of slots that were lost. May be called without the lock."""
        return self._ledger.last_renewal(name, generation)

    def join(self, caller: InLine) -> None:
        """Put a caller at the end of the line."""
        self.line.append(caller)
        self._keeper.waiting += 1

    def leave(self, caller: InLine) -> None:
        """Take a caller out of the line, and wake the first one that is left."""
        caller.pending = 0
        if caller in self.line:
            self.line.remove(caller)
            self._keeper.waiting -= 1
        if self.line:
            self.line[0].set()

    def interval(self, least: int, most: int) -> int:
        """Return the nanoseconds between two looks for slots of other processes, by the average time of a lease."""
        return min(max(self._ledger.turn(self._known.state.slots) or least, least), most)

    def refuse(self, request: Request) -> Refusal:
        """Return the refusal of a caller that does not wait behind the line."""
        now = self._keeper.now
        side = self._ledger.side(self._known.seen or 0, self._keeper.mono)
        return without_room(preview.look(self._known.state, request, now, slots=side), request)

    def _hand_on(self) -> None:
        """Hand spare slots to callers in line; if the first one needs a write for that, wake it to look."""
        while self.line:
            first = self.line[0]
            grant = None if first.request is None else self._hand_over(first.request)
            if grant is None:
                if self._ledger.is_spare and not self._ledger.rests(self._keeper.mono):
                    first.look = True
                    first.set()
                return
            self.line.popleft()
            self._keeper.waiting -= 1
            first.grant = grant
            first.pending = 0
            first.set()

    def _hand_over(self, request: Request) -> Grant | None:
        keeper = self._keeper
        only_slots = request.charges and all(limit.holds for limit, _ in request.charges)
        if not only_slots or not keeper.is_on_time:
            return None
        now = keeper.now
        receipts = self._ledger.hand_over(request.charges, self._known.state, now, keeper.mono)
        return None if receipts is None else Grant(receipts, now)
