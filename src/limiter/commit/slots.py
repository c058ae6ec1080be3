# twin: sync_slots.py
"""The slots of one process: what it holds in each bucket, and their renewal in time.

When a lease ends, the process keeps its slots. They pass to the first caller in line for that bucket, or to a caller that arrives
before the next write; otherwise that write frees them.
"""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from os import urandom
from typing import TYPE_CHECKING, Protocol

from ..core import preview
from ..core.limits.slots import without_room
from ..core.request import Grant, Request
from ..core.slot_ledger import SlotLedger
from ..core.trust import is_trusted, timer_of
from ..core.units import NANOSECONDS
from ..runtime.heartbeat import Heartbeat
from .caller_line import CallerLine

if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable, Callable, Sequence

    from ..core.records import BucketKey
    from ..core.request import Receipt, Refusal
    from ..core.slots import Side, Slots, SlotWrite
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


class SlotKeeper:
    """Keeps the slots of one committer under one `holder` id, and renews them. `waiting` counts the callers in line.

    The renewal takes the committer's `lock`, and `close` is called without it. The other methods are called with it held.
    """

    def __init__(self, clock: Callable[[], int], decide: Decide, lock: threading.Lock) -> None:
        self.holder = urlsafe_b64encode(urandom(6)).decode()
        self.waiting = 0
        self._clock = clock
        self._monotonic = timer_of(clock)
        self._decide = decide
        self._lock = lock
        self._active: dict[BucketKey, BucketSlots] = {}
        self._closed = False
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

    def watch(self, slots: BucketSlots, renewal: int | None) -> None:
        """Schedule the next renewal of a bucket's slots, in nanoseconds; None stops it, because nothing is held."""
        if renewal is None:
            self._active.pop(slots.key, None)
        else:
            self._active[slots.key] = slots
            if not self._closed:
                self._heartbeat.wake(renewal / NANOSECONDS)

    def resume(self) -> None:
        """Renew again all that is held, since slots were taken."""
        if self._closed:
            self._closed = False
            self._heartbeat.wake(0.0)

    async def close(self, seconds: float) -> None:
        """Stop renewing, until slots are taken again. Wait for a renewal in progress, but no longer than `seconds`."""
        self._closed = True
        await self._heartbeat.stop(seconds)

    async def _renew(self) -> float | None:
        """Renew the slots that are due, and return the seconds until the next renewal."""
        with self._lock:
            due = [each for each in self._active.values() if each.ledger.next_renewal(self.mono) == 0]
        while due and not self._closed:
            await self._renew_some(due[:RENEWED_AT_ONCE])
            due = due[RENEWED_AT_ONCE:]
        with self._lock:
            waits = [] if self._closed else [each.ledger.next_renewal(self.mono) for each in self._active.values()]
        return min([wait / NANOSECONDS for wait in waits if wait is not None], default=None)

    async def _renew_some(self, due: Sequence[BucketSlots]) -> None:
        with self._lock:
            for each in due:
                each.ledger.note_attempt(self.mono)
        try:
            await self._decide([Request(each.key, slots=True) for each in due])
        except Exception:  # The next attempt may succeed. Without a renewal all slots would be lost.
            _log.exception("slots were not renewed, which is tried again soon", extra={"buckets": len(due)})


class BucketSlots:
    """The process's slots of one bucket: the `ledger` of what it holds, and the `line` of waiting callers.

    All methods are called with the committer's lock held.
    """

    def __init__(self, keeper: SlotKeeper, known: Known) -> None:
        self.key = known.key
        self.ledger = SlotLedger(keeper.holder)
        self.line = CallerLine(keeper)
        self._keeper = keeper
        self._known = known

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held and no caller waits, so that the bucket can be forgotten."""
        return self.ledger.next_renewal(self._keeper.mono) is None and not self.line

    @property
    def is_unsettled(self) -> bool:
        """Whether the process's slots need a write."""
        return self.ledger.is_unsettled(self._keeper.mono)

    def absorb(self, pending: Pending) -> None:
        """Move the slots that a request frees from the request to the process, which hands them on or frees them."""
        request = pending.request
        ended = [refund for refund in request.refunds if refund.limit.holds]
        if ended:
            pending.request = request._replace(refunds=tuple([each for each in request.refunds if each not in ended]))
            self.ledger.release(ended, self._keeper.mono)
            self._hand_on()

    def serve(self, pending: Pending) -> Grant | None:
        """Return the grant of a request that needs no write: spare slots exist, or the slots it frees were handed on."""
        request = pending.request
        if request.is_settlement:
            return None if self.is_unsettled else Grant((), self._keeper.now)
        return None if self.line else self._hand_over(request)

    def side(self, *, draws: bool = False) -> Side:
        """Return what a plan needs to know of the process's slots."""
        return self.ledger.side(self._known.seen or 0, self._keeper.mono, draws=draws)

    def doubt(self, update: Update) -> None:
        """Record that the last update got no response."""
        self.ledger.doubt(update)
        self._watch()

    def learn(self, slots: Slots, receipts: Sequence[Receipt] = (), writes: Sequence[SlotWrite] = ()) -> None:
        """Record what a response shows, and the receipts of an update; `writes` are passed if it was the bucket's last."""
        self.ledger.learn(slots, self._keeper.mono, receipts, writes)
        self._watch()
        if receipts:
            self._keeper.resume()

    def interval(self, least: int, most: int) -> int:
        """Return the nanoseconds between two looks for slots of other processes, by the average time of a lease."""
        return min(max(self.ledger.turn(self._known.state.slots) or least, least), most)

    def refuse(self, request: Request) -> Refusal:
        """Return the refusal of a caller that does not wait behind the line."""
        return without_room(preview.look(self._known.state, request, self._keeper.now, slots=self.side()), request)

    def _watch(self) -> None:
        self._keeper.watch(self, self.ledger.next_renewal(self._keeper.mono))

    def _hand_on(self) -> None:
        """Hand spare slots to callers in line; if the first one needs a write for that, wake it to look."""
        while (first := self.line.first) is not None:
            grant = None if first.request is None else self._hand_over(first.request)
            if grant is None:
                if self.ledger.may_look(self._keeper.mono):
                    first.look = True
                    first.set()
                return
            self.line.hand(first, grant)

    def _hand_over(self, request: Request) -> Grant | None:
        keeper = self._keeper
        only_slots = request.charges and all(limit.holds for limit, _ in request.charges)
        if not only_slots or not keeper.is_on_time:
            return None
        now = keeper.now
        receipts = self.ledger.hand_over(request.charges, self._known.state, now, keeper.mono)
        if receipts is None:
            return None
        keeper.resume()
        return Grant(receipts, now)
