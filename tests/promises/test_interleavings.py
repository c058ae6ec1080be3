"""The synchronous committer keeps its promises however threads or greenlets take turns, and planted faults are found.

Each play runs under a seeded scheduler that may switch at every lock, wake-up, pause and call to the store, and is judged by the
audit and by what its callers know. The models are the Lincheck tests of bucket4j, and loom and shuttle in Rust.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from support.interleaved_play import FIRM, Play, Script
from support.interleaving import Lock, Module, Scheduler, Stuck

from limiter.commit import sync_committer
from limiter.commit.sync_bucket_queue import SyncBucketQueue
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_leading import SyncLeader
from limiter.core.state import BucketState
from limiter.runtime.gate import SyncGate
from limiter.runtime.wakeup import SyncWakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS = range(300)
BUSY = Script(FIRM, callers=5, interruptions=1)
ONCE = Script(FIRM, callers=4, calls=1, interruptions=1)
LOSSES = Script(FIRM, callers=5, losses=0.3)


class NoLock(Lock):
    """A lock that others ignore."""

    def acquire(self, blocking: bool = True, timeout: float = -1.0) -> bool:
        """Let others go on, and return at once."""
        self._scheduler.pause()
        return True

    def release(self) -> None:
        """Let others go on."""
        self._scheduler.pause()


@contextlib.contextmanager
def no_lock(scheduler: Scheduler) -> Iterator[None]:
    """Leave out the committer's lock."""
    fake = Module(threading, Lock=lambda: NoLock(scheduler))
    with mock.patch.object(sync_committer, "threading", fake):
        yield


def replaced(owner: Any, name: str, value: object) -> Callable[[Scheduler], contextlib.AbstractContextManager[object]]:
    """Return a fault: something of the library in place of what it should be."""
    return lambda _: mock.patch.object(owner, name, value)


def clear_late(committer: SyncCommitter, waiter: Any) -> None:
    """Wait as `_wait` does, but forget a wake-up that came after the look."""
    while waiter.pending:
        if waiter.to_lead:
            for queue in waiter.to_lead:
                committer._leader.lead(queue, waiter)
            continue
        committer.lock.acquire()
        committer.lock.release()
        waiter.clear()
        committer.deadlines.wait(waiter)


def hand_over_to_nobody(leader: SyncLeader, queue: Any, lead: object, *, stop: bool = False) -> None:
    """Give up the lead without choosing the next leader."""
    if queue.leader is lead:
        queue.leader = None if stop or not queue.requests else lead


FAULTS: dict[str, tuple[Callable[[Scheduler], contextlib.AbstractContextManager[object]], Script | None]] = {
    "no lock": (no_lock, None),
    "a wake-up is left out": (replaced(SyncWakeup, "set", lambda wakeup: None), None),
    "a relay is not passed on": (replaced(SyncWakeup, "pass_on", lambda wakeup: None), None),
    "a wake-up is forgotten": (replaced(SyncCommitter, "_wait", clear_late), None),
    "the lead is not handed over": (replaced(SyncLeader, "hand_over", hand_over_to_nobody), ONCE),
    "an interrupted caller refunds nothing": (replaced(SyncCommitter, "refund_grants", lambda committer, grants: None), BUSY),
    "an interrupted caller stays in line": (replaced(SyncBucketQueue, "remove", lambda queue, pending: False), BUSY),
    "the gate wakes no one": (replaced(SyncGate, "leave", lambda gate: gate._free.append(None)), None),
    "a lost answer counts as a write": (replaced(BucketState, "has_stamp", lambda state, stamp: True), LOSSES),
}


def found(name: str) -> str:
    """Return what the first play shows that finds a fault; "" if none does."""
    fault, script = FAULTS[name]
    for seed in SEEDS:
        try:
            findings = Play(seed, script).run(fault).findings
        except (Stuck, AssertionError, RuntimeError) as error:
            return f"{seed}: {error!r}"
        if findings:
            return f"{seed}: {findings[0]}"
    return ""


def test_promises_hold_in_every_order() -> None:
    """No play breaks a promise, loses a unit, leaves a caller behind, or fails a call that the store answers."""
    allowed = refused = interrupted = switches = 0
    for seed in SEEDS:
        shown = Play(seed).run()
        assert not shown.findings, f"seed {seed}: {shown.findings}"
        allowed, refused = allowed + shown.allowed, refused + shown.refused
        interrupted, switches = interrupted + shown.interrupted, switches + shown.switches
    assert min(allowed, refused, interrupted) > 100
    assert switches > 100 * len(SEEDS)


def test_a_seed_is_an_order() -> None:
    """The same seed gives the same run."""
    assert Play(7).run() == Play(7).run()


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: str) -> None:
    """Each fault of concurrency shows within these seeds."""
    assert found(fault)
