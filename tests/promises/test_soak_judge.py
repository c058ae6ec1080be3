"""The judge of a soak sees what is wrong, and nothing else."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.soak_judge import Event, Sample, faults_of_statistics, faults_of_use, most_beyond

from limiter import SyncMemoryRepository, SyncRateLimiter

TIMES = st.integers(0, 40).map(lambda tenths: tenths / 10)
TAKEN = st.builds(lambda units, began, took: Event(units, began, began + took), st.integers(1, 5), TIMES, TIMES)
GIVEN = st.builds(lambda units, began, took: Event(-units, began, began + took), st.integers(1, 5), TIMES, TIMES | st.just(inf))


def beyond(events: list[Event], rate: float) -> float:
    """What `most_beyond` returns, by looking at every span."""
    spans = [(first.began, last.ended) for first in events for last in events if min(first.units, last.units) > 0]
    found = [0.0]
    for begin, end in spans:
        taken = sum(units for units, began, ended in events if units > 0 and begin <= began and ended <= end)
        given = sum(units for units, began, ended in events if units < 0 and begin <= ended and began <= end)
        if begin <= end:
            found.append(taken + given - rate * (end - begin))
    return max(found)


@given(st.lists(TAKEN | GIVEN, max_size=12), st.integers(0, 5))
def test_the_most_beyond_is_that_of_the_worst_span(events: list[Event], rate: int) -> None:
    """Whatever was taken and given back when, the result is that of a look at all spans of time."""
    assert most_beyond(events, rate) == pytest.approx(beyond(events, rate))


def test_one_unit_too_many_in_a_short_span_is_seen_after_an_hour_of_rest() -> None:
    """What was not used for long does not excuse a burst."""
    burst = [Event(1, 3600.0 + number / 100, 3600.005 + number / 100) for number in range(6)]
    assert most_beyond([Event(1, 0.0, 0.1), *burst], rate=1) == pytest.approx(6 - 0.055)


def test_what_was_given_back_may_be_taken_again_while_it_is_on_its_way() -> None:
    """A refund counts from when it was sent, and until it is known to have been written."""
    taken = [Event(5, 0.0, 0.1), Event(5, 2.0, 2.1)]
    assert most_beyond([*taken, Event(-5, 0.2, inf)], rate=0) == 5
    assert most_beyond([*taken, Event(-5, 0.2, 0.3)], rate=0) == 5
    assert most_beyond([*taken, Event(-5, 2.2, inf)], rate=0) == 10


def samples(*, rss: int = 0, blocks: float = 0, descriptors: int = 0, sockets: int = 0) -> list[Sample]:
    """Those of a process that decides ten times a second, and grows by so much each second."""
    return [
        Sample(
            at=at,
            rss=50_000_000 + rss * at,
            blocks=200_000 + int(blocks * at),
            descriptors=10 + descriptors * at // 10,
            sockets=3 + sockets,
            keys=50,
            statistics={"decisions": 10 * at},
        )
        for at in range(300)
    ]


@pytest.mark.parametrize(
    ("leak", "found"),
    [
        ({}, ""),
        ({"rss": 100_000}, "grew by 10.0 MB"),
        ({"blocks": 20}, ""),
        ({"blocks": 60}, "grew by 6000 blocks for 1000 decisions and 0 new keys"),
        ({"descriptors": 1}, "grew by 10 descriptors"),
        ({"sockets": 20}, "had 23 sockets, with max_connections=16"),
    ],
)
def test_what_leaks_is_found(leak: dict[str, int], found: str) -> None:
    """Growth that goes on is found, whatever it is that grows."""
    faults = faults_of_use(samples(**leak), max_connections=16, own=24)
    assert faults[:1] == [found][: len(found)]


def test_statistics_that_hide_decisions_are_found() -> None:
    """Statistics are compared with what the process has told."""
    with SyncRateLimiter(SyncMemoryRepository()) as limiter:
        from dataclasses import asdict

        statistics = asdict(limiter.stats())
    sound = statistics | {"decisions": 5, "refusals": 2, "calls": 3, "batches": 3, "cache_hits": 1}
    assert not faults_of_statistics(sound, admitted=3)
    assert faults_of_statistics(sound, admitted=4)
    assert faults_of_statistics(sound | {"failures": 4}, admitted=3)
