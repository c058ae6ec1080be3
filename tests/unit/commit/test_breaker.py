"""The circuit breaker, with a clock that the test owns."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.commit.breaker import LATE, PROBE, REST, THRESHOLD, Breaker
from limiter.exceptions import CircuitOpen, PermissionDenied, RateLimiterUnavailable, StackNotFound, Throttled, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

OUTAGES = [
    RateLimiterUnavailable("no answer"),
    RateLimiterUnavailable("refused", unsent=True),
    Throttled("the table's capacity is used up"),
]
ANSWERS = [
    PermissionDenied("no"),
    ValidationError("what?"),
    StackNotFound("where?"),
    Throttled("a hot key", hot_key=True),
    ZeroDivisionError("a bug"),
]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Clock:
    """The breaker's time."""
    return Clock()


@pytest.fixture
def breaker(time: Clock) -> Breaker:
    """A breaker that rests one second."""
    return Breaker(time, lambda: 1.0)


def attempt(breaker: Breaker, error: BaseException | None = None) -> bool:
    """Whether an attempt was let through, which then ends with the error, or well."""
    try:
        with breaker.guard():
            if error is not None:
                raise error
    except CircuitOpen:
        return False
    except BaseException as raised:
        if raised is not error:
            raise
    return True


def fail(breaker: Breaker, times: int = THRESHOLD) -> None:
    """The store is silent so many times."""
    for _ in range(times):
        assert attempt(breaker, OUTAGES[0])


@pytest.mark.parametrize("outage", OUTAGES)
def test_repeated_failures_open_it(breaker: Breaker, outage: RateLimiterUnavailable) -> None:
    """After the threshold, and not before, calls are refused, with the last failure as the cause."""
    for _ in range(THRESHOLD):
        assert breaker.state == "closed"
        assert breaker.refusal() is None
        assert breaker.is_closed
        assert attempt(breaker, outage)
    assert breaker.state == "open"
    assert not breaker.is_closed
    with pytest.raises(CircuitOpen, match=r"not asked again for 1\.0 s") as refused, breaker.guard():
        pass
    assert refused.value.__cause__ is outage
    assert refused.value.unsent
    assert isinstance(breaker.refusal(), CircuitOpen)


def test_the_log_tells_once_that_it_opens_and_once_that_it_closes(
    breaker: Breaker, time: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure below the threshold, one beyond it, and an answer to a closed breaker tell nothing."""
    caplog.set_level("INFO", logger="limiter")
    fail(breaker, THRESHOLD - 1)
    assert attempt(breaker)
    fail(breaker)
    for _ in range(2):
        time.now += 1.0
        assert attempt(breaker, OUTAGES[0])
    time.now += 1.0
    assert attempt(breaker)
    fail(breaker)
    time.now += 1.0
    assert attempt(breaker)
    opened, closed = ("WARNING", THRESHOLD), ("INFO", THRESHOLD + 2)
    told = [(record.levelname, record.__dict__["failures"]) for record in caplog.records]
    assert told == [opened, closed, opened, ("INFO", THRESHOLD)]


@pytest.mark.parametrize("answer", [None, *ANSWERS])
def test_every_answer_is_one(breaker: Breaker, time: Clock, answer: Exception | None) -> None:
    """What the store answers, be it a refusal, forgets earlier failures, and ends an outage."""
    fail(breaker, THRESHOLD - 1)
    assert attempt(breaker, answer)
    fail(breaker, THRESHOLD - 1)
    assert breaker.state == "closed"
    fail(breaker, 1)
    time.now += 1.0
    assert attempt(breaker, answer)
    assert breaker.state == "closed"


def test_one_at_a_time_looks(breaker: Breaker, time: Clock) -> None:
    """After the rest, one call passes; until it has ended, and after it has failed, no other does."""
    fail(breaker)
    time.now += 0.9
    assert not attempt(breaker)
    time.now += 0.1
    assert breaker.refusal() is None
    with suppress(RateLimiterUnavailable), breaker.guard():
        assert breaker.state == "half-open"
        assert not attempt(breaker)
        assert "one caller asks" in str(breaker.refusal())
        raise OUTAGES[0]
    assert breaker.state == "open"
    assert not attempt(breaker)
    time.now += 1.0
    assert attempt(breaker)
    assert attempt(breaker)


def test_the_call_that_looks_may_go_on_after_a_wait(breaker: Breaker, time: Clock) -> None:
    """A call that had to wait before it is made asks again; only the one that tests the store is let through."""
    with breaker.guard() as earlier:
        fail(breaker)
        assert isinstance(breaker.refusal(earlier), CircuitOpen)
        time.now += 1.0
        with breaker.guard() as look:
            assert breaker.refusal(look) is None
            assert isinstance(breaker.refusal(earlier), CircuitOpen)
            assert isinstance(breaker.refusal(), CircuitOpen)
        assert breaker.refusal(earlier) is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), GeneratorExit(), SystemExit()])
def test_an_interrupted_look_leaves_its_place(breaker: Breaker, time: Clock, interruption: BaseException) -> None:
    """It says nothing about the store; the next caller looks, at once."""
    fail(breaker)
    time.now += 1.0
    assert attempt(breaker, interruption)
    assert breaker.state == "open"
    assert attempt(breaker)
    assert breaker.state == "closed"


def test_interruptions_count_for_nothing(breaker: Breaker) -> None:
    """They neither open the breaker nor forget failures."""
    fail(breaker, THRESHOLD - 1)
    for _ in range(THRESHOLD):
        assert attempt(breaker, KeyboardInterrupt())
    assert breaker.state == "closed"
    fail(breaker, 1)
    assert breaker.state == "open"


def test_a_look_that_never_ends_is_replaced(breaker: Breaker, time: Clock) -> None:
    """As that of an event loop that was stopped and never ran again."""
    fail(breaker)
    time.now += 1.0
    lost = breaker.guard()
    lost.__enter__()
    time.now += PROBE - 0.1
    assert not attempt(breaker)
    time.now += 0.1
    with breaker.guard():
        assert not attempt(breaker)
        lost.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert not attempt(breaker)


def test_what_was_under_way_when_it_opened_still_counts(breaker: Breaker) -> None:
    """An answer that comes then ends the outage."""
    with breaker.guard():
        fail(breaker)
        assert breaker.state == "open"
    assert breaker.state == "closed"


def test_a_look_that_ends_after_another_answer_leaves_its_place(breaker: Breaker, time: Clock) -> None:
    """What was under way when the breaker opened may end the outage first; the next outage has looks of its own."""
    with breaker.guard():
        fail(breaker)
        time.now += 1.0
        look = breaker.guard()
        look.__enter__()
    assert breaker.state == "closed"
    look.__exit__(None, None, None)
    fail(breaker)
    assert breaker.state == "open"
    time.now += 1.0
    assert attempt(breaker)


def test_a_call_that_was_not_made_says_nothing_of_the_store(breaker: Breaker, time: Clock) -> None:
    """An attempt that waited, and found the breaker open after that, leaves it as it is, and its caller is told."""
    error = CircuitOpen("others have failed")
    with pytest.raises(CircuitOpen) as raised, breaker.guard():
        fail(breaker)
        raise error
    assert raised.value is error
    assert breaker.state == "open"
    time.now += 1.0
    with suppress(CircuitOpen), breaker.guard():
        raise error
    assert breaker.state == "open"


def test_who_comes_to_a_breaker_that_closes_in_the_same_moment_is_let_through(breaker: Breaker, time: Clock) -> None:
    """It is no test of the store, so that it holds no other caller up."""

    class Late:
        def __enter__(self) -> None:
            breaker.failures = 0

        def __exit__(self, *_: object) -> None:
            pass

    for ask in (breaker.refusal, partial(breaker._enter, object())):
        fail(breaker)
        lock, breaker._lock = breaker._lock, Late()  # type: ignore[assignment]
        assert ask() is None
        breaker._lock = lock
        assert breaker.state == "closed"
        fail(breaker)
        assert breaker.state == "open"
        time.now += 1.0
        assert attempt(breaker)


def test_the_last_answer_is_remembered(breaker: Breaker, time: Clock) -> None:
    """Callers wait on while the store answers others."""
    assert breaker.answered == 0.0
    breaker.note_answer()
    time.now += 1.0
    assert breaker.answered == 100.0


def test_a_caller_whose_process_was_too_busy_gets_more_time() -> None:
    """As much as its deadline was noticed late, if that is much, unless it has more time anyway."""
    assert Breaker.extended(10.0, 10.0, 12.0) == 12.0
    assert Breaker.extended(10.0, 11.0, 12.0) == 12.0
    assert Breaker.extended(10.0, 11.0, 11.0) == 12.0
    assert Breaker.extended(10.0, 10.5, 9.0) == 11.0
    assert Breaker.extended(10.0, 10.0 + LATE / 2, 9.0) == 9.0
    assert Breaker.extended(0.0, LATE, LATE) == LATE


def test_looks_are_not_in_step() -> None:
    """The rest is random, between half of it and all, so that a thousand processes do not look together."""
    rests = set()
    for _ in range(100):
        time = Clock()
        breaker = Breaker(time)
        fail(breaker)
        rests.add(round(float(str(breaker.refusal()).rpartition("for ")[2].removesuffix(" s")), 1))
        time.now += REST / 2 - 0.001
        assert not attempt(breaker)
        time.now += REST / 2 + 0.001
        assert attempt(breaker)
    assert len(rests) > 1


def test_of_many_threads_one_looks(breaker: Breaker, time: Clock) -> None:
    """However many come at once."""
    fail(breaker)
    time.now += 1.0
    together, looked, passed = threading.Barrier(20), threading.Event(), []

    def call() -> None:
        together.wait()
        with suppress(CircuitOpen), breaker.guard():
            passed.append(1)
            looked.wait(30)

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for _ in range(20_000):
        if sum(thread.is_alive() for thread in threads) == 1:
            break
        threads[0].join(0.001)
    looked.set()
    for thread in threads:
        thread.join(30)
    assert passed == [1]


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "begin", "answer", "fail", "fail", "interrupt", "wait"]), st.integers(0, 5)), max_size=60
)


@settings(max_examples=500)
@given(STEPS)
def test_however_calls_begin_and_end(steps: list[tuple[str, int]]) -> None:
    """With calls that overlap: all pass when closed, one when open and rested; `THRESHOLD` failures in a row open it."""
    time = Clock()
    breaker = Breaker(time, lambda: 1.0)
    running: list[ExitStack] = []
    endings: dict[str, Callable[[], BaseException | None]] = {
        "answer": lambda: None,
        "fail": lambda: RateLimiterUnavailable("silence"),
        "interrupt": KeyboardInterrupt,
    }
    row, failed_at, probe = 0, time.now, None
    for step, number in steps:
        if step == "wait":
            time.now += 0.5
        elif step == "begin":
            rested = time.now >= failed_at + 1.0
            overdue = probe is not None and time.now >= probe[1]
            expected = row < THRESHOLD or overdue or (probe is None and rested)
            stack = ExitStack()
            assert (breaker.refusal() is None) == expected
            try:
                stack.enter_context(breaker.guard())
            except CircuitOpen:
                assert not expected
                continue
            assert expected
            running.append(stack)
            if row >= THRESHOLD:
                probe = (stack, time.now + PROBE)
        elif running:
            stack = running.pop(number % len(running))
            error = endings[step]()
            with suppress(RateLimiterUnavailable, KeyboardInterrupt):
                stack.__exit__(type(error) if error else None, error, None)
            if probe is not None and probe[0] is stack:
                probe = None
            if step == "answer":
                row = 0
            elif step == "fail":
                row, failed_at = row + 1, time.now
        expected_state = "closed" if row < THRESHOLD else "open" if probe is None else "half-open"
        assert breaker.state == expected_state
