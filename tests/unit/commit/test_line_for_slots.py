"""The place of one caller in a line for slots: when it looks, how long it sleeps, and what it does with slots handed on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Concurrency, Limit, SyncMemoryRepository
from limiter.commit import sync_slot_line
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_slot_line import LEAST_LOOK, SyncSlotLine
from limiter.commit.sync_writer import SyncCommitterOptions
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request, refund_of
from limiter.core.state import Level
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limiter.commit.sync_caller_line import SyncInLine

NOW = 1_800_000_000 * NANOSECONDS
KEY, OTHER = (BucketKey("default", "user", name) for name in ("api", "search"))
CALLS = Concurrency("calls", 1, ttl=10.0)
RATE = Limit.per_minute("requests", 10)
ONE = Request(KEY, (Charge(CALLS, 1),), slots=True)
TWO = Request(OTHER, (Charge(RATE, 1),))


class Look(SimpleNamespace):
    """The outcome of a look."""

    allowed: bool
    outcomes: list[Any]


ALLOWED = Look(allowed=True, outcomes=[Grant((), NOW)])
FULL = Look(allowed=False, outcomes=[Refusal((Level(1),), (NOW,), NOW)])
IN_VAIN = Look(allowed=False, outcomes=[Refusal((Level(0),), (NOW,), NOW)])
"""A refusal for another reason than slots."""


class Scene:
    """A committer whose time passes by sleeping, and the look that a caller in line makes, which notes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, threads: bool = False) -> None:
        self.now = NOW
        self.slept: list[int] = []
        self.yielded: list[int] = []
        self.looks: list[int] = []
        self.given_back: list[Request] = []
        self.answer = FULL
        self.during: Callable[[], object] = lambda: None
        monkeypatch.setattr(sync_slot_line, "random", SimpleNamespace(uniform=lambda least, most: least, random=lambda: 0.5))
        monkeypatch.setattr(sync_slot_line, "monotonic", lambda: 100.0)
        monkeypatch.setattr(sync_slot_line, "time", SimpleNamespace(sleep=self.yielded.append))
        options = SyncCommitterOptions(sleep=None if threads else self.sleep)
        self.committer = SyncCommitter(SyncMemoryRepository(clock=lambda: self.now), options)
        committer: Any = self.committer
        committer.deadlines = self
        committer.write_refunds = self.write_refunds
        self.line = self.committer.open_slots(KEY).line

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(round(seconds * NANOSECONDS))
        self.now += self.slept[-1]

    def wait(self, caller: SyncInLine) -> None:
        """Let time pass until the caller's time is up, as a thread does."""
        assert not caller._wait(0.0), "it was woken for what it knows already"
        self.sleep(caller.expires - 100.0)

    def write_refunds(self, requests: Iterable[Request]) -> bool:
        """Note what is given back."""
        self.given_back += requests
        return True

    def ask(self) -> Look:
        """Look."""
        self.looks.append(self.now - NOW)
        self.during()
        return self.answer

    def hand(self) -> None:
        """Hand a grant to the first in line."""
        assert self.line.first is not None
        self.line.hand(self.line.first, self.grant)

    @property
    def grant(self) -> Grant:
        """The grant that is handed on."""
        return Grant((), NOW + 1)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A committer with an injected sleep."""
    return Scene(monkeypatch)


def test_the_first_caller_looks_ten_times_a_second(scene: Scene) -> None:
    """It begins after one interval, sleeps no longer than one at a time, and not beyond its deadline."""
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 450_000_000, scene.ask) is None
    assert scene.looks == [100_000_000, 200_000_000, 300_000_000, 400_000_000]
    assert scene.slept == [100_000_000] * 4 + [50_000_000]
    assert scene.yielded == [0] * 5
    assert len(scene.line) == 0


def test_a_look_that_is_due_at_the_deadline_is_made(scene: Scene) -> None:
    """The last chance is not missed."""
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 200_000_000, scene.ask) is None
    assert scene.looks == [100_000_000, 200_000_000]


def test_a_look_that_ends_at_the_deadline_is_followed_by_the_last(scene: Scene) -> None:
    """There is no sleep in between."""

    def look() -> None:
        scene.now = NOW + 450_000_000

    scene.during = look
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 450_000_000, scene.ask) is None
    assert (scene.looks, scene.slept) == ([100_000_000, 450_000_000], [100_000_000])


def test_a_caller_behind_another_does_not_look(scene: Scene) -> None:
    """It sleeps until its deadline, and leaves the time of the next look as it is."""
    first = SyncSlotLine(scene.committer, [ONE], 0)
    scene.line.join(first._caller)
    scene.line.next_look = NOW + 7
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 150_000_000, scene.ask) is None
    assert (scene.looks, scene.slept, scene.line.next_look) == ([], [100_000_000, 50_000_000], NOW + 7)


def test_a_caller_that_becomes_the_first_looks_as_soon_as_one_is_due(scene: Scene) -> None:
    """It sleeps for a nanosecond at most, so that an injected clock goes on."""
    first = SyncSlotLine(scene.committer, [ONE], 0)._caller
    scene.line.join(first)
    sleep = scene.sleep

    def leave(seconds: float) -> None:
        sleep(seconds)
        scene.line.leave(first)

    scene.committer.sleep = leave
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 150_000_000, scene.ask) is None
    assert scene.looks == [100_000_000]
    scene.looks, scene.slept = [], []
    line = SyncSlotLine(scene.committer, [ONE], 0)
    scene.line.join(line._caller)
    scene.line.next_look = scene.now
    line._sleep(scene.now + NANOSECONDS, scene.now)
    assert scene.slept == [1]


@pytest.mark.parametrize(
    ("behind", "patience", "expected"),
    [(False, 1, NANOSECONDS // 10), (True, 3, 3 * NANOSECONDS), (True, 7_200, 3_600 * NANOSECONDS)],
)
def test_a_thread_sleeps_until_it_has_something_to_do(
    monkeypatch: pytest.MonkeyPatch, behind: bool, patience: int, expected: int
) -> None:
    """The first one until the next look, the others until their deadline, and none for longer than an hour at a time."""
    scene = Scene(monkeypatch, threads=True)
    if behind:
        scene.line.join(SyncSlotLine(scene.committer, [ONE], 0)._caller)
    line = SyncSlotLine(scene.committer, [ONE], 0)
    line._caller.set()
    assert line.wait(NOW + patience * NANOSECONDS, scene.ask) is None
    assert scene.slept[0] == expected


def test_a_thread_whose_look_is_due_does_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a nanosecond."""
    scene = Scene(monkeypatch, threads=True)
    line = SyncSlotLine(scene.committer, [ONE], 0)
    scene.line.join(line._caller)
    scene.line.next_look = NOW - 1
    line._sleep(NOW + NANOSECONDS, NOW)
    assert scene.slept == [0]


def test_looks_of_processes_are_spread() -> None:
    """An interval is up to half as long again as the least one, so that processes fall out of step."""
    committer = SyncCommitter(SyncMemoryRepository(clock=lambda: NOW), SyncCommitterOptions())
    intervals = [SyncSlotLine(committer, [ONE], 0)._interval() / LEAST_LOOK for _ in range(300)]
    assert 1 <= min(intervals) < 1.1
    assert 1.4 < max(intervals) <= 1.5


def test_a_caller_that_was_served_lets_the_next_one_look_at_once(scene: Scene) -> None:
    """More slots may be free than it has taken."""
    scene.answer = ALLOWED
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + NANOSECONDS, scene.ask) is ALLOWED
    assert scene.line.next_look == scene.now == NOW + 100_000_000


def test_a_caller_that_is_refused_for_another_reason_leaves(scene: Scene) -> None:
    """It waits no longer for slots, and the next one looks at once."""
    scene.answer = IN_VAIN
    assert SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + NANOSECONDS, scene.ask) is IN_VAIN
    assert (scene.line.next_look, len(scene.line)) == (scene.now, 0)


@pytest.mark.parametrize("answer", [FULL, IN_VAIN, ALLOWED])
def test_slots_that_are_handed_on_during_the_last_look_are_kept_or_given_back(scene: Scene, answer: Look) -> None:
    """A caller whose look found none takes them; one that has others by then gives them back."""
    scene.answer, scene.during = answer, scene.hand
    found = SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + 100_000_000, scene.ask)
    assert found == (ALLOWED if answer is ALLOWED else scene.grant)
    assert len(scene.given_back) == (answer is ALLOWED)


def test_an_interrupted_caller_gives_back_what_it_was_handed(scene: Scene) -> None:
    """Otherwise no call would ever end the lease."""

    def interrupt() -> None:
        scene.hand()
        raise KeyboardInterrupt

    scene.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + NANOSECONDS, scene.ask)
    assert scene.given_back == [refund_of(KEY, ())]
    assert len(scene.line) == 0


def test_an_interrupted_caller_without_slots_gives_nothing_back(scene: Scene) -> None:
    """It only leaves the line."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    scene.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        SyncSlotLine(scene.committer, [ONE], 0).wait(NOW + NANOSECONDS, scene.ask)
    assert (scene.given_back, len(scene.line)) == ([], 0)


def test_a_caller_that_is_handed_slots_returns_at_once(scene: Scene) -> None:
    """It neither looks nor sleeps again."""
    line = SyncSlotLine(scene.committer, [ONE], 0)
    scene.line.join(SyncSlotLine(scene.committer, [ONE], 0)._caller)
    sleep = scene.sleep

    def hand_on(seconds: float) -> None:
        sleep(seconds)
        scene.line.hand(line._caller, scene.grant)

    scene.committer.sleep = hand_on
    assert line.wait(NOW + NANOSECONDS, scene.ask) == scene.grant
    assert (scene.looks, scene.slept, scene.given_back) == ([], [100_000_000], [])


def test_a_caller_that_was_told_to_look_does_not_sleep(scene: Scene) -> None:
    """It looks once for that."""
    line = SyncSlotLine(scene.committer, [ONE], 0)
    line._caller.look = True
    assert line.wait(NOW + 150_000_000, scene.ask) is None
    assert scene.looks == [0, 100_000_000]


@pytest.mark.parametrize(("requests", "looks"), [([ONE], [100, 900, 1_700]), ([ONE, TWO], [100, 1_300])])
def test_calls_for_several_buckets_fall_out_of_step(scene: Scene, requests: list[Request], looks: list[int]) -> None:
    """After a look that took 0.8 s such a call puts off the next by a part of that, also where it was woken to look."""
    line = SyncSlotLine(scene.committer, requests, 0)

    def look() -> None:
        scene.now += 800_000_000
        line._caller.look = True

    scene.during = look
    scene.answer = Look(allowed=False, outcomes=[*FULL.outcomes, Grant((), NOW)][: len(requests)])
    assert line.wait(NOW + 1_400_000_000, scene.ask) is None
    assert [at // 1_000_000 for at in scene.looks] == looks


def test_a_quick_look_puts_nothing_off(scene: Scene) -> None:
    """The next one comes after the interval."""
    scene.answer = Look(allowed=False, outcomes=[*FULL.outcomes, Grant((), NOW)])
    assert SyncSlotLine(scene.committer, [ONE, TWO], 0).wait(NOW + 300_000_000, scene.ask) is None
    assert scene.looks == [100_000_000, 200_000_000, 300_000_000]


def test_only_a_call_for_slots_of_one_bucket_can_be_handed_any(scene: Scene) -> None:
    """Others have to write in any case."""
    both = ONE._replace(charges=(Charge(CALLS, 1), Charge(RATE, 1)))
    lines = [SyncSlotLine(scene.committer, requests, 0) for requests in ([ONE], [ONE, TWO], [both])]
    assert [line._caller.request for line in lines] == [ONE, None, None]


def test_a_newcomer_stands_behind_those_that_wait_for_the_same_slots(scene: Scene) -> None:
    """Also for slots of its second bucket; not where it asks for none, or no caller waits."""
    two = ONE._replace(key=OTHER)
    assert SyncSlotLine.ahead(scene.committer, [two, ONE]) is None
    scene.line.join(SyncSlotLine(scene.committer, [ONE], 0)._caller)
    for request in (ONE, ONE._replace(charges=(Charge(CALLS, 1), Charge(RATE, 1)))):
        found = SyncSlotLine.ahead(scene.committer, [two, request])
        assert found is not None
        assert found._line is scene.line
    none = ONE._replace(charges=(Charge(CALLS, 0), Charge(RATE, 1)))
    for requests in ([two], [none], [ONE._replace(slots=False)], [TWO]):
        assert SyncSlotLine.ahead(scene.committer, requests) is None


def test_a_newcomer_that_does_not_wait_is_refused_for_the_slots(scene: Scene) -> None:
    """Its other buckets were not asked. Slots that are free belong to those in line."""
    refusals = SyncSlotLine(scene.committer, [TWO, ONE], 1).refusals()
    assert refusals[0] is None
    assert refusals[1] is not None
    assert refusals[1].start == NOW + NANOSECONDS
