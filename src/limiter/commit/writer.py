# twin: sync_writer.py
"""The options of a committer, and the collaborators that all its batches share."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.losses import units_at_stake
from ..core.pace import ATTEMPT, Pace
from ..core.records import BucketKey
from ..core.state import COUNT
from ..core.trust import error_of, is_trusted, timer_of
from ..core.units import NANOSECONDS
from ..core.visible import visible
from ..exceptions import CircuitOpen

if TYPE_CHECKING:
    import threading
    from collections.abc import Awaitable, Callable

    from ..core.plan import Plan
    from ..core.request import Request
    from ..core.state import BucketState, Update
    from ..repository_protocol import BucketStore
    from ..runtime.gate import Gate
    from ..statistics import Counters
    from .breaker import Breaker
    from .bucket_queue import BucketQueue

_log = logging.getLogger("limiter.committer")


@dataclass(frozen=True, slots=True)
class CommitterOptions:
    """How a committer saves calls, in nanoseconds, and how long a decision may take, in seconds.

    For `denial_ttl` after a state was seen, it proves refusals, but never admissions. `linger` is the shortest interval between
    two writes of this process to one bucket. The table may take `patience` for a decision, from the sending of its first call.
    The last states of `max_queues` buckets are remembered, by default of `MAX_QUEUES`. Where a store's buckets are shared, all
    processes together write to a bucket at most `writes_per_key` times a second.
    """

    denial_ttl: int = 0
    linger: int = 0
    patience: float = 1.0
    sleep: Callable[[float], Awaitable[None]] | None = None
    max_queues: int | None = None
    writes_per_key: int = 700


class BatchWriter:
    """The store, lock, breaker, counters and options that all batches of a committer share.

    For `denial_ttl` nanoseconds after a state was seen it proves refusals. `lock` guards the queues. Calls pass the `gate`. The
    table may take `patience` seconds for a decision, from the first call on. `stamps` are names that no other write has. `timer`
    counts nanoseconds, and no answer moves it. `attempt` is what the write of a process adds to the count of a bucket in which it
    is alone; 0 for a store that no other process writes to.
    """

    def __init__(
        self,
        store: BucketStore,
        lock: threading.Lock,
        breaker: Breaker,
        counters: Counters,
        gate: Gate,
        options: CommitterOptions,
    ) -> None:
        self.store = store
        self.lock = lock
        self.breaker = breaker
        self.counters = counters
        self.gate = gate
        self.clock = store.clock
        # An answer may set the store's time by any span, so a span is told by the clock that it counts on as well.
        self.timer = timer_of(store.clock)
        self.attempt = ATTEMPT if getattr(store, "is_shared", False) else 0
        self._writes_per_key = options.writes_per_key
        self._longest = int(options.patience / 2 * NANOSECONDS)
        self.patience = options.patience + options.linger / NANOSECONDS
        self._linger = options.linger
        self._denial_ttl = options.denial_ttl
        self.stamps = map((os.urandom(6).hex() + "{:x}").format, itertools.count(1))

    def proves_refusals(self, queue: BucketQueue, now: int) -> bool:
        """Tell whether the last state is recent enough to prove refusals. A state never proves admissions."""
        return queue.seen is not None and 0 <= now - queue.seen < self._denial_ttl and self.is_on_time()

    def is_on_time(self) -> bool:
        """Tell whether the store's time can be trusted; if not, the next response sets it."""
        return is_trusted(self.clock)

    def toll(self, queue: BucketQueue) -> int:
        """Return what the next write adds to the bucket's count; 0 if that is no number."""
        if COUNT in queue.state.unreadable:
            return 0
        return self.attempt if queue.pace is None else queue.pace.toll

    def note_count(self, queue: BucketQueue, update: Update, state: BucketState, now: int, *, applied: bool) -> None:
        """Learn from the answer to a write, sent at `now`, how much other processes write; called before the state is kept."""
        pace, others = queue.pace, queue.seen is not None and state.count != queue.state.count + update.count
        if not update.count or COUNT in state.unreadable or (pace is None and applied and not others):
            return
        if pace is None:
            pace = self._new_pace(queue)
        pace.note(state.count, now, applied=applied)
        if pace.is_alone:
            queue.pace = None

    def note_throttled(self, queue: BucketQueue) -> int:
        """Lengthen the interval between writes, so that batches grow; return the nanoseconds until the next attempt."""
        pace = queue.pace or self._new_pace(queue)
        pace.note_throttled(self.clock())
        return pace.wait()

    def delay(self, queue: BucketQueue) -> float:
        """Return the seconds until the process should write to the bucket again."""
        least = self._linger if queue.pace is None else max(self._linger, queue.pace.wait())
        if not least or queue.wrote is None:
            return 0.0
        delay = queue.wrote + least - self.clock()
        return delay / NANOSECONDS if 0 < delay <= least else 0.0

    def _new_pace(self, queue: BucketQueue) -> Pace:
        pace = queue.pace = Pace(self._writes_per_key, self._longest)
        if queue.seen is not None:
            pace.begin(queue.state.count, queue.seen)
        return pace

    def warn_of_rivals(self, queue: BucketQueue, plan: Plan) -> None:
        """Log once for each bucket that two rates or periods of one name are in use in it, or that an account was dropped.

        After the change-over of a schedule, two rates are in use for a while, which is intended.
        """
        if queue.warned or not (plan.rivals or plan.dropped):
            return
        rivals = () if any(request.scheduled for request in plan.requests) else plan.rivals
        names = ", ".join(visible(each) for each in (*rivals, *plan.dropped))
        if not names:
            return
        queue.warned = True
        _log.warning(
            "%s/%s is used with two rates or periods of one name at once: %s; each counts by itself: use two names, or one rate",
            visible(queue.key.entity_id),
            visible(queue.key.resource),
            names,
            extra={name: visible(value) for name, value in queue.key._asdict().items()} | {"limits": names},
        )

    def record_lost_refund(self, request: Request, error: Exception) -> None:
        """Count and log a correction or refund that could not be written, with the units by which the bucket may be wrong."""
        self.counters.add("corrections_lost")
        # An open breaker was logged already, and can prevent many corrections.
        level = logging.DEBUG if isinstance(error, CircuitOpen) else logging.WARNING
        shown = BucketKey(*map(visible, request.key))
        units = {visible(name): count for name, count in units_at_stake(request).items()}
        fields = shown._asdict() | {"units": units, "error": str(error)}
        _log.log(level, "a correction of %s/%s was not written: %s", shown.entity_id, shown.resource, error, extra=fields)

    def error(self) -> int:
        """Return the nanoseconds by which the store's clock may be wrong."""
        return error_of(self.clock)
