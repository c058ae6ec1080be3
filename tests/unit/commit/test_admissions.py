"""A call for the buckets of a chain: what it reports, how long it waits, and when it asks again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Concurrency, Limit, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded, SyncMemoryRepository
from limiter.commit import sync_charge as charging
from limiter.commit.sync_charge import JITTER, SLACK, SyncAdmission, sync_charge, sync_charge_in_turn, sync_wait_for_change
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slot_line import SyncSlotLine
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core.chain import Bucket
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, NotTried, Receipt, Refusal, Request, refund_of
from limiter.core.state import UNBOUNDED, Level
from limiter.core.status import never_satisfiable
from limiter.core.units import NANOSECONDS
from limiter.exceptions import Blocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limiter.commit.sync_bucket_queue import Outcome

NOW = 1_800_000_000 * NANOSECONDS
SECOND = NANOSECONDS
KEYS = [BucketKey("default", "user", name) for name in ("api", "search")]
LIMIT = Limit.per_minute("requests", 10)
CALLS = Concurrency("calls", 1, ttl=10.0)
REQUESTS = [Request(key, (Charge(LIMIT, 1),)) for key in KEYS]
SLOT = Request(KEYS[0], (Charge(CALLS, 1),), slots=True)


def grant(start: int = NOW) -> Grant:
    """Return the grant of one unit, from a time on."""
    return Grant([Receipt(LIMIT, 1, 6 * SECOND, NOW, start, NOW + 6 * SECOND)], NOW)


def refusal(start: int) -> Refusal:
    """Return a refusal until a time."""
    return Refusal((Level(NOW, NOW),), (start,), NOW, True, start)


class Script:
    """A committer with the answers of a script, whose time passes by sleeping."""

    has_line = False

    def __init__(self, *answers: list[Outcome]) -> None:
        self.answers = list(answers)
        self.now = NOW
        self.slept: list[float] = []
        self.deadlines: list[list[int]] = []
        self.refunded: list[tuple[BucketKey, Grant]] = []

    def clock(self) -> int:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += round(seconds * NANOSECONDS)

    def decide(self, requests: Sequence[Request]) -> list[Outcome]:
        """Note until when the requests may start, and give the next answer."""
        self.deadlines.append([(request.deadline - NOW) // SECOND if request.deadline else 0 for request in requests])
        return self.answers.pop(0)

    def refund_grants(self, grants: list[tuple[BucketKey, Grant]]) -> None:
        """Note what is given back."""
        self.refunded += grants


@pytest.fixture(autouse=True)
def spreads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The bounds of the random parts, each of which is the most."""
    drawn: list[tuple[int, int]] = []

    def randint(least: int, most: int) -> int:
        drawn.append((least, most))
        return most

    monkeypatch.setattr(charging, "random", SimpleNamespace(randint=randint))
    return drawn


def in_turn(script: Script, patience: int, requests: Sequence[Request] = REQUESTS[:1]) -> SyncAdmission:
    """Make a call that may wait for so many nanoseconds."""
    committer: Any = script
    return sync_charge_in_turn(committer, (), requests, patience)


def test_an_admission_starts_when_the_last_bucket_allows_it() -> None:
    """It is allowed if every bucket grants it; what was granted is paired with its request."""
    early, late = grant(NOW + 1), grant(NOW + 2)
    chain = [Bucket(key, (LIMIT,)) for key in KEYS]
    admission = SyncAdmission(None, chain, REQUESTS, [late, early])
    assert admission.chain is chain
    assert (admission.allowed, admission.start, admission.waited, admission.degraded) == (True, NOW + 2, 0.0, False)
    assert admission.grants == [(REQUESTS[0], late), (REQUESTS[1], early)]
    assert [status.resource for status in admission.statuses] == ["api", "search"]
    assert admission.decision.allowed
    assert (admission.share, admission.never, admission.blocked) == (None, (), None)


def test_an_admission_that_a_bucket_refuses_tells_all_that_is_known() -> None:
    """A bucket that was not asked has statuses if its state is known, and none otherwise."""
    admission = SyncAdmission(None, (), REQUESTS, [NotTried((Level(NOW, NOW),), (NOW,), NOW), refusal(NOW + SECOND)])
    assert not admission.allowed
    assert [(status.resource, status.exceeded) for status in admission.statuses] == [("api", False), ("search", True)]
    assert admission.grants == []
    assert admission.refusal().retry_after == 1.0
    unknown = SyncAdmission(None, (), REQUESTS, [grant(), None])
    assert (unknown.allowed, len(unknown.statuses), unknown.grants) == (False, 1, [(REQUESTS[0], unknown.outcomes[0])])


def test_an_admission_without_a_bucket_that_was_asked() -> None:
    """Amounts above a capacity, a blocked bucket, and no limits at all: only the last one is allowed."""
    never = never_satisfiable([Request(KEYS[0], (Charge(LIMIT, 11),))])
    admission = SyncAdmission(None, (), REQUESTS, never=never)
    admission.degraded = True
    assert (admission.allowed, admission.statuses, admission.grants) == (False, never, [])
    assert isinstance(admission.refusal(), NeverSatisfiable)
    assert admission.refusal().degraded
    blocked = SyncAdmission(None, (), REQUESTS, blocked=KEYS[0])
    assert (blocked.allowed, blocked.statuses, blocked.decision.allowed) == (False, (), False)
    assert (type(blocked.refusal()), type(admission.refusal())) == (Blocked, NeverSatisfiable)
    free = SyncAdmission(None, (), (), ())
    assert (free.allowed, free.statuses, free.start, type(free.refusal())) == (True, (), 0, RateLimitExceeded)
    free.refund()


def test_what_the_other_buckets_have_granted_goes_back() -> None:
    """When one refuses, and when one fails, whose error is raised."""
    for failure in (refusal(NOW), RateLimiterUnavailable("no answer")):
        script = Script([failure, grant()])
        committer: Any = script
        if isinstance(failure, Exception):
            with pytest.raises(RateLimiterUnavailable):
                sync_charge(committer, (), REQUESTS)
        else:
            assert not sync_charge(committer, (), REQUESTS).allowed
        assert script.refunded == [(KEYS[1], grant())]


def test_a_caller_without_patience_asks_once() -> None:
    """Its deadline is in the past."""
    script = Script([refusal(NOW + 1)])
    admission = in_turn(script, 0)
    assert (admission.allowed, admission.waited, script.slept, script.deadlines) == (False, 0.0, [], [[0]])


def test_a_caller_asks_again_at_the_time_that_every_bucket_allows(spreads: list[tuple[int, int]]) -> None:
    """It waits a random part longer, up to a tenth and a second, and asks with what is left of its patience."""
    script = Script(
        [refusal(NOW + 2 * SECOND), refusal(NOW + 20 * SECOND)], [refusal(NOW + 22 * SECOND), grant()], [grant(), grant()]
    )
    admission = in_turn(script, 60 * SECOND, REQUESTS)
    assert spreads == [(1, JITTER), (1, SECOND // 10)]
    assert script.slept == [21.0, 1.1]
    assert script.deadlines == [[60, 60], [60, 60], [60, 60]]
    assert (admission.allowed, admission.waited) == (True, 22.1)


@pytest.mark.parametrize(("start", "slept"), [(59, [60.0]), (60, [60.0]), (60.5, []), (0, []), (-1, []), (1e-9, [2e-9])])
def test_a_caller_waits_only_where_the_time_for_asking_again_comes_in_time(start: float, slept: list[float]) -> None:
    """That is up to its deadline, and not where the time has passed already: then the refusal has another reason."""
    script = Script([refusal(NOW + round(start * SECOND))], [refusal(UNBOUNDED)])
    assert not in_turn(script, 60 * SECOND).allowed
    assert script.slept == slept


def test_the_patience_is_counted_over_all_waits() -> None:
    """A second wait that would end after the deadline is not begun."""
    script = Script([refusal(NOW + 30 * SECOND)], [refusal(NOW + 61 * SECOND)])
    admission = in_turn(script, 60 * SECOND)
    assert (admission.allowed, admission.waited, script.slept) == (False, 31.0, [31.0])


def test_the_random_part_of_a_short_wait(spreads: list[tuple[int, int]]) -> None:
    """It is at least a nanosecond."""
    script = Script([refusal(NOW + 9)], [refusal(NOW + 10 + 100)], [grant()])
    assert in_turn(script, SECOND).allowed
    assert spreads == [(1, 1), (1, 10)]


def test_a_refusal_for_ever_is_not_waited_for() -> None:
    """Nor one of an amount above a capacity."""
    assert charging._delay(SyncAdmission(None, (), REQUESTS[:1], [None]), NOW, UNBOUNDED - NOW - 1) == 0
    never = SyncAdmission(None, (), REQUESTS[:1], [refusal(NOW + 1)], never_satisfiable([Request(KEYS[0], (Charge(LIMIT, 11),))]))
    assert charging._delay(never, NOW, SECOND) == 0


def test_a_caller_sleeps_until_its_start() -> None:
    """A start in the past is not waited for."""
    for start, slept in ((NOW + 5 * SECOND, [5.0]), (NOW, [])):
        script = Script([grant(start)])
        admission = in_turn(script, 60 * SECOND)
        assert (script.slept, admission.waited) == (slept, sum(slept))


def test_waits_add_up() -> None:
    """The time until the start comes on top of the wait for asking again."""
    script = Script([refusal(NOW + 10 * SECOND)], [grant(NOW + 15 * SECOND)])
    assert (in_turn(script, 60 * SECOND).waited, script.slept) == (15.0, [11.0, 4.0])


def test_a_start_far_after_the_deadline_is_an_error() -> None:
    """A response may set the clock back by a bit; beyond that the charge goes back."""
    script = Script([grant(NOW + SECOND + SLACK)])
    assert in_turn(script, SECOND).waited == 3.0
    script = Script([grant(NOW + SECOND + SLACK + 1)])
    with pytest.raises(RateLimiterUnavailable, match="exceeds the timeout"):
        in_turn(script, SECOND)
    assert (len(script.refunded), script.slept) == (1, [])


def test_an_interrupted_wait_gives_the_start_back() -> None:
    """However it ends."""
    script = Script([grant(NOW + SECOND)])

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    script.sleep = interrupt  # type: ignore[method-assign] # an interruption
    with pytest.raises(KeyboardInterrupt):
        in_turn(script, SECOND)
    assert script.refunded == [(KEYS[0], grant(NOW + SECOND))]


def test_threads_sleep_where_nothing_is_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three waits: for asking again, for the start, and for the change of a schedule."""
    script = Script([refusal(NOW + 10 * SECOND)], [grant(NOW + 15 * SECOND)])
    monkeypatch.setattr(charging, "time", SimpleNamespace(sleep=script.sleep))
    script.sleep = None  # type: ignore[method-assign,assignment] # as if none had been injected
    assert in_turn(script, 60 * SECOND).waited == 15.0
    committer: Any = script
    assert sync_wait_for_change(committer, 10 * SECOND, 60 * SECOND) == 11.0
    assert script.slept == [11.0, 4.0, 11.0]


def test_a_change_is_waited_for_with_a_random_part() -> None:
    """Up to the patience."""
    script = Script()
    committer: Any = script
    assert sync_wait_for_change(committer, 10 * SECOND, 60 * SECOND) == 11.0
    assert sync_wait_for_change(committer, 10 * SECOND, 10 * SECOND + 5) == 10 + 5 / SECOND
    assert script.slept == [11.0, 10 + 5 / SECOND]


class Process:
    """One of the processes that share a slot, whose time passes by sleeping."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []
        self.store = SyncMemoryRepository(clock=lambda: self.now)
        self.made: list[SyncCommitter] = []
        self.committer = self.new()

    def new(self) -> SyncCommitter:
        """Return the committer of another process."""
        self.made.append(SyncCommitter(self.store, SyncCommitterOptions(sleep=self.sleep)))
        return self.made[-1]

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += round(seconds * NANOSECONDS)

    def in_turn(self, patience: int) -> SyncAdmission:
        """Ask for a slot."""
        return sync_charge_in_turn(self.committer, (), [SLOT], patience)


@pytest.fixture
def process() -> Iterator[Process]:
    """A process, which stops renewing at the end, as the others do."""
    process = Process()
    yield process
    for committer in process.made:
        committer.close()


def test_a_wait_for_a_slot_counts_as_waiting(process: Process) -> None:
    """Up to the deadline, after which the caller is refused as it was at first."""
    process.new().decide([SLOT])
    admission = process.in_turn(2 * SECOND)
    assert (admission.allowed, admission.waited) == (False, 2.0)
    assert isinstance(admission.outcomes[0], Refusal)
    assert admission.outcomes[0].now == NOW


def test_a_caller_behind_a_line_asks_the_table_only_when_it_is_the_first(process: Process) -> None:
    """Without patience it is refused at once, and with patience when that is over."""
    process.new().decide([SLOT])
    first = SyncSlotLine(process.committer, [SLOT], 0)
    process.committer.open_slots(KEYS[0]).line.join(first._caller)
    for patience in (0, 2):
        admission = process.in_turn(patience * SECOND)
        assert (admission.allowed, admission.waited, len(process.slept)) == (False, patience, 10 * patience)
        assert isinstance(admission.outcomes[0], Refusal)
    both = sync_charge_in_turn(process.committer, (), [REQUESTS[1], SLOT], 0)
    assert [type(outcome) for outcome in both.outcomes] == [type(None), Refusal]
    assert process.committer._writer.counters.statistics("closed", None).calls == 0


def test_a_caller_in_line_takes_a_slot_that_another_process_has_freed(process: Process) -> None:
    """It has waited until its look."""
    other = process.new()
    (held,) = other.decide([SLOT])
    assert isinstance(held, Grant)
    sleep = process.sleep

    def free(seconds: float) -> None:
        sleep(seconds)
        if len(process.slept) == 1:
            other.decide([refund_of(KEYS[0], held.receipts)])

    process.committer.sleep = free
    admission = process.in_turn(2 * SECOND)
    assert (admission.allowed, len(admission.grants)) == (True, 1)
    assert 0.1 <= admission.waited <= 0.2


def test_a_caller_behind_a_line_takes_the_slot_that_it_is_handed(process: Process) -> None:
    """It has waited for that long, and starts at the time of the grant."""
    (held,) = process.committer.decide([SLOT])
    assert isinstance(held, Grant)
    line = process.committer.open_slots(KEYS[0]).line
    first = SyncSlotLine(process.committer, [SLOT], 0)._caller
    line.join(first)
    sleep = process.sleep

    def hand_on(seconds: float) -> None:
        sleep(seconds)
        if len(process.slept) == 3:
            line.hand(list(line._callers)[1], Grant(held.receipts, process.now))

    process.committer.sleep = hand_on
    admission = process.in_turn(2 * SECOND)
    assert (admission.allowed, admission.waited, admission.start) == (True, 0.3, process.now)
    assert admission.grants[0][0].key == KEYS[0]
