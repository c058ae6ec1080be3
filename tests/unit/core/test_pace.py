"""The pace of a fleet: in a simulation it ends below its aim, none starves, and a lone process never waits."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paced_fleet import SECOND, Fleet

from limiter.core.pace import ATTEMPT, BASE, LEVELS, Pace, split

LONGEST = 16 * SECOND


def served(fleet: Fleet, last: int) -> float:
    """The writes that the key served per second, in the last seconds."""
    return sum(second.served for second in fleet.seconds[-last:]) / last


def throttled(fleet: Fleet, last: int) -> int:
    """The writes that the key throttled in the last seconds."""
    return sum(second.throttled for second in fleet.seconds[-last:])


def shares(fleet: Fleet, last: int) -> list[int]:
    """The writes of each process in the last seconds, the fewest first."""
    return sorted(sum(second.writers[writer.number] for second in fleet.seconds[-last:]) for writer in fleet.writers)


@given(st.integers(0, 10**12), st.integers(-(ATTEMPT // 2), ATTEMPT // 2 - 1))
def test_a_count_holds_attempts_and_a_level(attempts: int, level: int) -> None:
    """Both come out as they went in, a level below 0 too."""
    assert split(attempts * ATTEMPT + level) == (attempts, level)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, SECOND), st.booleans(), st.booleans()), max_size=60))
def test_the_interval_keeps_its_bounds_for_any_answers(answers: list[tuple[int, int, bool, bool]]) -> None:
    """For any counts, times and throttled writes, the interval is none or from a millisecond to the longest."""
    pace, count, now = Pace(700, LONGEST), 0, 0
    for others, passed, applied, throttles in answers:
        now += passed
        if throttles:
            pace.note_throttled(now)
        else:
            count += others * ATTEMPT // 1_000 + pace.toll * applied
            pace.note(count, now, applied=applied)
        assert pace.interval == 0 or BASE <= pace.interval <= LONGEST
        assert 0 <= pace.wait() <= 1.25 * LONGEST


@pytest.mark.parametrize("every", [0.0, 0.01, 1.0])
def test_a_lone_process_never_waits(every: float) -> None:
    """However often it writes, no write is delayed, and its count holds no level."""
    fleet = Fleet()
    fleet.start(1, every=every)
    fleet.run(5)
    assert not any(fleet.writers[0].delays)
    assert split(fleet.count)[1] == 0


@pytest.mark.parametrize("processes", [4, 16, 100, 300])
def test_processes_that_start_together_keep_below_the_aim(processes: int) -> None:
    """After some seconds nothing is throttled, the aim is kept within 5 %, and each has at least half of its share."""
    fleet = Fleet()
    fleet.start(processes)
    fleet.run(8)
    assert 0.9 * 700 < served(fleet, 4) < 1.05 * 700
    assert throttled(fleet, 4) == 0
    assert shares(fleet, 4)[0] > 0.5 * 4 * 700 / processes


@pytest.mark.parametrize("processes", [4, 100, 1_000])
def test_what_is_written_before_processes_know_of_one_another_is_bounded(processes: int) -> None:
    """Of processes that start together each writes at most six times in the first second beyond what the aim permits."""
    fleet = Fleet()
    fleet.start(processes)
    fleet.run(1)
    assert served(fleet, 1) + throttled(fleet, 1) <= 700 + 6 * processes


@given(st.lists(st.booleans(), max_size=30))
def test_a_write_carries_less_after_a_defeat_and_more_after_a_success(answers: list[bool]) -> None:
    """The part is above 0, at most the whole, and moves with each answer."""
    pace = Pace(700, LONGEST)
    for applied in answers:
        before = pace.part
        pace.note(0, 0, applied=applied)
        assert 0 < pace.part <= 1
        assert pace.part > before or pace.part == 1 if applied else pace.part < before


def test_a_process_is_alone_when_a_window_shows_only_its_own_writes() -> None:
    """It does not know so before the window's end, and no longer when others write in a later window."""
    pace, count = Pace(700, LONGEST), 40 * ATTEMPT
    pace.begin(count, 0)
    for milliseconds, is_alone in ((20, False), (40, False), (60, True), (80, True)):
        count += pace.toll
        pace.note(count, milliseconds * BASE, applied=True)
        assert pace.is_alone is is_alone
    pace.note(count + pace.toll + ATTEMPT, 120 * BASE, applied=True)
    assert (pace.is_alone, pace.interval) == (False, 0)


@pytest.mark.parametrize(
    ("writes", "passed", "paced"),
    [(8, 1, False), (9, 1, True), (14, 20, False), (15, 20, True)],
)
def test_a_crowd_is_paced_before_the_window_ends(writes: int, passed: int, paced: bool) -> None:
    """Once the fleet writes faster than 700 times a second: 8.75 writes in 12.5 ms or less, 14 in 20 ms."""
    pace = Pace(700, LONGEST)
    pace.begin(0, 0)
    pace.note(writes * ATTEMPT, passed * BASE, applied=True)
    assert (pace.interval > 0) is paced


@pytest.mark.parametrize(("defeats", "paced"), [(1, False), (2, True)])
def test_others_are_assumed_to_be_defeated_as_often(defeats: int, paced: bool) -> None:
    """Attempts that failed are not counted yet: one write in 25 ms stands for three after two defeats, more than 105 a second."""
    pace = Pace(105, LONGEST)
    pace.begin(0, 0)
    for _ in range(defeats):
        pace.note(ATTEMPT, 25 * BASE, applied=False)
    assert (pace.interval > 0) is paced


@pytest.mark.parametrize("applied", [True, False])
def test_a_defeat_does_not_lengthen_the_first_interval(applied: bool) -> None:
    """It says that others write, and they are in the count: 20 processes with 200 writes a second between them wait 150 ms.

    That is one and a half times 100 ms, since a turn may repeat its write.
    """
    pace = Pace(200, LONGEST)
    pace.begin(0, 0)
    pace.note(20 * ATTEMPT, 25 * BASE, applied=applied)
    assert 149 * BASE <= pace.interval <= 150 * BASE


def test_own_writes_tell_how_many_processes_there_are() -> None:
    """Two writes of its own among 20 mean that 10 processes write, which wait half as long as 20."""
    pace = Pace(200, LONGEST)
    pace.begin(0, 0)
    pace.note(pace.toll, BASE, applied=True)
    pace.note(20 * ATTEMPT, 25 * BASE, applied=True)
    assert 74 * BASE <= pace.interval <= 75 * BASE


def test_a_wait_differs_from_the_interval_by_a_quarter_at_most() -> None:
    """Over many draws, waits fill that range and do not leave it."""
    pace = Pace(700, LONGEST)
    pace.note_throttled(0)
    waits = [pace.wait() / BASE for _ in range(1_000)]
    assert 37.5 <= min(waits) < 40
    assert 60 < max(waits) <= pace.longest_wait / BASE
    assert pace.longest_wait / BASE == pytest.approx(62.5)


def test_own_defeats_are_not_taken_for_writes_of_others() -> None:
    """They are counted with the next write that is applied, and after it the process knows that it is alone."""
    pace, count = Pace(700, LONGEST), 40 * ATTEMPT
    pace.begin(count, 0)
    for milliseconds in (20, 30):
        pace.note(count, milliseconds * BASE, applied=False)
    pace.note(count + pace.toll, 200 * BASE, applied=True)
    assert pace.is_alone


def test_a_rate_is_not_told_from_less_than_a_millisecond() -> None:
    """Two answers that arrive together do not say how fast the fleet writes."""
    pace = Pace(700, LONGEST)
    pace.begin(0, 0)
    pace.note(100 * ATTEMPT, BASE - 1, applied=True)
    assert pace.interval == 0


def test_what_was_written_before_a_process_came_does_not_count() -> None:
    """The first answer without a known count begins a window, and so does a count that has fallen or a clock set back."""
    pace = Pace(700, LONGEST)
    pace.note(1_000 * ATTEMPT, 100 * BASE, applied=True)
    pace.note(500 * ATTEMPT, 200 * BASE, applied=True)
    pace.note(900 * ATTEMPT, 199 * BASE, applied=True)
    assert pace.interval == 0


def test_the_window_is_three_quarters_of_a_long_interval() -> None:
    """Throttling makes the interval 50 ms at least, then doubles it up to the longest; at 100 ms the window is 75 ms."""
    pace = Pace(700, LONGEST)
    intervals = []
    for _ in range(12):
        pace.note_throttled(0)
        intervals.append(pace.interval / BASE)
    assert intervals == pytest.approx([min(50 * 2**turn, 16_000) for turn in range(12)])
    pace = Pace(700, LONGEST)
    pace.note_throttled(0)
    pace.note_throttled(0)
    pace.begin(0, 0)
    pace.note(ATTEMPT, 74 * BASE, applied=True)
    assert pace.interval == pytest.approx(100 * BASE)
    pace.note(2 * ATTEMPT, 75 * BASE, applied=True)
    assert pace.interval < 90 * BASE


@pytest.mark.parametrize(("writes", "passed", "enough"), [(7, 60, False), (8, 60, True), (7, 199, False), (7, 200, True)])
def test_a_window_outlasts_failures_that_are_reported_together(writes: int, passed: int, enough: bool) -> None:
    """A write that reports three failures weighs a quarter of them: it takes 7.5 writes to see the rate, or four times 50 ms."""
    pace = Pace(700, LONGEST)
    pace.note_throttled(0)
    pace.begin(0, 0)
    for milliseconds in (10, 20, 30):
        pace.note(0, milliseconds * BASE, applied=False)
    before = pace.interval
    pace.note(writes * ATTEMPT, passed * BASE, applied=True)
    assert (pace.interval != before) is enough


@pytest.mark.parametrize(("before", "after"), [(20, 20), (10, 30), (30, 10)])
def test_what_the_table_served_is_aimed_at_for_half_a_minute(before: int, after: int) -> None:
    """A fleet of 200 writes a second that is throttled aims at 180, and at 2 % more in each second after 30 s.

    What was served is told by the window that was not over yet and by the one before.
    """
    pace = Pace(700, LONGEST)
    pace.begin(0, 0)
    pace.note(before * ATTEMPT, SECOND // 10, applied=True)
    pace.note_throttled(SECOND // 10)
    pace.note((before + after) * ATTEMPT, SECOND // 5, applied=True)
    for second, writes in ((10, 1_800), (20, 1_800), (31, 1_800), (41, round(1_800 * 1.02**10))):
        interval = pace.interval
        pace.begin(0, (second - 10) * SECOND)
        pace.note(writes * ATTEMPT + round(log(interval / BASE) * LEVELS), second * SECOND, applied=True)
        assert pace.interval == pytest.approx(interval, rel=1e-3)


def test_who_knows_no_window_yet_aims_at_what_it_did() -> None:
    """Throttling at the very beginning says only that all have come together, and counts for no later window."""
    pace = Pace(700, LONGEST)
    pace.begin(0, 0)
    pace.note_throttled(0)
    pace.note(10 * ATTEMPT, SECOND // 10, applied=True)
    pace.note(100 * ATTEMPT, SECOND // 5, applied=True)
    interval = pace.interval
    pace.begin(0, SECOND)
    pace.note(700 * ATTEMPT + round(log(interval / BASE) * LEVELS), 2 * SECOND, applied=True)
    assert pace.interval == pytest.approx(interval, rel=1e-3)


def test_those_who_come_join_the_pace_of_those_who_are_there() -> None:
    """99 processes that come to one are paced within a second."""
    fleet = Fleet()
    fleet.start(1)
    fleet.start(99, at=2)
    fleet.run(6)
    assert served(fleet, 3) < 1.05 * 700
    assert throttled(fleet, 3) == 0


def test_one_that_is_left_alone_waits_no_longer() -> None:
    """When 99 of 100 have gone, the last one soon writes as fast as its calls permit."""
    fleet = Fleet()
    fleet.start(99, until=3)
    fleet.start(1)
    fleet.run(6)
    assert served(fleet, 1) > 150
    assert not any(fleet.writers[-1].delays[-100:])


def test_processes_that_ask_little_do_not_wait() -> None:
    """100 processes that ask 3 times a second each stay far below the aim, so none is delayed."""
    fleet = Fleet()
    fleet.start(100, every=0.33)
    fleet.run(4)
    assert served(fleet, 3) > 250
    assert not any(delay for writer in fleet.writers for delay in writer.delays)


@pytest.mark.parametrize("processes", [4, 8, 16])
def test_a_lower_aim_keeps_a_smaller_key_cool(processes: int) -> None:
    """On a key of 200 units a second, with calls of 15 to 30 ms, 140 writes a second are kept, and nothing is throttled."""
    fleet = Fleet(aim=140, units=200, trip=(15, 30))
    fleet.start(processes)
    fleet.run(6)
    assert 120 < served(fleet, 4) < 1.05 * 140
    assert throttled(fleet, 5) == 0


@pytest.mark.parametrize("processes", [8, 16])
def test_what_a_key_serves_is_learnt_from_throttling(processes: int) -> None:
    """With the default aim on a key of 200 units a second, from the fifth second on at most 180 writes, and one throttled."""
    fleet = Fleet(units=200, trip=(15, 30))
    fleet.start(processes)
    fleet.run(25)
    assert served(fleet, 20) <= 180
    assert throttled(fleet, 20) <= 20


@pytest.mark.parametrize(("processes", "defeats"), [(50, 0.9), (100, 0.5)])
def test_a_refused_flood_keeps_the_pace(processes: int, defeats: float) -> None:
    """Failed conditions are counted as well: a flood of writes that mostly fail stays below the aim, within 10 %."""
    fleet = Fleet(defeats=defeats)
    fleet.start(processes)
    fleet.run(12)
    assert served(fleet, 8) < 1.1 * 700
    assert throttled(fleet, 8) == 0
