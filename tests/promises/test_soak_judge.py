"""The judge of a soak finds what is wrong, and nothing else."""

from __future__ import annotations

import pytest
from support.soak_judge import Sample, faults_of_statistics, faults_of_use

from limiter import SyncMemoryRepository, SyncRateLimiter


def samples(*, rss: int = 0, blocks: float = 0, descriptors: int = 0, sockets: int = 0) -> list[Sample]:
    """Samples of a process that decides ten times a second and grows by the given amount each second."""
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
    """Growth that does not stop is found in every figure."""
    faults = faults_of_use(samples(**leak), max_connections=16, own=24)
    assert faults[:1] == [found][: len(found)]


def test_statistics_that_hide_decisions_are_found() -> None:
    """Statistics that disagree with what the process reported are found."""
    with SyncRateLimiter(SyncMemoryRepository()) as limiter:
        from dataclasses import asdict

        statistics = asdict(limiter.stats())
    sound = statistics | {"decisions": 5, "refusals": 2, "calls": 3, "batches": 3, "cache_hits": 1}
    assert not faults_of_statistics(sound, admitted=3)
    assert faults_of_statistics(sound, admitted=4)
    assert faults_of_statistics(sound | {"failures": 4}, admitted=3)
