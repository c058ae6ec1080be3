"""The queues of buckets: which are forgotten, and when."""

from __future__ import annotations

import pytest

from limiter import Limit
from limiter.commit.bucket_queue import BucketQueue, PendingRequest
from limiter.commit.queues import KEPT, Queues
from limiter.core.plan import plan
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Request
from limiter.core.state import EMPTY

NOW = 10**18
SECOND = 10**9
REFILLED = NOW + 60 * SECOND


def key(number: int) -> BucketKey:
    """Return the key of one of many buckets."""
    return BucketKey("default", f"user-{number}", "api")


def use(queues: Queues[BucketQueue], number: int, *limits: str) -> BucketQueue:
    """Take a unit of each limit of a bucket, as it was assumed before the first use."""
    queue = queues[key(number)]
    charges = tuple([Charge(Limit.parse(limit), 1) for limit in limits or ("requests=60/minute",)])
    queue.state = plan(EMPTY, [Request(key(number), charges)], NOW, "stamp").update.apply(EMPTY)
    queue.seen = NOW
    return queue


def queues_at(now: int, most: int | None = None) -> Queues[BucketQueue]:
    """Return queues of which many were used at `NOW`; the time is `now` when the next is made."""
    time = [NOW]
    queues = Queues(BucketQueue, most, lambda: time[0])
    for number in range(KEPT):
        use(queues, number)
    time[0] = now
    return queues


def test_buckets_that_have_refilled_are_forgotten_as_new_ones_come() -> None:
    """Each new bucket pushes out two that are full again, so a process remembers about as many as are in use."""
    queues = queues_at(REFILLED)
    for number in range(KEPT, KEPT + 10):
        use(queues, number)
    assert len(queues) == KEPT
    assert key(0) not in queues
    assert key(KEPT) in queues


def test_buckets_in_use_are_remembered() -> None:
    """Nothing is forgotten before it has refilled, as long as there is room."""
    queues = queues_at(NOW)
    for number in range(KEPT, KEPT + 10):
        use(queues, number)
    assert len(queues) == KEPT + 10


def test_what_has_not_refilled_does_not_keep_others() -> None:
    """A bucket with a quota stays until its period has ended; full ones behind it are forgotten all the same."""
    queues = queues_at(REFILLED)
    use(queues, -1, "requests=1000/day in UTC")
    queues.move_to_end(key(-1), last=False)
    for number in range(KEPT, KEPT + 10):
        use(queues, number)
    assert key(-1) in queues
    assert len(queues) < KEPT + 10


def test_the_oldest_idle_bucket_makes_room() -> None:
    """Above the bound, a bucket is forgotten though it has not refilled, unless a request is in progress."""
    queues = queues_at(NOW, KEPT)
    queues[key(0)].leader = object()
    queues[key(KEPT)]
    assert key(0) in queues
    queues[key(KEPT + 1)]
    assert len(queues) == KEPT
    assert key(2) not in queues


def test_a_few_buckets_are_all_remembered() -> None:
    """Also those that have refilled: as many as a call can have."""
    time = [NOW]
    queues: Queues[BucketQueue] = Queues(BucketQueue, None, lambda: time[0])
    use(queues, 0)
    time[0] = REFILLED
    for number in range(1, KEPT):
        use(queues, number)
    assert len(queues) == KEPT
    queues[key(KEPT)]
    assert len(queues) == KEPT - 1


def test_the_bound_itself_is_no_reason_to_forget() -> None:
    """As many buckets are remembered as the bound says, whether it is above what is kept in any case or below."""
    for most in (3, KEPT + 2):
        queues: Queues[BucketQueue] = Queues(BucketQueue, most, lambda: NOW)
        for number in range(most):
            use(queues, number)
        assert len(queues) == most
        queues[key(most)]
        assert len(queues) == most


def test_a_bucket_that_is_forgotten_ends_its_blocks() -> None:
    """Units of calls that end later then go back to the bucket."""
    forgotten: list[int] = []

    class Noted(BucketQueue):
        """A queue that tells when it is forgotten."""

        def forget(self) -> None:
            forgotten.append(len(queues))

    queues: Queues[BucketQueue] = Queues(Noted, 2, lambda: NOW)
    for number in range(3):
        queues[key(number)]
    assert forgotten == [2]


@pytest.mark.parametrize("kept", ["leader", "request", "never seen", "pause"])
def test_what_is_in_progress_or_unknown_is_kept(kept: str) -> None:
    """A full bucket is kept while a call uses it, while it is paused, and until it was seen once."""
    queues = queues_at(REFILLED)
    queue = queues[key(0)]
    if kept == "leader":
        queue.leader = object()
    elif kept == "request":
        queue.requests.append(PendingRequest(Request(key(0), ()), queue))
    elif kept == "never seen":
        queue.seen = None
    else:
        queue.state = plan(queue.state, [Request(key(0), (), pause=10 * REFILLED)], NOW, "next").update.apply(queue.state)
    for number in range(KEPT, 2 * KEPT):
        use(queues, number)
    assert key(0) in queues
    assert key(1) not in queues
